"""Gaussian likelihoods with a learned or the optimal σ: closed forms, reference vectors, calibration."""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import CPU, forward, make_images, make_recipe, make_state, make_steps, run_steps
from torch import Tensor
from torch.distributions import Normal
from two_processes import TwoProcesses
from typed import train_small
from vectors import Case

import vaelab
from vaelab.models.chunks import EVAL_BATCH_SIZE
from vaelab.models.likelihoods import Calibrated, learned_gaussian, optimal_gaussian
from vaelab.models.likelihoods.learned_gaussian import MIN_LOG_SIGMA, soft_clip
from vaelab.models.spec import Spec
from vaelab.models.vae import VAE
from vaelab.system import files, registry
from vaelab.system.errors import RecipeError
from vaelab.system.noise import GeneratorNoise, generator
from vaelab.training.objectives import Objective

MakeModel = Callable[..., tuple[VAE, Objective]]
SPEC = Spec((3, 8, 9), latent_dim=2, num_images=10)
D = SPEC.num_pixels
both = pytest.mark.parametrize("name", ["learned_gaussian", "optimal_gaussian"])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def optimal(**options: float) -> Any:
    return optimal_gaussian.Likelihood(SPEC, **options).double()


def learned(**options: float) -> Any:
    return learned_gaussian.Likelihood(SPEC, **options).double()


# -- reference vectors ------------------------------------------------------------------------------------------------


def test_optimal_sigma_of_a_batch() -> None:
    case, likelihood = Case("sigma_vae/optimal_sigma_shared"), optimal()
    decoded = torch.logit(case.x_hat)
    likelihood.calibrate(likelihood.calibration_statistic(decoded, case.x))
    case.expect("sigma2", likelihood.variance)
    log_prob = likelihood(decoded).log_prob(case.x)
    case.expect("nll_per_image", -log_prob)
    case.expect("nll_mean", -log_prob.mean())


def test_optimal_sigma_of_each_image() -> None:
    case, likelihood = Case("sigma_vae/optimal_sigma_per_image"), optimal()
    variances, log_probs = [], []
    for x, decoded in zip(case.x[:, None], torch.logit(case.x_hat)[:, None], strict=True):
        likelihood.calibrate(likelihood.calibration_statistic(decoded, x))
        variances.append(likelihood.variance.clone())
        log_probs.append(likelihood(decoded).log_prob(x)[0])
    case.expect("sigma2", torch.stack(variances))
    case.expect("nll_per_image", -torch.stack(log_probs))


def test_soft_clip() -> None:
    case = Case("sigma_vae/softclip")
    assert case.params["minimum"] == MIN_LOG_SIGMA
    case.expect("clipped", soft_clip(case.log_sigma))


def test_learned_sigma() -> None:
    case, likelihood = Case("sigma_vae/learned_shared_with_softclip"), learned()
    with torch.no_grad():
        likelihood.log_sigma.fill_(case.params["log_sigma"])
    case.expect("nll_mean", -likelihood(torch.logit(case.x_hat)).log_prob(case.x).mean())


# -- closed forms -----------------------------------------------------------------------------------------------------


@given(st.floats(1e-3, 10.0))
def test_the_density_matches_torch_for_any_sigma(sigma: float) -> None:
    likelihood = optimal(floor=1e-6)
    likelihood.calibrate(torch.tensor([sigma**2], dtype=torch.float64))
    x, decoded = random(4, *SPEC.image_shape), 4 * random(4, *SPEC.image_shape, seed=1) - 2
    expected = Normal(torch.sigmoid(decoded), sigma).log_prob(x).sum((1, 2, 3))
    pixels = likelihood(decoded)
    torch.testing.assert_close(pixels.log_prob(x), expected, rtol=1e-9, atol=1e-9)
    constant = torch.full_like(expected, -D / 2 * math.log(2 * math.pi))
    torch.testing.assert_close(
        pixels.reconstruction_loss(x) + pixels.log_prob(x), constant, rtol=0, atol=1e-6 * float(expected.abs().max())
    )


@given(st.floats(2 * math.exp(2 * MIN_LOG_SIGMA), 4.0))
def test_learning_begins_at_the_given_variance(variance: float) -> None:
    with torch.no_grad():
        found = learned(initial_variance=variance)(random(1, *SPEC.image_shape)).log_sigma.exp() ** 2
    assert float(found) == pytest.approx(variance, rel=1e-4)


def test_learning_begins_at_the_loss_of_gaussian_by_default() -> None:
    x, decoded = random(4, *SPEC.image_shape), random(4, *SPEC.image_shape, seed=1)
    with torch.no_grad():
        error = learned()(decoded).reconstruction_loss(x)
    squares = ((x - torch.sigmoid(decoded)) ** 2).sum((1, 2, 3))
    torch.testing.assert_close(error, squares + D / 2 * math.log(0.5), rtol=1e-5, atol=1e-5)


