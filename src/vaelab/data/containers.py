"""Reads picture files from folders, zips and parquet files alike. Imports no torch."""

import bz2
import copy
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vaelab.system.errors import InputError
from vaelab.system.files import DamagedFile, check_file

ImageRef = tuple[str, str] | tuple[str, str, int]
"""(folder, zip or parquet file; name or row in it) of one picture, and the number of the page, from 0, if it is one of
several in a file."""
_COMMON = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_OTHER = (".avif", ".heic", ".heif", ".hif", ".pgm", ".ppm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".jpf", ".jpx")
PICTURE_SUFFIXES = frozenset(_COMMON + _OTHER)
"""Endings of the files that are read; their first bytes tell the format."""
MAX_BYTES = 1 << 29
"""Size of an unpacked picture file; larger ones are refused."""
MAX_GROUP_BYTES = 1 << 32
"""Size of a row group of a parquet file, which is unpacked at once; larger ones are refused."""
ESCAPED = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories of control characters, lone surrogates (bytes that are not UTF-8) and line ends."""


class UnreadablePicture(InputError):
    """A picture that cannot be decoded; the message is the reason."""


class UnavailablePicture(UnreadablePicture):
    """A picture that the operating system did not return (permissions, a missing disk, no memory); worth a retry."""


class UnreadablePictures(InputError):
    """Pictures that cannot be decoded: ``count`` of ``total``, the ``first`` of which is (name, reason)."""

    def __init__(
        self, skipped: Sequence[tuple[str, str]], total: int, *, subject: object = None, remedy: str = ""
    ) -> None:
        self.count, self.total, self.first = len(skipped), total, skipped[0]
        where = f"{subject}: " if subject is not None else ""
        reason = f"{self.count:,} of {total:,} pictures cannot be read (first: {': '.join(self.first)})"
        super().__init__(f"{where}{reason}{remedy}", subject=subject)


def describe_error(error: Exception) -> str:
    """Return the error of a library as a reason for people."""
    text = " ".join(str(error).split())
    return f"damaged, or of a kind that cannot be read ({text or type(error).__name__})"


def page_number(item: ImageRef) -> int:
    """Return the number of the page of an item; 0 for a whole file."""
    return item[2] if len(item) == 3 else 0


def read_item(item: ImageRef, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes of one picture file; UnreadablePicture if they cannot be read or exceed ``max_bytes``."""
    container, name = item[:2]
    try:
        if container.lower().endswith((".parquet", ".zip")) and Path(container).is_file():
            is_parquet = container.lower().endswith(".parquet")
            return _read_row(container, name) if is_parquet else _read_entry(container, name, max_bytes)
        return _read_file(Path(container, name), max_bytes)
    except UnreadablePicture:
        raise
    except MemoryError:
        raise UnavailablePicture("too large for the memory of this machine") from None
    except OSError as error:
        if error.errno is None:  # bz2 and pyarrow report damaged content so
            raise UnreadablePicture(describe_error(error)) from None
        raise UnavailablePicture(error.strerror or str(error)) from None
    except Exception as error:  # zipfile raises several types for damage, encryption, unknown compression
        raise UnreadablePicture(describe_error(error)) from None


def _read_file(path: Path, max_bytes: int) -> bytes:
    if path.is_symlink() and not path.exists():
        raise UnavailablePicture("a broken link")
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):  # reading a pipe would block
        raise UnreadablePicture("not a file, but a folder, a pipe or a device")
    _check_bytes(state.st_size, max_bytes)
    return path.read_bytes()


def read_head(item: ImageRef, count: int) -> bytes:
    """Return the first bytes of one file of a folder or zip; none if they cannot be read."""
    container, name = item[:2]
    path = Path(container, name)
    try:
        if Path(container).is_file():
            with open_zip(container).open(name) as entry:
                return entry.read(count)
        if not path.is_file():  # opening a pipe would block
            return b""
        with path.open("rb") as file:
            return file.read(count)
    except Exception:  # zipfile raises several types for damage, encryption, unknown compression
        return b""


def _check_bytes(count: int, max_bytes: int) -> None:
    if count > max_bytes:
        raise UnreadablePicture(f"{count >> 20:,} MB; the limit is {max_bytes >> 20} MB")


_opened: dict[str, tuple[Any, Any]] = {}
"""Kind of file → (signature, opened file): the last one stays open, since a zip may list 200,000 entries."""


def _memoise(kind: str, path: str, make: Callable[[], Any]) -> Any:
    state = Path(path).stat()
    which = (path, state.st_size, state.st_mtime_ns)
    if kind not in _opened or _opened[kind][0] != which:
        if kind in _opened:
            _opened.pop(kind)[1].close()
        _opened[kind] = (which, make())
    return _opened[kind][1]


