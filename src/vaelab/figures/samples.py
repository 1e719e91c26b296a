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
SPLIT = "valid"
SIDE = 10


def compute(model: VAE, images: Images, generator: torch.Generator) -> Arrays:
    """Expected images of SIDE² codes drawn from N(0, I)."""
    return {"samples": to_uint8(model.sample(SIDE * SIDE, generator))}


def draw(arrays: Arrays) -> Figure:
    """A square of images."""
    with house_style():
        return picture_figure(tile(arrays["samples"], SIDE), width=7)[0]


def caption(arrays: Arrays) -> str:
    """Where they come from."""
    return (
        f"{len(arrays['samples'])} images decoded from z ~ N(0, I): the decoder's mean, no pixel noise; not selected."
    )
