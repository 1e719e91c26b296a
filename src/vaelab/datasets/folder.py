"""A person's own pictures: any folder or .zip of them, of any sizes."""

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pydantic import BaseModel, NonNegativeInt

from vaelab.containers import PICTURE_SUFFIXES, Unavailable, Unreadable, printable, read_head, shown
from vaelab.contents import describe, warn
from vaelab.datasets._files import advise_array
from vaelab.datasets._framing import (
    LOOKED_AT,
    USUAL_SIDE,
    BackgroundChoice,
    Channels,
    MaxPixels,
    Size,
    ValueRange,
    Wishes,
    decide_framing,
    look_at,
)
from vaelab.datasets._pages import PageChoice, expand_pages
from vaelab.decoding import Background, Fit, Framing
from vaelab.depths import Range
from vaelab.formats import HEAD_BYTES, PLUGINS, identify
from vaelab.images import About, Images
from vaelab.opening import MAX_PIXELS
from vaelab.packing import CannotRead, Pack, Source, check_items, memoise, pack
from vaelab.scanning import Entry, Scan, digest, hashed, holds_picture, scan

ABOUT = About(
    title="Your own pictures",
    image_shape=None,
    splits={"train": None, "test": None},
    licence="yours",
    source="the folder or .zip that --data names",
    files=("pictures",),
)
SET_ASIDE = 10
"""About one picture in so many is held out."""
TRAINING_FOLDERS = ("train", "training")
HELD_OUT_FOLDERS = ("valid", "validation", "val", "test", "testing")
FRESH_SECONDS = 2.0
"""How long what was found for one split serves for the other: 200,000 files take a second to list."""


def find(data_dir: Path | None) -> Path | None:
    """The folder given, if there are pictures in it."""
    return data_dir if data_dir is not None and holds_picture(data_dir) else None


def get(target: Path | None) -> Path:
    """Nothing to download: ValueError says what to do instead."""
    raise ValueError("folder stands for your own pictures: vaelab train folder --data PATH")


def load(
    data_dir: Path | None,
    split: str,
    *,
    size: Size = "auto",
    channels: Channels = "auto",
    fit: Fit = "crop",
    background: BackgroundChoice = "auto",
    range: ValueRange = "full",
    pages: PageChoice = "first",
    max_pixels: MaxPixels = MAX_PIXELS,
    strict: bool = False,
) -> Images:
    """The pictures of ``split`` at one size, packed in the cache.

    ``size``: height and width, or one number for both; "auto": 64, or the pictures' own where they are smaller.
    ``channels``: "auto": grey where all pictures looked at are. ``strict``: ValueError where a picture cannot be read,
    which else is left out. Subfolders are classes. Folders train and val (or valid, test) are the splits; without them
    about one picture in ten is held out, chosen by its name alone. ``background``: "auto": white, or black if fewer
    pictures disappear on it. ``range``: the values that become black and white, of pictures with more than 8 bits;
    "full": all that their type can hold; "auto": one range that suits the whole set. ``pages``: "all": each page of a
    TIFF and each frame of an animation is a picture. ``max_pixels``: pictures with more are not decoded and count as
    unreadable.
    """
    if split not in ABOUT.splits:
        raise ValueError(f"folder has the splits train and test; there is no split {split!r}")
    if data_dir is None:
        raise ValueError("folder needs your pictures: vaelab train folder --data PATH (a folder or a .zip)")
    wishes = Wishes(size, channels, fit, background, range, max_pixels)
    found, order = _survey(data_dir, split, pages)
    if strict and found.closed:
        raise ValueError(f"{data_dir}: {_closed(found)}; {LENIENT}")
    entries = order.splits[split]
    try:
        decision = decide_framing(found.entries, wishes)
    except CannotRead as error:
        raise ValueError(f"{data_dir}: {error}; take these out") from None
    framing = decision.framing
    key = {
        "data": "folder",
        "place": str(data_dir.resolve()),
        "files": digest(entries),
        "framing": asdict(framing),
        "classes": order.classes,
    }
    try:
        packed = pack(f"folder {split}", key, lambda: _source(entries, order, framing, strict))
    except CannotRead as error:
        raise ValueError(f"{data_dir}, {split} split: {error}; {LENIENT if strict else 'take these out'}") from None
    if strict and packed.left_out:
        raise ValueError(f"{data_dir}, {split} split: {packed.loss}; {LENIENT}")
    content = _describe_content(packed, entries, framing, split, pages)
    return Images(
        packed.pixels,
        packed.columns.get("labels"),
        tuple(order.classes),
        source=str(data_dir.resolve()),
        notes=(*_notes(found, packed, order.rule, framing, split), *decision.sentences, *content),
        digest=packed.digest,
        pack=packed.folder,
        settled=decision.settled,
    )


