"""Latent plane of a model with two latents, decoded at the prior's quantiles."""

import numpy as np
import torch
from matplotlib.figure import Figure

from vaelab.data.images import Images
from vaelab.data.pictures import tile
from vaelab.data.tensors import to_uint8
from vaelab.figures import Arrays, house_style, latent_name, show_picture
from vaelab.models.codes import prior_grid, prior_quantiles
from vaelab.models.vae import VAE

TITLE = "Manifold"
ORDER = 30
SECTION = "overview"
SHOWS_IMAGES = False
SPLIT = "valid"
SIDE = 21


def compute(model: VAE, images: Images, generator: torch.Generator) -> Arrays | None:
    """Decode SIDE × SIDE quantiles of the prior; None unless the prior is N(0, I) in two dimensions."""
    if model.spec.latent_dim != 2:
        return None
    if "standard_normal_prior" not in model.provides:
        return None
    condition, name = model.typical_condition()
    given = None if condition is None else condition.expand(SIDE**2, -1)
    decoded = model.decode(torch.from_numpy(prior_grid(SIDE)), given)
    return {"images": to_uint8(decoded), "axis": prior_quantiles(SIDE), "condition": name}


def draw(arrays: Arrays) -> Figure:
    """Draw a sheet of images with the codes on its axes."""
    sheet = tile(arrays["images"], SIDE, gap=0)
    axis = arrays["axis"]
    with house_style():
        figure = Figure(figsize=(6.4, 6.4))
        axes = figure.subplots()
        show_picture(axes, sheet)
        axes.set_axis_on()
        height, width = arrays["images"].shape[1:3]
        shown = np.linspace(0, SIDE - 1, 7).round().astype(int)
        axes.set_xticks((shown + 0.5) * width - 0.5, [_tick(float(axis[i])) for i in shown])
        axes.set_yticks((shown + 0.5) * height - 0.5, [_tick(float(axis[::-1][i])) for i in shown])
        axes.set_xlabel(latent_name(0))
        axes.set_ylabel(latent_name(1))
        axes.set_title("Decoded at the prior's quantiles")
    return figure


def _tick(value: float) -> str:
    return f"{value + 0.0:.1f}".replace("-0.0", "0.0").replace("-", "−")


def caption(arrays: Arrays) -> str:
    """Explain the spacing of the codes."""
    given = f" All are conditioned on {arrays['condition']}." if arrays["condition"] else ""
    return f"Images decoded over the latent plane, at quantiles of the prior from 1 % to 99 %.{given}"
