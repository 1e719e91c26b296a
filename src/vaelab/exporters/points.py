"""The points of an exported page: a subset of them, and their images in compressed form."""

import gzip
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from vaelab.data.arrays import ArrayView
from vaelab.data.images import spread_rows
from vaelab.data.tensors import subsample
from vaelab.explorer.payload import Payload
from vaelab.system.noise import generator

NUM_POINTS, IMAGE_BYTES = 5_000, 8_000_000
"""Default limits of the number of points and of the bytes of their images."""
NUM_TRIED = 64
"""Images whose size is measured to estimate that of the others."""

Predictor = Literal["none", "left"]
Pixels = UInt8[np.ndarray, "n height width channel"]


def choose_count(payload: Payload, image_bytes: int = IMAGE_BYTES) -> int:
    """Return the default number of points: as many as ``image_bytes`` hold, at most NUM_POINTS."""
    rows = spread_rows(len(payload.means), NUM_TRIED)
    mean_bytes = len(compress_images(np.asarray(payload.pixels[rows]))[0]) / len(rows)
    return max(2, min(NUM_POINTS, len(payload.means), int(image_bytes / mean_bytes)))


def subsample_points(payload: Payload, count: int) -> Payload:
    """Return the payload with a fixed random subset of its points; directions and maps remain those of all points."""
    if count >= len(payload.means):
        return payload
    rows = subsample(len(payload.means), count, generator(0, "export"))
    return replace(
        payload,
        manifest={**payload.manifest, "count": count},
        means=np.ascontiguousarray(payload.means[rows]),
        pixels=ArrayView(payload.pixels, rows),
        groups=[group._replace(members=group.members[rows]) for group in payload.groups],
        conditions=None if payload.conditions is None else payload.conditions[rows],
    )


def compress_images(pixels: Pixels) -> tuple[bytes, Predictor]:
    """Return gzipped images: as they are, or each pixel minus its left neighbour, whichever is shorter.

    The size is about that of PNG. Unlike pixels that a page reads from a PNG, they are exact in every browser.
    """
    differences = pixels.copy()
    differences[:, :, 1:] -= pixels[:, :, :-1]
    arrays: dict[Predictor, Pixels] = {"none": pixels, "left": differences}
    packed = {predictor: gzip.compress(array.tobytes(), mtime=0) for predictor, array in arrays.items()}
    best = min(packed, key=lambda predictor: len(packed[predictor]))
    return packed[best], best
