"""The objective adversarial: its terms from the discriminator itself, and whose gradients are whose."""

import math
from collections.abc import Callable

import pytest
import torch
from small import as_batch, compute_terms
from torch import Tensor
from torch.nn import functional as F

from vaelab.models.vae import VAE
from vaelab.system.noise import StepNoise
from vaelab.training.objectives import Objective
from vaelab.training.objectives.adversarial import Discriminator

MakeModel = Callable[..., tuple[VAE, Objective]]
SHAPE = (1, 9, 8)


def images() -> Tensor:
    return torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(5))


def make(make_model: MakeModel, **options: float) -> tuple[VAE, Objective]:
    return make_model(SHAPE, {"objective.name": "adversarial", **{f"objective.{k}": v for k, v in options.items()}})


def test_terms_are_those_of_the_discriminator(make_model: MakeModel) -> None:
    vae, objective = make(make_model, gamma=3.0, feature_weight=0.5)
    noise = StepNoise(0, torch.device("cpu"))
    noise.seek(4)
    x = images()
    out = vae(as_batch(x), noise)
    drawn = vae.decode_batch(out.prior.sample(6, noise)).mean
    rebuilt = out.p_x.mean[0]
    (real, real_features), (fake, fake_features), (prior, _) = map(objective.discriminator, (x, rebuilt, drawn))
    noise.seek(4)
    found = compute_terms(objective, vae, x, 4, noise)
    expected = {
        "features": (real_features - fake_features).square().sum(1).mean(),
        "adversarial": (F.softplus(-fake).mean() + F.softplus(-prior).mean()) / 2,
        "discriminator": F.softplus(-real).mean() + (F.softplus(fake).mean() + F.softplus(prior).mean()) / 2,
    }
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    parts = found["reconstruction"] + found["kl"] + 0.5 * found["features"] + 3 * found["adversarial"]
    torch.testing.assert_close(found["loss"], parts + found["discriminator"])


def test_model_and_discriminator_have_gradients_of_their_own_losses_only(make_model: MakeModel) -> None:
    vae, objective = make(make_model)
    terms = compute_terms(objective, vae, images())
    own, others = list(objective.parameters()), list(vae.parameters())
    for name in ("features", "adversarial"):
        found = torch.autograd.grad(terms[name], [*own, *others], retain_graph=True, allow_unused=True)
        assert all(gradient is None for gradient in found[: len(own)]), name
        assert any(gradient is not None and bool((gradient != 0).any()) for gradient in found[len(own) :]), name
    found = torch.autograd.grad(terms["discriminator"], [*own, *others], allow_unused=True)
    assert all(gradient is not None and bool((gradient != 0).any()) for gradient in found[: len(own)])
    assert all(gradient is None for gradient in found[len(own) :])


def test_without_its_weights_the_model_is_trained_by_the_elbo(make_model: MakeModel) -> None:
    vae, objective = make(make_model, gamma=0.0, feature_weight=0.0)
    plain = make_model(SHAPE)[1]
    ours, theirs = (
        torch.autograd.grad(compute_terms(each, vae, images())["loss"], list(vae.parameters()))
        for each in (objective, plain)
    )
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_discriminator_that_guesses_has_a_loss_of_two_ln_two(make_model: MakeModel) -> None:
    vae, objective = make(make_model)
    with torch.no_grad():
        objective.discriminator.head.weight.zero_()
        objective.discriminator.head.bias.zero_()
    terms = compute_terms(objective, vae, images())
    assert float(terms["discriminator"].detach()) == pytest.approx(2 * math.log(2))
    assert float(terms["adversarial"].detach()) == pytest.approx(math.log(2))


def test_the_discriminator_learns_to_distinguish_images() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator((1, 16, 16), 8)
    adam = torch.optim.Adam(discriminator.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(80):
        rough = torch.rand(32, 1, 16, 16, generator=generator)
        smooth = F.avg_pool2d(rough, 3, 1, 1)
        loss = F.softplus(-discriminator(rough)[0]).mean() + F.softplus(discriminator(smooth)[0]).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert float(loss.detach()) < 0.6


@pytest.mark.parametrize(("side", "layers"), [(8, 1), (16, 2), (28, 2), (64, 4)])
def test_the_number_of_layers_follows_the_size(side: int, layers: int) -> None:
    discriminator = Discriminator((3, side, side), 4)
    assert len(discriminator.convolutions) == layers
    assert discriminator(torch.rand(2, 3, side, side))[0].shape == (2,)
