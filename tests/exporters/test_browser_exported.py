"""The exported page in a real browser, from a plain web server and from the disk: what is decoded there is torch's."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import browser
import jaxtyping
import numpy as np
import pytest
import torch
from browser import Visit, plane_of
from typed import train_small

import vaelab
from vaelab.data.tensors import as_tensor, to_float
from vaelab.explorer import server
from vaelab.explorer.payload import ServedRun
from vaelab.exporters.onnxruntime_web import find_runtime
from vaelab.exporters.points import subsample_points
from vaelab.run import Run

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "there is a browser"),
]
LATENTS, POINTS = 4, 60


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with onnxruntime-web: $VAELAB_ORT, else from the cache or npm."""
    pytest.importorskip("onnxscript", reason="the extra [export] is not installed")
    if given := os.environ.get("VAELAB_ORT"):
        return Path(given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("npm_config_fetch_retries", "0")
        patch.setenv("npm_config_fetch_timeout", "20000")
        found = find_runtime()
    if found.files is None:
        pytest.skip(f"no onnxruntime-web: {found.origin}; or name its folder in $VAELAB_ORT")
    folder = tmp_path_factory.mktemp("runtime")
    for name, content in found.files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_small(tmp_path_factory.mktemp("runs") / "small", {"network.latent_dim": LATENTS})


@pytest.fixture(scope="module")
def served(run: Run) -> ServedRun:
    """The run behind a server, to which the exported page is compared."""
    ((payload, worker),) = vaelab.explore([run.path]).runs
    return ServedRun(subsample_points(payload, POINTS), worker)


def export(run: Run, path: Path, runtime: Path, **options: bool) -> None:
    """Export without the tests' checks of shapes, which a graph that is traced would take for its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        vaelab.export(run.path, to="web", out=path, points=POINTS, runtime=runtime, **options)


@pytest.fixture(scope="module")
def folder(run: Run, runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an exported folder."""
    path = tmp_path_factory.mktemp("web") / "page"
    export(run, path, runtime)
    with browser.serve_folder(path) as address:
        yield address


@pytest.fixture(scope="module")
def single(run: Run, runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of an exported file on the disk."""
    path = tmp_path_factory.mktemp("web") / "page.html"
    export(run, path, runtime, single_file=True)
    return path.as_uri()


@pytest.fixture(scope="module")
def address(served: ServedRun) -> Iterator[str]:
    """The address of the same points behind a server."""
    with browser.serve(server.make_app([served], "127.0.0.1")) as found:
        yield found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser.open_browser() as opened:
        yield opened


Open = Callable[[str], Visit]


@pytest.fixture
def visit(chromium: Any) -> Iterator[Open]:
    """Opens an exported page; in the end nothing may have complained, and nobody else been asked."""
    visits: list[Visit] = []

    def open_page(address: str) -> Visit:
        visits.append(Visit(chromium, address))
        return visits[-1]

    yield open_page
    for each in visits:
        each.close()
        assert each.complaints == []
        own = (each.requests[0], "blob:", "data:")
        assert [request for request in each.requests if not request.startswith(own)] == []


@pytest.mark.parametrize("kind", ["folder", "single"])
def test_an_exported_page_works_as_behind_a_server(
    visit: Open, served: ServedRun, kind: str, request: pytest.FixtureRequest
):
    one, (payload, worker) = visit(request.getfixturevalue(kind)), served
    view = one.view()
    (axes,) = view.axes
    assert axes == payload.manifest["maps"][0]["axes"]
    plane = plane_of(payload.manifest, axes)
    first = one.pixels(one.decoded())
    one.drag([-0.8, 0.6], [0.7, -0.4])
    code = one.code
    assert plane @ code == pytest.approx([0.7, -0.4], abs=1e-3)
    assert code - plane.T @ (plane @ code) == pytest.approx(view.codes[0] - plane.T @ (plane @ view.codes[0]), abs=1e-5)
    one.shows(one.decoded(), worker.decode(code[None])[0], levels=1)
    assert (one.pixels(one.decoded()) != first).any()
    one.map().focus()
    one.press("Enter")
    one.wait(lambda: (payload.means == one.code).all(1).any(), "the code of an image")
    index = int((payload.means == one.code).all(1).argmax())
    one.wait(lambda: f"Training image #{index:,}," in one.page.locator(".origin").inner_text(), "its name")
    one.shows(one.page.locator(".decoded .source canvas"), payload.pixels[np.array([index])][0])
    pad = one.page.locator("canvas.pad")
    pad.focus()
    one.press(*["ArrowUp"] * 6, " ", *["ArrowDown"] * 12, " ")  # a 1, by keyboard

    def is_read() -> bool:
        """Whether all that is shown belongs together: what the model sees, its code, its reconstruction."""
        seen, again = (one.pixels(one.canvas(name))[..., :1] for name in ("What the model sees", "Its reconstruction"))
        code = one.code
        is_rebuilt = np.abs(again - worker.decode(code[None])[0].astype(int)).max() <= 1
        return (seen > 100).sum() > 30 and is_rebuilt and np.allclose(code, worker.encode(seen).mean, atol=1e-4)

    one.page.get_by_text("Your own image, as the model sees it").wait_for()
    one.wait(is_read, "what the model reads")


def test_an_exported_page_has_the_colours_and_the_losses_of_the_served_one(
    visit: Open, served: ServedRun, address: str, folder: str, single: str
):
    shows = """() => [
        [...document.querySelectorAll(".loss .total, .loss .elbo, .loss .terms dd")].map((each) => each.textContent),
        [...document.querySelectorAll(".swatch")].map((each) => getComputedStyle(each).backgroundColor),
    ]"""
    first, *others = pages = [visit(address), visit(folder), visit(single)]
    first.map().focus()
    first.press("Enter")
    first.wait(lambda: (served.payload.means == first.code).all(1).any(), "the code of an image")
    for one in others:
        one.page.evaluate("(hash) => { location.hash = hash; }", first.page.evaluate("location.hash"))
        one.wait(lambda one=one: (one.code == first.code).all(), "the code of the link")
    for _ in range(2):
        for one in pages:
            one.rest()
        (losses, colours), drawn = first.page.evaluate(shows), find_colours(first)
        assert (len(losses), len(set(colours))) == (4, 10)
        for one in others:
            assert one.page.evaluate(shows) == [losses, colours]
            assert find_colours(one) == drawn
        for one in pages:
            one.press("t")  # from the system's theme, which is light, to the dark one


def find_colours(one: Visit) -> set[tuple[int, ...]]:
    """The colours of at least 30 pixels of the map."""
    colours, counts = np.unique(one.pixels(one.map()).reshape(-1, 4), axis=0, return_counts=True)
    return {tuple(colour) for colour in colours[counts >= 30].tolist()}


def test_networks_in_the_browser_are_those_of_torch(visit: Open, folder: str, run: Run, served: ServedRun):
    one, payload = visit(folder), served.payload
    model = vaelab.load(run.path)
    codes = np.random.default_rng(0).standard_normal((9, LATENTS)).astype(np.float32) * 2
    pixels = payload.pixels[np.arange(5)]
    script = """async ([codes, images]) => {
        const { OnnxBackend } = await import("./page/onnx-backend.js");
        const backend = await OnnxBackend.open();
        const manifest = await backend.manifest();
        const reads = [];
        for (const image of images) reads.push(await backend.encode(Uint8Array.from(image)));
        return {
            images: [...await backend.decodeFloats(Float32Array.from(codes))],
            levels: [...await backend.decode(Float32Array.from(codes))],
            reads: reads.map(({ mean, logVar, reconstruction }) => [...mean, ...logVar, reconstruction]),
            columns: await Promise.all(manifest.columns.map(async (_, i) => [...await backend.column(i)])),
            codes: [...await backend.codes([3, 1])],
            group: [...await backend.group(0)],
            pixels: [...await backend.images([4, 0])],
            nearest: [...(await backend.nearest(Float32Array.from(codes.slice(0, 4)))).indices],
        };
    }"""
    found = one.page.evaluate(script, [codes.ravel().tolist(), [image.ravel().tolist() for image in pixels]])
    with torch.inference_mode():
        expected = model.decode(as_tensor(codes)).numpy()
        x = to_float(as_tensor(pixels))
        posterior = model.encode_batch(x)
        errors = [
            float(model.decode_batch(mean[None]).reconstruction_loss(each[None]))
            for mean, each in zip(posterior.mean, x, strict=True)
        ]
    assert np.abs(np.reshape(found["images"], expected.shape) - expected).max() < 1e-4
    levels = np.reshape(found["levels"], (9, 28, 28, 1))
    assert np.abs(levels - served.worker.decode(codes).astype(int)).max() <= 1
    reads = np.array(found["reads"])
    assert np.abs(reads[:, :LATENTS] - posterior.mean.numpy()).max() < 1e-4
    assert np.abs(reads[:, LATENTS:-1] - posterior.log_var.numpy()).max() < 1e-4
    assert reads[:, -1] == pytest.approx(errors, rel=1e-4)
    for i, column in enumerate(found["columns"]):
        assert np.abs(np.array(column) - payload.quantise_column(i)).max() <= 1  # 65,535 steps
    assert found["codes"] == payload.means[[3, 1]].ravel().tolist()
    assert found["group"] == payload.groups[0].members.tolist()
    assert found["pixels"] == payload.pixels[np.array([4, 0])].ravel().tolist()
    assert found["nearest"] == payload.find_nearest(codes[0])[0].tolist()


@pytest.mark.parametrize("show", ["server", "page"])
def test_a_cell_of_a_notebook_shows_the_explorer(
    chromium: Any, run: Run, runtime: Path, tmp_path: Path, show: Literal["server", "page"]
):
    explorer = vaelab.explore(run, show=show)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        patch.setattr(explorer, "page", partial(explorer.page, runtime))
        (tmp_path / "index.html").write_text(f"<!doctype html><title>notebook</title>{explorer._repr_html_()}")
    with browser.serve_folder(tmp_path) as notebook:
        page, failures = chromium.new_page(viewport={"width": 1200, "height": 800}), list[Any]()
        page.on("pageerror", lambda error: failures.append(error))
        page.goto(notebook)
        page.wait_for_function("frames.length === 1")
        (cell,) = page.main_frame.child_frames
        image = cell.get_by_role("img", name="Decoded image")
        cell.locator("canvas.map").wait_for()
        cell.wait_for_function("document.querySelector('canvas[aria-label^=\"Decoded image\"]')?.width !== 300")
        before = image.evaluate("(canvas) => canvas.toDataURL()")
        box = cell.locator("canvas.map").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 3)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 1.5, box["y"] + box["height"] / 1.5, steps=8)
        page.mouse.up()
        page.wait_for_timeout(500)
        assert image.evaluate("(canvas) => canvas.toDataURL()") != before
        assert cell.get_by_role("button", name="Copy link").count() == (show == "server")
        assert failures == []
        page.close()
    explorer.close()