LENIENT = "leave data.strict (--strict) out to go on without them"


def _nothing(found: Scan) -> str:
    if found.closed:
        return _closed(found)
    what = f"; {len(found.others):,} other files, such as {printable(found.others[0])}" if found.others else ""
    packed = next((name for name in found.others if name.lower().endswith(".zip")), None)
    hint = f": name the .zip itself, --data {printable(str(found.root / packed))}" if packed else ""
    return f"{found.root}: no pictures here ({', '.join(PLUGINS)}){what}{hint}"


def _closed(found: Scan) -> str:
    name, reason = found.closed[0]
    return f"{_count(found.closed, 'folder')} cannot be opened (first: {printable(name)}: {reason})"


def _count(things: Sequence[object], word: str) -> str:
    return f"{len(things):,} {word}{'' if len(things) == 1 else 's'}"


def _notes(found: Scan, packed: Pack, rule: str, framing: Framing, split: str) -> tuple[str, ...]:
    shape = f"{framing.height}×{framing.width} {'grey' if framing.channels == 1 else 'RGB'}"
    notes = [f"pictures are {'cut' if framing.fit == 'crop' else 'padded'} to {shape} about their centre; {rule}"]
    if packed.left_out:
        notes.append(f"{packed.loss}: left out of {split}; vaelab data check lists them")
    if packed.recovery:
        notes.append(f"{split}: {packed.recovery}")
    if found.others:
        notes.append(f"{_count(found.others, 'file')} without a picture's ending: left out")
    if found.repeated:
        notes.append(f"{_count(found.repeated, 'link')} to folders that are read already: left out")
    if found.closed:
        notes.append(f"{_closed(found)}: left out")
    return tuple(notes)


def _describe_content(
    packed: Pack, entries: Sequence[Entry], framing: Framing, split: str, pages: PageChoice
) -> list[str]:
    """What the pictures of a split hold, and what is wrong with that."""
    sentences = describe(packed.content, lambda row: shown(entries[row].item), counts_pages=pages == "first")
    return [
        f"{split}: {sentence}"
        for sentence in (*sentences, *warn(packed.content, framing.values == "full", framing.background))
    ]


# -- splits and classes -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Order:
    """What a person's folders say: splits and classes."""

    splits: dict[str, list[Entry]]
    classes: list[str]
    labels: dict[str, int]
    """Folder of a picture → number of its class."""
    rule: str
    """One sentence about how the splits were made."""


_surveyed: dict[tuple[Path, PageChoice], tuple[str, float, Scan, Order]] = {}
"""Place → the split that it was read for last, when, and what was found: the next split of the same moment uses it."""


