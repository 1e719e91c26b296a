"""The objectives capacity, dip, info and iwae: closed forms, reference vectors, a batch that two processes share."""

import itertools
import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from given import GivenEncoder, GivenNoise, given_vae
from hypothesis import given
from hypothesis import strategies as st
from small import CPU, as_batch, compute_terms, forward
from torch import Tensor
from two_processes import TwoProcesses
from vectors import Case

from vaelab import recipe
from vaelab.models.likelihoods.bernoulli import BernoulliPixels
from vaelab.models.likelihoods.gaussian import NormalPixels
from vaelab.models.posteriors.diagonal import DiagonalNormal
from vaelab.models.spec import Spec
from vaelab.models.vae import VAE
from vaelab.system import registry
from vaelab.system.errors import RecipeError
from vaelab.system.noise import StepNoise
from vaelab.training import objectives
from vaelab.training.objectives import Context, Objective, info
from vaelab.training.objectives.dip import code_covariance, covariance_penalties
from vaelab.training.objectives.info import mmd_squared
from vaelab.training.objectives.iwae import effective_samples, iwae_bound
from vaelab.training.schedules import linear_capacity

MakeModel = Callable[..., tuple[VAE, Objective]]
SHAPE, LATENTS = (1, 9, 8), 3
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "capacity": [{"max_capacity": 1.0, "warmup_steps": 10}],
    "dip": [{"kind": "I"}, {"kind": "II"}],
    "info": [{"alpha": 0.0}, {"kernel": "rbf"}, {"estimator": "biased"}],
    "iwae": [{"num_samples": 1}, {"num_samples": 4}],
    "tc": [{"estimator": "mss_balanced"}, {"estimator": "mws", "analytic": False}],
}
every_variant = pytest.mark.parametrize(
    ("name", "options"), [(name, options) for name, several in VARIANTS.items() for options in several]
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def images(count: int) -> Tensor:
    return torch.randint(2, (count, *SHAPE), generator=torch.Generator().manual_seed(5)).float()


def build(make_model: MakeModel, name: str, options: dict[str, Any]) -> tuple[VAE, Objective]:
    return make_model(SHAPE, {"objective.name": name, **{f"objective.{key}": v for key, v in options.items()}})


def unit_normal(mean: Tensor) -> NormalPixels:
    """The Gaussian likelihood whose loss is the sum of squared errors."""
    return NormalPixels(mean, 0.5)


def objective(name: str, **options: Any) -> Any:
    return registry.load("objectives", name).Objective(Spec((1, 4, 4), 4, 100), **options)


def measure_common_batch(name: str, **options: Any) -> dict[str, Tensor]:
    """The terms of the batch that all cases ``objective/…`` share."""
    case, prior = Case("objective/vae"), Case("objective/info_vae").z_prior
    vae = given_vae(GivenEncoder(case.mu, case.logvar), lambda z: case.x_hat, unit_normal, tuple(case.x.shape[1:]))
    noise = GivenNoise((case.z - case.mu) * torch.exp(-0.5 * case.logvar), prior)
    terms = compute_terms(objective(name, **options), vae, case.x, noise=noise)
    case.expect("recon", terms["reconstruction"])
    case.expect("kl", terms["kl"])
    return terms


# -- every variant -----------------------------------------------------------------------------------------------------


@every_variant
@pytest.mark.parametrize("count", [1, 5])  # of a single image one process has none
def test_two_processes_agree_with_one(make_model: MakeModel, name: str, options: dict[str, Any], count: int) -> None:
    vae, objective = build(make_model, name, options)
    x, step = images(count), 4
    copies = [deepcopy(vae) for _ in range(2)]
    parts = TwoProcesses(count).run(objective, copies, x, step)
    noise = StepNoise(0, CPU)
    noise.seek(step)
    terms = compute_terms(objective, vae, x, step, noise)
    for key, term in terms.items():
        torch.testing.assert_close(parts[0][key] + parts[1][key], term, msg=key)
    terms["loss"].backward()
    (parts[0]["loss"] + parts[1]["loss"]).backward()
    for alone, *shared in zip(*(model.parameters() for model in (vae, *copies)), strict=True):
        torch.testing.assert_close(sum(part.grad for part in shared), alone.grad, rtol=1e-4, atol=1e-6)


@every_variant
def test_nothing_is_read_back_to_the_host(make_model: MakeModel, name: str, options: dict[str, Any]) -> None:
    vae, objective = build(make_model, name, options)
    vae, batch, step = vae.to("meta"), as_batch(images(4).to("meta")), torch.zeros((), dtype=torch.int64, device="meta")

    class NoNumbers(GivenNoise):
        def normal(self, count: int, *shape: int) -> Tensor:
            return torch.empty(count, *shape, device="meta")

    _, terms = objectives.compute_terms(objective, vae, batch, Context(step, NoNumbers(), vae))
    terms["loss"].backward()  # a tensor on "meta" has no value to read


@every_variant
def test_bfloat16_networks_leave_the_terms_in_float32(
    make_model: MakeModel, name: str, options: dict[str, Any]
) -> None:
    mean, log_var, x = random(40, LATENTS).float(), random(40, LATENTS, seed=1).float() - 2, images(40)
    _, objective = build(make_model, name, options)
    found = []
    for enabled in (False, True):
        vae = given_vae(
            GivenEncoder(mean, log_var),
            lambda z: z.sum(1)[:, None, None, None].expand(-1, *SHAPE),
            BernoulliPixels,
            SHAPE,
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(compute_terms(objective, vae, x, 4))
    for key, term in found[0].items():
        assert term.dtype == torch.float32, key
        torch.testing.assert_close(found[1][key], term, msg=key)


# -- capacity ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", ["0", "1.566", "6.264"])
def test_capacity_vectors(capacity: str) -> None:
    case = Case(f"objective/capacity_C_{capacity}")
    options = {"gamma": case.params["gamma"], "max_capacity": case.params["C"], "warmup_steps": 0}
    case.expect("total", measure_common_batch("capacity", **options)["loss"])


def test_capacity_schedule_vectors() -> None:
    case = Case("schedule/capacity_linear")
    steps, most, warmup = (case.params[key] for key in ("steps", "C_max", "T"))
    case.expect("C", torch.stack([linear_capacity(torch.tensor(step), most, warmup) for step in steps]))


@given(st.integers(0, 10**9), st.floats(0, 1e3), st.integers(0, 10**9))
def test_capacity_rises_to_its_most_and_stays_there(step: int, most: float, warmup: int) -> None:
    now, later = (float(linear_capacity(torch.tensor(s), most, warmup)) for s in (step, step + 1))
    assert 0 <= now <= later <= most
    if step >= warmup:
        assert now == pytest.approx(most)
    else:
        assert now == pytest.approx(most * step / warmup)


def test_capacity_defaults_are_the_papers() -> None:
    made = objective("capacity")
    assert (made.gamma, made.max_capacity, made.warmup_steps) == (1000, 25, 100_000)


@pytest.mark.parametrize(("step", "capacity"), [(0, 0.0), (5, 2.0), (10, 4.0), (11, 4.0)])
def test_capacity_draws_the_mean_kl_from_both_sides(step: int, capacity: float) -> None:
    mean = torch.tensor([[1.0, 0.0], [1.0, 2.0]], dtype=torch.float64)  # KL 0.5 and 2.5: 1.5 in the mean
    encoder = GivenEncoder(mean, torch.zeros_like(mean))
    vae = given_vae(encoder, lambda z: torch.zeros(2, 1, 1, 1), unit_normal)
    made = objective("capacity", gamma=10.0, max_capacity=4.0, warmup_steps=10)
    x = torch.full((2, 1, 1, 1), 3.0, dtype=torch.float64)
    terms = compute_terms(made, vae, x, step, GivenNoise(torch.zeros_like(mean)))
    terms["loss"].backward()
    found = {key: float(term.detach()) for key, term in terms.items()}
    gap = abs(1.5 - capacity)
    wanted = {"loss": 9 + 10 * gap, "reconstruction": 9, "kl": 1.5, "capacity": capacity, "kl_gap": gap}
    assert found == pytest.approx(wanted)
    torch.testing.assert_close(encoder.mean.grad, 10 * mean / 2 * (1 if capacity < 1.5 else -1))


def test_capacity_is_that_of_the_whole_batch() -> None:
    mean = torch.tensor([[1.0], [2.0]])  # one image each, KL 0.5 and 2
    made = objective("capacity", gamma=10.0, max_capacity=1.25, warmup_steps=0)
    encoders = [GivenEncoder(mean[rank : rank + 1], torch.zeros(1, 1)) for rank in range(2)]
    models = [given_vae(encoder, lambda z: torch.zeros(1, 1, 1, 1), unit_normal) for encoder in encoders]
    first, second = TwoProcesses(2).run(made, models, torch.zeros(2, 1, 1, 1), 0)
    assert {key: float((first[key] + second[key]).detach()) for key in first} == pytest.approx(
        {"loss": 0, "reconstruction": 0, "kl": 1.25, "capacity": 1.25, "kl_gap": 0}
    )


# -- dip --------------------------------------------------------------------------------------------------------------


def test_dip_penalty_vectors() -> None:
    case = Case("dip_vae/penalty")
    case.expect("cov_mu", code_covariance(case.mu))
    case.expect("cov_z", code_covariance(case.mu, case.logvar))
    for kind, log_var in (("i", None), ("ii", case.logvar)):
        off_diagonal, diagonal = covariance_penalties(case.mu, log_var)
        case.expect(f"dip_{kind}.off", off_diagonal)
        case.expect(f"dip_{kind}.diag", diagonal)
        weights = case.params[f"lambda_od_d_{kind}"]
        case.expect(f"dip_{kind}.penalty", weights[0] * off_diagonal + weights[1] * diagonal)


@pytest.mark.parametrize("kind", ["I", "II"])
def test_dip_objective_vectors(kind: str) -> None:
    case = Case("objective/dip_vae")
    off_diagonal, diagonal = case.params[f"lambda_od_d_{kind.lower()}"]
    found = measure_common_batch("dip", kind=kind, off_diagonal=off_diagonal, diagonal=diagonal)
    case.expect(f"dip_{kind.lower()}", found["loss"])


def test_dip_wants_the_priors_covariance() -> None:
    corners = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)), dtype=torch.float64)  # covariance I
    assert [float(value) for value in covariance_penalties(corners)] == [0, 0]
    shrunk, log_var = 0.6 * corners, torch.full_like(corners, math.log(0.64))
    assert [float(value) for value in covariance_penalties(shrunk, log_var)] == pytest.approx([0, 0], abs=1e-15)
    assert float(covariance_penalties(shrunk)[1]) == pytest.approx(3 * 0.64**2)
    twice = corners[:, [0, 0]]
    assert [float(value) for value in covariance_penalties(twice)] == [2, 0]  # each pair counts twice
    assert [float(value) for value in covariance_penalties(corners[:1])] == [0, 3]


