"""Multi-scale sliced Wasserstein distance between sets of images, which detects blur without pretrained weights."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor
from torch.nn import functional as F

from vaelab.evaluation.evaluation import OWN_SAMPLER, Evaluation
from vaelab.evaluation.image_sets import SETS
from vaelab.evaluation.metrics import AtLeastTwo, Metric, Quantity, Result

PATCH = 7
"""Side of a patch in pixels (1710.10196, section 5)."""
COARSEST = 14
"""Least number of pixels of the smaller side of a halved level, twice a patch."""
MAX_LEVELS = 7
LEVELS_SHOWN = 4
"""Levels that have a row in tables."""
MAX_PATCHES_PER_IMAGE = 128
SCALE = 1000
"""Distances are given in thousandths, as in the paper."""
DIRECTIONS_AT_ONCE = 32
BINOMIAL = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16

Level = Float[Tensor, "patch feature"]


def count_levels(height: int, width: int) -> int:
    """Return the number of levels of the pyramid, which is halved while the smaller side keeps two patches."""
    levels, side = 1, min(height, width)
    while levels < MAX_LEVELS and -(-side // 2) >= COARSEST:
        levels, side = levels + 1, -(-side // 2)
    return levels


def _smooth(images: Float[Tensor, "n c h w"], gain: float = 1.0) -> Float[Tensor, "n c h w"]:
    kernel = (torch.outer(BINOMIAL, BINOMIAL) * gain).to(images).expand(images.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), kernel, groups=images.shape[1])


def laplacian_pyramid(images: Float[Tensor, "n c h w"], levels: int) -> list[Tensor]:
    """Return the details of each level, finest first, and last the images at the smallest size.

    Burt & Adelson 1983 (doi 10.1109/TCOM.1983.1095851) with the binomial kernel. The details are the difference of a
    level from the next one, enlarged; odd sides are rounded up.
    """
    pyramid = []
    for _ in range(levels - 1):
        smaller = _smooth(images)[..., ::2, ::2]
        spread = torch.zeros_like(images)
        spread[..., ::2, ::2] = smaller
        pyramid.append(images - _smooth(spread, 4.0))
        images = smaller
    return [*pyramid, images]


def draw_patches(level: Float[Tensor, "n c h w"], count: int, generator: torch.Generator) -> Float[Tensor, "m c 7 7"]:
    """Return ``count`` patches of each image at random places."""
    n, _, height, width = level.shape
    rows = torch.randint(height - PATCH + 1, (n, count), generator=generator)
    columns = torch.randint(width - PATCH + 1, (n, count), generator=generator)
    windows = level.unfold(2, PATCH, 1).unfold(3, PATCH, 1)
    return windows[torch.arange(n)[:, None], :, rows, columns].flatten(0, 1)


def patches_of(
    chunks: Iterator[Float[Tensor, "n c h w"]], per_image: int, generator: torch.Generator
) -> list[Float[Tensor, "m c 7 7"]]:
    """Return random patches of each level of the pyramid of all images, float32."""
    parts: list[list[Tensor]] = []
    for images in chunks:
        images = images.float().cpu()
        levels = laplacian_pyramid(images, count_levels(*images.shape[2:]))
        parts = parts or [[] for _ in levels]
        for part, level in zip(parts, levels, strict=True):
            part.append(draw_patches(level, per_image, generator))
    return [torch.cat(part) for part in parts]


def normalise(patches: Float[Tensor, "m c 7 7"], reference: Float[Tensor, "k c 7 7"]) -> Level:
    """Return patches as rows, each channel less the mean and over the standard deviation of the reference's."""
    mean, std = reference.mean((0, 2, 3), keepdim=True), reference.std((0, 2, 3), keepdim=True, correction=0)
    return ((patches - mean) / torch.where(std > 0, std, 1)).flatten(1)


def draw_directions(features: int, count: int, generator: torch.Generator) -> Float[Tensor, "feature direction"]:
    """Return ``count`` random unit vectors as columns."""
    return F.normalize(torch.randn(features, count, generator=generator), dim=0)


