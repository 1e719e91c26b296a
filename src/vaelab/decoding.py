"""Pictures as people have them, in folders, zips and parquet files → pixels of one shape.

Nothing here imports torch: worker processes load this module alone.
"""

import io
import os
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Item = tuple[str, str]
"""Where one picture lies: a folder, zip or parquet file, and its name (in a parquet file its row) there."""
Fit = Literal["crop", "pad"]
Background = Literal["white", "black"]

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
MOST_PIXELS = 89_000_000
"""Of one picture; larger ones are taken for decompression bombs."""
MOST_BYTES = 1 << 29
"""Of one picture in a zip, unpacked."""
SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
ORIENTATION = 0x0112
"""EXIF's tag; from 5 on the picture lies on its side."""
CLEAR_MODES = ("RGBA", "RGBa", "LA", "La", "PA")


class Unreadable(ValueError):
    """A picture that cannot be used; the message says why."""


@dataclass(frozen=True)
class Framing:
    """How a picture of any size becomes pixels of one shape."""

    height: int
    width: int
    channels: int
    fit: Fit = "crop"
    """Cut what is too long off both ends, or add margins."""
    background: Background | Literal["none"] = "white"
    """Colour of margins, and of what lies behind transparent parts; "none" refuses those."""
    box: tuple[int, int, int, int] | None = None
    """Left, top, right, bottom of the part to take, of pictures that have ``boxed`` pixels."""
    boxed: tuple[int, int] = (0, 0)
    """Width and height that ``box`` refers to."""
    boxed_only: bool = False
    """Refuse pictures of another size than ``boxed``."""


