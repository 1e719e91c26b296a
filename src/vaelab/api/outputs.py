"""Pictures and codes for people: ``vaelab sample``, ``reconstruct``, ``encode``."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaelab.api.data import data_of
from vaelab.api.results import load, load_with_framing
from vaelab.data.images import Images, as_tensor, to_uint8
from vaelab.data.pictures import Numbered, encode_png, read_ahead, read_pictures, tile
from vaelab.exporters.tables import ENDINGS, Parts, Rows, write_codes
from vaelab.models.codes import chunk_spans, encode_spans
from vaelab.models.vae import VAE, chunk_length
from vaelab.run import Run
from vaelab.system import registry as catalog
from vaelab.system.device import default_threads, disable_tf32, generator, progress, resolve_device
from vaelab.system.distributed import joined
from vaelab.system.files import free_path, write_atomic

THUMBNAIL = 96
"""Height in pixels that small images are enlarged to on a sheet, or a little less: by whole factors."""
SHEET = 16
"""Images on a sheet of reconstructions, unless told otherwise."""

Pixels = NDArray[np.uint8]
Precision = Literal["fp32", "bf16"]


def output_path(given: str | Path | None, default: str, *, overwrite: bool) -> Path:
    """Where to write: the path given, which must be free unless ``overwrite``, else a free one like ``default``."""
    if given is None:
        return free_path(Path(default))
    path = Path(given)
    if path.is_dir() and any(path.iterdir()):
        raise FileExistsError(f"{path} is a folder with files in it; choose an empty one or a new name for --out")
    if path.is_file() and not overwrite:
        raise FileExistsError(f"{path} exists; choose another --out, or say --overwrite")
    return path


def _is_sheet(path: Path) -> bool:
    """Whether pictures go onto one .png, else into a folder; ValueError where the ending says neither."""
    if path.suffix and path.suffix.lower() != ".png":
        raise ValueError(f"{path}: pictures go to a .png or into a folder (a name without an ending)")
    return bool(path.suffix)


def _write_sheet(path: Path, pixels: Pixels, columns: int) -> None:
    """All pictures on one .png, small ones enlarged."""
    scale = max(1, THUMBNAIL // pixels.shape[1])
    write_atomic(path, encode_png(tile(pixels, columns).repeat(scale, 0).repeat(scale, 1)))


def _write_folder(folder: Path, chunks: Iterable[Pixels], count: int, names: Sequence[str] | None = None) -> None:
    """Single pictures called by their numbers below ``count``, and names; written while the next chunk is made."""
    width = len(str(count - 1))

    def write(i: int, image: Pixels) -> None:
        name = f"-{Path(names[i]).with_suffix('')}".replace("/", "_").replace("\\", "_") if names else ""
        write_atomic(folder / f"{i:0{width}d}{name}.png", encode_png(image))

    start = 0
    with ThreadPoolExecutor(default_threads()) as pool:
        writing: list[Future[None]] = []
        for pixels in chunks:
            for picture in writing:
                picture.result()
            writing = [pool.submit(write, start + i, image) for i, image in enumerate(pixels)]
            start += len(pixels)
        for picture in writing:
            picture.result()


def sample(
    run_path: str | Path,
    *,
    count: int = 25,
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
) -> Path:
    """Images decoded from the prior, to a .png sheet or a folder; of a folder's two chunks of images in memory."""
    path = output_path(out, f"{Path(run_path).resolve().name}-samples.png", overwrite=overwrite)
    is_sheet, model = _is_sheet(path), load(run_path)
    model.to(resolve_device(device))
    codes = torch.randn(count, model.spec.latent_dim, generator=generator(seed, "sample"))
    with disable_tf32():
        chunks = _decode_chunks(model, codes)
        if is_sheet:
            _write_sheet(path, np.concatenate(list(chunks)), columns=int(np.ceil(np.sqrt(count))))
        else:
            _write_folder(path, chunks, count)
    return path


def _decode_chunks(model: VAE, codes: Tensor) -> Iterator[Pixels]:
    with progress("decoding", len(codes)) as bar:
        for part in torch.split(codes, chunk_length(model.spec.image_shape)):
            yield to_uint8(model.decode(part))
            bar.advance(len(part))


