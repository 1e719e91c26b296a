"""A picture file's bytes → a Pillow image, decoded and upright. Imports no torch, as decoding.py."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from vaelab.data import tiff
from vaelab.data.containers import UnavailablePicture, UnreadablePicture, reason_of
from vaelab.data.contents import PictureFacts
from vaelab.data.depths import Range, to_eight_bits
from vaelab.data.formats import HEAD_BYTES, identify, open_picture

MAX_PIXELS = 89_000_000
"""Default limit for one picture, against decompression bombs."""
MOST_SIDE = 1_000_000
"""Pixels along one side. Pillow keeps a pointer for each row, so the height costs memory whatever the area is."""
SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
ORIENTATION = 0x0112
"""EXIF's tag; from 5 on the picture lies on its side."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation → what makes the picture upright."""
WITH_FRAMES = ("PNG", "GIF", "WebP", "AVIF")
"""Formats whose animations have frames; those of a JPEG or HEIC are previews, depths or the other eye."""


def page_numbers(content: bytes) -> list[int]:
    """The numbers of the pages of a TIFF, or of the frames of an animation; [0] for every other file."""
    kind = identify(content[:HEAD_BYTES])
    if kind == "TIFF":
        return tiff.page_numbers(content) or [0]
    if kind not in WITH_FRAMES:
        return [0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_picture(content) as picture:
                return list(range(min(_num_frames(picture), tiff.MOST_PAGES)))
    except Exception:  # a damaged file is reported where it is decoded
        return [0]


def _num_frames(picture: Image.Image) -> int:
    return max(1, int(getattr(picture, "n_frames", 1)))


@contextmanager
def opened(content: bytes, page: int, max_pixels: int, wanted: Range, source: PictureFacts) -> Iterator[Image.Image]:
    """One page of the picture in a file's bytes, not decoded yet; whatever Pillow raises about it is UnreadablePicture.

    Pages of a TIFF that Pillow does not read, or only to 8 bits where ``wanted`` asks for more, are decoded here.
    """
    if max_pixels > MAX_PIXELS and Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, max_pixels)  # Pillow's own limit, which is for the process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata, and about sizes that are checked here
            with _open_page(content, page, max_pixels, wanted, source) as picture:
                _check_size(picture.size, max_pixels)
                yield picture
    except UnreadablePicture:
        raise
    except Image.DecompressionBombError:
        raise UnreadablePicture(f"far too many pixels; {_too_many(max_pixels)}") from None
    except MemoryError:
        raise UnavailablePicture("too large for the memory of this machine") from None
    except Exception as error:  # decoders raise a dozen types for broken files
        raise UnreadablePicture(reason_of(error)) from None


def _open_page(content: bytes, page: int, max_pixels: int, wanted: Range, source: PictureFacts) -> Image.Image:
    if identify(content[:HEAD_BYTES]) == "TIFF":
        directory = tiff.read_directory(content, page)
        source.num_pages = max(1, len(tiff.page_numbers(content)))
        if directory is not None and _is_for_numpy(directory, wanted):
            return _read_with_numpy(directory, max_pixels, wanted, source)
        try:
            picture = open_picture(content)
        except UnreadablePicture:
            if directory is None or not tiff.can_read_values(directory):
                raise
            return _read_with_numpy(directory, max_pixels, wanted, source)
        if directory is not None:
            source.stored = str(directory.dtype or "")
    else:
        picture = open_picture(content)
        source.num_pages = 1 if picture.format in ("MPO", "HEIF") else _num_frames(picture)
    if page:
        picture.seek(page)
    return picture


def _is_for_numpy(page: tiff.Directory, wanted: Range) -> bool:
    """Whether a page is better read here: Pillow reads it not at all, wrongly, or only its upper bits.

    UnreadablePicture if Pillow would read it wrongly, and it cannot be read here either.
    """
    kind, samples = str(page.dtype or "").lstrip("<>|="), page.value(tiff.SAMPLES, 1)
    is_swapped = page.order == ">" and page.value(tiff.COMPRESSION, 1) != 1 and kind in ("i2", "i4", "f4")
    if not tiff.can_read_values(page):
        if is_swapped and samples == 1:
            raise UnreadablePicture(f"{tiff.explain(page.content)}, big-endian: save it without compression")
        return False
    if samples == 1:
        return is_swapped or kind in ("u4", "u8", "i8", "f2", "f8")
    if kind == "u1":
        return samples == 2 and tiff.EXTRA not in page.entries
    if kind == "u2" and samples in (3, 4):
        return wanted != "full"
    return True


def _read_with_numpy(page: tiff.Directory, max_pixels: int, wanted: Range, source: PictureFacts) -> Image.Image:
    """A page of any depth as a picture of 8 bits, with its opacity and its orientation."""
    _check_size(page.size, max_pixels)
    values, alpha = tiff.read_values(page), page.alpha
    num_colours = 3 if page.value(tiff.COLOURS, tiff.BLACK_IS_ZERO) == tiff.RGB else 1
    pixels = values[..., :num_colours]
    if pixels.dtype != np.uint8:
        pixels = to_eight_bits(pixels, wanted, source)
    if page.value(tiff.COLOURS, tiff.BLACK_IS_ZERO) == tiff.WHITE_IS_ZERO:
        pixels = 255 - pixels
    if alpha is not None and alpha < values.shape[2] and values.dtype.kind in "uf":
        most = float(np.iinfo(values.dtype).max) if values.dtype.kind == "u" else 1.0
        opacity = np.clip(np.rint(values[..., alpha].astype(np.float64) * (255 / most)), 0, 255).astype(np.uint8)
        picture = Image.fromarray(np.dstack([pixels, opacity]))
    else:
        picture = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if num_colours == 1 else pixels))
    picture.getexif()[ORIENTATION] = page.value(tiff.ORIENTATION, 1)
    return picture


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if max(size) > MOST_SIDE:
        raise UnreadablePicture(f"{width}×{height} pixels; sides of more than {MOST_SIDE:,} are refused")
    if width * height > max_pixels:
        raise UnreadablePicture(f"{width}×{height} pixels; {_too_many(max_pixels)}")


def _too_many(max_pixels: int) -> str:
    return f"the limit against decompression bombs is {max_pixels:,} (data.max_pixels)"


def turn_upright(picture: Image.Image, side: int | None, source: PictureFacts) -> Image.Image:
    """The picture decoded and turned as its EXIF says; a JPEG no larger than ``side`` asks for."""
    if side is not None and picture.format in ("JPEG", "MPO"):
        picture.draft(None, (side, side))  # decodes to 1/2, 1/4 or 1/8 several times faster
    picture.load()
    turn = TURNS.get(orientation(picture))
    if picture.format == "BMP" and picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (0, 0):
        source.is_alpha_ignored = True  # a fourth byte that nobody has set
        picture = picture.convert("RGB")
    return picture if turn is None else picture.transpose(turn)


def orientation(picture: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 if there is none."""
    try:
        found = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged metadata says nothing of the pixels
        return 1
    return found if isinstance(found, int) else 1


def deep_values(
    picture: Image.Image, source: PictureFacts
) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None":
    """The values of a picture that are not unsigned 8-bit numbers; None if they are."""
    if picture.mode in SIXTEEN_BIT or picture.mode in ("I", "F"):
        values = np.asarray(picture)
        return values.view(np.uint32) if source.stored.endswith("uint32") and picture.mode == "I" else values
    if picture.mode == "L" and source.stored == "int8":
        return np.asarray(picture).view(np.int8)
    return None
