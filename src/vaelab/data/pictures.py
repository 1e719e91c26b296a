"""Pictures in files: reading people's own, sheets of many, PNG."""

import io
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vaelab.data.arrays import PixelArray
from vaelab.data.containers import PICTURE_SUFFIXES, ImageRef, UnreadablePicture, printable, read_item, shown
from vaelab.data.decode import ResizePolicy, decode
from vaelab.data.images import Images, as_model_input, to_uint8
from vaelab.data.npy import NpyHeader, copy_values, damage_named, open_npz, read_npy_header
from vaelab.data.scan import scan
from vaelab.system.device import default_threads
from vaelab.system.files import check_file

Pixels = NDArray[np.uint8]
Indices = NDArray[np.int64]


@dataclass
class Skipped:
    """Pictures that could not be read, noted while the others are read, and folders that could not be opened."""

    reasons: dict[int, str] = field(default_factory=dict)
    """Row number → why."""
    closed: list[tuple[str, str]] = field(default_factory=list)
    """Folder and why, known before anything is read."""


def read_pictures(
    path: Path,
    image_shape: tuple[int, int, int],
    policy: ResizePolicy | None = None,
    skipped: Skipped | None = None,
) -> tuple[Images, Sequence[str]]:
    """Pictures at a model's size, each read when its pixels are asked for, and a name for each.

    ``path`` is one picture, a folder or .zip of them (searched through and through), a ``.npy``, or an ``.npz`` whose
    first array holds the images, which must have the model's size. ``policy`` says how pictures come to theirs (None:
    cut to shape about the centre and resized, transparent parts refused). A picture that cannot be read is noted in
    ``skipped`` when its pixels, which are then black, are asked for; without ``skipped`` ValueError names it, as it
    does a folder that cannot be opened.
    """
    if path.is_file() and path.suffix.lower() in (".npy", ".npz"):
        pixels: PixelArray = _converted(path, image_shape)
        return Images(pixels, source=str(path)), Numbered(printable(path.name), len(pixels))
    found = scan(path)
    closed = [(printable(name), reason) for name, reason in found.closed]
    shut = f"{closed[0][0]} cannot be opened ({closed[0][1]})" if closed else ""
    if not found.entries:
        looked_for = ", ".join(sorted(PICTURE_SUFFIXES))
        raise FileNotFoundError(f"{path}: no pictures in it (looked for {looked_for}){shut and f'; {shut}'}")
    if skipped is not None:
        skipped.closed = closed
    elif closed:
        raise ValueError(f"{path}: {shut}")
    channels, height, width = image_shape
    items = [entry.item for entry in found.entries]
    pixels = _pictures(path, items, policy or ResizePolicy(height, width, channels, background="none"), skipped)
    return Images(pixels, source=str(path)), [shown(item) for item in items]


class Numbered(Sequence[str]):
    """The names ``title[0]``, ``title[1]`` …, made when they are asked for."""

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


# -- pixels that are read when they are asked for ---------------------------------------------------------------------


class LazyArray:
    """Pixels ``[N, H, W, C]`` that are read when they are asked for, and not kept."""

    dtype = np.dtype(np.uint8)

    def __init__(self, count: int, image_shape: tuple[int, int, int], read: Callable[[Indices], Pixels]) -> None:
        channels, height, width = image_shape
        self.shape: tuple[int, ...] = (count, height, width, channels)
        self._read = read

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any, /) -> Pixels:
        chosen = np.arange(len(self))[key]
        pixels = self._read(np.atleast_1d(chosen))
        return pixels if chosen.ndim else pixels[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)


def _pictures(path: Path, items: Sequence[ImageRef], policy: ResizePolicy, skipped: Skipped | None) -> LazyArray:
    """Picture files, decoded several at a time."""
    black = np.zeros((policy.height, policy.width, policy.channels), np.uint8)

    def read_one(index: int) -> Pixels:
        item = items[index]
        try:
            return decode(read_item(item), policy)
        except UnreadablePicture as error:
            reason = printable(str(error))
        if skipped is not None:
            skipped.reasons[index] = reason
            return black
        where = path if path.name == item[1] else path / shown(item)
        raise ValueError(f"{where}: {reason}")

    def read(indices: Indices) -> Pixels:
        pixels = np.empty((len(indices), policy.height, policy.width, policy.channels), np.uint8)
        if len(indices):
            pixels[0] = read_one(int(indices[0]))  # alone: it opens the zip that all are read from
        for i, picture in enumerate(_together(read_one, indices[1:].tolist()), 1):
            pixels[i] = picture
        return pixels

    return LazyArray(len(items), (policy.channels, policy.height, policy.width), read)


