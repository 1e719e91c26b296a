"""Images decoded from codes of the recipe's sampler, by default the prior."""

import torch
from matplotlib.figure import Figure

from vaelab.data.images import Images
from vaelab.data.pictures import tile
from vaelab.data.tensors import to_uint8
from vaelab.figures import Arrays, house_style, picture_figure
from vaelab.models.conditions import parse_condition
from vaelab.models.samplers import Sampler
from vaelab.models.vae import VAE

TITLE = "Samples"
ORDER = 15
SECTION = "overview"
SHOWS_IMAGES = False
SPLIT = "valid"
SIDE = 10


def compute(model: VAE, images: Images, generator: torch.Generator, sampler: Sampler | None = None) -> Arrays:
    """Decode SIDE² codes drawn from ``sampler``, by default the prior."""
    if sampler is None:
        return {"samples": to_uint8(model.sample(SIDE * SIDE, generator)), "sampler": "prior"}
    codes = sampler.sample(SIDE * SIDE, generator)
    conditions = parse_condition(model.spec, None, len(codes), model.condition_rows.cpu(), generator)
    return {"samples": to_uint8(model.decode(codes, conditions)), "sampler": sampler.name}


def draw(arrays: Arrays) -> Figure:
    """Draw a square of images."""
    with house_style():
        return picture_figure(tile(arrays["samples"], SIDE), width=7)[0]


def caption(arrays: Arrays) -> str:
    """Say where the images come from."""
    source = "prior" if arrays["sampler"] == "prior" else f"sampler {arrays['sampler']}"
    return f"{len(arrays['samples'])} images decoded from samples of the {source}: the decoder's mean, not selected."
