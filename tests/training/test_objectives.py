"""The contract of objectives over every member, the objectives elbo and beta, and the warm-up of β."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from given import GivenNoise
from hypothesis import given
from hypothesis import strategies as st
from small import CPU, OBJECTIVES_AND_NETWORKS, as_batch, compute_terms, forward
from torch import Tensor

from vaelab.models.spec import Spec
from vaelab.models.vae import VAE
from vaelab.recipe import signature_schema
from vaelab.system import registry
from vaelab.system.distributed import Shard
from vaelab.system.noise import StepNoise
from vaelab.training import objectives
from vaelab.training.objectives import Context, Objective
from vaelab.training.schedules import linear_warmup

MakeModel = Callable[..., tuple[VAE, Objective]]
every_objective = pytest.mark.parametrize("name", registry.names("objectives"))
likelihoods = pytest.mark.parametrize("likelihood", registry.names("likelihoods"))

NUM_IMAGES, SHAPE = 6, (1, 9, 8)


def images(count: int = NUM_IMAGES) -> Tensor:
    """Black and white is what every likelihood has an error for."""
    return torch.randint(2, (count, *SHAPE), generator=torch.Generator().manual_seed(5)).float()


def at(step: int) -> Tensor:
    return torch.tensor(step)


# -- the contract -----------------------------------------------------------------------------------------------------


@every_objective
@likelihoods
def test_terms_are_finite_scalars(make_model: MakeModel, name: str, likelihood: str) -> None:
    vae, objective = make_model(SHAPE, {"objective.name": name, "likelihood.name": likelihood})
    for step in (0, 1, 10**6):
        terms = compute_terms(objective, vae, images(), step)
        assert {"loss", "reconstruction", "kl"} <= terms.keys()
        for term in terms.values():
            assert term.shape == ()
            assert bool(torch.isfinite(term))
        assert float(terms["kl"].detach()) > 0


@every_objective
def test_the_declared_terms_are_logged(make_model: MakeModel, name: str) -> None:
    vae, objective = make_model(SHAPE, {"objective.name": name})
    terms = compute_terms(objective, vae, images(), step=10**6)
    declared = [term.name for term in objective.terms]
    assert list(terms) == ["loss", "reconstruction", "kl", *declared]
    in_nats = {"beta", "capacity", "cyclical", "elbo", "factor", "free_bits", "iwae", "tc"}
    assert objective.loss_unit == ("nats" if name in in_nats else "")
    if objective.loss_terms:
        torch.testing.assert_close(torch.stack([terms[key] for key in objective.loss_terms]).sum(), terms["loss"])


@every_objective
def test_advice_on_the_kl_names_a_key_of_a_recipe(make_model: MakeModel, name: str) -> None:
    _, objective = make_model(SHAPE, {"objective.name": name})
    advised = [objective.advise_kl(larger=larger) for larger in (True, False)]
    assert advised[0] != advised[1]
    key = objective.kl_knob.key if objective.kl_knob else "objective.beta"
    owner = name if objective.kl_knob else "beta"
    assert all(key in advice for advice in advised)
    assert key.removeprefix("objective.") in signature_schema(registry.load("objectives", owner).Objective)


@pytest.mark.parametrize(("name", "network"), OBJECTIVES_AND_NETWORKS)
def test_gradients_reach_encoder_and_decoder(make_model: MakeModel, name: str, network: str) -> None:
    vae, objective = make_model(SHAPE, {"objective.name": name, "network.name": network})
    compute_terms(objective, vae, images())["loss"].backward()
    for part in (vae.encoder, vae.decoder):
        for parameter_name, parameter in part.named_parameters():
            assert parameter.grad is not None, parameter_name
            assert bool(torch.isfinite(parameter.grad).all()), parameter_name
            assert bool((parameter.grad != 0).any()), parameter_name


@every_objective
def test_values_depend_on_nothing_but_weights_images_noise_and_step(make_model: MakeModel, name: str) -> None:
    vae, objective = make_model(SHAPE, {"objective.name": name})
    first = compute_terms(objective, vae, images(), step=3)
    compute_terms(objective, vae, images(2), step=50)  # leaves no trace
    again = compute_terms(objective, vae, images(), step=3)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)


@every_objective
def test_reconstruction_and_kl_are_means_over_the_batch_of_the_forward_pass(make_model: MakeModel, name: str) -> None:
    vae, objective = make_model(SHAPE, {"objective.name": name})
    terms, out = compute_terms(objective, vae, images()), forward(vae, images(), samples=objective.samples)
    torch.testing.assert_close(terms["reconstruction"], out.p_x.reconstruction_loss(images()).mean())
    torch.testing.assert_close(terms["kl"], out.q.kl_to_standard_normal().sum(1).mean())


@every_objective
@pytest.mark.parametrize("batch", [1, 6])
def test_shards_of_a_batch_add_up_to_the_whole(make_model: MakeModel, name: str, batch: int) -> None:
    """Terms and gradients of uneven shards and of an empty one, which computes on a row of weight 0."""
    vae, objective = make_model(SHAPE, {"objective.name": name})
    x, whole_rows = images(batch), []

    class Recording(Context):
        def gather(self, rows: Tensor) -> Tensor:
            whole_rows.append(rows)
            return rows

    whole = objectives.compute_terms(objective, vae, as_batch(x), Recording(at(0), StepNoise(0, CPU), vae))[1]
    sums = {name: torch.zeros(()) for name in whole}
    third = batch // 3
    for shard in (Shard(0, third, batch), Shard(third, third, batch), Shard(third, batch, batch)):
        remaining = whole_rows.copy()

        class Sharing(Context):
            def gather(self, rows: Tensor, shard: Shard = shard, remaining: list[Tensor] = remaining) -> Tensor:
                full = remaining.pop(0)
                torch.testing.assert_close(rows[: len(shard)], full[shard.start : shard.stop])
                return full

        noise = StepNoise(0, CPU)
        noise.seek(0, shard)
        own = as_batch(x[list(shard.rows)])
        _, terms = objectives.compute_terms(objective, vae, own, Sharing(at(0), noise, vae))
        assert not remaining
        sums = {name: total + shard.weight * terms[name] for name, total in sums.items()}
    for name, value in whole.items():
        torch.testing.assert_close(sums[name], value)
    parameters = [*vae.parameters(), *objective.parameters()]
    found = torch.autograd.grad(sums["loss"], parameters, retain_graph=True)
    for ours, theirs in zip(found, torch.autograd.grad(whole["loss"], parameters), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@every_objective
def test_nothing_is_read_back(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A step is captured as a graph."""
    vae, objective = make_model(SHAPE, {"objective.name": name})
    batch, context = as_batch(images()), Context(at(0), StepNoise(0, CPU), vae)

    def wait(*_: object) -> None:
        raise AssertionError("the host waited for the device")

    for method in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
        monkeypatch.setattr(torch.Tensor, method, wait)
    objectives.compute_terms(objective, vae, batch, context)[1]["loss"].backward()


