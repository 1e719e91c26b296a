"""The user's own pictures: any folder or .zip of them, of any sizes."""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from vaelab.data.cache import CachedImages, find_entry
from vaelab.data.containers import UnreadablePictures, printable, read_head, shown
from vaelab.data.contents import describe_content, find_warnings
from vaelab.data.datasets import Dataset, DatasetInfo, UnusableFile
from vaelab.data.datasets._folder_index import (
    FolderIndex,
    arrange,
    describe_closed,
    expand_pages,
    index_folder,
)
from vaelab.data.datasets._folder_layout import AUTOMATIC, SplitOptions
from vaelab.data.datasets._folder_resize import (
    DEFAULT_SIDE,
    BackgroundChoice,
    Channels,
    Depth,
    MaxPixels,
    PageChoice,
    ResizeOptions,
    Size,
    ValueRange,
    resolve,
)
from vaelab.data.datasets._folder_selection import CurrentPictures, Selection, describe_change, parse_selections
from vaelab.data.datasets._folder_tables import TableOptions, find_annotations
from vaelab.data.decode import Fit, ResizePolicy
from vaelab.data.formats import HEAD_BYTES, identify
from vaelab.data.images import Images, ImagesNotFound, name_channels
from vaelab.data.opening import MAX_PIXELS
from vaelab.data.picture_cache import PictureFiles, cache_pictures, check_items
from vaelab.data.scan import Entry, Scan, digest, holds_picture, scan
from vaelab.system.errors import InputError

Folders = str | list[str]
"""Folders below the data folder, or "auto"."""

INFO = DatasetInfo(
    title="Your own images",
    image_shape=None,
    splits={"train": None, "test": None},
    licence="yours",
    source="the folder or .zip that --data names",
    files=("pictures",),
    instructions="Train on your own images with vaelab train folder --data PATH (a folder or a .zip)",
)
LENIENT = "without data.strict (--strict) they are left out"
ARRAY_SUFFIXES = (".npz", ".npy")
"""Files of the data set ``arrays``."""
FRESH_SECONDS = 2.0
"""Time for which the index made for one split also serves the other: listing 200,000 files takes a second."""
MAX_HIDDEN = 10
"""Hidden files and folders that a check names."""


