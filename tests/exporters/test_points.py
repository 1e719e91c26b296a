"""The points of an exported page."""

import gzip

import numpy as np
from exploring import make_annotated, make_small_payload

from vaelab.exporters import points


def test_images_are_compressed_without_loss() -> None:
    """Noise as it is, a slope as differences; both come back."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    slope = np.cumsum(noise // 64, axis=2, dtype=np.uint8)
    for pixels, predictor in ((noise, "none"), (slope, "left")):
        content, found = points.compress_images(pixels)
        assert found == predictor
        back = np.frombuffer(gzip.decompress(content), np.uint8).reshape(pixels.shape)
        np.testing.assert_array_equal(np.cumsum(back, 2, np.uint8) if found == "left" else back, pixels)


def test_the_default_count_is_what_the_bytes_hold() -> None:
    payload, _ = make_small_payload(make_annotated(600))
    assert points.choose_count(payload) == 600
    few = points.subsample_points(payload, points.choose_count(payload, image_bytes=8_000))
    assert 10 < len(few.means) < 600
    size = len(points.compress_images(few.pixels[np.arange(len(few.means))])[0])
    assert 5_000 < size < 9_600
