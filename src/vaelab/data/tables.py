"""Reads tables: ``.csv``, ``.tsv``, ``.jsonl`` and ``.parquet`` files as columns. Nothing in them is executed."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.system.errors import InputError
from vaelab.system.files import check_file

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
MAX_BYTES = 1 << 30
"""Larger tables are refused, because they are read into memory."""


def read_table(path: Path) -> dict[str, NDArray[Any]]:
    """Return column → values: whole or floating-point numbers, true or false, or text; other columns are left out.

    A missing value is NaN in a column of numbers, and empty text elsewhere. Raises InputError, which names the file,
    for a table that is damaged, too large or without rows.
    """
    import pyarrow
    from pyarrow import csv, json, parquet

    if check_file(path).st_size > MAX_BYTES:
        raise InputError(f"{path}: a table of more than {MAX_BYTES >> 30} GB", subject=path)
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            table = parquet.read_table(path)
        elif suffix == ".jsonl":
            table = json.read_json(path)
        else:
            table = csv.read_csv(path, parse_options=csv.ParseOptions(delimiter="\t" if suffix == ".tsv" else ","))
        columns = columns_of(table)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a table that can be read ({reason})", subject=path) from None
    if not table.num_rows:
        raise InputError(f"{path}: a table without rows", subject=path)
    return columns


def columns_of(table: Any) -> dict[str, NDArray[Any]]:
    """Return the columns of a table of pyarrow as ``read_table`` does."""
    import pyarrow

    columns = {name: _as_array(table.column(name), pyarrow) for name in table.column_names}
    return {name: column for name, column in columns.items() if column is not None}


def _as_array(column: Any, pyarrow: Any) -> NDArray[Any] | None:
    """Return a column as an array; None for dates, lists, bytes and other types."""
    types, kind = pyarrow.types, column.type
    if types.is_boolean(kind) and not column.null_count:
        return np.asarray(column.to_numpy())
    if types.is_integer(kind) or types.is_floating(kind):
        return np.asarray(column.to_numpy())
    if types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind) or types.is_boolean(kind):
        return np.array(["" if value is None else str(value) for value in column.to_pylist()])
    return None
