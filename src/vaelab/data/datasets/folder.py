"""A person's own pictures: any folder or .zip of them, of any sizes."""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from vaelab.data.cache import CachedImages, find_entry
from vaelab.data.containers import UnreadablePictures, printable, read_head, shown
from vaelab.data.contents import describe_content, find_warnings
from vaelab.data.datasets._layout import Choice
from vaelab.data.datasets._pages import PageChoice, expand_pages
from vaelab.data.datasets._resize import (
    USUAL_SIDE,
    BackgroundChoice,
    Channels,
    MaxPixels,
    Size,
    ValueRange,
    Wishes,
    decide_resize_policy,
)
from vaelab.data.datasets._selection import Present, Selection, check_selections, describe_change
from vaelab.data.datasets._survey import Survey, arrange, describe_closed, survey
from vaelab.data.decode import Background, Fit, ResizePolicy
from vaelab.data.depths import Range
from vaelab.data.formats import HEAD_BYTES, identify
from vaelab.data.images import DatasetInfo, Images, ImagesNotFound
from vaelab.data.opening import MAX_PIXELS
from vaelab.data.picture_cache import (
    PictureFiles,
    cache_pictures,
    check_items,
)
from vaelab.data.scan import Entry, Scan, digest, holds_picture, scan

Folders = str | list[str]
"""Folders below the data folder, or "auto"."""

INFO = DatasetInfo(
    title="Your own pictures",
    image_shape=None,
    splits={"train": None, "test": None},
    licence="yours",
    source="the folder or .zip that --data names",
    files=("pictures",),
)
FRESH_SECONDS = 2.0
"""How long what was found for one split serves for the other: 200,000 files take a second to list."""
MOST_HIDDEN = 10
"""Hidden files and folders that a check names."""


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
    train: Folders = "auto",
    valid: Annotated[int, Ge(0)] | Folders = "auto",
    test: Folders = "auto",
) -> Images:
    """The pictures of ``split`` ("train" or "test", the held-out pictures) at one size, decoded once into the cache.

    ``size``: height and width, or one number for both; "auto": 64, or the pictures' own where they are smaller.
    ``channels``: "auto": grey where all pictures looked at are. ``strict``: ValueError where a picture cannot be read,
    which else is left out. ``train``, ``valid``, ``test``: folders below ``data_dir``, of which ``valid`` is held out,
    else ``test``; a number of ``valid``: so many will be set aside from the training pictures. "auto": folders whose
    names say so (train2017, X_valid_HR); without them about one picture in ten is held out, chosen by its name alone.
    Subfolders are classes. ``background``: "auto": white, or black if fewer pictures disappear on it. ``range``: the
    values that become black and white, of pictures with more than 8 bits; "full": all that their type can hold; "auto":
    one range that suits the whole set. ``pages``: "all": each page of a TIFF and each frame of an animation is a
    picture. ``max_pixels``: pictures with more are not decoded and count as unreadable. UsageError if a folder that is
    named has no pictures.
    """
    if split not in INFO.splits:
        raise ValueError(f"folder has the splits train and test; there is no split {split!r}")
    if data_dir is None:
        raise ValueError("folder needs your pictures: vaelab train folder --data PATH (a folder or a .zip)")
    wishes = Wishes(size, channels, fit, background, range, max_pixels)
    known = _survey(data_dir, split, _choice(train, valid, test), pages)
    if strict and known.found.closed:
        raise ValueError(f"{data_dir}: {describe_closed(known.found)}; {LENIENT}")
    entries, labels = known.splits[split], known.labels.get(split)
    try:
        decision = decide_resize_policy(known.entries, wishes)
    except UnreadablePictures as error:
        raise ValueError(f"{data_dir}: {error}; take these out") from None
    try:
        cached = _cache(data_dir, split, entries, known.classes, labels, decision.policy, strict)
    except UnreadablePictures as error:
        raise ValueError(f"{data_dir}, {split} split: {error}; {LENIENT if strict else 'take these out'}") from None
    if strict and cached.num_skipped:
        raise ValueError(f"{data_dir}, {split} split: {cached.describe_skipped()}; {LENIENT}")
    used = [entries[row] for row in cached.rows.tolist()]
    content = _describe_content(cached, entries, decision.policy, split, pages)
    selection = Selection(
        place=str(data_dir.resolve()),
        cache_folder=cached.folder.name,
        sha256=cached.digest,
        files=digest(used),
        names=[entry.name for entry in used],
        left_out=sorted({entry.name for entry in entries} - {entry.name for entry in used}),
        classes=list(known.classes),
        labels=None if labels is None else dict(labels),
        split_name=known.split_name if split == "test" else "",
    )
    asked = {"train": train, "valid": valid, "test": test}
    found_folders = {"train": "", "valid": 0, "test": "", **known.resolved}  # "" and 0: no folder was found
    return Images(
        cached.pixels,
        cached.columns.get("labels"),
        known.classes,
        source=selection.place,
        notes=(*known.notes, *_notes(cached, decision.policy, split), *decision.sentences, *content),
        warnings=known.warnings,
        names=[shown(entry.item) for entry in used],
        split_name=selection.split_name,
        digest=cached.digest,
        cache_folder=cached.folder,
        resolved={**decision.resolved, **{k: v for k, v in found_folders.items() if asked[k] == "auto"}},
        selection=asdict(selection),
    )


