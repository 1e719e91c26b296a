"""Training images as the model sees them, with their classes and attributes."""

import numpy as np
import torch
from matplotlib.figure import Figure

from vaelab.data.images import Images
from vaelab.figures import Arrays, number_names
from vaelab.figures._sheet import CELL, sheet_figure
from vaelab.models.vae import VAE

TITLE = "Data"
ORDER = 70
SECTION = "data"
SPLIT = "train"
SIDE = 5
MOST_ATTRIBUTES = 3
WIDE_ENOUGH = 270
"""Width in pixels of a picture that leaves room for attribute names below it."""


def compute(model: VAE, images: Images, generator: torch.Generator) -> Arrays:
    """Choose random training images with their class and their rarest attributes."""
    chosen = torch.randperm(len(images), generator=generator)[: SIDE * SIDE].numpy()
    names, remark = [list[str]() for _ in chosen], ""
    if images.labels is not None:
        labels = images.labels[chosen].tolist()
        words, remark = number_names({label: images.label_name(label) for label in labels}, "classes")
        names = [[words[label]] for label in labels]
    if images.attributes is not None:
        rarest_first = np.argsort(np.asarray(images.attributes).mean(0), kind="stable").tolist()
        has = [[j for j in rarest_first if images.attributes[i, j]][:MOST_ATTRIBUTES] for i in chosen]
        shown = {j: images.attribute_names[j].replace("_", " ") for each in has for j in each}
        words, more = number_names(shown, "attributes")
        names = [[*words_of_one, *(words[j] for j in each)] for words_of_one, each in zip(names, has, strict=True)]
        remark += more
    return {
        "images": images.eight_bits[chosen],
        "names": names,
        "has_attributes": images.attributes is not None,
        "remark": remark,
    }


def draw(arrays: Arrays) -> Figure:
    """Draw a square of images, each with its labels below."""
    images = arrays["images"]
    rows = -(-len(images) // SIDE)
    pictures = np.full((rows * SIDE, *images.shape[1:]), 255, np.uint8)
    pictures[: len(images)] = images
    blocks = [pictures.reshape(rows, SIDE, *images.shape[1:])]
    under = ["\n".join(words) for words in arrays["names"]]
    return sheet_figure(blocks, under=under, cell=WIDE_ENOUGH if arrays["has_attributes"] else CELL)


def caption(arrays: Arrays) -> str:
    """Say which images are shown."""
    count = len(arrays["images"])
    what = f"{count} random training image{'s' if count > 1 else ''}"
    if arrays["has_attributes"]:
        return f"{what}, each with up to {MOST_ATTRIBUTES} of its attributes, rarest first.{arrays['remark']}"
    return f"{what}.{arrays['remark']}"
