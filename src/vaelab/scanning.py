"""Which pictures lie below a folder, or in a zip."""

import hashlib
import os
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from vaelab.decoding import PICTURE_SUFFIXES, Item, open_zip

SIDECARS = ("__MACOSX", "Thumbs.db", "desktop.ini")
"""What systems leave beside pictures."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file that should be a picture, going by its ending."""

    item: Item
    size: int
    changed: int
    """Time of its last change, in nanoseconds; of an entry of a zip its checksum."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Folders below the root and the file's name."""
        return tuple(part for part in self.item[1].replace("\\", "/").split("/") if part not in ("", ".", ".."))


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


def scan(root: Path) -> Scan:
    """Every picture below ``root``, a folder, a zip or one picture; links are followed, a loop of links once.

    FileNotFoundError where there is nothing, ValueError where a zip is damaged.
    """
    if not root.exists():
        raise FileNotFoundError(f"{root}: no such file or folder")
    found = Scan(root)
    if root.is_dir():
        _walk(found)
    elif root.suffix.lower() == ".zip":
        _list_zip(found)
    else:
        state = root.stat()
        found.entries.append(Entry((str(root.parent), root.name), state.st_size, state.st_mtime_ns))
    found.entries.sort(key=lambda entry: unicodedata.normalize("NFC", entry.item[1]))
    return found


def _walk(found: Scan) -> None:
    root, seen = os.fspath(found.root), set()
    waiting = [""]
    while waiting:
        below = waiting.pop()
        folder = Path(root, below)
        try:
            state = folder.stat()
            if (state.st_dev, state.st_ino) in seen:
                continue
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(folder) as inside:
                for file in inside:
                    name = f"{below}{file.name}"
                    if _is_hidden(file.name):
                        continue
                    if file.is_dir():
                        waiting.append(f"{name}/")
                    elif _is_picture(file.name):
                        found.entries.append(_entry(root, name, file))
                    else:
                        found.others.append(name)
        except OSError as error:
            found.closed.append((str(folder), error.strerror or str(error)))


def _entry(root: str, name: str, file: "os.DirEntry[str]") -> Entry:
    try:
        state = file.stat()
    except OSError:  # a link that leads nowhere
        return Entry((root, name), -1, 0)
    return Entry((root, name), state.st_size, state.st_mtime_ns)


def _list_zip(found: Scan) -> None:
    container = str(found.root)
    for info in open_zip(container).infolist():
        parts = info.filename.replace("\\", "/").split("/")
        if info.is_dir() or any(_is_hidden(part) for part in parts if part not in (".", "..")):
            continue
        if _is_picture(info.filename):
            found.entries.append(Entry((container, info.filename), info.file_size, info.CRC))
        else:
            found.others.append(info.filename)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in SIDECARS


def _is_picture(name: str) -> bool:
    return "." + name.rpartition(".")[2].lower() in PICTURE_SUFFIXES


def digest(entries: list[Entry]) -> str:
    """SHA-256 over names, sizes and times: changes when a picture is added, removed or replaced."""
    total = hashlib.sha256()
    for entry in entries:
        total.update(os.fsencode(f"{entry.item[1]}\0{entry.size}\0{entry.changed}\n"))
    return total.hexdigest()


def hashed(name: str) -> int:
    """A number that depends on nothing but a picture's name: its place in a fixed random order."""
    normal = os.fsencode(unicodedata.normalize("NFC", name))
    return int.from_bytes(hashlib.blake2b(normal, digest_size=8).digest(), "big")
