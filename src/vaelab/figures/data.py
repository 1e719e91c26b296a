"""Training images as the model sees them."""

import torch
from matplotlib.figure import Figure

from vaelab.figures import Arrays, house_style, show_picture
from vaelab.images import Images
from vaelab.model import VAE

TITLE = "Data"
ORDER = 70
SPLIT = "train"
SIDE = 5


def compute(model: VAE, images: Images, generator: torch.Generator) -> Arrays:
    """Random training images with their labels."""
    chosen = torch.randperm(len(images), generator=generator)[: SIDE * SIDE].numpy()
    names = [] if images.labels is None else [images.label_name(int(images.labels[i])) for i in chosen]
    return {"images": images.pixels[chosen], "names": names}


def draw(arrays: Arrays) -> Figure:
    """A square of images, each with its class below."""
    with house_style():
        figure = Figure(figsize=(7, 7.4))
        panels = figure.subplots(SIDE, SIDE)
        for i, axes in enumerate(panels.flat):
            axes.set_axis_off()
            if i < len(arrays["images"]):
                show_picture(axes, arrays["images"][i])
                if arrays["names"]:
                    axes.set_title(arrays["names"][i], loc="center", fontsize=10, pad=2, y=-0.16)
    return figure


def caption(arrays: Arrays) -> str:
    """Which images these are."""
    return f"{len(arrays['images'])} random training images."
