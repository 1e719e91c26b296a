"""The loop: against a plain reference, under resume, with values that are not finite."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import (
    CONTROLS,
    CPU,
    CROSSED_PAIRS,
    FITTING_PAIRS,
    OBJECTIVES_AND_NETWORKS,
    make_images,
    make_labelled,
    make_recipe,
    make_settings,
    make_state,
)
from torch import nn
from wording import Wording

from vaelab.data.images import Images
from vaelab.data.loader import Batches
from vaelab.data.tensors import Batch
from vaelab.models.vae import VAEOutput
from vaelab.recipe import ResolvedRecipe
from vaelab.system import files, registry
from vaelab.system.machine import Precision
from vaelab.system.noise import StepNoise
from vaelab.system.signals import Request
from vaelab.training import loop
from vaelab.training.checks import Diverged
from vaelab.training.loop import ProgressRecord
from vaelab.training.objectives import Context, Objective
from vaelab.training.state import State, create_state


def run(
    made: ResolvedRecipe,
    data: Images,
    state: State,
    *,
    valid: Images | None = None,
    precision: Precision = "fp32",
    **options: Any,
) -> Iterator[ProgressRecord]:
    settings = make_settings(made, precision)
    batches = Batches(data, settings.batch_size, settings.seed, CPU)
    return loop.train(state, batches, settings, valid=valid, **options)


def losses(records: Iterator[ProgressRecord]) -> np.ndarray:
    return np.concatenate([record.terms["loss"] for record in records])


class PlainVAE(nn.Module):
    """The same model as people write it: torch's own layers, no care for memory layout."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 1, 1), nn.Flatten())
        self.head = nn.Linear(6 * 5 * 4, 4)
        self.stem = nn.Linear(2, 6 * 5 * 4)
        self.up1 = nn.ConvTranspose2d(6, 4, 3, 1, 1)
        self.up2 = nn.ConvTranspose2d(4, 1, 3, 2, 1, (0, 1))

    def loss(self, x: torch.Tensor, epsilon: torch.Tensor) -> torch.Tensor:
        mean, log_var = self.head(self.encoder(x)).chunk(2, 1)
        z = mean + torch.exp(log_var / 2) * epsilon
        decoded = torch.sigmoid(self.up2(torch.relu(self.up1(self.stem(z).reshape(-1, 6, 5, 4)))))
        kl = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(1)
        return (((x - decoded) ** 2).sum((1, 2, 3)) + kl).mean()


@pytest.mark.parametrize("decay", ["none", "cosine"])
def test_training_equals_a_plain_script_step_for_step(decay: str):
    data, made = make_images(), make_recipe(training__steps=30, training__learning_rate=0.01, training__decay=decay)
    state = make_state(made, data)
    plain = PlainVAE()
    for theirs, ours in zip(plain.parameters(), state.vae.parameters(), strict=True):
        theirs.data = ours.detach().clone().contiguous()
    adam = torch.optim.Adam(plain.parameters(), lr=0.01, fused=False)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=30)
    batches, noise, expected = Batches(data, 8, 0, CPU), StepNoise(0, CPU), []
    for step in range(30):
        noise.seek(step)
        x = batches.batch(step).pixels.permute(0, 3, 1, 2) / 255
        loss = plain.loss(x, noise.normal(len(x), 2))
        adam.zero_grad()
        loss.backward()
        adam.step()
        if decay == "cosine":
            scheduler.step()
        expected.append(loss.item())
    np.testing.assert_allclose(losses(run(made, data, state)), expected, rtol=2e-4)


SHORT = {"training__steps": 9, "training__checkpoint_every": 4}
"""Stopped in the first epoch, which ends with step 7."""


def assert_resumes(made: ResolvedRecipe, data: Images, tmp_path: Path) -> None:
    """Stopped at a checkpoint and restored from its file, a training ends with the same bits."""
    whole = make_state(made, data)
    straight = losses(run(made, data, whole))
    first, second = make_state(made, data), make_state(made, data)
    early = []
    for record in run(made, data, first):
        early.append(record.terms["loss"])
        if record.checkpoint_due:
            files.save_tensors(tmp_path / "c.safetensors", first.tensors(), {"step": record.step})
            break
    tensors, facts = files.load_tensors(tmp_path / "c.safetensors")
    second.restore(int(str(facts["step"])), tensors)
    late = losses(run(made, data, second))
    assert np.array_equal(np.concatenate([*early, late]), straight)
    for name, parameter in second._named_parameters().items():
        assert all(value.device == parameter.device for value in second.optimizer.state[parameter].values()), name
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, second.tensors()[name]), name
        assert tensor.stride() == second.tensors()[name].stride(), name


