"""Several runs in pictures: what each makes of the same images and of the same random codes."""

import numpy as np
from matplotlib.figure import Figure

from vaelab.figures import Arrays
from vaelab.figures._sheet import sheet_figure

TITLE = "Side by side"
ORDER = 92
SECTION = "comparison"


def draw(arrays: Arrays) -> Figure:
    """A run a row: reconstructions at the left, below the originals, samples from the prior at the right."""
    originals, samples = arrays["originals"], arrays["samples"]
    paper = np.full((1, *samples.shape[1:]), 255, np.uint8)
    return sheet_figure(
        [np.concatenate([originals[None], arrays["reconstructions"]]), np.concatenate([paper, samples])],
        ["originals", *arrays["labels"]],
        [["held-out images and their reconstructions"], ["samples from the prior"]],
    )


def caption(arrays: Arrays) -> str:
    """What stands where."""
    return (
        f"{len(arrays['originals'])} random images that the models were not trained on, and below them the decoder's "
        "mean for their posterior means, one run a row; at the right images decoded from z ~ N(0, I), the same z for "
        "all runs of equally many latents. Nothing is selected. Of several seeds of a recipe the first is shown."
    )
