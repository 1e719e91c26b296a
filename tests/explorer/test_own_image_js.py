"""A person's own image in the explorer, and what is read of it: the page's arithmetic, run by node."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vaelab
from vaelab.data.datasets import digits
from vaelab.data.decode import ResizePolicy, decode
from vaelab.data.grounds import find_ground

STATIC = Path(vaelab.__file__).parent / "explorer" / "static"
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(NODE is None, reason="needs node")


def run_js(tmp_path: Path, script: str, given: Any = None) -> Any:
    """Return what the script ``given`` passes to ``say(result)``; it may import modules of STATIC as "./…"."""
    assert NODE is not None
    (tmp_path / "package.json").write_text('{"type": "module"}')
    for file in STATIC.glob("*.js"):
        shutil.copy(file, tmp_path)
    (tmp_path / "given.json").write_text(json.dumps(given))
    prologue = """
        import { readFileSync } from "node:fs";
        const given = JSON.parse(readFileSync(new URL("given.json", import.meta.url)));
        const listed = (_, each) => (ArrayBuffer.isView(each) ? [...each] : each);
        const say = (result) => console.log(JSON.stringify(result, listed));
    """
    (tmp_path / "script.js").write_text(prologue + script)
    done = subprocess.run([NODE, "script.js"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["digits", "paper", "off-centre", "noise", "empty"])
def test_the_ground_of_drawings_is_found_by_the_explorer_as_by_the_commands(tmp_path: Path, kind: str):
    pixels = digits.load(None, "train").pixels[:64]
    images = {
        "digits": pixels,
        "paper": 255 - pixels,
        "off-centre": np.concatenate([np.roll(pixels[:32], 4, axis=1), np.roll(pixels[32:], -4, axis=1)]),
        "noise": np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint8),
        "empty": np.zeros_like(pixels),
    }[kind]
    script = """
        import { measureLayout } from "./drawing-layout.js";
        say(measureLayout(Uint8Array.from(given), { height: 28, width: 28 }));
    """
    layout = run_js(tmp_path, script, images.ravel().tolist())
    found = {True: "dark", False: "bright"}[layout["dark"]] if layout["centred"] else None
    assert find_ground(images) == found
    assert find_ground(images) == {"digits": "dark", "paper": "bright"}.get(kind)


FIT = """
    import { fit } from "./resize.js";
    const { data, width, height, shape, options } = given;
    say(fit({ data: Uint8ClampedArray.from(data), width, height }, shape, options));
"""


def fit(tmp_path: Path, rgba: np.ndarray, height: int, width: int, channels: int, **options: Any) -> np.ndarray:
    shape = {"height": height, "width": width, "channels": channels}
    size = {"height": rgba.shape[0], "width": rgba.shape[1]}
    given = {"data": rgba.ravel().tolist(), **size, "shape": shape, "options": options}
    return np.array(run_js(tmp_path, FIT, given), np.uint8).reshape(height, width, channels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("size", "target"), [((53, 37), (16, 16)), ((40, 40), (28, 28)), ((31, 64), (20, 12)), ((9, 9), (16, 16))]
)
def test_a_picture_is_read_as_image_folders_read_it(
    tmp_path: Path, size: tuple[int, int], target: tuple[int, int], channels: int
) -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (*size, 4), np.uint8)
    rgba[..., 3] = 255
    file = tmp_path / "picture.png"
    Image.fromarray(rgba[..., :3]).save(file)
    expected = decode(file.read_bytes(), ResizePolicy(*target, channels))
    found = fit(tmp_path, rgba, *target, channels)
    shrinks = min(size) >= max(target)
    # Pillow's curves are in fixed point.
    np.testing.assert_allclose(found.astype(int), expected, atol=0 if shrinks else 1)


def test_transparent_parts_lie_on_paper_before_it_is_inverted(tmp_path: Path) -> None:
    clear = np.zeros((4, 4, 4), np.uint8)
    assert (fit(tmp_path, clear, 2, 2, 1) == 255).all()
    assert (fit(tmp_path, clear, 2, 2, 1, paper=0) == 0).all()
    assert (fit(tmp_path, clear, 2, 2, 1, paper=255, invert=True) == 0).all()


STUDY = """
    import { measureLayout } from "./drawing-layout.js";
    say(measureLayout(Uint8Array.from(given.pixels), given.shape));
