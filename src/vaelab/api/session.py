"""Rank 0's side of training: it prepares the run, stores the records, and completes the run afterwards."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vaelab.api.completion import complete_run
from vaelab.api.doctor import NUM_INSPECTED
from vaelab.api.events import Finished, Note, Started, Watch
from vaelab.api.extend import extend, lengthen
from vaelab.api.load import describe_weights, load
from vaelab.api.report import update_report
from vaelab.api.resolve import compare_machines, find_device, resolve
from vaelab.api.run_images import RunImages, load_images, load_run_images
from vaelab.api.start import read_start
from vaelab.data.images import binarize
from vaelab.data.loader import Batches
from vaelab.models.likelihoods import Calibrated
from vaelab.models.vae import VAE
from vaelab.recipe import Recipe, ResolvedRecipe
from vaelab.run import HISTORY, MACHINE, MODEL, REPORT, TIMING, VALIDATION, OtherRecipe, Run
from vaelab.run.absence import RUNS
from vaelab.run.checkpoints import Facts, Tensors
from vaelab.run.resume import load_checkpoint, mend_tables
from vaelab.run.weights import CONDITION_ROWS
from vaelab.system.device import describe_limits, describe_machine, deterministic
from vaelab.system.distributed import launched_group
from vaelab.system.errors import InputError
from vaelab.system.files import DamagedFile, check_free_space
from vaelab.system.messages import count_of
from vaelab.system.noise import generator
from vaelab.system.signals import Ask, Request, Signals
from vaelab.training.checks import COLLAPSE, Diverged
from vaelab.training.loop import ProgressRecord
from vaelab.training.settings import Settings
from vaelab.training.state import State

LOOK_SECONDS = 0.5
"""Time between two looks for a request to finish."""
GRACE_SECONDS = 3
"""Time that a user has to press Ctrl-C again."""


@dataclass(frozen=True)
class Setup:
    """Everything that the ranks must have in common; rank 0 broadcasts it."""

    recipe: ResolvedRecipe
    settings: Settings
    device: str
    """Type of the device; each rank of a host takes its own."""
    data_dir: str | None
    selections: Mapping[str, Mapping[str, Any]]
    """Split → arguments that find rank 0's pictures."""
    fingerprints: tuple[str, str]
    """Fingerprints of the training and the validation images."""
    finish: bool = False
    """Whether to finish at the step of the checkpoint."""


