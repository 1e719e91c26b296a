"""Exports: graphs that give what the model gives, pages that have all they need, nothing of a person's overwritten."""

import base64
import gzip
import hashlib
import json
import re
import sys
import tarfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import onnx as library
import pytest
import torch
from torch import nn
from typed import Typed, train_small

import vaelab
from vaelab.api import export as exports
from vaelab.api.explore import open_payload
from vaelab.exporters import modules, onnx, onnxruntime_web, points
from vaelab.exporters.single_file import LOADER
from vaelab.exporters.target import check_folder, make_manifest, write_folder
from vaelab.models.vae import VAE
from vaelab.run import Run
from vaelab.system import registry
from vaelab.system.errors import UsageError

MakeModel = Callable[..., tuple[VAE, nn.Module]]
RUNTIME = {onnxruntime_web.MODULE: b"export const env = {};", onnxruntime_web.WASM: b"\0asm" + bytes(range(200))}
"""Stands for onnxruntime-web."""
LIKELIHOODS = [
    *((name, {}) for name in registry.names("likelihoods")),
    ("discretised_logistic", {"likelihood.scale": "pixel"}),
]


@pytest.fixture(autouse=True, scope="module")
def unchecked_export() -> Iterator[None]:
    """While a model is traced, the tests' check of shapes would fix the size of the batch."""

    def export(model: VAE) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
            return own_export(model)

    own_export = onnx._export
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx, "_export", export)
        yield


# -- graphs --


