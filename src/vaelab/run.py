"""A run's directory: every file name, atomic writes, tables, checkpoints, what was measured."""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor

from vaelab import recipe as recipes
from vaelab.containers import printable
from vaelab.files import DamagedFile, check_file, free_path, load_tensors, save_tensors, write_atomic
from vaelab.recipe import Recipe
from vaelab.runtime import now

RECIPE, MACHINE, LOG, LOCK = "recipe.toml", "machine.json", "run.log", ".lock"
HISTORY, TIMING, VALIDATION = "history.csv", "timing.csv", "validation.csv"
CHECKPOINTS, MODEL, FIGURES = "checkpoints", "model.safetensors", "figures"
EVALUATION, FINDINGS, REPORT, CACHE = "evaluation.json", "doctor.json", "report.html", "cache"
OWN_FILES = (
    RECIPE,
    MACHINE,
    HISTORY,
    TIMING,
    VALIDATION,
    MODEL,
    EVALUATION,
    FINDINGS,
    REPORT,
    f"{FIGURES}/*",
    f"{CACHE}/*",
)
"""What is written whole or not at all, besides checkpoints."""
KEPT_CHECKPOINTS = 2
Table = dict[str, NDArray[np.float64]]


class RunInUse(RuntimeError):
    """Another process is working on this run."""


class OtherRecipe(ValueError):
    """The directory holds a run of another recipe."""


