"""The package as users meet it: public names, imports, the wheel, contracts of open folders."""

import importlib
import json
import re
import socket
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import ROOT

import vaelab
from vaelab.system import registry

TINY = {"network.name": "mlp", "network.hidden": [16], "training.steps": 30, "training.threads": 1}


@pytest.mark.parametrize("name", vaelab.__all__)
def test_public_names_exist_and_have_docstrings(name: str):
    value = getattr(vaelab, name)
    assert value.__doc__
    assert name in dir(vaelab)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError) as error:
        _ = vaelab.trane
    assert "trane" in str(error.value)


def test_import_does_not_load_torch_or_numpy():
    check = "import sys, vaelab; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


@pytest.mark.slow
def test_train_and_load_from_python_without_a_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """A training opens no connection: there is no telemetry."""
    opened: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: opened.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **_: opened.append(arguments))
    events: list[object] = []
    run = vaelab.train("digits", set=TINY, run=tmp_path / "run", watch=events.append)
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
    assert opened == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["default", "warn"])
def test_train_restores_the_settings_of_torch(tmp_path: Path, mode: str):
    torch.set_deterministic_debug_mode(mode)
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    vaelab.train("digits", {**TINY, "training.steps": 2, "training.threads": 2}, run=tmp_path / "run")
    found = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("default")
    assert found == before


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x80\x04\x95\x00.", b"PK\x03\x04" + bytes(100)])
def test_load_refuses_other_files_and_executes_nothing(tmp_path: Path, content: bytes):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        vaelab.load(path)
    assert path.name in str(error.value)


def test_wheel_has_the_sources_and_nothing_else_and_is_reproducible(tmp_path: Path):
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    entries = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).infolist()
    source = [path for path in (ROOT / "src").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    names = {entry.filename for entry in entries if ".dist-info/" not in entry.filename}
    assert {path.relative_to(ROOT / "src").as_posix() for path in source} == names
    assert {"vaelab/recipes/mnist.toml", "vaelab/py.typed"} <= names
    assert len({entry.date_time for entry in entries}) == 1  # not the times of the files


@pytest.mark.skipif(not (ROOT / ".github").exists(), reason="a source distribution has no workflows")
def test_workflows_use_actions_of_fixed_commits():
    lines = [line for path in (ROOT / ".github" / "workflows").glob("*.yml") for line in path.read_text().splitlines()]
    actions = [line.split("uses: ")[1] for line in lines if "uses: " in line]
    loose = [action for action in actions if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", action)]
    assert len(actions) > 10
    assert loose == ["pypa/gh-action-pypi-publish@release/v1"]  # what its authors ask for


MEMBERS = {
    "networks": ["Encoder", "Decoder"],
    "posteriors": ["Posterior"],
    "priors": ["Prior"],
    "samplers": ["Sampler"],
    "likelihoods": ["Likelihood"],
    "objectives": ["Objective"],
    "datasets": ["DATASET"],
    "figures": ["draw", "caption", "TITLE", "ORDER"],
    "metrics": ["METRIC"],
    "trackers": ["Tracker"],
    "converters": ["convert"],
}
"""Names that the file of a member defines."""


@pytest.mark.parametrize("folder", registry.PACKAGES)
def test_members_of_open_folders_define_their_interface(folder: str):
    package = importlib.import_module(registry.PACKAGES[folder])
    assert package.__doc__
    for name in registry.names(folder):
        module = registry.load(folder, name)
        assert module.__doc__, name
        for attribute in MEMBERS[folder]:
            assert hasattr(module, attribute), (name, attribute)
            interface = getattr(package, attribute, object)
            assert interface is object or issubclass(getattr(module, attribute), interface), (name, attribute)


def test_public_functions_and_classes_have_docstrings():
    silent = []
    for path in (ROOT / "src" / "vaelab").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        if name.endswith("__main__"):
            continue
        module = importlib.import_module(name)
        for key, value in vars(module).items():
            is_name = getattr(value, "__name__", key).isidentifier()  # pydantic adds RootModel[…]
            is_public = is_name and not key.startswith("_")
            if is_public and callable(value) and getattr(value, "__module__", None) == name:
                silent += [] if value.__doc__ else [f"{name}.{key}"]
    assert silent == []


def test_the_version_is_that_of_the_distribution():
    assert vaelab.__version__ == version("vaelab")


def test_version_is_the_same_everywhere():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## {declared}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {declared}" in (ROOT / "CITATION.cff").read_text()


def test_every_recorded_message_belongs_to_a_test() -> None:
    for key in json.loads((ROOT / "tests" / "messages.json").read_text(encoding="utf-8")):
        name, _, test = key.partition("::")
        assert f"def {test.partition('[')[0]}(" in (ROOT / "tests" / name).read_text(encoding="utf-8"), key
