"""The checkpoints of a run: written atomically, the newest two kept, the newest usable one read."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vaelab.system.files import DamagedFile, load_tensors, save_tensors, unique_path

if TYPE_CHECKING:
    import torch

NUM_KEPT = 2
Facts = Mapping[str, object]
Tensors = Mapping[str, "torch.Tensor"]
FindFault = Callable[[int, Facts, Tensors], str | None]
"""(step, facts, tensors) of a checkpoint → why it cannot be used; None if it can."""


class Checkpoints:
    """The folder of a run's checkpoints."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def paths(self) -> list[Path]:
        """The files, newest first."""
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)

    @property
    def newest_step(self) -> int:
        """Step of the newest checkpoint; 0 if there is none."""
        numbers = [path.stem.removeprefix("step-") for path in self.paths]
        return max((int(number) for number in numbers if number.isascii() and number.isdigit()), default=0)

    def save(self, step: int, tensors: Tensors, facts: Facts) -> None:
        """Write a checkpoint, then remove the oldest ones."""
        save_tensors(self.folder / f"step-{step:09d}.safetensors", tensors, {**facts, "step": step})
        self._remove_oldest()

    def load_newest(
        self, find_fault: FindFault, reach: float, reached_by: str
    ) -> tuple[int, dict[str, "torch.Tensor"], list[str]]:
        """Return (step, tensors, notes) of the newest checkpoint up to step ``reach``, else of the newest one.

        Without any: (0, {}, notes). A file that is damaged or has a fault is renamed. So is one beyond ``reach`` if
        there is an older one. ``reached_by``: the table that is complete only up to ``reach``.
        """
        notes: list[str] = []
        ahead: list[Path] = []
        newest: tuple[int, dict[str, torch.Tensor]] = (0, {})
        for path in self.paths:
            try:
                step, tensors = _load(path, find_fault)
            except DamagedFile as error:
                notes.append(f"{error}: set aside")
                _set_aside(path)
                continue
            if step <= reach:
                for other in ahead:
                    notes.append(f"{other} is ahead of {reached_by}, which is whole up to step {reach:g}: set aside")
                    _set_aside(other)
                self._remove_oldest()  # a process that was killed between writing and removing left one more
                return step, tensors, notes
            newest = newest if ahead else (step, tensors)
            ahead.append(path)
        return *newest, notes

    def _remove_oldest(self) -> None:
        for path in self.paths[NUM_KEPT:]:
            path.unlink()


def _load(path: Path, find_fault: FindFault) -> tuple[int, dict[str, "torch.Tensor"]]:
    """Return step and tensors of a checkpoint; DamagedFile if it is damaged or has a fault."""
    tensors, facts = load_tensors(path)
    step = facts.get("step")
    if not isinstance(step, int) or step < 0:
        raise DamagedFile(path, "it does not say its step")
    if reason := find_fault(step, facts, tensors):
        raise DamagedFile(path, reason)
    return step, tensors


def _set_aside(path: Path) -> None:
    path.replace(unique_path(path.with_suffix(".damaged")))
