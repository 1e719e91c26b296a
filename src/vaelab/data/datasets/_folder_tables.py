"""Labels and attributes of a user's pictures from a table in their folder or beside it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.data.containers import printable
from vaelab.data.scan import Entry
from vaelab.data.tables import TABLE_SUFFIXES, read_table
from vaelab.system.errors import InputError
from vaelab.system.messages import count_of

NAMES = ("metadata", "labels", "annotations", "attributes")
"""Names of tables beside a folder that are looked for; in the folder itself any name does."""
LABEL_COLUMNS = ("label", "labels", "class", "category", "target", "species", "diagnosis")
NEEDED_SHARE = 0.5
"""A table that is found belongs to the pictures if one of its columns names at least this share of them."""
MAX_NAMED = 3


@dataclass(frozen=True)
class TableOptions:
    """Options of the data set: which table, and which of its columns."""

    table: str = "auto"
    """Path, from the folder of the pictures on; "auto" finds one, "" uses none."""
    file_name: str = "auto"
    label: str = "auto"


@dataclass(frozen=True)
class Annotations:
    """Labels and attributes of pictures, by their paths."""

    classes: tuple[str, ...] = ()
    labels: Mapping[str, int] | None = None
    attribute_names: tuple[str, ...] = ()
    attributes: Mapping[str, Sequence[bool]] | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    resolved: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(("table", "file_name", "label"), ""))
    """Values of the options, without "auto"."""


NO_ANNOTATIONS = Annotations()


def find_annotations(
    place: Path, entries: Sequence[Entry], others: Sequence[str], options: TableOptions
) -> Annotations:
    """Return the annotations of pictures; none if there is no table of them.

    ``others``: names of files in the folder that are no pictures. A table that "auto" finds and that does not cover all
    pictures is left out with a warning. A table that the user names raises InputError.
    """
    if options.table == "":
        return NO_ANNOTATIONS
    if options.table != "auto":
        path = place / options.table if place.is_dir() else place.parent / options.table
        if not path.exists():
            raise InputError(f"{path}: no such table (data.table)", subject="data.table", value=options.table)
        return _read(path, options.table, entries, options)
    base = place if place.is_dir() else place.parent
    for path in _candidates(place, others):
        try:
            columns = read_table(path)
        except InputError as error:
            return Annotations(warnings=(f"left out: {printable(str(error))}",))
        if _find_file_column(columns, entries)[1] >= NEEDED_SHARE * len(entries):
            try:
                return _read(path, os.path.relpath(path, base), entries, options)
            except InputError as error:
                return Annotations(warnings=(f"labels are left out: {printable(str(error))}",))
    return NO_ANNOTATIONS


def _candidates(place: Path, others: Sequence[str]) -> list[Path]:
    """Return tables in a folder, then those beside it or beside a .zip."""
    inside = [place / name for name in sorted(others) if "/" not in name] if place.is_dir() else []
    stems = (place.name if place.is_dir() else place.stem, *NAMES)
    beside = [place.parent / f"{stem}{suffix}" for stem in stems for suffix in TABLE_SUFFIXES]
    return [path for path in (*inside, *beside) if path.suffix.lower() in TABLE_SUFFIXES and path.is_file()]


def _read(path: Path, table: str, entries: Sequence[Entry], options: TableOptions) -> Annotations:
    """Return the annotations in a table; ``table`` is its path as the option gives it."""
    columns = read_table(path)
    for key, name in (("data.file_name", options.file_name), ("data.label", options.label)):
        if name not in ("auto", "") and name not in columns:
            raise InputError(
                f"{path}: {key} = {name}: no such column; it has {', '.join(columns)}",
                subject=key, value=name, choices=columns,
            )  # fmt: skip
    is_named = options.file_name not in ("auto", "")
    name_column = options.file_name if is_named else _find_file_column(columns, entries)[0]
    if name_column is None:
        raise InputError(
            f"{path}: no column names the images; it has {', '.join(columns)}", subject=path, choices=columns
        )
    rows, missing = _match_rows(columns[name_column], entries)
    paths = {entry.path for entry in entries}
    if unnamed := sorted(paths - rows.keys()):
        raise InputError(
            f"{path}: no row for {len(unnamed):,} of {len(paths):,} images ({_list_some(unnamed)})", subject=path
        )
    chosen = sorted(paths)
    order = np.array([rows[picture] for picture in chosen])
    label = find_label_column(columns, name_column, len(chosen)) if options.label == "auto" else options.label or None
    found = {name: column[order] for name, column in columns.items() if name != name_column}
    classes, labels = number_classes(path, label, found[label]) if label is not None else ((), None)
    names, attributes = find_attributes({name: column for name, column in found.items() if name != label})
    told = f"table {printable(path.name)}: images by {name_column}"
    told += f", {len(classes)} classes by {label}" if label is not None else ", no classes"
    told += f", attributes {', '.join(names[:MAX_NAMED])}{' …' if len(names) > MAX_NAMED else ''}" if names else ""
    warnings = [f"{path}: {count_of(len(missing), 'row')} without an image ({_list_some(missing)})"]
    return Annotations(
        classes=classes,
        labels=None if labels is None else dict(zip(chosen, labels.tolist(), strict=True)),
        attribute_names=names,
        attributes=dict(zip(chosen, attributes.tolist(), strict=True)) if names else None,
        notes=(told,),
        warnings=tuple(warnings) if missing else (),
        resolved={"table": table, "file_name": name_column, "label": label or ""},
    )


def _list_some(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:MAX_NAMED])
    return f"first: {shown}{', …' if len(names) > MAX_NAMED else ''}"


# -- columns ----------------------------------------------------------------------------------------------------------


def _find_file_column(columns: Mapping[str, NDArray[Any]], entries: Sequence[Entry]) -> tuple[str | None, int]:
    """Return the column that names the most pictures, and how many; None if no column names any."""
    counts = {
        name: len(_match_rows(column, entries)[0]) for name, column in columns.items() if column.dtype.kind != "f"
    }
    best = max(counts, key=lambda name: counts[name], default=None)
    return (best, counts[best]) if best is not None and counts[best] else (None, 0)


def _match_rows(column: NDArray[Any], entries: Sequence[Entry]) -> tuple[dict[str, int], list[str]]:
    """Return path of a picture → its row, and the names of pictures that are not there.

    A row names a picture by its path, the end of its path, its file name or its file name without extension, if only
    one picture has it.
    """
    known = _paths_by_name(entries)
    rows, missing = dict[str, int](), list[str]()
    for row, value in enumerate(column.tolist()):
        name = str(value).replace("\\", "/").removeprefix("./")
        path = known.get(name) or known.get(name.rpartition("/")[2])
        if path is None:
            missing.append(name)
        else:
            rows.setdefault(path, row)
    return rows, missing


def _paths_by_name(entries: Sequence[Entry]) -> dict[str, str]:
    paths = sorted({entry.path for entry in entries})
    short: dict[str, set[str]] = {}
    for path in paths:
        file = path.rpartition("/")[2]
        stem = file.rpartition(".")[0]
        for name in {file, stem, str(int(stem)) if stem.isdecimal() else stem}:  # a table may hold 1 for 0001.png
            short.setdefault(name, set()).add(path)
    return {**{name: next(iter(found)) for name, found in short.items() if len(found) == 1}, **{p: p for p in paths}}


def find_label_column(columns: Mapping[str, NDArray[Any]], name_column: str | None, count: int) -> str | None:
    """Return the column of classes: one with a usual name, else the only one with several repeated values."""
    others = {name: column for name, column in columns.items() if name != name_column and column.dtype.kind in "iuU"}
    usual = [name for name in others if name.lower() in LABEL_COLUMNS]
    if usual:
        return usual[0]
    text = [name for name, column in others.items() if column.dtype.kind == "U" and _repeats(column, count)]
    return text[0] if len(text) == 1 else None


def _repeats(column: NDArray[Any], count: int) -> bool:
    return 1 < len(np.unique(column)) <= max(2, count // 2)


def number_classes(path: Path, name: str, column: NDArray[Any]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the names of the classes in a column, and the class of each row; InputError if it has no classes."""
    if column.dtype.kind == "f" or (column.dtype.kind == "U" and (column == "").any()):
        what = "some are missing" if column.dtype.kind == "U" or not np.isfinite(column).all() else "they are fractions"
        raise InputError(f"{path}: column {name} cannot be classes: {what}", subject="data.label", value=name)
    classes, numbers = np.unique(column, return_inverse=True)
    return tuple(printable(str(value)) for value in classes.tolist()), numbers.astype(np.int64)


def find_attributes(columns: Mapping[str, NDArray[Any]]) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    """Return the columns of true or false, 0 or 1, −1 or 1 as attributes ``[N, A]``, and their names."""
    found = {
        printable(name): column > 0
        for name, column in columns.items()
        if column.dtype.kind in "biu" and len(np.unique(column)) == 2 and np.isin(column, (-1, 0, 1)).all()
    }
    values = np.stack(list(found.values()), 1) if found else np.empty((0, 0), bool)
    return tuple(found), values.astype(bool)
