"""Resuming a run: the checkpoint to continue from, and tables that end at its step."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vaelab.run.checkpoints import FindFault
from vaelab.run.directory import Run
from vaelab.run.layout import HISTORY, TABLES, TIMING, VALIDATION
from vaelab.run.tables import mend_table, scan_rows
from vaelab.system.files import unique_path

if TYPE_CHECKING:
    import torch


def load_checkpoint(
    run: Run,
    validated: Sequence[int] = (),
    find_fault: FindFault = lambda _step, _facts, _tensors: None,
    first_due: float = math.inf,
) -> tuple[int, dict[str, "torch.Tensor"], list[str]]:
    """Return (step, tensors, notes) of the checkpoint to continue from; (0, {}, notes) if there is none.

    It is the newest one up to which the tables are complete, because missing rows are then written again; without such
    a checkpoint it is the newest. Damaged checkpoints and those with a fault are set aside. If none is left, the tables
    are set aside too and the run starts again. The same happens if there never was one although the tables have rows
    after step ``first_due``. ``validated``: the steps after which the loop validates.
    """
    newest = run.checkpoints.newest_step
    wanted: dict[str, Sequence[int]] = {HISTORY: range(1, newest + 1), VALIDATION: validated}
    rows = {name: scan_rows(run.path / name) for name in wanted}
    reach = {name: rows[name].reach([step for step in wanted[name] if step <= newest]) for name in wanted}
    shortest = min(reach, key=lambda name: reach[name])
    step, tensors, notes = run.checkpoints.load_newest(find_fault, reach[shortest], shortest)
    if not tensors and (notes or (len(rows[HISTORY].steps) and rows[HISTORY].steps.max() >= first_due)):
        for path in (run.path / name for name in TABLES):
            if path.exists():
                path.replace(unique_path(path.with_name(f"{path.name}.before")))
        notes.append(f"no checkpoint is left: the run starts again; its tables are kept as {HISTORY}.before …")
    return step, tensors, notes


def mend_tables(run: Run, step: int, validated: Sequence[int] | None = None) -> list[str]:
    """Keep the rows of every table up to ``step``; return a sentence for each table that lost some of them.

    ``validated``: the steps after which the loop validates; None if they are not known.
    """
    wanted: dict[str, Sequence[int] | None] = {
        HISTORY: range(1, step + 1),
        TIMING: [step] if step else [],
        VALIDATION: None if validated is None else [at for at in validated if at <= step],
    }
    notes = [mend_table(scan_rows(run.path / name), step, wanted[name]) for name in TABLES]
    return [note for note in notes if note]
