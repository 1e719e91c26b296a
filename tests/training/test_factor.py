"""FactorVAE: one step of it against two optimizers written plainly, which part learns from what, the permutation."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import (
    CPU,
    compute_terms,
    forward,
    make_images,
    make_recipe,
    make_settings,
    make_state,
    make_steps,
    run_steps,
)
from torch import Tensor, nn
from torch.nn import functional as F
from vectors import Case

from vaelab.data.loader import Batches
from vaelab.models.initialisation import initialise
from vaelab.models.spec import Spec
from vaelab.models.vae import VAE
from vaelab.system.device import autocast
from vaelab.system.errors import RecipeError
from vaelab.system.noise import Noise, StepNoise
from vaelab.training.objectives.factor import Objective, discriminator_loss, log_ratio, permute_latents
from vaelab.training.state import State, create_state

MakeModel = Callable[..., tuple[VAE, Any]]
SHAPE = (1, 9, 8)
SMALL = {"objective.name": "factor", "objective.hidden": 12, "objective.layers": 2}
seeds = st.integers(0, 2**32 - 1)


def images(count: int) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(5))


def make(make_model: MakeModel, **options: Any) -> tuple[VAE, Objective]:
    return make_model(SHAPE, {**SMALL, **{f"objective.{key}": value for key, value in options.items()}})


# -- reference vectors ------------------------------------------------------------------------------------------------


def test_both_losses_of_given_logits() -> None:
    case = Case("objective/factor_vae")
    total_correlation = log_ratio(case.logits_z)
    case.expect("tc", total_correlation)
    case.expect("discriminator_loss", discriminator_loss(case.logits_z, case.logits_perm))
    reconstruction = ((case.x - case.x_hat) ** 2).sum((1, 2, 3)).mean()
    kl = 0.5 * (case.mu**2 + case.logvar.exp() - case.logvar - 1).sum(1).mean()
    case.expect("vae_total", reconstruction + kl + case.params["gamma"] * total_correlation)


@given(seeds, st.integers(1, 5), st.integers(1, 5), st.sampled_from([1.0, 100.0]))
def test_the_losses_are_those_of_a_classifier(seed: int, joint: int, permuted: int, scale: float) -> None:
    random = torch.Generator().manual_seed(seed)
    ours, theirs = (scale * torch.randn(n, 2, generator=random, dtype=torch.float64) for n in (joint, permuted))
    expected = 0.5 * F.cross_entropy(ours, torch.zeros(joint).long())
    expected = expected + 0.5 * F.cross_entropy(theirs, torch.ones(permuted).long())
    torch.testing.assert_close(discriminator_loss(ours, theirs), expected)
    log_probabilities = F.log_softmax(ours, 1)
    torch.testing.assert_close(log_ratio(ours), (log_probabilities[:, 0] - log_probabilities[:, 1]).mean())


# -- the permutation --------------------------------------------------------------------------------------------------


@given(seeds, st.integers(1, 20), st.integers(1, 5))
def test_each_latent_is_permuted_by_itself(seed: int, count: int, latents: int) -> None:
    random = torch.Generator().manual_seed(seed)
    z, keys = torch.randn(count, latents, generator=random), torch.rand(count, latents, generator=random)
    permuted = permute_latents(z, keys)
    assert torch.equal(permuted.sort(0).values, z.sort(0).values)
    for k in range(latents):
        assert torch.equal(permuted[:, k], z[keys[:, k].argsort(), k])
    assert torch.equal(permute_latents(z, torch.arange(count * 1.0)[:, None].expand(-1, latents)), z)


def test_permutations_are_uniform_and_independent() -> None:
    """All 36 pairs of orders of three codes of two latents are equally frequent."""
    z = torch.arange(3.0)[:, None].expand(-1, 2)
    keys = torch.rand(7200, 3, 2, generator=torch.Generator().manual_seed(0))
    permuted = torch.stack([permute_latents(z, each) for each in keys])
    orders = (permuted * torch.tensor([9.0, 3.0, 1.0])[:, None]).sum(1).long()
    _, counts = (orders[:, 0] * 27 + orders[:, 1]).unique(return_counts=True)
    assert len(counts) == 36
    assert float(((counts - 200.0) ** 2 / 200).sum()) < 70  # χ² with 35 degrees of freedom: once in 2000


# -- which part learns from what --------------------------------------------------------------------------------------


def gradients(loss: Tensor, module: nn.Module) -> list[Tensor | None]:
    return list(torch.autograd.grad(loss, list(module.parameters()), retain_graph=True, allow_unused=True))


def test_each_part_learns_from_its_own_loss_alone(make_model: MakeModel) -> None:
    vae, objective = make(make_model)
    terms = compute_terms(objective, vae, images(6))
    for name in ("reconstruction", "kl", "total_correlation"):
        assert all(gradient is None for gradient in gradients(terms[name], objective)), name
    assert all(gradient is None for gradient in gradients(terms["discriminator"], vae))
    assert all(gradient is None for gradient in gradients(terms["total_correlation"], vae.decoder))
    assert all(bool((gradient != 0).any()) for gradient in gradients(terms["total_correlation"], vae.encoder))
    own = gradients(terms["discriminator"], objective)
    for both, alone in zip(gradients(terms["loss"], objective), own, strict=True):
        assert bool((both != 0).any())
        torch.testing.assert_close(both, alone, rtol=0, atol=0)


@pytest.mark.parametrize("gamma", [0.0, 35.0])
def test_the_loss_is_made_of_its_terms(make_model: MakeModel, gamma: float) -> None:
    vae, objective = make(make_model, gamma=gamma)
    terms = compute_terms(objective, vae, images(6))
    parts = terms["reconstruction"] + terms["kl"] + gamma * terms["total_correlation"] + terms["discriminator"]
    torch.testing.assert_close(terms["loss"], parts)
    assert terms.keys() == {"loss", "reconstruction", "kl", "total_correlation", "discriminator"}


def test_the_model_is_trained_by_the_discriminator_as_it_is(make_model: MakeModel) -> None:
    """The held discriminator gives the gradient that the live one would give to the codes."""
    vae, objective = make(make_model)
    terms = compute_terms(objective, vae, images(6))
    live = log_ratio(objective.discriminator(forward(vae, images(6)).z[0]))
    torch.testing.assert_close(terms["total_correlation"], live)
    for found, expected in zip(
        gradients(terms["total_correlation"], vae.encoder), gradients(live, vae.encoder), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_a_batch_of_one_teaches_to_guess(make_model: MakeModel) -> None:
    vae, objective = make(make_model)
    terms = compute_terms(objective, vae, images(1))
    assert all(bool(torch.isfinite(term)) for term in terms.values())
    assert float(terms["discriminator"].detach()) >= math.log(2)
    terms["loss"].backward()
    gradient = objective.discriminator[-1].bias.grad
    torch.testing.assert_close(gradient[0], -gradient[1])
    balance = torch.tanh(terms["total_correlation"].detach() / 2) / 2  # 0 where both classes are as likely
    torch.testing.assert_close(gradient[0], balance)


# -- beside two optimizers --------------------------------------------------------------------------------------------


def double_step(
    vae: VAE, discriminator: nn.Module, optimizers: tuple[torch.optim.Adam, torch.optim.Adam], x: Tensor, noise: Noise
) -> list[float]:
    """One step as the paper has it, but that both parts see the same batch and change at its end."""
    count, latents = len(x), vae.spec.latent_dim
    mean, log_var = vae.encoder(x).chunk(2, 1)
    z = mean + torch.exp(log_var / 2) * noise.normal(count, latents)
    keys = noise.uniform(count, latents)
    permuted = torch.stack([z[keys[:, k].argsort(), k] for k in range(latents)], 1).detach()
    reconstruction = ((x - torch.sigmoid(vae.decoder(z))) ** 2).sum((1, 2, 3)).mean()
    kl = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(1).mean()
    logits = discriminator(z)
    total_correlation = (logits[:, 0] - logits[:, 1]).mean()
    losses = (
        reconstruction + kl + 10 * total_correlation,
        0.5 * F.cross_entropy(discriminator(z.detach()), torch.zeros(count).long())
        + 0.5 * F.cross_entropy(discriminator(permuted), torch.ones(count).long()),
    )
    for optimizer, loss in zip(optimizers, losses, strict=True):
        optimizer.zero_grad()
        (parameters,) = (group["params"] for group in optimizer.param_groups)
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
    for optimizer in optimizers:
        optimizer.step()
    return [loss.item() for loss in (sum(losses), reconstruction, kl, total_correlation, losses[1])]


def leaky(latents: int, width: int) -> nn.Sequential:
    slope = nn.LeakyReLU(0.2)
    return nn.Sequential(nn.Linear(latents, width), slope, nn.Linear(width, width), slope, nn.Linear(width, 2))


def factor_state(**overrides: float) -> State:
    keys = {f"objective__{key.partition('.')[2]}": value for key, value in SMALL.items()}
    return make_state(make_recipe(**keys, objective__gamma=10.0, **overrides), make_images())


def test_steps_are_those_of_two_optimizers() -> None:
    state = factor_state(objective__discriminator_learning_rate=0.02, training__learning_rate=0.01)
    vae, objective = state.vae.double(), state.objective.double()
    plain, discriminator = copy.deepcopy(vae), leaky(2, 12).double()
    for theirs, ours in zip(discriminator.parameters(), objective.parameters(), strict=True):
        theirs.data = ours.detach().clone()
    optimizers = (
        torch.optim.Adam(plain.parameters(), lr=0.01, fused=False),
        torch.optim.Adam(discriminator.parameters(), lr=0.02, betas=(0.5, 0.9), fused=False),
    )
    noise, batches, expected, found = StepNoise(0, CPU), Batches(make_images(), 8, 0, CPU), [], []
    for step in range(12):  # the seventh batch is a smaller one
        x = batches.batch(step).pixels.permute(0, 3, 1, 2).double() / 255
        noise.seek(step)
        expected.append(double_step(plain, discriminator, optimizers, x, noise))
        noise.seek(step)
        terms = compute_terms(objective, vae, x, step, noise)
        state.optimizer.zero_grad()
        terms["loss"].backward()
        state.optimizer.step()
        found.append([float(value.detach()) for value in terms.values()])
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), torch.tensor(expected, dtype=torch.float64))
    for ours, theirs in ((vae, plain), (objective, discriminator)):
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_training_takes_the_steps_of_two_optimizers() -> None:
    """The loop itself, in float32."""
    state, data = factor_state(training__learning_rate=0.003), make_images()
    plain, discriminator = copy.deepcopy(state.vae), copy.deepcopy(state.objective).discriminator
    optimizers = (
        torch.optim.Adam(plain.parameters(), lr=0.003),
        torch.optim.Adam(discriminator.parameters(), lr=1e-4, betas=(0.5, 0.9)),
    )
    batches, noise, expected = Batches(data, 8, 0, CPU), StepNoise(0, CPU), []
    for step in range(10):
        noise.seek(step)
        x = batches.batch(step).pixels.permute(0, 3, 1, 2) / 255
        expected.append(double_step(plain, discriminator, optimizers, x, noise))
    steps = make_steps(state, data)
    found = run_steps(steps, 10)
    assert steps.names == ["loss", "reconstruction", "kl", "total_correlation", "discriminator"]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_the_discriminator_has_its_own_group(make_model: MakeModel) -> None:
    vae, objective = make(make_model, discriminator_learning_rate=0.5, discriminator_betas=[0.1, 0.2])
    state = create_state(vae, objective, make_settings(make_recipe()), CPU)
    first, second = state.optimizer.param_groups
    assert (first["lr"], first["betas"]) == (0.001, (0.9, 0.999))
    assert (second["lr"], second["betas"]) == (0.5, (0.1, 0.2))
    assert second["params"] == list(objective.discriminator.parameters())


def test_a_trained_discriminator_finds_most_of_the_total_correlation() -> None:
    """The total correlation of a normal distribution with correlation ρ is −½ ln(1 − ρ²)."""
    random = torch.Generator().manual_seed(0)
    objective = Objective(Spec(SHAPE, 2, 100), hidden=32, layers=2)
    initialise(objective, random)
    adam = torch.optim.Adam(objective.parameters(), lr=0.003)
    mixing = torch.linalg.cholesky(torch.tensor([[1.0, 0.9], [0.9, 1.0]]))
    for _ in range(300):
        z = torch.randn(512, 2, generator=random) @ mixing.T
        permuted = permute_latents(z, torch.rand(512, 2, generator=random))
        loss = discriminator_loss(objective.discriminator(z), objective.discriminator(permuted))
        adam.zero_grad()
        loss.backward()
        adam.step()
    estimate = float(log_ratio(objective.discriminator(torch.randn(20_000, 2, generator=random) @ mixing.T)).detach())
    exact = -0.5 * math.log(1 - 0.9**2)
    assert 0.75 * exact < estimate < exact
    assert float(loss.detach()) < math.log(2)


# -- the network ------------------------------------------------------------------------------------------------------


def test_the_discriminator_is_the_papers() -> None:
    discriminator = Objective(Spec(SHAPE, 10, 100)).discriminator
    layers = [part for part in discriminator if isinstance(part, nn.Linear)]
    assert [part.out_features for part in layers] == [1000] * 6 + [2]
    assert [part.negative_slope for part in discriminator if isinstance(part, nn.LeakyReLU)] == [0.2] * 6
    assert isinstance(discriminator[-1], nn.Linear)


def test_its_weights_come_from_the_recipes_seed(make_model: MakeModel) -> None:
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(weights))
        _, objective = make_model(SHAPE, {**SMALL, "training.seed": seed})
        weights.append(torch.cat([parameter.flatten() for parameter in objective.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("betas", [[0.5], [0.5, 0.9, 0.9], [0.5, 1.0], [-0.1, 0.9], 0.5])
def test_wrong_betas_are_refused(make_model: MakeModel, betas: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        make(make_model, discriminator_betas=betas)
    assert caught.value.subject == "objective.discriminator_betas"


def test_the_discriminator_sees_codes_in_float32(make_model: MakeModel) -> None:
    vae, objective = make(make_model)
    x = images(6)
    with autocast(CPU, "bf16"):
        terms, z = compute_terms(objective, vae, x), forward(vae, x).z[0]
    assert all(term.dtype == torch.float32 for term in terms.values())
    assert torch.equal(terms["total_correlation"], log_ratio(objective.discriminator(z)))
    terms["loss"].backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in objective.parameters())
