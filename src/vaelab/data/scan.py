"""Finds the pictures below a folder or in a zip."""

import gc
import hashlib
import heapq
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from vaelab.data.containers import PICTURE_SUFFIXES, ImageRef, open_zip
from vaelab.system.files import check_file

SIDECARS = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir", "$RECYCLE.BIN"})
"""Files and folders that operating systems and NAS boxes create."""
TOOLS = frozenset({
    "git", "svn", "hg", "dvc", "cache", "caches", "thumb", "thumbs", "thumbnail", "thumbnails", "trash", "trashes",
    "spotlight", "fseventsd", "temporary", "temp", "tmp", "checkpoint", "checkpoints", "venv", "env", "idea", "vscode",
    "stversions", "versions", "snapshot", "snapshots", "backup", "backups", "appledouble", "originals", "dtrash",
    "picasaoriginals", "temporaryitems", "documentrevisions", "local", "config", "conda", "npm", "cargo",
})  # fmt: skip
"""Words in the names of hidden folders that programs create."""


ARRAY = ".npy"
"""Ending of arrays, which are images in a folder without pictures."""


class Entry(NamedTuple):
    """One file with the extension of a picture."""

    item: ImageRef
    size: int
    changed: int
    """Time of the last change in nanoseconds, or checksum of an entry of a zip."""

    @property
    def name(self) -> str:
        """Name in the folder or zip, with the number of the page if it is one of several; unique in a scan."""
        return self.item[1] if len(self.item) == 2 else f"{self.item[1]}[{self.item[2]}]"

    @property
    def path(self) -> str:
        """Path from the root, separated by "/"."""
        container, name = self.item[:2]
        if "\\" in name and container.lower().endswith(".zip"):  # made on Windows
            return name.replace("\\", "/")
        return name

    @property
    def folder(self) -> str:
        """Folder relative to the root, separated by "/"; empty for the root."""
        return self.path.rpartition("/")[0]


@dataclass
class Scan:
    """The content of a folder or zip."""

    root: Path
    entries: list[Entry] = field(default_factory=list)
    """Pictures, sorted by name."""
    others: list[str] = field(default_factory=list)
    """Files without the extension of a picture."""
    closed: list[tuple[str, str]] = field(default_factory=list)
    """(folder, reason) of folders that cannot be opened."""
    repeated: list[str] = field(default_factory=list)
    """Links to folders that were already searched, such as loops."""
    hidden: list[str] = field(default_factory=list)
    """Hidden files and, with a final "/", hidden folders, all of which are skipped: dot files and ``SIDECARS``."""
    hidden_entries: list[Entry] = field(default_factory=list)
    """Pictures in hidden folders other than those that programs create."""


def scan(root: Path) -> Scan:
    """Find every picture below ``root``: a folder, a zip or one picture. Links are followed, each folder once.

    FileNotFoundError if there is nothing, DamagedFile if a zip is damaged.
    """
    found = Scan(root)
    collects = gc.isenabled()
    gc.disable()  # it takes a fifth of the time with 200,000 entries
    try:
        found.entries.extend(_entries(found))
    finally:
        if collects:
            gc.enable()
    found.entries = sort_by_name(found.entries or _find_arrays(found))
    found.hidden_entries = sort_by_name(found.hidden_entries)
    found.hidden.sort()
    return found


def _find_arrays(found: Scan) -> list[Entry]:
    """Return the ``.npy`` files of a folder without pictures, which hold one image each."""
    names = [name for name in found.others if name.lower().endswith(ARRAY)] if found.root.is_dir() else []
    states = {name: (found.root / name).stat() for name in names}
    found.others = [name for name in found.others if name not in states]
    return [Entry((str(found.root), name), state.st_size, state.st_mtime_ns) for name, state in states.items()]


def sort_by_name(entries: Iterable[Entry]) -> list[Entry]:
    """Sort entries by name, with composed and decomposed accents equal."""
    by_name = sorted(entries, key=lambda entry: entry.item[1])
    return sorted(by_name, key=lambda entry: unicodedata.normalize("NFC", entry.item[1]))


def holds_picture(root: Path) -> bool:
    """Return whether ``scan`` would find a picture; stops at the first."""
    found = Scan(root)
    return next(_entries(found), None) is not None or any(name.lower().endswith(ARRAY) for name in found.others)


