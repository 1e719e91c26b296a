"""The model and the objective that a recipe names, and what they declare."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from vaelab.models.initialisation import initialise
from vaelab.models.likelihoods import Likelihood
from vaelab.models.posteriors import Posterior
from vaelab.models.priors import Prior
from vaelab.models.spec import Spec
from vaelab.models.terms import COMMON_TERMS, Term
from vaelab.models.vae import REQUIREMENTS, VAE
from vaelab.recipe import SECTIONS, Recipe, ResolvedRecipe, Section, signature_schema
from vaelab.system import registry
from vaelab.system.errors import RecipeError
from vaelab.system.noise import generator
from vaelab.system.seeds import derive_seed

if TYPE_CHECKING:
    from vaelab.training.objectives import Objective  # above this file in the import contract


def build(recipe: ResolvedRecipe, condition_names: tuple[str, ...] = ()) -> "tuple[VAE, Objective]":
    """Return the model and its objective on the CPU, with weights drawn from the recipe's seed.

    ``condition_names``: see ``models.conditions.condition_names``. Raises RecipeError if parts do not fit together.
    """
    condition = recipe.network["condition"]
    spec = Spec(recipe.image_shape, recipe.latent_dim, recipe.num_images, condition, condition_names)
    with torch.random.fork_rng(devices=[]):  # for weights that a member draws in its constructor
        torch.default_generator.manual_seed(derive_seed(recipe.training.seed, "constructors"))
        posterior: Posterior = _make("posterior", "Posterior", recipe.posterior, spec)
        likelihood: Likelihood = _make("likelihood", "Likelihood", recipe.likelihood, spec)
        decoder_channels = likelihood.channels_per_pixel * spec.image_shape[0]
        spec = replace(spec, posterior_parameters=posterior.num_parameters, decoder_channels=decoder_channels)
        prior: Prior = _make("prior", "Prior", recipe.prior, spec)
        _check_needs("prior", recipe.prior["name"], prior.needs, posterior.provides)
        encoder = _make("network", "Encoder", recipe.network, spec)
        decoder = _make("network", "Decoder", recipe.network, spec)
        objective: Objective = _make("objective", "Objective", recipe.objective, spec)
    vae = VAE(spec, encoder, posterior, prior, decoder, likelihood)
    _check_needs("objective", recipe.objective["name"], objective.needs, vae.provides)
    sampler = registry.load("samplers", recipe.sampler["name"]).Sampler
    _check_needs("sampler", recipe.sampler["name"], sampler.needs, vae.provides)
    if vae.device.type != "meta":
        initialise(vae, generator(recipe.training.seed, "weights"))
        initialise(objective, generator(recipe.training.seed, "objective"))
    return vae, objective


def _check_needs(section: str, name: str, needs: frozenset[str], provided: frozenset[str]) -> None:
    """Raise RecipeError, with the members that fit, if the model lacks what one of its parts needs."""
    missing = " and ".join(words for need, words in REQUIREMENTS.items() if need in needs - provided)
    if missing:
        folder, makers = SECTIONS[section].folder, SECTIONS[section].makers
        fitting = [n for n in registry.names(folder) if getattr(registry.load(folder, n), makers[0]).needs <= provided]
        message = f"{section}.name = {name}: needs {missing}; {folder} that fit this model: {', '.join(fitting)}"
        raise RecipeError(message, subject=f"{section}.name", value=name, choices=fitting)


def declared_objective(recipe: Recipe) -> "Objective":
    """Return the objective of a resolved recipe without weights, to read what it declares."""
    with torch.device("meta"):
        objective: Objective = _make("objective", "Objective", recipe.objective, Spec((1, 1, 1), 1, 1))
    return objective


def logged_terms(recipe: Recipe) -> tuple[Term, ...]:
    """Return the quantities that training by a resolved recipe logs besides the loss, in the order of history.csv."""
    return (*COMMON_TERMS, *declared_objective(recipe).terms, *_posterior_class(recipe).terms)


def loss_terms(recipe: Recipe) -> dict[str, str]:
    """Return name → title of the logged quantities that add up to the loss; empty if the loss is no such sum."""
    names, titles = declared_objective(recipe).loss_terms, {term.name: term.title for term in logged_terms(recipe)}
    return {name: titles[name] for name in (*names, *_posterior_class(recipe).loss_terms)} if names else {}


def loss_unit(recipe: Recipe) -> str:
    """Return the unit of the loss, "nats" or empty."""
    kind = _posterior_class(recipe)
    has_other = any(term.unit == "" for term in kind.terms if term.name in kind.loss_terms)
    return "" if has_other else declared_objective(recipe).loss_unit


def _posterior_class(recipe: Recipe) -> "type[Posterior]":
    kind: type[Posterior] = registry.load("posteriors", recipe.posterior["name"]).Posterior
    return kind


def _make(section: str, attribute: str, table: Section, spec: Spec) -> Any:
    maker = getattr(registry.load(SECTIONS[section].folder, table["name"]), attribute)
    accepted = signature_schema(maker)
    try:
        return maker(spec, **{key: value for key, value in table.items() if key in accepted})
    except RecipeError:
        raise
    except ValueError as error:
        raise RecipeError(str(error), subject=section) from None


def beta_equivalents(recipe: Recipe, spec: Spec) -> Mapping[str, float]:
    """Return β of a resolved recipe as other papers state it; empty if the loss is not reconstruction + β·KL.

    ``beta``: as in the loss. ``sigma``: standard deviation of the Gaussian decoder whose ELBO has the same optimum,
    σ² = β·variance. ``beta_normalised``: β·d/D (Higgins et al. 2017) on the scale of summed squared errors.
    """
    beta = declared_objective(recipe).kl_weight
    if beta is None:
        return {}
    variance = _make("likelihood", "Likelihood", recipe.likelihood, spec).fixed_variance
    if variance is None:
        return {"beta": beta, "beta_normalised": beta * spec.latent_dim / spec.num_pixels}
    return {
        "beta": beta,
        "sigma": (beta * variance) ** 0.5,
        "beta_normalised": 2 * variance * beta * spec.latent_dim / spec.num_pixels,
    }
