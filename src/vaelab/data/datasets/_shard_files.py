"""Pictures in shards: which rows or members are pictures, and the columns that belong to them.

A shard is a parquet file, an Arrow file of a Hugging Face data set that was saved on the disk, or a ``.tar`` of
WebDataset. The files of one sample in a ``.tar`` share their name up to the first dot.
"""

import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.data.containers import PICTURE_SUFFIXES, ImageRef, open_arrow
from vaelab.data.datasets import UnusableFile
from vaelab.data.datasets._folder_splits import TEST, TRAIN, VALID, role_of
from vaelab.data.scan import Entry, holds_picture
from vaelab.data.tables import columns_of
from vaelab.system.errors import InputError
from vaelab.system.files import check_file

EXTENSIONS = (".parquet", ".arrow", ".tar")
MAX_TEXT_BYTES = 1 << 20
"""Size of a text or JSON file of a sample; larger ones are refused."""
IMAGE = "image"
"""Name of the column of pictures of a .tar, unless samples have several."""


@dataclass(frozen=True)
class Shards:
    """The pictures of some shards with their columns, in the order of the shards."""

    items: list[ImageRef]
    columns: dict[str, NDArray[Any]]
    """Name → one value for each picture."""
    class_names: dict[str, tuple[str, ...]]
    """Name of a column of numbers → names of its classes."""
    image_column: str


def is_shard_place(place: Path) -> bool:
    """Return whether a place is a shard, or a folder of shards without pictures of its own."""
    if place.is_file():
        return place.suffix.lower() in EXTENSIONS
    return place.is_dir() and not holds_picture(place) and bool(find_shards(place))


def find_shards(place: Path) -> dict[str, list[Path]]:
    """Return split → its shards, by the first word of their names or of their folders; others are for training."""
    if place.is_file():
        return {TRAIN: [place]} if place.suffix.lower() in EXTENSIONS else {}
    found: dict[str, list[Path]] = {}
    folders = [place, *sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))]
    for path in sorted(path for folder in folders for path in folder.iterdir()):
        is_one = path.suffix.lower() in EXTENSIONS and path.is_file() and not path.name.startswith((".", "cache-"))
        if is_one and _may_hold_pictures(path):
            role = role_of(path.stem) or (role_of(path.parent.name) if path.parent != place else None)
            found.setdefault(role if role in (VALID, TEST) else TRAIN, []).append(path)
    return found


def _may_hold_pictures(path: Path) -> bool:
    """Return whether a file may be a shard; True for a damaged one, since its reader names the problem."""
    try:
        return path.suffix.lower() == ".tar" or bool(_find_image_columns(_open(path)[0]))
    except UnusableFile:
        return True


def read_shards(paths: Sequence[Path], images: str) -> Shards:
    """Return the pictures and columns of shards; InputError, which names the file, if they cannot be used."""
    parts = [(_read_tar if path.suffix.lower() == ".tar" else _read_arrow)(path, images) for path in paths]
    names = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
    return Shards(
        items=[item for part in parts for item in part.items],
        columns={name: np.concatenate([part.columns[name] for part in parts]) for name in names},
        class_names=parts[0].class_names,
        image_column=parts[0].image_column,
    )


def list_shards(place: Path) -> list[Entry]:
    """Return the pictures of all shards at a place; they change with the file that they are in."""
    return as_entries([item for paths in find_shards(place).values() for item in read_shards(paths, "auto").items])


def as_entries(items: Sequence[ImageRef]) -> list[Entry]:
    """Return pictures of shards with the size and the time of the file that they are in."""
    states = {container: Path(container).stat() for container in dict.fromkeys(item[0] for item in items)}
    return [Entry(item, states[item[0]].st_size, states[item[0]].st_mtime_ns) for item in items]


def _choose_images(path: Path, wanted: str, found: Sequence[str], names: Sequence[str]) -> str:
    """Return the column of pictures among those ``found``; InputError if the choice is not clear."""
    if wanted != "auto" and wanted not in found:
        reason = "no such column of images"
        message = f"{path}: data.images = {wanted}: {reason}; it has {', '.join(found) or 'none'}"
        raise InputError(message, subject="data.images", value=wanted, choices=found)
    if wanted == "auto" and len(found) != 1:
        columns = f"columns of images: {', '.join(found)}. Name one: --set data.images=COLUMN"
        what = f"several {columns}" if found else f"no column of images; its columns are {', '.join(names) or 'none'}"
        raise InputError(f"{path}: {what}", subject="data.images", choices=found)
    return found[0] if wanted == "auto" else wanted


