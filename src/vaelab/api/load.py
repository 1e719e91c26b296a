"""``vaelab.load``: the model of a run or of a model file."""

from collections.abc import Callable
from typing import Any

import torch

from vaelab import recipe as recipes
from vaelab.build import build
from vaelab.models.vae import VAE
from vaelab.recipe import Recipe, ResolvedRecipe
from vaelab.run import MODEL, OtherRecipe, Run
from vaelab.run.records import REMEDIES, ModelFacts
from vaelab.run.weights import CONDITION_ROWS, Weights, describe_step, read_weights
from vaelab.system.arguments import AnyPath, check_path
from vaelab.system.errors import InputError
from vaelab.system.files import DamagedFile, check_file, check_shape, load_tensors
from vaelab.system.messages import warn

MODEL_FORMAT = 2


def load(path: AnyPath) -> VAE:
    """Return the model of a run directory or a ``model.safetensors``, on the CPU. Nothing in the file is executed.

    If the run is not finished, its newest checkpoint is used, with a VaelabWarning.

    Raises DamagedFile if the file is damaged, OtherRecipe if a run contains the model of another recipe, and
    FileNotFoundError if there is no model.
    """
    return load_with_recipe(path)[0]


def load_with_recipe(path: AnyPath, tell: Callable[[str], None] = warn) -> tuple[VAE, Recipe]:
    """Return a model and the recipe it was trained with; raises as ``load`` does.

    ``tell`` is called with a note if training is not finished.
    """
    run = path if isinstance(path, Run) else None
    path = check_path(path, "a run or model")
    if path.exists() and not path.is_dir():
        check_file(path)
    if run is None and not path.is_file():
        run = Run(path)
    weights = read_weights(run) if run else Weights(path, *load_tensors(path))
    file, tensors, metadata = weights.path, dict(weights.tensors), weights.facts
    remedy = REMEDIES[MODEL] if run and weights.step is None else ""
    if metadata.get("format") != MODEL_FORMAT:
        found = f"format {metadata.get('format')}, not {MODEL_FORMAT}"
        raise InputError(f"{file}: not a vaelab model of this version ({found})", subject=file, value=metadata)
    facts = check_shape(file, metadata, ModelFacts, remedy)
    if run is not None and (reason := run.find_mismatch(metadata, any_length=weights.step is not None)):
        raise OtherRecipe(f"{file} does not belong to this run: {reason}; {remedy}")
    recipe = recipes.validate(facts.recipe, facts.name)
    channels, height, width = facts.image_shape
    resolved = recipe.resolve((channels, height, width), facts.num_images)
    vae, _ = build(resolved, tuple(facts.condition_names))
    try:
        vae.condition_rows = tensors.pop(CONDITION_ROWS)
        vae.load_state_dict(tensors)
    except (KeyError, RuntimeError):
        raise DamagedFile(file, "its weights do not fit its recipe", remedy) from None
    if run and weights.step is not None:
        tell(f"{run.path}: {describe_step(run, weights.step)}")
    vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return vae.eval(), recipe


def describe_weights(recipe: ResolvedRecipe, vae: VAE, data_sha256: str, step: int) -> dict[str, Any]:
    """Return the facts in a file of weights: which run it belongs to, and what ``load`` needs."""
    return {
        "recipe": {"title": recipe.title, **recipe.sections()},
        "data_sha256": data_sha256,
        "format": MODEL_FORMAT,
        "name": recipe.name,
        "image_shape": list(recipe.image_shape),
        "num_images": recipe.num_images,
        "condition_names": list(vae.spec.condition_names),
        "step": step,
    }
