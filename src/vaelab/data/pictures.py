"""Reads a user's image files or arrays lazily, for the commands; grids and PNG files of images."""

import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaelab.data.arrays import PixelArray
from vaelab.data.containers import (
    PICTURE_SUFFIXES,
    ImageRef,
    UnreadablePicture,
    page_number,
    printable,
    read_item,
    shown,
)
from vaelab.data.datasets._shard_files import is_shard_place, list_shards
from vaelab.data.decode import ResizePolicy, decode
from vaelab.data.images import Images, drawable
from vaelab.data.npy import map_array
from vaelab.data.scan import Entry, Scan, scan
from vaelab.system.errors import InputError
from vaelab.system.machine import default_threads

THUMBNAIL = 96
"""Height in pixels to which small images on a sheet are enlarged, by a whole factor and at most."""
Pixels = NDArray[np.uint8]
Indices = NDArray[np.int64]


@dataclass
class Skipped:
    """Pictures that could not be decoded, recorded while others are read, and folders that could not be opened."""

    reasons: dict[int, str] = field(default_factory=dict)
    """Row → reason."""
    closed: list[tuple[str, str]] = field(default_factory=list)
    """(folder, reason), known before anything is read."""


def read_pictures(
    path: Path,
    image_shape: tuple[int, int, int],
    policy: ResizePolicy | None = None,
    skipped: Skipped | None = None,
    num_threads: int | None = None,
    expand: Callable[[Sequence[Entry]], list[Entry]] | None = None,
) -> tuple[Images, Sequence[str]]:
    """Return pictures at a model's size, decoded when their pixels are read, and a name for each.

    ``path`` is one picture, a folder or ``.zip`` of pictures (searched recursively), shards, or an array of the model's
    size in a ``.npy`` or ``.npz``. ``policy`` resizes pictures (None: crop about the centre, refuse transparent parts).
    A picture that cannot be decoded becomes black and is recorded in ``skipped``. Without ``skipped`` it raises
    UnreadablePicture when it is read, and a folder that cannot be opened raises at once. ``num_threads`` (None: one for
    each processor) decode at a time. ``expand`` turns files into their pages.
    """
    if path.is_file() and path.suffix.lower() in (".npy", ".npz"):
        pixels: PixelArray = _converted(path, image_shape)
        return Images(pixels, source=str(path)), Numbered(printable(path.name), len(pixels))
    found = Scan(path, list_shards(path)) if is_shard_place(path) else scan(path)
    closed = [(printable(name), reason) for name, reason in found.closed]
    shut = f"{closed[0][0]} cannot be opened ({closed[0][1]})" if closed else ""
    if not found.entries:
        looked_for = ", ".join(sorted(PICTURE_SUFFIXES))
        raise FileNotFoundError(f"{path}: no images in it (looked for {looked_for}){shut and f'; {shut}'}")
    if skipped is not None:
        skipped.closed = closed
    elif closed:
        raise InputError(f"{path}: {shut}", subject=closed[0][0])
    channels, height, width = image_shape
    items = [entry.item for entry in (expand(found.entries) if expand else found.entries)]
    pixels = _pictures(
        path, items, policy or ResizePolicy(height, width, channels, background="none"), skipped, num_threads
    )
    return Images(pixels, source=str(path)), [shown(item) for item in items]


class Numbered(Sequence[str]):
    """The names ``title[0]``, ``title[1]`` …, made on access."""

    def __init__(self, title: str, count: int) -> None:
        self._title, self._numbers = title, range(count)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, key: int) -> str: ...
    @overload
    def __getitem__(self, key: slice) -> list[str]: ...
    def __getitem__(self, key: int | slice) -> str | list[str]:
        chosen = self._numbers[key]
        return f"{self._title}[{chosen}]" if isinstance(chosen, int) else [f"{self._title}[{i}]" for i in chosen]


# -- pixels that are read on access -----------------------------------------------------------------------------------


class LazyArray:
    """Pixels ``[N, H, W, C]`` that are read on every access."""

    def __init__(
        self,
        count: int,
        image_shape: tuple[int, int, int],
        read: Callable[[Indices], NDArray[Any]],
        dtype: np.dtype[Any] | type[np.generic] = np.uint8,
    ) -> None:
        channels, height, width = image_shape
        self.dtype = np.dtype(dtype)
        self.shape: tuple[int, ...] = (count, height, width, channels)
        self._read = read

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        chosen = np.arange(len(self))[key]
        pixels = self._read(np.atleast_1d(chosen))
        return pixels if chosen.ndim else pixels[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)


