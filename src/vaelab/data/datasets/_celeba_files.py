"""Find and read CelebA in its common layouts: image files next to lists, or the parquet files of the hub."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.data.cache import file_signature
from vaelab.data.containers import ImageRef, open_zip, read_entry
from vaelab.data.datasets import UnusableFile
from vaelab.system.files import NotAFile, check_file, read_bytes

IMAGES = "img_align_celeba"
LISTS = {"attributes": "list_attr_celeba", "partition": "list_eval_partition"}
SUFFIXES = (".txt", ".csv")
"""Lists of the authors, and of Kaggle."""
PLACES = ("", "celeba", "CelebA", "celeba-dataset", "celebA")
"""Folders below a data root in which people and other programs put CelebA."""
PUBLISHED = {"train": 162_770, "valid": 19_867, "test": 19_962}
NUM_IMAGES = sum(PUBLISHED.values())
SPLIT_WORDS = {"train": "train", "valid": "valid", "validation": "valid", "test": "test"}
"""First word in the name of a parquet file, or name of its folder → split."""
OTHER_COLUMNS = ("image", "image_id", "celeb_id", "identity")
"""Columns of parquet files that are no attributes."""
KNOWN_COLUMNS = {"celeb_id", "identity", "5_o_Clock_Shadow", "Smiling", "Young"}
"""Columns of which parquet files of CelebA have at least one."""
MAX_LIST_BYTES = 1 << 28
"""Size limit of a list; the list of CelebA's attributes has 27 million bytes."""
MAX_ROWS = 10_000_000
"""Limit of the rows of a parquet file."""
MAX_FOLDERS = 16
"""A folder with more subfolders is not searched for parquet files."""