def open_zip(path: str) -> zipfile.ZipFile:
    """Return a zip, opened once; DamagedFile with the likely cause if it is not a zip."""
    check_file(Path(path))
    try:
        opened: zipfile.ZipFile = _memoise("zip", path, lambda: zipfile.ZipFile(path))
        return opened
    except OSError as error:
        raise UnavailablePicture(f"{path} cannot be opened ({error.strerror or error})") from None
    except (zipfile.BadZipFile, NotImplementedError, ValueError, IndexError, OverflowError, EOFError, struct.error):
        with open(path, "rb") as file:
            start = file.read(512).lstrip().lower()
        if start.startswith((b"<!doctype html", b"<html")):
            reason = "a web page instead of a zip, probably Google Drive's notice that its quota is used up"
            raise DamagedFile(Path(path), reason, "try again tomorrow or use another source") from None
        reason = f"not a zip, or cut off before its end ({Path(path).stat().st_size:,} bytes)"
        raise DamagedFile(Path(path), reason, "get it again") from None


def _read_entry(container: str, name: str, max_bytes: int) -> bytes:
    opened = open_zip(container)
    _check_bytes(opened.getinfo(name).file_size, max_bytes)
    return read_entry(opened, name)


def read_entry(opened: zipfile.ZipFile, name: str) -> bytes:
    """Return the content of an entry of a zip; BadZipFile if it is not as long as the zip's directory declares."""
    info = opened.getinfo(name)
    if info.compress_type == zipfile.ZIP_BZIP2:
        return _read_bzip2(opened, info)
    # zipfile unpacks all of the LZMA data that it is given, so it gets little at a time
    piece = 1 << 12 if info.compress_type == zipfile.ZIP_LZMA else 1 << 20
    content = bytearray()
    with opened.open(info) as entry:
        while len(content) < info.file_size:
            part = entry.read(min(piece, info.file_size - len(content)))
            if not part:
                raise zipfile.BadZipFile(f"it has {len(content):,} of {info.file_size:,} bytes")
            content += part
        entry.read(1)  # compares the checksum
    return bytes(content)


def _read_bzip2(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Do the same for bzip2, which zipfile would unpack at once, without bound."""
    raw = copy.copy(info)
    raw.compress_type, raw.file_size = zipfile.ZIP_STORED, info.compress_size
    del raw.CRC  # it is that of the unpacked content
    with opened.open(raw) as entry:
        content = bz2.BZ2Decompressor().decompress(entry.read(raw.file_size), info.file_size + 1)
    if len(content) != info.file_size or zlib.crc32(content) != info.CRC:
        raise zipfile.BadZipFile(f"Bad CRC-32 for file {info.filename!r}")
    return content


class _Parquet:
    """The pictures of a parquet file, with one row group in memory at a time."""

    def __init__(self, path: str) -> None:
        from pyarrow import parquet

        check_file(Path(path))
        self._file = parquet.ParquetFile(path)
        about = self._file.metadata
        declared = [about.row_group(i).total_byte_size for i in range(about.num_row_groups)]
        if max(declared, default=0) > MAX_GROUP_BYTES:
            raise UnreadablePicture(f"it declares {max(declared):,} bytes in one row group")
        self._ends = np.cumsum([about.row_group(i).num_rows for i in range(about.num_row_groups)])
        self._group = -1
        self._column: Any = None

    def picture(self, row: int) -> bytes | None:
        group = int(np.searchsorted(self._ends, row, side="right"))
        if group != self._group:
            self._column = self._file.read_row_group(group, columns=["image"]).column("image")
            self._group = group
        value: Any = self._column[row - int(self._ends[group - 1] if group else 0)].as_py()
        content: bytes | None = value["bytes"] if isinstance(value, dict) else value
        return content

    def close(self) -> None:
        self._file.close()


def _read_row(container: str, row: str) -> bytes:
    content: bytes | None = _memoise("parquet", container, lambda: _Parquet(container)).picture(int(row))
    if content is None:
        raise UnreadablePicture("this row holds no picture")
    return content


def shown(item: ImageRef) -> str:
    """Return an item's name in printable form."""
    container, name = item[:2]
    page = f"[{item[2]}]" if len(item) == 3 else ""
    return printable((f"{Path(container).name} row {name}" if container.endswith(".parquet") else name) + page)


def printable(text: str) -> str:
    """Return text on one line, with control characters and bytes that are not UTF-8 escaped."""
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in ESCAPED else character
        for character in text
    )
