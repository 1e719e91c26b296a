"""The objectives free_bits and cyclical: closed forms, a batch that two processes share."""

from collections.abc import Callable

import pytest
import torch
from small import compute_terms, forward
from two_processes import TwoProcesses

from vaelab.models.vae import VAE
from vaelab.training.objectives import Objective
from vaelab.training.schedules import cyclical_warmup

MakeModel = Callable[..., tuple[VAE, Objective]]
SHAPE = (1, 9, 8)
IMAGES = torch.rand(7, *SHAPE, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("free_nats", [0.0, 0.01, 100.0])
def test_free_bits_bound_the_mean_kl_of_each_latent(make_model: MakeModel, free_nats: float) -> None:
    vae, objective = make_model(SHAPE, {"objective.name": "free_bits", "objective.free_nats": free_nats})
    kl = forward(vae, IMAGES).kl.mean(0).detach()
    terms = compute_terms(objective, vae, IMAGES)
    expected = sum(max(free_nats, float(value)) for value in kl)
    assert float(terms["free_kl"].detach()) == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(terms["kl"], kl.sum())
    if free_nats in (0.0, 100.0):  # all latents are above, or all below
        with_bits = torch.autograd.grad(terms["loss"], list(vae.encoder.parameters()))
        out = forward(vae, IMAGES)
        loss = out.mean_reconstruction + (out.mean_kl if free_nats == 0 else 0)
        for ours, theirs in zip(with_bits, torch.autograd.grad(loss, list(vae.encoder.parameters())), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_free_bits_are_those_of_the_whole_batch(make_model: MakeModel) -> None:
    vae, objective = make_model(SHAPE, {"objective.name": "free_bits"})
    objective.free_nats = float(forward(vae, IMAGES).kl.mean(0).detach().median())  # the halves lie on both sides
    whole = compute_terms(objective, vae, IMAGES)
    parts = TwoProcesses(len(IMAGES)).run(objective, [vae, vae], IMAGES, 0)
    for name, value in whole.items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], value)


def test_free_bits_apply_to_a_kl_that_is_one_number(make_model: MakeModel) -> None:
    options = {"objective.name": "free_bits", "objective.free_nats": 50.0, "prior.name": "mixture"}
    vae, objective = make_model(SHAPE, options)
    assert float(compute_terms(objective, vae, IMAGES)["free_kl"].detach()) == 50.0


def test_beta_rises_in_the_first_half_of_every_cycle() -> None:
    weights = [float(cyclical_warmup(torch.tensor(step), cycles=2, cycle_steps=8)) for step in range(24)]
    cycle = [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0]
    assert weights == [*cycle, *cycle, *[1.0] * 8]


def test_cyclical_weighs_the_kl(make_model: MakeModel) -> None:
    options = {"objective.name": "cyclical", "objective.beta": 3.0, "objective.cycles": 2, "objective.cycle_steps": 8}
    vae, objective = make_model(SHAPE, options)
    for step, weight in ((0, 0.0), (2, 0.5), (9, 0.25), (15, 1.0), (17, 1.0)):
        terms = compute_terms(objective, vae, IMAGES, step)
        torch.testing.assert_close(terms["beta_kl"], 3.0 * weight * terms["kl"])
        torch.testing.assert_close(terms["loss"], terms["reconstruction"] + terms["beta_kl"])
    assert objective.warmup_steps == 12  # from there on the weight stays
    assert objective.kl_weight == 3.0