"""


def study(tmp_path: Path, pixels: np.ndarray) -> Any:
    return run_js(tmp_path, STUDY, {"pixels": pixels.ravel().tolist(), "shape": {"height": 28, "width": 28}})


def test_what_digits_have_in_common(tmp_path: Path) -> None:
    pixels = digits.load(None, "train").pixels[:64]
    common = study(tmp_path, pixels)
    assert common["dark"]
    assert common["centred"]
    assert (common["by"], common["side"]) == ("mass", 20)
    assert common["x"] == pytest.approx(14, abs=0.1)
    assert common["y"] == pytest.approx(14, abs=0.1)
    assert 2 < common["pen"] < 5
    on_white = study(tmp_path, 255 - pixels)
    assert not on_white["dark"]
    assert on_white["side"] == 20


def test_images_that_fill_the_frame_and_things_that_move_about_are_not_centred(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    assert not study(tmp_path, random.integers(0, 256, (16, 28, 28), np.uint8))["centred"]
    things = np.zeros((16, 28, 28), np.uint8)
    for thing, (top, left) in zip(things, random.integers(0, 22, (16, 2)), strict=True):
        thing[top : top + 6, left : left + 6] = 255
    assert not study(tmp_path, things)["centred"]


def test_a_drawing_is_moved_and_scaled_to_where_the_ink_is(tmp_path: Path) -> None:
    script = """
        import { centreStrokes } from "./drawing-layout.js";
        const common = { side: 20, by: "mass", x: 14, y: 14 };
        const shape = { width: 28, height: 28 };
        const centre = (strokes) => centreStrokes(strokes, 2, common, shape);
        say([centre([[[0, 0], [0, 9]], [[0, 9], [3, 9]]]), centre([[[5, 5]]])]);
    """
    strokes, dot = run_js(tmp_path, script)
    points = np.array([point for stroke in strokes for point in stroke])
    assert np.ptp(points, axis=0).max() + 2 == pytest.approx(20)
    corner, caps = np.array(strokes[0]), 2 * np.pi / 8
    ends = corner[0] + 2 * corner[1] + np.array(strokes[1][1])
    middles = 18 * corner.mean(0) + 6 * np.mean(strokes[1], axis=0)
    np.testing.assert_allclose((middles + caps * ends) / (24 + 4 * caps), [14, 14], atol=1e-9)
    np.testing.assert_allclose(dot, [[[14, 14]]])


def test_centring_never_moves_ink_out_of_the_frame(tmp_path: Path) -> None:
    """Drawings whose ink lies at one end, where the middle of the mass alone would push the other end out."""
    random = np.random.default_rng(0)
    tails = random.uniform(0, 28, (30, 2, 2))
    blots = tails[:, 1:] + random.uniform(-1, 1, (30, 40, 2))
    drawings = [[tail.tolist(), blot.tolist()] for tail, blot in zip(tails, blots, strict=True)]
    script = f"""
        import {{ centreStrokes }} from "./drawing-layout.js";
        const common = {{ side: 24, by: "mass", x: 14, y: 14 }};
        say({drawings}.map((strokes) => centreStrokes(strokes, 2, common, {{ width: 28, height: 28 }}).flat()));
    """
    ends = np.array([[np.min(points, axis=0), np.max(points, axis=0)] for points in run_js(tmp_path, script)])
    assert ends.min() >= 1 - 1e-9
    assert ends.max() <= 27 + 1e-9
    assert (np.isclose(ends, 1) | np.isclose(ends, 27)).any((1, 2)).sum() > 10  # these would have been cut off


def test_a_photograph_on_grey_paper_is_laid_out_as_digits_are(tmp_path: Path) -> None:
    photograph = np.full((200, 300, 4), 190, np.uint8)
    photograph[..., 3] = 255
    photograph[20:120, 210:230, :3] = 40  # a stroke far from the middle
    common = {"dark": True, "side": 20, "by": "mass", "x": 14, "y": 14}
    found = fit(tmp_path, photograph, 28, 28, 1, invert=True, layout=common)[..., 0]
    expected = np.zeros((28, 28), np.uint8)
    expected[4:24, 12:16] = 255
    np.testing.assert_array_equal(found, expected)


def test_percentiles_and_their_words(tmp_path: Path) -> None:
    script = """
        import { describeShare, formatCount, formatFixed, percentile } from "./numbers.js";
        const quantiles = Array.from({ length: 101 }, (_, i) => 2 * i);
        const level = Array.from({ length: 101 }, (_, i) => Math.max(0, i - 50));
        const places = [-1, 0, 33, 200, 201].map((value) => percentile(quantiles, value));
        const texts = [formatFixed(-0.04), formatFixed(-12.34), formatFixed(12345.678, 2)];
        texts.push(...[999, 60000, 1234567].map(formatCount));
        say([places, percentile(level, 0), [0, 0.4, 42.4, 99.5, 100].map(describeShare), texts]);
    """
    places, level, words, texts = run_js(tmp_path, script)
    assert places == pytest.approx([0, 0, 16.5, 100, 100], abs=0.51)
    assert level == pytest.approx(25, abs=0.51)
    assert words == ["none", "almost none", "42 %", "almost all", "all"]
    assert texts == ["0.0", "−12.3", "12,345.68", "999", "60,000", "1,234,567"]


SESSION = """
    import { Model } from "./model.js";
    import { Session } from "./session.js";
    const waiting = [];
    const encode = ([value]) => new Promise((resolve) => {
        waiting.push(() => resolve({ mean: [value], logVar: [0], reconstruction: 1 }));
    });
    const model = Object.assign(new EventTarget(), {
        manifest: {}, code: Float32Array.of(0), origin: null, condition: null,
        backend: { encode }, encode: Model.prototype.encode,
        setCode(code, origin = null) { this.code = Float32Array.from(code); this.origin = origin; },
        fail(error) { throw error; },
    });
    const session = new Session([model]);
"""


def test_drawing_shows_every_answer_and_is_one_step_of_history(tmp_path: Path) -> None:
    script = """
        const seen = [];
        for (const [value, done] of [[1, false], [2, false], [3, true]]) {
            const read = session.chooseOwnImage([[value]], done);
            waiting.pop()();
            await read;
            seen.push(model.code[0]);
        }
        session.undo();
        say([seen, model.code[0], session.canUndo]);
    """
    assert run_js(tmp_path, SESSION + script) == [[1, 2, 3], 0, False]


def test_an_answer_that_comes_late_is_not_shown(tmp_path: Path) -> None:
    script = """
        const first = session.chooseOwnImage([[1]]);
        const second = session.chooseOwnImage([[2]]);
        waiting[1]();
        await second;
        waiting[0]();
        await first;
        const overtaken = model.code[0];
        const third = session.chooseOwnImage([[3]]);
        model.setCode([9]);
        waiting[2]();
        await third;
        session.undo();
        say([overtaken, model.code[0], session.canUndo]);
    """
    assert run_js(tmp_path, SESSION + script) == [2, 0, False]