def find(data_dir: Path | None) -> Path | None:
    """The given folder, if there are pictures in it."""
    is_array = data_dir is not None and data_dir.suffix.lower() in ARRAY_SUFFIXES and data_dir.is_file()
    return data_dir if data_dir is not None and not is_array and holds_picture(data_dir) else None


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
    depth: Depth = 8,
    max_pixels: MaxPixels = MAX_PIXELS,
    strict: bool = False,
    train: Folders = "auto",
    valid: Annotated[int, Ge(0)] | Folders = "auto",
    test: Folders = "auto",
    table: str = "auto",
    file_name: str = "auto",
    label: str = "auto",
) -> Images:
    """Load the pictures of a split, "train" or "test" (the held-out pictures), at one size through the cache.

    Subfolders are classes, unless a table has labels. UsageError if a folder that is named has no pictures, InputError
    if there are none to load.

    ``size`` is height and width, or one number for both; "auto" is 64, or the pictures' own size if it is smaller.
    ``channels="auto"`` is grey if all pictures of a sample are. A number takes that many channels of the files. ``fit``
    crops the longer side or pads the shorter one. ``background`` is the colour behind transparent parts; "auto" is
    white, or black if fewer pictures disappear on it. ``range`` gives the values that become black and white in
    pictures with more than 8 bits. "full" is the range of their type, and "auto" one range that suits the whole set.
    ``depth`` is the number of bits that are kept; 32 are float32. With 16 or 32, ``channels="auto"`` is the number in
    the files. ``pages="all"`` takes each page of a TIFF and each frame of an animation as a picture, and "channels" the
    pages of each TIFF as the channels of one picture. Pictures with more than ``max_pixels`` are unreadable. Unreadable
    pictures are left out; with ``strict`` they raise InputError.

    ``train``, ``valid`` and ``test`` name folders below ``data_dir``; ``valid`` is held out, else ``test``. "auto"
    finds folders named like splits (train2017, X_valid_HR). Without them one picture in ten is held out, chosen by its
    name. A number for ``valid`` means that this many training pictures will be set aside.

    ``table`` is a .csv, .tsv, .jsonl or .parquet, from the folder on, with a row for each picture. "auto" finds it in
    the folder or beside it, "" uses none. ``file_name`` is its column of file names, found by itself if "auto".
    ``label`` is its column of classes. "auto" takes the one called label or class, or the only one whose text repeats.
    Columns of two values, 0 and 1 or −1 and 1, are attributes.
    """
    INFO.check_split(split)
    if data_dir is None:
        raise InputError(f"no images are given. {INFO.instructions}", subject="data_dir")
    options = ResizeOptions(size, channels, fit, background, range, max_pixels, depth, pages)
    index = _index(data_dir, split, _split_options(train, valid, test), pages)
    if strict and index.scan.closed:
        raise UnusableFile(data_dir, f"{describe_closed(index.scan)}; {LENIENT}")
    told = find_annotations(data_dir, index.entries, index.scan.others, TableOptions(table, file_name, label))
    entries, labels, classes = index.splits[split], index.labels.get(split), index.classes
    if told.labels is not None:
        labels, classes = {entry.name: told.labels[entry.path] for entry in entries}, told.classes
    attributes = None
    if told.attributes is not None:
        attributes = {entry.name: "".join(str(int(has)) for has in told.attributes[entry.path]) for entry in entries}
    try:
        policy, resolved, resize_notes = resolve(index.entries, options)
        columns = _columns(entries, labels, attributes)
        cached = _cache(data_dir, split, entries, classes, columns, policy, strict)
        if strict and cached.num_skipped:
            raise UnusableFile(data_dir, f"{split} split: {cached.describe_skipped()}; {LENIENT}")
    except UnreadablePictures as error:
        remedy = LENIENT if strict else "remove these files"
        raise UnusableFile(data_dir, f"{split} split: {error}; {remedy}") from None
    used = [entries[row] for row in cached.rows.tolist()]
    selection = Selection(
        place=str(data_dir.resolve()),
        cache_folder=cached.folder.name,
        sha256=cached.digest,
        files=digest(used),
        names=[entry.name for entry in used],
        left_out=sorted({entry.name for entry in entries} - {entry.name for entry in used}),
        classes=list(classes),
        labels=None if labels is None else dict(labels),
        split_name=index.split_name if split == "test" else "",
        attribute_names=list(told.attribute_names),
        attributes=attributes,
    )
    given = {"train": train, "valid": valid, "test": test, "table": table, "file_name": file_name, "label": label}
    found = {"train": "", "valid": 0, "test": "", **index.resolved, **told.resolved}  # "" and 0: none was found
    return Images(
        cached.pixels,
        cached.columns.get("labels"),
        classes,
        cached.columns.get("attributes"),
        told.attribute_names,
        source=selection.place,
        notes=(*index.notes, *told.notes, *resize_notes, *_describe(cached, entries, policy, split, pages)),
        warnings=(*index.warnings, *told.warnings),
        names=[shown(entry.item) for entry in used],
        split_name=selection.split_name,
        digest=cached.digest,
        cache_folder=cached.folder,
        resolved={**resolved, **{key: value for key, value in found.items() if given[key] == "auto"}},
        selection=asdict(selection),
    )


def _split_options(train: Folders = "auto", valid: int | Folders = "auto", test: Folders = "auto") -> SplitOptions:
    def folders(value: int | Folders) -> tuple[str, ...]:
        values = [] if isinstance(value, int) else [value] if isinstance(value, str) else value
        return tuple(name for name in values if name not in ("", "auto"))

    return SplitOptions(folders(train), folders(valid), folders(test), valid if isinstance(valid, int) else 0)


_last_index: dict[tuple[Path, SplitOptions, PageChoice], tuple[str, float, FolderIndex]] = {}
"""The last index, with its split and time, until the other split uses it."""


def _index(place: Path, split: str, options: SplitOptions, pages: PageChoice) -> FolderIndex:
    key = (place.resolve(), options, pages)
    last = _last_index.pop(key, None)
    if last and last[0] != split and time.monotonic() - last[1] < FRESH_SECONDS:
        return last[2]
    index = index_folder(place, options, pages)
    _last_index.clear()
    _last_index[key] = split, time.monotonic(), index
    return index


def _columns(
    entries: Sequence[Entry], labels: Mapping[str, int] | None, attributes: Mapping[str, str] | None
) -> dict[str, NDArray[Any]]:
    """The labels of pictures, by name or folder, and their attributes."""
    columns: dict[str, NDArray[Any]] = {}
    if labels is not None:
        numbers = [labels[entry.name if entry.name in labels else entry.folder] for entry in entries]
        columns["labels"] = np.array(numbers, np.int64)
    if attributes is not None:
        columns["attributes"] = np.array([[digit == "1" for digit in attributes[e.name]] for e in entries], bool)
    return columns


