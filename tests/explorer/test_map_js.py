"""The arithmetic of the explorer's map, run by node and compared with NumPy and closed forms."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float

from vaelab import explorer

NODE = shutil.which("node")
STATIC = Path(explorer.__file__).parent / "static"

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not on PATH")


def run(tmp_path: Path, modules: list[str], body: str, given: Any = None) -> Any:
    """Run a function body that knows ``all`` exports of the modules and ``given``; return its result."""
    shutil.copytree(STATIC, tmp_path, dirs_exist_ok=True)
    # Without it node takes .js for CommonJS.
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "given.json").write_text(json.dumps(given))
    imports = "\n".join(f"Object.assign(all, await import('./{name}'));" for name in modules)
    (tmp_path / "script.js").write_text(f"""
        import {{ readFileSync }} from "node:fs";
        const all = {{}};
        {imports}
        const given = JSON.parse(readFileSync("given.json"));
        const found = (() => {{ {body} }})();
        console.log(JSON.stringify(found, (_, each) => (ArrayBuffer.isView(each) ? [...each] : each)));
    """)
    done = subprocess.run([str(NODE), "script.js"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def gaussian(count: int) -> Float[np.ndarray, "n 2"]:
    return np.random.default_rng(0).standard_normal((count, 2)).astype(np.float32)


def test_a_place_stays_under_the_cursor_that_zooms(tmp_path: Path) -> None:
    body = """
        const view = Object.assign(new all.MapView(), { width: 300, height: 200 });
        view.fit({ left: -2, right: 4, bottom: -1, top: 1 });
        const before = view.toPosition([40, 170]);
        view.zoomAt([40, 170], 3);
        const [after, back] = [view.toPosition([40, 170]), view.toPixels(view.toPosition([7, 9]))];
        return { before, after, back, zoom: view.zoom };
    """
    found = run(tmp_path, ["map-view.js"], body)
    assert found["after"] == pytest.approx(found["before"])
    assert found["back"] == pytest.approx([7, 9])
    assert found["zoom"] == pytest.approx(3)


def test_the_point_under_the_cursor_is_the_nearest_of_all(tmp_path: Path) -> None:
    points, places = gaussian(500), 2.5 * gaussian(40)
    body = """
        const index = new all.PointIndex({ x: Float32Array.from(given.x), y: Float32Array.from(given.y) });
        return given.places.map((place) => [index.nearest(place), index.within(place, 0.1)]);
    """
    given = {"x": points[:, 0].tolist(), "y": points[:, 1].tolist(), "places": places.tolist()}
    found = np.array(run(tmp_path, ["points.js"], body, given))
    distances = np.linalg.norm(places[:, None] - points[None], axis=2)
    np.testing.assert_array_equal(found[:, 0], distances.argmin(1))
    np.testing.assert_array_equal(found[:, 1], np.where(distances.min(1) <= 0.1, distances.argmin(1), -1))


def test_points_are_drawn_where_they_lie_without_those_that_are_hidden(tmp_path: Path) -> None:
    body = """
        const positions = { x: Float32Array.of(0, 2, 4, 900), y: Float32Array.of(0, 1, 3, 0) };
        const shown = all.arrange(positions, Uint8Array.of(0, 1, 0, 0), new Set([1]), all.shuffled(4));
        const [width, height, margin] = [6, 5, 20];
        const pixels = new Uint32Array((width + 2 * margin) * (height + 2 * margin)).fill(7);
        const at = { scale: 1, left: 0.5, top: 4.5 };
        all.drawPoints(pixels, { width, height, margin }, shown, Uint32Array.of(11, 12), at, 1);
        const row = width + 2 * margin;
        const drawn = [...pixels.keys()].filter((i) => pixels[i]);
        return drawn.map((i) => [(i % row) - margin, Math.floor(i / row) - margin, pixels[i]]);
    """
    assert run(tmp_path, ["points.js"], body) == [[4, 1, 11], [0, 4, 11]]


def test_the_order_of_drawing_is_a_permutation_and_always_the_same(tmp_path: Path) -> None:
    first, second = run(tmp_path, ["points.js"], "return [all.shuffled(100), all.shuffled(100)]")
    assert first == second != sorted(first)
    assert sorted(first) == list(range(100))


def test_density_lines_hold_their_shares_of_a_gaussian(tmp_path: Path) -> None:
    points = gaussian(20_000)
    body = """
        const points = { x: Float32Array.from(given.x), y: Float32Array.from(given.y) };
        return [...all.contours(points, all.extent(points), [0.25, 0.5, 0.75])];
    """
    given = {"x": points[:, 0].tolist(), "y": points[:, 1].tolist()}
    for share, places in run(tmp_path, ["points.js", "contours.js"], body, given):
        radii = np.linalg.norm(np.reshape(places, (-1, 2)), axis=1)
        assert np.mean(radii) == pytest.approx(np.sqrt(-2 * np.log(1 - share)), rel=0.06)


def test_a_line_closes_about_one_high_cell_and_between_two(tmp_path: Path) -> None:
    body = """
        const one = Float32Array.of(0, 0, 0, 0, 1, 0, 0, 0, 0);
        const apart = Float32Array.of(1, 0, 0, 1);
        return [all.outline(one, 3, 3, 0.5), all.outline(apart, 2, 2, 0.6), all.outline(apart, 2, 2, 0.4)];
    """
    one, low, high = (np.reshape(lines, (-1, 4)) for lines in run(tmp_path, ["contours.js"], body))
    assert len(one) == 4
    assert np.abs(one.reshape(-1, 2) - 1).sum(1) == pytest.approx(0.5)
    # A saddle below the level parts the two high corners, one above it joins them.
    assert {tuple(map(round, 2 * line[:2] + 2 * line[2:])) for line in low} == {(1, 1), (3, 3)}
    assert {tuple(map(round, 2 * line[:2] + 2 * line[2:])) for line in high} == {(3, 1), (1, 3)}


def test_a_posterior_is_seen_as_the_ellipse_of_its_projected_covariance(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    plane = np.linalg.qr(generator.standard_normal((5, 2)))[0]
    log_var = generator.standard_normal(5)
    given = {"x": plane[:, 0].tolist(), "y": plane[:, 1].tolist(), "logVar": log_var.tolist()}
    found = run(tmp_path, ["overlay.js"], "return all.ellipseOf({ x: given.x, y: given.y }, given.logVar);", given)
    turn = np.array(
        [[np.cos(found["angle"]), -np.sin(found["angle"])], [np.sin(found["angle"]), np.cos(found["angle"])]]
    )
    covariance = turn @ np.diag([found["long"] ** 2, found["short"] ** 2]) @ turn.T
    np.testing.assert_allclose(covariance, plane.T @ np.diag(np.exp(log_var)) @ plane, atol=1e-5)


def test_a_link_brings_codes_back_to_the_last_bit_and_no_strangers_link_does(tmp_path: Path) -> None:
    body = """
        const code = Float32Array.from(given);
        const own = [{ key: "mine", width: code.length }];
        const state = {
          models: [{ key: "mine", code, axes: [2, 0] }],
          pins: { A: [code], B: null, C: null },
          options: { points: true, lattice: true, density: false, rings: false, group: 1, hidden: [3],
                     path: "spherical" },
        };
        const link = all.encodeState(state);
        const changed = (change) => {
          const short = JSON.parse(decodeURIComponent(link.slice(6)));
          change(short);
          return all.decodeState("#view=" + encodeURIComponent(JSON.stringify(short)), own);
        };
        return {
          back: all.decodeState(link, own),
          strangers: [
            all.decodeState(link, [{ ...own[0], key: "another" }]),
            all.decodeState(link, [{ ...own[0], width: 2 }]),
            all.decodeState(link, [...own, ...own]),
            all.decodeState(link.slice(0, 40), own),
            all.decodeState("#elsewhere", own),
            changed((short) => { short.v = 2; }),
            changed((short) => { short.m[0][0] = "AAAAfw"; }),
            changed((short) => { delete short.k; }),
          ],
          odd: [changed((short) => { short.p = [["toString", short.m[0][0]], ["B"]]; }),
                changed((short) => { short.o = { points: "yes", hidden: ["a", 1], path: "crooked", more: 1 }; })],
        };
    """
    given = gaussian(2).ravel().tolist()
    found = run(tmp_path, ["link.js"], body, given)
    assert found["back"]["models"] == [{"code": given, "axes": [2, 0]}]
    assert found["back"]["pins"] == {"A": [given], "B": None, "C": None}
    assert found["back"]["options"] == {
        "points": True,
        "lattice": True,
        "density": False,
        "rings": False,
        "group": 1,
        "hidden": [3],
        "path": "spherical",
    }
    assert found["strangers"] == [None] * 8
    assert found["odd"][0]["pins"] == {"A": None, "B": None, "C": None}
    assert found["odd"][1]["options"] == {"hidden": [1]}