def sliced_wasserstein(a: Level, b: Level, directions: Float[Tensor, "feature direction"]) -> float:
    """Return the mean over directions of the 1-Wasserstein distance of the projections of two sets of one size.

    Rabin et al. 2012 (doi 10.1007/978-3-642-24785-9_37); Karras et al. 2018 (1710.10196), section 5. In one dimension
    the distance is the mean difference of the sorted values.
    """
    total = 0.0
    for part in torch.split(directions.T, DIRECTIONS_AT_ONCE):
        total += float(np.abs(_sorted(part @ a.T) - _sorted(part @ b.T)).mean(1, dtype=np.float64).sum())
    return total / directions.shape[1]


def _sorted(rows: Float[Tensor, "direction patch"]) -> NDArray[np.float32]:
    return np.sort(rows.numpy(), axis=1)  # NumPy sorts float32 several times as fast as torch


def multi_scale_distances(
    reference: list[Tensor], other: list[Tensor], directions: int, generator: torch.Generator
) -> list[float]:
    """Return the sliced Wasserstein distance of the patches of each level, times 1000.

    Both sets are normalised by the statistics of the reference, so that a loss of contrast counts.
    """
    return [
        SCALE
        * sliced_wasserstein(
            normalise(ours, ours), normalise(theirs, ours), draw_directions(ours[0].numel(), directions, generator)
        )
        for ours, theirs in zip(reference, other, strict=True)
    ]


def measure(
    evaluation: Evaluation,
    *,
    samples: AtLeastTwo = 10_000,
    sampler: str = OWN_SAMPLER,
    patches: PositiveInt = 131_072,
    directions: PositiveInt = 128,
) -> Result:
    """Sliced Wasserstein distances, times 1000, of samples, reconstructions and training images from the images.

    Each level of a Laplacian pyramid has its own distance, finest first, and "swd" is their mean. Blur shows at the
    fine levels. The distance of the training images is the noise floor, what a perfect model would reach; it falls
    with the number of images. ``patches``: number of patches of a level, at most 128 an image. ``sampler``: source of
    the codes.
    """
    sets = evaluation.image_sets(samples, sampler)
    per_image = max(1, min(MAX_PATCHES_PER_IMAGE, patches // len(sets.held_out)))
    random = evaluation.generator("sliced wasserstein")

    def describe(chunks: Iterator[Tensor]) -> list[Tensor]:
        return patches_of(chunks, per_image, random)

    note = "computing patches"
    reference = describe(sets.images(note))
    others = {"": sets.samples, "reconstruction_": sets.reconstructions}
    others |= {"training_": sets.training} if sets.has_train else {}
    found: Result = {}
    for which, chunks in others.items():
        distances = multi_scale_distances(
            reference, describe(chunks(note)), directions, evaluation.generator("directions")
        )
        found[f"{which}swd"] = float(np.mean(distances))
        found |= {f"{which}swd_level_{i}": distance for i, distance in enumerate(distances, 1)}
    channels, height, width = evaluation.model.spec.image_shape
    sides = [f"{-(-height // 2**i)}×{-(-width // 2**i)}" for i in range(len(reference))]
    return {
        **found,
        "protocol": {
            **sets.protocol,
            **SETS,
            "levels": f"Laplacian pyramid: {', '.join(sides)}",
            "patches": f"{len(reference[0])} of {PATCH}×{PATCH}×{channels} a level, {per_image} of each image",
            "normalisation": "each channel by mean and standard deviation of the images' patches",
            "directions": directions,
            "unit": "thousandths",
            "cannot_see": "whether the parts of an image fit together: patches have no place",
        },
    }


def _level(i: int) -> Quantity:
    """Row of the i-th level, finest 0."""
    size = f"1/{2**i} size" if i else "full size"
    return Quantity(f"swd_level_{i + 1}", f"SWD × 1000, {size}", better="lower", digits=1, drawn="never")


METRIC = Metric(
    measure,
    question="generation",
    needs=frozenset({"train_images"}),
    quantities=(
        Quantity("swd", "SWD × 1000", better="lower", digits=1, baseline="training_swd", decides=True),
        *map(_level, range(LEVELS_SHOWN)),
        Quantity("reconstruction_swd", "SWD × 1000 of reconstructions", better="lower", digits=1),
        Quantity("training_swd", "SWD × 1000 of training images", better="lower", digits=1, drawn="never"),
    ),
    order=61,
    synonyms=("swd", "sliced_wasserstein_distance"),
)
