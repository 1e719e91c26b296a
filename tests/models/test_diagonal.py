"""DiagonalNormal against torch.distributions, and the clamp of log-variances."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from vaelab.models.gradients import clamp_straight_through, straight_through
from vaelab.models.posteriors.diagonal import LOG_VAR_RANGE, DiagonalNormal

TOLERANCE = {"rtol": 1e-9, "atol": 1e-10}


def tensors(shape: tuple[int, ...], low: float, high: float) -> st.SearchStrategy[Tensor]:
    numbers = st.floats(low, high, allow_subnormal=False)
    return arrays("float64", shape, elements=numbers, fill=st.nothing()).map(torch.from_numpy)


@st.composite
def normals(draw: st.DrawFn, count: int = 1) -> list[DiagonalNormal]:
    """Distributions of one shape with zero to two batch axes."""
    shape = draw(array_shapes(min_dims=1, max_dims=3, max_side=4))
    return [DiagonalNormal(draw(tensors(shape, -5, 5)), draw(tensors(shape, -8, 6))) for _ in range(count)]


def as_torch(q: DiagonalNormal) -> Normal:
    return Normal(q.mean, torch.exp(q.log_var / 2))


@given(normals(), st.data())
def test_log_prob_matches_torch(q: list[DiagonalNormal], data: st.DataObject) -> None:
    (q,) = q
    z = data.draw(tensors((2, *q.mean.shape), -9, 9))
    torch.testing.assert_close(q.log_prob_per_latent(z), as_torch(q).log_prob(z), **TOLERANCE)
    torch.testing.assert_close(q.log_prob(z), as_torch(q).log_prob(z).sum(-1), **TOLERANCE)


@given(normals(2))
def test_kl_matches_torch(pair: list[DiagonalNormal]) -> None:
    q, prior = pair
    standard = Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean))
    torch.testing.assert_close(q.kl_to_standard_normal(), kl_divergence(as_torch(q), standard), **TOLERANCE)
    torch.testing.assert_close(q.kl(prior), kl_divergence(as_torch(q), as_torch(prior)), **TOLERANCE)


@given(normals(2))
def test_gradients_of_the_kl_match_torch(pair: list[DiagonalNormal]) -> None:
    def gradients(kl: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(kl.sum(), leaves)

    leaves = [tensor.requires_grad_() for p in pair for tensor in (p.mean, p.log_var)]
    q, prior = pair
    for ours, theirs in zip(
        gradients(q.kl(prior)), gradients(kl_divergence(as_torch(q), as_torch(prior))), strict=True
    ):
        torch.testing.assert_close(ours, theirs, **TOLERANCE)


@given(normals())
def test_kl_is_zero_only_for_the_prior(q: list[DiagonalNormal]) -> None:
    (q,) = q
    kl = q.kl_to_standard_normal()
    assert bool((kl >= 0).all())
    apart = (q.mean.abs() > 1e-6) | (q.log_var.abs() > 1e-6)
    assert bool((kl[apart] > 0).all())
    assert torch.equal(
        DiagonalNormal(torch.zeros_like(kl), torch.zeros_like(kl)).kl_to_standard_normal(), torch.zeros_like(kl)
    )
    assert torch.equal(q.kl(q), torch.zeros_like(kl))


def test_kl_of_a_nearly_standard_posterior_is_accurate_in_float32() -> None:
    log_var = torch.tensor([1e-3, -1e-3])
    exact = 0.5 * (torch.expm1(log_var.double()) - log_var.double())
    kl = DiagonalNormal(torch.zeros(2), log_var).kl_to_standard_normal()
    torch.testing.assert_close(kl.double(), exact, rtol=1e-3, atol=0)  # exp(λ) − 1 − λ would be wrong by 10 %


@given(normals(), st.data())
def test_rsample_is_mean_plus_std_times_noise(q: list[DiagonalNormal], data: st.DataObject) -> None:
    (q,) = q
    epsilon = data.draw(tensors((3, *q.mean.shape), -4, 4))
    assert torch.equal(q.rsample(epsilon), q.mean + torch.exp(0.5 * q.log_var) * epsilon)
    assert torch.equal(q.rsample(torch.zeros_like(q.mean)), q.mean)
    assert torch.equal(q.std, torch.exp(0.5 * q.log_var))


def test_gradients_pass_through_rsample() -> None:
    mean, log_var = torch.zeros(2, 3, requires_grad=True), torch.full((2, 3), 0.5, requires_grad=True)
    epsilon = torch.arange(6.0).view(2, 3)
    DiagonalNormal(mean, log_var).rsample(epsilon).sum().backward()
    assert torch.equal(mean.grad, torch.ones(2, 3))
    torch.testing.assert_close(log_var.grad, 0.5 * torch.exp(torch.tensor(0.25)) * epsilon)


def test_straight_through_has_the_value_of_one_and_the_gradient_of_the_other() -> None:
    value, source = torch.randn(5, requires_grad=True), torch.randn(5, requires_grad=True)
    result = straight_through(value, source)
    torch.testing.assert_close(result, value)
    gradients = torch.autograd.grad((result * torch.arange(5.0)).sum(), [value, source], allow_unused=True)
    assert gradients[0] is None
    assert torch.equal(gradients[1], torch.arange(5.0))


@given(st.lists(st.floats(*LOG_VAR_RANGE, width=32), min_size=1, max_size=20))
def test_the_clamp_leaves_ordinary_log_variances_unchanged(values: list[float]) -> None:
    for log_var in (torch.tensor(values), torch.tensor(values).double()):
        assert torch.equal(clamp_straight_through(log_var, *LOG_VAR_RANGE), log_var)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=20))
def test_the_clamp_passes_the_gradient_everywhere(values: list[float]) -> None:
    log_var = torch.tensor(values, requires_grad=True)
    clamped = clamp_straight_through(log_var, *LOG_VAR_RANGE)
    assert torch.equal(clamped, log_var.clamp(*LOG_VAR_RANGE))
    clamped.sum().backward()
    assert torch.equal(log_var.grad, torch.ones(len(values)))


def test_nothing_overflows_far_outside_the_range() -> None:
    raw = torch.tensor([-1e4, 1e4], requires_grad=True)
    q = DiagonalNormal(torch.zeros(2), clamp_straight_through(raw, *LOG_VAR_RANGE))
    kl = q.kl_to_standard_normal().sum()
    (gradient,) = torch.autograd.grad(kl, raw)
    assert bool(torch.isfinite(torch.stack([kl, q.log_prob(torch.ones(2)), q.rsample(torch.ones(2)).sum()])).all())
    assert bool(torch.isfinite(gradient).all())
    assert gradient[0] < 0 < gradient[1], "gradient descent must lead back into the range"
