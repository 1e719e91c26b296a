"""The β-TCVAE: its estimators against reference vectors, enumeration and the exact mixture; the loss made of them."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from given import GivenEncoder, GivenNoise, given_vae
from hypothesis import given
from hypothesis import strategies as st
from small import CPU, compute_terms, forward
from torch import Tensor
from vectors import Case

from vaelab.evaluation.metrics.decomposition import aggregate_densities
from vaelab.models.likelihoods.gaussian import NormalPixels
from vaelab.models.posteriors.diagonal import DiagonalNormal
from vaelab.models.vae import VAE
from vaelab.system.device import autocast
from vaelab.training.objectives import Objective as AnyObjective
from vaelab.training.objectives.tc import (
    Objective,
    Parts,
    decompose,
    log_aggregate,
    log_weights,
    pairwise_log_densities,
)

MakeModel = Callable[..., tuple[VAE, AnyObjective]]
NAMES = {"mss": "mss_next", "mss_balanced": "mss_balanced", "mws": "mws"}
"""Names of the estimators here → in the reference vectors."""
estimators = pytest.mark.parametrize("estimator", NAMES)
seeds = st.integers(0, 2**32 - 1)
DOUBLE = torch.zeros((), dtype=torch.float64)
SHAPE = (1, 9, 8)


def random_codes(seed: int, count: int, latents: int) -> tuple[Tensor, Tensor, Tensor]:
    """Samples, means and log-variances: correlated, some variances tiny, some above the prior's."""
    random = np.random.default_rng(seed)
    mean = random.standard_normal((count, latents)) @ random.standard_normal((latents, latents))
    log_var = random.uniform(-6, 1, (count, latents))
    z = mean + np.exp(log_var / 2) * random.standard_normal((count, latents))
    return torch.from_numpy(z), torch.from_numpy(mean), torch.from_numpy(log_var)


def last_weights(batch: int, num_images: int) -> Tensor:
    """The stratified weights with the last of the other images singled out, image by image."""
    others = batch - 1
    weights = torch.full((batch, batch), 1 / others, dtype=torch.float64)
    for i in range(batch):
        weights[i, i] = 1 / num_images
        weights[i, others if i < others else others - 1] = (num_images - others) / (num_images * others)
    return weights.log()


def weights_of(name: str, batch: int, num_images: int) -> Tensor:
    """By the name that the reference vectors have for it."""
    if name == "mss_last":
        return last_weights(batch, num_images)
    ours = next(estimator for estimator, theirs in NAMES.items() if theirs == name)
    return log_weights(batch, num_images, ours, DOUBLE)


def log_pz(case: Case) -> Tensor:
    zeros = torch.zeros_like(case.z)
    return DiagonalNormal(zeros, zeros).log_prob(case.z)


