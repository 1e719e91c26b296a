"""The shapes in which people have CelebA, read as one: where each image lies, its attributes and its partition."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.data.cache import file_signature
from vaelab.data.containers import ImageRef, open_zip
from vaelab.data.datasets._celeba_lists import (
    LISTS,
    find_lists,
    lists_inside,
    parse_attributes,
    parse_partition,
    read_list,
)
from vaelab.system.files import check_file

IMAGES = "img_align_celeba"
PLACES = ("", "celeba", "CelebA", "celeba-dataset", "celebA")
"""Where below a data root people and other programs leave it."""
SPLITS = ("train", "valid", "test")
SPLIT_WORDS = {"train": "train", "valid": "valid", "validation": "valid", "test": "test"}
"""First words in the names of parquet files, or the folders they lie in → split."""
PUBLISHED = {"train": 162_770, "valid": 19_867, "test": 19_962}
ALL = sum(PUBLISHED.values())
OTHER_COLUMNS = ("image", "image_id", "celeb_id", "identity")
"""Of parquet files: all but attributes."""
MOST_ROWS = 10_000_000
"""Of one parquet file; more are refused."""
MOST_FOLDERS = 16
"""Beside parquet files; more are somebody's pictures."""


@dataclass(frozen=True)
class Split:
    """The images of one split, in the order of their numbers."""

    items: list[ImageRef]
    attributes: NDArray[np.bool_] | None
    attribute_names: tuple[str, ...]
    missing: list[str] = field(default_factory=list)
    """Images on the lists that are not there."""
    extra: list[str] = field(default_factory=list)
    """Images that are not on the lists."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """Where the parts of a CelebA lie; finding it opens nothing large."""

    place: Path
    """What a person would call the place."""
    images: Path | None = None
    """A folder or a zip."""
    lists: Mapping[str, Path] = field(default_factory=dict)
    """Which list → its file; those inside the zip are looked for when it is read."""
    parquet: Mapping[str, list[Path]] = field(default_factory=dict)

    def file_signatures(self, split: str) -> list[Any]:
        """What tells that the images of ``split`` have changed."""
        if self.images is None:
            return [file_signature(path) for path in self.parquet.get(split, [])]
        return [file_signature(path) for path in (self.images, *sorted(self.lists.values()))]

    def read(self, split: str) -> Split:
        """The images of ``split``; ValueError where lists are damaged, contradict each other, or lack the split."""
        found = _read_parquet(self.parquet.get(split, []), split) if self.images is None else self._read_images(split)
        if not found.items and not found.missing:
            raise ValueError(f"{self.place}: no images of the {split} split here")
        return found

    def _read_images(self, split: str) -> Split:
        assert self.images is not None
        here = dict(_listing(self.images))
        texts = {which: read_list(path) for which, path in self.lists.items()}
        if self.images.is_file():
            texts = {**lists_inside(open_zip(str(self.images)), self.images), **texts}
        attributes = parse_attributes(*texts["attributes"]) if "attributes" in texts else None
        partition = parse_partition(*texts["partition"]) if "partition" in texts else None
        if attributes is not None and partition is not None and attributes[0] != list(partition):
            ours, theirs = texts["attributes"][1], texts["partition"][1]
            raise ValueError(
                f"{ours} and {theirs} do not list the same images: {len(attributes[0]):,} and {len(partition):,}"
            )
        names, numbers = _partition_of(partition, attributes, here, self.images)
        chosen = [i for i, number in enumerate(numbers) if number == SPLITS.index(split)]
        there = [i for i in chosen if names[i] in here]
        extra = sorted(here.keys() - set(names))
        return Split(
            [here[names[i]] for i in there],
            None if attributes is None else attributes[2][there],
            () if attributes is None else attributes[1],
            missing=[names[i] for i in chosen if names[i] not in here],
            extra=extra,
            notes=_notes(attributes is not None, partition is not None, len(names), extra),
        )


def _notes(has_attributes: bool, has_partition: bool, count: int, extra: list[str]) -> tuple[str, ...]:
    notes = []
    if count != ALL:
        notes.append(f"the lists name {count:,} images; CelebA as published has {ALL:,}")
    if not has_attributes:
        notes.append(f"no {LISTS['attributes']}.txt beside the images: trained without attributes")
    if not has_partition:
        notes.append(f"no {LISTS['partition']}.txt beside the images: split by the published numbers of images")
    if extra:
        notes.append(f"{len(extra):,} images are not on the lists (first: {extra[0]}): left out")
    return tuple(notes)


def _partition_of(
    partition: dict[str, int] | None, attributes: Any, here: Mapping[str, ImageRef], images: Path
) -> tuple[list[str], list[int]]:
    """Every image's name and the number of its split, in the order of the lists."""
    if partition is not None:
        return list(partition), list(partition.values())
    names = sorted(here) if attributes is None else attributes[0]
    if len(names) != ALL:
        raise ValueError(
            f"{images}: {len(names):,} images and no {LISTS['partition']}.txt; without that list all {ALL:,} must be "
            "here, since they are then split by number. Put the list beside the images"
        )
    return names, [number for number, count in enumerate(PUBLISHED.values()) for _ in range(count)]


