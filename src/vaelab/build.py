"""Recipe and facts about the data → the objects that the recipe names."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from vaelab.models.spec import Spec
from vaelab.models.terms import COMMON_TERMS, Term
from vaelab.models.vae import REQUIREMENTS, VAE, initialise
from vaelab.recipe import SECTIONS, Recipe, Section, signature_schema
from vaelab.system import registry
from vaelab.system.errors import RecipeError
from vaelab.system.seeds import generator

if TYPE_CHECKING:
    from vaelab.training.objectives import Objective  # above this file in the import contract


def build(
    recipe: Recipe, image_shape: tuple[int, int, int], num_images: int, condition_names: tuple[str, ...] = ()
) -> "tuple[VAE, Objective]":
    """The model and its objective on the CPU, weights drawn from the recipe's seed.

    RecipeError where parts do not fit together. ``condition_names``: see ``models.conditions.condition_names``.
    """
    recipe = recipe.resolve(image_shape, num_images)
    spec = Spec(image_shape, recipe.latent_dim, num_images, recipe.network["condition"], condition_names)
    posterior = _make("posterior", "Posterior", recipe.posterior, spec)
    likelihood = _make("likelihood", "Likelihood", recipe.likelihood, spec)
    spec = replace(
        spec,
        posterior_parameters=posterior.num_parameters,
        decoder_channels=likelihood.channels_per_pixel * spec.image_shape[0],
    )
    prior = _make("prior", "Prior", recipe.prior, spec)
    encoder = _make("network", "Encoder", recipe.network, spec)
    decoder = _make("network", "Decoder", recipe.network, spec)
    vae = VAE(spec, encoder, posterior, prior, decoder, likelihood)
    objective: Objective = _make("objective", "Objective", recipe.objective, spec)
    check_needs(f"the objective {recipe.objective['name']}", objective.needs, vae)
    if next(vae.parameters()).device.type != "meta":
        initialise(vae, generator(recipe.training.seed, "weights"))
        initialise(objective, generator(recipe.training.seed, "objective"))
    return vae, objective


def check_needs(who: str, needs: frozenset[str], vae: VAE) -> None:
    """RecipeError if the model lacks something that an objective or a metric needs."""
    missing = sorted(needs - vae.provides)
    if missing:
        words = " and ".join(REQUIREMENTS.get(need, need) for need in missing)
        raise RecipeError(f"{who} needs {words}")


def declared_objective(recipe: Recipe) -> "Objective":
    """The objective of a resolved recipe, without weights, for what it declares."""
    with torch.device("meta"):
        objective: Objective = _make("objective", "Objective", recipe.objective, Spec((1, 1, 1), recipe.latent_dim, 1))
    return objective


def logged_terms(recipe: Recipe) -> tuple[Term, ...]:
    """All quantities that training by a resolved recipe logs besides the loss, in the order of history.csv."""
    return (*COMMON_TERMS, *declared_objective(recipe).terms)


def _make(section: str, attribute: str, table: Section, spec: Spec) -> Any:
    maker = getattr(registry.load(SECTIONS[section].folder, table["name"]), attribute)
    accepted = signature_schema(maker)
    try:
        return maker(spec, **{key: value for key, value in table.items() if key in accepted})
    except ValueError as error:
        raise RecipeError(str(error)) from None


def beta_equivalents(recipe: Recipe, spec: Spec) -> Mapping[str, float]:
    """β of a resolved recipe in other papers' terms; empty where the objective weighs no KL (``Objective.kl_weight``).

    ``beta`` as in the paper; ``sigma``: the standard deviation of a Gaussian decoder whose ELBO has the same optimum,
    σ² = β·variance; ``beta_normalised`` = β·d/D (Higgins et al. 2017) on the scale of summed squared errors.
    """
    beta = declared_objective(recipe).kl_weight
    if beta is None:
        return {}
    if recipe.likelihood["name"] != "gaussian":
        return {"beta": beta, "beta_normalised": beta * spec.latent_dim / spec.num_pixels}
    variance = float(recipe.likelihood["variance"])
    return {
        "beta": beta,
        "sigma": (beta * variance) ** 0.5,
        "beta_normalised": 2 * variance * beta * spec.latent_dim / spec.num_pixels,
    }