@dataclass(frozen=True)
class SplitContent:
    """The images of one split, in the order of their numbers."""

    items: list[ImageRef]
    attributes: NDArray[np.bool_] | None
    attribute_names: tuple[str, ...]
    missing: list[str] = field(default_factory=list)
    """Images on the lists that do not exist."""
    extra: list[str] = field(default_factory=list)
    """Images that are not on the lists."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageFiles:
    """Images in a folder or .zip, and the lists beside them."""

    place: Path
    """The folder that the user would name."""
    images: Path
    lists: Mapping[str, Path]
    """Key of ``LISTS`` → file; lists inside the .zip are found when it is read."""

    def signature(self, _split: str) -> list[Any]:
        """Path, size and time of each file; changes if images or lists change."""
        return [file_signature(path) for path in (self.images, *sorted(self.lists.values()))]

    def read(self, split: str) -> SplitContent:
        """The images of ``split``; InputError if lists are damaged, contradict each other, or lack the split."""
        existing, texts = dict(self._list_images()), self._read_lists()
        names, attributes = sorted(existing), None
        attribute_names: tuple[str, ...] = ()
        if "attributes" in texts:
            names, attribute_names, values = _parse_list(*texts["attributes"], ("1", "-1", "0"))
            attributes = values == 1
        if "partition" in texts:
            partition_names, _, values = _parse_list(*texts["partition"], ("0", "1", "2"), columns=("partition",))
            if attributes is not None and names != partition_names:
                counts = f"{len(names):,} and {len(partition_names):,}"
                raise UnusableFile(" and ".join(where for _, where in texts.values()), f"not the same images: {counts}")
            names, numbers = partition_names, values[:, 0]
        elif len(names) == NUM_IMAGES:
            numbers = np.repeat(np.arange(len(PUBLISHED)), list(PUBLISHED.values()))
        else:
            reason = f"{len(names):,} images and no {LISTS['partition']}.txt, which is only optional if there are all"
            raise UnusableFile(self.images, f"{reason} {NUM_IMAGES:,}; put it next to the images")
        chosen = np.flatnonzero(numbers == list(PUBLISHED).index(split)).tolist()
        rows = [row for row in chosen if names[row] in existing]
        extra = sorted(existing.keys() - set(names))
        if not chosen:
            raise UnusableFile(self.place, f"no images of the {split} split")
        return SplitContent(
            [existing[names[row]] for row in rows],
            None if attributes is None else attributes[rows],
            attribute_names,
            missing=[names[row] for row in chosen if names[row] not in existing],
            extra=extra,
            notes=_describe(texts.keys(), len(names), extra),
        )

    def _list_images(self) -> Iterator[tuple[str, ImageRef]]:
        """Name and reference of every image."""
        if self.images.is_dir():
            folder = str(self.images.resolve())
            for name in os.listdir(self.images):  # noqa: PTH208 (faster for 200,000 files)
                if _is_image(name):
                    yield name, (folder, name)
            return
        for entry in open_zip(str(self.images)).namelist():
            name = entry.rpartition("/")[2]
            if _is_image(name) and IMAGES in f"{self.images.name}/{entry}":
                yield name, (str(self.images.resolve()), entry)

    def _read_lists(self) -> dict[str, tuple[str, str]]:
        """Key of ``LISTS`` → text and place of the list; a file beside the .zip comes before one inside it."""
        contents: dict[str, tuple[bytes, str]] = {}
        archive = open_zip(str(self.images)) if self.images.is_file() else None
        for key, stem in LISTS.items():
            if key in self.lists:
                contents[key] = read_bytes(self.lists[key], MAX_LIST_BYTES), str(self.lists[key])
            elif archive is not None:
                wanted = {f"{stem}{suffix}" for suffix in SUFFIXES}
                for name in [name for name in archive.namelist() if name.rpartition("/")[2] in wanted][:1]:
                    if archive.getinfo(name).file_size > MAX_LIST_BYTES:
                        raise UnusableFile(self.images, f"{name} has more than {MAX_LIST_BYTES:,} bytes")
                    contents[key] = read_entry(archive, name), f"{self.images}: {name}"
        return {key: (content.decode("utf-8-sig", "replace"), where) for key, (content, where) in contents.items()}


def _is_image(name: str) -> bool:
    return name.lower().endswith(".jpg") and not name.startswith(".")


def _describe(lists: Iterable[str], count: int, extra: list[str]) -> tuple[str, ...]:
    notes = []
    if count != NUM_IMAGES:
        notes.append(f"the lists name {count:,} images; CelebA as published has {NUM_IMAGES:,}")
    if "attributes" not in lists:
        notes.append(f"no attributes, since there is no {LISTS['attributes']}.txt next to the images")
    if "partition" not in lists:
        notes.append(f"split by the published numbers of images, since there is no {LISTS['partition']}.txt")
    if extra:
        notes.append(f"images that are not on the lists, left out: {len(extra):,} (first: {extra[0]})")
    return tuple(notes)


def _parse_list(
    text: str, where: str, valid: tuple[str, ...], columns: tuple[str, ...] = ()
) -> tuple[list[str], tuple[str, ...], NDArray[np.int8]]:
    """Names of images, names of columns and values ``[N, K]`` of a list, as its authors or as Kaggle write it.

    ``columns``: their names if the list has no header.
    """
    if text.lstrip().lower().startswith(("<!doctype", "<html")):
        raise UnusableFile(where, "a web page, most likely a notice of Google Drive, and not a list; get it again")
    rows = [line.replace(",", " ").split() for line in text.splitlines() if line.strip()]
    promised = rows.pop(0)[0] if rows and len(rows[0]) == 1 and rows[0][0].isdigit() else ""
    if rows and (promised or rows[0][0] == "image_id"):
        header = rows.pop(0)
        columns = tuple(header[0 if promised else 1 :])
    if promised and int(promised) != len(rows):
        raise UnusableFile(
            where, f"the first line states {int(promised):,} images, but {len(rows):,} follow; get it again"
        )
    if not columns:
        raise UnusableFile(where, "no line with the names of the attributes; get it again")
    allowed = set(valid)
    for row in rows:
        if len(row) != len(columns) + 1 or not allowed.issuperset(row[1:]):
            raise UnusableFile(
                where, f"the line of {row[0]} needs {len(columns)} values from {', '.join(valid)}; get it again"
            )
    values = np.array([row[1:] for row in rows]).astype(np.int8).reshape(len(rows), len(columns))
    return [row[0] for row in rows], columns, values


# -- parquet ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ParquetFiles:
    """The parquet files in a folder or one below it."""

    place: Path
    files: Mapping[str, list[Path]]
    """Split → its files, ``train-00000-of-00003.parquet`` …"""

    def signature(self, split: str) -> list[Any]:
        """Path, size and time of each file of ``split``; changes if one of them changes."""
        return [file_signature(path) for path in self.files.get(split, [])]

    def read(self, split: str) -> SplitContent:
        """The images of ``split``; InputError if files are damaged or missing."""
        items: list[ImageRef] = []
        tables: list[NDArray[np.bool_]] = []
        names: tuple[str, ...] | None = None
        paths = self.files.get(split, [])
        for path in paths:
            promised = re.search(r"-of-0*(\d+)", path.name)
            if promised and int(promised[1]) != len(paths):
                raise UnusableFile(
                    path.parent, f"{len(paths)} of {promised[1]} files of the {split} split; get the others"
                )
            found, table = _read_attributes(path)
            if names is not None and found != names:
                raise UnusableFile(path, "other attributes than in the files before it; get it again")
            names = found
            items += [(str(path.resolve()), str(row)) for row in range(len(table))]
            tables.append(table)
        if not items:
            raise UnusableFile(self.place, f"no images of the {split} split")
        notes = []
        if len(items) != PUBLISHED[split]:
            notes.append(f"{len(items):,} images of the {split} split; CelebA as published has {PUBLISHED[split]:,}")
        if not names:
            notes.append("no attributes, since the parquet files have no columns of attributes")
        return SplitContent(items, np.concatenate(tables) if names else None, names or (), notes=tuple(notes))


def _read_attributes(path: Path) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    """Names of attributes, and their values ``[N, A]``."""
    from pyarrow import ArrowException, parquet, types

    check_file(path)
    try:
        file = parquet.ParquetFile(path)
        if "image" not in file.schema_arrow.names:
            raise UnusableFile(path, "no column image, which CelebA's files on the hub have")
        if file.metadata.num_rows > MAX_ROWS:
            raise UnusableFile(path, f"{file.metadata.num_rows:,} rows declared; the limit is {MAX_ROWS:,}")
        columns = [
            column.name
            for column in file.schema_arrow
            if column.name not in OTHER_COLUMNS and (types.is_boolean(column.type) or types.is_integer(column.type))
        ]
        table = file.read(columns=columns)
    except (ArrowException, OSError, MemoryError, OverflowError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UnusableFile(path, f"damaged or cut off ({reason}); get it again") from None
    values = {name: table.column(name) for name in columns}
    arrays = {name: np.asarray(column) for name, column in values.items() if column.null_count == 0}
    names = [name for name in arrays if arrays[name].dtype == bool or np.isin(arrays[name], (-1, 0, 1)).all()]
    rows = [np.empty((0, file.metadata.num_rows), bool), *(arrays[name][None] > 0 for name in names)]
    return tuple(names), np.concatenate(rows).T


# -- finding ----------------------------------------------------------------------------------------------------------


def find_celeba(root: Path) -> ImageFiles | ParquetFiles | None:
    """The CelebA at ``root`` or in one of ``PLACES`` below it; None if there is none. Opens no large file."""
    if root.is_file():
        return ImageFiles(root, root, _find_lists(root.parent)) if _is_celeba_zip(root) else None
    if root.name == IMAGES and not (root / IMAGES).exists() and _has_images(root):
        return ImageFiles(root, root, _find_lists(root.parent))
    for base in (root / place for place in PLACES):
        if not base.is_dir():
            continue
        folders = (base / IMAGES / IMAGES, base / IMAGES, base / "Img" / IMAGES)  # Kaggle's nested folder first
        archives = (base / f"{IMAGES}.zip", base / "Img" / f"{IMAGES}.zip")
        images = next((path for path in (*folders, *archives) if path.is_file() or _has_images(path)), None)
        if images is not None:
            return ImageFiles(base, images, _find_lists(base))
        found = find_parquet(base)
        if found.files and _may_be_celeba(next(iter(found.files.values()))[0]):
            return found
    return None


def _may_be_celeba(path: Path) -> bool:
    """Whether a parquet file has a column of CelebA; True for a damaged one, since its reader names the problem."""
    from pyarrow import ArrowException, parquet

    try:
        check_file(path)
        return not KNOWN_COLUMNS.isdisjoint(parquet.read_schema(path).names)
    except (ArrowException, OSError, NotAFile):
        return True


def _has_images(folder: Path) -> bool:
    """Whether there is an image in a folder; an interrupted unpacking leaves an empty one."""
    if not folder.is_dir():
        return False
    with os.scandir(folder) as inside:
        return any(_is_image(file.name) for file in inside)


def _is_celeba_zip(path: Path) -> bool:
    if path.suffix.lower() != ".zip":
        return False
    try:
        return path.stem.startswith(IMAGES) or any(f"{IMAGES}/" in name for name in open_zip(str(path)).namelist())
    except ValueError:
        return False


def _find_lists(base: Path) -> dict[str, Path]:
    """Key of ``LISTS`` → its file in or near a folder."""
    folders = (base, base / "Anno", base / "Eval", base.parent / "Anno", base.parent / "Eval")
    found = {}
    for key, stem in LISTS.items():
        paths = (folder / f"{stem}{suffix}" for folder in folders for suffix in SUFFIXES)
        if path := next(filter(Path.is_file, paths), None):
            found[key] = path
    return found


def find_parquet(base: Path) -> ParquetFiles:
    """The parquet files in a folder or one below it, by split; there may be none."""
    found: dict[str, list[Path]] = {}
    with os.scandir(base) as inside:
        below = sorted(base / entry.name for entry in inside if not entry.name.startswith(".") and entry.is_dir())
    for folder in (base, *(below if len(below) <= MAX_FOLDERS else ())):
        for path in sorted(folder.glob("*.parquet")):
            split = SPLIT_WORDS.get(re.split(r"[-.]", path.name)[0], SPLIT_WORDS.get(folder.name))
            if split is not None:
                found.setdefault(split, []).append(path)
    return ParquetFiles(base, found)
