"""The checkpoints of a run: each written whole, the newest two kept, the newest usable one read."""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from vaelab.system.files import DamagedFile, load_tensors, save_tensors, unique_path

KEPT = 2
Metadata = Mapping[str, object]
Tensors = Mapping[str, Tensor]
Refuse = Callable[[int, Metadata, Tensors], str | None]
"""(step, facts, tensors) of a checkpoint → why it cannot be used; None if it can."""


def list_checkpoints(folder: Path) -> list[Path]:
    """The files, newest first."""
    return sorted(folder.glob("step-*.safetensors"), reverse=True)


def step_of(path: Path) -> int:
    """The step in the name of a checkpoint; 0 for a name without one."""
    number = path.stem.removeprefix("step-")
    return int(number) if number.isascii() and number.isdigit() else 0


def save_checkpoint(folder: Path, step: int, tensors: Tensors, facts: Metadata) -> None:
    """Write a checkpoint, then remove the oldest ones."""
    save_tensors(folder / f"step-{step:09d}.safetensors", tensors, {**facts, "step": step})
    _remove_oldest(folder)


def _remove_oldest(folder: Path) -> None:
    for path in list_checkpoints(folder)[KEPT:]:
        path.unlink()


def load_newest(
    folder: Path, refuse: Refuse, reach: float, reached_by: str
) -> tuple[int, dict[str, Tensor], list[str]]:
    """(step, tensors, notes) of the newest checkpoint up to step ``reach``, else of the newest; (0, {}, notes) if none.

    A file that is damaged or refused, or lies beyond ``reach`` where an older one does not, is set aside under another
    name. ``reached_by``: what is whole up to ``reach`` only.
    """
    notes: list[str] = []
    ahead: list[Path] = []
    newest: tuple[int, dict[str, Tensor]] = (0, {})
    for path in list_checkpoints(folder):
        try:
            tensors, facts = load_tensors(path)
            step = facts.get("step")
            if not isinstance(step, int) or step < 0:
                raise DamagedFile(path, "it does not say its step")
            if reason := refuse(step, facts, tensors):
                raise DamagedFile(path, reason)
        except DamagedFile as error:
            notes.append(f"{error}: set aside")
            _set_aside(path)
            continue
        if step <= reach:
            for other in ahead:
                notes.append(f"{other} is ahead of {reached_by}, which is whole up to step {reach:g}: set aside")
                _set_aside(other)
            _remove_oldest(folder)  # a process that was killed between writing and removing left one more
            return step, tensors, notes
        newest = newest if ahead else (step, tensors)
        ahead.append(path)
    return *newest, notes


def _set_aside(path: Path) -> None:
    path.replace(unique_path(path.with_suffix(".damaged")))
