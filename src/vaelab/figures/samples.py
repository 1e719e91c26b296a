"""Images decoded from the prior."""

import torch
from matplotlib.figure import Figure

from vaelab.data.images import Images, to_uint8
from vaelab.data.pictures import tile
from vaelab.figures import Arrays, house_style, picture_figure
from vaelab.models.vae import VAE

TITLE = "Samples"
ORDER = 15
SECTION = "overview"
SHOWS_IMAGES = False
SPLIT = "valid"
SIDE = 10


def compute(model: VAE, images: Images, generator: torch.Generator) -> Arrays:
    """Decode SIDE² codes drawn from the prior."""
    return {"samples": to_uint8(model.sample(SIDE * SIDE, generator))}


def draw(arrays: Arrays) -> Figure:
    """Draw a square of images."""
    with house_style():
        return picture_figure(tile(arrays["samples"], SIDE), width=7)[0]


def caption(arrays: Arrays) -> str:
    """Say where the images come from."""
    return f"{len(arrays['samples'])} images decoded from samples of the prior: the decoder's mean, not selected."
