"""Images moved along attribute directions, one attribute per row."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from matplotlib.figure import Figure

from vaelab.data.images import Images, to_uint8
from vaelab.figures import Arrays
from vaelab.figures._sheet import sheet_figure
from vaelab.models.codes import encode_images, find_direction
from vaelab.models.conditions import condition_of
from vaelab.models.vae import VAE

TITLE = "Edits"
ORDER = 58
SECTION = "latent space"
SPLIT = "train"
ROWS = 10
STEPS = (-2.0, -1.0, 0.0, 1.0, 2.0)
ENOUGH = 5000
"""Number of training images from which directions are computed."""
FEWEST = 4
"""Smallest number of images with an attribute, and without it, for a direction."""


def compute(model: VAE, images: Images, generator: torch.Generator) -> Arrays | None:
    """Move a random image along the direction of each attribute or class that separates images best.

    The image lacks the attribute. Return None if no direction separates images.
    """
    some = images.subsample(ENOUGH, generator)
    has, names = some.binary_attributes()
    means, conditions = encode_images(model, some).mean, condition_of(model.spec, some)
    counts = np.minimum(has.sum(0), (~has).sum(0))
    found = {int(j): separation(means, has[:, j]) for j in np.flatnonzero(counts >= FEWEST)}
    best = [j for j in sorted(found, key=lambda j: -found[j]) if found[j] > 0][:ROWS]
    if not best:
        return None
    chosen, decoded = [], []
    for j in best:
        without = np.flatnonzero(~has[:, j])
        chosen.append(int(without[int(torch.randint(len(without), (1,), generator=generator))]))
        codes = means[chosen[-1]] + np.array(STEPS)[:, None] * find_direction(means, has[:, j])
        given = None if conditions is None else conditions[chosen[-1]].expand(len(codes), -1)
        decoded.append(to_uint8(model.decode(torch.from_numpy(codes), given)))
    steps = ["reconstruction" if step == 0 else step_word(step) for step in STEPS]
    return {
        "originals": np.asarray(some.pixels[np.array(chosen)])[:, None],
        "edited": np.stack(decoded),
        "rows": [f"{names[j].replace('_', ' ')}\n{found[j]:.1f} σ" for j in best],
        "columns": [["original"], steps],
        "images": len(some),
    }


def step_word(step: float) -> str:
    """Format a step with its sign."""
    return f"{step:+g}".replace("-", "−")


def separation(codes: Float[np.ndarray, "n latent"], has: Bool[np.ndarray, " n"]) -> float:
    """Return the distance of images with and without an attribute along its direction, in pooled standard deviations.

    The direction comes from one half of the images, the distance from the other, so 4 images of each kind are needed.
    −∞ if codes do not vary.
    """
    half = np.zeros(len(has), bool)
    for group in (has, ~has):
        half[np.flatnonzero(group)[::2]] = True
    along = codes[~half] @ find_direction(codes[half], has[half])
    groups = along[has[~half]], along[~has[~half]]
    pooled = np.sqrt(np.mean([group.var() for group in groups]))
    return float((groups[0].mean() - groups[1].mean()) / pooled) if pooled > 0 else -np.inf


def draw(arrays: Arrays) -> Figure:
    """Draw the originals and their edits, one attribute per row."""
    return sheet_figure([arrays["originals"], arrays["edited"]], arrays["rows"], arrays["columns"])


def caption(arrays: Arrays) -> str:
    """Explain the steps."""
    return (
        "Each row moves one random training image, which lacks the attribute, along the attribute's direction. A step "
        f"of 1 is the difference of the mean codes with and without it, over {arrays['images']:,} training images. The "
        "number is the distance between both groups in pooled standard deviations, on images that did not define the "
        "direction."
    )
