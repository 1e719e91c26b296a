"""A person's own pictures: any folder or .zip of them, of any sizes."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le, Len

from vaelab.decoding import Background, Fit, Framing, Unreadable, look, read_item, shown
from vaelab.images import SMALLEST_SIDE, About, Images
from vaelab.packing import Pack, Source, check_items, pack
from vaelab.scanning import Entry, Scan, digest, hashed, scan

Side = Annotated[int, Ge(SMALLEST_SIDE), Le(1024)]
Size = Side | Annotated[list[Side], Len(2, 2)] | Literal["auto"]
Channels = Literal["auto", "grey", "rgb"]

ABOUT = About(
    title="Your own pictures",
    image_shape=None,
    splits={"train": None, "test": None},
    licence="yours",
    source="the folder or .zip that --data names",
    files=("pictures",),
)
SET_ASIDE = 10
"""One picture in so many is held out."""
HELD_OUT_FOLDERS = ("valid", "validation", "val", "test")
USUAL_SIDE = 64
LOOKED_AT = 64
"""Pictures from which size and colour are decided."""


def find(data_dir: Path | None) -> Path | None:
    """The folder given, if there are pictures in it."""
    return data_dir if data_dir is not None and scan(data_dir).entries else None


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
    background: Background = "white",
    strict: bool = False,
) -> Images:
    """The pictures of ``split`` at one size, packed in the cache.

    ``size``: height and width, or one number for both; "auto": 64, or the pictures' own where they are smaller.
    ``channels``: "auto": grey where all pictures looked at are. ``strict``: ValueError where a picture cannot be read,
    which else is left out. Subfolders are classes. Folders train and val (or valid, test) are the splits; without them
    one picture in ten is held out, chosen by its name alone.
    """
    if split not in ABOUT.splits:
        raise ValueError(f"folder has the splits train and test; there is no split {split!r}")
    if data_dir is None:
        raise ValueError("folder needs your pictures: vaelab train folder --data PATH (a folder or a .zip)")
    found = scan(data_dir)
    if not found.entries:
        raise ValueError(_nothing(found))
    framing = _framing(found.entries, size, channels, fit, background)
    order = _order(found.entries)
    entries = order.splits[split]
    key = {
        "data": "folder",
        "place": str(data_dir.resolve()),
        "files": digest(entries),
        "framing": asdict(framing),
        "classes": order.classes,
    }
    packed = pack(f"folder {split}", key, lambda: _source(entries, order, framing))
    if strict and packed.left_out:
        raise ValueError(f"{data_dir}: {_left_out(packed)}; leave data.strict (--strict) out to go on without them")
    return Images(
        packed.pixels,
        packed.columns.get("labels"),
        tuple(order.classes),
        source=str(data_dir.resolve()),
        notes=_notes(found, packed, order.rule, framing, split),
        digest=packed.digest,
        settled={"size": [framing.height, framing.width], "channels": "grey" if framing.channels == 1 else "rgb"},
    )


def _nothing(found: Scan) -> str:
    if found.closed:
        return f"{found.closed[0][0]} cannot be opened ({found.closed[0][1]})"
    what = f"; {len(found.others):,} other files, such as {found.others[0]}" if found.others else ""
    return f"{found.root}: no pictures here (PNG, JPEG, WebP, TIFF, BMP, GIF){what}"


def _left_out(packed: Pack) -> str:
    name, reason = packed.left_out[0]
    total = len(packed) + len(packed.left_out)
    return f"{len(packed.left_out):,} of {total:,} pictures cannot be read (first: {name}: {reason})"


def _notes(found: Scan, packed: Pack, rule: str, framing: Framing, split: str) -> tuple[str, ...]:
    shape = f"{framing.height}×{framing.width} {'grey' if framing.channels == 1 else 'RGB'}"
    notes = [f"pictures are {'cut' if framing.fit == 'crop' else 'padded'} to {shape} about their centre; {rule}"]
    if packed.left_out:
        notes.append(f"{_left_out(packed)}: left out of {split}; vaelab data check lists them")
    if found.others:
        notes.append(f"{len(found.others):,} files without a picture's ending are ignored")
    if found.closed:
        notes.append(f"{len(found.closed):,} folders cannot be opened (first: {found.closed[0][0]})")
    return tuple(notes)


# -- size and colour --------------------------------------------------------------------------------------------------


def _framing(entries: list[Entry], size: Size, channels: Channels, fit: Fit, background: Background) -> Framing:
    """What is asked for, and where it is left open what suits the pictures."""
    if size == "auto" or channels == "auto":
        sizes, grey = _look(entries)
    if size == "auto":
        height, width = _size_for(sizes)
    else:
        height, width = (size, size) if isinstance(size, int) else size
    is_single = channels == "grey" or (channels == "auto" and grey)
    return Framing(height, width, 1 if is_single else 3, fit, background)


def _look(entries: list[Entry]) -> tuple[list[tuple[int, int]], bool]:
    """(height, width) of some pictures spread over all, and whether every one of them is grey."""
    chosen = np.unique(np.linspace(0, len(entries) - 1, LOOKED_AT).round().astype(int))
    looks = list(filter(None, (_look_at(entries[i]) for i in chosen)))
    if not looks:  # all of those are broken: the first that is not
        looks = list(filter(None, [next(filter(None, map(_look_at, entries)), None)]))
    if not looks:
        return [(USUAL_SIDE, USUAL_SIDE)], True  # packing says why
    return [size for size, _ in looks], all(grey for _, grey in looks)


def _look_at(entry: Entry) -> tuple[tuple[int, int], bool] | None:
    try:
        return look(read_item(entry.item))
    except Unreadable:
        return None


def _size_for(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """64×64; pictures that are all smaller keep their size where it is one, else the nearest of 32, 16 and 8 below."""
    if len(set(sizes)) == 1 and min(sizes[0]) >= SMALLEST_SIDE and max(sizes[0]) <= USUAL_SIDE:
        return sizes[0]
    short = float(np.median([min(size) for size in sizes]))
    side = next((side for side in (USUAL_SIDE, 32, 16) if side <= short), SMALLEST_SIDE)
    return side, side


# -- splits and classes -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Order:
    """What a person's folders say: splits and classes."""

    splits: dict[str, list[Entry]]
    classes: list[str]
    rule: str
    """One sentence about how the splits were made."""
    depth: int
    """Folders above that of the class."""


