"""Held-out images above their reconstructions."""

import numpy as np
import torch
from matplotlib.figure import Figure

from vaelab.data.images import Images, to_uint8
from vaelab.data.pictures import tile
from vaelab.figures import FAINT, Arrays, house_style, picture_figure
from vaelab.models.vae import VAE

TITLE = "Reconstructions"
ORDER = 50
SECTION = "overview"
SPLIT = "valid"
COLUMNS, ROWS = 12, 3


def compute(model: VAE, images: Images, generator: torch.Generator) -> Arrays:
    """Reconstruct random held-out images from their posterior means."""
    some = images.subsample(COLUMNS * ROWS, generator)
    reconstructions = to_uint8(torch.from_numpy(model.reconstruct(some)))
    return {"originals": np.asarray(some.pixels[:]), "reconstructions": reconstructions}


def draw(arrays: Arrays) -> Figure:
    """Draw pairs of rows: originals above reconstructions."""
    originals, reconstructions = arrays["originals"], arrays["reconstructions"]
    columns = min(COLUMNS, len(originals))
    strips = []
    for start in range(0, len(originals), columns):
        pair = [part[start : start + columns] for part in (originals, reconstructions)]
        missing = columns - len(pair[0])
        pair = [np.concatenate([part, np.full((missing, *part.shape[1:]), 255, np.uint8)]) for part in pair]
        strips.append(tile(np.concatenate(pair), columns))
    gap = np.full((strips[0].shape[0] // 12, *strips[0].shape[1:]), 255, np.uint8)
    sheet = np.concatenate([part for strip in strips for part in (strip, gap)][:-1])
    margin = max(1, sheet.shape[1] // 6)
    sheet = np.concatenate([np.full((sheet.shape[0], margin, sheet.shape[2]), 255, np.uint8), sheet], axis=1)
    with house_style():
        figure, axes = picture_figure(sheet, width=10)
        height = originals.shape[1] + 2
        for i in range(len(strips)):
            top = i * (strips[0].shape[0] + gap.shape[0])
            for row, word in enumerate(("original", "reconstruction")):
                axes.text(
                    margin - 3, top + 1 + (row + 0.5) * height, word, ha="right", va="center", fontsize=9, color=FAINT
                )
    return figure


def caption(arrays: Arrays) -> str:
    """Say which images are shown."""
    return (
        f"{len(arrays['originals'])} random held-out images above their reconstructions: the decoder's mean at the "
        "posterior mean. Not selected."
    )
