"""Images decoded along each latent, largest KL first."""

import numpy as np
import torch
from matplotlib.figure import Figure

from vaelab.data.images import Images
from vaelab.data.pictures import tile
from vaelab.data.tensors import to_uint8
from vaelab.figures import Arrays, house_style, latent_name, show_picture
from vaelab.models.codes import encode_images, traverse
from vaelab.models.vae import VAE

TITLE = "Traversals"
ORDER = 55
SECTION = "latent space"
SHOWS_IMAGES = False
SPLIT = "valid"
ROWS, COLUMNS = 10, 11
REACH = 3.0
"""Reach of a traversal to both sides, in standard deviations of the prior."""
ENOUGH = 2000
"""Number of held-out images from which the KL of each latent is estimated."""


def compute(model: VAE, images: Images, generator: torch.Generator) -> Arrays:
    """Decode codes along each latent through the origin; also return the mean KL of each."""
    kl = encode_images(model, images.subsample(ENOUGH, generator)).latent_kl
    latents = np.argsort(-kl, kind="stable")[:ROWS]
    values = np.linspace(-REACH, REACH, COLUMNS, dtype=np.float32)
    codes = traverse(np.zeros(model.spec.latent_dim, np.float32), latents, values)
    condition, name = model.typical_condition()
    flat = torch.from_numpy(codes).flatten(0, 1)
    decoded = to_uint8(model.decode(flat, None if condition is None else condition.expand(len(flat), -1)))
    return {"images": decoded, "latents": latents, "kl": kl[latents], "values": values, "condition": name}


def draw(arrays: Arrays) -> Figure:
    """Draw one row per latent, with its name and KL at the left."""
    images, values = arrays["images"], arrays["values"]
    sheet = tile(images, len(values))
    height, width = (side + 2 for side in images.shape[1:3])
    with house_style():
        size = 9.0
        figure = Figure(figsize=(size, 1.0 + (size - 1.6) * sheet.shape[0] / sheet.shape[1]))
        axes = figure.subplots()
        show_picture(axes, sheet)
        axes.set_axis_on()
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        rows = [f"{latent_name(int(j))}   {kl:.2f}" for j, kl in zip(arrays["latents"], arrays["kl"], strict=True)]
        axes.set_yticks(np.arange(len(rows)) * height + height / 2, rows)
        columns = [f"{value:+.1f}".replace("-", "−").replace("+0.0", "0") for value in values]
        axes.set_xticks(np.arange(len(columns)) * width + width / 2, columns)
        axes.set_title("Latents and their mean KL in nats", fontsize=11)
        axes.set_xlabel("value of the latent, standard deviations of the prior")
    return figure


def caption(arrays: Arrays) -> str:
    """Explain the rows."""
    count, condition = len(arrays["latents"]), arrays["condition"]
    sentences = (
        f"Each row moves one latent from −{REACH:g} to {REACH:g}; the others stay at 0.",
        f"Shown are the {count} latents with the largest KL, largest first." if count > 1 else "",
        f"All are conditioned on {condition}." if condition else "",
    )
    return " ".join(filter(None, sentences))
