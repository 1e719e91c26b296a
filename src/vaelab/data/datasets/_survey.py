"""The pictures in a person's folder or .zip: which are in which split, and of which class."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, NonNegativeInt

from vaelab.data.containers import PICTURE_SUFFIXES, UnavailablePicture, UnreadablePicture, printable
from vaelab.data.datasets._files import advise_array
from vaelab.data.datasets._layout import Choice, decide, find_hidden_classes
from vaelab.data.datasets._pages import PageChoice, expand_pages
from vaelab.data.datasets._resize import Wishes, look_at
from vaelab.data.datasets._splits import Parts, parts_of
from vaelab.data.formats import PLUGINS
from vaelab.data.memos import memoise
from vaelab.data.scan import Entry, Scan, digest, hash_name, scan, sort_by_name

HELD_OUT_SHARE = 10
"""About one picture in this many is held out if no folder is."""
FEW = 64
"""Of at most this many pictures, those are held out that can be read."""


@dataclass(frozen=True)
class Survey:
    """Pictures in splits and classes."""

    found: Scan
    entries: list[Entry]
    """All pictures, those in hidden folders that are read included."""
    splits: dict[str, list[Entry]]
    """The pictures of "train" and "test"."""
    classes: tuple[str, ...]
    labels: Mapping[str, Mapping[str, int]]
    """Split → folder → number of its class; a split without labels is missing."""
    split_name: str
    """The held-out folder; empty if pictures are held out by their names."""
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    resolved: dict[str, str]
    """The folders that were found, as values of ``data.train``, ``data.valid`` and ``data.test``."""


def survey(place: Path, choice: Choice, pages: PageChoice = "first") -> Survey:
    """The pictures at ``place``. ValueError if there are none, UsageError if ``choice`` names folders without any."""
    found = scan(place)
    if place.is_file() and place.suffix.lower() not in {*PICTURE_SUFFIXES, ".zip"}:
        if place.suffix.lower() in (".npy", ".npz"):
            raise ValueError(f"{place}: {advise_array(place)}")
        raise ValueError(f"{place}: no folder, no .zip and no picture; unpack it, and name the folder")
    if not found.entries:
        raise ValueError(describe_nothing(found))
    if pages == "all":
        found.entries = expand_pages(found.entries)
        found.hidden_entries = expand_pages(found.hidden_entries)
    return arrange(found, choice)


def arrange(found: Scan, choice: Choice) -> Survey:
    """The pictures of a scan in splits and classes."""
    entries, hidden = found.entries, found.hidden_entries
    layout, notes = decide([entry.path for entry in entries], choice), list[str]()
    paths = [entry.path for entry in hidden]
    if chosen := find_hidden_classes(layout.class_parents, paths):
        entries, hidden = _take(entries, hidden, chosen)
        layout = decide([entry.path for entry in entries], choice)
        names = ", ".join(printable(f"{'/'.join(folder)}/") for folder in chosen)
        notes.append(f"{names}: read like other folders, although the name begins with a dot")
    splits = {"train": [entries[i] for i in layout.train], "test": [entries[i] for i in layout.held_out or ()]}
    if layout.held_out is None and choice.set_aside:
        splits["test"] = splits["train"]
    elif layout.held_out is None:
        splits, sentence = split_by_name(splits["train"])
        notes.insert(0, sentence)
    is_labelled = {"train": layout.is_labelled[0], "test": layout.is_labelled[layout.held_out is not None]}
    labels = {
        split: {entry.folder: layout.labels[parts_of(entry.folder)] for entry in members}
        for split, members in splits.items()
        if is_labelled[split]
    }
    return Survey(
        found=found,
        entries=entries,
        splits=splits,
        classes=tuple(printable(name) for name in layout.classes),
        labels=labels,
        split_name=layout.held_out_name,
        notes=(*layout.sentences, *notes, *_describe_rest(found, hidden)),
        warnings=layout.warnings,
        resolved=layout.resolved,
    )


def _take(entries: list[Entry], hidden: list[Entry], folders: Sequence[Parts]) -> tuple[list[Entry], list[Entry]]:
    """Entries with the hidden ones in ``folders``, and the other hidden ones."""
    are_taken = [any(parts_of(entry.path)[: len(folder)] == folder for folder in folders) for entry in hidden]
    taken = [entry for entry, is_taken in zip(hidden, are_taken, strict=True) if is_taken]
    return sort_by_name([*entries, *taken]), [e for e, is_taken in zip(hidden, are_taken, strict=True) if not is_taken]


def split_by_name(entries: list[Entry]) -> tuple[dict[str, list[Entry]], str]:
    """Training and held-out pictures, and a sentence about them: each is chosen by its own name alone.

    So no picture changes sides when others come or go. Each side has at least one picture; of a few, one that can be
    read. Pages of a file stay together, since they are much alike; only if there is but one file they are split.
    """
    is_one_file = len({entry.item[:2] for entry in entries}) == 1
    numbers = [hash_name(entry.name if is_one_file else entry.item[1]) for entry in entries]
    rows = _readable(entries) if len(entries) <= FEW else []
    counted = [numbers[i] for i in rows] or numbers
    if len(set(counted)) == 1:
        return {"train": entries, "test": entries}, "the one picture serves for training and for validation"
    limit = min(max((1 << 64) // HELD_OUT_SHARE, min(counted) + 1), max(counted))
    splits = {
        "train": [entry for entry, number in zip(entries, numbers, strict=True) if number >= limit],
        "test": [entry for entry, number in zip(entries, numbers, strict=True) if number < limit],
    }
    held = f"{len(splits['test']):,} of {len(entries):,} pictures"
    return splits, f"validated on {held}, chosen by their names (vaelab's own fixed split)"


class Readable(BaseModel):
    """Which of a few pictures can be read."""

    rows: list[NonNegativeInt]


def _readable(entries: list[Entry]) -> list[int]:
    """Rows of the pictures that can be read, among a few."""

    def find_out() -> tuple[Readable, bool]:
        looks = [look_at(entry, Wishes(range="auto")) for entry in entries]
        rows = [i for i, found in enumerate(looks) if not isinstance(found, UnreadablePicture)]
        return Readable(rows=rows), not any(isinstance(found, UnavailablePicture) for found in looks)

    return memoise({"data": "folder", "readable": digest(entries)}, Readable, find_out).rows


# -- sentences --------------------------------------------------------------------------------------------------------


def describe_nothing(found: Scan) -> str:
    """Why there are no pictures."""
    if found.closed:
        return describe_closed(found)
    what = f"; {len(found.others):,} other files, such as {printable(found.others[0])}" if found.others else ""
    if found.hidden_entries:
        what += f"; {_describe_hidden(found.hidden_entries)}"
    packed = next((name for name in found.others if name.lower().endswith(".zip")), None)
    hint = f": name the .zip itself, --data {printable(str(found.root / packed))}" if packed else ""
    return f"{found.root}: no pictures here ({', '.join(PLUGINS)}){what}{hint}"


def describe_closed(found: Scan) -> str:
    """Which folders cannot be opened."""
    name, reason = found.closed[0]
    return f"{_count(found.closed, 'folder')} cannot be opened (first: {printable(name)}: {reason})"


def _describe_rest(found: Scan, hidden: Sequence[Entry]) -> list[str]:
    """A sentence for each kind of thing that is not read."""
    notes = []
    if hidden:
        notes.append(_describe_hidden(hidden))
    if found.others:
        notes.append(f"{_count(found.others, 'file')} without a picture's ending: left out")
    if found.repeated:
        notes.append(f"{_count(found.repeated, 'link')} to folders that are read already: left out")
    if found.closed:
        notes.append(f"{describe_closed(found)}: left out")
    return notes


def _describe_hidden(hidden: Sequence[Entry]) -> str:
    """How many pictures lie in which hidden folders."""
    folders = Counter[str]()
    for entry in hidden:
        parts = entry.path.split("/")
        first = next(i for i, part in enumerate(parts) if part.startswith("."))
        folders[f"{'/'.join(parts[: first + 1])}/"] += 1
    names = ", ".join(printable(f"{name} ({count:,})") for name, count in folders.most_common(3))
    more = ", …" if len(folders) > 3 else ""
    return f"{_count(hidden, 'picture')} in {_count(folders, 'hidden folder')} left out: {names}{more}"


def _count(things: Sequence[object] | Mapping[str, int], word: str) -> str:
    return f"{len(things):,} {word}{'' if len(things) == 1 else 's'}"