def _cache(
    place: Path,
    split: str,
    entries: list[Entry],
    classes: Sequence[str],
    columns: Mapping[str, NDArray[Any]],
    policy: ResizePolicy,
    strict: bool,
) -> CachedImages:
    key = {
        "data": "folder",
        "place": str(place.resolve()),
        "files": digest(entries),
        "resize": policy.as_key(),
        "classes": list(classes) if columns else [],
        "labels": {name: hashlib.sha256(column.tobytes()).hexdigest() for name, column in columns.items()},
    }
    source = PictureFiles([entry.item for entry in entries], policy, columns, strict=strict)
    return cache_pictures(f"folder {split}", key, lambda: source)


def _describe(
    cached: CachedImages, entries: Sequence[Entry], policy: ResizePolicy, split: str, pages: PageChoice
) -> list[str]:
    """Notes about the size and the content of a split, pictures that were left out, and doubtful properties."""
    shape = f"{policy.height}×{policy.width} {name_channels(policy.channels)}"
    notes = [f"images are {'cropped' if policy.fit == 'crop' else 'padded'} to {shape} about their centre"]
    if cached.num_skipped:
        notes.append(f"{split}: {cached.describe_skipped()}; left out; vaelab data check lists them")
    if cached.num_recovered:
        notes.append(f"{split}: {cached.describe_recovered()}")
    content = describe_content(
        cached.manifest.content, lambda row: shown(entries[row].item), counts_pages=pages == "first"
    )
    doubts = find_warnings(cached.manifest.content, policy.values == "full", policy.background)
    return [*notes, *(f"{split}: {sentence}" for sentence in (*content, *doubts))]


# -- the same pictures again ------------------------------------------------------------------------------------------


def reload(data_dir: Path | None, split: str, selections: Mapping[str, Mapping[str, Any]], **options: Any) -> Images:
    """Load the pictures of an earlier ``load``, from the cache or from their files, found by name.

    ``selections``: split → ``Images.selection`` of that load; ``options``: its options. ``warnings`` of the images say
    what has changed since. Raises OtherImages if pictures are missing or have another content.
    """
    recorded = parse_selections(selections, split)
    wanted, place = recorded[split], data_dir or Path(recorded[split].place)
    is_here = data_dir is not None and data_dir.exists()
    is_same_place = not is_here or str(place.resolve()) == wanted.place
    now = _list_current(place, split, options) if is_here else None
    cached = find_entry(wanted.cache_folder, wanted.sha256) if is_same_place else None
    if cached is None or len(cached) != len(wanted.names):
        cached = _select(place, split, wanted, now, options)
    return Images(
        cached.pixels,
        wanted.label_column(),
        tuple(wanted.classes),
        wanted.attribute_column(),
        tuple(wanted.attribute_names),
        source=wanted.place,
        warnings=tuple(describe_change(place, recorded, now, is_same_place=is_same_place)),
        names=[printable(name) for name in wanted.names],
        split_name=wanted.split_name,
        digest=cached.digest,
        cache_folder=cached.folder,
        selection=selections[split],
    )


def _list_current(place: Path, split: str, options: Mapping[str, Any]) -> CurrentPictures:
    """The pictures at a place, even if no new run could begin with them."""
    pages, used = options.get("pages", "first"), list[Entry]()
    try:
        index = _index(place, split, _split_options(**_pick(options, SPLITS)), pages)
        entries = [*index.entries, *index.scan.hidden_entries]
        used = [entry for members in index.splits.values() for entry in members]
    except (ValueError, OSError):
        entries = []
        with suppress(ValueError, OSError):
            found = scan(place)
            entries = [*found.entries, *found.hidden_entries]
            entries = expand_pages(entries) if pages == "all" else entries
    return CurrentPictures({entry.name: entry for entry in entries}, frozenset(entry.name for entry in used))


