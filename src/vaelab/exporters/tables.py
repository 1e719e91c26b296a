"""Tables of codes as .parquet, .csv or .npz, written in pieces; an incomplete file never appears."""

import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from vaelab.data.npy import write_array
from vaelab.system.files import NAME_BYTES, fit_name, writing_atomic

EXTENSIONS = (".parquet", ".csv", ".npz")
GROUP_ROWS, GROUP_BYTES = 1 << 14, 1 << 25
"""Largest group of rows in memory, which is a row group of a .parquet: its rows, and its bytes."""


class Piece(NamedTuple):
    """Codes of consecutive images."""

    rows: Int[np.ndarray, " n"]
    """Row numbers of the images, ascending over all pieces; unreadable images have none."""
    codes: Float[np.ndarray, "2 n latent"]
    """Means and log-variances, float32."""


@dataclass(frozen=True)
class CodeTable:
    """Names and labels of the images of a table."""

    names: Sequence[str]
    labels: NDArray[np.int64] | None
    latent_dim: int
    class_names: Sequence[str] = ()
    """The name of each label; empty if labels are numbers only."""

    @property
    def columns(self) -> dict[str, Callable[[NDArray[np.int64]], Any]]:
        """Column → function that returns its values in given rows."""
        labels, names = self.labels, self.class_names
        found: dict[str, Callable[[NDArray[np.int64]], Any]] = {
            "image": lambda rows: [self.names[row] for row in rows.tolist()]
        }
        if labels is not None:
            found["label"] = lambda rows: labels[rows]
            if names:
                found["class"] = lambda rows: [names[label] for label in labels[rows].tolist()]
        return found


def write_codes(path: Path, rows: CodeTable, pieces: Iterable[Piece]) -> None:
    """Write a table with one row for each image in ``pieces``, in the format of the file name.

    .parquet and .csv have the columns image, label and class (if known), mean_1 … and log_var_1 …, and need memory for
    a group of rows. An .npz has the arrays names, mean, log_var, labels and label_names (if known). It iterates over
    ``pieces`` several times.
    """
    with writing_atomic(path) as file:
        if path.suffix.lower() == ".npz":
            _write_arrays(file, rows, pieces)
        else:
            _write_table(file, path.suffix.lower(), rows, pieces)


def write_columns(path: Path, columns: Mapping[str, NDArray[Any] | list[Any]]) -> None:
    """Write a table of columns of one length, in the format of the file name: .parquet, .csv or .npz."""
    with writing_atomic(path) as file:
        if path.suffix.lower() == ".npz":
            arrays: dict[str, Any] = {name: np.asarray(values) for name, values in columns.items()}
            np.savez(file, **arrays)
            return
        import pyarrow
        from pyarrow import csv, parquet

        table = pyarrow.table(dict(columns))
        parquet.write_table(table, file) if path.suffix.lower() == ".parquet" else csv.write_csv(table, file)


def _write_table(file: BinaryIO, extension: str, rows: CodeTable, pieces: Iterable[Piece]) -> None:
    import pyarrow
    from pyarrow import csv, parquet

    columns = [f"{word}_{j + 1}" for word in ("mean", "log_var") for j in range(rows.latent_dim)]
    known = [(name, pyarrow.int64() if name == "label" else pyarrow.string()) for name in rows.columns]
    schema = pyarrow.schema(known + [(name, pyarrow.float32()) for name in columns])
    # a dictionary of numbers that hardly repeat would be larger than the numbers, and slow
    repeats = [name for name in rows.columns if name != "image"]
    writer: Any = (
        parquet.ParquetWriter(file, schema, use_dictionary=repeats)
        if extension == ".parquet"
        else csv.CSVWriter(file, schema)
    )
    with writer:
        for group in _groups(pieces, rows.latent_dim):
            values: list[Any] = [values_of(group.rows) for values_of in rows.columns.values()]
            values += [group.codes[i, :, j] for i in range(2) for j in range(rows.latent_dim)]
            writer.write_table(pyarrow.table(values, schema=schema))


def _groups(pieces: Iterable[Piece], latent_dim: int) -> Iterator[Piece]:
    """Join consecutive pieces into groups of rows."""
    enough = max(1, min(GROUP_ROWS, GROUP_BYTES // (8 * latent_dim)))
    waiting: list[Piece] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(len(part.rows) for part in waiting) >= enough:
            yield _join(waiting)
            waiting = []
    if any(len(part.rows) for part in waiting):
        yield _join(waiting)


def _join(pieces: Sequence[Piece]) -> Piece:
    return Piece(
        np.concatenate([piece.rows for piece in pieces]), np.concatenate([piece.codes for piece in pieces], axis=1)
    )


def _write_arrays(file: BinaryIO, rows: CodeTable, pieces: Iterable[Piece]) -> None:
    count, longest = 0, 1
    for piece in pieces:
        count += len(piece.rows)
        longest = max(longest, *(len(rows.names[row]) for row in piece.rows.tolist()), 1)
    letters, codes = np.dtype(f"<U{longest}"), np.dtype("<f4")
    names = (np.array([rows.names[row] for row in piece.rows.tolist()], letters) for piece in pieces)
    with zipfile.ZipFile(file, "w") as archive:
        _add_array(archive, "names", (count,), letters, names)
        for i, word in enumerate(("mean", "log_var")):
            parts = (piece.codes[i].astype(codes) for piece in pieces)
            _add_array(archive, word, (count, rows.latent_dim), codes, parts)
        if rows.labels is not None:
            labels = rows.labels.astype("<i8")
            _add_array(archive, "labels", (count,), labels.dtype, (labels[piece.rows] for piece in pieces))
            if rows.class_names:
                classes = np.array(list(rows.class_names))
                _add_array(archive, "label_names", classes.shape, classes.dtype, [classes])


def _add_array(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], parts: Iterable[NDArray[Any]]
) -> None:
    """Add one array to an .npz, from parts along its first axis; all types but floats are compressed."""
    member = zipfile.ZipInfo(f"{name}.npy")
    member.compress_type = zipfile.ZIP_STORED if dtype.kind == "f" else zipfile.ZIP_DEFLATED
    with archive.open(member, "w", force_zip64=True) as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(part.tobytes())


# -- codes of several ranks ------------------------------------------------------------------------------------------


class Parts:
    """Codes on the disk between encoding and writing the table: one hidden file per rank, beside the table."""

    def __init__(self, path: Path, num_ranks: int) -> None:
        name = fit_name(path.name, NAME_BYTES - len("..rank-12345.part"))
        self._files = [path.with_name(f".{name}.rank-{rank}.part") for rank in range(num_ranks)]

    def write(self, rank: int, pieces: Iterable[Piece]) -> None:
        """Store the pieces of one rank."""
        self._files[rank].parent.mkdir(parents=True, exist_ok=True)
        with self._files[rank].open("wb") as file:
            for piece in pieces:
                write_array(file, piece.rows)
                write_array(file, piece.codes)

    def __iter__(self) -> Iterator[Piece]:
        """Iterate over the pieces of all ranks in order, with one piece in memory."""
        for path in self._files:
            with path.open("rb") as file:
                size = path.stat().st_size
                while file.tell() < size:
                    yield Piece(np.load(file), np.load(file))

    def remove(self, rank: int) -> None:
        """Remove the file of a rank."""
        self._files[rank].unlink(missing_ok=True)
