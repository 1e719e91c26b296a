"""Augmentation of training images, on their device."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.data.images import Images
from vaelab.data.tensors import as_tensor, to_float
from vaelab.recipe.training import Augment
from vaelab.system.noise import Noise

MAX_SHIFT, MIN_CROP = 1 / 16, 0.9
"""Longest shift and shortest side of a crop, in sides of the image."""
MOST_COMPARED, LEAST_COMPARED, COMPARED_SIDE = 500, 100, 16
"""Images that are compared with mirrored ones, and their side in pixels."""
FARTHEST = 1.1
"""Distance of a mirrored image to the nearest other one, in distances of the image itself, up to which it is likely."""

Pixels = Float[Tensor, "batch channel height width"]


def choose_augment(images: Images) -> Augment:
    """Return "flip" if mirrored images are as close to the other images as the images themselves, else "none".

    Compared are the mean distances to the nearest other image, of at least 100 images at 16×16 pixels (docs/log.md).
    """
    if len(images) < LEAST_COMPARED:
        return "none"
    rows = np.random.Generator(np.random.Philox(0)).permutation(len(images))[:MOST_COMPARED]
    x = to_float(as_tensor(images.pixels[np.sort(rows)]))
    small = nn.functional.adaptive_avg_pool2d(x, COMPARED_SIDE).flatten(1)
    mirrored = nn.functional.adaptive_avg_pool2d(x.flip(3), COMPARED_SIDE).flatten(1)
    distances = [torch.cdist(each, small).fill_diagonal_(torch.inf).amin(1).mean() for each in (small, mirrored)]
    return "flip" if float(distances[1]) <= FARTHEST * float(distances[0]) else "none"


def augment(x: Pixels, changes: Augment, noise: Noise, *, interpolate: bool) -> Pixels:
    """Return augmented images; the random transformations depend on the step and the position in the batch.

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


def _take(x: Pixels, source: Float[Tensor, "batch size"], axis: int, *, interpolate: bool) -> Pixels:
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
