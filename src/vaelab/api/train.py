"""``vaelab train``: train a run to its end, or go on with it."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaelab import recipe as recipes
from vaelab.api.doctor import NUM_INSPECTED, update_findings
from vaelab.api.evaluate import evaluation_of
from vaelab.api.figures import update_figures
from vaelab.api.load import CONDITION_ROWS, MODEL_FORMAT, load
from vaelab.api.plan import command, run_directory
from vaelab.api.ranks import Plan, follow, prepare, restore
from vaelab.api.report import update_report
from vaelab.api.resolve import compare_machines, device_before, precision_of, resolve, threads_of
from vaelab.api.run_images import RunImages, load_images, load_run_images
from vaelab.data.images import Images, binarize
from vaelab.data.loader import Batches
from vaelab.evaluation.evaluate import default_metrics, measure_run
from vaelab.models.likelihoods import Calibrated
from vaelab.models.vae import VAE
from vaelab.recipe import Recipe, Training
from vaelab.run import EVALUATION, FINDINGS, HISTORY, MACHINE, MODEL, REPORT, TIMING, VALIDATION, OtherRecipe, Run
from vaelab.system.device import describe_machine, deterministic, now, resolve_device
from vaelab.system.distributed import current_group, join_group, launched_group
from vaelab.system.failures import describe_error
from vaelab.system.files import DamagedFile, check_free_space
from vaelab.system.seeds import generator
from vaelab.system.signals import Interrupted, stop_signals
from vaelab.training import loop as training
from vaelab.training.objectives import Objective
from vaelab.training.state import State

# -- events that ``train`` reports while it works ---------------------------------------------------------------------


@dataclass(frozen=True)
class Started:
    """Training begins or goes on."""

    run: Run
    recipe: Recipe
    first_step: int
    num_steps: int
    num_images: int
    steps_per_epoch: int
    num_parameters: dict[str, int]
    machine: Mapping[str, Any]


@dataclass(frozen=True)
class Note:
    """One sentence for the person; ``warning`` if it should worry them."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Finished:
    """The run is complete; ``already`` if it was before."""

    run: Run
    already: bool = False


Event = Started | training.ProgressRecord | Note | Finished
Watch = Callable[[Event], None]


def _unwatched(event: Event) -> None:
    """From Python, a warning is a warning."""
    if isinstance(event, Note) and event.warning:
        warnings.warn(event.text, stacklevel=2)


def train(
    name: str | Path,
    set: Mapping[str, Any] | None = None,
    *,
    data: str | Path | None = None,
    run: str | Path | None = None,
    device: str = "auto",
    watch: Watch = _unwatched,
) -> Run:
    """Train a recipe into a run directory, or go on where it stopped; draw the figures and write the report.

    ``name``: a preset or a .toml. ``set``: dotted keys such as {"objective.beta": 4}. ``data``: where the images lie.
    ``run``: the directory (default runs/RECIPE with the overrides appended). Raises ValueError for what cannot be
    trained, TypeError for arguments of another type, such as an array, RunInUse, OtherRecipe, Diverged, and Interrupted
    after it was asked to stop and has saved.

    Started by ``torchrun``, every process trains on its share of each batch; the first alone writes, and makes the rest
    of the run when the others are done.
    """
    overrides = recipes.check_overrides(set)
    recipe = recipes.load(name, overrides)
    data = recipes.check_place(data)
    target = Run(run or run_directory(recipe.name, overrides))
    if device != "auto":
        resolve_device(device)  # of a finished run too, where nothing is computed on it
    if not launched_group().is_main:
        follow(data)
        return target
    if target.exists:
        target.check_same(recipe)
        if target.is_finished and not _find_wrong_model(target):
            _check_place(target, data)
            with join_group() as together:
                together.broadcast(None)
            watch(Finished(target, already=True))
            return target
    target.check_free()
    with target.locked():
        if _lacks_report_alone(target):  # which needs no images
            with join_group() as together:
                together.broadcast(None)
            for problem in update_report(target, load(target.path)):
                watch(Note(problem, warning=True))
        else:
            typed = command(name, overrides, data, run, device)
            _train_locked(target, recipe, data, device, typed, watch)
    watch(Finished(target))
    return target


def _lacks_report_alone(target: Run) -> bool:
    if not target.is_trained or "finished" not in target.machine or target.missing != [REPORT]:
        return False
    return not _find_wrong_model(target)


def _check_place(target: Run, data: str | Path | None) -> None:
    """ValueError if ``data`` holds other images than a finished run was trained on."""
    if data is not None and str(Path(data).resolve()) != target.machine.get("data_dir"):
        load_run_images(target, data)


