"""The shapes in which people have CelebA, read as one: where each image lies, its attributes and its partition."""

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.decoding import Item, open_zip
from vaelab.packing import stamp

IMAGES = "img_align_celeba"
LISTS = {"attributes": "list_attr_celeba", "partition": "list_eval_partition"}
PLACES = ("", "celeba", "CelebA", "celeba-dataset", "celebA")
"""Where below a data root people and other programs leave it."""
SPLITS = ("train", "valid", "test")
SPLIT_WORDS = {"train": ("train",), "valid": ("valid", "validation"), "test": ("test",)}
"""As they begin the names of parquet files."""
PUBLISHED = {"train": 162_770, "valid": 19_867, "test": 19_962}
ALL = sum(PUBLISHED.values())
OTHER_COLUMNS = ("image", "image_id", "celeb_id", "identity")
"""Of parquet files and .csv lists: all but attributes."""


@dataclass(frozen=True)
class Split:
    """The images of one split, in the order of their numbers."""

    items: list[Item]
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

    def stamp(self, split: str) -> list[Any]:
        """What tells that the images of ``split`` have changed."""
        if self.images is None:
            return [stamp(path) for path in self.parquet.get(split, [])]
        return [stamp(path) for path in (self.images, *sorted(self.lists.values()))]

    def read(self, split: str) -> Split:
        """The images of ``split``; ValueError where lists are damaged, contradict each other, or lack the split."""
        found = self._read_parquet(split) if self.images is None else self._read_images(split)
        if not found.items and not found.missing:
            raise ValueError(f"{self.place}: no images of the {split} split here")
        return found

    # -- parquet --

    def _read_parquet(self, split: str) -> Split:
        from pyarrow import ArrowException, parquet

        items: list[Item] = []
        columns: list[NDArray[np.bool_]] = []
        names: tuple[str, ...] = ()
        for path in self.parquet.get(split, []):
            try:
                file = parquet.ParquetFile(path)
                schema = file.schema_arrow
                names = tuple(f.name for f in schema if f.name not in OTHER_COLUMNS and _is_attribute(f.type))
                if "image" not in schema.names:
                    raise ValueError(f"{path}: no column image in it; wanted is CelebA as the Hugging Face hub has it")
                table = file.read(columns=list(names))
            except (ArrowException, OSError) as error:
                raise ValueError(f"{path}: damaged or cut off ({' '.join(str(error).split())}); get it again") from None
            items += [(str(path.resolve()), str(row)) for row in range(table.num_rows)]
            columns.append(
                np.stack([np.asarray(table.column(name)) > 0 for name in names], axis=1)
                if names
                else np.empty((table.num_rows, 0), bool)
            )
        attributes = np.concatenate(columns) if names else None
        return Split(items, attributes, names)

    # -- images and lists --

    def _read_images(self, split: str) -> Split:
        assert self.images is not None
        here = dict(_listing(self.images))
        texts = {which: _text(path) for which, path in self.lists.items()}
        if self.images.suffix.lower() == ".zip":
            texts = {**_texts_inside(self.images), **texts}
        attributes = _parse_attributes(*texts["attributes"]) if "attributes" in texts else None
        partition = _parse_partition(*texts["partition"]) if "partition" in texts else None
        if attributes is not None and partition is not None and attributes[0] != list(partition):
            ours, theirs = texts["attributes"][1], texts["partition"][1]
            raise ValueError(
                f"{ours} and {theirs} do not list the same images: {len(attributes[0]):,} and {len(partition):,}"
            )
        names, numbers = _partition_of(partition, attributes, here, self.images)
        chosen = [i for i, number in enumerate(numbers) if number == SPLITS.index(split)]
        there = [i for i in chosen if names[i] in here]
        table = None if attributes is None else attributes[2][there]
        return Split(
            [here[names[i]] for i in there],
            table,
            () if attributes is None else attributes[1],
            missing=[names[i] for i in chosen if names[i] not in here],
            extra=sorted(here.keys() - set(names)),
            notes=_notes(attributes is not None, partition is not None, len(names)),
        )


def _notes(has_attributes: bool, has_partition: bool, count: int) -> tuple[str, ...]:
    notes = []
    if count != ALL:
        notes.append(f"the lists name {count:,} images; CelebA as published has {ALL:,}")
    if not has_attributes:
        notes.append(f"no {LISTS['attributes']}.txt beside the images: trained without attributes")
    if not has_partition:
        notes.append(f"no {LISTS['partition']}.txt beside the images: split by the published numbers of images")
    return tuple(notes)


