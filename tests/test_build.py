"""Models and objectives built from recipes, and β in the conventions of other papers."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small import FITTING_PAIRS

from vaelab import recipe
from vaelab.build import beta_equivalents, build
from vaelab.models.spec import Spec
from vaelab.system import registry
from vaelab.system.errors import RecipeError

MNIST = (1, 28, 28)


def minimal(**sections: Any) -> dict[str, Any]:
    return {"data": {"name": "digits"}, **sections}


def build_small(**overrides: Any) -> Any:
    tables = recipe.merge(
        minimal(network={"name": "mlp", "hidden": [5]}), {k.replace("__", "."): v for k, v in overrides.items()}
    )
    return build(recipe.validate(tables, "own").resolve((3, 9, 8), 100))


COMBINED = [
    *((network, likelihood, "diagonal", "normal")
      for network in registry.names("networks") for likelihood in registry.names("likelihoods")),
    *(("mlp", "gaussian", posterior, prior) for posterior, prior in FITTING_PAIRS),
]  # fmt: skip


@pytest.mark.parametrize(("network", "likelihood", "posterior", "prior"), COMBINED)
def test_members_combine(network: str, likelihood: str, posterior: str, prior: str) -> None:
    vae, _ = build_small(
        network__name=network, likelihood__name=likelihood, posterior__name=posterior, prior__name=prior
    )
    x = torch.rand(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    assert vae.reconstruct(x).shape == x.shape


@pytest.mark.parametrize("objective", registry.names("objectives"))
def test_objectives_are_refused_if_their_needs_are_not_met(objective: str, wording: Callable[[object], None]) -> None:
    members = {"posterior__name": "full_covariance", "prior__name": "mixture", "objective__name": objective}
    needs = registry.load("objectives", objective).Objective.needs
    if not needs:
        build_small(**members)
        return
    with pytest.raises(RecipeError) as error:
        build_small(**members)
    wording(error.value)


def test_a_sampler_that_does_not_fit_is_refused(wording: Callable[[object], None]) -> None:
    with pytest.raises(RecipeError) as error:
        build_small(posterior__name="full_covariance", sampler__name="aggregate")
    assert (error.value.subject, error.value.value) == ("sampler.name", "aggregate")
    assert {"prior", "gmm"} <= set(error.value.choices)
    wording(error.value)


def test_members_receive_the_values_of_the_recipe() -> None:
    vae, objective = build_small(
        network__hidden=[7, 6],
        network__latent_dim=4,
        likelihood__variance=0.25,
        objective__name="beta",
        objective__beta=2.5,
    )
    assert [tuple(p.shape) for p in vae.encoder.parameters() if p.ndim == 2] == [(7, 216), (6, 7), (8, 6)]
    assert vae.likelihood.variance == 0.25
    assert objective.beta == 2.5
    assert vae.spec == Spec((3, 9, 8), latent_dim=4, num_images=100, posterior_parameters=8, decoder_channels=3)


def test_weights_are_a_function_of_the_seed() -> None:
    (one, _), (same, _), (other, _) = build_small(), build_small(), build_small(training__seed=1)
    for a, b, c in zip(one.parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_a_model_can_be_built_without_memory() -> None:
    with torch.device("meta"):
        counted, _ = build_small()
    assert counted.num_parameters == build_small()[0].num_parameters
    assert counted.device.type == "meta"


def test_equivalents_of_a_gaussian_decoder() -> None:
    facts = Spec((1, 28, 28), latent_dim=2, num_images=100)
    plain = beta_equivalents(recipe.validate(minimal(objective={"name": "elbo"}), "x").resolve(MNIST, 100), facts)
    assert plain == pytest.approx({"beta": 1, "sigma": math.sqrt(0.5), "beta_normalised": 2 / 784})
    tables = minimal(objective={"name": "beta", "beta": 5.0}, likelihood={"name": "gaussian", "variance": 0.02})
    # SSE/(2·0.02) + 5 KL = 25 (SSE + 0.2 KL): β of the sum of squares is 0.2, its decoder's variance 0.1
    assert beta_equivalents(recipe.validate(tables, "x").resolve(MNIST, 100), facts) == pytest.approx(
        {"beta": 5, "sigma": math.sqrt(0.1), "beta_normalised": 0.2 * 2 / 784}
    )


def test_equivalents_of_a_bernoulli_decoder_have_no_sigma() -> None:
    tables = minimal(objective={"name": "beta", "beta": 3.0}, likelihood={"name": "bernoulli"})
    spec = Spec((3, 8, 8), latent_dim=4, num_images=100)
    equivalents = beta_equivalents(recipe.validate(tables, "x").resolve(spec.image_shape, 100), spec)
    assert equivalents == pytest.approx({"beta": 3, "beta_normalised": 3 * 4 / 192})