@pytest.mark.parametrize(("objective", "network"), OBJECTIVES_AND_NETWORKS)
def test_resume_from_a_file_is_bit_exact(network: str, objective: str, tmp_path: Path):
    made = make_recipe(network__name=network, objective__name=objective, training__decay="cosine", **SHORT)
    assert_resumes(made, make_images(), tmp_path)


@pytest.mark.parametrize("control", CONTROLS)
def test_resume_with_any_control_is_bit_exact(control: str, tmp_path: Path):
    assert_resumes(make_recipe(**CONTROLS[control], **SHORT), make_images(), tmp_path)


@pytest.mark.parametrize(("posterior", "prior"), CROSSED_PAIRS)
def test_resume_of_any_posterior_and_prior_is_bit_exact(posterior: str, prior: str, tmp_path: Path):
    made = make_recipe(posterior__name=posterior, prior__name=prior, **SHORT)
    assert_resumes(made, make_images(), tmp_path)


@pytest.mark.parametrize(("posterior", "prior"), FITTING_PAIRS)
def test_weights_of_any_posterior_and_prior_are_trained_and_come_back(posterior: str, prior: str, tmp_path: Path):
    made, data = make_recipe(posterior__name=posterior, prior__name=prior), make_images()
    state, fresh = make_state(made, data), make_state(made, data).vae
    list(run(made, data, state))
    for (name, now), before in zip(state.vae.named_parameters(), fresh.parameters(), strict=True):
        assert not torch.equal(now, before), name
    files.save_tensors(tmp_path / "model.safetensors", state.vae.state_dict(), {})
    fresh.load_state_dict(files.load_tensors(tmp_path / "model.safetensors")[0])
    assert np.array_equal(fresh.reconstruct(data), state.vae.reconstruct(data))
    assert torch.equal(fresh.sample(3, 0), state.vae.sample(3, 0))


@pytest.mark.parametrize(
    ("network", "condition"), [*((network, "label") for network in registry.names("networks")), ("mlp", "attributes")]
)
def test_resume_of_a_conditional_model_is_bit_exact(network: str, condition: str, tmp_path: Path):
    made = make_recipe(network__name=network, network__condition=condition, **SHORT)
    assert_resumes(made, make_labelled(), tmp_path)


def test_the_length_of_records_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    data, made = make_images(), make_recipe()
    expected = losses(run(made, data, make_state(made, data)))
    seconds = iter(range(10**6))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(seconds)))  # so slow that each record has one step
    records = list(run(made, data, make_state(made, data)))
    assert len(records) == 20
    assert np.array_equal(losses(iter(records)), expected)
    assert [record.step for record in records if record.checkpoint_due] == [7, 14, 20]


def test_validation_does_not_disturb_training():
    data = make_images()
    never, often = make_recipe(training__validate_every=0), make_recipe(training__validate_every=3)
    expected = losses(run(never, data, make_state(never, data)))
    records = list(run(often, data, make_state(often, data), valid=make_images(11, seed=1)))
    assert np.array_equal(losses(iter(records)), expected)
    assert [record.step for record in records if record.validation] == [3, 6, 9, 12, 15, 18, 20]


def test_validation_measures_what_it_says():
    data, valid = make_images(), make_images(11, seed=1)
    made = make_recipe(training__validate_every=20, objective__name="beta", objective__beta=3.0)
    state = make_state(made, data)
    last = list(run(made, data, state, valid=valid))[-1]
    assert last.validation is not None
    found = last.validation.terms
    assert found["loss"] == pytest.approx(found["reconstruction"] + 3 * found["kl"], rel=1e-5)
    assert found["elbo"] == pytest.approx(-found["reconstruction"] - found["kl"] - 72 / 2 * np.log(np.pi), rel=1e-5)
    kl = state.vae.encode(valid).kl_to_standard_normal()
    assert last.validation.kl_groups == pytest.approx(kl.mean(0).tolist(), rel=1e-5)
    assert sum(last.validation.kl_groups) == pytest.approx(found["kl"], rel=1e-5)
    assert last.validation.row() == {**found, **dict(zip(("kl_1", "kl_2"), last.validation.kl_groups, strict=True))}
    norm = torch.cat([p.detach().flatten().double() for p in state.vae.parameters()]).norm()
    assert found["weight_norm"] == pytest.approx(float(norm))
    assert found["gradient_norm"] > 0


def test_divergence_names_step_and_term_and_keeps_the_rows_before(wording: Wording):
    data, made = make_images(), make_recipe(training__learning_rate=1e18, training__checkpoint_every=1)
    rows, saved = [], []
    state = make_state(made, data)
    with pytest.raises(Diverged) as caught:
        for record in run(made, data, state):
            rows.append(record.terms["loss"])
            if record.checkpoint_due:
                saved.append({name: tensor.clone() for name, tensor in state.tensors().items()})
    assert np.isfinite(np.concatenate(rows)).all()
    assert (caught.value.step, caught.value.name) == (len(np.concatenate(rows)) + 1, "reconstruction")
    wording(caught.value)
    assert all(bool(torch.isfinite(tensor).all()) for tensors in saved for tensor in tensors.values())


