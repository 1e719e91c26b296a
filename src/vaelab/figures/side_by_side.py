"""Reconstructions of the same images, and samples, of several runs."""

import numpy as np
from matplotlib.figure import Figure

from vaelab.figures import Arrays
from vaelab.figures._sheet import sheet_figure

TITLE = "Side by side"
ORDER = 92
SECTION = "comparison"


def draw(arrays: Arrays) -> Figure:
    """Draw one run per row: reconstructions at the left, below the originals, and samples at the right."""
    originals, samples = arrays["originals"], arrays["samples"]
    paper = np.full((1, *samples.shape[1:]), 255, np.uint8)
    return sheet_figure(
        [np.concatenate([originals[None], arrays["reconstructions"]]), np.concatenate([paper, samples])],
        ["originals", *arrays["labels"]],
        [["held-out images and their reconstructions"], ["samples"]],
    )


def caption(arrays: Arrays) -> str:
    """Explain rows and columns."""
    sources = list(dict.fromkeys(arrays["sources"]))
    each = (f"{label}: {source}" for label, source in zip(arrays["labels"], arrays["sources"], strict=True))
    of = sources[0] if len(sources) == 1 else f"the sampler of each recipe ({'; '.join(each)})"
    return (
        f"Left: {len(arrays['originals'])} random held-out images and their reconstructions, one run per row. Right: "
        f"images decoded from samples of {of}. Not selected. Runs with the same sampler and number of latents have the "
        "same noise. The first seed of each recipe is shown."
    )
