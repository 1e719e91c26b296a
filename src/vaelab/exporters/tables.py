"""Tables of codes, written as they come: .parquet, .csv or .npz, whole or not there."""

import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from vaelab.system.files import writing_atomic

ENDINGS = (".parquet", ".csv", ".npz")
GROUP_ROWS, GROUP_BYTES = 1 << 14, 1 << 25
"""Of codes that are in memory before they go to the disk: the rows of a group in a .parquet."""

Piece = Float[np.ndarray, "2 _ latent"]
"""Means and log-variances of some images, float32."""


@dataclass(frozen=True)
class Rows:
    """What is known of the images of a table before they are encoded."""

    names: Sequence[str]
    labels: NDArray[np.int64] | None
    latent_dim: int


def write_codes(path: Path, rows: Rows, pieces: Iterable[Piece]) -> None:
    """A table of the codes in ``pieces``, one row an image; its format is that of the ending.

    .parquet and .csv: columns image, label (where known), mean_1 …, log_var_1 …; memory for one group of rows.
    .npz: arrays names, mean, log_var, labels (where known); it goes through ``pieces`` twice.
    """
    with writing_atomic(path) as file:
        if path.suffix == ".npz":
            _write_arrays(file, rows, pieces)
        else:
            _write_table(file, path.suffix, rows, pieces)


def write_columns(path: Path, columns: Mapping[str, NDArray[Any] | list[str]]) -> None:
    """A table of columns of one length, in the format of the ending: .parquet, .csv or .npz."""
    with writing_atomic(path) as file:
        if path.suffix == ".npz":
            arrays: dict[str, Any] = {name: np.asarray(values) for name, values in columns.items()}
            np.savez(file, **arrays)
            return
        import pyarrow
        from pyarrow import csv, parquet

        table = pyarrow.table(dict(columns))
        parquet.write_table(table, file) if path.suffix == ".parquet" else csv.write_csv(table, file)


def _write_table(file: BinaryIO, ending: str, rows: Rows, pieces: Iterable[Piece]) -> None:
    import pyarrow
    from pyarrow import csv, parquet

    columns = [f"{word}_{j + 1}" for word in ("mean", "log_var") for j in range(rows.latent_dim)]
    known = [("image", pyarrow.string())] + ([] if rows.labels is None else [("label", pyarrow.int64())])
    schema = pyarrow.schema(known + [(name, pyarrow.float32()) for name in columns])
    # Of numbers that hardly repeat themselves a dictionary is larger than they are, and takes most of the time.
    repeats = [] if rows.labels is None else ["label"]
    writer: Any = (
        parquet.ParquetWriter(file, schema, use_dictionary=repeats)
        if ending == ".parquet"
        else csv.CSVWriter(file, schema)
    )
    start = 0
    with writer:
        for group in _groups(pieces, rows.latent_dim):
            stop = start + group.shape[1]
            values: list[Any] = [rows.names[start:stop]]
            values += [] if rows.labels is None else [rows.labels[start:stop]]
            values += [group[i, :, j] for i in range(2) for j in range(rows.latent_dim)]
            writer.write_table(pyarrow.table(values, schema=schema))
            start = stop


def _groups(pieces: Iterable[Piece], latent_dim: int) -> Iterator[Piece]:
    """The pieces in their order, joined until they are large enough for the disk."""
    enough = max(1, min(GROUP_ROWS, GROUP_BYTES // (8 * latent_dim)))
    waiting: list[Piece] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(part.shape[1] for part in waiting) >= enough:
            yield np.concatenate(waiting, axis=1)
            waiting = []
    if waiting:
        yield np.concatenate(waiting, axis=1)


def _write_arrays(file: BinaryIO, rows: Rows, pieces: Iterable[Piece]) -> None:
    count = len(rows.names)
    spans = [slice(start, start + GROUP_ROWS) for start in range(0, count, GROUP_ROWS)]
    letters = np.dtype(f"<U{max(max(map(len, rows.names[span])) for span in spans)}")
    codes = np.dtype("<f4")
    with zipfile.ZipFile(file, "w") as archive:
        _add_array(archive, "names", (count,), letters, (np.array(rows.names[span], letters) for span in spans))
        for i, word in enumerate(("mean", "log_var")):
            _add_array(archive, word, (count, rows.latent_dim), codes, (piece[i].astype(codes) for piece in pieces))
        if rows.labels is not None:
            _add_array(archive, "labels", (count,), np.dtype("<i8"), [rows.labels.astype("<i8")])


def _add_array(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], parts: Iterable[NDArray[Any]]
) -> None:
    """One array of an .npz from parts along its first axis; words and labels compressed, floats hardly shrink."""
    member = zipfile.ZipInfo(f"{name}.npy")
    member.compress_type = zipfile.ZIP_STORED if dtype.kind == "f" else zipfile.ZIP_DEFLATED
    with archive.open(member, "w", force_zip64=True) as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(part.tobytes())


# -- codes on their way -----------------------------------------------------------------------------------------------


class Parts:
    """Codes on the disk between encoding and the table: a hidden file for each rank, beside what they will become."""

    def __init__(self, path: Path, num_ranks: int) -> None:
        self._files = [path.with_name(f".{path.name}.rank-{rank}.part") for rank in range(num_ranks)]

    def write(self, rank: int, pieces: Iterable[Piece]) -> None:
        """Keep the pieces of one rank."""
        self._files[rank].parent.mkdir(parents=True, exist_ok=True)
        with self._files[rank].open("wb") as file:
            for piece in pieces:
                np.save(file, piece)

    def __iter__(self) -> Iterator[Piece]:
        """The pieces of all ranks in their order, one of them in memory at a time."""
        for path in self._files:
            with path.open("rb") as file:
                size = path.stat().st_size
                while file.tell() < size:
                    piece: Piece = np.load(file)
                    yield piece

    def remove(self, rank: int) -> None:
        """Let what a rank has kept go."""
        self._files[rank].unlink(missing_ok=True)
