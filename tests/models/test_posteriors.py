"""The contract of posteriors, over every member; torch.distributions as reference for normal ones."""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from given import GivenNoise
from hypothesis import given
from hypothesis import strategies as st
from small import CPU
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from vaelab.models.initialisation import initialise
from vaelab.models.posteriors import (
    Posterior,
    PosteriorDistribution,
    QuantisedPosterior,
    diagonal,
    fsq,
    full_covariance,
    iaf,
    vq,
)
from vaelab.models.spec import Spec
from vaelab.models.vae import REQUIREMENTS
from vaelab.recipe import signature_schema
from vaelab.system import registry
from vaelab.system.noise import GeneratorNoise, StepNoise

MODULES: dict[str, ModuleType] = {name: registry.load("posteriors", name) for name in registry.names("posteriors")}
FEW = {"hidden": [4], "codes": 12}
every_posterior = pytest.mark.parametrize("name", MODULES)
continuous = pytest.mark.parametrize(
    "name", [name for name, module in MODULES.items() if "continuous_posterior" in module.Posterior.provides]
)
quantised = pytest.mark.parametrize(
    "name", [name for name, module in MODULES.items() if issubclass(module.Posterior, QuantisedPosterior)]
)
BATCH = 5


def make(name: str, latent_dim: int = 3) -> Posterior:
    """A posterior as after some training, every parameter moved a little."""
    kind, generator = MODULES[name].Posterior, torch.Generator().manual_seed(0)
    few = {key: value for key, value in FEW.items() if key in signature_schema(kind)}
    posterior: Posterior = kind(Spec((1, 8, 8), latent_dim, 100), **few).double()
    initialise(posterior, generator)
    for parameter in posterior.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return posterior


