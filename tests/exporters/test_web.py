"""Exported pages contain everything that they need, as a folder and as one file."""

import base64
import gzip
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from exploring import make_annotated, make_small_payload

from vaelab.explorer.payload import Payload
from vaelab.exporters import modules, onnxruntime_web
from vaelab.exporters.onnxruntime_web import Runtime
from vaelab.exporters.points import subsample_points
from vaelab.exporters.single_file import LOADER, join_files
from vaelab.exporters.web import make_folder

FILES = {onnxruntime_web.MODULE: b"export const env = {};", onnxruntime_web.WASM: b"\0asm" + bytes(range(200))}
GRAPHS = {f"{name}.onnx": name.encode() for name in ("encoder", "decoder", "likelihood")}
"""Stand for the runtime and the networks."""


@pytest.fixture(scope="module")
def payload() -> Payload:
    return make_small_payload(make_annotated(), network__latent_dim=3)[0]


@pytest.fixture(scope="module")
def folder(payload: Payload) -> dict[str, bytes]:
    return make_folder(subsample_points(payload, 40), GRAPHS, Runtime(FILES, "here"))


def test_a_folder_contains_everything_that_its_page_requests(folder: dict[str, bytes]) -> None:
    manifest = json.loads(folder["manifest.json"])
    assert set(manifest["files"]) | {"manifest.json"} == set(folder)
    for name, facts in manifest["files"].items():
        assert (len(folder[name]), hashlib.sha256(folder[name]).hexdigest()) == (facts["bytes"], facts["sha256"]), name
    html = folder["index.html"].decode()
    requested = {name for _, name in re.findall(r'(href|src)="([^"]+)"', html)}
    for name in folder:
        if name.endswith(".js"):
            requested |= {f"page/{other}" for other in re.findall(r'"\./([^"]+)"', folder[name].decode())}
    requested |= {name for key, name in manifest["model"].items() if key != "images_predictor"}
    requested |= {manifest["runtime"]["base"] + manifest["runtime"][key] for key in ("module", "wasm")}
    assert requested <= set(folder)
    assert "script-src 'self' 'wasm-unsafe-eval';" in html
    assert "http" not in re.sub("http-equiv", "", html), "nothing from the network"
    assert "40 of the 100" in re.sub(r"\s+", " ", folder["README.md"].decode())


def test_a_page_contains_points_as_they_are(payload: Payload, folder: dict[str, bytes]) -> None:
    manifest = json.loads(folder["manifest.json"])
    assert (manifest["explorer"]["count"], manifest["explorer"]["total"]) == (40, 100)
    for key in ("columns", "maps", "attributes", "quantiles", "mean"):
        assert manifest["explorer"][key] == json.loads(payload.json)[key], "those of all points"
    codes = np.frombuffer(folder["model/codes.bin"], "<f4").reshape(40, -1)
    rows = np.array([np.flatnonzero((payload.means == code).all(1))[0] for code in codes])
    assert len(set(rows.tolist())) == 40
    groups = np.frombuffer(folder["model/groups.bin"], np.uint8).reshape(-1, 40)
    np.testing.assert_array_equal(groups[0], payload.groups[0].members[rows])
    images = np.frombuffer(gzip.decompress(folder["model/images.bin"]), np.uint8).reshape(40, 9, 8, 1)
    if manifest["model"]["images_predictor"] == "left":
        images = np.cumsum(images, axis=2, dtype=np.uint8)
    np.testing.assert_array_equal(images, payload.pixels[rows])


def test_a_page_without_a_runtime_links_one_by_its_digest(payload: Payload) -> None:
    files = make_folder(payload, GRAPHS, Runtime(None, "https://cdn.jsdelivr.net, because there is no npm"))
    runtime = json.loads(files["manifest.json"])["runtime"]
    assert runtime["base"] == "https://cdn.jsdelivr.net/npm/onnxruntime-web@1.30.0/dist/"
    for name in (runtime["module"], runtime["wasm"]):
        kind, _, digest = runtime["integrity"][name].partition("-")
        assert (kind, base64.b64decode(digest).hex()) == ("sha256", onnxruntime_web.SHA256[name])
    assert "connect-src 'self' https://cdn.jsdelivr.net;" in files["index.html"].decode()
    assert "https://cdn.jsdelivr.net" in files["README.md"].decode()
    assert not any(name.startswith("runtime/") for name in files)


def test_a_single_file_contains_the_files_of_the_folder(folder: dict[str, bytes]) -> None:
    html = join_files(folder).decode()
    parts = re.findall(r'<script type="text/plain" data-part="([^"]+)">([^<]*)</script>', html)
    inlined = {name: gzip.decompress(base64.b64decode(text)) for name, text in parts}
    assert {name for name in folder if not name.endswith((".css", ".html", ".md", ".svg", "disk.js"))} == set(inlined)
    for name, content in inlined.items():
        assert content == folder[name], name
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
        assert set(modules.find_named(text)) <= set(order[:i]), name
        assert not re.search(r"""from\s+['"](?!\./)|import\(\s*['"](?!\./)|['"]\.\./""", text), (
            f"{name} is not in reach"
        )
    (tmp_path / "main.js").write_text('import "./a.js";')
    with pytest.raises(FileNotFoundError):
        modules.read_modules(folder=tmp_path)
    (tmp_path / "a.js").write_text('import { x } from "./main.js";')
    with pytest.raises(ValueError):
        modules.read_modules(folder=tmp_path)