class Run:
    """One run on disk: ``vaelab.Run("runs/mnist")``."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = printable(self.path.resolve().name)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    # -- what is there --

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """An existing run; FileNotFoundError says how to make one."""
        run = cls(path)
        if not (run.path / RECIPE).is_file():
            near = Path("runs") / path
            hint = (
                f"did you mean {near}?"
                if (near / RECIPE).is_file()
                else f"make one with vaelab train RECIPE --run {path}"
            )
            raise FileNotFoundError(f"{path}: no run here (no {RECIPE}); {hint}")
        return run

    @property
    def exists(self) -> bool:
        """Whether a training was started here."""
        return (self.path / RECIPE).is_file()

    @property
    def is_trained(self) -> bool:
        """Whether the training came to its end."""
        return (self.path / MODEL).is_file()

    @property
    def is_finished(self) -> bool:
        """Whether figures, evaluation and report were made after the training, too."""
        return self.is_trained and "finished" in self.machine

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return replace(recipes.load(self.path / RECIPE), name=self.machine.get("recipe", self.name))

    @property
    def machine(self) -> dict[str, Any]:
        """Where the data lay and its fingerprint, device, threads, versions."""
        return self._read_json(MACHINE)

    @property
    def model_path(self) -> Path:
        """The trained weights; FileNotFoundError if the training has not come to its end."""
        if not self.is_trained:
            raise FileNotFoundError(f"{self.path}: not trained to the end yet; the same vaelab train command goes on")
        return self.path / MODEL

    @property
    def figures(self) -> dict[str, Path]:
        """Name → file of every figure drawn."""
        return {file.stem: file for file in sorted((self.path / FIGURES).glob("*.png"))}

    @property
    def history(self) -> Table:
        """Column → one value for each batch."""
        return self.table(HISTORY)

    @property
    def validation(self) -> Table:
        """Column → one value for each validation; empty where there was none."""
        return self.table(VALIDATION)

    @property
    def evaluation(self) -> dict[str, Any]:
        """Metric → its numbers and protocol."""
        return self._read_json(EVALUATION)

    @property
    def findings(self) -> list[dict[str, str]]:
        """What the doctor found, problems first; empty where nobody asked."""
        found: list[dict[str, str]] = self._read_json(FINDINGS).get("findings", [])
        return found

    def _read_json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        if not path.is_file():
            return {}
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DamagedFile(path, str(error), "remove it") from None
        return found

    # -- beginning --

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process; RunInUse if another holds it. A killed process lets go."""
        self.path.mkdir(parents=True, exist_ok=True)
        for path in (*self.path.iterdir(), *(self.path / CHECKPOINTS).glob("*")):
            if path.exists() and not path.is_dir():  # opening a pipe would wait for ever
                check_file(path)
        try:
            with FileLock(self.path / LOCK, timeout=0):
                for name in (*OWN_FILES, f"{CHECKPOINTS}/step-*"):
                    folder, _, file = name.rpartition("/")
                    for partial in (self.path / folder).glob(f".{file}.*.part"):
                        partial.unlink()  # what a killed process was writing
                yield
        except Timeout:
            raise RunInUse(
                f"{self.path}: another process is training this run; wait for it or choose another --run"
            ) from None

    def check_free(self) -> None:
        """FileExistsError if there is no run here but other things are, which a run must not mix with."""
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"{self.path} is a file; choose another --run")
        ours = {MACHINE, LOG}
        if not self.exists and self.path.is_dir():
            others = [p.name for p in self.path.iterdir() if not p.name.startswith(".") and p.name not in ours]
            if others:
                raise FileExistsError(
                    f"{self.path} holds other things ({others[0]} …) and no run; choose another --run"
                )

    def begin(self, recipe: Recipe, machine: Mapping[str, Any]) -> None:
        """Write what a fresh run starts from."""
        self.write_json(MACHINE, machine)
        write_atomic(self.path / RECIPE, recipe.to_toml())

    def check_same(self, recipe: Recipe) -> None:
        """OtherRecipe with every difference if this directory's recipe is not ``recipe``."""
        differences = self.recipe.differences(recipe)
        if differences:
            what = "; ".join(differences)
            raise OtherRecipe(f"{self.path} holds a run of another recipe ({what}); choose another --run")

    # -- writing --

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """A JSON file of this run, whole or not there."""
        write_atomic(self.path / name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def write_figure(self, name: str, png: bytes) -> None:
        """``figures/NAME.png``."""
        write_atomic(self.path / FIGURES / f"{name}.png", png)

    def log(self, line: str) -> None:
        """One dated line in run.log."""
        with (self.path / LOG).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{now()}  {line}\n")

    def append(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
        """Rows at the end of a table; float32 values are written so that they read back exactly."""
        path = self.path / name
        text = "".join(",".join(_number(value) for value in row) + "\n" for row in rows)
        if not path.exists():
            write_atomic(path, ",".join(columns) + "\n" + text)
            return
        with path.open("a", encoding="utf-8") as file:
            file.write(text)

    def cut(self, step: int) -> None:
        """Drop the rows of every table that came after ``step``, and any half-written line."""
        for name in (HISTORY, TIMING, VALIDATION):
            path = self.path / name
            if not path.exists():
                continue
            head, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
            width = head.count(",")
            kept = [
                row
                for row in rows
                if row.endswith("\n") and row.count(",") == width and float(row.split(",")[0]) <= step
            ]
            if not kept:
                path.unlink()
            elif kept != rows:
                write_atomic(path, head + "".join(kept))

    def table(self, name: str) -> Table:
        """Column → values; empty if the table does not exist."""
        path = self.path / name
        if not path.is_file():
            return {}
        with path.open(encoding="utf-8") as file:
            columns = file.readline().strip().split(",")
            values = np.loadtxt(file, delimiter=",", ndmin=2, dtype=np.float64)
        return {column: values[:, i] if len(values) else np.empty(0) for i, column in enumerate(columns)}

    # -- checkpoints --

    def save_checkpoint(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """The tables and then a checkpoint whole on the disk, then the oldest checkpoints removed."""
        for name in (HISTORY, TIMING, VALIDATION):
            if (self.path / name).exists():
                with (self.path / name).open("rb") as file:
                    os.fsync(file.fileno())
        save_tensors(self.path / CHECKPOINTS / f"step-{step:09d}.safetensors", tensors, {"step": step})
        for path in self._checkpoints()[KEPT_CHECKPOINTS:]:
            path.unlink()

    def load_checkpoint(self) -> tuple[int, dict[str, Tensor], list[str]]:
        """(step, tensors, notes) of the newest checkpoint that can be used; (0, {}, notes) if there is none.

        One that is damaged, or that history.csv does not reach, is set aside under another name. Where none is left,
        the tables are set aside with them.
        """
        notes: list[str] = []
        reached = self._last_step()
        for path in self._checkpoints():
            try:
                tensors, facts = load_tensors(path)
                step = int(str(facts["step"]))
                if step <= reached:
                    return step, tensors, notes
                notes.append(f"{path} is ahead of {HISTORY}, which ends at step {reached}: set aside")
            except DamagedFile as error:
                notes.append(f"{error}: set aside")
            path.replace(path.with_suffix(".damaged"))
        if notes:
            for name in (HISTORY, TIMING, VALIDATION):
                if (self.path / name).exists():
                    (self.path / name).replace(free_path(self.path / f"{name}.before"))
            notes.append(f"no checkpoint is left: begins again; the tables so far are kept as {HISTORY}.before …")
        return 0, {}, notes

    @property
    def newest_checkpoint(self) -> int:
        """Step of the newest checkpoint, 0 without any."""
        found = self._checkpoints()
        return int(found[0].stem.removeprefix("step-")) if found else 0

    def _last_step(self) -> int:
        """Step of the last whole line of history.csv."""
        path = self.path / HISTORY
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[1:] if path.exists() else []
        steps = [int(line.split(",")[0]) for line in lines[-2:] if line.endswith("\n")]
        return max(steps, default=0)

    def _checkpoints(self) -> list[Path]:
        """Newest first."""
        return sorted((self.path / CHECKPOINTS).glob("step-*.safetensors"), reverse=True)

    # -- numbers --

    def measured(self) -> dict[str, float]:
        """Means over epochs of the history, the last validation, −ln p(x) where it was measured: the names that
        ``[expected]`` may use."""
        history, validation = self.history, self.validation
        if not history:
            return {}
        epoch = history["epoch"]
        last = int(epoch[-1])
        found = {f"loss_epoch_{i}": _mean(history["loss"], epoch == i) for i in (1, 5, 10) if i <= last}
        if last >= 5:
            found["loss_last_five_epochs"] = _mean(history["loss"], epoch > last - 5)
        for term in (name for name in history if name not in ("step", "epoch")):
            if term != "beta_kl" or not np.array_equal(history[term], history["kl"]):
                found[f"{term}_last_epoch"] = _mean(history[term], epoch == last)
        for term in ("loss", "reconstruction", "kl", "elbo"):
            if validation:
                found[f"held_out_{term}"] = float(validation[term][-1])
        if "nll" in self.evaluation:
            found["nll"] = float(self.evaluation["nll"]["nll"])
        timing = self.table(TIMING)
        if timing:
            found["seconds"] = float(timing["seconds"][-1])
        return found


def _number(value: float) -> str:
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.9g}" if math.isfinite(value) else str(value)


def _mean(values: NDArray[np.float64], chosen: NDArray[np.bool_]) -> float:
    return float(values[chosen].mean())
