"""Names of runs, and what a failed start leaves."""

from pathlib import Path
from typing import Any

import pytest
from typed import TINY

import vaelab
from vaelab.api.plan import run_directory


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ({}, "digits"),
        ({"objective.beta": 4, "training.seed": 3}, "digits-beta=4-seed=3"),
        ({"objective.name": "tc"}, "digits-objective=tc"),
        ({"posterior.k": 3, "prior.k": 4}, "digits-posterior.k=3-prior.k=4"),
    ],
)
def test_names_hold_the_overrides_without_their_sections(overrides: dict[str, Any], name: str):
    assert run_directory("digits", overrides) == Path("runs") / name


def test_many_overrides_become_a_digest_of_their_own():
    many = {f"network.option_{i}": i for i in range(9)}
    names = {str(run_directory("digits", {**many, "training.seed": seed})) for seed in range(3)}
    assert len(names) == 3
    assert all(len(name) == len("runs/digits-8f3a21") for name in names)


def test_runs_in_the_default_folder_are_listed_with_their_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    run = vaelab.train("digits", TINY)
    vaelab.train("digits", TINY)
    vaelab.train("digits", TINY, run="elsewhere")
    (line,) = (tmp_path / "runs" / "index").read_text().splitlines()
    assert f"  {run.name}  vaelab train digits --set" in line
    assert "training.steps=60" in line


@pytest.mark.parametrize("left", [False, True])
def test_a_failed_start_leaves_nothing(tmp_path: Path, left: bool):
    run = tmp_path / "run"
    if left:  # by a process that was killed before the run was begun
        run.mkdir()
        (run / ".lock").touch()
    with pytest.raises(FileNotFoundError):
        vaelab.train("folder", data=tmp_path / "nowhere", run=run)
    (tmp_path / "empty").mkdir()
    with pytest.raises((ValueError, OSError)):
        vaelab.train("folder", data=tmp_path / "empty", run=run)
    assert not run.exists()