LENIENT = "leave data.strict (--strict) out to go on without them"


def _choice(train: Folders, valid: int | Folders, test: Folders) -> Choice:
    def named(value: int | Folders) -> tuple[str, ...]:
        values = [] if isinstance(value, int) else [value] if isinstance(value, str) else value
        return tuple(name for name in values if name not in ("", "auto"))

    return Choice(named(train), named(valid), named(test), valid if isinstance(valid, int) else 0)


_surveyed: dict[Path, tuple[str, float, tuple[Choice, PageChoice], Survey]] = {}
"""Place → the split surveyed last, when, how, and the result: the next split of the same moment uses it."""


def _survey(place: Path, split: str, choice: Choice, pages: PageChoice) -> Survey:
    before = _surveyed.pop(place.resolve(), None)
    if before and before[0] != split and before[2] == (choice, pages) and time.monotonic() - before[1] < FRESH_SECONDS:
        return before[3]
    known = survey(place, choice, pages)
    _surveyed.clear()
    _surveyed[place.resolve()] = (split, time.monotonic(), (choice, pages), known)
    return known


def _cache(
    place: Path,
    split: str,
    entries: list[Entry],
    classes: Sequence[str],
    labels: Mapping[str, int] | None,
    policy: ResizePolicy,
    strict: bool,
) -> CachedImages:
    columns = {}
    if labels is not None:
        columns["labels"] = np.array([labels[entry.folder] for entry in entries], np.int64)
    key = {
        "data": "folder",
        "place": str(place.resolve()),
        "files": digest(entries),
        "resize": asdict(policy),
        "classes": list(classes) if columns else [],
        "labels": {name: hashlib.sha256(column.tobytes()).hexdigest() for name, column in columns.items()},
    }
    source = PictureFiles([entry.item for entry in entries], policy, columns, strict=strict)
    return cache_pictures(f"folder {split}", key, lambda: source)


def _notes(cached: CachedImages, policy: ResizePolicy, split: str) -> list[str]:
    shape = f"{policy.height}×{policy.width} {'grey' if policy.channels == 1 else 'RGB'}"
    notes = [f"pictures are {'cut' if policy.fit == 'crop' else 'padded'} to {shape} about their centre"]
    if cached.num_skipped:
        notes.append(f"{cached.describe_skipped()}: left out of {split}; vaelab data check lists them")
    if cached.describe_recovered():
        notes.append(f"{split}: {cached.describe_recovered()}")
    return notes


def _describe_content(
    cached: CachedImages, entries: Sequence[Entry], policy: ResizePolicy, split: str, pages: PageChoice
) -> list[str]:
    """What the pictures of a split hold, and what is wrong with that."""
    content = cached.manifest.content
    sentences = describe_content(content, lambda row: shown(entries[row].item), counts_pages=pages == "first")
    return [
        f"{split}: {sentence}"
        for sentence in (
            *sentences,
            *find_warnings(content, policy.values == "full", policy.background),
        )
    ]


# -- the same pictures again ------------------------------------------------------------------------------------------


def reload(
    data_dir: Path | None,
    split: str,
    selections: Mapping[str, Mapping[str, Any]],
    *,
    size: Size = "auto",
    channels: Channels = "auto",
    fit: Fit = "crop",
    background: BackgroundChoice = "auto",
    range: ValueRange = "full",
    pages: PageChoice = "first",
    max_pixels: MaxPixels = MAX_PIXELS,
    train: Folders = "auto",
    valid: int | Folders = "auto",
    test: Folders = "auto",
    **others: Any,
) -> Images:
    """The pictures of an earlier ``load``, from the cache or selected again by their names; ``warnings`` say what has
    changed since.

    ``selections``: split → the ``selection`` of its images then. ImagesNotFound if pictures are gone, or are others.
    """
    known = check_selections(selections, split)
    wanted = known[split]
    is_here = data_dir is not None and data_dir.exists()
    is_same_place = data_dir is None or not is_here or str(data_dir.resolve()) == wanted.place
    place = data_dir or Path(wanted.place)
    now = _list_now(data_dir, split, _choice(train, valid, test), pages) if data_dir is not None and is_here else None
    cached = find_entry(wanted.cache_folder, wanted.sha256) if is_same_place else None
    if cached is None or len(cached) != len(wanted.names):
        wishes = Wishes(size, channels, fit, background, range, max_pixels)
        cached = _select(place, split, wanted, now, wishes)
    return Images(
        cached.pixels,
        wanted.label_column(),
        tuple(wanted.classes),
        source=wanted.place,
        warnings=tuple(describe_change(place, known, now, is_same_place=is_same_place)),
        names=[printable(name) for name in wanted.names],
        split_name=wanted.split_name,
        digest=cached.digest,
        cache_folder=cached.folder,
        selection=selections[split],
    )