def test_the_learned_sigma_converges_to_the_optimal_one() -> None:
    x, decoded, likelihood = random(4, *SPEC.image_shape), torch.zeros(4, *SPEC.image_shape).double(), learned()
    adam = torch.optim.Adam(likelihood.parameters(), lr=0.05)
    for _ in range(200):
        adam.zero_grad()
        likelihood(decoded).reconstruction_loss(x).mean().backward()
        adam.step()
    best = ((x - 0.5) ** 2).mean()
    torch.testing.assert_close(likelihood(decoded).log_sigma.detach(), best.log() / 2, rtol=1e-4, atol=0)


def test_the_gradient_through_the_optimal_sigma_is_zero() -> None:
    x, likelihood = random(4, *SPEC.image_shape), optimal()
    decoded = (4 * random(4, *SPEC.image_shape, seed=1) - 2).requires_grad_()
    likelihood.calibrate(likelihood.calibration_statistic(decoded, x))
    (found,) = torch.autograd.grad(likelihood(decoded).reconstruction_loss(x).mean(), decoded)
    (expected,) = torch.autograd.grad(D / 2 * ((x - torch.sigmoid(decoded)) ** 2).mean().log(), decoded)
    torch.testing.assert_close(found, expected)


@given(st.floats(0.5, 2.0))
def test_no_other_sigma_is_better(factor: float) -> None:
    x, decoded, likelihood = random(4, *SPEC.image_shape), random(4, *SPEC.image_shape, seed=1), optimal()
    errors = likelihood.calibration_statistic(decoded, x)
    likelihood.calibrate(errors)
    best = likelihood(decoded).reconstruction_loss(x).mean()
    likelihood.calibrate(errors * factor)
    assert float(likelihood(decoded).reconstruction_loss(x).mean()) >= float(best) - 1e-9


@both
def test_a_perfect_reconstruction_has_a_finite_density(name: str) -> None:
    likelihood: Any = {"learned_gaussian": learned, "optimal_gaussian": optimal}[name]()
    decoded = random(2, *SPEC.image_shape)
    x = torch.sigmoid(decoded)
    if isinstance(likelihood, Calibrated):
        likelihood.calibrate(likelihood.calibration_statistic(decoded, x))
    else:
        likelihood.log_sigma.data.fill_(-100.0)
    with torch.no_grad():
        log_prob = likelihood(decoded).log_prob(x)
    expected = torch.full((2,), -D * (MIN_LOG_SIGMA + math.log(2 * math.pi) / 2), dtype=torch.float64)
    torch.testing.assert_close(log_prob, expected)
    likelihood = optimal(floor=0.1)
    likelihood.calibrate(likelihood.calibration_statistic(decoded, x))
    assert float(likelihood.variance) == pytest.approx(0.01)


@both
def test_samples_spread_by_sigma(name: str) -> None:
    likelihood: Any = learned(initial_variance=0.04) if name == "learned_gaussian" else optimal()
    if isinstance(likelihood, Calibrated):
        likelihood.calibrate(torch.tensor([0.03, 0.05], dtype=torch.float64))
    decoded = random(1, *SPEC.image_shape)
    samples = likelihood(decoded.expand(2000, -1, -1, -1)).sample(torch.Generator().manual_seed(0)).detach()
    assert float(samples.std(0).mean()) == pytest.approx(0.2, rel=0.01)


def test_a_variance_below_the_clip_is_refused() -> None:
    with pytest.raises(RecipeError):
        make_recipe(likelihood__name="learned_gaussian", likelihood__initial_variance=1e-6)


# -- when sigma is calibrated ------------------------------------------------------------------------------------------


def small_optimal(make_model: MakeModel) -> tuple[VAE, Any, Tensor]:
    vae, _ = make_model(overrides={"likelihood.name": "optimal_gaussian"})
    return vae, vae.likelihood, make_images(7).floats(0, 7)


@pytest.mark.parametrize("samples", [1, 3])
def test_the_forward_pass_in_training_calibrates_sigma_to_its_batch(make_model: MakeModel, samples: int) -> None:
    vae, likelihood, x = small_optimal(make_model)
    place = likelihood.variance.data_ptr()
    out = forward(vae, x, samples=samples)
    variance = ((x - out.p_x.mean) ** 2).mean().detach()
    torch.testing.assert_close(likelihood.variance, variance)
    assert likelihood.variance.data_ptr() == place, "a captured step writes where it wrote before"
    torch.testing.assert_close(out.mean_reconstruction.detach(), 72 / 2 * (1 + variance.log()))
    more: Any = vae.decode_batch(torch.cat([out.z[0], out.z[0].flip(0)]))  # further samples of the same step
    assert torch.equal(more.log_sigma, out.p_x.log_sigma)