def _entries(found: Scan) -> Iterator[Entry]:
    """Yield every picture, unsorted; add everything else to ``found``."""
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
    folders, links, hidden = [""], list[str](), list[str]()
    # A folder gets its own name, and that of a link only if it lies elsewhere: links come after folders. Hidden folders
    # come last, so that links to them are followed.
    while folders or links or hidden:
        below = folders.pop() if folders else heapq.heappop(links) if links else hidden.pop()
        is_hidden = any(part.startswith(".") for part in below.split("/"))
        path = os.path.join(root, below)  # noqa: PTH118 (as fast as it gets)
        try:
            state = os.stat(path)  # noqa: PTH116
            if (state.st_dev, state.st_ino) in seen:
                if not is_hidden:
                    found.repeated.append(below.removesuffix("/"))
                continue
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(path) as inside:
                for file in inside:
                    name = below + file.name
                    if is_hidden or _is_hidden(file.name):
                        _note_hidden(found, root, name, file, hidden)
                        continue
                    state = _state(file)
                    if stat.S_ISDIR(state.st_mode):
                        heapq.heappush(links, f"{name}/") if file.is_symlink() else folders.append(f"{name}/")
                    elif _is_picture(name):
                        yield Entry((root, name), state.st_size, state.st_mtime_ns)
                    else:
                        found.others.append(name)
        except OSError as error:
            if not is_hidden:
                found.closed.append((below.removesuffix("/") or root, error.strerror or str(error)))


def _note_hidden(found: Scan, root: str, name: str, file: "os.DirEntry[str]", hidden: list[str]) -> None:
    """Record a hidden file or folder, or a file in a hidden folder; append folders to search to ``hidden``."""
    is_folder = file.is_dir(follow_symlinks=False)
    is_inside = any(part.startswith(".") for part in name.split("/")[:-1])
    if not is_inside:
        found.hidden.append(f"{name}/" if is_folder else name)
    if is_folder and not is_program_folder(file.name):
        hidden.append(f"{name}/")
    elif is_inside and _is_picture(name) and not _is_hidden(file.name) and file.is_file():
        state = file.stat()
        found.hidden_entries.append(Entry((root, name), state.st_size, state.st_mtime_ns))


def _state(file: "os.DirEntry[str]") -> os.stat_result:
    """Return the state of a file or of a link's target; of a broken link, that of the link."""
    try:
        return file.stat()
    except OSError:
        return file.stat(follow_symlinks=False)


def _list_zip(found: Scan) -> Iterator[Entry]:
    container = str(found.root)
    by_name = {info.filename: info for info in open_zip(container).infolist()}  # the last of equal names counts
    hidden = dict[str, None]()
    for name, info in by_name.items():
        parts = name.replace("\\", "/").split("/")
        first = next((i for i, part in enumerate(parts) if part not in (".", "..") and _is_hidden(part)), None)
        if not name or name.endswith("/"):
            continue
        if first is not None:
            hidden[f"{'/'.join(parts[: first + 1])}{'/' if first + 1 < len(parts) else ''}"] = None
            within = [part for part in parts[:-1] if _is_hidden(part) and part not in (".", "..")]
            if _is_picture(name) and not _is_hidden(parts[-1]) and not any(map(is_program_folder, within)):
                found.hidden_entries.append(Entry((container, name), info.file_size, info.CRC))
        elif _is_picture(name):
            yield Entry((container, name), info.file_size, info.CRC)
        else:
            found.others.append(name)
    found.hidden += hidden


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in SIDECARS


def is_program_folder(name: str) -> bool:
    """Return whether a program created a hidden folder, by its name, such as .git or .thumbnails."""
    return (
        name in SIDECARS or name.startswith(("._", ".@")) or not TOOLS.isdisjoint(re.findall(r"[a-z]+", name.lower()))
    )


def _is_picture(name: str) -> bool:
    _, dot, extension = name.rpartition(".")
    return f"{dot}{extension.lower()}" in PICTURE_SUFFIXES


def digest(entries: list[Entry]) -> str:
    """Return a SHA-256 of names, sizes and times, which changes when a picture is added, removed or replaced."""
    lines = [f"{', '.join(map(repr, item[1:]))} {size} {changed}" for item, size, changed in entries]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def hash_name(name: str) -> int:
    """Return a 64-bit hash of a picture's name, equal for composed and decomposed accents."""
    normal = unicodedata.normalize("NFC", name).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(normal, digest_size=8).digest(), "big")