def _together(function: Callable[[int], Pixels], numbers: list[int]) -> Iterator[Pixels]:
    """What ``function`` makes of each number, in their order, by several threads; the first error stops them."""
    if not numbers:
        return
    with warnings.catch_warnings(), ThreadPoolExecutor(min(default_threads(), len(numbers))) as pool:
        # Every decoder hides warnings and puts the filters back that it found: several at a time, those of another.
        warnings.simplefilter("ignore")
        try:
            yield from pool.map(function, numbers)
        finally:
            pool.shutdown(cancel_futures=True)


def _converted(path: Path, image_shape: tuple[int, int, int]) -> PixelArray:
    """One image or many in any layout that models take; ValueError when shape, type or pixels do not fit."""
    array = map_array(path)

    def convert(images: Any) -> torch.Tensor:
        try:
            return as_model_input(images, image_shape)[0]
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    count = len(convert(torch.empty(array.shape, dtype=torch.uint8, device="meta")))
    many = array if len(array) == count else array[None]
    channels, height, width = image_shape
    if many.dtype == np.uint8 and many.shape[1:] == (height, width, channels):
        return many
    convert(many[:0])  # for its complaint about the type
    return LazyArray(count, image_shape, lambda indices: to_uint8(convert(many[indices])))


def read_ahead(pixels: PixelArray, spans: Iterable[tuple[int, int]]) -> Iterator[NDArray[np.uint8]]:
    """The pixels of each span (first, one after the last); the next one's are read while one is worked on."""

    def read(start: int, stop: int) -> NDArray[np.uint8]:
        return np.array(pixels[start:stop])  # of a memory map a copy: else nothing would be read yet

    with ThreadPoolExecutor(1) as reader:
        coming: Future[NDArray[np.uint8]] | None = None
        for span in spans:
            present, coming = coming, reader.submit(read, *span)
            if present is not None:
                yield present.result()
        if coming is not None:
            yield coming.result()


# -- arrays in files --------------------------------------------------------------------------------------------------


def map_array(path: Path) -> NDArray[Any]:
    """The array of a ``.npy``, or the first of an ``.npz``, as a read-only memory map. ValueError if damaged.

    What lies in an ``.npz`` is unpacked to a temporary file, which ends with the array: no more than it declares.
    """
    if path.suffix.lower() == ".npy":
        size = check_file(path).st_size
        with path.open("rb") as file, damage_named(path):
            header = read_npy_header(file)
            if header.offset + header.num_bytes > size:
                raise ValueError(
                    f"{header.num_bytes:,} bytes of values are declared, {size - header.offset:,} are there"
                )
            return _map(file, header, header.offset)
    with open_npz(path) as (header, member), tempfile.TemporaryFile() as unpacked:
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if header.num_bytes > free:
            raise ValueError(
                f"{path}: its array declares {header.num_bytes:,} bytes; {free:,} are free in {tempfile.gettempdir()}"
            )
        with damage_named(path):
            copy_values(member, header, unpacked)
        return _map(unpacked, header, 0)


def _map(file: BinaryIO, header: NpyHeader, offset: int) -> NDArray[Any]:
    if not header.num_bytes:
        return np.empty(header.shape, header.dtype)
    return np.memmap(file, header.dtype, "r", offset, header.shape, "F" if header.is_fortran else "C")


# -- pictures for people ----------------------------------------------------------------------------------------------


def tile(pixels: NDArray[np.uint8], columns: int, *, gap: int = 2, paper: int = 255) -> NDArray[np.uint8]:
    """Images ``[N, H, W, C]`` as one picture with ``columns`` a row and ``gap`` pixels between them."""
    count, height, width, channels = pixels.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), paper, np.uint8)
    for i, image in enumerate(pixels):
        top, left = (gap + (i // columns) * (height + gap), gap + (i % columns) * (width + gap))
        sheet[top : top + height, left : left + width] = image
    return sheet


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """One image ``[H, W, C]`` as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
