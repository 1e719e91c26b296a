"""Commands typed in a test, and small runs to type them about."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vaelab
from vaelab import cli
from vaelab.run import Run

Typed = Callable[..., tuple[int, str, str]]
TINY: dict[str, Any] = {
    "network.name": "mlp",
    "network.hidden": [16],
    "training.steps": 60,
    "training.threads": 1,
    "training.figures": [],
}
"""Overrides of a run that trains in a second; without figures, which take most of the time."""
TINY_WORDS = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]


def one_line(err: str) -> str:
    """The only line of stderr, without the name of the program."""
    assert err.startswith("vaelab: ")
    assert err.count("\n") == 1
    return err.removeprefix("vaelab: ").rstrip()


def type_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Return a function that types a command: (exit code, stdout, stderr)."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vaelab", *(str(word) for word in words)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        return int(str(stopped.value.code)), out, err

    return run


def train_small(path: Path, overrides: dict[str, Any] | None = None, **options: Any) -> Run:
    """Train a small run."""
    return vaelab.train(options.pop("name", "digits"), {**TINY, **(overrides or {})}, run=path, **options)