def _pictures(
    path: Path, items: Sequence[ImageRef], policy: ResizePolicy, skipped: Skipped | None, num_threads: int | None
) -> LazyArray:
    """Return picture files as a lazy array that decodes several at a time."""
    black = np.zeros((policy.height, policy.width, policy.channels), policy.dtype)

    def read_one(index: int) -> NDArray[Any]:
        item = items[index]
        try:
            return decode(read_item(item), policy, page_number(item))
        except UnreadablePicture as error:
            reason = printable(str(error))
        if skipped is not None:
            skipped.reasons[index] = reason
            return black
        where = path if path.name == item[1] else path / shown(item)
        raise UnreadablePicture(f"{where}: {reason}", subject=where)

    def read(indices: Indices) -> NDArray[Any]:
        pixels = np.empty((len(indices), policy.height, policy.width, policy.channels), policy.dtype)
        if len(indices):
            pixels[0] = read_one(int(indices[0]))  # first and alone, since it opens the zip
        for i, picture in enumerate(_map_in_threads(read_one, indices[1:].tolist(), num_threads), 1):
            pixels[i] = picture
        return pixels

    return LazyArray(len(items), (policy.channels, policy.height, policy.width), read, np.dtype(policy.dtype))


def _map_in_threads(
    function: Callable[[int], NDArray[Any]], numbers: list[int], num_threads: int | None
) -> Iterator[NDArray[Any]]:
    """Yield ``function`` of each number in order, computed by several threads; the first error stops them."""
    if not numbers:
        return
    with warnings.catch_warnings(), ThreadPoolExecutor(min(num_threads or default_threads(), len(numbers))) as pool:
        # Decoders change the warning filters and restore what they found, which is not thread-safe.
        warnings.simplefilter("ignore")
        try:
            yield from pool.map(function, numbers)
        finally:
            pool.shutdown(cancel_futures=True)


def _converted(path: Path, image_shape: tuple[int, int, int]) -> PixelArray:
    """Map one image or many in any layout that models accept; InputError if shape, type or values do not fit."""
    import torch

    from vaelab.data.tensors import as_model_input, to_uint8

    array = map_array(path)

    def convert(images: Any) -> torch.Tensor:
        try:
            return as_model_input(images, image_shape)[0]
        except ValueError as error:
            raise InputError(f"{path}: {error}", subject=path) from None

    count = len(convert(torch.empty(array.shape, dtype=torch.uint8, device="meta")))
    many = array if len(array) == count else array[None]
    channels, height, width = image_shape
    if many.dtype == np.uint8 and many.shape[1:] == (height, width, channels):
        return many
    convert(many[:0])  # checks the type
    if many.dtype == np.uint8:
        return LazyArray(count, image_shape, lambda indices: to_uint8(convert(many[indices])))

    def as_floats(indices: Indices) -> NDArray[np.float32]:
        return convert(many[indices]).permute(0, 2, 3, 1).contiguous().numpy()

    return LazyArray(count, image_shape, as_floats, np.float32)


def read_ahead(pixels: PixelArray, spans: Iterable[tuple[int, int]]) -> Iterator[NDArray[Any]]:
    """Yield the pixels of each span (start, stop), reading the next one ahead."""

    def read(start: int, stop: int) -> NDArray[Any]:
        return np.array(pixels[start:stop])  # a slice of a memory map reads nothing

    with ThreadPoolExecutor(1) as reader:
        coming: Future[NDArray[Any]] | None = None
        for span in spans:
            present, coming = coming, reader.submit(read, *span)
            if present is not None:
                yield present.result()
        if coming is not None:
            yield coming.result()


# -- grids and PNG ----------------------------------------------------------------------------------------------------


def tile(pixels: NDArray[np.uint8], columns: int, *, gap: int = 2, paper: int = 255) -> NDArray[np.uint8]:
    """Return a grid of images ``[N, H, W, C]`` with ``columns`` in a row and ``gap`` pixels between them."""
    count, height, width, channels = pixels.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), paper, np.uint8)
    for i, image in enumerate(pixels):
        top, left = (gap + (i // columns) * (height + gap), gap + (i % columns) * (width + gap))
        sheet[top : top + height, left : left + width] = image
    return sheet


def encode_sheet(pixels: NDArray[np.uint8], columns: int = 8, *, gap: int = 2) -> bytes:
    """Return the bytes of a PNG file of a grid of images ``[N, H, W, C]``; small images are enlarged."""
    scale = max(1, THUMBNAIL // pixels.shape[1])
    return encode_png(tile(pixels, columns, gap=gap).repeat(scale, 0).repeat(scale, 1))


def shrink_png(png: bytes, width: int) -> bytes:
    """Return a PNG file that is at most ``width`` pixels wide."""
    with Image.open(io.BytesIO(png), formats=("PNG",)) as picture:
        picture.thumbnail((width, 4 * width))
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return the bytes of a PNG file of one image ``[H, W, C]``, of which the first three channels or one are shown."""
    buffer = io.BytesIO()
    pixels = drawable(pixels)
    Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)).save(
        buffer, "PNG", optimize=True
    )
    return buffer.getvalue()
