"""Index the pictures of a user's folder or .zip: which are in which split, and of which class."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, NonNegativeInt

from vaelab.data.containers import PICTURE_SUFFIXES, UnavailablePicture, UnreadablePicture, printable
from vaelab.data.datasets import UnusableFile
from vaelab.data.datasets._factor_files import ARRAY_ADVICE
from vaelab.data.datasets._folder_layout import SplitOptions, find_hidden_classes, find_layout
from vaelab.data.datasets._folder_resize import PageChoice, ResizeOptions, look_at
from vaelab.data.datasets._folder_splits import TEST, TRAIN, parts_of
from vaelab.data.formats import PLUGINS
from vaelab.data.memos import memoise
from vaelab.data.picture_cache import list_pages
from vaelab.data.scan import Entry, Scan, digest, hash_name, scan, sort_by_name

HELD_OUT_FRACTION = 10
"""About one picture in this many is held out if no folder is."""
FEW = 64
"""If there are at most this many pictures, the held-out ones are chosen among those that can be read."""


@dataclass(frozen=True)
class FolderIndex:
    """Pictures in splits and classes."""

    scan: Scan
    entries: list[Entry]
    """All pictures, including those in hidden folders that are classes."""
    splits: dict[str, list[Entry]]
    """The pictures of "train" and "test"."""
    classes: tuple[str, ...]
    labels: Mapping[str, Mapping[str, int]]
    """Labelled split → folder → number of its class."""
    split_name: str
    """The held-out folder; empty if pictures are held out by their names."""
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    resolved: dict[str, str]
    """The folders that were found, as values of ``data.train``, ``data.valid`` and ``data.test``."""


def index_folder(place: Path, options: SplitOptions, pages: PageChoice = "first") -> FolderIndex:
    """The pictures at ``place``. UnusableFile if there are none, UsageError for a named folder without any."""
    found = scan(place)
    if place.is_file() and place.suffix.lower() not in {*PICTURE_SUFFIXES, ".zip"}:
        if place.suffix.lower() in (".npy", ".npz"):
            raise UnusableFile(place, f"not images; {ARRAY_ADVICE}")
        raise UnusableFile(place, "not a folder, .zip or image; unpack it and name the folder")
    if not found.entries:
        raise UnusableFile(place, _describe_nothing(found))
    if pages == "all":
        found.entries, found.hidden_entries = expand_pages(found.entries), expand_pages(found.hidden_entries)
    return arrange(found, options)


def arrange(found: Scan, options: SplitOptions) -> FolderIndex:
    """The pictures of a scan in splits and classes."""
    entries, hidden, notes = found.entries, found.hidden_entries, list[str]()
    layout = find_layout([entry.path for entry in entries], options)
    if chosen := find_hidden_classes(layout, [entry.path for entry in hidden]):
        taken = {entry for entry in hidden if any(parts_of(entry.path)[: len(folder)] == folder for folder in chosen)}
        entries, hidden = sort_by_name([*entries, *taken]), [entry for entry in hidden if entry not in taken]
        layout = find_layout([entry.path for entry in entries], options)
        names = ", ".join(printable(f"{'/'.join(folder)}/") for folder in chosen)
        notes.append(f"hidden folders used as classes: {names}")
    splits = dict(zip((TRAIN, TEST), ([entries[row] for row in split.rows()] for split in layout.splits), strict=False))
    if TEST not in splits and options.num_set_aside:
        splits[TEST] = splits[TRAIN]
    elif TEST not in splits:
        splits, note = split_by_name(splits[TRAIN])
        notes.insert(0, note)
    numbers = {name: i for i, name in enumerate(layout.classes)}
    labels = {}
    for name, split in ((TRAIN, layout.splits[0]), (TEST, layout.splits[-1])):
        if split.is_labelled:
            folders = {entry.folder for entry in splits[name]}
            labels[name] = {folder: numbers[split.class_folders[parts_of(folder)][-1]] for folder in folders}
    return FolderIndex(
        scan=found,
        entries=entries,
        splits=splits,
        classes=tuple(map(printable, layout.classes)),
        labels=labels,
        split_name=layout.splits[1].name if len(layout.splits) > 1 else "",
        notes=(*layout.notes, *notes, *_describe_left_out(found, hidden)),
        warnings=tuple(layout.warnings),
        resolved=layout.resolved,
    )


def split_by_name(entries: list[Entry]) -> tuple[dict[str, list[Entry]], str]:
    """Training and held-out pictures, each chosen by its own name alone, and a note about them.

    No picture changes sides when others are added or removed. Each side has at least one picture; of a few, one that
    can be read. Pages of a file are much alike, so they stay together unless there is only one file.
    """
    is_one_file = len({entry.item[:2] for entry in entries}) == 1
    numbers = [hash_name(entry.name if is_one_file else entry.item[1]) for entry in entries]
    rows = _find_readable(entries) if len(entries) <= FEW else []
    counted = [numbers[i] for i in rows] or numbers
    if len(set(counted)) == 1:
        return {TRAIN: entries, TEST: entries}, "trained and validated on the same image, since there is only one"
    limit = min(max((1 << 64) // HELD_OUT_FRACTION, min(counted) + 1), max(counted))
    splits = {
        TRAIN: [entry for entry, number in zip(entries, numbers, strict=True) if number >= limit],
        TEST: [entry for entry, number in zip(entries, numbers, strict=True) if number < limit],
    }
    held_out = f"{len(splits[TEST]):,} of {len(entries):,} images"
    return splits, f"validated on {held_out}, chosen by their names (vaelab's own fixed split)"


class _ReadableRows(BaseModel):
    rows: list[NonNegativeInt]


def _find_readable(entries: list[Entry]) -> list[int]:
    """Rows of the pictures that can be read."""

    def find() -> tuple[_ReadableRows, bool]:
        looks = [look_at(entry, ResizeOptions(range="auto")) for entry in entries]
        rows = [i for i, found in enumerate(looks) if not isinstance(found, UnreadablePicture)]
        return _ReadableRows(rows=rows), not any(isinstance(found, UnavailablePicture) for found in looks)

    return memoise({"data": "folder", "readable": digest(entries)}, _ReadableRows, find).rows


# -- pages ------------------------------------------------------------------------------------------------------------


class _PageNumbers(BaseModel):
    numbers: dict[NonNegativeInt, list[NonNegativeInt]]
    """Position of a file with several pages → their numbers."""


def expand_pages(entries: Sequence[Entry]) -> list[Entry]:
    """One entry for each page of each file; a file with one page stays unchanged.

    Pages of a TIFF and frames of an animated GIF, PNG, WebP or AVIF count. Masks and thumbnails in a TIFF do not, nor
    previews in a JPEG or HEIC.
    """

    def find() -> tuple[_PageNumbers, bool]:
        found = list_pages([entry.item for entry in entries])
        return _PageNumbers(numbers={i: pages for i, pages in enumerate(found) if len(pages) > 1}), all(found)

    numbers = memoise({"data": "folder", "pages": digest(list(entries))}, _PageNumbers, find).numbers
    return [
        entry if page is None else entry._replace(item=(*entry.item[:2], page))
        for i, entry in enumerate(entries)
        for page in numbers.get(i, [None])
    ]


# -- messages ---------------------------------------------------------------------------------------------------------


def _describe_nothing(found: Scan) -> str:
    """Why there are no pictures."""
    if found.closed:
        return f"no images here; {describe_closed(found)}"
    facts = [f"no images here ({', '.join(PLUGINS)})"]
    if found.others:
        facts.append(f"other files: {len(found.others):,} (first: {printable(found.others[0])})")
    if found.hidden_entries:
        facts.append(_describe_hidden(found.hidden_entries))
    archive = next((name for name in found.others if name.lower().endswith(".zip")), None)
    if archive:
        facts.append(f"name the .zip itself: --data {printable(str(found.root / archive))}")
    return "; ".join(facts)


def describe_closed(found: Scan) -> str:
    """The folders that cannot be opened."""
    name, reason = found.closed[0]
    return f"folders that cannot be opened: {len(found.closed):,} (first: {printable(name)}: {reason})"


def _describe_left_out(found: Scan, hidden: Sequence[Entry]) -> list[str]:
    """A note for each kind of thing that is not read."""
    notes = [_describe_hidden(hidden)] if hidden else []
    if found.others:
        notes.append(f"files without the extension of an image, left out: {len(found.others):,}")
    if found.repeated:
        notes.append(f"links to folders that are read already, left out: {len(found.repeated):,}")
    if found.closed:
        notes.append(f"left out: {describe_closed(found)}")
    return notes


def _describe_hidden(hidden: Sequence[Entry]) -> str:
    """Number of pictures in each hidden folder."""
    folders = Counter[str]()
    for entry in hidden:
        parts = entry.path.split("/")
        first = next(i for i, part in enumerate(parts) if part.startswith("."))
        folders[f"{'/'.join(parts[: first + 1])}/"] += 1
    names = ", ".join(printable(f"{name} ({count:,})") for name, count in folders.most_common(3))
    return f"images in hidden folders, left out: {names}{', …' if len(folders) > 3 else ''}"