def _listing(images: Path) -> Iterator[tuple[str, ImageRef]]:
    """(name, where it lies) of every image of a folder or a zip."""
    if images.is_dir():
        folder = str(images.resolve())
        for name in os.listdir(images):  # noqa: PTH208 (200,000 of them)
            if _is_image(name):
                yield name, (folder, name)
        return
    for info in open_zip(str(images)).infolist():
        name = info.filename.rpartition("/")[2]
        if _is_image(name) and IMAGES in f"{images.name}/{info.filename}":
            yield name, (str(images.resolve()), info.filename)


def _is_image(name: str) -> bool:
    return name.lower().endswith(".jpg") and not name.startswith(".")


# -- parquet ----------------------------------------------------------------------------------------------------------


def _read_parquet(paths: list[Path], split: str) -> Split:
    """A split from all its files, as ``train-00000-of-00003.parquet`` …; ValueError if one of them is missing."""
    items: list[ImageRef] = []
    tables: list[NDArray[np.bool_]] = []
    names: tuple[str, ...] | None = None
    for path in paths:
        promised = re.search(r"-of-0*(\d+)", path.name)
        if promised and int(promised[1]) != len(paths):
            raise ValueError(f"{path.parent}: {len(paths)} of {promised[1]} files of the {split} split; get the others")
        found, table = _read_attributes(path)
        if names is not None and found != names:
            raise ValueError(f"{path}: other attributes than the files before it; get it again")
        names = found
        items += [(str(path.resolve()), str(row)) for row in range(len(table))]
        tables.append(table)
    published, notes = PUBLISHED[split], []
    if len(items) != published:
        notes.append(f"{len(items):,} images of the {split} split; CelebA as published has {published:,}")
    if not names:
        notes.append("no columns of attributes: trained without attributes")
    return Split(items, np.concatenate(tables) if names else None, names or (), notes=tuple(notes))


def _read_attributes(path: Path) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    """Names of attributes, and one row of them for each image."""
    from pyarrow import ArrowException, parquet, types

    check_file(path)
    try:
        file = parquet.ParquetFile(path)
        columns = [
            column.name
            for column in file.schema_arrow
            if column.name not in OTHER_COLUMNS and (types.is_boolean(column.type) or types.is_integer(column.type))
        ]
        if "image" not in file.schema_arrow.names:
            raise ValueError(f"{path}: no column image in it; wanted is CelebA as the Hugging Face hub has it")
        if file.metadata.num_rows > MOST_ROWS:
            raise ValueError(f"{path}: it declares {file.metadata.num_rows:,} rows; {MOST_ROWS:,} are the limit")
        table = file.read(columns=columns)
    except (ArrowException, OSError, MemoryError, OverflowError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: damaged or cut off ({' '.join(str(error).split())}); get it again") from None
    values = {name: table.column(name) for name in columns}
    arrays = {name: np.asarray(column) for name, column in values.items() if column.null_count == 0}
    yes_or_no = [name for name in arrays if arrays[name].dtype == bool or np.isin(arrays[name], (-1, 0, 1)).all()]
    rows = [np.empty((0, file.metadata.num_rows), bool), *(arrays[name][None] > 0 for name in yes_or_no)]
    return tuple(yes_or_no), np.concatenate(rows).T


# -- finding ----------------------------------------------------------------------------------------------------------


def find_layout(root: Path) -> Layout | None:
    """The CelebA at ``root`` or in one of the usual places below it; None if there is none."""
    if root.is_file():
        return _from_zip(root)
    if root.name == IMAGES and not (root / IMAGES).exists() and _has_images(root):
        return Layout(root, root, find_lists(root.parent))
    for place in PLACES:
        base = root / place
        if not base.is_dir():
            continue
        images = next((path for path in _image_places(base) if path.is_file() or _has_images(path)), None)
        if images is not None:
            return Layout(base, images, find_lists(base))
        found = find_parquet(base)
        if found.parquet:
            return found
    return None


def _has_images(folder: Path) -> bool:
    """Whether there is an image in a folder; what a failed unpacking leaves is empty."""
    if not folder.is_dir():
        return False
    with os.scandir(folder) as inside:
        return any(_is_image(file.name) for file in inside)


def _from_zip(path: Path) -> Layout | None:
    if path.suffix.lower() != ".zip":
        return None
    is_ours = path.stem.startswith(IMAGES)
    if not is_ours:
        try:
            is_ours = any(f"{IMAGES}/" in name for name in open_zip(str(path)).namelist())
        except ValueError:
            return None
    return Layout(path, path, find_lists(path.parent)) if is_ours else None


def _image_places(base: Path) -> list[Path]:
    """Folder before zip, nested folder (as Kaggle has it) before plain."""
    folders = [base / IMAGES / IMAGES, base / IMAGES, base / "Img" / IMAGES]
    return [*folders, base / f"{IMAGES}.zip", base / "Img" / f"{IMAGES}.zip"]


def find_parquet(base: Path) -> Layout:
    """The parquet files in a folder or one below it, by split; it may have none."""
    found: dict[str, list[Path]] = {}
    with os.scandir(base) as inside:
        below = [base / entry.name for entry in inside if not entry.name.startswith(".") and entry.is_dir()]
    for folder in (base, *(sorted(below) if len(below) <= MOST_FOLDERS else ())):
        for path in sorted(folder.glob("*.parquet")):
            split = SPLIT_WORDS.get(re.split(r"[-.]", path.name)[0], SPLIT_WORDS.get(folder.name))
            if split is not None:
                found.setdefault(split, []).append(path)
    return Layout(base, parquet=found)
