"""The user's own pictures in shards: parquet files, a Hugging Face data set on the disk, or a WebDataset."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from vaelab.data.cache import file_signature
from vaelab.data.containers import UnreadablePictures, printable, shown
from vaelab.data.datasets import Dataset, DatasetInfo, UnusableFile
from vaelab.data.datasets._folder_resize import (
    DEFAULT_SIDE,
    BackgroundChoice,
    Channels,
    MaxPixels,
    ResizeOptions,
    Size,
    ValueRange,
    resolve,
)
from vaelab.data.datasets._folder_splits import TEST, TRAIN, VALID
from vaelab.data.datasets._folder_tables import find_attributes, find_label_column, number_classes
from vaelab.data.datasets._shard_files import EXTENSIONS, Shards, as_entries, find_shards, is_shard_place, read_shards
from vaelab.data.datasets.arrays import HELD_OUT_SHARE, MAX_HELD_OUT
from vaelab.data.decode import Fit, ResizePolicy
from vaelab.data.images import Images, split_off
from vaelab.data.opening import MAX_PIXELS
from vaelab.data.picture_cache import PictureFiles, cache_pictures, check_items
from vaelab.system.errors import InputError
from vaelab.system.paths import data_roots

INFO = DatasetInfo(
    title="Your own images in shards",
    image_shape=None,
    splits={"train": None, "test": None},
    licence="yours",
    source="the .parquet, .arrow or .tar, or the folder of them, that --data names",
    files=("shards",),
    instructions=f"Name a file ({', '.join(EXTENSIONS)}) or a folder of such files with --data",
)


def load(
    data_dir: Path | None,
    split: str,
    *,
    images: str = "auto",
    label: str = "auto",
    valid: Annotated[int, Ge(0)] | Literal["auto"] = "auto",
    size: Size = "auto",
    channels: Channels = "auto",
    fit: Fit = "crop",
    background: BackgroundChoice = "auto",
    range: ValueRange = "full",
    max_pixels: MaxPixels = MAX_PIXELS,
    strict: bool = False,
) -> Images:
    """Load the pictures of a split, "train" or "test" (the held-out pictures), at one size through the cache.

    ``images`` is the column of pictures, found by itself if there is one. ``label`` is the column of classes. "auto"
    takes the one called label or class, or the only one whose text repeats; "" takes none. Columns of two values, 0 and
    1 or −1 and 1, are attributes. ``valid`` is the number of training images to set aside. "auto" takes the shards of
    validation, else those of test, else one image in ten, chosen by a fixed seed. The other options are those of
    ``folder``.
    """
    INFO.check_split(split)
    place = _find(data_dir)
    shards = find_shards(place)
    if TRAIN not in shards:
        raise UnusableFile(place, "no shards for training")
    held_out = next((name for name in (VALID, TEST) if name in shards), None)
    options = ResizeOptions(size, channels, fit, background, range, max_pixels)
    table = _read_table(shards, held_out, images, label)
    policy, resolved, notes = resolve(as_entries(table.splits[TRAIN].items), options)
    found = {"images": table.splits[TRAIN].image_column, "label": table.label or ""}
    given = {"images": images, "label": label}
    resolved |= {key: value for key, value in found.items() if given[key] == "auto"}

    def load_whole(name: str) -> Images:
        loaded = _load_shards(place, table, name, shards[name], policy, strict)
        return replace(loaded, notes=(*table.notes, *notes, *loaded.notes), resolved={**resolved, **loaded.resolved})

    if split == "test" and held_out:
        return replace(load_whole(held_out), split_name=held_out)
    whole = load_whole(TRAIN)
    if valid != "auto" and split == "train":
        return whole
    if held_out:
        return replace(whole, resolved={**whole.resolved, "valid": 0})
    count = max(1, min(MAX_HELD_OUT, len(whole) // HELD_OUT_SHARE)) if valid == "auto" else valid
    train, aside = split_off(whole, count)
    title = f"{count} images set aside from train"
    if split == "test":
        return replace(aside, split_name=title)
    note = f"held out: {title}, one in {HELD_OUT_SHARE}, chosen by a fixed seed (data.valid)"
    return replace(train, notes=(*whole.notes, note), resolved={**whole.resolved, "valid": count})


@dataclass(frozen=True)
class _Table:
    """The columns of all shards: classes have the same numbers in every split."""

    splits: Mapping[str, Shards]
    label: str | None
    classes: tuple[str, ...]
    labels: Mapping[str, NDArray[np.int64]]
    attribute_names: tuple[str, ...]
    attributes: Mapping[str, NDArray[np.bool_]]
    notes: tuple[str, ...]


def _read_table(shards: Mapping[str, list[Path]], held_out: str | None, images: str, label: str) -> _Table:
    splits = {name: read_shards(shards[name], images) for name in (TRAIN, held_out) if name}
    names = [name for name in splits[TRAIN].columns if all(name in part.columns for part in splits.values())]
    columns = {name: np.concatenate([part.columns[name] for part in splits.values()]) for name in names}
    first, total = shards[TRAIN][0], sum(len(part.items) for part in splits.values())
    if label not in ("auto", "") and label not in columns:
        message = f"{first}: data.label = {label}: no such column; it has {', '.join(columns) or 'none'}"
        raise InputError(message, subject="data.label", value=label, choices=columns)
    chosen = find_label_column(columns, None, total) if label == "auto" else label or None
    classes, numbers = number_classes(first, chosen, columns[chosen]) if chosen else ((), None)
    known = splits[TRAIN].class_names.get(chosen or "")
    if known and chosen and 0 <= columns[chosen].min() <= columns[chosen].max() < len(known):
        classes, numbers = tuple(map(printable, known)), columns[chosen].astype(np.int64)
    attribute_names, attributes = find_attributes({name: each for name, each in columns.items() if name != chosen})
    ends = np.cumsum([len(part.items) for part in splits.values()])[:-1]
    told = f"images: the column {splits[TRAIN].image_column}"
    told += f", {len(classes)} classes by {chosen}" if chosen else ", no classes"
    return _Table(
        splits,
        chosen,
        classes,
        {} if numbers is None else dict(zip(splits, np.split(numbers, ends), strict=True)),
        attribute_names,
        dict(zip(splits, np.split(attributes, ends), strict=True)) if attribute_names else {},
        (told,),
    )


def _load_shards(
    place: Path, table: _Table, name: str, paths: Sequence[Path], policy: ResizePolicy, strict: bool
) -> Images:
    columns = {"labels": table.labels.get(name), "attributes": table.attributes.get(name)}
    given = {key: column for key, column in columns.items() if column is not None}
    key = {
        "data": "shards",
        "files": [file_signature(path) for path in paths],
        "columns": [table.splits[name].image_column, table.label, table.classes, table.attribute_names],
        "resize": policy.as_key(),
    }
    items = table.splits[name].items
    try:
        cached = cache_pictures(f"shards {name}", key, lambda: PictureFiles(items, policy, given, strict=strict))
    except UnreadablePictures as error:
        raise UnusableFile(place, f"{name}: {error}") from None
    if strict and cached.num_skipped:
        raise UnusableFile(place, f"{name}: {cached.describe_skipped()}")
    notes = [f"{name}: {cached.describe_skipped()}; left out"] if cached.num_skipped else []
    return Images(
        cached.pixels,
        cached.columns.get("labels"),
        table.classes,
        cached.columns.get("attributes"),
        table.attribute_names,
        source=str(place.resolve()),
        notes=tuple(notes),
        names=[shown(items[row]) for row in cached.rows.tolist()],
        digest=cached.digest,
        cache_folder=cached.folder,
    )


def _find(data_dir: Path | None) -> Path:
    place = find(data_dir)
    if place is None:
        where = "" if data_dir is None else f"{data_dir}: "
        raise FileNotFoundError(f"{where}no shards of images. {INFO.instructions}")
    return place


def find(data_dir: Path | None) -> Path | None:
    """Return the file or folder of the shards; None if there is none."""
    return next((root for root in data_roots(data_dir) if is_shard_place(root)), None)


def resize_policy(image_shape: tuple[int, int, int], **options: Any) -> ResizePolicy:
    """Return the resize policy that brings other pictures to the shape of a model."""
    given = {name: options[name] for name in ResizeOptions.__dataclass_fields__ if name in options}
    return ResizeOptions(**given).as_policy(image_shape[1:], image_shape[0])


def check(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (picture, problem) for every picture that cannot be read, then the number of each split."""
    for name, paths in find_shards(folder).items():
        try:
            items = read_shards(paths, "auto").items
        except InputError as error:
            yield name, str(error)
            continue
        broken, _ = check_items("pictures", items, ResizePolicy(DEFAULT_SIDE, DEFAULT_SIDE, 3))
        for item, reason in broken:
            yield shown(item), printable(reason)
        yield f"{name}: {len(items) - len(broken):,} of {len(items):,} images", "ok"


DATASET = Dataset(INFO, load, find=find, check=check, resize_policy=resize_policy)