def _survey(place: Path, split: str, pages: PageChoice) -> tuple[Scan, Order]:
    """What there is at a place, and its order; ValueError where there are no pictures."""
    before = _surveyed.pop((place.resolve(), pages), None)
    if before is not None and before[0] != split and time.monotonic() - before[1] < FRESH_SECONDS:
        return before[2:]
    found = scan(place)
    if place.is_file() and place.suffix.lower() not in {*PICTURE_SUFFIXES, ".zip"}:
        if place.suffix.lower() in (".npy", ".npz"):
            raise ValueError(f"{place}: {advise_array(place)}")
        raise ValueError(f"{place}: no folder, no .zip and no picture; unpack it, and name the folder")
    if not found.entries:
        raise ValueError(_nothing(found))
    if pages == "all":
        found.entries = expand_pages(found.entries)
    order = _order(found.entries)
    _surveyed.clear()
    _surveyed[place.resolve(), pages] = (split, time.monotonic(), found, order)
    return found, order


def _order(entries: list[Entry]) -> Order:
    folders = [entry.folder for entry in entries]
    parts = {
        folder: tuple(part for part in folder.split("/") if part not in ("", ".", "..")) for folder in set(folders)
    }
    shared = len(_beginning(min(parts.values()), max(parts.values())))  # a zip most often has one folder, and all in it
    tops = {folder: part[shared].casefold() if len(part) > shared else "" for folder, part in parts.items()}
    names = set(tops.values())
    train = next((name for name in TRAINING_FOLDERS if name in names), None)
    held = next((name for name in HELD_OUT_FOLDERS if name in names), None)
    if train is None or held is None:
        splits, rule = _own_split(entries)
        return Order(splits, *_classes(folders, parts, shared), rule)
    by_top: dict[str, list[Entry]] = {train: [], held: []}
    for entry, folder in zip(entries, folders, strict=True):
        by_top.setdefault(tops[folder], []).append(entry)
    rest = len(entries) - len(by_top[train]) - len(by_top[held])
    rule = f"the split is that of the folders {train} and {held}" + (f"; {rest:,} outside are left out" if rest else "")
    used = [folder for folder in folders if tops[folder] in (train, held)]
    return Order({"train": by_top[train], "test": by_top[held]}, *_classes(used, parts, shared + 1), rule)


def _beginning(one: tuple[str, ...], other: tuple[str, ...]) -> list[str]:
    """What two sequences begin with alike."""
    return [a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))]


