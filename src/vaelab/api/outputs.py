"""Pictures and codes for people: ``vaelab sample``, ``reconstruct``, ``encode``."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vaelab.api.given import Given, Warn, load_with_images, warn_in_python
from vaelab.api.results import load
from vaelab.api.samplers import make_sampler
from vaelab.api.targets import ending_of, output_file, output_pictures
from vaelab.data.images import as_tensor, to_uint8
from vaelab.data.pictures import encode_png, read_ahead, tile
from vaelab.exporters.tables import ENDINGS, CodeTable, Parts, Piece, write_codes
from vaelab.models.codes import chunk_spans, encode_spans
from vaelab.models.conditions import condition_of, parse_condition
from vaelab.models.vae import VAE
from vaelab.run import Run
from vaelab.system import registry as catalog
from vaelab.system.arguments import AnyPath, check_whole
from vaelab.system.device import default_threads, disable_tf32, resolve_device
from vaelab.system.distributed import joined
from vaelab.system.files import fit_name, split_ending, write_atomic
from vaelab.system.progress import progress
from vaelab.system.seeds import generator

THUMBNAIL = 96
"""Height in pixels that small images are enlarged to on a sheet, or a little less: by whole factors."""
SHEET = 16
"""Images on a sheet of reconstructions, unless told otherwise."""

Pixels = NDArray[np.uint8]
Precision = Literal["fp32", "bf16"]


def _write_sheet(path: Path, pixels: Pixels, columns: int) -> None:
    """All pictures on one .png, small ones enlarged."""
    scale = max(1, THUMBNAIL // pixels.shape[1])
    write_atomic(path, encode_png(tile(pixels, columns).repeat(scale, 0).repeat(scale, 1)))


def _write_folder(folder: Path, chunks: Iterable[Pixels], count: int, names: Sequence[str] | None = None) -> None:
    """Single pictures called by their numbers below ``count``, and names; written while the next chunk is made."""
    width = len(str(count - 1))

    def write(i: int, image: Pixels) -> None:
        name = f"-{split_ending(names[i])[0]}".replace("/", "_").replace("\\", "_") if names else ""
        write_atomic(folder / fit_name(f"{i:0{width}d}{name}.png"), encode_png(image))

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
    run_path: AnyPath,
    *,
    count: int = 25,
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    sampler: str = "prior",
    condition: Any = None,
    data: str | Path | None = None,
) -> Path:
    """Decode codes of ``sampler`` to a .png sheet or a folder; of a folder's two chunks of images are in memory.

    ``condition``, for a conditional model: a class by name or number, or a mapping from attributes to True and False;
    None draws conditions from the training set. ``data``: where the training images are, for a sampler that is fitted
    to them.
    """
    count, seed = check_whole(count, "count", 1), check_whole(seed, "seed", 0)
    path, is_sheet = output_pictures(out, f"{Run(run_path).name}-samples.png", overwrite=overwrite)
    model = load(run_path)
    model.to(resolve_device(device))
    random = generator(seed, "sample", "condition")
    vectors = parse_condition(model.spec, condition, count, model.condition_rows.cpu(), random)
    with disable_tf32():
        codes = make_sampler(sampler, model, run_path, data).sample(count, generator(seed, "sample"))
        chunks = _decode_chunks(model, codes, vectors)
        if is_sheet:
            _write_sheet(path, np.concatenate(list(chunks)), columns=int(np.ceil(np.sqrt(count))))
        else:
            _write_folder(path, chunks, count)
    return path


def _decode_chunks(model: VAE, codes: Tensor, conditions: Tensor | None) -> Iterator[Pixels]:
    with progress("decoding", len(codes)) as bar:
        for start, stop in chunk_spans(len(codes), model.spec.image_shape):
            yield to_uint8(model.decode(codes[start:stop], None if conditions is None else conditions[start:stop]))
            bar.advance(stop - start)


def reconstruct(
    run_path: AnyPath,
    images: str | Path | None = None,
    *,
    count: int | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    strict: bool = False,
    device: str = "auto",
    condition: Any = None,
    warn: Warn = warn_in_python,
) -> Path:
    """Originals above their reconstructions on a .png (16 of them), or all reconstructions, one by one, in a folder.

    Only the images asked for are read; of a folder's there are two chunks in memory. Pictures that cannot be read are
    left out, which ``warn`` is told; with ``strict``, or where none can be read, they raise ValueError. ``condition``:
    for a conditional model, a class or attributes in place of the images' own.
    """
    count = None if count is None else check_whole(count, "count", 1)
    path, is_sheet = output_pictures(out, f"{Run(run_path).name}-reconstructions.png", overwrite=overwrite)
    model, given = load_with_images(run_path, images, data, strict=strict, condition=condition)
    model.to(resolve_device(device))
    count = min(count or (SHEET if is_sheet else len(given)), len(given))
    names: list[str] = []
    with disable_tf32():
        chunks = _reconstruct_chunks(model, given, count, names)
        if is_sheet:
            parts = list(zip(*chunks, strict=True))
            given.check_some(len(names))
            originals, rebuilt = map(np.concatenate, parts)
            _write_sheet(path, *_pair_rows(originals, rebuilt))
        else:
            _write_folder(path, (rebuilt for _, rebuilt in chunks), count, names)
            given.check_some(len(names))
    given.tell_skipped(warn)
    return path


def _reconstruct_chunks(model: VAE, given: Given, count: int, names: list[str]) -> Iterator[tuple[Pixels, Pixels]]:
    """The first ``count`` images that can be read and their reconstructions, a chunk after the other.

    ``names`` receives the names of the images in a chunk before it is yielded.
    """
    start, shape = 0, model.spec.image_shape
    conditions = condition_of(model.spec, given.images)
    with progress("reconstructing", count) as bar:
        while start < len(given) and len(names) < count:
            spans = [(start + a, start + b) for a, b in chunk_spans(min(count - len(names), len(given) - start), shape)]
            start = spans[-1][1]
            for span, read in zip(spans, read_ahead(given.images.pixels, spans), strict=True):
                rows = given.readable(*span)
                if len(rows):
                    names += [given.names[row] for row in rows.tolist()]
                    originals = read[rows - span[0]]
                    own = None if conditions is None else conditions[rows]
                    yield originals, to_uint8(model.reconstruct(as_tensor(originals).to(model.device), own))
                bar.advance(len(rows))


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
    run_path: AnyPath,
    images: str | Path | None = None,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    strict: bool = False,
    device: str = "auto",
    precision: Precision = "fp32",
    condition: Any = None,
    warn: Warn = warn_in_python,
) -> Path:
    """Posterior means and log-variances of images to .parquet, .csv or .npz, with names, labels and classes if known.

    Any number of images: two chunks of them and a group of rows are in memory. Pictures that cannot be read have no
    row, which ``warn`` is told; with ``strict``, or where none can be read, they raise ValueError. Under ``torchrun``
    every rank encodes its share and the first joins them to the very file that one process writes; all must see the
    folder it is in. ``condition``: for a conditional model, a class or attributes in place of the images' own.
    """
    path = output_file(out, f"{Run(run_path).name}-codes.parquet", ENDINGS, overwrite=overwrite)
    if precision not in get_args(Precision):
        raise catalog.unknown("precision", precision, get_args(Precision))
    model, given = load_with_images(run_path, images, data, strict=strict, condition=condition)
    own = resolve_device(device)
    model.to(own)
    class_names = given.images.label_names if given.images.has_class_names else ()
    rows = CodeTable(given.names, given.images.labels, model.spec.latent_dim, class_names)
    spans = chunk_spans(len(given), model.spec.image_shape)
    with disable_tf32(), joined() as here:
        share = here.share(len(spans))  # whole chunks: on every rank they are those of one process
        pieces = _encode_pieces(model, given, spans[share.start : share.stop], precision)
        if here.size == 1 and ending_of(path) != ".npz":
            write_codes(path, rows, _checked(pieces, given))
        else:
            parts = Parts(path, here.size)
            try:
                parts.write(here.rank, pieces)
                here.barrier()
                if here.is_first:
                    for _ in _checked(parts, given):
                        pass
                    write_codes(path, rows, parts)
                here.barrier()
            finally:
                parts.remove(here.rank)
    if here.is_first:
        given.tell_skipped(warn)
    return path


def _encode_pieces(model: VAE, given: Given, spans: Sequence[tuple[int, int]], precision: Precision) -> Iterator[Piece]:
    """The codes of the images in ``spans`` that can be read."""
    for span, codes in zip(spans, encode_spans(model, given.images, spans, precision), strict=True):
        rows = given.readable(*span)
        yield Piece(rows, codes[:, rows - span[0]])


def _checked(pieces: Iterable[Piece], given: Given) -> Iterator[Piece]:
    """``pieces``, those of all ranks; notes the rows that are in none of them as skipped. ValueError if all are."""
    position, count = 0, 0
    for piece in pieces:
        for row in piece.rows.tolist():
            if row != position:
                given.skip(range(position, row))
            position = row + 1
        count += len(piece.rows)
        yield piece
    given.skip(range(position, len(given)))
    given.check_some(count)