def test_a_loss_that_is_not_a_number_is_found_at_its_first_step():
    data, made = make_images(), make_recipe()
    state = make_state(made, data)

    class Poisoned(type(state.objective)):
        def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, torch.Tensor]:
            terms = super().forward(out, batch, context)
            bad = torch.where(context.step == 9, torch.nan, 1.0)
            return {**terms, "kl": terms["kl"] * bad, "loss": terms["loss"] * bad}

    state.objective = Poisoned(state.vae.spec)
    steps = []
    with pytest.raises(Diverged) as caught:
        for record in run(made, data, state):
            steps.append((record.step, len(record.terms["loss"]), record.checkpoint_due))
    assert (caught.value.step, caught.value.name) == (10, "kl")
    assert steps[-1][0] == 9
    assert [step for step, _, due in steps if due] == [7]


COLLAPSING = {
    "beta": {"objective__beta": 1e3},
    "capacity": {"objective__max_capacity": 0.0, "objective__warmup_steps": 10},
}


CAN_COLLAPSE = [q for q, p in FITTING_PAIRS if p == "normal" and q != "constant_variance"]
"""Posteriors; the KL of a constant variance never falls to 0."""


@pytest.mark.parametrize(
    ("objective", "posterior"), [*(("beta", posterior) for posterior in CAN_COLLAPSE), ("capacity", "diagonal")]
)
def test_a_collapse_is_reported_once(objective: str, posterior: str):
    data = make_images()
    made = make_recipe(
        **COLLAPSING[objective], objective__name=objective, posterior__name=posterior, training__steps=150,
        training__learning_rate=0.02, training__validate_every=25,
    )  # fmt: skip
    records = list(run(made, data, make_state(made, data), valid=make_images(11)))
    warnings = [text for record in records for text in record.warnings]
    assert len(warnings) == 1
    assert "posterior collapse" in warnings[0]
    assert registry.load("objectives", objective).Objective.kl_knob.key in warnings[0]


def test_stopping_ends_the_record_and_asks_for_a_checkpoint():
    data, made = make_images(), make_recipe()
    answers = iter([False, False, True])  # after steps 1, 2 and 3, of which the first is a record of its own
    records = list(run(made, data, make_state(made, data), stop=lambda: next(answers)))
    assert [(record.step, record.stopped, record.checkpoint_due) for record in records] == [
        (1, False, False),
        (3, True, True),
    ]


def test_a_request_to_finish_is_a_last_record_with_checkpoint_and_validation():
    data, made = make_images(), make_recipe()
    answers = iter([Request.NONE, Request.NONE, Request.FINISH])
    state = make_state(made, data)
    *_, last = run(made, data, state, valid=make_images(11), stop=lambda: next(answers))
    assert (last.step, last.stopped, last.finished_early, last.checkpoint_due) == (3, False, True, True)
    assert last.validation is not None
    (again,) = run(made, data, state, valid=make_images(11), finish=True, seconds_before=7.0)
    assert (again.step, again.finished_early, again.seconds) == (3, True, 7.0)
    assert again.validation is not None
    assert again.validation.terms["elbo"] == last.validation.terms["elbo"]


def test_the_first_checkpoint_does_not_wait_for_its_step():
    data, made = make_images(), make_recipe(training__checkpoint_every=1000)
    settings = replace(make_settings(made, "fp32"), checkpoint_seconds=1e-9)
    batches = Batches(data, settings.batch_size, settings.seed, CPU)
    due = [
        record.step
        for record in loop.train(make_state(made, data), batches, settings, valid=None)
        if record.checkpoint_due
    ]
    assert due[0] == 1


def test_parameter_groups_of_an_objective_get_their_own_rate(make_model: Callable[..., Any]):
    vae, _ = make_model()

    class WithPart(Objective):
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Linear(2, 2)

        def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, torch.Tensor]:
            return {}

        def parameter_groups(self) -> list[dict[str, Any]]:
            return [{"params": self.part.parameters(), "lr": 0.5}]

    state = create_state(vae, WithPart(), make_settings(make_recipe()), CPU)
    assert [group["lr"] for group in state.optimizer.param_groups] == [0.001, 0.5]
    assert len(state.optimizer.param_groups[1]["params"]) == 2


def test_bfloat16_stays_near_float32():
    data, made = make_images(), make_recipe(training__precision="bf16")
    full = losses(run(made, data, make_state(made, data)))
    half = losses(run(made, data, make_state(made, data), precision="bf16"))
    np.testing.assert_allclose(half, full, rtol=0.03)
    assert not np.array_equal(half, full)