@every_objective
def test_images_and_step_are_left_as_they_are(make_model: MakeModel, name: str) -> None:
    vae, objective = make_model(SHAPE, {"objective.name": name})
    batch, step = as_batch(images()), at(5)
    objectives.compute_terms(objective, vae, batch, Context(step, StepNoise(0, CPU), vae))
    assert torch.equal(batch.x, images())
    assert int(step) == 5


@every_objective
def test_every_key_of_an_objective_has_a_default(name: str) -> None:
    assert isinstance(registry.load("objectives", name).Objective(Spec(SHAPE, 3, 100)), Objective)


# -- elbo and beta ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["elbo", "beta"])
@likelihoods
def test_a_batch_is_the_mean_of_its_images(make_model: MakeModel, name: str, likelihood: str) -> None:
    vae, objective = make_model(SHAPE, {"objective.name": name, "likelihood.name": likelihood})
    vae.eval()  # in training a likelihood may be calibrated to each batch
    x, epsilon = images(), torch.randn(NUM_IMAGES, 3, generator=torch.Generator().manual_seed(1))

    def terms(chosen: slice) -> dict[str, Tensor]:
        return compute_terms(objective, vae, x[chosen], noise=GivenNoise(epsilon[chosen]))

    batch, singles = terms(slice(None)), [terms(slice(i, i + 1)) for i in range(NUM_IMAGES)]
    for key, value in batch.items():
        torch.testing.assert_close(value, torch.stack([single[key] for single in singles]).mean())