def sampled_kl(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    prior = DiagonalNormal(torch.zeros_like(z), torch.zeros_like(z))
    return (DiagonalNormal(mean, log_var).log_prob(z) - prior.log_prob(z)).mean()


# -- reference vectors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["small", "pair", "full", "far"])
def test_estimates_of_given_batches(name: str) -> None:
    case = Case(f"minibatch/{name}")
    log_densities = pairwise_log_densities(case.z, case.mu, case.logvar)
    case.expect("log_qz_given_x", log_densities.diagonal().sum(0))
    for estimator in (*NAMES.values(), "mss_last"):
        weights = weights_of(estimator, case.params["B"], case.params["N"])
        joint, single = log_aggregate(log_densities, weights)
        parts = decompose(case.z, case.mu, case.logvar, weights)
        case.expect(f"{estimator}.log_qz", joint)
        case.expect(f"{estimator}.log_prod_qzj", single.sum(1))
        for short, part in zip(("mi", "tc", "dwkl"), parts, strict=True):
            case.expect(f"{estimator}.{short}", part)
        torch.testing.assert_close(single.sum(1).mean() - parts.dimension_wise_kl, log_pz(case).mean())
    case.expect("log_pz", log_pz(case))
    constant = (case.params["D"] - 1) * math.log(case.params["N"] * case.params["B"])
    mws = decompose(case.z, case.mu, case.logvar, weights_of("mws", case.params["B"], case.params["N"]))
    case.expect("tc_without_constant", mws.total_correlation - constant)


@pytest.mark.parametrize("name", ["plugin_near", "plugin_far"])
def test_a_batch_that_is_the_whole_data_set(name: str) -> None:
    case = Case(f"aggregate/{name}")
    weights = log_weights(case.params["N"], case.params["N"], "mss_balanced", DOUBLE)
    joint, single = log_aggregate(pairwise_log_densities(case.z, case.mu, case.logvar), weights)
    case.expect("log_qz", joint)
    case.expect("log_qzj", single)
    for short, part in zip(("mi", "tc", "dwkl"), decompose(case.z, case.mu, case.logvar, weights), strict=True):
        case.expect(short, part)


def test_weights_of_a_small_batch() -> None:
    case = Case("minibatch/weight_matrix")
    for estimator in (*NAMES.values(), "mss_last"):
        weights = weights_of(estimator, case.params["B"], case.params["N"]).exp()
        case.expect(estimator, weights)
        for row_sum in weights.sum(1):
            case.expect("mws_row_sum" if estimator == "mws" else "mss_row_sum", row_sum)


@pytest.mark.parametrize("estimator", [*NAMES.values(), "mss_last"])
def test_every_minibatch_of_a_tiny_set(estimator: str) -> None:
    case = Case("minibatch/exhaustive_unbiasedness")
    num_images, batch = case.params["N"], case.params["B"]
    weights = weights_of(estimator, batch, num_images)
    logs: list[list[float]] = [[] for _ in range(num_images)]
    for chosen in itertools.permutations(range(num_images), batch):
        rows = list(chosen)
        joint, _ = log_aggregate(pairwise_log_densities(case.z[rows], case.mu[rows], case.logvar[rows]), weights)
        for image, value in zip(chosen, joint.tolist(), strict=True):
            logs[image].append(value)
    case.expect(f"mean_qhat.{estimator}", np.exp(logs).mean(1))
    case.expect(f"mean_log_qhat.{estimator}", np.mean(logs, 1))
    exact, *_ = aggregate_densities(case.z.numpy(), case.mu.numpy(), case.logvar.numpy())
    case.expect("exact_qz", np.exp(exact))
    assert np.allclose(np.exp(logs).mean(1), np.exp(exact), rtol=1e-9) == (estimator != "mws")


def given_terms(case: Case, **options: Any) -> tuple[dict[str, Tensor], GivenEncoder]:
    """The terms of the case's batch, and the encoder that gave its posteriors."""
    encoder = GivenEncoder(case.mu, case.logvar)
    vae = given_vae(
        encoder,
        lambda z: case.x_hat,
        lambda mean: NormalPixels(mean, 0.5),
        tuple(case.x.shape[1:]),
        case.params["N"],
    )
    noise = GivenNoise((case.z - case.mu) * torch.exp(-0.5 * case.logvar))
    return compute_terms(Objective(vae.spec, **options), vae, case.x, noise=noise), encoder


@estimators
@pytest.mark.parametrize(("analytic", "form"), [(True, "elbo_plus_tc"), (False, "decomposed")])
def test_the_objective_of_a_given_batch(estimator: Any, analytic: bool, form: str) -> None:
    case = Case("objective/beta_tcvae")
    options = {key: case.params[key] for key in ("alpha", "beta", "gamma")}
    terms, _ = given_terms(case, **options, estimator=estimator, analytic=analytic)
    case.expect(f"{form}.{NAMES[estimator]}", terms["loss"])


@estimators
def test_the_gradient_of_the_regulariser(estimator: Any) -> None:
    case = Case("objective/beta_tcvae_gradient")
    terms, encoder = given_terms(case, estimator=estimator, analytic=False)
    terms["loss"].backward()  # the decoded image is given, so that the reconstruction has no gradient
    case.expect(f"grad_mu.{NAMES[estimator]}", encoder.mean.grad)
    case.expect(f"grad_logvar.{NAMES[estimator]}", encoder.log_var.grad)


# -- weights ----------------------------------------------------------------------------------------------------------


@estimators
@given(st.integers(1, 12), st.integers(0, 50))
def test_weights_of_an_image_add_up_to_one(estimator: Any, batch: int, more: int) -> None:
    num_images = batch + more
    weights = log_weights(batch, num_images, estimator, DOUBLE).exp()
    assert weights.shape == (batch, batch)
    total = 1 / num_images if estimator == "mws" else 1.0
    torch.testing.assert_close(weights.sum(1), torch.full((batch,), total, dtype=torch.float64))
    own = 1 / (num_images * batch) if estimator == "mws" else 1.0 if batch == 1 else 1 / num_images
    torch.testing.assert_close(weights.diagonal(), torch.full((batch,), own, dtype=torch.float64))


@given(st.integers(2, 10), st.integers(0, 50))
def test_balanced_weights_are_the_mean_over_all_ways_to_single_one_out(batch: int, more: int) -> None:
    found = []
    for shift in range(1, batch):  # the images other than the own, in every order that matters
        order = torch.tensor([0, *[1 + (k + shift) % (batch - 1) for k in range(batch - 1)]])
        weights = log_weights(batch, batch + more, "mss", DOUBLE).exp()
        found.append(weights[0, order])
    balanced = log_weights(batch, batch + more, "mss_balanced", DOUBLE).exp()
    torch.testing.assert_close(torch.stack(found).mean(0), balanced[0])


@estimators
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_everything_keeps_its_dtype(estimator: Any, dtype: torch.dtype) -> None:
    z, mean, log_var = random_codes(0, 7, 3)
    exact = decompose(z, mean, log_var, log_weights(7, 100, estimator, z))
    weights = log_weights(7, 100, estimator, z.to(dtype))
    found = decompose(z.to(dtype), mean.to(dtype), log_var.to(dtype), weights)
    assert weights.dtype == dtype
    for part, expected in zip(found, exact, strict=True):
        assert part.dtype == dtype
        torch.testing.assert_close(part.double(), expected, rtol=1e-5, atol=1e-5)


# -- estimates --------------------------------------------------------------------------------------------------------


@given(seeds, st.integers(1, 9), st.integers(1, 4))
def test_a_whole_data_set_with_balanced_weights_is_exact(seed: int, count: int, latents: int) -> None:
    z, mean, log_var = random_codes(seed, count, latents)
    log_densities = pairwise_log_densities(z, mean, log_var)
    joint, single = log_aggregate(log_densities, log_weights(count, count, "mss_balanced", z))
    exact = aggregate_densities(z.numpy(), mean.numpy(), log_var.numpy())
    for found, expected in zip((joint, single, log_densities.diagonal().sum(0)), exact, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@estimators
@given(seeds, st.integers(1, 9), st.integers(1, 4), st.integers(0, 100))
def test_parts_add_up_to_a_sample_of_the_kl(estimator: Any, seed: int, count: int, latents: int, more: int) -> None:
    codes = random_codes(seed, count, latents)
    parts = decompose(*codes, log_weights(count, count + more, estimator, DOUBLE))
    torch.testing.assert_close(sum(parts), sampled_kl(*codes), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("estimator", ["mss", "mss_balanced"])
@given(seeds, st.integers(1, 9), st.integers(1, 4), st.integers(0, 100))
def test_mutual_information_is_at_most_ln_n(estimator: Any, seed: int, count: int, latents: int, more: int) -> None:
    parts = decompose(*random_codes(seed, count, latents), log_weights(count, count + more, estimator, DOUBLE))
    assert float(parts.mutual_information) <= math.log(count + more) + 1e-12


@estimators
@given(seeds, st.integers(2, 9), st.integers(1, 4), st.data())
def test_the_order_of_a_batch_does_not_matter(estimator: Any, seed: int, count: int, latents: int, data: Any) -> None:
    """Any order, but with "mss", where each image has a next one: turned round in a circle."""
    order = list(range(count))
    turned = data.draw(st.integers(0, count - 1))
    order = order[turned:] + order[:turned] if estimator == "mss" else data.draw(st.permutations(order))
    codes = random_codes(seed, count, latents)
    weights = log_weights(count, 50, estimator, DOUBLE)
    again = decompose(*(tensor[order] for tensor in codes), weights)
    for found, expected in zip(again, decompose(*codes, weights), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@estimators
def test_one_latent_has_no_total_correlation(estimator: Any) -> None:
    parts = decompose(*random_codes(3, 8, 1), log_weights(8, 90, estimator, DOUBLE))
    assert float(parts.total_correlation) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("estimator", ["mss", "mss_balanced"])
def test_a_batch_of_one_is_the_plain_kl(estimator: Any) -> None:
    codes = random_codes(0, 1, 3)
    parts = decompose(*codes, log_weights(1, 1000, estimator, DOUBLE))
    assert float(parts.mutual_information) == pytest.approx(0, abs=1e-12)
    assert float(parts.total_correlation) == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(parts.dimension_wise_kl, sampled_kl(*codes))


# -- the loss ---------------------------------------------------------------------------------------------------------


def images(count: int) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(5))


def make(make_model: MakeModel, **options: Any) -> tuple[VAE, AnyObjective]:
    """A small model of "100" images and its objective."""
    return make_model(SHAPE, {"objective.name": "tc", **{f"objective.{k}": v for k, v in options.items()}})


def loss_and_gradients(vae: VAE, objective: AnyObjective, x: Tensor) -> tuple[Tensor, ...]:
    loss = compute_terms(objective, vae, x)["loss"]
    return loss, *torch.autograd.grad(loss, list(vae.parameters()))


@estimators
@pytest.mark.parametrize("analytic", [True, False])
def test_the_loss_is_made_of_its_terms(make_model: MakeModel, estimator: str, analytic: bool) -> None:
    options = {"alpha": 0.5, "beta": 3.0, "gamma": 2.0, "estimator": estimator, "analytic": analytic}
    vae, objective = make(make_model, **options)
    terms = compute_terms(objective, vae, images(6))
    weighed = torch.stack([terms[name] for name in Parts._fields]).mul(torch.tensor([0.5, 3.0, 2.0])).sum()
    if analytic:  # the same, with the KL in closed form in place of its sample
        weighed = weighed + terms["kl"] - torch.stack([terms[name] for name in Parts._fields]).sum()
    torch.testing.assert_close(terms["loss"], terms["reconstruction"] + weighed)
    assert terms.keys() == {"loss", "reconstruction", "kl", *Parts._fields}


def test_weights_of_one_are_the_elbo(make_model: MakeModel) -> None:
    tc = loss_and_gradients(*make(make_model, beta=1.0), images(6))
    vae, elbo = make_model(SHAPE, {"objective.name": "elbo"})
    for found, expected in zip(tc, loss_and_gradients(vae, elbo, images(6)), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@estimators
@pytest.mark.parametrize("analytic", [True, False])
@pytest.mark.parametrize("count", [1, 2, 100, 101, 130])
def test_batches_of_one_and_beyond_the_data_set_have_gradients(
    make_model: MakeModel, estimator: str, analytic: bool, count: int
) -> None:
    found = loss_and_gradients(*make(make_model, estimator=estimator, analytic=analytic), images(count))
    for tensor in found:
        assert bool(torch.isfinite(tensor).all())
    assert any(bool((tensor != 0).any()) for tensor in found[1:])


@pytest.mark.parametrize("estimator", ["mss", "mss_balanced"])
def test_a_batch_of_one_is_trained_as_by_the_elbo(make_model: MakeModel, estimator: str) -> None:
    tc = loss_and_gradients(*make(make_model, estimator=estimator), images(1))
    vae, elbo = make_model(SHAPE, {"objective.name": "elbo"})
    for found, expected in zip(tc, loss_and_gradients(vae, elbo, images(1)), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_densities_stay_in_float32_where_networks_run_in_bfloat16(make_model: MakeModel) -> None:
    vae, objective = make(make_model)
    with autocast(CPU, "bf16"):
        terms, out = compute_terms(objective, vae, images(6)), forward(vae, images(6))
    assert all(term.dtype == torch.float32 for term in terms.values())
    codes = (tensor.double() for tensor in (out.z[0], out.q.mean, out.q.log_var))
    exact = decompose(*codes, log_weights(6, 100, "mss", DOUBLE))
    for name, expected in exact._asdict().items():
        torch.testing.assert_close(terms[name].double(), expected, rtol=1e-5, atol=1e-5)