def load_with_images(
    run_path: str | Path, images: str | Path | None, data: str | Path | None
) -> tuple[VAE, Images, Sequence[str]]:
    """The model of a run, the pictures at ``images`` as it wants them (None: its held-out images), their names."""
    model, framing = load_with_framing(run_path)
    if images is not None:
        return model, *read_pictures(Path(images), model.spec.image_shape, framing)
    run = Run.open(run_path)
    held_out = data_of(run, data)
    return model, held_out.valid, Numbered(held_out.valid_split, len(held_out.valid))


def reconstruct(
    run_path: str | Path,
    images: str | Path | None = None,
    *,
    count: int | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
) -> Path:
    """Originals above their reconstructions on a .png (16 of them), or all reconstructions, one by one, in a folder.

    Only the images asked for are read; of a folder's there are two chunks in memory.
    """
    path = output_path(out, f"{Path(run_path).resolve().name}-reconstructions.png", overwrite=overwrite)
    is_sheet = _is_sheet(path)
    model, given, names = load_with_images(run_path, images, data)
    model.to(resolve_device(device))
    count = min(count or (SHEET if is_sheet else len(given)), len(given))
    with disable_tf32():
        chunks = _reconstruct_chunks(model, given, count)
        if is_sheet:
            originals, rebuilt = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
            _write_sheet(path, *_pair_rows(originals, rebuilt))
        else:
            _write_folder(path, (rebuilt for _, rebuilt in chunks), count, names)
    return path


def _reconstruct_chunks(model: VAE, images: Images, count: int) -> Iterator[tuple[Pixels, Pixels]]:
    """Originals and their reconstructions, a chunk after the other."""
    with progress("reconstructing", count) as bar:
        for originals in read_ahead(images.pixels, chunk_spans(count, model.spec.image_shape)):
            yield originals, to_uint8(model.reconstruct(as_tensor(originals).to(model.device)))
            bar.advance(len(originals))


def _pair_rows(originals: Pixels, rebuilt: Pixels) -> tuple[Pixels, int]:
    """Pictures for a sheet, a row of originals above one of reconstructions and so on, and how many are in a row."""
    columns = min(8, len(originals))
    rows: list[Pixels] = []
    for start in range(0, len(originals), columns):
        for part in (originals, rebuilt):
            row = part[start : start + columns]
            paper = np.full((columns - len(row), *row.shape[1:]), 255, np.uint8)
            rows.append(np.concatenate([row, paper]))
    return np.concatenate(rows), columns


def encode(
    run_path: str | Path,
    images: str | Path | None = None,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    precision: Precision = "fp32",
) -> Path:
    """Posterior means and log-variances of images to .parquet, .csv or .npz, with names and labels where known.

    Any number of images: two chunks of them and a group of rows are in memory. Under ``torchrun`` every rank encodes
    its share and the first joins them to the very file that one process writes; all must see the folder it is in.
    """
    path = output_path(out, f"{Path(run_path).resolve().name}-codes.parquet", overwrite=overwrite)
    if path.suffix not in ENDINGS:
        raise catalog.unknown("ending of --out", path.suffix or path.name, ENDINGS)
    if precision not in get_args(Precision):
        raise catalog.unknown("precision", precision, get_args(Precision))
    model, given, names = load_with_images(run_path, images, data)
    own = resolve_device(device)
    model.to(own)
    rows = Rows(names, given.labels, model.spec.latent_dim)
    spans = chunk_spans(len(given), model.spec.image_shape)
    with disable_tf32(), joined() as here:
        share = here.share(len(spans))  # whole chunks: on every rank they are those of one process
        pieces = encode_spans(model, given, spans[share.start : share.stop], precision)
        if here.size == 1 and path.suffix != ".npz":
            write_codes(path, rows, pieces)
            return path
        parts = Parts(path, here.size)
        try:
            parts.write(here.rank, pieces)
            here.barrier()
            if here.is_first:
                write_codes(path, rows, parts)
            here.barrier()
        finally:
            parts.remove(here.rank)
    return path