@given(st.integers(2, 9), st.integers(1, 5), st.integers(0, 99), st.floats(-1e3, 1e3))
def test_dip_sees_neither_where_the_codes_are_nor_their_order(count: int, dim: int, seed: int, shift: float) -> None:
    mean, log_var = random(count, dim, seed=seed), random(count, dim, seed=seed + 1)
    wanted = torch.stack(covariance_penalties(mean, log_var))
    shifted = torch.stack(covariance_penalties(mean.flip(0) + shift, log_var.flip(0)))
    torch.testing.assert_close(shifted, wanted, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(code_covariance(mean), torch.cov(mean.T, correction=0).reshape(dim, dim))


# -- info -------------------------------------------------------------------------------------------------------------

MMD_CASES = [("rbf", "rbf"), ("imq_multiscale", "imq"), ("imq_single", "imq"), ("rbf_mmdvae_bandwidth", "rbf")]


@pytest.mark.parametrize(("name", "kernel"), MMD_CASES)
@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_mmd_vectors(name: str, kernel: info.Kernel, estimator: info.Estimator) -> None:
    case = Case(f"mmd/{name}")
    scales = case.params.get("scales", [case.params.get("C", 0) / (2 * case.x.shape[1])])
    case.expect(f"mmd2_{estimator}", mmd_squared(case.x, case.y, kernel, estimator, scales))
    if name in ("rbf", "imq_multiscale"):  # the defaults
        case.expect(f"mmd2_{estimator}", mmd_squared(case.x, case.y, kernel, estimator))


def test_mmd_of_a_set_and_itself_vectors() -> None:
    case = Case("mmd/identical_sets")
    x = case.x[: case.params["rows"]]
    case.expect("n_used", torch.tensor(float(len(x)), dtype=torch.float64))
    case.expect("mmd2_biased", mmd_squared(x, x, "rbf", "biased"))
    case.expect("mmd2_unbiased", mmd_squared(x, x, "rbf", "unbiased"))


def test_info_objective_vectors() -> None:
    case = Case("objective/info_vae")
    for total, alpha in (("total", case.params["alpha"]), ("mmd_vae_total", 1.0)):
        terms = measure_common_batch("info", alpha=alpha, scaling=case.params["lam"])
        case.expect("mmd2_unbiased", terms["mmd"])
        case.expect(total, terms["loss"])
    case.expect("mmd_vae_total", measure_common_batch("info")["loss"])  # by default


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@given(st.integers(2, 8), st.integers(2, 8), st.integers(1, 4), st.integers(0, 99))
def test_mmd_is_symmetric_and_sees_distances_only(
    estimator: info.Estimator, some: int, others: int, dim: int, seed: int
) -> None:
    a, b = random(some, dim, seed=seed), random(others, dim, seed=seed + 1)
    turn, _ = torch.linalg.qr(random(dim, dim, seed=seed + 2))
    for kernel in info.SCALES:
        wanted = mmd_squared(a, b, kernel, estimator)
        assert estimator == "unbiased" or float(wanted) >= -1e-14
        torch.testing.assert_close(mmd_squared(b, a, kernel, estimator), wanted)
        torch.testing.assert_close(mmd_squared(a @ turn + 5, b @ turn + 5, kernel, estimator), wanted)


def test_mmd_of_normal_distributions_is_the_closed_form() -> None:
    count, dim, shift, std = 2000, 2, 0.5, 1.5
    a, b = random(count, dim), shift + std * random(count, dim, seed=1)

    def similarity(variance: float, distance: float) -> float:
        """E exp(−|u|²/C), u normal around ``distance`` in each direction."""
        width = 2 * dim + 2 * variance
        return (2 * dim / width) ** (dim / 2) * math.exp(-dim * distance**2 / width)

    wanted = similarity(2, 0) + similarity(2 * std**2, 0) - 2 * similarity(1 + std**2, shift)
    assert wanted > 0.02
    assert float(mmd_squared(a, b, "rbf")) == pytest.approx(wanted, abs=0.005)
    assert abs(float(mmd_squared(a, random(count, dim, seed=2), "rbf"))) < 0.002


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_mmd_gradients(kernel: info.Kernel) -> None:
    a, b = random(4, 3).requires_grad_(), random(5, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda *given: mmd_squared(*given, kernel), (a, b))
    same = torch.ones(4, 3, requires_grad=True)  # where all distances are 0
    mmd_squared(same, torch.ones(4, 3), kernel).backward()
    assert torch.equal(same.grad, torch.zeros(4, 3))


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_mmd_of_codes_far_away_keeps_its_digits_in_float32(kernel: info.Kernel) -> None:
    a, b = (random(64, 8, seed=seed).float() + 256 for seed in (0, 1))
    assert float(mmd_squared(a, b, kernel)) == pytest.approx(
        float(mmd_squared(a.double(), b.double(), kernel)), abs=1e-5
    )


def test_unbiased_mmd_needs_two_points() -> None:
    with pytest.raises(ValueError):
        mmd_squared(random(1, 3), random(5, 3))
    assert math.isfinite(float(mmd_squared(random(1, 3), random(5, 3), estimator="biased")))


def test_info_of_a_single_image_counts_no_unbiased_mmd(make_model: MakeModel) -> None:
    for estimator, is_zero in (("unbiased", True), ("biased", False)):
        vae, made = build(make_model, "info", {"estimator": estimator})
        terms = compute_terms(made, vae, images(1))
        assert (float(terms["mmd"].detach()) == 0) == is_zero
        torch.testing.assert_close(terms["loss"], terms["reconstruction"] + 10 * terms["mmd"])


@pytest.mark.parametrize(("alpha", "scaling"), [(0.0, 1.0), (-1.0, 2.0), (0.5, 3.0), (1.0, 0.0)])
def test_info_weighs_kl_and_mmd(make_model: MakeModel, alpha: float, scaling: float) -> None:
    vae, made = build(make_model, "info", {"alpha": alpha, "scaling": scaling})
    terms = compute_terms(made, vae, images(5))
    wanted = terms["reconstruction"] + (1 - alpha) * terms["kl"] + (alpha + scaling - 1) * terms["mmd"]
    torch.testing.assert_close(terms["loss"], wanted)


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_info_draws_the_codes_to_the_prior(kernel: info.Kernel, estimator: info.Estimator) -> None:
    mean, epsilon, prior = random(6, 2) + 1, random(6, 2, seed=1), random(6, 2, seed=2)
    encoder = GivenEncoder(mean, torch.zeros_like(mean))
    vae = given_vae(encoder, lambda z: torch.zeros(6, 1, 1, 1), unit_normal)
    made = objective("info", kernel=kernel, estimator=estimator)
    x = torch.zeros(6, 1, 1, 1, dtype=torch.float64)
    terms = compute_terms(made, vae, x, noise=GivenNoise(epsilon, prior))
    terms["loss"].backward()
    codes = (mean + epsilon).requires_grad_()
    wanted = mmd_squared(codes, prior, kernel, estimator)
    torch.testing.assert_close(terms["mmd"], wanted)
    (10 * wanted).backward()
    torch.testing.assert_close(encoder.mean.grad, codes.grad)


def test_info_does_not_reward_a_distance_from_the_prior() -> None:
    with pytest.raises(RecipeError) as caught:
        objective("info", alpha=0.0, scaling=0.5)
    assert (caught.value.subject, caught.value.value) == ("objective.alpha", 0.0)


@pytest.mark.parametrize(("shape", "scaling"), [((1, 28, 28), 10), ((1, 56, 56), 40), ((3, 64, 64), 160)])
def test_info_scaling_grows_with_the_image(shape: tuple[int, int, int], scaling: float) -> None:
    tables = {"data": {"name": "digits"}, "objective": {"name": "info", "scaling": "auto"}}
    assert recipe.validate(tables, "info").resolve(shape, 100).objective["scaling"] == scaling


# -- iwae -------------------------------------------------------------------------------------------------------------


def test_iwae_bound_vectors() -> None:
    case = Case("iwae/bound")
    log_weights = case.log_w.requires_grad_()
    bounds = iwae_bound(log_weights)
    case.expect("L_K_per_image", bounds)
    case.expect("L_K_mean", bounds.mean())
    case.expect("normalized_weights", torch.autograd.grad(bounds.sum(), log_weights)[0])
    case.expect("ess", effective_samples(log_weights))
    singles = torch.stack([iwae_bound(one[None]) for one in log_weights])
    case.expect("elbo_mean_over_K", singles.mean(0))


def test_iwae_bound_grows_with_its_samples_vectors() -> None:
    case = Case("iwae/subset_average")
    means = [
        torch.stack([iwae_bound(case.log_w[list(chosen)]) for chosen in itertools.combinations(range(6), k)]).mean(0)
        for k in range(1, 7)
    ]
    case.expect("mean_L_k", torch.stack(means))
    assert bool((torch.stack(means).diff(dim=0) >= 0).all())


def test_iwae_bound_of_weights_that_are_zero() -> None:
    log_weights = torch.tensor([[-math.inf, -math.inf], [0.0, -math.inf]])
    assert iwae_bound(log_weights).tolist() == pytest.approx([-math.log(2), -math.inf])


class Linear:
    """The linear decoder and the images of a case with a posterior of each, as a model for the objective."""

    def __init__(self, case: Case, q: DiagonalNormal) -> None:
        self.case, self.q, self.encoder = case, q, GivenEncoder(q.mean, q.log_var)

    def measure(self, z: Tensor) -> dict[str, Tensor]:
        """The objective's terms for given samples ``[K, N, d]``."""
        case, sigma2 = self.case, self.case.params.get("sigma2")
        vae = given_vae(
            self.encoder,
            lambda z: (z @ case.W.T + case.b)[:, None, None],
            BernoulliPixels if sigma2 is None else lambda mean: NormalPixels(mean, sigma2),
            (1, 1, len(case.W)),
        )
        first, *later = (z - self.q.mean) * torch.exp(-0.5 * self.q.log_var)
        noise = GivenNoise(first, *([torch.stack(later, 1)] if later else []))
        return compute_terms(objective("iwae", num_samples=len(z)), vae, case.x[:, None, None], noise=noise)

    def bound(self, z: Tensor) -> Tensor:
        """L_K, mean over the images, with the likelihood's constant."""
        sigma2 = self.case.params.get("sigma2")
        constant = 0.0 if sigma2 is None else len(self.case.W) / 2 * math.log(2 * math.pi * sigma2)
        return -self.measure(z)["loss"].detach() - constant


class MeanOf:
    """A case in which the mean over its images is expected."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def expect(self, name: str, got: Tensor) -> None:
        assert got.dtype == torch.float64
        assert float(got.detach()) == pytest.approx(self.case.value(name).mean(), rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("name", ["ppca/orthogonal_W/arbitrary_q", "ppca/general_W/arbitrary_q", "bernoulli_linear"])
def test_iwae_objective_on_a_linear_model_vectors(name: str) -> None:
    case = Case(name)
    model = Linear(case, DiagonalNormal(case.q_mu, case.q_logvar))
    MeanOf(case).expect("L_K", model.bound(case.z))
    MeanOf(case).expect("log_w", torch.stack([model.bound(z[None]) for z in case.z]).mean())  # K = 1: the sampled ELBO
    terms = model.measure(case.z)
    torch.testing.assert_close(terms["kl"], model.q.kl_to_standard_normal().sum(1).mean())
    weights = torch.from_numpy(case.value("log_w")).softmax(0)
    torch.testing.assert_close(terms["effective_samples"], (1 / weights.square().sum(0)).mean())


@pytest.mark.parametrize("which", ["orthogonal_W", "general_W"])
def test_iwae_gradient_vectors(which: str) -> None:
    case = Case(f"ppca/{which}/iwae_gradient")
    model = Linear(case, DiagonalNormal(case.q_mu, case.q_logvar))
    model.measure(case.z)["loss"].backward()
    case.expect("grad_mu", model.encoder.mean.grad)
    case.expect("grad_logvar", model.encoder.log_var.grad)


@pytest.mark.parametrize("num_samples", [1, 2, 5])
def test_iwae_with_the_exact_posterior_is_the_marginal(num_samples: int) -> None:
    case, marginal = (Case(f"ppca/orthogonal_W/{name}") for name in ("iwae_exact_posterior", "log_marginal"))
    mean, covariance = (torch.from_numpy(marginal.value(f"posterior_{name}")) for name in ("mean", "cov"))
    model = Linear(case, DiagonalNormal(mean, covariance.diagonal().log().expand_as(mean)))
    MeanOf(case).expect("log_w", model.bound(case.z[:num_samples]))
    MeanOf(marginal).expect("log_px", model.bound(case.z[:num_samples]))
    assert float(model.measure(case.z[:num_samples])["effective_samples"]) == pytest.approx(num_samples)


@pytest.mark.parametrize("which", ["orthogonal_W", "general_W"])
def test_expected_iwae_bounds_vectors(which: str) -> None:
    case, copies = Case(f"ppca/{which}/expected_iwae_bound"), 400
    for name in ("x", "q_mu", "q_logvar"):
        setattr(case, name, getattr(case, name).repeat(copies, 1))
    model = Linear(case, DiagonalNormal(case.q_mu, case.q_logvar))
    found = torch.stack(
        [
            torch.stack([model.bound(model.q.rsample(random(k, *model.q.mean.shape, seed=seed))) for k in (1, 5, 50)])
            for seed in range(8)
        ]
    )
    error = 4 * float((found.std(0) / math.sqrt(len(found))).max())
    assert error < 0.1
    case.expect("expected_L_K_mean", found.mean(0), error, at_most=0.03)
    case.expect("K", torch.tensor([1.0, 5.0, 50.0], dtype=torch.float64))
    assert bool((found.mean(0).diff() > 0).all())
    assert float(found.mean(0)[-1]) < float(case.value("log_px_mean"))


def test_iwae_with_one_sample_is_the_elbo_with_a_sampled_kl(make_model: MakeModel) -> None:
    vae, made = build(make_model, "iwae", {"num_samples": 1})
    x = images(5)
    out, terms = forward(vae, x), compute_terms(made, vae, x)
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(out.z[0])
    posterior = torch.distributions.Normal(out.q.mean, torch.exp(out.q.log_var / 2)).log_prob(out.z[0])
    torch.testing.assert_close(terms["loss"], (out.reconstruction[0] + (posterior - prior).sum(1)).mean())
    torch.testing.assert_close(terms["effective_samples"], torch.tensor(1.0))


def test_iwae_takes_the_mean_of_its_images_each_with_samples_of_its_own(make_model: MakeModel) -> None:
    vae, made = build(make_model, "iwae", {"num_samples": 3})
    x, draws = images(4), random(3, 4, LATENTS).float()

    def loss(chosen: slice) -> Tensor:
        noise = GivenNoise(draws[0, chosen], draws[1:, chosen].transpose(0, 1))
        return compute_terms(made, vae, x[chosen], noise=noise)["loss"]

    alone = torch.stack([loss(slice(i, i + 1)) for i in range(4)])
    torch.testing.assert_close(loss(slice(None)), alone.mean())
    draws[2, 0] += 5  # of one image one sample
    assert (torch.stack([loss(slice(i, i + 1)) for i in range(4)]) != alone).tolist() == [True, False, False, False]
