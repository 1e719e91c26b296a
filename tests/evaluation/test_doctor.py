"""Checks of a trained run: every finding provoked, none for a healthy run; the command, its file and the report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from small import make_recipe
from typed import TINY_WORDS, Typed

from vaelab.evaluation import doctor
from vaelab.evaluation.doctor import Evidence, aggregate_moments, examine, gap_of_moments
from vaelab.models.codes import Codes
from vaelab.models.spec import Spec
from vaelab.run import Run

STEPS, EPOCHS = 1000, 10
RISING = [52, 50, 48, 49, 50, 51, 52, 53, 54, 55]
SPEC = Spec((1, 4, 4), 4, 800)


def codes(scale: float = 1.0, log_var: float = -2.0, shift: float = 0.0, used: int = 4) -> Codes:
    """Codes whose aggregate posterior is the prior by default; unused latents follow the prior."""
    generator = np.random.default_rng(0)
    mean = generator.standard_normal((4000, 4)) * np.sqrt(1 - np.exp(log_var)) * scale + shift
    mean[:, used:] = 0
    log_vars = np.full((4000, 4), log_var)
    log_vars[:, used:] = 0
    return Codes(mean.astype(np.float32), log_vars.astype(np.float32))


def history(last: float = 50.0, before: float = 50.0) -> dict[str, NDArray[np.float64]]:
    loss = np.full(STEPS, before) + np.random.default_rng(1).standard_normal(STEPS)
    loss[-STEPS // 10 :] += last - before
    return {"step": np.arange(1.0, STEPS + 1), "epoch": np.repeat(np.arange(1.0, EPOCHS + 1), 100), "loss": loss}


def validation(**columns: Any) -> dict[str, NDArray[np.float64]]:
    fine = {"loss": np.full(EPOCHS, 50.0), "gradient_norm": np.full(EPOCHS, 9.0), "weight_norm": np.full(EPOCHS, 40.0)}
    return {"epoch": np.arange(1.0, EPOCHS + 1), **fine, **{k: np.asarray(v, float) for k, v in columns.items()}}


def pictures(error: float = 0.7) -> dict[str, NDArray[np.float32]]:
    """Grey pictures and reconstructions that miss them by ``error``, about as much as the default σ says."""
    x = np.full((6, 1, 4, 4), 0.1, np.float32)
    return {"originals": x, "reconstructions": (x + error).astype(np.float32)}


def evidence(**changes: Any) -> Evidence:
    given: dict[str, Any] = {
        "recipe": make_recipe(objective__name="beta", objective__beta=1.0),
        "spec": SPEC,
        "history": history(),
        "validation": validation(),
        "codes": codes(),
        **pictures(),
        **changes,
    }
    return Evidence(**given)


def finding(name: str, given: Evidence) -> doctor.Finding:
    found = {entry.name: entry for entry in examine(given)}[name]
    assert (found.level == "fine") == (not found.meaning) == (not found.advice)
    return found


def warming_up(steps: int) -> dict[str, Any]:
    return {"recipe": make_recipe(objective__name="beta", objective__beta=1.0, objective__warmup_steps=steps)}


def test_a_healthy_run_has_only_fine_findings() -> None:
    found = examine(evidence(**warming_up(100)))
    assert [entry.name for entry in found if entry.level != "fine"] == []
    assert {entry.name for entry in found} == doctor.CHECKS.keys()


PROVOKED = {
    "collapse": ("latents", "problem", {"codes": codes(used=0)}),
    "few latents": ("latents", "notice", {"codes": codes(used=1)}),
    "codes off the prior": ("prior_gap", "notice", {"codes": codes(shift=2.0)}),
    "codes too wide": ("prior_gap", "notice", {"codes": codes(scale=3.0)}),
    "validation rises": ("overfitting", "problem", {"validation": validation(loss=RISING)}),
    "training far below": ("overfitting", "notice", {"validation": validation(loss=[55] * 10)}),
    "too short": ("learning", "notice", {"history": history(last=45, before=50)}),
    "too noisy a decoder": ("noise", "notice", {**pictures(0.1), "codes": codes(used=1)}),
    "too sure a decoder": ("noise", "notice", {"recipe": make_recipe(likelihood__variance=0.01)}),
    "grey under Bernoulli": ("bound", "notice", {"recipe": make_recipe(likelihood__name="bernoulli")}),
    "warm-up without end": ("warmup", "problem", warming_up(2000)),
    "long warm-up": ("warmup", "notice", warming_up(600)),
    "saturation": ("saturation", "problem", pictures(-0.0995)),
    "erratic gradient": ("gradients", "problem", {"validation": validation(gradient_norm=[9] * 9 + [200])}),
    "growing weights": ("weights", "notice", {"validation": validation(weight_norm=np.linspace(40, 300, 10))}),
}  # fmt: skip


@pytest.mark.parametrize("case", PROVOKED)
def test_a_finding_is_provoked(case: str, wording: Any) -> None:
    name, level, changes = PROVOKED[case]
    found = finding(name, evidence(**changes))
    assert found.level == level
    for text in (found.meaning, found.advice):
        wording(text)


@pytest.mark.parametrize("changes", [
    {"history": history(before=55, last=55), "validation": validation(loss=RISING)},
    {**warming_up(1000), "history": history(before=40, last=50), "validation": validation(loss=[*range(10, 20)])},
    {**warming_up(500), "validation": validation(loss=[15, 25, 35, 45, 55, 55, 55, 55, 55, 55])},
])  # fmt: skip
def test_a_loss_that_rises_in_training_too_or_during_warmup_is_not_overfitting(changes: dict[str, Any]) -> None:
    assert finding("overfitting", evidence(**changes)).level != "problem"


def test_advice_on_length_uses_epochs_or_steps_as_the_recipe_does() -> None:
    for steps, says in ((0, "training.epochs=3,"), (STEPS, "training.steps=300,")):
        recipe = make_recipe(objective__name="beta", objective__beta=1.0, training__steps=steps)
        assert says in finding("overfitting", evidence(recipe=recipe, validation=validation(loss=RISING))).advice


@pytest.mark.parametrize("log_var", [-5.0, -3.0, -1.5])
@pytest.mark.parametrize(("count", "d"), [(80, 64), (400, 64), (1000, 200)])
def test_few_images_make_no_gap(count: int, d: int, log_var: float) -> None:
    means = np.random.default_rng(count).standard_normal((count, d)) * np.sqrt(1 - np.exp(log_var))
    few = Codes(means.astype(np.float32), np.full((count, d), log_var, np.float32))
    found = {entry.name: entry for entry in examine(evidence(codes=few))}
    assert ("prior_gap" in found) == (count >= 4 * d)
    if count >= 4 * d:
        assert found["prior_gap"].level == "fine"


def test_every_check_is_provoked() -> None:
    assert {name for name, *_ in PROVOKED.values()} == doctor.CHECKS.keys()


def test_problems_come_first() -> None:
    levels = [entry.level for entry in examine(evidence(codes=codes(used=0), **pictures(0.1)))]
    assert levels == sorted(levels, key=["problem", "notice", "fine"].index)
    assert levels[0] == "problem"


def test_checks_without_their_evidence_are_skipped() -> None:
    names = {entry.name for entry in examine(evidence(validation={}, history={}, recipe=bernoulli()))}
    assert names == {"latents", "prior_gap", "bound", "saturation"}
    white = np.ones((6, 1, 4, 4), np.float32)
    assert "saturation" not in {e.name for e in examine(evidence(originals=white, reconstructions=white))}


def bernoulli() -> Any:
    return make_recipe(likelihood__name="bernoulli", data__binarize="dynamic", objective__name="elbo")


def test_gap_of_moments_is_a_kl_divergence() -> None:
    assert gap_of_moments(np.zeros(3), np.eye(3)) == pytest.approx(0, abs=1e-12)
    # KL(N(m, s²) ‖ N(0, 1)) = ½ (s² + m² − 1 − ln s²)
    assert gap_of_moments(np.array([2.0]), np.array([[0.25]])) == pytest.approx(0.5 * (0.25 + 4 - 1 - np.log(0.25)))
    correlated = np.array([[1, 0.6], [0.6, 1]])
    assert gap_of_moments(np.zeros(2), correlated) == pytest.approx(-0.5 * np.log(1 - 0.36))


def test_aggregate_moments_are_those_of_samples() -> None:
    given = codes(scale=2.0, shift=1.0)
    mean, covariance = aggregate_moments(given)
    samples = given.mean + np.exp(0.5 * given.log_var) * np.random.default_rng(3).standard_normal(given.mean.shape)
    np.testing.assert_allclose(mean, samples.mean(0), atol=0.05)
    np.testing.assert_allclose(covariance, np.cov(samples.T), atol=0.15)


# -- the verb ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_findings_are_printed_stored_and_reported(cli: Typed, tmp_path: Path) -> None:
    run = tmp_path / "run"
    recipe = [*TINY_WORDS, "--set", "training.steps=30", "--set", "objective.warmup_steps=100"]
    assert cli("train", "digits", "--run", run, *recipe)[0] == 0
    assert {entry["name"] for entry in Run(run).findings} >= {"latents", "warmup"}
    code, said, err = cli("doctor", run)
    assert (code, err) == (0, "")
    assert "✗ warmup" in said
    assert "objective.warmup_steps=3" in said
    found = json.loads(cli("doctor", run, "--json")[1])
    assert found == Run(run).findings == json.loads((run / "doctor.json").read_text())["findings"]
    (warmup,) = [entry for entry in found if entry["name"] == "warmup"]
    assert (warmup["level"], warmup["advice"].split(",")[0]) == ("problem", "objective.warmup_steps=3")
    assert warmup["meaning"].split(":")[0][1:] in (run / "report.html").read_text()  # it starts a sentence there


def test_a_noisy_decoder_whose_latents_are_used_and_another_objective_are_choices():
    noisy = {finding.name: finding for finding in examine(evidence(**pictures(0.1)))}["noise"]
    assert noisy.level == "fine"
    for objective in ({"objective__name": "beta", "objective__beta": 4.0}, {"objective__name": "tc"}):
        found = {finding.name: finding for finding in examine(evidence(recipe=make_recipe(**objective)))}["bound"]
        assert found.level == "fine"
        assert "not −ELBO" in found.found
