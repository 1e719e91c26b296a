"""Which pictures lie below a folder, or in a zip."""

import gc
import hashlib
import heapq
import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from vaelab.containers import PICTURE_SUFFIXES, Item, open_zip
from vaelab.files import check_file

SIDECARS = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir", "$RECYCLE.BIN"})
"""What systems leave beside pictures."""


class Entry(NamedTuple):
    """One file that should be a picture, going by its ending."""

    item: Item
    size: int
    changed: int
    """Time of its last change, in nanoseconds; of an entry of a zip its checksum."""

    @property
    def name(self) -> str:
        """Its name in the folder or zip, with the number of its page if it is one of several: unique in a scan."""
        return self.item[1] if len(self.item) == 2 else f"{self.item[1]}[{self.item[2]}]"

    @property
    def folder(self) -> str:
        """Folders from the root down to the file, separated by "/"; empty where it lies in the root."""
        container, name = self.item[:2]
        if "\\" in name and container.lower().endswith(".zip"):  # packed on Windows
            name = name.replace("\\", "/")
        return name.rpartition("/")[0]


@dataclass
class Scan:
    """What a folder or a zip holds."""

    root: Path
    entries: list[Entry] = field(default_factory=list)
    """In the order of their names."""
    others: list[str] = field(default_factory=list)
    """Files that are no pictures, going by their endings."""
    closed: list[tuple[str, str]] = field(default_factory=list)
    """(folder, reason) of those that cannot be opened."""
    repeated: list[str] = field(default_factory=list)
    """Links to folders that are read already, such as loops."""


def scan(root: Path) -> Scan:
    """Every picture below ``root``, a folder, a zip or one picture; links are followed, but no folder is read twice.

    FileNotFoundError where there is nothing, ValueError where a zip is damaged.
    """
    found = Scan(root)
    collects = gc.isenabled()
    gc.disable()  # of 200,000 entries it would look at each again and again: a fifth of the time
    try:
        found.entries.extend(_entries(found))
    finally:
        if collects:
            gc.enable()
    found.entries.sort(key=lambda entry: entry.item[1])
    found.entries.sort(key=lambda entry: unicodedata.normalize("NFC", entry.item[1]))
    return found


def holds_picture(root: Path) -> bool:
    """Whether ``scan`` would find one; stops at the first."""
    return next(_entries(Scan(root)), None) is not None


def _entries(found: Scan) -> Iterator[Entry]:
    """Every picture, in no order; what else there is goes into ``found``."""
    root = found.root
    if not root.exists():
        raise FileNotFoundError(f"{root}: no such file or folder")
    if root.is_dir():
        return _walk(found)
    if root.suffix.lower() == ".zip":
        return _list_zip(found)
    state = check_file(root)
    return iter([Entry((str(root.parent), root.name), state.st_size, state.st_mtime_ns)])


def _walk(found: Scan) -> Iterator[Entry]:
    root, seen = os.fspath(found.root), set()
    folders, links = [""], list[str]()
    while folders or links:  # a folder is called by its own name, and by that of a link only where it has none here
        below = folders.pop() if folders else heapq.heappop(links)
        path = os.path.join(root, below)  # noqa: PTH118 (as fast as it gets)
        try:
            state = os.stat(path)  # noqa: PTH116
            if (state.st_dev, state.st_ino) in seen:
                found.repeated.append(below.removesuffix("/"))
                continue
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(path) as inside:
                for file in inside:
                    if _is_hidden(file.name):
                        continue
                    name = below + file.name
                    state = _state(file)
                    if stat.S_ISDIR(state.st_mode):
                        heapq.heappush(links, f"{name}/") if file.is_symlink() else folders.append(f"{name}/")
                    elif _is_picture(name):
                        yield Entry((root, name), state.st_size, state.st_mtime_ns)
                    else:
                        found.others.append(name)
        except OSError as error:
            found.closed.append((below.removesuffix("/") or root, error.strerror or str(error)))


def _state(file: "os.DirEntry[str]") -> os.stat_result:
    """What a file or the end of a link is; of a link that leads nowhere, or to itself, what the link is."""
    try:
        return file.stat()
    except OSError:
        return file.stat(follow_symlinks=False)


def _list_zip(found: Scan) -> Iterator[Entry]:
    container = str(found.root)
    by_name = {info.filename: info for info in open_zip(container).infolist()}  # of two with one name the last counts
    for name, info in by_name.items():
        parts = name.replace("\\", "/").split("/")
        if info.is_dir() or any(_is_hidden(part) for part in parts if part not in (".", "..")):
            continue
        if _is_picture(name):
            yield Entry((container, name), info.file_size, info.CRC)
        else:
            found.others.append(name)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in SIDECARS


def _is_picture(name: str) -> bool:
    _, dot, ending = name.rpartition(".")
    return f"{dot}{ending.lower()}" in PICTURE_SUFFIXES


def digest(entries: list[Entry]) -> str:
    """SHA-256 over names, sizes and times: changes when a picture is added, removed or replaced."""
    lines = [f"{', '.join(map(repr, item[1:]))} {size} {changed}" for item, size, changed in entries]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def hashed(name: str) -> int:
    """A 64-bit number that depends on nothing but a picture's name, however its accents are stored."""
    normal = unicodedata.normalize("NFC", name).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(normal, digest_size=8).digest(), "big")
