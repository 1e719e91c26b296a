"""The tables of a run: appended during training, read with every cell checked, mended when a run is resumed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaelab.system.files import DamagedFile, check_file, unique_path, write_atomic

Table = dict[str, NDArray[np.float64]]
REMEDY = "restore a copy, or remove it and do without these numbers"


def append_rows(path: Path, columns: Sequence[str], rows: Sequence[Sequence[float]]) -> str | None:
    """Append rows to a table; float32 values read back exactly.

    A file with other columns is set aside first; return a sentence that says so, else None.
    """
    text = "".join(",".join(_format(value) for value in row) + "\n" for row in rows)
    header, note = ",".join(columns) + "\n", None
    if path.exists():
        with path.open("rb") as file:
            is_same = file.readline() == header.encode()
        if is_same:
            with path.open("a", encoding="utf-8") as file:
                file.write(text)
            return None
        kept = unique_path(path.with_name(f"{path.name}.before"))
        path.replace(kept)
        note = f"{path} has other columns than the new rows: it is kept as {kept.name}, and a new table begins"
    write_atomic(path, header + text)
    return note


def read_table(path: Path, needed: Sequence[str] = (), *, is_growing: bool = False) -> Table:
    """Return column → values in float64; empty if there is no file.

    Raises DamagedFile if a row and the header differ in length, a cell is not a number, there is no row, or a
    ``needed`` column is missing. ``is_growing``: another process may be writing the last line, which is left out if it
    is incomplete; a table without rows is empty then.
    """
    if not path.exists():
        return {}
    lines = _read_lines(path)
    if is_growing and lines and not lines[-1].endswith("\n"):
        lines = lines[:-1]
    if is_growing and len(lines) < 2:
        return {}
    columns = lines[0].removesuffix("\n").split(",") if lines else []
    if not lines or not lines[0].endswith("\n") or len(lines) < 2:
        raise DamagedFile(path, "it has no rows", REMEDY)
    if missing := [name for name in needed if name not in columns]:
        raise DamagedFile(path, f"it has no column {missing[0]!r}", REMEDY)
    if len(set(columns)) < len(columns):
        raise DamagedFile(path, "two columns have one name", REMEDY)
    values = parse_rows(lines[1:], len(columns))
    if values is None:
        first = next(i for i, line in enumerate(lines[1:], 2) if parse_rows([line], len(columns)) is None)
        raise DamagedFile(path, f"line {first} is not {len(columns)} numbers", REMEDY)
    return {column: values[:, i] for i, column in enumerate(columns)}


# -- resuming ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TableLines:
    """The lines of a table, readable or not."""

    path: Path
    header: str
    lines: list[str]
    steps: NDArray[np.int64]
    """The step of each line; 0 for a line that cannot be read."""

    def reach(self, wanted: Sequence[int]) -> float:
        """Return the step before the first of the ``wanted`` rows that is missing or out of order; ∞ if none is."""
        count = min(len(self.steps), len(wanted))
        differs = np.flatnonzero(self.steps[:count] != np.asarray(wanted[:count], np.int64))
        first = int(differs[0]) if len(differs) else count
        return math.inf if first >= len(wanted) else float(wanted[first] - 1)


def scan_rows(path: Path) -> TableLines:
    """Return every line of a table with its step; no lines if there is no file."""
    lines = _read_lines(path) if path.exists() else []
    header, rest = (lines[0], lines[1:]) if lines else ("", [])
    columns = header.removesuffix("\n").split(",")
    if not header.endswith("\n") or columns[0] != "step" or not all(name.isidentifier() for name in columns):
        return TableLines(path, "", lines, np.zeros(len(lines), np.int64))
    values = parse_rows(rest, len(columns))
    if values is None:
        parsed = [parse_rows([line], len(columns)) for line in rest]
        steps = np.array([0.0 if row is None else row[0, 0] for row in parsed])
    else:
        steps = values[:, 0]
    is_step = np.isfinite(steps) & (steps >= 1) & (steps == np.floor(steps)) & (steps < 2**53)
    return TableLines(path, header, rest, np.where(is_step, steps, 0).astype(np.int64))


def mend_table(rows: TableLines, step: int, wanted: Sequence[int] | None = None) -> str | None:
    """Keep the rows of a table up to ``step``; return a sentence if some of them are lost, else None.

    ``wanted``: the steps up to ``step`` that must have a row; None if they are not known. A half-written last line and
    rows after ``step`` are dropped, because the training writes them again. A table that lacks other rows, or has a
    line that cannot be read, is first copied to a new name.
    """
    increasing = np.maximum.accumulate(np.concatenate([[0], rows.steps]))[:-1] < rows.steps
    kept = np.flatnonzero(increasing & (rows.steps <= step))
    unreadable = rows.steps == 0
    if len(rows.lines) and not rows.lines[-1].endswith("\n"):
        unreadable[-1] = False  # a killed process was writing it
    missing = [] if wanted is None else sorted(set(wanted) - set(rows.steps[kept].tolist()))
    bad = int(unreadable.sum()) + int((~increasing & (rows.steps > 0)).sum())
    note = None
    if missing or bad:
        note = _describe_loss(rows, step, missing, bad, len(wanted or ()))
    if not len(kept) or not rows.header:
        rows.path.unlink(missing_ok=True)
    elif len(kept) < len(rows.lines):
        write_atomic(rows.path, rows.header + "".join(rows.lines[i] for i in kept))
    return note


def keep_rows(path: Path, steps: Sequence[int]) -> None:
    """Keep those rows of a table that belong to one of these steps; without any, remove the table."""
    rows = scan_rows(path)
    kept = [line for line, step in zip(rows.lines, rows.steps.tolist(), strict=True) if step in set(steps)]
    if rows.header and kept:
        write_atomic(path, rows.header + "".join(kept))
    elif rows.header:
        path.unlink()


def _describe_loss(rows: TableLines, step: int, missing: Sequence[int], bad: int, wanted: int) -> str:
    """Copy a damaged table and return a sentence about the rows that are lost."""
    words = []
    if missing:
        words.append(
            f"has no row for {len(missing):,} of {wanted:,} steps up to {step:,} (the first is {missing[0]:,})"
        )
    if bad:
        words.append(f"has {bad:,} line{'s' if bad > 1 else ''} that cannot be read")
    if not rows.path.exists():
        return f"{rows.path} is missing: its rows up to step {step:,} are lost"
    kept = unique_path(rows.path.with_name(f"{rows.path.name}.damaged"))
    write_atomic(kept, rows.path.read_bytes())
    return f"{rows.path} {' and '.join(words)}: the damaged table is kept as {kept.name}, and the rest is used"


def _read_lines(path: Path) -> list[str]:
    """Return the lines with their ends; ``str.splitlines`` would also split at other characters."""
    check_file(path)
    lines = path.read_bytes().decode("utf-8", "replace").split("\n")
    return [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def parse_rows(lines: Sequence[str], width: int) -> NDArray[np.float64] | None:
    """Return the numbers of complete lines ``[line, width]``; None if one is cut off or has other cells."""
    if not lines:
        return np.empty((0, width))
    if not lines[-1].endswith("\n") or any(line.count(",") != width - 1 for line in lines):
        return None
    try:
        values: NDArray[np.float64] = np.loadtxt(lines, delimiter=",", ndmin=2, dtype=np.float64, comments=None)
    except ValueError:
        return None
    return values if values.shape == (len(lines), width) else None


def _format(value: float) -> str:
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.9g}" if math.isfinite(value) else str(value)
