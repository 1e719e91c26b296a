"""The directory of a run: which files are there, what they hold, atomic writes."""

import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from vaelab import recipe as recipes
from vaelab.data.containers import printable
from vaelab.data.pictures import shrink_png
from vaelab.recipe import Recipe
from vaelab.run import layout
from vaelab.run.absence import explain_absence
from vaelab.run.checkpoints import Checkpoints, Facts, Tensors
from vaelab.run.lock import RunLock
from vaelab.run.records import (
    REMEDIES,
    Evaluation,
    Findings,
    Machine,
    Pictures,
    ResultsOrigin,
    read_record,
    sampler_facts,
)
from vaelab.run.summary import describe_closing, summarise
from vaelab.run.tables import Table, append_rows, read_table
from vaelab.system import html, hub
from vaelab.system.arguments import AnyPath, check_path
from vaelab.system.errors import InputError, UsageError
from vaelab.system.files import (
    DamagedFile,
    check_file,
    check_parents,
    load_tensors,
    save_tensors,
    to_json,
    unique_path,
    write_atomic,
)
from vaelab.system.machine import now
from vaelab.system.paths import cache_dir
from vaelab.system.picture import Picture

SHOWN_NUMBERS = {"held_out_elbo": "held-out ELBO", "held_out_reconstruction": "reconstruction", "held_out_kl": "KL"}
"""Measured number → its name in the representation of a run."""
SHOWN_FIGURES, FIGURE_WIDTH = ("samples", "reconstructions"), 360
"""Figures in the representation of a run, and their largest width in pixels."""


LENGTH = ("training.epochs:", "training.steps:")
"""Beginnings of the differences of two recipes that concern the length of the training only."""


class OtherRecipe(InputError):
    """A run, or a file of a run, belongs to another recipe; ``value`` lists the differences."""


