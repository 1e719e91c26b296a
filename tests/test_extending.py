"""The examples of docs/how-to/extend-vaelab.md, run as they are there."""

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from paths import ROOT
from small import compute_terms, make_images

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric
from vaelab.models.spec import Spec

PAGE = ROOT / "docs" / "how-to" / "extend-vaelab.md"
ENTRY_POINTS = "[vaelab.objectives]\nfree = my_package.free\n\n[vaelab.metrics]\nspread = my_package.spread\n"


def example(file: str) -> str:
    """The code that the page gives for a file."""
    found = re.search(rf"`{re.escape(file)}`:\n\n```python\n(.*?)```", PAGE.read_text(), re.S)
    assert found, f"no {file} on {PAGE}"
    return found[1]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with a package outside vaelab that has the page's files and their entry points."""
    for name, content in {
        "my_package/__init__.py": "",
        "my_package/free.py": example("free.py"),
        "my_package/spread.py": example("spread.py"),
        "my_package-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n",
        "my_package-1.0.dist-info/entry_points.txt": ENTRY_POINTS,
    }.items():
        path = tmp_path / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path / "package"


@pytest.fixture
def load(package: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A function that imports one of the page's files."""
    monkeypatch.syspath_prepend(package)

    def load_module(name: str) -> ModuleType:
        monkeypatch.delitem(sys.modules, "my_package", raising=False)
        monkeypatch.delitem(sys.modules, f"my_package.{name}", raising=False)
        return importlib.import_module(f"my_package.{name}")

    return load_module


def test_objective_computes_free_bits(
    load: Callable[[str], ModuleType], make_model: Callable[..., tuple[Any, Any]]
) -> None:
    vae, elbo = make_model()
    x = torch.rand(6, *vae.spec.image_shape, generator=torch.Generator().manual_seed(0))
    plain = compute_terms(elbo, vae, x)
    free = load("free").Objective(Spec(vae.spec.image_shape, 3, 100), free_nats=plain["kl"].item() + 1)
    terms = compute_terms(free, vae, x)
    torch.testing.assert_close(terms["free_kl"], plain["kl"] + 1)
    torch.testing.assert_close(terms["loss"], plain["reconstruction"] + terms["free_kl"])


def test_metric_has_a_known_answer(
    load: Callable[[str], ModuleType], make_model: Callable[..., tuple[Any, Any]]
) -> None:
    module = load("spread")
    assert isinstance(module.METRIC, Metric)
    assert module.mean_distance(np.array([[0.0, 0.0], [2.0, 0.0]])) == pytest.approx(np.sqrt(2))
    evaluation = Evaluation(make_model()[0], make_images(20))
    found = [module.METRIC.measure(evaluation, scale=scale)["mean_distance"] for scale in (1.0, 2.0)]
    assert 0 < 2 * found[0] == pytest.approx(found[1])


@pytest.mark.slow
def test_members_of_another_package_are_trained_measured_compared_and_documented(package: Path, tmp_path: Path) -> None:
    paths = [str(package), str(ROOT / "src"), str(ROOT / "docs")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-W", "error", str(ROOT / "tests" / "support" / "work_with_package.py")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    history = {name: np.array(values) for name, values in found["history"].items()}
    np.testing.assert_allclose(history["loss"], history["reconstruction"] + np.maximum(history["kl"], 3), rtol=1e-5)
    np.testing.assert_array_equal(history["free_kl"], np.maximum(history["kl"], 3))
    assert found["already"] == [True]
    assert "objective.free_nats" in found["refused"]
    variances = found["measured"]["active_units"]["variance_of_means"]
    distance = found["measured"]["spread"]["mean_distance"]
    assert distance == pytest.approx(np.sqrt(2 * sum(variances)))
    assert found["rows"][0]["mean_distance"] == distance
    assert found["is_in_report"]
    assert "| `spread` | distance of codes |" in found["table"]