def test_an_output_keeps_its_sigma_after_another_batch(make_model: MakeModel) -> None:
    vae, _, x = small_optimal(make_model)
    expected = torch.autograd.grad(forward(vae, x).reconstruction.sum(), list(vae.parameters()))
    first = forward(vae, x)
    forward(vae, x[:3])
    found = torch.autograd.grad(first.p_x.reconstruction_loss(x).sum(), list(vae.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_sigma_changes_in_training_only(make_model: MakeModel) -> None:
    vae, likelihood, x = small_optimal(make_model)
    forward(vae, x)
    before = likelihood.variance.clone()
    vae.reconstruct(x)
    vae.sample(3, 0)
    with torch.no_grad():
        forward(vae, x[:1])
        vae.decode_batch(vae.encode(x).mean).log_prob(x)
    vae.eval()
    forward(vae, x[:1]).reconstruction.sum().backward()
    assert torch.equal(likelihood.variance, before)
    vae.train()
    forward(vae, x[:1])
    assert not torch.equal(likelihood.variance, before)


def test_a_density_does_not_depend_on_the_other_images(make_model: MakeModel) -> None:
    vae, _, x = small_optimal(make_model)
    vae.calibrate_likelihood(make_images(), generator(0, "test"))
    vae.eval()
    z = vae.encode(x).mean
    with torch.no_grad():
        together = vae.decode_batch(z).log_prob(x)
        alone = [vae.decode_batch(z[i : i + 1]).log_prob(x[i : i + 1]) for i in range(7)]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("count", [1, 7])  # with one image, the first process has none
def test_two_processes_calibrate_sigma_to_the_whole_batch(make_model: MakeModel, count: int) -> None:
    vae, objective = make_model(overrides={"likelihood.name": "optimal_gaussian"})
    x, models = make_images(count).floats(0, count), [deepcopy(vae) for _ in range(2)]
    TwoProcesses(count).run(objective, models, x, step=0)
    forward(vae, x)
    for model in models:
        torch.testing.assert_close(model.likelihood.variance, vae.likelihood.variance, rtol=1e-6, atol=0)


# -- training ---------------------------------------------------------------------------------------------------------


@both
def test_training_resumes_bit_for_bit(name: str, tmp_path: Path) -> None:
    data, made = make_images(), make_recipe(likelihood__name=name, training__learning_rate=0.01)
    whole, first, second = (make_state(made, data) for _ in range(3))
    values = run_steps(make_steps(whole, data), 17)
    early = run_steps(make_steps(first, data), 9)
    files.save_tensors(tmp_path / "c.safetensors", first.tensors(), {})
    second.restore(9, files.load_tensors(tmp_path / "c.safetensors")[0])
    late = run_steps(make_steps(second, data), 17)
    assert torch.equal(torch.cat([early, late]), values)
    assert whole.tensors().keys() == second.tensors().keys()
    for key, tensor in whole.tensors().items():
        assert torch.equal(tensor, second.tensors()[key]), key
    start = make_state(made, data).tensors()
    moved = [
        key for key in start if key.startswith("vae.likelihood.") and not torch.equal(start[key], whole.tensors()[key])
    ]
    assert len(moved) == 1


def test_calibration_is_the_mean_over_all_images_and_repeats(
    make_model: MakeModel,
) -> None:
    vae, likelihood, _ = small_optimal(make_model)
    images = make_images(EVAL_BATCH_SIZE + 10)
    vae.calibrate_likelihood(images, generator(0, "test"))
    whole = likelihood.variance.clone()
    x = images.floats(0, len(images))
    with torch.no_grad():
        decoded = vae.decode_batch(vae.encode_batch(x).draw(GeneratorNoise(generator(0, "test"), CPU)).z[0]).mean
    torch.testing.assert_close(whole, ((x - decoded) ** 2).mean())
    forward(vae, x[:5])
    assert vae.training
    vae.calibrate_likelihood(images, generator(0, "test"))
    assert torch.equal(likelihood.variance, whole)
    vae.calibrate_likelihood(replace(images, pixels=images.pixels[:1].repeat(50, 0)), generator(0, "test"))
    assert not torch.equal(likelihood.variance, whole)


def test_a_likelihood_that_is_not_calibrated_is_unchanged(make_model: MakeModel) -> None:
    vae, _ = make_model()
    before = {key: tensor.clone() for key, tensor in vae.state_dict().items()}
    vae.calibrate_likelihood(make_images(50), generator(0, "test"))
    assert all(torch.equal(tensor, before[key]) for key, tensor in vae.state_dict().items())


@pytest.mark.slow
def test_a_run_ends_with_sigma_calibrated_to_its_training_images(tmp_path: Path) -> None:
    set_ = {"likelihood.name": "optimal_gaussian", "training.precision": "fp32", "training.steps": 20}
    run = train_small(tmp_path / "run", set_)
    loaded, digits = vaelab.load(run.path), registry.load("datasets", "digits").load(None, "train")
    assert not loaded.training
    found = loaded.likelihood.variance.clone()
    checkpoint, _ = files.load_tensors(max(run.path.glob("checkpoints/*")))
    assert not torch.equal(found, checkpoint["vae.likelihood.variance"])
    loaded.calibrate_likelihood(digits, generator(0, "likelihood"))
    torch.testing.assert_close(loaded.likelihood.variance, found, rtol=1e-6, atol=0)
    content, measured = run.model_path.read_bytes(), run.evaluation["elbo"]
    train_small(run.path, set_)
    assert run.model_path.read_bytes() == content
    run.model_path.unlink()  # as if killed before it was written
    train_small(run.path, set_)
    assert run.model_path.read_bytes() == content
    assert run.evaluation["elbo"] == measured
