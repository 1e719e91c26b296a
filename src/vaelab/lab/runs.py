"""``vaelab train``: plan a run, train it to its end or go on with it."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vaelab import evaluation, training
from vaelab import recipe as recipes
from vaelab.files import save_tensors
from vaelab.images import Batches
from vaelab.lab.data import DataOfRun, load_data
from vaelab.lab.results import MODEL_FORMAT, draw_figures, load, update_report
from vaelab.recipe import Recipe
from vaelab.run import HISTORY, MODEL, REPORT, TIMING, VALIDATION, Run
from vaelab.runtime import (
    Interrupted,
    default_threads,
    describe_machine,
    resolve_device,
    resolve_precision,
    settled,
    stop_signals,
)

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


Event = Started | training.Tick | Note | Finished
Watch = Callable[[Event], None]


def _unwatched(_event: Event) -> None:
    pass


def run_directory(recipe_name: str, overrides: Mapping[str, Any]) -> Path:
    """``runs/RECIPE`` with the overrides appended."""
    parts = [recipe_name, *(f"{key}={value}" for key, value in sorted(overrides.items()))]
    name = "-".join(part.replace("/", "_").replace("\\", "_").replace(" ", "") for part in parts)
    return Path("runs") / name


def plan(
    name: str, set: Mapping[str, Any] | None = None, *, data: str | Path | None = None, run: str | Path | None = None
) -> dict[str, Any]:
    """What ``train`` with these arguments would do, without doing it."""
    overrides = dict(set or {})
    recipe = recipes.load(name, overrides)
    images = load_data(recipe, Path(data) if data else None)
    recipe = recipe.settled(len(images.train))
    with torch.device("meta"):
        vae, _ = recipes.build(recipe, images.train.image_shape, len(images.train))
    target = Run(run or run_directory(recipe.name, overrides))
    return {
        "recipe": recipe,
        "run": target,
        "state": "done" if target.is_trained else "resumes" if target.exists else "new",
        "images": {"train": len(images.train), images.valid_split: len(images.valid)},
        "image_shape": images.train.image_shape,
        "steps": recipe.training.num_steps(len(images.train)),
        "parameters": vae.num_parameters,
        "equivalents": recipes.equivalents(recipe, vae.facts),
    }


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
    trained, RunInUse, OtherRecipe, Diverged, and Interrupted after it was asked to stop and has saved.
    """
    overrides = dict(set or {})
    recipe = recipes.load(name, overrides)
    target = Run(run or run_directory(recipe.name, overrides))
    if target.exists:
        target.check_same(recipe)
        if target.is_trained and (target.path / REPORT).is_file():
            watch(Finished(target, already=True))
            return target
    target.check_free()
    with target.locked():
        _train_locked(target, recipe, data, device, _command(name, overrides, data, run), watch)
    watch(Finished(target))
    return target


def _train_locked(
    target: Run, recipe: Recipe, data: str | Path | None, device_name: str, command: str, watch: Watch
) -> None:
    images = load_data(recipe, Path(data) if data else None)
    recipe = recipe.settled(len(images.train))
    resumed = target.exists
    device = resolve_device(device_name if device_name != "auto" or not resumed else target.machine["torch_device"])
    threads = _threads(recipe, target)
    precision = resolve_precision(recipe.training.precision)

    def tell(text: str, *, warning: bool = False) -> None:
        target.log(f"{'warning: ' if warning else ''}{text}")
        watch(Note(text, warning))

    with settled(device, precision, threads):
        machine = {
            "recipe": recipe.name,
            "command": command,
            **describe_machine(device),
            "torch_device": str(device),
            "precision": precision,
            "data_dir": str(Path(data).resolve()) if data else None,
            "data": images.train.source,
            "data_sha256": images.train.fingerprint(),
            "validated_on": images.valid_split,
            "notes": _notes(images),
        }
        if resumed:
            _check_machine(target, machine, tell)
        else:
            target.begin(recipe, machine)
        if not target.is_trained:
            _train_to_end(target, recipe, images, device, machine, tell, watch)
        model = load(target.path)
        model.to(device)
        evaluation.evaluate(target, model, images.valid, images.valid_split)
        draw_figures(target, model, images)
        update_report(target, model)


