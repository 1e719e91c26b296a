"""Suggestions for the path of a run that does not exist."""

import os
from pathlib import Path

import pytest
from wording import Wording

import vaelab
from vaelab.run.layout import RECIPE


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_runs(*paths: str) -> None:
    for age, path in enumerate(paths):
        Path(path).mkdir(parents=True)
        (Path(path) / RECIPE).write_text("")
        os.utime(Path(path) / RECIPE, (1e9 - age, 1e9 - age))


def complain_about(path: str) -> str:
    with pytest.raises(FileNotFoundError) as caught:
        vaelab.Run(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("runs/digts", "runs/digits"),
        ("digits", "runs/digits"),
        ("rnus/digits", "runs/digits"),
        ("runs/mnst", "runs/mnist-objective.beta=4"),
        ("elsewhere/first-fase", "elsewhere/first-face"),
        ("runs/mnist-objective.bta=4", "runs/mnist-objective.beta=4"),
    ],
)
def test_the_run_that_was_meant_is_suggested(given: str, meant: str) -> None:
    make_runs("runs/digits", "runs/mnist-objective.beta=4", "elsewhere/first-face")
    assert complain_about(given).endswith(f"did you mean {meant}?")


def test_a_recipe_is_not_a_run(wording: Wording) -> None:
    wording(complain_about("mnist"))


def test_runs_are_listed_if_none_is_near(wording: Wording) -> None:
    wording(complain_about("none"))
    make_runs(*(f"runs/{letter}" for letter in "abcdefg"))
    wording(complain_about("zzz"))
    wording(complain_about("runs"))
    Path("empty").mkdir()
    wording(complain_about("empty"))
