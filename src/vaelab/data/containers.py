"""Reads picture files from folders, zips, tars, parquet and Arrow files alike. Imports no torch."""

import bz2
import copy
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vaelab.system.errors import InputError
from vaelab.system.files import DamagedFile, check_file, read_bytes

ImageRef = tuple[str, str] | tuple[str, str, int]
"""(folder, zip, tar, parquet or Arrow file; name in it, or column/row) of one picture.

A third value is the number of the page, from 0, of one of several in a file."""
_COMMON = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_OTHER = (".avif", ".heic", ".heif", ".hif", ".pgm", ".ppm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".jpf", ".jpx")
PICTURE_SUFFIXES = frozenset(_COMMON + _OTHER)
"""Endings of the files that are read; their first bytes tell the format."""
MAX_BYTES = 1 << 29
"""Size of an unpacked picture file; larger ones are refused."""
MAX_MEMBER_BYTES = 1 << 31
"""Size of a file in an archive of arrays; larger ones are refused."""
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
        reason = f"{self.count:,} of {total:,} images cannot be read (first: {': '.join(self.first)})"
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
        kind = container.lower().rpartition(".")[2]
        if kind in ("parquet", "arrow", "zip", "tar") and Path(container).is_file():
            if kind in ("parquet", "arrow"):
                return _read_row(container, name)
            return (_read_entry if kind == "zip" else _read_from_tar)(container, name, max_bytes)
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


def read_members(place: Path, names: Sequence[str]) -> list[bytes]:
    """Return the contents of files in a folder, .zip or .tar, named without their folders; ``.gz`` may follow.

    DamagedFile if one is missing, damaged or larger than ``MAX_MEMBER_BYTES``.
    """
    if place.is_dir():
        paths = [place / name if (place / name).is_file() else place / f"{name}.gz" for name in names]
        return [read_bytes(path, MAX_MEMBER_BYTES) for path in paths]
    found: dict[str, bytes] = {}
    try:
        for name, size, read in _list_zip(place) if place.suffix.lower() == ".zip" else _list_tar(place):
            short = name.rpartition("/")[2].removesuffix(".gz")
            if short in names and size > MAX_MEMBER_BYTES:
                raise DamagedFile(place, f"{short} declares {size:,} bytes")
            if short in names:
                found[short] = read()
    except DamagedFile:
        raise
    except Exception as error:  # tarfile and zipfile raise a dozen types for damaged content
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DamagedFile(place, f"it cannot be unpacked ({reason})", "get it again") from None
    if missing := [name for name in names if name not in found]:
        raise DamagedFile(place, f"it holds no {missing[0]}", "get it again")
    return [found[name] for name in names]


def _list_zip(path: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """Yield name, size and a function that reads the content of each file."""
    opened = open_zip(str(path))
    for info in opened.infolist():
        yield info.filename, info.file_size, partial(read_entry, opened, info.filename)


def _list_tar(path: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    check_file(path)
    with tarfile.open(path) as opened:
        for member in opened:
            if (file := opened.extractfile(member)) is not None and member.isfile():
                yield member.name, member.size, file.read


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
        self._read: tuple[int, str] = (-1, "")
        self._column: Any = None

    def picture(self, column: str, row: int) -> bytes | None:
        group = int(np.searchsorted(self._ends, row, side="right"))
        if (group, column) != self._read:
            self._column = self._file.read_row_group(group, columns=[column]).column(column)
            self._read = (group, column)
        return _bytes_of(self._column[row - int(self._ends[group - 1] if group else 0)].as_py())

    def close(self) -> None:
        self._file.close()


class _Arrow:
    """The pictures of an Arrow file, which is mapped into memory."""

    def __init__(self, path: str) -> None:
        self._table = open_arrow(Path(path))

    def picture(self, column: str, row: int) -> bytes | None:
        return _bytes_of(self._table.column(column)[row].as_py())

    def close(self) -> None:
        del self._table


def open_arrow(path: Path) -> Any:
    """Return the table of an Arrow file, a stream or not, as a memory map; pyarrow's errors are passed on."""
    import pyarrow

    check_file(path)
    source = pyarrow.memory_map(str(path))
    try:
        return pyarrow.ipc.open_stream(source).read_all()
    except pyarrow.ArrowInvalid:
        return pyarrow.ipc.open_file(source).read_all()


def _bytes_of(value: Any) -> bytes | None:
    content: bytes | None = value["bytes"] if isinstance(value, dict) else value
    return content


def _read_row(container: str, name: str) -> bytes:
    column, _, row = name.rpartition("/")
    kind = _Parquet if container.lower().endswith(".parquet") else _Arrow
    opened: _Parquet | _Arrow = _memoise(kind.__name__, container, lambda: kind(container))
    content = opened.picture(column or "image", int(row))
    if content is None:
        raise UnreadablePicture("this row holds no image")
    return content


class _Tar:
    """Where the files of an uncompressed tar begin, and their sizes."""

    def __init__(self, path: str) -> None:
        self._path = path
        with tarfile.open(path, "r:") as opened:
            self._places = {member.name: (member.offset_data, member.size) for member in opened if member.isfile()}

    def read(self, name: str, max_bytes: int) -> bytes:
        offset, size = self._places[name]
        _check_bytes(size, max_bytes)
        with open(self._path, "rb") as file:
            file.seek(offset)
            content = file.read(size)
        if len(content) != size:
            raise UnreadablePicture(f"truncated: it has {len(content):,} of {size:,} bytes")
        return content

    def close(self) -> None:
        pass


def _read_from_tar(container: str, name: str, max_bytes: int) -> bytes:
    opened: _Tar = _memoise("tar", container, lambda: _Tar(container))
    return opened.read(name, max_bytes)


def shown(item: ImageRef) -> str:
    """Return an item's name in printable form."""
    container, name = item[:2]
    page = f"[{item[2]}]" if len(item) == 3 else ""
    is_table = container.endswith((".parquet", ".arrow"))
    return printable((f"{Path(container).name} row {name.rpartition('/')[2]}" if is_table else name) + page)


def printable(text: str) -> str:
    """Return text on one line, with control characters and bytes that are not UTF-8 escaped."""
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in ESCAPED else character
        for character in text
    )