def _train_locked(target: Run, recipe: Recipe, data: Path | None, device_name: str, typed: str, watch: Watch) -> None:
    resumed = target.exists
    changes: list[str] = []
    images = (
        load_run_images(target, data, changes.append, verify=True)
        if resumed
        else load_images(recipe, data, verify=True)
    )
    recipe = resolve(recipe, images, target)
    device = resolve_device(device_name if device_name != "auto" else device_before(target))
    threads = threads_of(recipe, target)
    precision = precision_of(recipe, target, device)

    def tell(text: str, *, warning: bool = False) -> None:
        target.log(f"{'warning: ' if warning else ''}{text}")
        watch(Note(text, warning))

    for sentence in changes:
        tell(sentence, warning=True)
    with deterministic(device, precision, threads):
        place = data or Path(images.train.source)
        machine = {
            "recipe": recipe.name,
            "command": typed,
            **describe_machine(device),
            "torch_device": str(device),
            "precision": precision,
            "ranks": launched_group().world_size,
            "data_dir": str(place.resolve()) if place.exists() else None,
            "data": images.train.source,
            "data_sha256": images.train.fingerprint(),
            "validated_on": images.valid_split,
            "notes": [note for note in _notes(images) if note not in changes],
        }
        if not resumed:
            target.begin(recipe, machine, images.selections)
        elif not target.machine:
            tell(f"{target.path / MACHINE} is missing: data, threads and precision are those of now", warning=True)
            target.write_json(MACHINE, machine)
        if wrong := target.is_trained and _find_wrong_model(target):
            target.write_json(MACHINE, {key: value for key, value in target.machine.items() if key != "finished"})
            tell(f"{wrong}. It is set aside as {target.set_aside(MODEL).name}", warning=True)
        with join_group() as together:
            if target.is_trained:
                together.broadcast(None)
            else:
                if resumed:
                    compare_machines(target.machine, machine, tell)
                about = ", ".join(f"{key} {value}" for key, value in machine.items() if key not in ("notes", "command"))
                target.log(about)
                _train_to_end(target, recipe, images, device, machine, tell, watch)
    with deterministic(device, "fp32", threads):
        _complete(target, images, device, str(place.resolve()) if place.exists() else None, tell)


def _find_wrong_model(target: Run) -> str | None:
    """What is wrong with the trained weights of a run: damaged, or those of another run; None if nothing is."""
    try:
        load(target.path)
    except (DamagedFile, OtherRecipe) as error:
        return str(error)
    return None


def _complete(
    target: Run, images: RunImages, device: torch.device, data_dir: str | None, tell: Callable[..., None]
) -> None:
    """Evaluate, draw, examine and report what is not there yet, and then mark the run as finished.

    A metric, a figure or a check that fails is told and skipped. A file that is damaged is set aside and made again.
    """
    for name in (error.path.name for error in target.find_damage() if error.path.name in (EVALUATION, FINDINGS)):
        tell(f"{target.path / name} is damaged: it is set aside as {target.set_aside(name).name}", warning=True)
    model = load(target.path)
    model.to(device)

    def failed(kind: str) -> Callable[[str, Exception], None]:
        return lambda name, error: tell(f"{kind} {name} is left out: {describe_error(error)}", warning=True)

    was_finished = "finished" in target.machine
    metrics = default_metrics("train")
    evaluation = evaluation_of(target, model, images, metrics)
    measure_run(target, evaluation, images.protocol, metrics, on_failure=failed("metric"))
    if EVALUATION in target.missing:
        target.write_json(EVALUATION, {})  # every metric failed
    drawn = target.machine.get("figures", [])
    if was_finished:
        lost = [name for name in drawn if not target.figures.get(name)]
        if lost:
            update_figures(target, model, images, failed("figure"), lost)
    else:
        drawn = update_figures(target, model, images, failed("figure"), target.recipe.training.figures)
    update_findings(target, model, images.valid, failed("check"))
    finished = now()
    for problem in update_report(target, model, finished):
        tell(problem, warning=True)
    machine = {**target.machine, "data_dir": data_dir, "figures": list(drawn), "finished": finished}
    target.write_json(MACHINE, machine)