def encoded(posterior: Posterior, batch: int = BATCH, seed: int = 0, scale: float = 0.7) -> Tensor:
    """Random outputs of an encoder."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(batch, posterior.num_parameters, generator=generator, dtype=torch.float64)


def seeded_noise(seed: int = 0) -> GeneratorNoise:
    return GeneratorNoise(torch.Generator().manual_seed(seed), CPU)


def covariance_of(q: PosteriorDistribution) -> Tensor | None:
    """The covariance matrices of normal posteriors; None for others."""
    if isinstance(q, diagonal.DiagonalNormal):
        return torch.diag_embed(q.log_var.exp())
    return q.scale @ q.scale.mT if isinstance(q, full_covariance.FullNormal) else None


# -- every member -----------------------------------------------------------------------------------------------------


@every_posterior
@pytest.mark.parametrize("latent_dim", [1, 2, 7])
@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("batch", [0, 1, 5])
def test_shapes_and_types(name: str, latent_dim: int, samples: int, batch: int) -> None:
    posterior = make(name, latent_dim).float()
    assert posterior.provides <= REQUIREMENTS.keys()
    assert {"continuous_posterior", "quantised_posterior"} & posterior.provides
    q = posterior(encoded(posterior, batch).float())
    draw = q.draw(seeded_noise(), samples)
    assert q.mean.shape == q.log_var.shape == (batch, latent_dim)
    assert draw.z.shape == (samples, batch, latent_dim)
    assert q.log_prob(draw.z).shape == q.log_prob_of(draw).shape == (samples, batch)
    assert q.log_prob(draw.z[0]).shape == (batch,)
    kl = q.kl_to_standard_normal()
    assert kl is None or (len(kl) == batch and kl.shape[1] in (1, latent_dim))
    tensors = [draw.z, q.log_prob(draw.z), *([] if kl is None else [kl])]
    assert all(tensor.dtype == torch.float32 for tensor in tensors)
    assert q.to(CPU).mean.equal(q.mean)


@every_posterior
def test_the_declared_terms_are_its_losses_and_statistics(name: str) -> None:
    posterior = make(name)
    q = posterior(encoded(posterior))
    losses, statistics = q.losses(), q.statistics(lambda rows: rows)
    assert [*losses, *statistics] == [term.name for term in posterior.terms]
    assert tuple(losses) == posterior.loss_terms
    assert all(value.shape == () and bool(value.isfinite()) for value in (*losses.values(), *statistics.values()))


@every_posterior
def test_the_first_sample_is_the_same_for_any_number_of_samples(name: str) -> None:
    posterior = make(name)
    q = posterior(encoded(posterior))
    draws = [q.draw(StepNoise(3, CPU), samples).z for samples in (1, 2, 6)]
    for draw in draws:  # a matrix product of more rows may be rounded otherwise
        torch.testing.assert_close(draw[0], draws[0][0], rtol=1e-12, atol=1e-12)
    is_random = not isinstance(posterior, QuantisedPosterior)
    assert torch.equal(draws[2][1], draws[2][2]) != is_random


@every_posterior
def test_log_q_of_a_draw_is_the_density_of_its_samples(name: str) -> None:
    posterior = make(name)
    q = posterior(encoded(posterior))
    draw = q.draw(seeded_noise(), 50)
    torch.testing.assert_close(q.log_prob_of(draw), q.log_prob(draw.z), rtol=1e-9, atol=1e-9)


@every_posterior
def test_samples_have_the_stated_moments(name: str) -> None:
    posterior, count = make(name), 40_000
    q = posterior(encoded(posterior))
    if not q.has_exact_moments:
        pytest.skip("the moments are approximations")
    z = q.draw(seeded_noise(), count).z
    variance = q.log_var.exp()
    assert bool(((z.mean(0) - q.mean).abs() <= 5 * (variance / count).sqrt()).all())
    torch.testing.assert_close(z.var(0), variance, rtol=0.05, atol=1e-12)
    covariance = covariance_of(q)
    if covariance is not None:
        found = torch.stack([torch.cov(z[:, i].T) for i in range(BATCH)])
        spread = (variance[:, :, None] * variance[:, None]).sqrt()
        assert bool(((found - covariance).abs() < 0.04 * spread).all())


@every_posterior
def test_bfloat16_networks_leave_samples_and_densities_in_float32(name: str) -> None:
    posterior = make(name, 16).float()
    h = encoded(posterior).float()
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            q = posterior(h)
            draw, kl = q.draw(seeded_noise(), 3), q.kl_to_standard_normal()
            found.append([draw.z, q.log_prob_of(draw), *([] if kl is None else [kl])])
    for rounded, exact in zip(*found, strict=True):
        assert rounded.dtype == torch.float32
        torch.testing.assert_close(rounded, exact)


@every_posterior
@pytest.mark.parametrize("size", [1e-3, 30.0, 1e4])
def test_extreme_encoder_outputs_leave_everything_finite(name: str, size: float) -> None:
    posterior = make(name, 2).float()
    h = torch.cat([encoded(posterior, scale=0.0) + size, encoded(posterior, scale=0.0) - size]).float().requires_grad_()
    q = posterior(h)
    draw, kl = q.draw(seeded_noise()), q.kl_to_standard_normal()
    values = [q.mean, q.log_var, draw.z, *([] if kl is None else [kl])]
    (gradient,) = torch.autograd.grad(torch.stack([value.sum() for value in values]).sum(), h)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in (*values, gradient))


# -- posteriors with a density ----------------------------------------------------------------------------------------


@continuous
def test_gradients_flow_through_samples_and_densities(name: str) -> None:
    posterior = make(name, 2)
    h = encoded(posterior, 2).requires_grad_()
    epsilon = torch.randn(2, 2, dtype=torch.float64), torch.randn(2, 2, 2, dtype=torch.float64)
    fixed = torch.randn(3, 2, 2, dtype=torch.float64)

    def outputs(h: Tensor) -> tuple[Tensor, ...]:
        q = posterior(h)
        draw, kl = q.draw(GivenNoise(*epsilon), 3), q.kl_to_standard_normal()
        return draw.z, q.log_prob_of(draw), q.log_prob(fixed), q.mean, q.log_var, *([] if kl is None else [kl])

    assert torch.autograd.gradcheck(outputs, (h,))
    (gradient,) = torch.autograd.grad(posterior(h).draw(GivenNoise(*epsilon), 3).z.square().sum(), h)
    assert bool((gradient != 0).all()), "every parameter moves the samples"


@continuous
def test_the_density_in_the_plane_integrates_to_one(name: str) -> None:
    """Integrated on a grid of ±9 standard deviations, or ±30 approximate ones, with the first two moments."""
    posterior = make(name, 2).requires_grad_(False)
    q = posterior(encoded(posterior, 1, seed=3))
    axis = torch.linspace(-9, 9, 401, dtype=torch.float64) * (1 if q.has_exact_moments else 10 / 3)
    std = torch.exp(q.log_var[0] / 2)
    z = q.mean + torch.cartesian_prod(axis, axis) * std
    mass = q.log_prob(z[:, None])[:, 0].exp() * float((axis[1] - axis[0]) ** 2 * std.prod())
    assert float(mass.sum()) == pytest.approx(1, abs=1e-6)
    if q.has_exact_moments:
        torch.testing.assert_close(mass @ z, q.mean[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(mass @ (z - q.mean).square(), q.log_var[0].exp(), rtol=1e-5, atol=0)


@continuous
def test_the_closed_form_of_the_kl_agrees_with_samples(name: str) -> None:
    posterior, count = make(name), 20_000
    q = posterior(encoded(posterior))
    kl = q.kl_to_standard_normal()
    if kl is None:
        pytest.skip("no closed form")
    z = q.draw(seeded_noise(), count).z
    ratio = q.log_prob(z) - Normal(0.0, 1.0).log_prob(z).sum(-1)
    error = ratio.std(0) / math.sqrt(count)
    assert bool(((ratio.mean(0) - kl.sum(1)).abs() < 4 * error).all())
    assert bool((kl >= 0).all())


# -- posteriors with discrete codes -----------------------------------------------------------------------------------


@quantised
def test_codes_are_entries_of_the_codebook(name: str) -> None:
    posterior = make(name, 4)
    assert isinstance(posterior, QuantisedPosterior)
    q = posterior(encoded(posterior))
    indices = posterior.indices(q.mean)
    assert indices.shape == (BATCH, posterior.num_positions)
    assert bool(((indices >= 0) & (indices < posterior.num_codes)).all())
    assert torch.equal(posterior.lookup(indices), q.mean)
    draw = q.draw(seeded_noise(), 3)
    assert torch.equal(posterior.indices(draw.z), indices.expand(3, -1, -1))
    assert torch.equal(q.log_prob_of(draw), torch.zeros(3, BATCH, dtype=torch.float64))


@quantised
def test_the_gradient_passes_straight_through_the_codes(name: str) -> None:
    posterior = make(name)
    h = encoded(posterior).requires_grad_()
    q = posterior(h)
    (gradient,) = torch.autograd.grad(q.draw(seeded_noise()).z.sum(), h, retain_graph=True)
    assert torch.equal(gradient, torch.autograd.grad(q.source.sum(), h)[0])
    assert bool((gradient != 0).all())


# -- members that torch has -------------------------------------------------------------------------------------------

REFERENCES: dict[str, Callable[[PosteriorDistribution], Distribution]] = {
    "diagonal": lambda q: Independent(Normal(q.mean, torch.exp(q.log_var / 2)), 1),
    "full_covariance": lambda q: MultivariateNormal(q.mean, scale_tril=q.scale),
}


@pytest.mark.parametrize("name", REFERENCES)
@given(st.integers(1, 5), st.integers(0, 99))
def test_log_prob_and_kl_match_torch(name: str, latent_dim: int, seed: int) -> None:
    posterior = make(name, latent_dim)
    q = posterior(encoded(posterior, seed=seed))
    reference = REFERENCES[name](q)
    z = torch.randn(4, BATCH, latent_dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(q.log_prob(z), reference.log_prob(z), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(q.mean, reference.mean)
    torch.testing.assert_close(q.log_var.exp(), reference.variance)
    kl = q.kl_to_standard_normal()
    assert kl is not None
    zeros = torch.zeros(latent_dim, dtype=torch.float64)
    prior = MultivariateNormal(zeros, torch.eye(latent_dim, dtype=torch.float64))
    whole = MultivariateNormal(reference.mean, covariance_of(q))
    torch.testing.assert_close(kl.sum(1), torch.distributions.kl_divergence(whole, prior), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("latent_dim", [1, 2, 3, 6])
def test_every_entry_of_the_cholesky_factor_is_a_parameter(latent_dim: int) -> None:
    posterior = make("full_covariance", latent_dim)
    h = torch.arange(posterior.num_parameters, dtype=torch.float64)[None]
    h[:, latent_dim : 2 * latent_dim] = 0
    q = posterior(h)
    assert torch.equal(q.scale, q.scale.tril())
    assert torch.equal(q.scale.diagonal(dim1=1, dim2=2), torch.ones(1, latent_dim, dtype=torch.float64))
    rows, columns = torch.tril_indices(latent_dim, latent_dim, -1)
    below = q.scale[0, rows, columns].sort().values
    torch.testing.assert_close(below, h[0, 2 * latent_dim :])


def test_a_full_covariance_without_correlations_is_diagonal() -> None:
    full, plain = make("full_covariance"), make("diagonal")
    h = encoded(plain)
    q = full(torch.cat([h, torch.zeros(BATCH, full.num_parameters - plain.num_parameters, dtype=h.dtype)], 1))
    expected = plain(h)
    z = torch.randn(BATCH, 3, dtype=torch.float64)
    torch.testing.assert_close(q.log_var, expected.log_var)
    torch.testing.assert_close(q.log_prob(z), expected.log_prob(z))
    torch.testing.assert_close(q.kl_to_standard_normal()[:, 0], expected.kl_to_standard_normal().sum(1))
    torch.testing.assert_close(q.draw(seeded_noise()).z, expected.draw(seeded_noise()).z)


# -- inverse autoregressive flow --------------------------------------------------------------------------------------


def test_a_flow_starts_as_the_diagonal_posterior() -> None:
    posterior, plain = iaf.Posterior(Spec((1, 8, 8), 3, 100)).double(), make("diagonal")
    initialise(posterior, torch.Generator().manual_seed(0))
    h = encoded(posterior)
    q, expected = posterior(h), plain(h[:, :6])
    draw = q.draw(seeded_noise(), 4)
    assert torch.equal(draw.z, expected.draw(seeded_noise(), 4).z)
    torch.testing.assert_close(q.log_prob_of(draw), expected.log_prob(draw.z), rtol=1e-12, atol=1e-12)


# -- quantised codes by hand ------------------------------------------------------------------------------------------


def make_vq(entries: list[list[float]], latent_dim: int, **options: float) -> vq.Posterior:
    posterior = vq.Posterior(Spec((1, 8, 8), latent_dim, 100), codes=len(entries), code_dim=len(entries[0]), **options)
    posterior.codebook.copy_(torch.tensor(entries))
    return posterior


def test_vq_takes_the_nearest_entry_of_each_position() -> None:
    posterior = make_vq([[0.0, 0.0], [1.0, 1.0], [-1.0, 2.0]], 4)
    h = torch.tensor([[0.4, 0.4, -0.8, 1.9], [0.9, 0.7, 0.1, -3.0]])
    q = posterior(h)
    assert posterior.indices(h).tolist() == [[0, 2], [1, 0]]
    assert q.mean.tolist() == [[0, 0, -1, 2], [1, 1, 0, 0]]
    squares = [0.16 + 0.16 + 0.04 + 0.01, 0.01 + 0.09 + 0.01 + 9.0]
    assert float(q.losses()["commitment"]) == pytest.approx(0.25 * sum(squares) / 2)
    shares = torch.tensor([0.5, 0.25, 0.25])
    found = float(q.statistics(lambda rows: rows)["perplexity"])
    assert found == pytest.approx(float(torch.distributions.Categorical(shares).perplexity()))


def test_vq_moves_entries_towards_the_mean_of_their_vectors() -> None:
    """The average of counts and of sums of vectors with decay 0.75 (1711.00937, equations 6 to 8)."""
    posterior = make_vq([[0.0], [10.0]], 1, decay=0.75, restart=0.0)
    posterior.counts.fill_(4)
    posterior.sums.copy_(4 * posterior.codebook)
    h = torch.tensor([[1.0], [2.0], [9.0]])
    posterior.update(posterior(h), seeded_noise(), lambda rows: rows)
    assert posterior.counts.tolist() == [0.75 * 4 + 0.25 * 2, 0.75 * 4 + 0.25 * 1]
    assert posterior.codebook[:, 0].tolist() == pytest.approx([0.25 * 3 / 3.5, (0.75 * 40 + 0.25 * 9) / 3.25])


def test_vq_replaces_dead_entries_by_vectors_of_the_batch() -> None:
    posterior = make_vq([[0.0], [1.0], [50.0]], 1, decay=0.5, restart=0.1)
    posterior.counts.copy_(torch.tensor([4.0, 4.0, 0.01]))
    posterior.sums.copy_(posterior.counts[:, None] * posterior.codebook)
    h = torch.tensor([[0.1], [0.2], [0.9], [1.1]])
    posterior.update(posterior(h), seeded_noise(), lambda rows: rows)
    assert float(posterior.codebook[2]) in h.flatten().tolist()
    assert float(posterior.codebook.max()) < 2
    kept = make_vq([[0.0], [1.0], [50.0]], 1, decay=0.5, restart=0.0)
    for _ in range(100):
        kept.update(kept(h), seeded_noise(), lambda rows: rows)
    assert float(kept.codebook[2]) == 50


def test_vq_starts_with_vectors_of_the_first_batch_and_finds_clusters() -> None:
    posterior = vq.Posterior(Spec((1, 8, 8), 2, 100), codes=4, code_dim=2, decay=0.8)
    initialise(posterior, torch.Generator().manual_seed(0))
    centres = 100 + 10 * torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    generator = torch.Generator().manual_seed(0)
    for step in range(60):
        h = centres.repeat(5, 1) + 0.1 * torch.randn(20, 2, generator=generator)
        posterior.update(posterior(h), seeded_noise(step), lambda rows: rows)
    order = posterior.codebook[:, 0].round() * 1000 + posterior.codebook[:, 1]
    torch.testing.assert_close(posterior.codebook[order.argsort()], centres, rtol=0, atol=0.2)


def codes_of(values: Tensor, levels: int) -> tuple[fsq.Posterior, Tensor]:
    """A posterior, and the codes of ``values`` as normalised outputs of the encoder, beside zeros."""
    padded = torch.cat([values, torch.zeros(int(values.square().sum()) + 1)])
    outputs = padded / (1 - padded.square().mean()).sqrt()
    posterior = fsq.Posterior(Spec((1, 8, 8), len(padded), 100), levels=[levels])
    return posterior, posterior(outputs[None]).mean[0]


def test_vq_replaces_one_entry_by_each_vector_at_most() -> None:
    """Equal entries would be chosen at random, by rounding."""
    posterior = vq.Posterior(Spec((1, 8, 8), 2, 100), codes=50)
    initialise(posterior, torch.Generator().manual_seed(0))
    h = torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    posterior.update(posterior(h), seeded_noise(), lambda rows: rows)
    assert len(posterior.codebook.unique()) == 50
    torch.testing.assert_close(posterior(h).mean, h)


def test_an_odd_number_of_levels_is_symmetric() -> None:
    posterior, codes = codes_of(torch.tensor([-3.0, -0.6, 0.0, 0.6, 3.0]), 5)
    assert codes[:5].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert posterior.indices(codes)[:5].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("levels", [3, 4, 5, 8, 16])
def test_every_level_is_reached_and_no_other(levels: int) -> None:
    posterior, codes = codes_of(torch.linspace(-5, 5, 2000), levels)
    half = levels // 2
    torch.testing.assert_close(codes.unique(), (torch.arange(levels) - half) / half, rtol=0, atol=0)
    assert bool((codes[:2000].diff() >= 0).all())
    zeros = torch.zeros(1, posterior.num_parameters)
    torch.testing.assert_close(posterior(zeros).source, zeros, rtol=0, atol=1e-6)


def test_large_outputs_of_the_encoder_leave_a_gradient() -> None:
    h = (100 * torch.randn(20, 16, generator=torch.Generator().manual_seed(0))).requires_grad_()
    posterior = fsq.Posterior(Spec((1, 8, 8), 16, 100))
    q = posterior(h)
    assert float(q.statistics(lambda rows: rows)["perplexity"]) > 4
    (gradient,) = torch.autograd.grad(q.source.square().sum(), h)
    assert float(gradient.abs().mean() * 100) > 0.1


def test_fsq_counts_combinations_of_levels() -> None:
    posterior = fsq.Posterior(Spec((1, 8, 8), 6, 100), levels=[3, 4, 5])
    assert (posterior.num_positions, posterior.num_codes) == (2, 60)
    codes = posterior.lookup(torch.tensor([[0, 59], [1, 3], [12, 29]]))
    low, high = [-1.0, -1.0, -1.0], [1.0, 0.5, 1.0]
    assert codes[0].tolist() == [*low, *high]
    assert codes[1].tolist() == [0, -1, -1, -1, -0.5, -1]
    assert codes[2].tolist() == [-1, -1, -0.5, 1, -0.5, 0]
    every = torch.arange(60)[:, None].expand(-1, 2)
    assert torch.equal(posterior.indices(posterior.lookup(every)), every)


@pytest.mark.parametrize(("name", "options"), [("vq", {"code_dim": 3}), ("fsq", {"levels": [8, 5, 5]})])
def test_a_number_of_latents_that_positions_do_not_divide_is_refused(
    name: str, options: dict[str, Any], wording: Any
) -> None:
    with pytest.raises(ValueError) as caught:
        MODULES[name].Posterior(Spec((1, 8, 8), 4, 100), **options)
    wording(caught.value)