@pytest.mark.parametrize(("number", "likelihood", "options"), [(i, *each) for i, each in enumerate(LIKELIHOODS)])
def test_graphs_give_what_the_model_gives(
    make_model: MakeModel, number: int, likelihood: str, options: dict[str, Any]
) -> None:
    """Every likelihood once, every network in turn, grey and RGB, sides that are odd, batches of other sizes."""
    networks = registry.names("networks")
    chosen: dict[str, Any] = {"network.name": networks[number % len(networks)], "likelihood.name": likelihood}
    if chosen["network.name"] == "conv":
        chosen |= {"network.channels": [4, 6], "network.strides": [2, 2]}
    shape = (1 + 2 * (number // 2 % 2), 11, 8)
    model, _ = make_model(shape, {**chosen, **options})
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    graphs = onnx.make_graphs(model, {"run": "small"})
    assert model.training, "the model is left as it was"
    model.eval()
    for batch in (1, 5):
        x = torch.rand(batch, *shape, generator=torch.Generator().manual_seed(batch))
        assert onnx.compare_graphs(model, graphs, x) <= 1e-5
        codes = 30 * torch.randn(batch, 3, generator=torch.Generator().manual_seed(batch))
        found = onnx.run_graph(graphs["decoder.onnx"], z=codes.numpy())
        with torch.no_grad():
            np.testing.assert_allclose(found["image"], model.decode(codes), rtol=0, atol=1e-5)
            decoded = 100 * model.decoder(codes)  # where ln σ(x) and eˣ − 1 have no digits left
            wanted = model.likelihood(decoded).reconstruction_loss(x)
        error = onnx.run_graph(graphs["likelihood.onnx"], decoded=decoded.numpy(), x=x.numpy())["error"]
        np.testing.assert_allclose(error, wanted, rtol=1e-5, atol=1e-4)


def test_a_missing_extra_is_one_line(cli: Typed, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "find_spec", lambda _name: None)
    code, out, err = cli("export", run, "--to", "onnx", "graphs")
    assert (code, out) == (2, "")
    assert err == "vaelab: an export needs the extra export: pip install 'vaelab[export]'\n"
    assert not Path("graphs").exists()


# -- the runtime --


@pytest.fixture
def small_runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with a runtime of a few bytes, and no other one to be had: an empty cache, no npm."""
    monkeypatch.setattr(
        onnxruntime_web, "SHA256", {name: hashlib.sha256(data).hexdigest() for name, data in RUNTIME.items()}
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    folder = tmp_path / "given"
    folder.mkdir()
    for name, data in RUNTIME.items():
        (folder / name).write_bytes(data)
    return folder


def fake_npm(tmp_path: Path, command: str) -> None:
    """An npm on the PATH."""
    (tmp_path / "bin").mkdir()
    npm = tmp_path / "bin" / "npm"
    npm.write_text(f"#!/bin/sh\n{command}\n")
    npm.chmod(0o755)


def pack(path: Path, files: dict[str, bytes]) -> None:
    """A package as npm packs it."""
    with tarfile.open(path, "w:gz") as package:
        for name, content in files.items():
            source = path.with_name("packed")
            source.write_bytes(content)
            package.add(source, f"package/dist/{name}")


def test_a_given_runtime_is_taken_only_if_it_is_that_very_one(small_runtime: Path) -> None:
    assert onnxruntime_web.find_runtime(small_runtime).files == RUNTIME
    (small_runtime / onnxruntime_web.WASM).write_bytes(b"another")
    with pytest.raises(
        UsageError, match=re.escape(onnxruntime_web.WASM) + r" is not the one of onnxruntime-web 1\.30\.0"
    ):
        onnxruntime_web.find_runtime(small_runtime)
    (small_runtime / onnxruntime_web.MODULE).unlink()
    with pytest.raises(UsageError, match=r"no ort\.wasm\.bundle\.min\.mjs here"):
        onnxruntime_web.find_runtime(small_runtime)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for npm")
def test_npm_fetches_the_runtime_once(small_runtime: Path, tmp_path: Path) -> None:
    pack(tmp_path / "package.tgz", RUNTIME)
    fake_npm(tmp_path, f'[ "$1 $2" = "pack onnxruntime-web@1.30.0" ] && /bin/cp {tmp_path}/package.tgz ort.tgz')
    found = onnxruntime_web.find_runtime()
    assert (found.files, found.origin) == (RUNTIME, "npm, onnxruntime-web 1.30.0")
    (tmp_path / "bin" / "npm").unlink()
    kept = onnxruntime_web.find_runtime()
    assert kept.files == RUNTIME
    assert str(tmp_path / "cache") in kept.origin
    next((tmp_path / "cache").rglob(onnxruntime_web.WASM)).write_bytes(b"damaged")
    assert onnxruntime_web.find_runtime().files is None


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for npm")
@pytest.mark.parametrize(
    ("brought", "reason"),
    [
        (None, "npm could not fetch onnxruntime-web@1.30.0"),
        ({onnxruntime_web.MODULE: b"evil", onnxruntime_web.WASM: b"evil"}, "another SHA-256"),
        ({"other.js": b""}, "npm brought something else"),
    ],
)
def test_what_npm_brings_is_not_trusted(
    small_runtime: Path, tmp_path: Path, brought: dict[str, bytes] | None, reason: str
) -> None:
    if brought is not None:
        pack(tmp_path / "package.tgz", brought)
    fake_npm(tmp_path, "exit 1" if brought is None else f"/bin/cp {tmp_path}/package.tgz ort.tgz")
    found = onnxruntime_web.find_runtime()
    assert found.files is None
    assert reason in found.origin
    assert not list((tmp_path / "cache").rglob("*"))


# -- pages --


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("export") / "digits", {"training.steps": 20}).path


@pytest.fixture(autouse=True, scope="module")
def graphs_once() -> Iterator[None]:
    """The graphs of a run are made once in this file."""
    made: dict[str, dict[str, bytes]] = {}

    def make(model: VAE, about: dict[str, str]) -> dict[str, bytes]:
        if about["run"] not in made:
            made[about["run"]] = onnx.make_graphs(model, about)
        return made[about["run"]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exports, "make_graphs", lambda *given: onnx._require_extra() or make(*given))
        yield


def names_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_graphs_through_the_command_line(cli: Typed, run: Path) -> None:
    code, out, err = cli("export", run, "--to", "onnx")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "part\tbytes"
    assert out.splitlines()[-1] == "digits-onnx"
    folder = Path("digits-onnx")
    assert names_below(folder) == {"encoder.onnx", "decoder.onnx", "likelihood.onnx", "README.md", "manifest.json"}
    for name in ("encoder", "decoder", "likelihood"):
        content = (folder / f"{name}.onnx").read_bytes()
        assert str(Path(vaelab.__file__).parents[1]).encode() not in content, "where it was made"
        graph = library.load_from_string(content)
        about = {prop.key: prop.value for prop in graph.metadata_props}
        assert (about["run"], about["image_shape"], about["vaelab"]) == ("digits", "1 28 28", version("vaelab"))
        assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    snippet = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert snippet is not None
    found: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(snippet[1], found)
    assert found["samples"].shape == (16, 1, 28, 28)


def test_a_folder_has_all_that_its_page_asks_for(cli: Typed, run: Path, small_runtime: Path) -> None:
    code, out, err = cli("export", run, "site", "--to", "web", "--runtime", small_runtime, "--points", 300)
    assert code == 0, err
    assert "300 of 1,438 training images are in it" in err
    assert {"page", "points", "images", "networks", "runtime", "together"} <= {
        line.split("\t")[0] for line in out.splitlines()
    }
    folder = Path("site")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert set(manifest["files"]) | {"manifest.json"} == names_below(folder)
    for name, about in manifest["files"].items():
        content = (folder / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (about["bytes"], about["sha256"]), name
    html = (folder / "index.html").read_text()
    asked = {name for _, name in re.findall(r'(href|src)="([^"]+)"', html)}
    for module in (folder / "page").glob("*.js"):
        asked |= {f"page/{name}" for name in re.findall(r'"\./([^"]+)"', module.read_text())}
    asked |= {name for key, name in manifest["model"].items() if key != "images_predictor"}
    asked |= {manifest["runtime"]["base"] + manifest["runtime"][key] for key in ("module", "wasm")}
    assert asked <= names_below(folder)
    assert "script-src 'self' 'wasm-unsafe-eval';" in html
    assert "http" not in re.sub("http-equiv", "", html), "nothing from the network"


def test_a_page_carries_points_as_they_are(run: Path, small_runtime: Path, tmp_path: Path) -> None:
    vaelab.export(run, to="web", out=tmp_path / "site", runtime=small_runtime, points=200)
    manifest = json.loads((tmp_path / "site" / "manifest.json").read_bytes())
    payload, _ = open_payload(Run.open(run))
    assert (manifest["explorer"]["count"], manifest["explorer"]["total"]) == (200, 1438)
    for key in ("columns", "maps", "attributes", "quantiles", "mean"):
        assert manifest["explorer"][key] == payload.manifest[key], "as of all points"
    model = tmp_path / "site" / "model"
    codes = np.frombuffer((model / "codes.bin").read_bytes(), "<f4").reshape(200, -1)
    rows = np.array([np.flatnonzero((payload.means == code).all(1))[0] for code in codes])
    assert len(set(rows.tolist())) == 200
    groups = np.frombuffer((model / "groups.bin").read_bytes(), np.uint8).reshape(-1, 200)
    np.testing.assert_array_equal(groups[0], payload.groups[0].members[rows])
    images = np.frombuffer(gzip.decompress((model / "images.bin").read_bytes()), np.uint8).reshape(200, 28, 28, 1)
    if manifest["model"]["images_predictor"] == "left":
        images = np.cumsum(images, axis=2, dtype=np.uint8)
    np.testing.assert_array_equal(images, payload.pixels[rows])


def test_images_are_packed_without_loss() -> None:
    """Noise as it is, a slope as differences; both come back."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    slope = np.cumsum(noise // 64, axis=2, dtype=np.uint8)
    for pixels, predictor in ((noise, "none"), (slope, "left")):
        content, found = points.pack_images(pixels)
        assert found == predictor
        back = np.frombuffer(gzip.decompress(content), np.uint8).reshape(pixels.shape)
        np.testing.assert_array_equal(np.cumsum(back, 2, np.uint8) if found == "left" else back, pixels)


def test_points_are_as_many_as_their_images_allow(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    payload, _ = open_payload(Run.open(run))
    assert points.count_that_fits(payload) == 1438
    monkeypatch.setattr(points, "IMAGE_BYTES", 30_000)
    few = points.subsample_points(payload, points.count_that_fits(payload))
    assert 10 < len(few.means) < 1438
    assert 20_000 < len(points.pack_images(few.pixels[np.arange(len(few.means))])[0]) < 36_000


def test_without_a_runtime_the_page_links_one_by_its_digest(
    cli: Typed, run: Path, small_runtime: Path, tmp_path: Path
) -> None:
    code, _, err = cli("export", run, "site", "--to", "web")
    assert code == 0
    assert "onnxruntime-web comes from https://cdn.jsdelivr.net, because there is no npm here to fetch it" in err
    runtime = json.loads(Path("site/manifest.json").read_bytes())["runtime"]
    assert runtime["base"] == "https://cdn.jsdelivr.net/npm/onnxruntime-web@1.30.0/dist/"
    for name in (runtime["module"], runtime["wasm"]):
        kind, _, digest = runtime["integrity"][name].partition("-")
        assert (kind, base64.b64decode(digest)) == ("sha256", hashlib.sha256(RUNTIME[name]).digest())
    assert "connect-src 'self' https://cdn.jsdelivr.net;" in Path("site/index.html").read_text()
    assert "fetches it from https://cdn.jsdelivr.net" in Path("site/README.md").read_text()
    assert not Path("site/runtime").exists()
    code, _, err = cli("export", run, "one.html", "--to", "web", "--single-file")
    assert code == 2
    assert "a single file carries its runtime" in err
    assert not Path("one.html").exists()


def test_a_single_file_carries_the_very_files_of_the_folder(
    cli: Typed, run: Path, small_runtime: Path, tmp_path: Path
) -> None:
    given = ("--to", "web", "--runtime", small_runtime)
    assert cli("export", run, "site", *given)[0] == 0
    code, out, _ = cli("export", run, "one.html", *given, "--single-file")
    assert (code, out.splitlines()[-1]) == (0, "one.html")
    for place, found in (("pages.v2/", f"pages.v2/{run.name}.html"), ("two.HTML", "two.HTML")):
        assert cli("export", run, place, *given, "--single-file")[0] == 0
        assert Path(found).read_bytes() == Path("one.html").read_bytes()
    code, _, err = cli("export", run, "page.html", *given)  # of one file or a folder?
    assert (code, err.count("\n"), Path("page.html").exists()) == (2, 1, False)
    assert cli("export", run, "page.html/", *given)[0] == 0
    assert Path("page.html/index.html").is_file()
    html = Path("one.html").read_text()
    parts = re.findall(r'<script type="text/plain" data-part="([^"]+)">([^<]*)</script>', html)
    carried = {name: gzip.decompress(base64.b64decode(text)) for name, text in parts}
    folder = names_below(Path("site"))
    assert {name for name in folder if not name.endswith((".css", ".html", ".md", ".svg", "disk.js"))} == set(carried)
    for name, content in carried.items():
        assert content == Path("site", name).read_bytes(), name
    rest = re.sub(r"<(script|style).*?</\1>", "", html, flags=re.DOTALL)
    assert all(address.startswith("data:") for _, address in re.findall(r'(href|src)="([^"]+)"', rest))
    style, loader = (
        re.search(pattern, html, re.DOTALL) for pattern in ("<style>(.*?)</style>", "<script>(.*?)</script>")
    )
    assert style is not None
    assert loader is not None
    assert loader[1] == LOADER.read_text()
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    for text in (style[1], loader[1]):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in html


def test_modules_come_after_those_that_they_name(tmp_path: Path) -> None:
    order = list(modules.read_modules())
    assert order[-1] == "main.js"
    for i, (name, text) in enumerate(modules.read_modules().items()):
        assert set(modules.named_in(text)) <= set(order[:i]), name
        assert not re.search(r"""from\s+['"](?!\./)|import\(\s*['"](?!\./)|['"]\.\./""", text), (
            f"{name} is not in reach"
        )
    (tmp_path / "main.js").write_text('import "./a.js";')
    with pytest.raises(FileNotFoundError, match=r"a\.js"):
        modules.read_modules(folder=tmp_path)
    (tmp_path / "a.js").write_text('import { x } from "./main.js";')
    with pytest.raises(ValueError, match="import each other"):
        modules.read_modules(folder=tmp_path)


# -- where an export goes --


def files_of(**texts: str) -> dict[str, bytes]:
    files = {f"{name}.txt": text.encode() for name, text in texts.items()}
    return {**files, "manifest.json": make_manifest("web", "digits", {}, files)}


def test_only_files_of_a_former_export_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "site"
    check_folder(path, overwrite=False)
    write_folder(path, files_of(a="1", b="1"))
    assert names_below(tmp_path) == {f"new/site/{name}" for name in ("a.txt", "b.txt", "manifest.json")}
    with pytest.raises(FileExistsError, match="say --overwrite"):
        check_folder(path, overwrite=False)
    (path / "mine.txt").write_text("mine")
    check_folder(path, overwrite=True)
    write_folder(path, files_of(a="2", c="2"))
    assert {name: (path / name).read_text() for name in ("a.txt", "c.txt", "mine.txt")} == {
        "a.txt": "2",
        "c.txt": "2",
        "mine.txt": "mine",
    }
    assert not (path / "b.txt").exists()
    with pytest.raises(FileExistsError, match=r"mine\.txt is in the way"):
        write_folder(path, files_of(a="3", mine="3"))
    assert ((path / "a.txt").read_text(), (path / "mine.txt").read_text()) == ("2", "mine")


def test_a_folder_of_anything_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    check_folder(tmp_path / "empty", overwrite=False)
    before = (tmp_path / "empty").stat().st_ino
    write_folder(tmp_path / "empty", files_of(a="1"))
    assert (tmp_path / "empty").stat().st_ino == before, "somebody may be in it, and have said ."
    assert names_below(tmp_path / "empty") == {"a.txt", "manifest.json"}
    others = tmp_path / "others"
    others.mkdir()
    (tmp_path / "precious.txt").write_text("mine")
    hostile = {"vaelab": "1", "kind": "web", "files": {"../precious.txt": {}}}
    for manifest in ("{}", "[1]", "no json", json.dumps(hostile)):
        (others / "manifest.json").write_text(manifest)
        with pytest.raises(FileExistsError, match="a folder with files in it"):
            check_folder(others, overwrite=True)
    with pytest.raises(FileExistsError, match="is a file"):
        check_folder(tmp_path / "precious.txt", overwrite=True)


def test_wishes_that_cannot_be(cli: Typed, run: Path, small_runtime: Path) -> None:
    Path("mine.html").write_text("<p>mine</p>")
    single = ("--to", "web", "--single-file", "--runtime", small_runtime, "--overwrite")
    for words, wanted in (
        (("graphs", "--to", "onnx", "--points", 5), "belong to --to web"),
        (("page.txt", *single), "ends in .html"),
        (("mine.html", *single), "is no export"),
        (("mine.html/page.html", *single), "is a file"),
        (("site",), "--to"),
    ):
        code, _, err = cli("export", run, *words)
        assert code != 0
        assert wanted in err
    assert Path("mine.html").read_text() == "<p>mine</p>"
