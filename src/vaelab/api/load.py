"""``vaelab.load``: the model of a run or of a model file."""

import torch

from vaelab import recipe as recipes
from vaelab.build import build
from vaelab.models.vae import VAE
from vaelab.recipe import Recipe
from vaelab.run import MODEL, OtherRecipe, Run
from vaelab.run.records import REMEDIES, ModelFacts
from vaelab.system.arguments import AnyPath, check_path
from vaelab.system.errors import InputError
from vaelab.system.files import DamagedFile, check_file, check_shape, load_tensors

MODEL_FORMAT = 2
CONDITION_ROWS = "condition_rows"
"""Name in a model file of the training images' conditions, which are no weights (``conditions.training_rows``)."""


def load(path: AnyPath) -> VAE:
    """Return the model of a run directory or a ``model.safetensors``, on the CPU. Nothing in the file is executed.

    Raises DamagedFile if the file is incomplete, OtherRecipe if a run holds the model of another recipe, and
    FileNotFoundError if there is no model.
    """
    return load_with_recipe(path)[0]


def load_with_recipe(path: AnyPath) -> tuple[VAE, Recipe]:
    """Return a model and the recipe it was trained with; raises as ``load`` does."""
    path = check_path(path, "a run or model")
    if path.exists() and not path.is_dir():
        check_file(path)
    run = None if path.is_file() else Run(path)
    file = path if run is None else run.model_path
    remedy = "" if run is None else REMEDIES[MODEL]
    tensors, metadata = load_tensors(file, remedy=remedy)
    if metadata.get("format") != MODEL_FORMAT:
        found = f"format {metadata.get('format')}, not {MODEL_FORMAT}"
        raise InputError(f"{file}: not a vaelab model of this version ({found})", subject=file, value=metadata)
    facts = check_shape(file, metadata, ModelFacts, remedy)
    if run is not None and (reason := run.find_mismatch(metadata)):
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
    vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return vae.eval(), recipe
