"""The examples of docs/extending.md, run as they stand there."""

import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import ROOT
from small import make_images
from typed import TINY_WORDS, Typed

from vaelab.evaluation.evaluate import default_metrics
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import load_metrics
from vaelab.run import Run
from vaelab.system import registry

PAGE = ROOT / "docs" / "extending.md"


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


def test_the_metric_is_measured_compared_and_documented_with_the_others(cli: Typed, extended: None) -> None:
    for name, seed in (("one", 0), ("two", 1)):
        assert cli("train", "digits", *TINY_WORDS, "--set", f"training.seed={seed}", "--run", name)[0] == 0
    code, out, _ = cli("evaluate", "one", "--metrics", "spread,active_units", "--json")
    assert code == 0
    found = json.loads(out)
    variances = found["active_units"]["variance_of_means"]
    assert found["spread"]["mean_distance"] == pytest.approx(np.sqrt(2 * sum(variances)))
    assert "mean distance" in (Path("one") / "report.html").read_text()
    code, out, _ = cli("compare", "one", "two", "--out", "both")
    assert code == 0
    assert "distance of codes\t" in out
    rows = json.loads((Path("both") / "comparison.json").read_text())["runs"]
    assert rows[0]["mean_distance"] == found["spread"]["mean_distance"]
    assert rows[1]["mean_distance"] == Run("two").evaluation["spread"]["mean_distance"]
    assert "mean_distance" in (Path("both") / "comparison.csv").read_text().splitlines()[0]
    assert "| `spread` | distance of codes |" in docs_check().metrics_table()


def docs_check() -> Any:
    """docs/check.py, which writes the tables of the docs."""
    spec = importlib.util.spec_from_file_location("docs_check", PAGE.parent / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_metric_may_come_from_another_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_model: Callable[..., Any]
) -> None:
    (tmp_path / "elsewhere.py").write_text(example("spread.py"))
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("spread", "elsewhere", "vaelab.metrics")
    monkeypatch.setattr(registry, "_offered", lambda folder: {"spread": [point]} if folder == "metrics" else {})
    registry.names.cache_clear()
    try:
        assert "spread" in default_metrics("evaluate")
        images = make_images(20)
        found = load_metrics()["spread"].measure(Evaluation(make_model()[0], images))
        assert found["mean_distance"] > 0
    finally:
        registry.names.cache_clear()
