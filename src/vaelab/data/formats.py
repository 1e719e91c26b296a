"""Formats of picture files, recognised by their first bytes. Imports no torch."""

import ctypes
import io
import logging
import struct
from collections.abc import Callable
from functools import cache

from PIL import Image, UnidentifiedImageError, _imaging, features

from vaelab.data import tiff
from vaelab.data.containers import UnreadablePicture

logging.getLogger("PIL").addHandler(logging.NullHandler())  # its errors would go to stderr; they are raised too

PLUGINS = {
    "PNG": "PNG",
    "JPEG": "JPEG",
    "WebP": "WEBP",
    "BMP": "BMP",
    "TIFF": "TIFF",
    "GIF": "GIF",
    "AVIF": "AVIF",
    "PNM": "PPM",
    "JPEG 2000": "JPEG2000",
    "HEIC": "HEIF",
}
"""Format → the only Pillow plugin that may open it; some other plugins start programs."""
OPTIONAL = {"AVIF": "avif", "JPEG 2000": "jpg_2000", "WebP": "webp"}
"""Format → feature that a build of Pillow may lack."""
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
AVIF_BRANDS = {b"avif", b"avis"}
SIGNATURES = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (0, b"BM", "BMP"),
    *((0, start, "TIFF") for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"MM*\0", b"II\0*")),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (8, b"WEBP", "WebP"),
    *((0, start, "PNM") for start in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf")),
)
FOREIGN = (
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript file"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"\0\0\1\0", "a Windows icon"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    (0, b"DDS ", "a DDS texture"),
    (0, b"qoif", "a QOI image"),
    (0, b"P7\n", "a PAM image"),
    (0, b"PF\n", "a PFM image in colour"),
    (0, b"v/1\x01", "an OpenEXR image"),
    (0, b"#?RADIANCE", "a Radiance image"),
    (0, b"SIMPLE  =", "a FITS file"),
    (128, b"DICM", "a DICOM file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"PK\3\4", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"\x1a\x45\xdf\xa3", "a Matroska or WebM video"),
    (8, b"AVI ", "an AVI video"),
    (4, b"ftyp", "a video, or another file of the MP4 family"),
    (0, b"version https://git-lfs", "a pointer of Git LFS, whose content was not downloaded"),
)
MARKUP = ((b"<!doctype html", "a web page"), (b"<html", "a web page"), (b"<svg", "an SVG drawing"), (b"<?xml", "XML"))
HEAD_BYTES = 512
"""Bytes that ``identify`` and ``name_foreign`` need."""
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
HEIC_REMEDY = "a HEIC image, which needs pillow-heif: pip install 'vaelab[heic]'"


def identify(head: bytes) -> str | None:
    """Return the format, one of ``PLUGINS``, of a file with these first bytes; None if vaelab does not read it."""
    if head[4:8] == b"ftyp":
        size = int.from_bytes(head[:4], "big")
        brands = {head[8:12]} | {head[i : i + 4] for i in range(16, min(size, HEAD_BYTES), 4)}
        if brands & AVIF_BRANDS:
            return "AVIF"
        return "HEIC" if brands & HEIC_BRANDS else None
    return next((name for start, magic, name in SIGNATURES if head[start : start + len(magic)] == magic), None)


def name_foreign(head: bytes) -> str | None:
    """Name the kind of a file that vaelab does not read by its first bytes; None if it is unknown."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    markup = next((name for magic, name in MARKUP if start.startswith(magic)), None)
    return markup or next((name for at, magic, name in FOREIGN if head[at : at + len(magic)] == magic), None)


def open_picture(content: bytes) -> Image.Image:
    """Open the picture in a file's bytes, by its content and not its name; pixels are not decoded yet.

    UnreadablePicture names the kind of a file that vaelab does not read. Errors of Pillow about damaged files are
    passed on.
    """
    if not content:
        raise UnreadablePicture("empty file")
    kind = identify(content[:HEAD_BYTES])
    if kind is None:
        foreign = name_foreign(content[:HEAD_BYTES])
        raise UnreadablePicture(
            f"{foreign}, not an image that vaelab reads" if foreign else "not an image, or damaged at its beginning"
        )
    if kind == "HEIC":
        return _heic_opener()(io.BytesIO(content))
    if kind in OPTIONAL and not features.check(OPTIONAL[kind]):
        raise UnreadablePicture(f"{_a(kind)} image, which this build of Pillow does not read; upgrade Pillow")
    if kind == "TIFF":
        silence_libtiff()
    try:
        return Image.open(io.BytesIO(content), formats=(PLUGINS[kind],))
    except UnidentifiedImageError:
        reason = tiff.explain(content) if kind == "TIFF" else None
        raise UnreadablePicture(reason or f"{_a(kind)} file, damaged or of a variant that cannot be read") from None


def _a(kind: str) -> str:
    return f"an {kind}" if kind == "AVIF" else f"a {kind}"


@cache
def _heic_opener() -> Callable[[io.BytesIO], Image.Image]:
    try:
        from pillow_heif.as_plugin import HeifImageFile
    except ImportError:
        raise UnreadablePicture(HEIC_REMEDY) from None
    opener: Callable[[io.BytesIO], Image.Image] = HeifImageFile
    return opener


@cache
def silence_libtiff() -> None:
    """Keep libtiff from writing errors to stderr; Pillow raises them too.

    A Pillow with libtiff linked statically (Windows) has no such functions and stays as it is.
    """
    try:
        libtiff = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            handler = getattr(libtiff, name)
            handler.restype, handler.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
            handler(None)
    except (OSError, AttributeError):
        return


def without_text(content: bytes) -> bytes | None:
    """Return a PNG without its text chunks and colour profile; None if it is not a PNG or has none.

    Pillow refuses pictures whose texts unpack to more than 1 MB, although their pixels are intact.
    """
    if identify(content[:8]) != "PNG":
        return None
    kept, position = [content[:8]], 8
    while position + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, position)
        end = position + 12 + length
        if content[position + 4 : position + 8] not in TEXT_CHUNKS:
            kept.append(content[position:end])
        position = end
    lean = b"".join(kept)
    return lean if len(lean) < min(position, len(content)) else None