class Session:
    """One call of ``train`` on rank 0, which alone writes files and reports events."""

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        data: Path | None,
        device: str,
        typed: str,
        watch: Watch,
        *,
        extend: bool = False,
        finish: bool = False,
    ) -> None:
        self._run, self._recipe, self._data, self._device_name = run, recipe, data, device
        self._typed, self._watch = typed, watch
        self._images: RunImages | None = None
        run.check_free()
        self._finish, self._extends = finish, False
        if run.exists and extend:
            self._recipe = lengthen(run, recipe)
            self._extends = "ended_at" in run.machine or bool(run.recipe.differences(self._recipe))
        elif run.exists:
            run.check_same(recipe)
        self._is_done = not self._extends and run.exists and run.is_finished and not _find_wrong_model(run)

    @property
    def images(self) -> RunImages:
        """The images that ``prepare`` loaded."""
        assert self._images is not None
        return self._images

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run, unless it is finished: then nothing will be written."""
        if self._is_done:
            yield
        else:
            with self._run.locked():
                yield

    def _tell(self, text: str, *, warning: bool = False) -> None:
        self._run.log(f"{'warning: ' if warning else ''}{text}")
        self._watch(Note(text, warning))

    # -- before the training --

    def prepare(self) -> Setup | None:
        """Load the images, resolve the recipe and return both as a setup; None if the model is trained already."""
        run = self._run
        if self._is_done:
            if self._data and str(self._data.resolve()) != run.machine.get("data_dir"):
                load_run_images(run, self._data)  # raises an error if they differ from the run's
            return None
        is_complete = run.is_trained and not self._extends and "finished" in run.machine
        if is_complete and run.missing == [REPORT] and not _find_wrong_model(run):
            return None
        changes: list[str] = []
        if run.exists:
            images = load_run_images(run, self._data, changes.append, verify=True)
        else:
            images = load_images(self._recipe, self._data, verify=True)
        self._images, self._device = images, find_device(self._device_name, run)
        recipe, settings = resolve(self._recipe, images, run, self._device)
        if not self._extends and (ended_at := run.machine.get("ended_at")):
            settings = replace(settings, num_steps=ended_at)
        for sentence in changes:
            self._tell(sentence, warning=True)
        place = self._data or Path(images.train.source)
        setup = Setup(
            recipe=recipe,
            settings=settings,
            device=self._device.type,
            data_dir=str(place.resolve()) if place.exists() else None,
            selections=images.selections,
            fingerprints=(images.train.fingerprint(), images.valid.fingerprint()),
            finish=self._finish,
        )
        self._setup, self._machine = setup, self._describe(setup, changes)
        if run.exists:
            self._check_records()
        if self._extends:
            self._extend(recipe, settings)
        return None if run.is_trained else setup

    def _describe(self, setup: Setup, changes: list[str]) -> dict[str, Any]:
        """Return the content of machine.json."""
        images = self.images
        notes = [*images.train.notes, *images.train.warnings]
        if images.valid_split == "test" and not images.selections:
            notes.append("validated on the test split: nothing was selected by it")
        if limits := describe_limits(self._device):
            notes.append(limits)
        if self._recipe.training.augment == "auto" and setup.settings.augment == "flip":
            notes.append("training images are flipped at random (training.augment): mirrored ones look like the others")
        if setup.settings.patience:
            notes.append("held-out images choose the weights (training.patience), so their loss is a little too low")
        return {
            "recipe": setup.recipe.name,
            "command": self._typed,
            **describe_machine(self._device),
            "threads": setup.settings.threads,
            "torch_device": str(self._device),
            "precision": setup.settings.precision,
            "ranks": launched_group().world_size,
            "steps": setup.settings.num_steps,
            "steps_per_epoch": -(-len(images.train) // setup.settings.batch_size),
            "data_dir": setup.data_dir,
            "data": images.train.source,
            "data_sha256": setup.fingerprints[0],
            "validated_on": images.valid_split,
            "notes": [note for note in notes if note not in changes],
        }

    def _extend(self, recipe: ResolvedRecipe, settings: Settings) -> None:
        """Let the run be one of the new length that is not finished; the shorter run is kept as a copy."""
        run, before = self._run, self._run.recipe.resolve(recipe.image_shape, recipe.num_images).num_steps
        present = run.machine.get("ended_at") or (before if run.is_trained else run.checkpoints.newest_step)
        if run.machine.get("ended_by"):
            raise InputError(
                f"{run.path} ended at step {present:,} by training.patience, which would end a longer one there too",
                subject="training.patience", value=recipe.training.patience,
            )  # fmt: skip
        if settings.num_steps < present or (settings.num_steps == present and run.is_trained):
            what = f"{run.path} was trained for {count_of(present, 'step')} already"
            raise InputError(
                f"{what}; --extend needs more steps, and {settings.num_steps:,} were given",
                subject="training.steps", value=settings.num_steps,
            )  # fmt: skip
        changes = {key: self._machine[key] for key in ("command", "steps", "steps_per_epoch")}
        kept = extend(run, recipe, changes, settings.validation_steps)
        where = f"; the run of {count_of(present, 'step')} is kept in {kept}" if kept else ""
        self._tell(f"extended to {count_of(settings.num_steps, 'step')}{where}")
        if settings.decay != "none" and settings.num_steps != before:
            self._tell(
                f"training.decay={settings.decay}: the learning rate fell towards the end of {before:,} steps and "
                f"continues as in a run of {settings.num_steps:,} steps; the result is not that of such a run",
                warning=True,
            )

    def _check_records(self) -> None:
        """Write machine.json again if it is missing, and set aside a model that is damaged or another run's."""
        run = self._run
        if not run.machine:
            self._tell(f"{run.path / MACHINE} is missing: data, threads and precision are those of now", warning=True)
            run.write_json(MACHINE, self._machine)
        if run.is_trained and (wrong := _find_wrong_model(run)):
            run.write_json(MACHINE, {key: value for key, value in run.machine.items() if key != "finished"})
            self._tell(f"{wrong}. It is set aside as {run.set_aside(MODEL).name}", warning=True)

    def start(self, state: State, batches: Batches) -> tuple[int, dict[str, Tensor], float]:
        """Begin or resume the run; return the step, the tensors and the training time to continue from.

        At step 0 the tensors are the weights of another run, if the recipe says to start from one.
        """
        run, setup, settings, vae = self._run, self._setup, self._setup.settings, state.vae
        place = setup.recipe.training.start_from
        first = read_start(place, vae) if place and not run.checkpoints.newest_step else None
        # the model, three checkpoints of weights and two moments in float32, and the figures
        needed = sum(vae.num_parameters.values()) * 4 * (3 * 3 + 1) + 10_000_000
        check_free_space(run.path, needed, "training", "choose another --run")
        if run.exists:
            for warning in compare_machines(run.machine, self._machine):
                self._tell(warning, warning=True)
        else:
            run.begin(setup.recipe, self._machine, setup.selections)
            if run.path.parent == RUNS:
                run.list_in_index(self._typed)
        run.log(", ".join(f"{key} {value}" for key, value in self._machine.items() if key not in ("notes", "command")))

        def find_fault(step: int, facts: Facts, tensors: Tensors) -> str | None:
            is_past_end = "it is past the end" if step > settings.num_steps else None
            own = {name: tensor for name, tensor in tensors.items() if name != CONDITION_ROWS}
            return run.find_mismatch(facts, any_length=True) or is_past_end or state.find_misfit(own)

        validated = settings.validation_steps
        step, tensors, notes = load_checkpoint(run, validated, find_fault, settings.checkpoint_every)
        for note in [*notes, *mend_tables(run, step, validated)]:
            self._tell(note, warning=True)
        state.has_collapsed = any(text.startswith(COLLAPSE) for text in run.warnings)
        counts = settings.num_steps, batches.num_images, batches.steps_per_epoch
        self._watch(Started(run, setup.recipe, step, *counts, vae.num_parameters, self._machine))
        for note in self._machine["notes"]:
            self._tell(note, warning=note in self.images.train.warnings)
        if step:
            self._tell(f"resumes after step {step} of {settings.num_steps}")
        else:
            run.log(f"starts: {count_of(settings.num_steps, 'step')}")
        self._warn_of_recipe(vae, state.objective.warmup_steps)
        timing = run.table(TIMING)
        tensors.pop(CONDITION_ROWS, None)
        if place and not step:
            first = first or read_start(place, vae)
            self._tell(first.description)
            tensors = first.tensors
        return step, tensors, float(timing["seconds"][-1]) if timing else 0.0

    def _warn_of_recipe(self, vae: VAE, warmup_steps: int) -> None:
        """Warn of settings that a user would hardly want."""
        recipe, num_steps = self._setup.recipe, self._setup.settings.num_steps
        pixels = self.images.train.pixels
        if warmup_steps > num_steps:
            lengths = count_of(warmup_steps, "step"), count_of(num_steps, "step")
            self._tell(f"the warm-up ({lengths[0]}) is longer than the run ({lengths[1]})", warning=True)
        if vae.likelihood.is_discrete and not vae.likelihood.wants_binary and pixels.dtype != np.uint8:
            text = f"the {recipe.likelihood['name']} likelihood rounds the images to 8 bits"
            self._tell(f"{text}, which have {8 * pixels.dtype.itemsize}", warning=True)
        if not vae.likelihood.wants_binary or recipe.data["binarize"] != "none":
            return
        if not np.isin(pixels[:NUM_INSPECTED], (0, 255)).all():
            self._tell(
                f"the {recipe.likelihood['name']} likelihood on grey images is a cross-entropy and not a likelihood "
                "(1907.06845); its values are not comparable with others. Try data.binarize=dynamic",
                warning=True,
            )

    # -- during the training --

    def _facts(self, state: State) -> dict[str, Any]:
        return describe_weights(self._setup.recipe, state.vae, self._setup.fingerprints[0], state.step)

    def listen(self, signals: Ask) -> Ask:
        """Return a function that reports a request to stop or finish: a signal, or ``vaelab finish`` elsewhere."""
        looked, is_asked = time.monotonic(), False

        def ask() -> int:
            nonlocal looked, is_asked
            if not is_asked and time.monotonic() - looked > LOOK_SECONDS:
                looked, is_asked = time.monotonic(), self._run.is_asked_to_finish()
            return Request.FINISH if is_asked else signals()

        return ask

    def offers_finish(self, signals: Signals, step: int) -> bool:
        """Return whether the user, who has stopped the training, presses Ctrl-C again in order to finish it."""
        if not signals.can_repeat or launched_group().world_size > 1:
            return False
        self._watch(
            Note(f"saved at step {step:,}; Ctrl-C again within {GRACE_SECONDS} s finishes the run at this step")
        )
        return signals.wait_for_another(GRACE_SECONDS)

    def store(self, record: ProgressRecord, state: State, batches: Batches) -> None:
        """Write a progress record to the tables and the log, then a checkpoint if one is due; report the record."""
        run, columns = self._run, list(record.terms)
        run.check_there()
        first = record.step - len(record.terms["loss"])
        rows = [
            [step + 1, batches.epoch(step) + 1, *map(float, values)]
            for step, values in enumerate(zip(*record.terms.values(), strict=True), first)
        ]
        if rows:
            run.append(HISTORY, ["step", "epoch", *columns], rows)
            timing = [record.step, record.seconds, record.images_per_second]
            run.append(TIMING, ["step", "seconds", "images_per_second"], [timing])
        if record.validation:
            row = record.validation.row()
            run.append(VALIDATION, ["step", "epoch", *row], [[record.step, record.epoch, *row.values()]])
            shown = ", ".join(f"{name} {row[name]:.4f}" for name in ("loss", "reconstruction", "kl", "elbo"))
            run.log(f"step {record.step}, epoch {record.epoch}, held-out images: {shown}")
        if record.checkpoint_due:
            tensors = {**state.tensors(), CONDITION_ROWS: state.vae.condition_rows}
            run.save_checkpoint(record.step, tensors, self._facts(state))
        if record.finished_early:
            is_over = state.best is not None and state.best.is_over
            ended = {"ended_at": record.step, **({"ended_by": "patience"} if is_over else {})}
            run.write_json(MACHINE, {**run.machine, **ended})
            run.withdraw_request()
            settings = self._setup.settings
            steps = f"{record.step:,} of {settings.num_steps:,}"
            reason = f"the held-out loss has not fallen in {count_of(settings.patience, 'validation')}"
            self._tell(f"stopped at step {steps}: {reason}" if is_over else f"finished at step {steps}, before its end")
        for warning in record.warnings:
            self._tell(warning, warning=True)
        for text in record.withdrawn:
            run.log(f"withdrawn: {text}")
            self._watch(Note(text))
        self._watch(record)

    def explain(self, error: Exception) -> str:
        """Return the message of an error that ends the training, with what is kept, and log it."""
        saved = self._run.checkpoints.newest_step
        if isinstance(error, Diverged):
            kept = f"The checkpoint of step {saved} is kept" if saved else "There is no checkpoint before it"
            text = f"{error}. {kept}"
        else:
            text = f"{error}; the same command resumes it"
        self._run.log(text)
        return text

    # -- after the training --

    def save_model(self, state: State) -> None:
        """Write the trained weights, which completes the training."""
        run, vae = self._run, state.vae
        settings = replace(self._setup.settings, num_steps=state.step)
        for note in mend_tables(run, settings.num_steps, settings.validation_steps):
            self._tell(note, warning=True)
        state.keep_final_weights()
        if state.best is not None and state.best.weights:
            run.write_json(MACHINE, {**run.machine, "best_step": state.best.step})
            self._tell(f"the weights of step {state.best.step:,} are kept: held-out loss {state.best.loss:.2f}")
        if isinstance(vae.likelihood, Calibrated):
            train = binarize(self.images.train, self.images.binarize)
            vae.calibrate_likelihood(train, generator(settings.seed, "likelihood"))
        run.save_model({**vae.state_dict(), CONDITION_ROWS: vae.condition_rows}, self._facts(state))
        run.log(f"trained {count_of(settings.num_steps, 'step')}")

    def complete(self) -> None:
        """Make what the run still lacks: evaluation, figures, findings, report."""
        run = self._run
        if self._images is not None:
            with deterministic(self._device, "fp32", self._setup.settings.threads):
                complete_run(run, self._images, self._device, self._setup.data_dir, self._tell)
        elif not self._is_done:  # only the report is missing
            for problem in update_report(run, load(run.path)):
                self._watch(Note(problem, warning=True))
        self._watch(Finished(run, already=self._is_done))


def _find_wrong_model(run: Run) -> str | None:
    """Return why the trained weights of a run cannot be used: damaged, or another run's; None if they can."""
    try:
        load(run.path)
    except (DamagedFile, OtherRecipe) as error:
        return str(error)
    return None
