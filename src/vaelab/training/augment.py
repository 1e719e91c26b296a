"""Random changes of training images, on their device."""

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.recipe.training import Augment
from vaelab.system.seeds import Noise

MAX_SHIFT, MIN_CROP = 1 / 16, 0.9
"""Longest shift and shortest side of a crop, in sides of the image."""

Images = Float[Tensor, "batch channel height width"]


def augment(x: Images, changes: Augment, noise: Noise, *, interpolate: bool) -> Images:
    """Return images with random changes, which are a function of the step and the image's position in the batch.

    "flip" mirrors every other image on average. "shift" moves it by whole pixels and repeats its edge. "crop" enlarges
    a part of it, ``interpolate``d linearly, or by the nearest pixel, which keeps black and white.
    """
    kinds, draws = changes.split("+"), noise.uniform(len(x), 4)
    for axis in (2, 3):
        size, draw = x.shape[axis], draws[:, axis - 2, None]
        source = torch.arange(size, device=x.device, dtype=x.dtype).expand(len(x), size)
        if "flip" in kinds and axis == 3:
            source = torch.where(draws[:, 2, None] < 0.5, source, size - 1 - source)
        if "shift" in kinds:
            source = source + ((2 * draw - 1) * max(1.0, size * MAX_SHIFT)).round()
        if "crop" in kinds:
            scale = MIN_CROP + (1 - MIN_CROP) * draws[:, 3, None]
            source = (source + 0.5) * scale - 0.5 + draw * (1 - scale) * size
        x = _take(x, source.clamp(0, size - 1), axis, interpolate="crop" in kinds and interpolate)
    return x


def _take(x: Images, source: Float[Tensor, "batch size"], axis: int, *, interpolate: bool) -> Images:
    """Return the rows or columns of each image at ``source``, in the memory layout of ``x``."""
    before = source.floor() if interpolate else source.round()
    shape = [len(x), 1, 1, 1]
    shape[axis] = source.shape[1]

    def pick(index: Tensor) -> Tensor:
        rows = index.long().view(shape).expand_as(x)
        return x.permute(0, 2, 3, 1).gather(axis - 1, rows.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    first = pick(before)
    if not interpolate:
        return first
    return first.lerp(pick((before + 1).clamp(max=source.shape[1] - 1)), (source - before).view(shape))
