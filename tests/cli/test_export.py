"""The command vaelab export."""

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import jaxtyping
import onnx
import pytest
from typed import Typed, train_small
from wording import Wording

import vaelab

pytestmark = pytest.mark.slow
GRAPHS = {"encoder.onnx", "decoder.onnx", "likelihood.onnx"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("export") / "digits", {"training.steps": 20}).path


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """There is no npm, and the checks of shapes, which would fix the size of a traced batch, are off."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def names_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_graphs_are_written_with_a_readme_that_runs(cli: Typed, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = cli("export", run, "--to", "onnx")
    folder = run.with_name("digits-onnx")
    assert (code, err, out.splitlines()[-1]) == (0, "", str(folder))
    assert names_below(folder) == GRAPHS | {"README.md", "manifest.json"}
    for name in GRAPHS:
        content = (folder / name).read_bytes()
        assert str(Path(vaelab.__file__).parents[1]).encode() not in content, "no path of this machine"
        graph = onnx.load_from_string(content)
        facts = {prop.key: prop.value for prop in graph.metadata_props}
        assert (facts["run"], facts["image_shape"], facts["vaelab"]) == ("digits", "1 28 28", version("vaelab"))
        assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    snippet = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert snippet is not None
    found: dict[str, Any] = {}
    monkeypatch.chdir(folder)
    exec(snippet[1], found)
    assert found["samples"].shape == (16, 1, 28, 28)


@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_the_readme_of_a_conditional_model_with_another_prior_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: Literal["onnx", "torch"]
) -> None:
    overrides = {"network.condition": "label", "prior.name": "mixture", "training.steps": 2}
    run = train_small(tmp_path / "run", overrides)
    folder = vaelab.export(run, to=to, out=tmp_path / "out").path
    snippet = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert snippet is not None
    found: dict[str, Any] = {}
    monkeypatch.chdir(folder)
    exec(snippet[1], found)
    assert found["reconstructions"].shape == (16, 1, 28, 28)
    assert "samples" not in found, "they need the mixture"


def test_a_page_is_written_with_its_points(cli: Typed, run: Path, wording: Wording) -> None:
    code, out, err = cli("export", run, "site", "--to", "web", "--points", 300)
    assert code == 0, err
    wording(err)
    parts = {line.split("\t")[0] for line in out.splitlines()}
    assert {"page", "points", "images", "networks"} <= parts
    manifest = json.loads(Path("site/manifest.json").read_bytes())
    assert (manifest["explorer"]["count"], manifest["explorer"]["total"]) == (300, 1438)
    assert set(manifest["files"]) | {"manifest.json"} == names_below(Path("site"))
    assert "runtime" not in {path.name for path in Path("site").iterdir()}


def test_wrong_requests_are_refused_before_anything_is_made(cli: Typed, run: Path, wording: Wording) -> None:
    for name in ("mine.html", "MINE.HTML", "folder.html/mine.txt", "pages.v2/digits.html"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("<p>mine</p>")
    single = ("--to", "web", "--single-file", "--overwrite")
    for words, code in (
        (("graphs", "--to", "onnx", "--points", 5), 2),
        (("page.txt", *single), 2),
        (("mine.html", *single), 1),
        (("MINE.HTML", *single), 1),
        (("pages.v2/", *single), 1),  # digits.html in this folder
        (("mine.html/page.html", *single), 1),
        (("page.html", "--to", "web"), 2),  # one file or a folder?
        (("folder.html/", "--to", "web"), 1),  # a folder of that name
        (("one.html", *single), 2),  # without a runtime
        (("site",), 2),
    ):
        found, _, err = cli("export", run, *words)
        assert found == code, (words, err)
        if words != ("site",):  # typer's own message
            wording(err)
    assert names_below(Path.cwd()) >= {"mine.html", "folder.html/mine.txt", "pages.v2/digits.html"}
    assert not any(Path(name).exists() for name in ("graphs", "page.txt", "page.html", "one.html", "site"))
