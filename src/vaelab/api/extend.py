"""Training a run longer than it was asked for: ``vaelab train … --extend``."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vaelab.recipe import Recipe
from vaelab.recipe.training import choose_epochs
from vaelab.run import (
    EVALUATION,
    FINDINGS,
    IMAGES,
    MACHINE,
    MODEL,
    RECIPE,
    REPORT,
    SAMPLER,
    VALIDATION,
    OtherRecipe,
    Run,
)
from vaelab.run.layout import CACHE, CHECKPOINTS, EARLIER, FIGURES, LOCK, TRACKERS, UNFINISHED, evaluation_file
from vaelab.run.tables import keep_rows
from vaelab.system.files import to_json, unique_path, write_atomic

NOT_KEPT = (CACHE, CHECKPOINTS, EARLIER, IMAGES, LOCK, TRACKERS, UNFINISHED)
"""Files of a run that no copy of the shorter run gets."""
OF_LENGTH = ("finished", "ended_at", "ended_by", "best_step", "figures")
"""Keys of machine.json that a longer training begins without."""


def lengthen(run: Run, asked: Recipe) -> Recipe:
    """Return the recipe of ``run`` with the length that ``asked`` has; OtherRecipe if it differs in anything else.

    "auto" stands for the length of the run, "long" for that of its images.
    """
    own, epochs = run.recipe, asked.training.epochs
    if epochs == "auto":
        epochs = own.training.epochs
    elif isinstance(epochs, str) and (per_epoch := run.machine.get("steps_per_epoch")):
        epochs = choose_epochs(epochs, per_epoch)
    training = replace(own.training, steps=asked.training.steps, epochs=epochs)
    longer = replace(own, title=asked.title, expected=asked.expected, training=training)
    if differences := longer.differences(asked):
        what = f"{run.path} holds a run of another recipe ({'; '.join(differences)}); --extend only changes the length"
        raise OtherRecipe(what, subject=run.path, value=differences)
    return longer


def extend(run: Run, recipe: Recipe, machine: Mapping[str, Any], validated: Sequence[int]) -> Path | None:
    """Turn a run into the unfinished run of a longer ``recipe``; return the copy of the shorter one, if it was trained.

    The copy is a complete run. It is there before anything is removed. ``machine``: keys of machine.json that the
    length changes; ``validated``: the steps after which the longer training validates.
    """
    kept = _keep_copy(run) if run.is_trained else None
    for name in (MODEL, SAMPLER, EVALUATION, FINDINGS, REPORT):
        (run.path / name).unlink(missing_ok=True)
    for file in run.path.glob(evaluation_file("*")):
        file.unlink()
    if (run.path / FIGURES).is_dir():
        shutil.rmtree(run.path / FIGURES)
    known = {key: value for key, value in run.machine.items() if key not in OF_LENGTH}
    run.write_json(MACHINE, {**known, **machine})
    write_atomic(run.path / RECIPE, recipe.to_toml())
    keep_rows(run.path / VALIDATION, validated)
    return kept


def _keep_copy(run: Run) -> Path:
    """Copy a trained run into its folder of earlier lengths and return the copy."""
    step = run.machine.get("ended_at") or len(run.history.get("step", ()))
    target = unique_path(run.path / EARLIER / f"step-{step:09d}")
    draft = target.with_name(f".{target.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for path in run.path.iterdir():
        if path.name in NOT_KEPT or path.name.startswith("."):
            continue
        if path.is_dir():
            shutil.copytree(path, draft / path.name)
        else:
            shutil.copy2(path, draft / path.name)
    if (run.path / IMAGES).is_dir():  # images from memory stay where they are
        write_atomic(draft / MACHINE, to_json({**run.machine, "data_dir": str((run.path / IMAGES).resolve())}))
    return draft.rename(target)
