"""Sheets and folders of pictures."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaelab.data.pictures import encode_png, encode_sheet
from vaelab.system.files import fit_name, split_extension, write_atomic
from vaelab.system.machine import default_threads

Pixels = NDArray[np.uint8]


def write_sheet(path: Path, pixels: Pixels, columns: int) -> None:
    """Write images ``[N, H, W, C]`` as one .png; small images are enlarged."""
    write_atomic(path, encode_sheet(pixels, columns))


def write_folder(folder: Path, chunks: Iterable[Pixels], count: int, names: Sequence[str] | None = None) -> None:
    """Write one .png for each image, while the next chunk is computed.

    Files are numbered with the digits of ``count``; ``names`` are appended if given.
    """
    width = len(str(count - 1))

    def write(i: int, image: Pixels) -> None:
        name = f"-{split_extension(names[i])[0]}".replace("/", "_").replace("\\", "_") if names else ""
        write_atomic(folder / fit_name(f"{i:0{width}d}{name}.png"), encode_png(image))

    start, writing = 0, list[Future[None]]()
    with ThreadPoolExecutor(default_threads()) as pool:
        for pixels in chunks:
            for picture in writing:
                picture.result()
            writing = [pool.submit(write, start + i, image) for i, image in enumerate(pixels)]
            start += len(pixels)
        for picture in writing:
            picture.result()
