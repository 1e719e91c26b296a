"""Images decoded on straight lines between the codes of held-out images."""

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from vaelab.data.images import Images
from vaelab.data.pictures import tile
from vaelab.data.tensors import to_uint8
from vaelab.figures import Arrays, house_style, picture_figure
from vaelab.models.codes import interpolate
from vaelab.models.conditions import condition_of
from vaelab.models.vae import VAE

TITLE = "Interpolations"
ORDER = 57
SECTION = "latent space"
SPLIT = "valid"
PAIRS, STEPS = 6, 10


def compute(model: VAE, images: Images, generator: torch.Generator) -> Arrays:
    """Decode codes between the posterior means of random pairs of images."""
    chosen = torch.randint(len(images), (2 * PAIRS,), generator=generator).numpy()
    some = images.take(chosen)
    originals, means = some.eight_bits[:], model.encode(some).mean.numpy()
    condition = condition_of(model.spec, some)
    if condition is not None:
        condition = _interpolate(condition.numpy())
    decoded = to_uint8(model.decode(_interpolate(means), condition))
    return {"first": originals[:PAIRS], "last": originals[PAIRS:], "between": decoded}


def _interpolate(ends: Float[np.ndarray, "images column"]) -> Float[Tensor, "steps column"]:
    """Return STEPS points on the line of each pair; ``ends`` holds all starts, then all ends."""
    return torch.from_numpy(interpolate(ends[:PAIRS], ends[PAIRS:], STEPS)).flatten(0, 1)


def draw(arrays: Arrays) -> Figure:
    """Draw one pair per row: an original, the images between, the other original."""
    between = arrays["between"].reshape(PAIRS, STEPS, *arrays["between"].shape[1:])
    left, middle, right = (
        tile(images.reshape(-1, *images.shape[-3:]), columns)
        for images, columns in ((arrays["first"], 1), (between, STEPS), (arrays["last"], 1))
    )
    gap = np.full((left.shape[0], left.shape[1] // 5, left.shape[2]), 255, np.uint8)
    with house_style():
        return picture_figure(np.concatenate([left, gap, middle, gap, right], axis=1), width=9)[0]


def caption(arrays: Arrays) -> str:
    """Explain the rows."""
    return (
        f"{PAIRS} random pairs of held-out images at the ends of the rows. Between them, the decoder's mean along the "
        "straight line that connects their posterior means."
    )
