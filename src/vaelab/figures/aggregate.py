"""Aggregate posterior and prior of each latent."""

import math

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure

from vaelab.data.images import Images, spread_rows
from vaelab.figures import BLUE, FAINT, INK, Arrays, house_style
from vaelab.models.codes import Codes, encode_images
from vaelab.models.vae import VAE

TITLE = "Aggregate posterior"
ORDER = 65
SECTION = "latent space"
SHOWS_IMAGES = False
SPLIT = "valid"
MOST_IMAGES, MOST_LATENTS, CELLS = 2000, 8, 120


def compute(model: VAE, images: Images, generator: torch.Generator) -> Arrays:
    """Compute the density of the latents with the largest KL over a subset of the images, with their indices and KL."""
    codes = encode_images(model, images.take(spread_rows(len(images), MOST_IMAGES)))
    kl = codes.latent_kl
    latents = np.argsort(kl, kind="stable")[::-1][:MOST_LATENTS]
    reach = float(max(4.0, 1.05 * np.abs(codes.mean[:, latents]).max()))
    edges = np.linspace(-reach, reach, CELLS + 1)
    return {
        "grid": (edges[:-1] + edges[1:]) / 2,
        "density": cell_densities(edges, codes, latents),
        "latents": latents,
        "kl": kl[latents],
        "num_latents": codes.mean.shape[1],
        "num_images": len(codes.mean),
    }


def cell_densities(
    edges: Float[np.ndarray, " edges"], codes: Codes, latents: np.ndarray
) -> Float[np.ndarray, "latents cells"]:
    """Return the mean of q(z_j) = 1/N Σₙ N(z_j; μ_nj, σ²_nj) over each cell between two edges, float64.

    It is a difference of distribution functions, so posteriors that are narrower than a cell are counted exactly.
    """
    places, densities = torch.from_numpy(edges), []
    for j in latents:
        mean = torch.from_numpy(codes.mean[:, j, None]).double()
        deviation = torch.exp(0.5 * torch.from_numpy(codes.log_var[:, j, None]).double())
        share_below = torch.special.ndtr((places - mean) / deviation).mean(0)
        densities.append((share_below.diff() / places.diff()).numpy())
    return np.stack(densities)


def draw(arrays: Arrays) -> Figure:
    """Draw one panel per latent, with the prior as a dashed curve."""
    grid, count = arrays["grid"], len(arrays["latents"])
    columns = min(4, count)
    rows = -(-count // columns)
    prior = np.exp(-0.5 * grid**2) / math.sqrt(2 * math.pi)
    with house_style():
        figure = Figure(figsize=(max(2.3 * columns + 0.6, 4.2), 1.7 * rows + 0.8))
        panels = figure.subplots(rows, columns, sharex=True, squeeze=False)
        for i, axes in enumerate(panels.flat):
            if i >= count:
                axes.set_axis_off()
                continue
            axes.fill_between(grid, arrays["density"][i], color=BLUE, alpha=0.25, linewidth=0)
            (ours,) = axes.plot(grid, arrays["density"][i], color=BLUE, linewidth=1.5)
            (theirs,) = axes.plot(grid, prior, color=INK, linewidth=1.1, linestyle=(0, (4, 2)))
            axes.set_title(f"z{arrays['latents'][i] + 1}   KL {arrays['kl'][i]:.2f}", fontsize=10)
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            axes.set_ylim(0, 1.08 * max(float(arrays["density"][i].max()), float(prior.max())))
            if i >= count - columns:
                axes.tick_params(labelbottom=True)
        figure.legend([ours, theirs], ["aggregate posterior", "prior N(0, 1)"], loc="outside lower center", ncols=2)
        figure.supylabel("density", fontsize=10, color=FAINT)
    return figure


def caption(arrays: Arrays) -> str:
    """Explain what a gap between the curves means."""
    which = (
        "All latents"
        if len(arrays["latents"]) == arrays["num_latents"]
        else f"The {len(arrays['latents'])} latents of {arrays['num_latents']} with the largest KL"
    )
    return (
        f"{which}, over {arrays['num_images']:,} held-out images. Where the curves differ, samples from the prior "
        "differ from the codes that the decoder was trained on. KL in nats per image."
    )
