"""Held-out images above their reconstructions."""

import numpy as np
import torch
from matplotlib.figure import Figure

from vaelab.data.images import Images
from vaelab.data.tensors import to_uint8
from vaelab.figures import Arrays
from vaelab.figures._sheet import sheet_figure
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
    return {"originals": some.eight_bits[:], "reconstructions": reconstructions}


def draw(arrays: Arrays) -> Figure:
    """Draw pairs of rows with their names: originals above reconstructions."""
    originals = arrays["originals"]
    columns = min(arrays.get("columns", COLUMNS), len(originals))
    both = np.stack([originals, arrays["reconstructions"]])
    padding = ((0, 0), (0, -len(originals) % columns), (0, 0), (0, 0), (0, 0))
    padded = np.pad(both, padding, constant_values=255)
    rows = (
        padded.reshape(2, -1, columns, *originals.shape[1:]).swapaxes(0, 1).reshape(-1, columns, *originals.shape[1:])
    )
    return sheet_figure([rows], ["original", "reconstruction"] * (len(rows) // 2), group=2)


def caption(arrays: Arrays) -> str:
    """Say which images are shown."""
    return (
        f"{len(arrays['originals'])} random held-out images above their reconstructions: the decoder's mean at the "
        "posterior mean. Not selected."
    )