def _train_to_end(
    target: Run,
    recipe: Recipe,
    images: DataOfRun,
    device: torch.device,
    machine: Mapping[str, Any],
    tell: Callable[..., None],
    watch: Watch,
) -> None:
    settings = recipe.training
    vae, objective = recipes.build(recipe, images.train.image_shape, len(images.train))
    state = training.begin(vae, objective, settings, device)
    batches = Batches(images.train, settings.batch_size, settings.seed, device)
    step, tensors, notes = target.load_checkpoint()
    for note in notes:
        tell(note, warning=True)
    if step:
        state.restore(step, tensors)
    target.cut(step)
    total = settings.num_steps(len(images.train))
    watch(Started(target, recipe, step, total, len(images.train), batches.steps_per_epoch, vae.num_parameters, machine))
    tell(f"goes on after step {step} of {total}" if step else f"starts: {total} steps")
    if getattr(objective, "warmup_steps", 0) > total:
        tell(f"the warm-up ({objective.warmup_steps} steps) is longer than the run ({total} steps)", warning=True)
    timing = target.table(TIMING)
    with stop_signals() as stop:
        ticks = training.train(
            state,
            batches,
            settings,
            binarize=recipe.data["binarize"],
            precision=resolve_precision(settings.precision),
            valid=images.valid,
            stop=stop,
            seconds_before=float(timing["seconds"][-1]) if timing else 0.0,
        )
        for tick in ticks:
            _store(target, tick, batches)
            if tick.checkpoint_due:
                target.save_checkpoint(tick.step, state.tensors())
            for warning in tick.warnings:
                tell(warning, warning=True)
            watch(tick)
            if tick.stopped:
                tell(f"stopped at step {tick.step} of {total} and saved; the same command goes on from here")
                raise Interrupted(
                    f"stopped at step {tick.step} of {total} and saved; the same command goes on from here"
                )
        facts = {
            "format": MODEL_FORMAT,
            "recipe": {"title": recipe.title, **recipe.sections()},
            "name": recipe.name,
            "image_shape": list(images.train.image_shape),
            "num_images": len(images.train),
            "step": state.step,
        }
        save_tensors(target.path / MODEL, vae.state_dict(), facts)
    tell(f"trained {total} steps")


def _store(target: Run, tick: training.Tick, batches: Batches) -> None:
    count = len(tick.terms["loss"])
    columns = list(tick.terms)
    rows = []
    for i in range(count):
        step = tick.step - count + i
        rows.append([step + 1, batches.epoch(step) + 1, *(float(tick.terms[name][i]) for name in columns)])
    if rows:
        target.append(HISTORY, ["step", "epoch", *columns], rows)
        target.append(
            TIMING, ["step", "seconds", "images_per_second"], [[tick.step, tick.seconds, tick.images_per_second]]
        )
    if tick.validation:
        names = list(tick.validation)
        target.append(VALIDATION, ["step", "epoch", *names], [[tick.step, tick.epoch, *tick.validation.values()]])


def _threads(recipe: Recipe, target: Run) -> int:
    """The recipe's number, else that of the run's beginning, else every processor: bits depend on it."""
    if recipe.training.threads != "auto":
        return int(recipe.training.threads)
    return int(target.machine.get("threads", default_threads()))


def _check_machine(target: Run, machine: Mapping[str, Any], tell: Callable[..., None]) -> None:
    before = target.machine
    if before.get("data_sha256") != machine["data_sha256"]:
        raise ValueError(
            f"{target.path}: the training images are not those that the run began with "
            f"({before.get('data')} then, {machine['data']} now); name the right --data, or another --run"
        )
    changed = [key for key in ("device", "threads", "torch", "precision") if before.get(key) != machine[key]]
    if changed and not target.is_trained:
        what = ", ".join(f"{key} {before.get(key)} then, {machine[key]} now" for key in changed)
        tell(f"{what}: the run goes on, but not bit for bit as it would have", warning=True)


def _notes(images: DataOfRun) -> list[str]:
    notes = [*images.train.notes]
    if images.valid_split == "test":
        notes.append("validated on the test split: nothing was selected by it")
    return notes


def _command(name: str | Path, overrides: Mapping[str, Any], data: str | Path | None, run: str | Path | None) -> str:
    words = ["vaelab", "train", str(name)]
    for key, value in overrides.items():
        words += ["--set", f"{key}={value}"]
    words += ["--data", str(data)] if data else []
    words += ["--run", str(run)] if run else []
    return shlex.join(words)