def _train_to_end(
    target: Run,
    recipe: Recipe,
    images: RunImages,
    device: torch.device,
    machine: Mapping[str, Any],
    tell: Callable[..., None],
    watch: Watch,
) -> None:
    settings = recipe.training
    plan = Plan(
        recipe,
        machine["data_dir"],
        machine["data_sha256"],
        images.valid.fingerprint(),
        device.type,
        machine["precision"],
        machine["threads"],
        images.selections,
    )
    current_group().broadcast(plan)
    state, batches = prepare(plan, images.train, device)
    vae = state.vae
    total = settings.num_steps(len(images.train))
    validated = _validated_steps(settings, total)

    def refuse(step: int, facts: Mapping[str, object], tensors: Mapping[str, torch.Tensor]) -> str | None:
        return target.find_mismatch(facts) or ("it is past the end" if step > total else state.find_misfit(tensors))

    step, tensors, notes = target.load_checkpoint(validated, refuse, settings.checkpoint_every)
    for note in [*notes, *target.mend_tables(step, validated)]:
        tell(note, warning=True)
    restore(state, step, tensors)
    if any(text.startswith(training.COLLAPSE) for text in target.warnings):
        state.warned.add(training.COLLAPSE)
    watch(Started(target, recipe, step, total, len(images.train), batches.steps_per_epoch, vae.num_parameters, machine))
    for note in machine["notes"]:
        tell(note, warning=note in images.train.warnings)
    if step:
        tell(f"goes on after step {step} of {total}")
    else:
        target.log(f"starts: {total} steps")
    _warn_of_recipe(recipe, vae, state.objective, images.train, total, tell)
    _check_space(target, sum(vae.num_parameters.values()))
    timing = target.table(TIMING)
    identity = {"recipe": {"title": recipe.title, **recipe.sections()}, "data_sha256": machine["data_sha256"]}
    with stop_signals() as stop:
        records = training.train(
            state,
            batches,
            settings,
            binarize=recipe.data["binarize"],
            precision=plan.precision,
            valid=images.valid,
            stop=stop,
            seconds_before=float(timing["seconds"][-1]) if timing else 0.0,
        )
        try:
            for record in records:
                _store(target, record, batches, state, identity)
                for warning in record.warnings:
                    tell(warning, warning=True)
                for text in record.withdrawn:
                    target.log(f"withdrawn: {text}")
                    watch(Note(text))
                watch(record)
                if record.stopped:
                    stopped = f"stopped at step {record.step} of {total} and saved; the same command goes on from here"
                    raise Interrupted(stopped)
        except (training.Diverged, Interrupted) as error:
            saved = target.newest_checkpoint
            kept = f". The checkpoint of step {saved} is kept" if saved else ". There is no checkpoint before it"
            text = f"{error}{kept if isinstance(error, training.Diverged) else ''}"
            target.log(text)
            raise type(error)(text) from None
        finally:
            batches.close()
    if isinstance(vae.likelihood, Calibrated):  # here a person may interrupt: the same command does it again
        vae.calibrate_likelihood(binarize(images.train, images.binarize), generator(settings.seed, "likelihood"))
    for note in target.mend_tables(total, validated):
        tell(note, warning=True)
    facts = {
        **identity,
        "format": MODEL_FORMAT,
        "name": recipe.name,
        "image_shape": list(images.train.image_shape),
        "num_images": len(images.train),
        "condition_names": list(vae.spec.condition_names),
        "step": state.step,
    }
    target.save_model({**vae.state_dict(), CONDITION_ROWS: vae.condition_rows}, facts)
    target.log(f"trained {total} steps")


def _validated_steps(settings: Training, total: int) -> list[int]:
    """The steps after which the training loop validates."""
    every = settings.validate_every
    assert every != "auto", "settle the recipe first"
    return sorted({*range(every, total + 1, every), total}) if every else []


def _check_space(target: Run, num_parameters: int) -> None:
    """Raise DiskFull without room for three checkpoints (weights and two moments, float32), model and pictures."""
    needed = num_parameters * 4 * (3 * 3 + 1) + 10_000_000
    check_free_space(target.path, needed, "training", "choose another --run")


def _warn_of_recipe(
    recipe: Recipe, vae: VAE, objective: Objective, train: Images, total: int, tell: Callable[..., None]
) -> None:
    """What in a recipe a person would hardly want."""
    warmup = objective.warmup_steps
    if warmup > total:
        tell(f"the warm-up ({warmup} steps) is longer than the run ({total} steps)", warning=True)
    stays_grey = recipe.data["binarize"] == "none"
    if vae.likelihood.wants_binary and stays_grey and not np.isin(train.pixels[:NUM_INSPECTED], (0, 255)).all():
        name = recipe.likelihood["name"]
        tell(
            f"the {name} likelihood on grey images is a cross entropy, no likelihood (1907.06845); "
            "its numbers compare with nothing else. Try data.binarize=dynamic",
            warning=True,
        )


def _store(
    target: Run, record: training.ProgressRecord, batches: Batches, state: State, identity: Mapping[str, object]
) -> None:
    """Store a progress record, the checkpoint last."""
    target.check_there()
    count = len(record.terms["loss"])
    columns = list(record.terms)
    rows = []
    for i in range(count):
        step = record.step - count + i
        rows.append([step + 1, batches.epoch(step) + 1, *(float(record.terms[name][i]) for name in columns)])
    if rows:
        target.append(HISTORY, ["step", "epoch", *columns], rows)
        target.append(
            TIMING, ["step", "seconds", "images_per_second"], [[record.step, record.seconds, record.images_per_second]]
        )
    if record.validation:
        row = record.validation.row()
        target.append(VALIDATION, ["step", "epoch", *row], [[record.step, record.epoch, *row.values()]])
        shown = ", ".join(f"{name} {row[name]:.4f}" for name in ("loss", "reconstruction", "kl", "elbo"))
        target.log(f"step {record.step}, epoch {record.epoch}, held-out images: {shown}")
    if record.checkpoint_due:
        target.save_checkpoint(record.step, state.tensors(), identity)


def _notes(images: RunImages) -> list[str]:
    notes = [*images.train.notes, *images.train.warnings]
    if images.valid_split == "test" and not images.selections:
        notes.append("validated on the test split: nothing was selected by it")
    return notes