def _partition_of(
    partition: dict[str, int] | None, attributes: Any, here: Mapping[str, Item], images: Path
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


def _listing(images: Path) -> Iterator[tuple[str, Item]]:
    """(name, where it lies) of every image of a folder or a zip."""
    if images.is_dir():
        folder = str(images.resolve())
        for file in images.iterdir():
            if file.suffix.lower() == ".jpg" and not file.name.startswith("."):
                yield file.name, (folder, file.name)
        return
    for info in open_zip(str(images)).infolist():
        name = info.filename.rpartition("/")[2]
        if name.lower().endswith(".jpg") and not name.startswith(".") and IMAGES in f"{images.name}/{info.filename}":
            yield name, (str(images.resolve()), info.filename)


def _is_attribute(kind: Any) -> bool:
    """Whether a parquet column's type holds yes and no, or 1 and −1."""
    from pyarrow import types

    return bool(types.is_boolean(kind) or types.is_integer(kind))


# -- lists ------------------------------------------------------------------------------------------------------------


def _text(path: Path) -> tuple[str, str]:
    """(content, name) of a list."""
    return path.read_text(encoding="utf-8", errors="replace"), str(path)


def _texts_inside(images: Path) -> dict[str, tuple[str, str]]:
    """The lists that lie in the zip itself, as in Kaggle's archive."""
    opened, found = open_zip(str(images)), {}
    for which, stem in LISTS.items():
        for name in opened.namelist():
            if name.rpartition("/")[2] in (f"{stem}.csv", f"{stem}.txt"):
                found[which] = (opened.read(name).decode("utf-8", "replace"), f"{images}: {name}")
    return found


def _rows(text: str, where: str) -> tuple[list[str] | None, list[list[str]]]:
    """(header or None, rows of words) of a list, in the authors' form or as .csv."""
    if text.lstrip().lower().startswith(("<!doctype", "<html")):
        raise ValueError(f"{where} is a web page and no list; most likely a notice of Google Drive: get it again")
    lines = [line.replace(",", " ").split() for line in io.StringIO(text) if line.strip()]
    if lines and len(lines[0]) == 1 and lines[0][0].isdigit():
        promised, lines = int(lines[0][0]), lines[1:]
        if len(lines) - 1 != promised:
            raise ValueError(f"{where}: its first line promises {promised:,} images and it lists {len(lines) - 1:,}")
        return lines[0], lines[1:]
    if lines and lines[0][0] == "image_id":
        return lines[0][1:], lines[1:]
    return None, lines


def _parse_attributes(text: str, where: str) -> tuple[list[str], tuple[str, ...], NDArray[np.bool_]]:
    """(names of images, names of attributes, table) of ``list_attr_celeba``, whose values are 1 and −1."""
    header, rows = _rows(text, where)
    if header is None:
        raise ValueError(f"{where}: no line with the names of the attributes")
    wrong = next((i for i, row in enumerate(rows) if len(row) != len(header) + 1), None)
    if wrong is not None:
        name = rows[wrong][0]
        raise ValueError(f"{where}: {len(rows[wrong]) - 1} values for {name}, {len(header)} attributes; get it again")
    values = np.array([row[1:] for row in rows]) if rows else np.empty((0, len(header)), str)
    if not np.isin(values, ("1", "-1", "0")).all():
        raise ValueError(f"{where}: values other than 1 and -1")
    return [row[0] for row in rows], tuple(header), values == "1"


def _parse_partition(text: str, where: str) -> dict[str, int]:
    """Image → 0, 1 or 2 of ``list_eval_partition``."""
    _, rows = _rows(text, where)
    for row in rows:
        if len(row) != 2 or row[1] not in ("0", "1", "2"):
            raise ValueError(f"{where}: {' '.join(row)!r} is no image with its partition 0, 1 or 2; get it again")
    return {row[0]: int(row[1]) for row in rows}


# -- finding ----------------------------------------------------------------------------------------------------------


def find_layout(root: Path) -> Layout | None:
    """The CelebA at ``root`` or in one of the usual places below it; None if there is none."""
    if root.is_file():
        return _from_zip(root)
    if root.name == IMAGES and not (root / IMAGES).exists() and any(root.glob("*.jpg")):
        return Layout(root, root, _lists(root.parent))
    for place in PLACES:
        base = root / place
        if not base.is_dir():
            continue
        for images in _image_places(base):
            if images.is_dir() or images.is_file():
                return Layout(base, images, _lists(base))
        parquet = _parquet(base)
        if parquet:
            return Layout(base, parquet=parquet)
    return None


def _from_zip(path: Path) -> Layout | None:
    if path.suffix.lower() != ".zip":
        return None
    is_ours = path.stem.startswith(IMAGES)
    if not is_ours:
        try:
            is_ours = any(f"{IMAGES}/" in name for name in open_zip(str(path)).namelist())
        except ValueError:
            return None
    return Layout(path, path, _lists(path.parent)) if is_ours else None


def _image_places(base: Path) -> list[Path]:
    """Folder before zip, nested folder (as Kaggle has it) before plain."""
    folders = [base / IMAGES / IMAGES, base / IMAGES, base / "Img" / IMAGES]
    return [*folders, base / f"{IMAGES}.zip", base / "Img" / f"{IMAGES}.zip"]


def _lists(base: Path) -> dict[str, Path]:
    found = {}
    for which, stem in LISTS.items():
        for folder in (base, base / "Anno", base / "Eval", base.parent / "Anno", base.parent / "Eval"):
            for suffix in (".txt", ".csv"):
                if which not in found and (folder / f"{stem}{suffix}").is_file():
                    found[which] = folder / f"{stem}{suffix}"
    return found


def _parquet(base: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    folders = [base, *sorted(path for path in base.iterdir() if path.is_dir() and not path.name.startswith("."))]
    for path in sorted(path for folder in folders for path in folder.glob("*.parquet")):
        word = re.split(r"[-.]", path.name)[0]
        for split, words in SPLIT_WORDS.items():
            if word in words:
                found.setdefault(split, []).append(path)
    return found
