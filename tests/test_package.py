"""The package as others meet it: the public names, what the wheel holds, docs that are true."""

import importlib
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import ROOT

import vaelab
from vaelab.system import registry


@pytest.mark.parametrize("name", vaelab.__all__)
def test_public_names_are_all_there(name: str):
    value = getattr(vaelab, name)
    assert value.__doc__
    assert name in dir(vaelab)


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="trane"):
        _ = vaelab.trane


def test_importing_vaelab_costs_nothing():
    check = "import sys, vaelab; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_train_and_load_from_python(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    overrides = {"network.name": "mlp", "network.hidden": [16], "training.steps": 30, "training.threads": 1}
    events: list[object] = []
    run = vaelab.train("digits", set=overrides, run=tmp_path / "run", watch=events.append)
    assert isinstance(run, vaelab.Run)
    assert capsys.readouterr() == ("", "")
    assert isinstance(events[0], vaelab.Started | vaelab.Note)
    assert isinstance(events[-1], vaelab.Finished)
    for source in (run.path, run.model_path):
        model = vaelab.load(source)
        images = np.zeros((3, 28, 28), np.uint8)
        posterior = model.encode(images)
        assert posterior.mean.shape == posterior.log_var.shape == (3, 2)
        assert model.decode(posterior.mean).shape == (3, 1, 28, 28)
        assert isinstance(model.reconstruct(images), np.ndarray)
        assert torch.equal(model.sample(4, torch.Generator().manual_seed(1)), model.sample(4, 1))
    numbers = vaelab.evaluate(run.path, metrics=["elbo"]).results
    assert numbers["elbo"]["protocol"]["images"] == 359


@pytest.mark.parametrize("mode", ["default", "warn"])
def test_torch_is_left_as_it_was(tmp_path: Path, mode: str):
    torch.set_deterministic_debug_mode(mode)
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    overrides = {"network.name": "mlp", "network.hidden": [8], "training.steps": 2, "training.threads": 2}
    vaelab.train("digits", overrides, run=tmp_path / "run")
    found = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("default")
    assert found == before


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x80\x04\x95\x00.", b"PK\x03\x04" + bytes(100)])
def test_a_file_that_is_no_model_is_refused_and_never_run(tmp_path: Path, content: bytes):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        vaelab.load(path)


def test_a_wheel_holds_presets_and_page(tmp_path: Path):
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    for wanted in ("vaelab/recipes/mnist.toml", "vaelab/exporters/templates/report.html.jinja", "vaelab/py.typed"):
        assert wanted in names
    own = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert own <= set(names)


MEMBERS = {
    "networks": ["Encoder", "Decoder"],
    "posteriors": ["Posterior"],
    "priors": ["Prior"],
    "samplers": ["Sampler"],
    "likelihoods": ["Likelihood"],
    "objectives": ["Objective"],
    "datasets": ["INFO", "load"],
    "figures": ["draw", "caption", "TITLE", "ORDER"],
    "metrics": [],
}
"""What a member's file defines; ``metrics`` has contract tests of its own."""


@pytest.mark.parametrize("folder", registry.PACKAGES)
def test_every_member_of_every_folder_keeps_its_contract_by_name(folder: str):
    package = importlib.import_module(registry.PACKAGES[folder])
    assert package.__doc__
    for name in registry.names(folder):
        module = registry.load(folder, name)
        assert module.__doc__, name
        for attribute in MEMBERS[folder]:
            assert hasattr(module, attribute), (name, attribute)
            interface = getattr(package, attribute, object)
            assert interface is object or issubclass(getattr(module, attribute), interface), (name, attribute)


def test_public_functions_and_classes_say_what_they_are():
    silent = []
    for path in (ROOT / "src" / "vaelab").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        if name.endswith("__main__"):
            continue
        module = importlib.import_module(name)
        for key, value in vars(module).items():
            is_public = getattr(value, "__name__", key).isidentifier() and not key.startswith(
                "_"
            )  # pydantic adds RootModel[…]
            if is_public and callable(value) and getattr(value, "__module__", None) == name:
                silent += [] if value.__doc__ else [f"{name}.{key}"]
    assert silent == []


def test_python_in_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every ```python block of README.md and docs, in order, on a small run in place of the presets."""
    monkeypatch.chdir(tmp_path)
    small = {"network.name": "mlp", "network.hidden": [16], "training.steps": 30, "training.threads": 1}
    train = vaelab.train

    def quick(name: str, set: dict[str, object] | None = None, **options: object) -> vaelab.Run:
        return train("digits", {**small, **{k: v for k, v in (set or {}).items() if k != "training.epochs"}}, **options)

    monkeypatch.setattr(vaelab, "train", quick, raising=False)
    blocks = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"):
        for i, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.S)):
            blocks.append(page.name)
            exec(compile(block, f"{page.name}[{i}]", "exec"), {"__name__": "docs"})
    assert "README.md" in blocks


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text()
