"""Chunks of images that pass through a network at a time outside of training."""

import math

EVAL_BATCH_SIZE = 512
"""Most images in a chunk."""
EVAL_BATCH_BYTES = 1 << 26
"""Most bytes of a chunk of images in float32."""


def chunk_length(image_shape: tuple[int, int, int]) -> int:
    """Return the number of images of this shape in a chunk."""
    return max(1, min(EVAL_BATCH_SIZE, EVAL_BATCH_BYTES // (4 * math.prod(image_shape))))


def chunk_spans(count: int, image_shape: tuple[int, int, int]) -> list[tuple[int, int]]:
    """Return (first, one after the last) of the chunks of ``count`` images of this shape."""
    length = chunk_length(image_shape)
    return [(start, min(start + length, count)) for start in range(0, count, length)]