def _own_split(entries: list[Entry]) -> tuple[dict[str, list[Entry]], str]:
    """Which pictures are held out: each by its own name, so that none changes sides when others come or go.

    Each side has one at least; of a few pictures, one that can be read. Pages of a file stay together, since they are
    much alike; only if there is but one file they are split.
    """
    is_one_file = len({entry.item[:2] for entry in entries}) == 1
    numbers = [hashed(entry.name if is_one_file else entry.item[1]) for entry in entries]
    rows = _readable(entries) if len(entries) <= LOOKED_AT else []
    counted = [numbers[i] for i in rows] or numbers
    if len(set(counted)) == 1:
        return {"train": entries, "test": entries}, "the one picture serves for training and for testing"
    limit = min(max((1 << 64) // SET_ASIDE, min(counted) + 1), max(counted))
    splits = {
        "train": [entry for entry, number in zip(entries, numbers, strict=True) if number >= limit],
        "test": [entry for entry, number in zip(entries, numbers, strict=True) if number < limit],
    }
    rule = f"vaelab's own fixed split: {len(splits['test']):,} of {len(entries):,} held out, chosen by their names"
    return splits, rule


class Readable(BaseModel):
    """Which of a few pictures can be read."""

    rows: list[NonNegativeInt]


def _readable(entries: list[Entry]) -> list[int]:
    """Which of a few pictures can be read."""

    def find_out() -> tuple[Readable, bool]:
        looks = [look_at(entry, Wishes(range="auto")) for entry in entries]
        rows = [i for i, found in enumerate(looks) if not isinstance(found, Unreadable)]
        return Readable(rows=rows), not any(isinstance(found, Unavailable) for found in looks)

    return memoise({"data": "folder", "readable": digest(entries)}, Readable, find_out).rows


def _classes(folders: list[str], parts: dict[str, tuple[str, ...]], depth: int) -> tuple[list[str], dict[str, int]]:
    """Names of the classes, and the number of each folder's.

    They are the subfolders, where every picture lies in one and they hold two or more on average.
    """
    counts = Counter[str]()
    for folder, count in Counter(folders).items():
        if len(parts[folder]) > depth:
            counts[parts[folder][depth]] += count
    if len(counts) < 2 or counts.total() < len(folders) or len(folders) < 2 * len(counts):
        return [], {}
    numbers = {name: i for i, name in enumerate(sorted(counts))}
    return [printable(name) for name in numbers], {folder: numbers[parts[folder][depth]] for folder in set(folders)}


def _source(entries: list[Entry], order: Order, framing: Framing, strict: bool) -> Source:
    columns = {}
    if order.classes:
        columns["labels"] = np.array([order.labels[entry.folder] for entry in entries], np.int64)
    return Source([entry.item for entry in entries], framing, columns, strict=strict)


def framing(
    image_shape: tuple[int, int, int],
    *,
    fit: Fit = "crop",
    background: BackgroundChoice = "white",
    range: ValueRange = "full",
    max_pixels: int = MAX_PIXELS,
    **others: Any,
) -> Framing:
    """How other pictures come to the shape that a model was trained on."""
    channels, height, width = image_shape
    behind: Background = "white" if background == "auto" else background
    values: Range = "full" if isinstance(range, str) else (range[0], range[1])
    return Framing(height, width, channels, fit, behind, max_pixels=max_pixels, values=values)


# -- checking ---------------------------------------------------------------------------------------------------------


def check(folder: Path) -> Iterator[tuple[str, str]]:
    """(file, what is wrong with it) for every picture that cannot be used, and a last line about all of them."""
    found = scan(folder)
    framing = Framing(USUAL_SIDE, USUAL_SIDE, 3)
    with suppress(CannotRead):  # then each picture is reported below
        framing = decide_framing(found.entries, Wishes(size=USUAL_SIDE, channels="rgb")).framing
    broken, content = check_items("pictures", [entry.item for entry in found.entries], framing)
    for item, reason in broken:
        yield shown(item), printable(reason)
    for name, reason in found.closed:
        yield printable(name), f"cannot be opened ({reason})"
    for name in found.repeated:
        yield printable(name), "ok, left out: a link to a folder that is read already"
    yield from _check_others(found)
    for sentence in describe(content, lambda row: shown(found.entries[row].item)):
        yield "content", f"ok: {sentence}"
    for sentence in warn(content, framing.values == "full", framing.background):
        yield "content", f"ok, but {sentence}"
    yield f"{len(found.entries) - len(broken):,} of {len(found.entries):,} pictures", "ok"


def _check_others(found: Scan) -> Iterator[tuple[str, str]]:
    """What the files without a picture's ending are: those that are pictures by their first bytes are to be renamed."""
    kinds: dict[str, Counter[str]] = {}
    for name in found.others:
        kind = identify(read_head((str(found.root), name), HEAD_BYTES)) or ""
        kinds.setdefault(PurePosixPath(name).suffix, Counter())[kind] += 1
    for ending, counts in sorted(kinds.items(), key=lambda pair: -pair[1].total()):
        words = f"with {printable(ending)}" if ending else "without an ending"
        if num_others := counts.pop("", 0):
            yield f"{num_others:,} file{'' if num_others == 1 else 's'} {words}", "ok, left out: not a picture's ending"
        for kind, count in counts.most_common():
            subject = f"{count:,} {kind} picture{'' if count == 1 else 's'} {words}"
            yield subject, f"left out: vaelab looks for files with endings such as {_ending(kind)}; rename them"


def _ending(kind: str) -> str:
    return {"JPEG": ".jpg", "TIFF": ".tif", "PNM": ".pgm", "JPEG 2000": ".jp2"}.get(kind, f".{kind.lower()}")
