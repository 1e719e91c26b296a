"""The plane of a two-latent model, decoded over the prior's quantiles."""

import numpy as np
import torch
from matplotlib.figure import Figure

from vaelab.data.images import Images, to_uint8
from vaelab.data.pictures import tile
from vaelab.figures import Arrays, house_style, latent_name, show_picture
from vaelab.models.codes import prior_grid, prior_quantiles
from vaelab.models.vae import VAE

TITLE = "Manifold"
ORDER = 30
SPLIT = "valid"
SIDE = 21


def compute(model: VAE, images: Images, generator: torch.Generator) -> Arrays | None:
    """Expected images over SIDE × SIDE codes of equal prior probability; None unless there are two latents."""
    if model.spec.latent_dim != 2:
        return None
    decoded = model.decode(torch.from_numpy(prior_grid(SIDE)))
    return {"images": to_uint8(decoded), "axis": prior_quantiles(SIDE)}


def draw(arrays: Arrays) -> Figure:
    """One sheet of images with the codes on its axes."""
    sheet = tile(arrays["images"], SIDE, gap=0)
    axis = arrays["axis"]
    with house_style():
        figure = Figure(figsize=(8, 8))
        axes = figure.subplots()
        show_picture(axes, sheet)
        axes.set_axis_on()
        height, width = arrays["images"].shape[1:3]
        shown = np.linspace(0, SIDE - 1, 7).round().astype(int)
        axes.set_xticks((shown + 0.5) * width - 0.5, [_tick(float(axis[i])) for i in shown])
        axes.set_yticks((shown + 0.5) * height - 0.5, [_tick(float(axis[::-1][i])) for i in shown])
        axes.set_xlabel(latent_name(0))
        axes.set_ylabel(latent_name(1))
        axes.set_title("Decoded over the prior's quantiles")
    return figure


def _tick(value: float) -> str:
    return f"{value + 0.0:.1f}".replace("-0.0", "0.0").replace("-", "−")


def caption(arrays: Arrays) -> str:
    """How the codes are spaced."""
    return "What the decoder draws over the latent plane; neighbours are equally likely under the prior (1 to 99 %)."
