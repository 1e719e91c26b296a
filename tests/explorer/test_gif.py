"""Animations that the explorer's page writes: read again with Pillow, grey pixels are exact and colours close."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import UInt8
from PIL import Image, ImageSequence

from vaelab import explorer

NODE = shutil.which("node")
ENCODER = Path(explorer.__file__).parent / "static" / "gif.js"
SCRIPT = """
import { readFileSync, writeFileSync } from "node:fs";
const [encoder, pixels, shape, count, delay, out] = JSON.parse(process.argv[1]);
const { encodeGif } = await import(encoder);
const all = new Uint8Array(readFileSync(pixels));
const size = all.length / count;
const frames = Array.from({ length: count }, (_, i) => all.subarray(i * size, (i + 1) * size));
writeFileSync(out, new Uint8Array(await encodeGif(frames, shape, delay).arrayBuffer()));
"""

Frames = UInt8[np.ndarray, "n height width channel"]
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not on PATH")


@pytest.fixture
def encode(tmp_path: Path) -> Callable[[Frames, int], Path]:
    """Writes frames as a GIF with a delay in milliseconds."""

    def run(frames: Frames, delay: int) -> Path:
        pixels, out = tmp_path / "pixels", tmp_path / "out.gif"
        pixels.write_bytes(frames.tobytes())
        count, height, width, channels = frames.shape
        shape = {"height": height, "width": width, "channels": channels}
        words = json.dumps([ENCODER.as_uri(), str(pixels), shape, count, delay, str(out)])
        subprocess.run([str(NODE), "--input-type=module", "--eval", SCRIPT, words], check=True, timeout=60)
        return out

    return run


def read(path: Path) -> Frames:
    with Image.open(path) as gif:
        return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)])


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 5, 7, 1), (2, 97, 131, 1)], ids=str)
def test_grey_is_exact(encode: Callable[[Frames, int], Path], shape: tuple[int, ...]) -> None:
    """Noise is the hardest case: the codes grow to twelve bits and are begun anew many times."""
    frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = read(encode(frames, 80))
    np.testing.assert_array_equal(found, np.broadcast_to(frames, (*shape[:3], 3)))


@pytest.mark.parametrize("pixels", range(250, 262))
def test_the_last_code_may_be_the_first_of_a_new_width(encode: Callable[[Frames, int], Path], pixels: int) -> None:
    frames = np.arange(pixels, dtype=np.uint16).astype(np.uint8).reshape(1, 1, pixels, 1)
    np.testing.assert_array_equal(read(encode(frames, 80))[..., :1], frames)


def test_one_grey_everywhere(encode: Callable[[Frames, int], Path]) -> None:
    frames = np.full((2, 200, 300, 1), 77, np.uint8)
    np.testing.assert_array_equal(read(encode(frames, 80))[..., :1], frames)


def test_it_plays_for_ever_at_the_pace_that_was_asked_for(encode: Callable[[Frames, int], Path]) -> None:
    frames = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5, 1)
    with Image.open(encode(frames, 120)) as gif:
        assert (gif.size, gif.info["loop"]) == ((5, 6), 0)
        assert [frame.info["duration"] for frame in ImageSequence.Iterator(gif)] == [120] * 4


def test_few_colours_are_exact(encode: Callable[[Frames, int], Path]) -> None:
    palette = np.array([[0, 0, 0], [255, 255, 255], [200, 30, 90], [12, 140, 250]], np.uint8)
    frames = palette[np.random.default_rng(0).integers(0, 4, (3, 9, 8))]
    np.testing.assert_array_equal(read(encode(frames, 80)), frames)


def test_many_colours_are_close(encode: Callable[[Frames, int], Path]) -> None:
    """Frames that go from one hue to another over a light that changes: 256 colours for all of them."""
    x, y = np.meshgrid(np.linspace(0, 1, 64), np.linspace(0, 1, 48))
    tints = np.linspace([1, 0.4, 0.2], [0.2, 0.5, 1], 8)[:, None, None]
    frames = np.rint(255 * (0.3 + 0.7 * x * y)[None, ..., None] * tints).astype(np.uint8)
    errors = read(encode(frames, 80)).astype(float) - frames
    assert np.sqrt((errors**2).mean()) < 4
    assert np.abs(errors).max() < 32