def _list_now(place: Path, split: str, choice: Choice, pages: PageChoice) -> Present:
    """What is at a place, even if no run could be begun with it."""
    try:
        known = _survey(place, split, choice, pages)
        every = [*known.entries, *known.found.hidden_entries]
        used = [entry for members in known.splits.values() for entry in members]
    except (ValueError, OSError):
        every, used = [], []
        with suppress(ValueError, OSError):
            found = scan(place)
            every = [*found.entries, *found.hidden_entries]
            every = expand_pages(every) if pages == "all" else every
    return Present({entry.name: entry for entry in every}, frozenset(entry.name for entry in used))


def _select(place: Path, split: str, wanted: Selection, now: Present | None, wishes: Wishes) -> CachedImages:
    """Cache the pictures of a selection, made again from their files."""
    entries = now.select(wanted) if now else []
    gone = [name for name in wanted.names if now is None or name not in now.by_name]
    if gone:
        are = "is" if len(gone) == 1 else "are"
        raise ImagesNotFound(
            f"{len(gone):,} of the {len(wanted.names):,} pictures of the {split} split {are} not in {place} (first: "
            f"{printable(gone[0])}), and the cache has no copy; put them back, or name a folder that has them: --data"
        )
    try:
        policy = decide_resize_policy(entries, wishes).policy
        cached = _cache(place, split, entries, wanted.classes, wanted.labels, policy, strict=False)
    except UnreadablePictures as error:
        raise ImagesNotFound(f"{place}: {error}; put them back, or name a folder that has them with --data") from None
    if cached.digest != wanted.sha256:
        raise ImagesNotFound(
            f"the pictures in {place} have the names of those that were trained on, but not their content, and the "
            f"cache has no copy; put the old ones back, or name a folder that has them with --data"
        )
    return cached


def resize_policy(
    image_shape: tuple[int, int, int],
    *,
    fit: Fit = "crop",
    background: BackgroundChoice = "white",
    range: ValueRange = "full",
    max_pixels: int = MAX_PIXELS,
    **others: Any,
) -> ResizePolicy:
    """How other pictures come to the shape that a model was trained on."""
    channels, height, width = image_shape
    behind: Background = "white" if background == "auto" else background
    values: Range = "full" if isinstance(range, str) else (range[0], range[1])
    return ResizePolicy(height, width, channels, fit, behind, max_pixels=max_pixels, values=values)


# -- checking ---------------------------------------------------------------------------------------------------------


def check(folder: Path) -> Iterator[tuple[str, str]]:
    """(file, what is wrong with it) for every picture that cannot be used, and a last line about all of them."""
    found = scan(folder)
    entries = arrange(found, Choice()).entries
    policy = ResizePolicy(USUAL_SIDE, USUAL_SIDE, 3)
    with suppress(UnreadablePictures):  # then each picture is reported below
        policy = decide_resize_policy(entries, Wishes(size=USUAL_SIDE, channels="rgb")).policy
    broken, content = check_items("pictures", [entry.item for entry in entries], policy)
    for item, reason in broken:
        yield shown(item), printable(reason)
    for name, reason in found.closed:
        yield printable(name), f"cannot be opened ({reason})"
    for name in found.repeated:
        yield printable(name), "ok, left out: a link to a folder that is read already"
    read = {f"{entry.folder}/" for entry in entries}
    hidden = [name for name in found.hidden if name not in read]
    for name in hidden[:MOST_HIDDEN]:
        yield printable(name), "ok, hidden: left out"
    if len(hidden) > MOST_HIDDEN:
        yield f"{len(hidden) - MOST_HIDDEN:,} more hidden files and folders", "ok, left out"
    yield from _check_others(found)
    for sentence in describe_content(content, lambda row: shown(entries[row].item)):
        yield "content", f"ok: {sentence}"
    for sentence in find_warnings(content, policy.values == "full", policy.background):
        yield "content", f"ok, but {sentence}"
    yield f"{len(entries) - len(broken):,} of {len(entries):,} pictures", "ok"


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


def describe_layout(
    data_dir: Path,
    *,
    pages: PageChoice = "first",
    train: Folders = "auto",
    valid: int | Folders = "auto",
    test: Folders = "auto",
    **others: Any,
) -> tuple[list[str], list[str]]:
    """Sentences and warnings about the splits and classes of the pictures at ``data_dir``, as a run would have them."""
    known = survey(data_dir, _choice(train, valid, test), pages)
    return list(known.notes), list(known.warnings)