class Run:
    """One run on disk: ``vaelab.Run("runs/mnist")``.

    ``results``: a directory for figures, evaluation, findings and report (default: the run, which may be read-only).
    Files that are missing there are read from the run.

    A model on the Hugging Face hub, ``vaelab.Run("hub:USER/NAME")``, is downloaded into the cache of the hub's library.
    It contains recipe, model and evaluation only, and its results are written to vaelab's cache. Raises HubError if it
    cannot be downloaded.

    Raises FileNotFoundError, which suggests the run that was probably meant, if there is no run, and NotAFile if one of
    its files is a pipe or a device.
    """

    def __init__(self, path: AnyPath, results: AnyPath | None = None) -> None:
        self._locate(path, results)
        self.check_files()
        if not self.exists:
            raise FileNotFoundError(explain_absence(self.path))

    @classmethod
    def at(cls, path: AnyPath) -> "Run":
        """Return the run at a path where there may be none yet."""
        run = cls.__new__(cls)
        run._locate(path)
        return run

    @classmethod
    def temporary(cls) -> "Run":
        """Return a run to be trained in a temporary folder, which is removed with this object."""
        folder = tempfile.mkdtemp(prefix="vaelab-")
        run = cls.at(Path(folder) / "run")
        weakref.finalize(run, shutil.rmtree, folder, ignore_errors=True)
        return run

    def _locate(self, path: AnyPath, results: AnyPath | None = None) -> None:
        self.path = find_local(check_path(path, "a run"))
        published = hub.identify_snapshot(self.path)
        own = self.path if published is None else cache_dir() / "hub" / published[0].repository / published[1]
        self.results = own if results is None else check_path(results, "results")
        if self.results.resolve() == self.path.resolve():
            self.results = self.path
        self.name = printable(self.path.resolve().name) if published is None else published[0].name
        self.checkpoints = Checkpoints(self.path / layout.CHECKPOINTS)
        self._lock = RunLock(self.path)
        self._checkpoint_sha256 = ""

    def __fspath__(self) -> str:
        """Return the directory, so that functions accept a run in place of its path."""
        return str(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {self._summarise()})"

    def _summarise(self) -> str:
        words = {"state": "", "recipe": ""}
        return ", ".join(f"{words.get(name, name)} {value}".strip() for name, value in self._describe().items())

    def _repr_html_(self) -> str:
        """Return state, numbers and two figures for a notebook."""
        figures = {name: file for name in SHOWN_FIGURES if (file := self.figures.get(name))}
        shown = [html.picture(shrink_png(file.read_bytes(), FIGURE_WIDTH), name) for name, file in figures.items()]
        return html.fragment(f"Run {self.path}", self._describe(), shown)

    def _describe(self) -> dict[str, str]:
        """Return what is known about the run in words; a damaged file is left out."""
        if not self.exists:
            return {"state": "not begun"}
        found = {"state": "finished" if self.is_finished else "trained" if self.is_trained else "begun"}
        with suppress(ValueError, OSError):
            found["recipe"] = self.recipe.name
        measured = {} if found["state"] == "begun" else self.measured()
        found |= {title: f"{measured[key]:,.2f} nats" for key, title in SHOWN_NUMBERS.items() if key in measured}
        return found

    # -- state --

    @property
    def exists(self) -> bool:
        """Whether training was started here."""
        return (self.path / layout.RECIPE).is_file()

    @property
    def is_trained(self) -> bool:
        """Whether the training is complete."""
        return (self.path / layout.MODEL).is_file()

    @property
    def is_finished(self) -> bool:
        """Whether the training and everything made after it are complete."""
        return self.is_trained and "finished" in self.machine and not self.missing

    @property
    def missing(self) -> list[str]:
        """Files made after the training that are not there: evaluation, findings, figures, report."""
        figures = [f"{layout.FIGURES}/{name}.png" for name in self.machine.get("figures", [])]
        return [
            name
            for name in (layout.EVALUATION, layout.FINDINGS, *figures, layout.REPORT)
            if not _has_content(self.path / name)
        ]

    @property
    def is_report_stale(self) -> bool:
        """Whether there is no report among the results, or the run was evaluated after it was written."""
        evaluation, report = self._find(layout.EVALUATION), self.results / layout.REPORT
        if not report.is_file():
            return True
        return evaluation.is_file() and report.stat().st_mtime_ns < evaluation.stat().st_mtime_ns

    @property
    def is_writable(self) -> bool:
        """Whether files can be created in the directory of the results."""
        with suppress(OSError), tempfile.TemporaryFile(dir=self.results):
            return True
        return False

    def use_checkpoint(self, step: int, sha256: str) -> None:
        """Let results of this object belong to a checkpoint: they get a directory of their own.

        So results never overwrite files of the running process, and are never confused with those of the finished run.
        """
        self._checkpoint_sha256 = sha256
        if self.results == self.path:
            self.results = self.path / layout.UNFINISHED / f"step-{step:09d}"

    # -- content --

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        path = self.path / layout.RECIPE
        try:
            found = recipes.load(path)
        except UsageError as error:
            raise DamagedFile(path, str(error).removeprefix(f"{path}: "), REMEDIES[layout.RECIPE]) from None
        return replace(found, name=self.machine.get("recipe", self.name))

    @property
    def machine(self) -> dict[str, Any]:
        """Place and fingerprint of the data, device, threads and versions; empty if there is no file."""
        return read_record(self.path / layout.MACHINE, Machine)

    @property
    def selections(self) -> dict[str, dict[str, Any]]:
        """Split → arguments that find its pictures again; empty for a published data set."""
        return read_record(self.path / layout.PICTURES, Pictures)

    @property
    def model_path(self) -> Path:
        """The file of the trained weights; FileNotFoundError if the training is not complete."""
        if not self.is_trained:
            lacks = "not trained to the end yet"
            if not self.checkpoints.newest_step:
                lacks = "no checkpoint yet, the first is written within a minute"
            raise FileNotFoundError(f"{self.path}: {lacks}; the same vaelab train command resumes it")
        return self.path / layout.MODEL

    @property
    def is_published(self) -> bool:
        """Whether this is a copy of a model on the hub."""
        return hub.identify_snapshot(self.path) is not None

    @property
    def data_sha256(self) -> str | None:
        """Fingerprint of the training images; None if it is not known."""
        if known := self.machine.get("data_sha256"):
            return str(known)
        return load_tensors(self.model_path)[1].get("data_sha256") if self.is_published else None  # type: ignore[return-value]

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the file of the weights that are used."""
        return self._checkpoint_sha256 or hashlib.sha256(self.model_path.read_bytes()).hexdigest()

    @property
    def figures(self) -> dict[str, Picture]:
        """Name → file of every figure that was drawn; a file shows itself in a notebook."""
        folders = dict.fromkeys((self.path / layout.FIGURES, self.results / layout.FIGURES))
        return {
            file.stem: Picture(file) for folder in folders for file in sorted(folder.glob("*.png")) if file.is_file()
        }

    def table(self, name: str) -> Table:
        """Return column → values of a table; empty if there is no file. Raises DamagedFile."""
        return read_table(self.path / name, layout.TABLES[name], is_growing=not self.is_trained)

    @property
    def history(self) -> Table:
        """Column → one value per batch."""
        return self.table(layout.HISTORY)

    @property
    def validation(self) -> Table:
        """Column → one value per validation; empty if there was none."""
        return self.table(layout.VALIDATION)

    @property
    def evaluation(self) -> dict[str, Any]:
        """Metric → its numbers and protocol."""
        return read_record(self._find(layout.EVALUATION), Evaluation)

    @property
    def measured_splits(self) -> list[str]:
        """Splits other than the one that the run validates on for which there are results."""
        before, after = layout.evaluation_file("*").split("*")
        files = {file.name for folder in (self.path, self.results) for file in folder.glob(f"{before}*{after}")}
        return sorted(name.removeprefix(before).removesuffix(after) for name in files)

    def split_evaluation(self, split: str) -> dict[str, Any]:
        """Metric → its numbers and protocol, on another split than the one that the run validates on."""
        path = self._find(layout.evaluation_file(split))
        return read_record(path, Evaluation, REMEDIES[layout.EVALUATION])

    @property
    def findings(self) -> list[dict[str, str]]:
        """The doctor's findings, problems first; empty if the run was not examined."""
        found: list[dict[str, str]] = read_record(self._find(layout.FINDINGS), Findings).get("findings", [])
        return found

    def read_sampler(self, section: Mapping[str, Any]) -> Tensors | None:
        """Return the state of the stored sampler; None if there is none with this section for the weights of the run.

        Raises DamagedFile.
        """
        path = self.path / layout.SAMPLER
        if not (path.is_file() and self.is_trained):
            return None
        tensors, facts = load_tensors(path, remedy=REMEDIES[layout.SAMPLER])
        return tensors if facts == sampler_facts(section, self.weights_sha256) else None

    @property
    def warnings(self) -> list[str]:
        """The warnings in the log, each once, without those that were withdrawn later."""
        path = self.path / layout.LOG
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

    def measured(self) -> dict[str, float]:
        """Return the numbers that ``[expected]`` of a recipe may name; those of a damaged file are left out.

        "nll" is that of the test split if it was measured there, as published ones are.
        """
        content, _ = self._read_all()
        history, validation, timing, evaluation, machine = (
            content.get(name, {})
            for name in (layout.HISTORY, layout.VALIDATION, layout.TIMING, layout.EVALUATION, layout.MACHINE)
        )
        test = content.get(layout.evaluation_file("test"), {})
        evaluation = {**evaluation, **{name: test[name] for name in ("nll",) if name in test}}
        steps_per_epoch, best_step = machine.get("steps_per_epoch", 0), machine.get("best_step")
        return summarise(history, validation, timing, evaluation, steps_per_epoch, best_step)

    def describe_closing(self) -> str:
        """Return the part of training over which the final losses, ``loss_at_end`` …, are means."""
        return describe_closing(self.history["epoch"], self.machine.get("steps_per_epoch", 0))

    def find_damage(self) -> list[DamagedFile]:
        """Return an error for each damaged table and JSON file, and for the stored sampler if it is damaged."""
        damage = self._read_all()[1]
        try:
            self.read_sampler({})
        except DamagedFile as error:
            damage.append(error)
        return damage

    def _read_all(self) -> tuple[dict[str, Any], list[DamagedFile]]:
        """Return file → content of the readable tables and JSON files, and an error for each damaged one."""
        readers: dict[str, Callable[[], Any]] = {
            layout.MACHINE: lambda: self.machine,
            layout.EVALUATION: lambda: self.evaluation,
            layout.FINDINGS: lambda: self.findings,
            **{name: partial(self.table, name) for name in layout.TABLES},
            **{layout.evaluation_file(split): partial(self.split_evaluation, split) for split in self.measured_splits},
        }
        content, damage = {}, []
        for name, read in readers.items():
            try:
                content[name] = read()
            except DamagedFile as error:
                damage.append(error)
        return content, damage

    def _find(self, name: str) -> Path:
        """Return the path of a file among the results, else in the run."""
        return self.results / name if (self.results / name).exists() else self.path / name

    # -- checks --

    def check_files(self) -> None:
        """Raise NotAFile if a pipe or a device is in the place of a file: opening it would block."""
        for path in (file for pattern in layout.PATTERNS for file in self.path.glob(pattern)):
            if path.exists() and not path.is_dir():
                check_file(path)

    def check_free(self) -> None:
        """Raise FileExistsError if there is no run but something else, which a run must not mix with."""
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"{self.path} is a file; choose another --run")
        if not self.exists and (others := _list_others(self.path, layout.BEGUN_WITH)):
            raise FileExistsError(f"{self.path} holds other files ({others[0]} …) and no run; choose another --run")

    def check_same(self, recipe: Recipe) -> None:
        """Raise OtherRecipe with every difference if ``recipe`` is not that of the run."""
        if differences := self.recipe.differences(recipe):
            advice = "choose another --run"
            if all(difference.startswith(LENGTH) for difference in differences):
                advice += ", or train this one to the new length with --extend"
            what = f"{self.path} holds a run of another recipe ({'; '.join(differences)}); {advice}"
            raise OtherRecipe(what, subject=self.path, value=differences)

    def find_mismatch(self, facts: Facts, *, any_length: bool = False) -> str | None:
        """Return how recipe and data in a file of weights differ from the run's; None if they agree.

        ``any_length``: the training may have another length, as in a checkpoint of a run that was extended since.
        """
        if isinstance(told := facts.get("recipe"), Mapping):
            try:
                other = recipes.validate(told, self.name)
            except UsageError as error:
                return f"its recipe cannot be read: {error}"
            differences = self.recipe.differences(other, (f"in {layout.RECIPE}", "in this file"))
            if any_length:
                differences = [difference for difference in differences if not difference.startswith(LENGTH)]
            if differences:
                return f"it is of another run: {'; '.join(differences)}"
        here, there = self.machine.get("data_sha256"), facts.get("data_sha256")
        if here and there and here != there:
            return "it was trained on other images than this run"
        return None

    def check_writable(self) -> None:
        """Make the directory of the results; call this before work whose results are written there.

        Raises PermissionError if nothing can be written there, FileExistsError if it holds something else.
        """
        if self.results == self.path:
            if not self.is_writable:
                raise PermissionError(f"{self.path} cannot be written to; name another directory with --out")
            return
        source = {"run": str(self.path.resolve()), "weights_sha256": self.weights_sha256}
        if self.results.exists() and not self.results.is_dir():
            raise FileExistsError(f"{self.results} is a file; --out names a directory")
        if self.results.is_relative_to(self.path / layout.UNFINISHED) or self.results.is_relative_to(cache_dir()):
            self.results.mkdir(parents=True, exist_ok=True)
        check_parents(self.results)
        known = read_record(self.results / layout.SOURCE, ResultsOrigin)
        if known and known["weights_sha256"] != source["weights_sha256"]:
            raise FileExistsError(f"{self.results} holds results of another run, {known['run']}; choose another --out")
        if not known and (others := _list_others(self.results, [layout.CACHE])):
            raise FileExistsError(f"{self.results} holds other files ({others[0]} …); choose another --out")
        write_atomic(self.results / layout.SOURCE, to_json(source))

    # -- writing --

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process; raise RunInUse if another one does. See ``RunLock.hold``."""
        if self.is_published:
            raise UsageError(f"{self.name} is a copy of a model on the hub, which cannot be trained", subject="run")
        self.check_files()
        with self._lock.hold():
            yield

    def list_in_index(self, command: str) -> None:
        """Append the name of this run and the command that trains it to the index of its folder."""
        with suppress(OSError), (self.path.parent / layout.INDEX).open("a", encoding="utf-8", errors="replace") as file:
            file.write(f"{now()}  {self.name}  {' '.join(command.splitlines())}\n")

    def ask_to_finish(self) -> None:
        """Ask the process that trains this run to finish it."""
        (self.path / layout.FINISH).touch()

    def is_asked_to_finish(self) -> bool:
        """Whether the process that trains this run is asked to finish it."""
        return (self.path / layout.FINISH).exists()

    def withdraw_request(self) -> None:
        """Remove a request to finish."""
        with suppress(OSError):
            (self.path / layout.FINISH).unlink()

    def check_there(self) -> None:
        """Raise RunRemoved if the directory that this process holds was removed or replaced."""
        self._lock.check()

    def begin(self, recipe: Recipe, machine: Mapping[str, Any], selections: Mapping[str, Any] | None = None) -> None:
        """Write the files that a new run starts with; recipe.toml comes last and makes it a run."""
        self.write_json(layout.MACHINE, machine)
        if selections:
            write_atomic(self.path / layout.PICTURES, to_json(selections))
        write_atomic(self.path / layout.RECIPE, recipe.to_toml())

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file of this run atomically."""
        self._write(name, to_json(content))

    def write_figure(self, name: str, png: bytes) -> None:
        """Write ``figures/NAME.png`` atomically."""
        self._write(f"{layout.FIGURES}/{name}.png", png)

    def write_report(self, page: str) -> None:
        """Write ``report.html`` atomically."""
        self._write(layout.REPORT, page)

    def _write(self, name: str, content: str | bytes) -> None:
        self.check_there()
        write_atomic((self.path if name == layout.MACHINE else self.results) / name, content)

    def save_model(self, tensors: Tensors, facts: Facts) -> None:
        """Write the trained weights, which completes the training."""
        self.check_there()
        save_tensors(self.path / layout.MODEL, tensors, facts)

    def save_sampler(self, tensors: Tensors, section: Mapping[str, Any]) -> None:
        """Write the state of the recipe's sampler, which has this section and is fitted to the model."""
        self.check_there()
        save_tensors(self.path / layout.SAMPLER, tensors, sampler_facts(section, self.weights_sha256))

    def save_checkpoint(self, step: int, tensors: Tensors, facts: Facts) -> None:
        """Flush the tables to the disk, then write a checkpoint."""
        self.check_there()
        for path in (self.path / name for name in layout.TABLES):
            if path.exists():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        self.checkpoints.save(step, tensors, facts)

    def log(self, line: str) -> None:
        """Append one dated line to run.log."""
        self.check_there()
        with (self.path / layout.LOG).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{now()}  {' '.join(line.splitlines())}\n")

    def append(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
        """Append rows to a table; one with other columns is set aside first, and the log says so."""
        self.check_there()
        if note := append_rows(self.path / name, columns, rows):
            self.log(f"warning: {note}")

    def set_aside(self, name: str) -> Path:
        """Rename a damaged file and return its new path."""
        kept = unique_path(self.path / f"{name}.damaged")
        (self.path / name).replace(kept)
        return kept


def find_local(path: Path) -> Path:
    """Return a path itself, or the folder to which a model on the hub is downloaded. Raises HubError."""
    address = hub.parse_address(path)
    if address is None:
        return path
    first = (layout.RECIPE, layout.EVALUATION, layout.evaluation_file("*"))
    return hub.download(address, first, (layout.MODEL, layout.SAMPLER))


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _list_others(folder: Path, own: Sequence[str] = ()) -> list[str]:
    """Return the names of visible files in a folder besides one's own; none if there is no folder."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [name for name in names if not name.startswith(".") and name not in own]
