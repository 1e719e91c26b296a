"""Draw the held-out ELBO during training of two runs whose results are in docs/results.

python benchmarks/likelihood_curves.py PNG NAME NAME
"""

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from plots import save

from vaelab.figures import BLUE, ORANGE, house_style

RESULTS = Path(__file__).parents[1] / "docs" / "results"
COLOURS = (BLUE, ORANGE)


def draw(runs: dict[str, Any]) -> Figure:
    """Draw −ELBO of held-out images over epochs, and −ln p(x) of the test images as a dashed line."""
    with house_style():
        figure = Figure(figsize=(9, 4))
        axes = figure.subplots()
        lowest = min(each["splits"]["test"]["nll"]["nll"] for each in runs.values())
        ends = [-each["validation"]["elbo"][-1] for each in runs.values()]
        for colour, (name, each) in zip(COLOURS, runs.items(), strict=True):
            validation, nll = each["validation"], each["splits"]["test"]["nll"]["nll"]
            bound = [-value for value in validation["elbo"]]
            axes.plot(validation["epoch"], bound, color=colour, linewidth=1.6, label=f"{name}: −ELBO, held out")
            axes.axhline(
                nll, color=colour, linewidth=1, linestyle="--", label=f"{name}: −ln p(x), test images, {nll:.2f}"
            )
        axes.set_ylim(lowest - 1, 2 * max(ends) - lowest)  # the upper half is for the legend
        axes.set_xlim(left=0)
        axes.set_xlabel("epoch")
        axes.set_ylabel("nats per image")
        axes.legend(loc="upper right", frameon=False)
        axes.set_title("Bound on −ln p(x) during training (lower is better)")
    return figure


def main() -> None:
    """Draw the curves of two runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("png", type=Path)
    parser.add_argument("names", nargs=2)
    args = parser.parse_args()
    runs = {name: json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")) for name in args.names}
    save(draw(runs), args.png)


if __name__ == "__main__":
    main()
