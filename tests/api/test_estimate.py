"""The estimate of a training's time."""

from typed import TINY, TINY_WORDS, Typed

import vaelab
from vaelab.system.bars import describe_duration


def test_a_plan_estimates_the_steps_that_are_left() -> None:
    facts = vaelab.plan("digits", TINY, timed=True)
    assert facts["device"] == "cpu"
    assert 0 < facts["seconds"] < 60
    assert "seconds" not in vaelab.plan("digits", TINY)


def test_a_label_conditional_model_is_estimated() -> None:
    assert vaelab.plan("digits", {**TINY, "network.condition": "label"}, timed=True)["seconds"] > 0


def test_a_sweep_estimates_all_of_its_runs(cli: Typed) -> None:
    plan = vaelab.plan_sweep("digits", {"objective.beta": [1, 2]}, set=TINY, seeds=2)
    assert plan.estimate_seconds("cpu") > 0
    code, out, _ = cli("sweep", "digits", *TINY_WORDS, "--over", "objective.beta=1,2", "--dry-run")
    assert (code, out.splitlines()[1]) == (0, "training takes about 5 s here")


def test_durations_are_as_exact_as_an_estimate() -> None:
    shown = [describe_duration(seconds) for seconds in (0.2, 42, 100, 3600 * 1.2, 3600 * 2.2, 3600 * 30)]
    assert shown == ["about 5 s", "about 40 s", "about 2 min", "about 72 min", "about 2 h 10 min", "about 30 h"]