def _select(
    place: Path, split: str, wanted: Selection, now: CurrentPictures | None, options: Mapping[str, Any]
) -> CachedImages:
    """The pictures of a selection, decoded again from their files."""
    advice = "put them back, or name a folder that has them: --data"
    entries = now.select(wanted) if now else []
    missing = [name for name in wanted.names if now is None or name not in now.by_name]
    if missing:
        raise ImagesNotFound(
            f"missing in {place}: {len(missing):,} of the {len(wanted.names):,} images of the {split} split (first: "
            f"{printable(missing[0])}), and the cache has no copy; {advice}"
        )
    try:
        policy, _, _ = resolve(entries, ResizeOptions(**_pick(options, RESIZE)))
        columns = _columns(entries, wanted.labels, wanted.attributes)
        cached = _cache(place, split, entries, wanted.classes, columns, policy, strict=False)
    except UnreadablePictures as error:
        raise ImagesNotFound(f"{place}: {error}; {advice}") from None
    if cached.digest != wanted.sha256:
        raise ImagesNotFound(
            f"the images in {place} have another content than those of the run, and the cache has no copy; {advice}"
        )
    return cached


SPLITS = ("train", "valid", "test")
TABLES = tuple(field.name for field in fields(TableOptions))
RESIZE = tuple(field.name for field in fields(ResizeOptions))


def _pick(options: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}


def resize_policy(image_shape: tuple[int, int, int], **options: Any) -> ResizePolicy:
    """The resize policy that brings other pictures to the shape of a model."""
    channels, height, width = image_shape
    return ResizeOptions(**_pick(options, RESIZE)).as_policy((height, width), channels)


# -- checking ---------------------------------------------------------------------------------------------------------


def check(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (file, problem) for every picture that cannot be used, then facts about the rest."""
    found = scan(folder)
    entries = arrange(found, AUTOMATIC).entries
    policy = ResizePolicy(DEFAULT_SIDE, DEFAULT_SIDE, 3)
    with suppress(UnreadablePictures):  # then each picture is reported below
        policy, _, _ = resolve(entries, ResizeOptions(size=DEFAULT_SIDE, channels="rgb"))
    broken, content = check_items("pictures", [entry.item for entry in entries], policy)
    for item, reason in broken:
        yield shown(item), printable(reason)
    for name, reason in found.closed:
        yield printable(name), f"cannot be opened ({reason})"
    for name in found.repeated:
        yield printable(name), "ok, left out: a link to a folder that is read already"
    used = {f"{entry.folder}/" for entry in entries}
    hidden = [name for name in found.hidden if name not in used]
    for name in hidden[:MAX_HIDDEN]:
        yield printable(name), "ok, hidden: left out"
    if len(hidden) > MAX_HIDDEN:
        yield f"{len(hidden) - MAX_HIDDEN:,} more hidden files and folders", "ok, left out"
    yield from _check_others(found)
    for sentence in describe_content(content, lambda row: shown(entries[row].item)):
        yield "content", f"ok: {sentence}"
    for sentence in find_warnings(content, policy.values == "full", policy.background):
        yield "content", f"ok, but {sentence}"
    yield f"{len(entries) - len(broken):,} of {len(entries):,} images", "ok"


def _check_others(found: Scan) -> Iterator[tuple[str, str]]:
    """Count the files without a picture's extension; those whose first bytes are a picture's should be renamed."""
    kinds: dict[str, Counter[str]] = {}
    for name in found.others:
        kind = identify(read_head((str(found.root), name), HEAD_BYTES)) or ""
        kinds.setdefault(PurePosixPath(name).suffix, Counter())[kind] += 1
    for suffix, counts in sorted(kinds.items(), key=lambda pair: -pair[1].total()):
        where = f"with {printable(suffix)}" if suffix else "without an extension"
        for kind, count in sorted(counts.items(), key=lambda pair: (pair[0] != "", -pair[1])):
            if kind:
                advice = (
                    f"left out: rename them to an extension of {kind}, such as {EXTENSIONS.get(kind, kind.lower())}"
                )
                yield f"{kind} images {where} ({count:,})", advice
            else:
                yield f"files {where} ({count:,})", "ok, left out: not the extension of an image"


EXTENSIONS = {"JPEG": "jpg", "TIFF": "tif", "PNM": "pgm", "JPEG 2000": "jp2"}
"""Format → usual file extension, where it is not the format's name."""


def describe_layout(data_dir: Path, **options: Any) -> tuple[list[str], list[str]]:
    """Notes and warnings about the splits and classes that a run would use."""
    split_options = _split_options(**_pick(options, SPLITS))
    index = index_folder(data_dir, split_options, options.get("pages", "first"))
    told = find_annotations(data_dir, index.entries, index.scan.others, TableOptions(**_pick(options, TABLES)))
    return [*index.notes, *told.notes], [*index.warnings, *told.warnings]


DATASET = Dataset(
    INFO,
    load,
    find,
    check=check,
    resize_policy=resize_policy,
    expand_pages=expand_pages,
    describe_layout=describe_layout,
    reload=reload,
)
