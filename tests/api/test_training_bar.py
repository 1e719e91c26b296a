"""The progress bar of training called from Python."""

from pathlib import Path

import pytest
from typed import train_small

import vaelab


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm-256color"), ("COLUMNS", "80")):
        monkeypatch.setenv(name, value)  # rich's settings: the output is a terminal


@pytest.mark.usefixtures("terminal")
def test_a_training_shows_a_bar_on_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train_small(tmp_path / "run", {"training.validate_every": 20})
    out, err = capsys.readouterr()
    assert out == ""
    assert all(word in err for word in ("run", "epoch 1/2", "images/s", "%", "left"))
    assert vaelab.load(run).spec == vaelab.load(run.path).spec


@pytest.mark.usefixtures("terminal")
def test_the_bar_can_be_turned_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_small(tmp_path / "run", {"training.steps": 2}, progress=False)
    assert capsys.readouterr() == ("", "")


def test_there_is_no_bar_without_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_small(tmp_path / "run", {"training.steps": 2})
    assert capsys.readouterr() == ("", "")
