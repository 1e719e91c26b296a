"""A run's directory: every file name, what is in each, atomic writes, checkpoints."""

import hashlib
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor

from vaelab import recipe as recipes
from vaelab.data.containers import printable
from vaelab.recipe import Recipe
from vaelab.run.checkpoints import Metadata, Refuse, Tensors, list_checkpoints, load_newest, save_checkpoint, step_of
from vaelab.run.records import REMEDIES, Evaluation, Findings, Machine, Pictures, ResultsOrigin, read_record
from vaelab.run.tables import Table, append_rows, mend_table, read_table, scan_rows
from vaelab.system.arguments import AnyPath, check_path
from vaelab.system.device import now
from vaelab.system.errors import UsageError
from vaelab.system.files import DamagedFile, check_file, save_tensors, to_json, unique_path, write_atomic

RECIPE, MACHINE, LOG, LOCK = "recipe.toml", "machine.json", "run.log", ".lock"
HISTORY, TIMING, VALIDATION = "history.csv", "timing.csv", "validation.csv"
PICTURES = "pictures.json"
CHECKPOINTS, MODEL, FIGURES = "checkpoints", "model.safetensors", "figures"
EVALUATION, FINDINGS, REPORT, CACHE = "evaluation.json", "doctor.json", "report.html", "cache"
OWN_FILES = (
    RECIPE,
    MACHINE,
    PICTURES,
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
TABLES = {
    HISTORY: ("step", "epoch", "loss", "reconstruction", "kl"),
    TIMING: ("step", "seconds", "images_per_second"),
    VALIDATION: ("step", "epoch", "loss", "reconstruction", "kl", "elbo"),
}
"""Table → columns that it always has."""
SOURCE = "source.json"
"""In a directory of results that lies elsewhere: which run they are of."""


class RunInUse(RuntimeError):
    """Another process is working on this run."""


class OtherRecipe(ValueError):
    """A directory holds a run of another recipe, or a file of a run belongs to another one."""


class RunRemoved(FileNotFoundError):
    """The directory was removed, or replaced, while this process worked on it."""


class Run:
    """One run on disk: ``vaelab.Run("runs/mnist")``.

    ``results``: a directory that receives figures, evaluation, findings and report instead of the run's own, which may
    be read-only; what it lacks is read from the run.
    """

    def __init__(self, path: AnyPath, results: AnyPath | None = None) -> None:
        self.path = check_path(path, "a run")
        self.results = self.path if results is None else check_path(results, "results")
        if self.results.resolve() == self.path.resolve():
            self.results = self.path
        self.name = printable(self.path.resolve().name)
        self._lock: int | None = None
        """Descriptor of the lock's file while this process holds the run."""
        self._is_begun = False

    def __fspath__(self) -> str:
        """The directory, so that functions take a run where they take its path."""
        return str(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    # -- what is there --

    @classmethod
    def open(cls, path: AnyPath, results: AnyPath | None = None) -> "Run":
        """An existing run. Raises FileNotFoundError, which says how to make one."""
        run = cls(path, results)
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
        """Whether the training came to its end, and everything that is made after it is there."""
        return self.is_trained and "finished" in self.machine and not self.missing

    @property
    def missing(self) -> list[str]:
        """Files that are made after the training and are not there: evaluation, findings, figures, report."""
        names = [f"{FIGURES}/{name}.png" for name in self.machine.get("figures", [])]
        return [name for name in (EVALUATION, FINDINGS, *names, REPORT) if not _has_content(self.path / name)]

    @property
    def is_report_stale(self) -> bool:
        """Whether the run was evaluated after its report was written, as by a process that was killed in between."""
        evaluation, report = self._newest(EVALUATION), self._newest(REPORT)
        return evaluation.is_file() and report.is_file() and report.stat().st_mtime_ns < evaluation.stat().st_mtime_ns

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        path = self.path / RECIPE
        try:
            found = recipes.load(path)
        except UsageError as error:
            raise DamagedFile(path, str(error).removeprefix(f"{path}: "), REMEDIES[RECIPE]) from None
        return replace(found, name=self.machine.get("recipe", self.name))

    @property
    def machine(self) -> dict[str, Any]:
        """Where the data lay and its fingerprint, device, threads, versions; empty if there is no file."""
        return read_record(self.path / MACHINE, Machine)

    @property
    def selections(self) -> dict[str, dict[str, Any]]:
        """Split → what finds its pictures again; empty for a published data set. DamagedFile if it is damaged."""
        return read_record(self.path / PICTURES, Pictures)

    @property
    def model_path(self) -> Path:
        """The trained weights; FileNotFoundError if the training has not come to its end."""
        if not self.is_trained:
            raise FileNotFoundError(f"{self.path}: not trained to the end yet; the same vaelab train command goes on")
        return self.path / MODEL

    @property
    def figures(self) -> dict[str, Path]:
        """Name → file of every figure drawn."""
        folders = dict.fromkeys((self.path / FIGURES, self.results / FIGURES))
        return {file.stem: file for folder in folders for file in sorted(folder.glob("*.png")) if file.is_file()}

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
        return read_record(self._newest(EVALUATION), Evaluation)

    @property
    def findings(self) -> list[dict[str, str]]:
        """What the doctor found, problems first; empty where nobody asked."""
        found: list[dict[str, str]] = read_record(self._newest(FINDINGS), Findings).get("findings", [])
        return found

    def table(self, name: str) -> Table:
        """Column → values; empty if the table does not exist. Raises DamagedFile."""
        return read_table(self.path / name, TABLES[name])

    @property
    def warnings(self) -> list[str]:
        """What the log warns of, each sentence once, without what was withdrawn later."""
        path = self.path / LOG
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        found: dict[str, None] = {}
        for line in lines:
            kind, _, text = line.partition("  ")[2].partition(": ")
            if kind == "warning":
                found[text] = None
            elif kind == "withdrawn":
                topic = text.partition(":")[0]
                found = {text: None for text in found if text.partition(":")[0] != topic}
        return list(found)

    def find_damage(self) -> list[DamagedFile]:
        """What is wrong with tables and JSON files; empty for a run that is whole, or has not come so far."""
        readers: list[Callable[[], object]] = [
            lambda: self.machine,
            lambda: self.evaluation,
            lambda: self.findings,
            *((lambda name=name: self.table(name)) for name in TABLES),
        ]
        found = []
        for read in readers:
            try:
                read()
            except DamagedFile as error:
                found.append(error)
        return found

    def _newest(self, name: str) -> Path:
        """A file among the results, else the run's own."""
        return self.results / name if (self.results / name).exists() else self.path / name

    # -- results elsewhere --

    @property
    def is_writable(self) -> bool:
        """Whether files can be made in the directory of the results."""
        with suppress(OSError), tempfile.TemporaryFile(dir=self.results):
            return True
        return False

    def check_writable(self) -> None:
        """Make the directory of the results; call this before work that would be done for nothing.

        Raises PermissionError if nothing can be written there, FileExistsError if it holds other things.
        """
        if self.results == self.path:
            if not self.is_writable:
                raise PermissionError(f"{self.path} cannot be written to; name another directory with --out")
            return
        source = {"run": str(self.path.resolve()), "weights_sha256": self.weights_sha256}
        if self.results.exists():
            self._check_results(source)
        write_atomic(self.results / SOURCE, to_json(source))

    def _check_results(self, source: Mapping[str, Any]) -> None:
        """FileExistsError if the directory of the results holds something else than results of this run."""
        if not self.results.is_dir():
            raise FileExistsError(f"{self.results} is a file; --out names a directory")
        known = read_record(self.results / SOURCE, ResultsOrigin)
        others = [path.name for path in self.results.iterdir() if not path.name.startswith(".")]
        if known and known["weights_sha256"] != source["weights_sha256"]:
            raise FileExistsError(f"{self.results} holds results of another run, {known['run']}; choose another --out")
        if others and not known:
            raise FileExistsError(f"{self.results} holds other things ({others[0]} …); choose another --out")

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the model's file."""
        return hashlib.sha256(self.model_path.read_bytes()).hexdigest()

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
                self._lock, self._is_begun = os.open(self.path / LOCK, os.O_RDONLY), self.exists
                yield
        except Timeout:
            raise RunInUse(
                f"{self.path}: another process is training this run; wait for it or choose another --run"
            ) from None
        finally:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def check_there(self) -> None:
        """Raise RunRemoved if the directory that this process holds was removed, emptied or replaced."""
        if self._lock is None:
            return
        try:
            is_same = os.path.samestat((self.path / LOCK).stat(), os.fstat(self._lock))
        except FileNotFoundError:
            is_same = False
        if not is_same or (self._is_begun and not self.exists):
            raise RunRemoved(
                f"{self.path} was removed while it was trained, and everything that was made so far with it; "
                "the same command begins again"
            )

    def check_free(self) -> None:
        """FileExistsError if there is no run here but other things are, which a run must not mix with."""
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"{self.path} is a file; choose another --run")
        ours = {MACHINE, LOG, PICTURES}
        if not self.exists and self.path.is_dir():
            others = [p.name for p in self.path.iterdir() if not p.name.startswith(".") and p.name not in ours]
            if others:
                raise FileExistsError(
                    f"{self.path} holds other things ({others[0]} …) and no run; choose another --run"
                )

    def begin(self, recipe: Recipe, machine: Mapping[str, Any], selections: Mapping[str, Any] | None = None) -> None:
        """Write what a fresh run starts from. ``selections``: what finds a person's own pictures again."""
        self.write_json(MACHINE, machine)
        if selections:
            write_atomic(self.path / PICTURES, to_json(selections))
        write_atomic(self.path / RECIPE, recipe.to_toml())
        self._is_begun = True

    def check_same(self, recipe: Recipe) -> None:
        """OtherRecipe with every difference if this directory's recipe is not ``recipe``."""
        differences = self.recipe.differences(recipe)
        if differences:
            what = "; ".join(differences)
            raise OtherRecipe(f"{self.path} holds a run of another recipe ({what}); choose another --run")

    def find_mismatch(self, facts: Metadata) -> str | None:
        """How the recipe and the data of a file of weights differ from the run's; None if they agree.

        What a file does not tell, as those of older versions, is not compared.
        """
        if isinstance(told := facts.get("recipe"), Mapping):
            try:
                other = recipes.validate(told, self.name)
            except UsageError as error:
                return f"its recipe cannot be read: {error}"
            if differences := self.recipe.differences(other, (f"in {RECIPE}", "in this file")):
                return f"it is of another run: {'; '.join(differences)}"
        here, there = self.machine.get("data_sha256"), facts.get("data_sha256")
        if here and there and here != there:
            return "it was trained on other images than this run"
        return None

    # -- writing --

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file of this run, whole or not at all."""
        self._write(name, to_json(content))

    def write_figure(self, name: str, png: bytes) -> None:
        """Write ``figures/NAME.png``."""
        self._write(f"{FIGURES}/{name}.png", png)

    def write_report(self, page: str) -> None:
        """Write ``report.html``."""
        self._write(REPORT, page)

    def _write(self, name: str, content: str | bytes) -> None:
        self.check_there()
        folder = self.path if name in (RECIPE, MACHINE) else self.results
        write_atomic(folder / name, content)

    def save_model(self, tensors: Tensors, facts: Metadata) -> None:
        """Write the trained weights, which end the training."""
        self.check_there()
        save_tensors(self.path / MODEL, tensors, facts)

    def log(self, line: str) -> None:
        """Write one dated line to run.log."""
        self.check_there()
        with (self.path / LOG).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{now()}  {' '.join(line.splitlines())}\n")

    def append(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
        """Write rows at the end of a table. One with other columns is set aside first, which the log tells."""
        self.check_there()
        if note := append_rows(self.path / name, columns, rows):
            self.log(f"warning: {note}")

    def set_aside(self, name: str) -> Path:
        """Give a damaged file another name, and return it."""
        kept = unique_path(self.path / f"{name}.damaged")
        (self.path / name).replace(kept)
        return kept

    def mend_tables(self, step: int, validated: Sequence[int] | None = None) -> list[str]:
        """Keep the rows of every table up to ``step``; a sentence for each table that lost some of these.

        ``validated``: the steps after which there was a validation; None where that is not known.
        """
        wanted: dict[str, Sequence[int] | None] = {
            HISTORY: range(1, step + 1),
            TIMING: [step] if step else [],
            VALIDATION: None if validated is None else [at for at in validated if at <= step],
        }
        notes = [mend_table(scan_rows(self.path / name), step, wanted[name]) for name in TABLES]
        return [note for note in notes if note]

    # -- checkpoints --

    def save_checkpoint(self, step: int, tensors: Tensors, facts: Metadata = MappingProxyType({})) -> None:
        """Put the tables and then a checkpoint whole on the disk, then remove the oldest checkpoints."""
        self.check_there()
        for name in TABLES:
            if (self.path / name).exists():
                with (self.path / name).open("rb") as file:
                    os.fsync(file.fileno())
        save_checkpoint(self.path / CHECKPOINTS, step, tensors, facts)

    def load_checkpoint(
        self,
        validated: Sequence[int] | None = None,
        refuse: Refuse = lambda _step, _facts, _tensors: None,
        first_due: float = math.inf,
    ) -> tuple[int, dict[str, Tensor], list[str]]:
        """(step, tensors, notes) of the checkpoint to go on from; (0, {}, notes) if there is none.

        It is the newest up to which the tables are whole, else the newest: the rows that are lost cannot be had again.
        One that is damaged or that ``refuse`` refuses is set aside. If none is left, or there is none although one was
        due after step ``first_due``, the tables are set aside and the run begins again.
        """
        newest = self.newest_checkpoint
        wanted: dict[str, Sequence[int]] = {HISTORY: range(1, newest + 1), VALIDATION: validated or ()}
        rows = {name: scan_rows(self.path / name) for name in wanted}
        reach = {name: rows[name].reach([at for at in wanted[name] if at <= newest]) for name in wanted}
        shortest = min(reach, key=lambda name: reach[name])
        step, tensors, notes = load_newest(self.path / CHECKPOINTS, refuse, reach[shortest], shortest)
        if not tensors and (notes or (len(rows[HISTORY].steps) and rows[HISTORY].steps.max() >= first_due)):
            for name in TABLES:
                if (self.path / name).exists():
                    (self.path / name).replace(unique_path(self.path / f"{name}.before"))
            notes.append(f"no checkpoint is left: begins again; the tables so far are kept as {HISTORY}.before …")
        return step, tensors, notes

    @property
    def newest_checkpoint(self) -> int:
        """Step of the newest checkpoint, 0 without any."""
        return max(map(step_of, list_checkpoints(self.path / CHECKPOINTS)), default=0)

    # -- numbers --

    def measured(self) -> dict[str, float]:
        """Means over epochs of the history, the last validation, −ln p(x) where it was measured: the names that
        ``[expected]`` may use. Numbers of a damaged file are left out."""
        history, validation = self._known(lambda: self.history), self._known(lambda: self.validation)
        timing, evaluation = self._known(lambda: self.table(TIMING)), self._known(lambda: self.evaluation)
        if not history:
            return {}
        epoch = history["epoch"]
        last = int(epoch[-1])
        found = {f"loss_epoch_{i}": _mean(history["loss"], epoch == i) for i in (1, 5, 10) if i <= last}
        if last >= 5:
            found["loss_last_five_epochs"] = _mean(history["loss"], epoch > last - 5)
        for term in (name for name in history if name not in ("step", "epoch")):
            found[f"{term}_last_epoch"] = _mean(history[term], epoch == last)
        for term in ("loss", "reconstruction", "kl", "elbo"):
            if validation:
                found[f"held_out_{term}"] = float(validation[term][-1])
        if isinstance(nll := evaluation.get("nll", {}).get("nll"), int | float):
            found["nll"] = float(nll)
        if timing:
            found["seconds"] = float(timing["seconds"][-1])
        return found

    @staticmethod
    def _known(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What ``read`` returns; empty if the file is damaged (``find_damage`` names it)."""
        try:
            return read()
        except ValueError:
            return {}


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _mean(values: NDArray[np.float64], chosen: NDArray[np.bool_]) -> float:
    return float(values[chosen].mean())