def _order(entries: list[Entry]) -> Order:
    tops = {entry.parts[0] for entry in entries if len(entry.parts) > 1}
    held = next((name for name in HELD_OUT_FOLDERS if name in tops), None) if "train" in tops else None
    if held is None:
        splits, rule = _own_split(entries)
        return Order(splits, _classes(entries, 0), rule, 0)
    splits = {
        split: [entry for entry in entries if len(entry.parts) > 1 and entry.parts[0] == top]
        for split, top in (("train", "train"), ("test", held))
    }
    classes = _classes(splits["train"] + splits["test"], 1)
    return Order(splits, classes, f"the split is that of the folders train and {held}", 1)


def _own_split(entries: list[Entry]) -> tuple[dict[str, list[Entry]], str]:
    if len(entries) == 1:
        return {"train": entries, "test": entries}, "the one picture serves for training and for testing"
    order = sorted(range(len(entries)), key=lambda i: (hashed(entries[i].item[1]), i))
    aside = set(order[: max(1, len(entries) // SET_ASIDE)])
    splits = {
        "train": [entry for i, entry in enumerate(entries) if i not in aside],
        "test": [entries[i] for i in sorted(aside)],
    }
    return splits, f"vaelab's own fixed split: {len(aside):,} of {len(entries):,} held out, chosen by their names"


def _classes(entries: list[Entry], depth: int) -> list[str]:
    """Names of the classes: the subfolders, where every picture lies in one and they hold two or more on average."""
    counts = Counter(entry.parts[depth] for entry in entries if len(entry.parts) > depth + 1)
    is_class = len(counts) >= 2 and counts.total() == len(entries) >= 2 * len(counts)
    return sorted(counts) if is_class else []


def _source(entries: list[Entry], order: Order, framing: Framing) -> Source:
    columns = {}
    if order.classes:
        numbers = {name: i for i, name in enumerate(order.classes)}
        columns["labels"] = np.array([numbers[entry.parts[order.depth]] for entry in entries], np.int64)
    return Source([entry.item for entry in entries], framing, columns)


def framing(
    image_shape: tuple[int, int, int], *, fit: Fit = "crop", background: Background = "white", **others: Any
) -> Framing:
    """How other pictures come to the shape that a model was trained on."""
    channels, height, width = image_shape
    return Framing(height, width, channels, fit, background)


# -- checking ---------------------------------------------------------------------------------------------------------


def check(folder: Path) -> Iterator[tuple[str, str]]:
    """(file, what is wrong with it) for every picture that cannot be used, and a last line about all of them."""
    found = scan(folder)
    framing = Framing(USUAL_SIDE, USUAL_SIDE, 3)
    broken = check_items("pictures", [entry.item for entry in found.entries], framing)
    for item, reason in broken:
        yield shown(item), reason
    for name, reason in found.closed:
        yield name, f"cannot be opened ({reason})"
    endings = Counter(PurePosixPath(name).suffix or "no ending" for name in found.others)
    for ending, count in endings.most_common(5):
        yield f"{count:,} files with {ending}", "ok, ignored: not a picture's ending"
    yield f"{len(found.entries) - len(broken):,} of {len(found.entries):,} pictures", "ok"
