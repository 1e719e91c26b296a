"""The examples of docs/extending.md, run as they stand there."""

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typed import TINY_WORDS, Typed

from vaelab.run import Run
from vaelab.system import registry

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"


def example(file: str) -> str:
    """The code that the page gives for a file."""
    found = re.search(rf"`{re.escape(file)}`:\n\n```python\n(.*?)```", PAGE.read_text(), re.S)
    assert found, f"no {file} on {PAGE}"
    return found[1]


@pytest.fixture
def extended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """vaelab with the page's files in its folders."""
    members = {"objectives": "free", "metrics": "spread"}
    for folder, name in members.items():
        place = tmp_path / "more" / folder
        place.mkdir(parents=True)
        (place / f"{name}.py").write_text(example(f"{name}.py"))
        package = importlib.import_module(registry.PACKAGES[folder])
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(place)])
    registry.names.cache_clear()
    yield
    monkeypatch.undo()
    for folder, name in members.items():
        sys.modules.pop(f"{registry.PACKAGES[folder]}.{name}", None)
    registry.names.cache_clear()


def test_the_objective_trains_resumes_and_is_checked(cli: Typed, extended: None) -> None:
    words = ["train", "digits", *TINY_WORDS, "--set", "objective.name=free", "--set", "objective.free_nats=3"]
    code, _, err = cli(*words, "--run", "run")
    assert (code, err) == (0, "")
    history = Run("run").history
    np.testing.assert_allclose(history["loss"], history["reconstruction"] + np.maximum(history["kl"], 3), rtol=1e-5)
    np.testing.assert_array_equal(history["free_kl"], np.maximum(history["kl"], 3))
    assert cli(*words, "--run", "run")[1].count("is done already") == 1
    code, _, err = cli("train", "digits", "--set", "objective.name=free", "--set", "objective.free_nats=-1")
    assert (code, err.count("\n")) == (2, 1)
    assert "objective.free_nats" in err


def test_the_metric_is_measured_with_the_others(cli: Typed, extended: None) -> None:
    assert cli("train", "digits", *TINY_WORDS, "--run", "run")[0] == 0
    code, out, _ = cli("evaluate", "run", "--metrics", "spread,active_units", "--json")
    assert code == 0
    found = json.loads(out)
    variances = found["active_units"]["variance_of_means"]
    assert found["spread"]["mean_distance"] == pytest.approx(np.sqrt(2 * sum(variances)))
    assert "mean distance" in (Path("run") / "report.html").read_text()
