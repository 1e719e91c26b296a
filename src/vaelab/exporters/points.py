"""The points that an exported page carries with it: which, and their images in little room."""

import gzip
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from vaelab.data.arrays import ArrayView
from vaelab.data.images import spread_rows, subsample
from vaelab.explorer.payload import Payload
from vaelab.system.seeds import generator

POINTS = 5_000
"""At most, unless told otherwise."""
IMAGE_BYTES = 8_000_000
"""Of all their images together, unless told otherwise."""
TRIED = 64

Predictor = Literal["none", "left"]
Pixels = UInt8[np.ndarray, "n height width channel"]


def count_that_fits(payload: Payload) -> int:
    """How many points there are unless told otherwise: as many as their images allow, estimated from a few."""
    some = spread_rows(len(payload.means), TRIED)
    each = len(pack_images(np.asarray(payload.pixels[some]))[0]) / len(some)
    return max(2, min(POINTS, len(payload.means), int(IMAGE_BYTES / each)))


def subsample_points(payload: Payload, count: int) -> Payload:
    """The scene with ``count`` of its points, a fixed random choice; directions and maps stay those of all points."""
    if count >= len(payload.means):
        return payload
    rows = subsample(len(payload.means), count, generator(0, "export"))
    means = np.ascontiguousarray(payload.means[rows])
    return replace(
        payload,
        manifest={**payload.manifest, "count": count},
        means=means,
        pixels=ArrayView(payload.pixels, rows),
        groups=[group._replace(members=group.members[rows]) for group in payload.groups],
        conditions=None if payload.conditions is None else payload.conditions[rows],
    )


def pack_images(pixels: Pixels) -> tuple[bytes, Predictor]:
    """Images gzipped: as they are, or each pixel as its difference to the one at its left, whichever is shorter.

    About as long as PNG, and exact in every browser: some change what a page reads back from a picture.
    """
    change = pixels.copy()
    change[:, :, 1:] -= pixels[:, :, :-1]
    packed: dict[Predictor, bytes] = {
        "none": gzip.compress(pixels.tobytes(), mtime=0),
        "left": gzip.compress(change.tobytes(), mtime=0),
    }
    best = min(packed, key=lambda predictor: len(packed[predictor]))
    return packed[best], best