@likelihoods
def test_elbo_is_minus_the_bound_but_for_the_likelihoods_constant(make_model: MakeModel, likelihood: str) -> None:
    vae, objective = make_model(SHAPE, {"objective.name": "elbo", "likelihood.name": likelihood})
    vae, x = vae.double().eval(), images().double()
    epsilon = torch.ones(NUM_IMAGES, 3, dtype=torch.float64)
    out, terms = forward(vae, x, GivenNoise(epsilon)), compute_terms(objective, vae, x, noise=GivenNoise(epsilon))
    torch.testing.assert_close(terms["loss"], terms["reconstruction"] + terms["kl"])
    bound = (out.p_x.log_prob(x) - out.kl.sum(1)).mean()
    constant = {"gaussian": math.prod(SHAPE) / 2 * math.log(math.pi), "bernoulli": 0.0}.get(likelihood)
    if constant is not None:
        assert float(terms["loss"].detach()) == pytest.approx(-float(bound.detach()) - constant, rel=1e-12)


def loss_and_gradients(make_model: MakeModel, step: int, overrides: dict[str, Any]) -> tuple[Tensor, ...]:
    vae, objective = make_model(SHAPE, overrides)
    loss = compute_terms(objective, vae, images(), step)["loss"]
    return loss, *torch.autograd.grad(loss, list(vae.parameters()))


def test_beta_one_is_elbo(make_model: MakeModel) -> None:
    elbo = loss_and_gradients(make_model, 0, {"objective.name": "elbo"})
    beta = loss_and_gradients(make_model, 0, {"objective.name": "beta", "objective.beta": 1.0})
    assert all(torch.equal(a, b) for a, b in zip(elbo, beta, strict=True))


@pytest.mark.parametrize(("beta", "warmup_steps", "is_logged"), [(1.0, 0, False), (1.0, 10, True), (2.0, 0, True)])
def test_a_weighted_kl_is_logged_unless_the_weight_is_always_one(
    make_model: MakeModel, beta: float, warmup_steps: int, is_logged: bool
) -> None:
    overrides = {"objective.name": "beta", "objective.beta": beta, "objective.warmup_steps": warmup_steps}
    vae, objective = make_model(SHAPE, overrides)
    terms = compute_terms(objective, vae, images(), step=100)
    assert ("beta_kl" in terms) == is_logged
    assert objective.kl_weight == beta


@pytest.mark.parametrize("beta", [0.0, 0.5, 4.0])
def test_beta_weighs_the_kl(make_model: MakeModel, beta: float) -> None:
    vae, objective = make_model(SHAPE, {"objective.name": "beta", "objective.beta": beta})
    terms = compute_terms(objective, vae, images())
    torch.testing.assert_close(terms["beta_kl"], beta * terms["kl"])
    torch.testing.assert_close(terms["loss"], terms["reconstruction"] + beta * terms["kl"])


@pytest.mark.parametrize(("step", "weight"), [(0, 0.1), (4, 0.5), (8, 0.9), (9, 1.0), (10, 1.0), (10**6, 1.0)])
def test_beta_warms_up(make_model: MakeModel, step: int, weight: float) -> None:
    overrides = {"objective.name": "beta", "objective.beta": 4.0, "objective.warmup_steps": 10}
    vae, objective = make_model(SHAPE, overrides)
    terms = compute_terms(objective, vae, images(), step)
    torch.testing.assert_close(terms["beta_kl"], 4.0 * weight * terms["kl"])
    torch.testing.assert_close(terms["loss"], terms["reconstruction"] + terms["beta_kl"])
    assert not list(objective.state_dict()), "the step is the only clock"


# -- the schedule -----------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_warmup_follows_its_formula(step: int, warmup_steps: int) -> None:
    weight = linear_warmup(at(step), warmup_steps)
    assert weight.shape == ()
    assert weight.dtype == torch.float32
    assert float(weight) == pytest.approx(min(1.0, (step + 1) / warmup_steps), rel=1e-6)


@given(st.integers(0, 10**9))
def test_no_warmup_is_full_weight(step: int) -> None:
    assert float(linear_warmup(at(step), 0)) == float(linear_warmup(at(step), 1)) == 1.0


@given(st.integers(2, 10**5))
def test_warmup_rises_from_one_step_to_all(warmup_steps: int) -> None:
    ends = [float(linear_warmup(at(step), warmup_steps)) for step in (0, warmup_steps - 2, warmup_steps - 1)]
    assert 0 < ends[0] <= ends[1] < ends[2] == 1.0