def decode(content: bytes, framing: Framing) -> NDArray[np.uint8]:
    """The pixels ``[H, W, C]`` of a picture file: first frame, upright, on the background, shrunk by area averages.

    Unreadable says what is wrong with it, whatever Pillow raises.
    """
    if not content:
        raise Unreadable("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata, and about sizes that are checked here
            with Image.open(io.BytesIO(content)) as picture:
                return _framed(_upright(picture, framing), framing)
    except Unreadable:
        raise
    except MemoryError:
        raise Unreadable("too large for the memory of this machine") from None
    except Exception as error:  # decoders raise a dozen types for broken files
        raise Unreadable(_reason(error)) from None


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "cannot identify" in text:
        return "not a picture, or damaged at its beginning"
    return f"damaged ({text or type(error).__name__})"


def _upright(picture: Image.Image, framing: Framing) -> Image.Image:
    """The picture turned as its EXIF says, decoded no larger than it has to be."""
    if picture.width * picture.height > MOST_PIXELS:
        raise Unreadable(
            f"{picture.width}×{picture.height} pixels; more than {MOST_PIXELS // 10**6} million are refused"
        )
    if framing.boxed_only and picture.size != framing.boxed:
        raise Unreadable(f"{picture.width}×{picture.height} pixels instead of {framing.boxed[0]}×{framing.boxed[1]}")
    if framing.box is None:
        side = 2 * max(framing.height, framing.width)
        picture.draft(None, (side, side))  # JPEG decodes to 1/2, 1/4 or 1/8 several times faster
    picture.load()
    return ImageOps.exif_transpose(picture)


def _framed(picture: Image.Image, framing: Framing) -> NDArray[np.uint8]:
    picture = _flat(picture, framing)
    width, height = framing.width, framing.height
    shade = 255 if framing.background == "white" else 0
    if framing.box is not None and picture.size == framing.boxed:
        picture = _resized(picture, framing.box, (width, height))
    elif framing.fit == "crop":
        scale = max(width / picture.width, height / picture.height)
        wide, high = min(width / scale, picture.width), min(height / scale, picture.height)
        left, top = (picture.width - wide) / 2, (picture.height - high) / 2
        picture = _resized(picture, (left, top, left + wide, top + high), (width, height))
    else:
        scale = min(width / picture.width, height / picture.height)
        inner = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        small = _resized(picture, (0, 0, *picture.size), inner)
        picture = Image.new(picture.mode, (width, height), shade if framing.channels == 1 else (shade,) * 3)
        picture.paste(small, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return np.array(picture, np.uint8).reshape(height, width, framing.channels)


def _resized(picture: Image.Image, box: tuple[float, float, float, float], size: tuple[int, int]) -> Image.Image:
    """A part of the picture at another size: area averages where it shrinks, cubic curves where it grows."""
    wide, high = box[2] - box[0], box[3] - box[1]
    if wide == size[0] and high == size[1] and all(float(side).is_integer() for side in box):
        left, top, right, bottom = (int(side) for side in box)
        return picture.crop((left, top, right, bottom))
    shrinks = wide >= size[0] and high >= size[1]
    return picture.resize(size, Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC, box)


def _flat(picture: Image.Image, framing: Framing) -> Image.Image:
    """Grey or RGB with 8 bits, transparent parts on the background."""
    if picture.mode in SIXTEEN_BIT or picture.mode in ("I", "F"):
        picture = Image.fromarray(_eight_bits(picture))
    elif picture.mode in CLEAR_MODES or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        if framing.background == "none" and np.asarray(picture)[..., 3].min() < 255:
            raise Unreadable("has transparent parts; put it on a background first (digits are white on black)")
        behind = Image.new("RGBA", picture.size, "black" if framing.background == "none" else framing.background)
        picture = Image.alpha_composite(behind, picture).convert("RGB")
    return picture.convert("L" if framing.channels == 1 else "RGB")


def _eight_bits(picture: Image.Image) -> NDArray[np.uint8]:
    """16-bit values divided by 257, floating-point values in [0, 1] times 255."""
    values = np.asarray(picture)
    if picture.mode == "F":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise Unreadable("floating-point pixels outside 0 … 1: their range is unknown, convert them first")
        return (values * 255).round().astype(np.uint8)
    if values.min() < 0 or values.max() > 65535:
        raise Unreadable("pixels outside 0 … 65535: their range is unknown, convert them first")
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def look(content: bytes) -> tuple[tuple[int, int], bool]:
    """Height and width of a picture, upright, and whether it is grey; Unreadable where ``decode`` would refuse it."""
    decode(content, Framing(8, 8, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(content)) as picture:
            width, height = picture.size
            is_turned = picture.getexif().get(ORIENTATION, 1) >= 5
            picture.draft(None, (64, 64))
            return (width, height) if is_turned else (height, width), _is_grey(picture)


def _is_grey(picture: Image.Image) -> bool:
    """Whether a picture has no colour: one channel, or three that agree but for what JPEG blurs."""
    if picture.mode in ("1", "L", "LA", "La", "I", "F", *SIXTEEN_BIT):
        return True
    small = picture.convert("RGBA").convert("RGB").resize((64, 64), Image.Resampling.BOX)
    values = np.asarray(small, np.int16)
    return int(np.abs(values - values[..., :1]).max()) <= 6


# -- where pictures lie -----------------------------------------------------------------------------------------------


def read_item(item: Item) -> bytes:
    """The bytes of one picture file; Unreadable if they cannot be had."""
    container, name = item
    try:
        if container.endswith(".parquet"):
            return _parquet_row(container, int(name))
        if container.lower().endswith(".zip"):
            return _zip_entry(container, name)
        return Path(container, name).read_bytes()
    except Unreadable:
        raise
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None
    except Exception as error:  # zipfile raises several types for damage, encryption, unknown compression
        raise Unreadable(_reason(error)) from None


_opened: dict[str, tuple[Any, Any]] = {}
"""Kind of file → (which, what was read of it): the last one stays open, a zip's directory may have 200,000 lines."""


def _kept(kind: str, which: Any, make: Callable[[], Any]) -> Any:
    if kind not in _opened or _opened[kind][0] != which:
        if kind in _opened and hasattr(_opened[kind][1], "close"):
            _opened.pop(kind)[1].close()
        _opened[kind] = (which, make())
    return _opened[kind][1]


def _stamp(path: str) -> tuple[str, int, int]:
    state = Path(path).stat()
    return path, state.st_size, state.st_mtime_ns


def open_zip(path: str) -> zipfile.ZipFile:
    """A zip, opened once; ValueError with the likely cause where it is none."""
    try:
        opened: zipfile.ZipFile = _kept("zip", _stamp(path), lambda: zipfile.ZipFile(path))
        return opened
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        with open(path, "rb") as file:
            start = file.read(512).lstrip().lower()
        if start.startswith((b"<!doctype html", b"<html")):
            raise ValueError(
                f"{path} is a web page and no zip: most likely the notice of Google Drive that its quota is used up; "
                "try again tomorrow or another source"
            ) from None
        raise ValueError(
            f"{path}: no zip, or cut off before its end ({Path(path).stat().st_size:,} bytes); get it again"
        ) from None


def _zip_entry(container: str, name: str) -> bytes:
    opened = open_zip(container)
    if opened.getinfo(name).file_size > MOST_BYTES:
        raise Unreadable(f"more than {MOST_BYTES >> 20} MB unpacked")
    return opened.read(name)


def _parquet_row(container: str, row: int) -> bytes:
    from pyarrow import parquet

    file = _kept("parquet", _stamp(container), lambda: parquet.ParquetFile(container))
    group = 0
    while row >= file.metadata.row_group(group).num_rows:
        row -= file.metadata.row_group(group).num_rows
        group += 1
    column = _kept(
        "rows",
        (*_stamp(container), group),
        lambda: file.read_row_group(group, columns=["image"]).column("image").to_pylist(),
    )
    content: bytes | None = column[row]["bytes"] if column[row] else None
    if content is None:
        raise Unreadable("this row holds no picture")
    return content


def shown(item: Item) -> str:
    """An item's name as it may be printed, whatever bytes it holds."""
    container, name = item
    text = f"{Path(container).name} row {name}" if container.endswith(".parquet") else name
    return os.fsencode(text).decode("utf-8", "replace")


# -- what a worker does -----------------------------------------------------------------------------------------------


def decode_into(path: str, offset: int, items: Sequence[Item], framing: Framing) -> list[tuple[int, str]]:
    """Decode ``items`` and write their pixels from byte ``offset`` of a file on; (position, reason) of unreadable ones.

    Those leave black pixels. The bytes are on the disk when this returns.
    """
    block = np.zeros((len(items), framing.height, framing.width, framing.channels), np.uint8)
    problems = []
    for i, item in enumerate(items):
        try:
            block[i] = decode(read_item(item), framing)
        except Unreadable as error:
            problems.append((i, str(error)))
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(block.data)
        file.flush()
        os.fsync(file.fileno())
    return problems


def examine(items: Sequence[Item], framing: Framing) -> list[tuple[int, str]]:
    """(position, reason) of the items that cannot be decoded."""
    problems = []
    for i, item in enumerate(items):
        try:
            decode(read_item(item), framing)
        except Unreadable as error:
            problems.append((i, str(error)))
    return problems