# -- parquet and Arrow ------------------------------------------------------------------------------------------------


def _open(path: Path) -> tuple[Any, Any]:
    """Return the schema of a table and the opened file; UnusableFile if it is damaged."""
    import pyarrow
    from pyarrow import parquet

    check_file(path)
    try:
        if path.suffix.lower() == ".parquet":
            file = parquet.ParquetFile(path)
            return file.schema_arrow, file
        table = open_arrow(path)
        return table.schema, table
    except (pyarrow.ArrowException, OSError) as error:
        raise UnusableFile(path, f"not a table that can be read ({' '.join(str(error).split())})") from None


def _find_image_columns(schema: Any) -> list[str]:
    """Return the columns that hold picture files: bytes, or bytes with a path."""
    from pyarrow import types

    def holds_files(kind: Any) -> bool:
        if types.is_struct(kind):
            fields = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
            return "bytes" in fields and holds_files(fields["bytes"])
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    return [field.name for field in schema if holds_files(field.type)]


def _read_arrow(path: Path, images: str) -> Shards:
    schema, opened = _open(path)
    column = _choose_images(path, images, _find_image_columns(schema), schema.names)
    others = [field.name for field in schema if field.name not in _find_image_columns(schema)]
    table = opened.read(columns=others) if path.suffix.lower() == ".parquet" else opened.select(others)
    count = opened.metadata.num_rows if path.suffix.lower() == ".parquet" else opened.num_rows
    if not count:
        raise UnusableFile(path, "a table without rows")
    prefix = "" if column == IMAGE else f"{column}/"
    items: list[ImageRef] = [(str(path), f"{prefix}{row}") for row in range(count)]
    return Shards(items, columns_of(table), _read_class_names(schema), column)


def _read_class_names(schema: Any) -> dict[str, tuple[str, ...]]:
    """Return the names of classes that the Hugging Face library stores beside a table."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: tuple(map(str, each["names"])) for name, each in features.items() if "names" in each}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


# -- WebDataset -------------------------------------------------------------------------------------------------------


def _read_tar(path: Path, images: str) -> Shards:
    samples: dict[str, dict[str, Any]] = {}
    check_file(path)
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                folder, _, file = member.name.rpartition("/")
                stem, _, extension = file.partition(".")
                if member.isfile() and stem and extension:
                    column = _column_of(extension.lower())
                    value = member.name if _is_picture(extension) else _read_value(archive, member, extension.lower())
                    samples.setdefault(f"{folder}/{stem}", {})[column] = value
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UnusableFile(path, f"not a .tar, compressed or damaged ({error})") from None
    names = list(dict.fromkeys(name for sample in samples.values() for name in sample))
    pictures = [name for name in names if name == IMAGE or _is_picture(name)]
    column = _choose_images(path, images, pictures, names)
    kept = [sample for sample in samples.values() if column in sample]
    columns: dict[str, NDArray[Any]] = {}
    for sample in kept:
        for value in list(sample.values()):
            if isinstance(value, dict):
                sample.update({key: part for key, part in value.items() if key not in sample})
    for name in dict.fromkeys(name for sample in kept for name in sample):
        values = [sample.get(name) for sample in kept]
        if name not in pictures and all(isinstance(value, bool | int | float | str) for value in values):
            columns[name] = np.array(values)
    return Shards([(str(path), sample[column]) for sample in kept], columns, {}, column)


def _is_picture(extension: str) -> bool:
    return f".{extension.lower().rpartition('.')[2]}" in PICTURE_SUFFIXES


def _column_of(extension: str) -> str:
    """Return the name of a column: "image" for every format of a sample's only picture, "label" for its class."""
    return IMAGE if _is_picture(extension) and "." not in extension else {"cls": "label"}.get(extension, extension)


def _read_value(archive: tarfile.TarFile, member: tarfile.TarInfo, extension: str) -> Any:
    """Return the class, text or JSON of a sample; None for other content."""
    file = (
        archive.extractfile(member) if extension in ("cls", "txt", "json") and member.size <= MAX_TEXT_BYTES else None
    )
    if file is None:
        return None
    text = file.read().decode("utf-8", "replace").strip()
    if extension == "json":
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return None
    return int(text) if extension == "cls" and text.isdecimal() else text
