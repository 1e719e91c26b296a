"""Summary numbers of a run."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.run.tables import Table


def closing_length(epochs: NDArray[np.float64], steps_per_epoch: int = 0) -> int:
    """Return the number of last batches over which the final losses of a run are means.

    It is an epoch's number of batches, which show each image about once, but at most a tenth of all: the weights
    change too much over a longer part. ``epochs``: the epoch of each batch. ``steps_per_epoch``: 0 if it is not known.
    """
    tenth = -(-len(epochs) // 10)
    return min(tenth, _epoch_length(epochs, steps_per_epoch) or tenth)


def describe_closing(epochs: NDArray[np.float64], steps_per_epoch: int = 0) -> str:
    """Return the part of training over which the final losses are means, such as "the last epoch"."""
    length = closing_length(epochs, steps_per_epoch)
    if length == _epoch_length(epochs, steps_per_epoch) and length == np.count_nonzero(epochs == epochs[-1]):
        return "the last epoch"
    return "the last batch" if length == 1 else f"the last {length:,} batches"


def _epoch_length(epochs: NDArray[np.float64], steps_per_epoch: int) -> int:
    """Return the number of batches in an epoch; 0 if it is not known because no epoch was completed."""
    return steps_per_epoch or (int(np.count_nonzero(epochs == epochs[0])) if epochs[-1] > epochs[0] else 0)


def summarise(
    history: Table,
    validation: Table,
    timing: Table,
    evaluation: Mapping[str, Any],
    steps_per_epoch: int = 0,
    best_step: int | None = None,
) -> dict[str, float]:
    """Return the numbers that ``[expected]`` of a recipe may name.

    Means over complete epochs, over the last batches (``closing_length``), the validation of ``best_step`` or else the
    last one, −ln p(x) if it was measured, and the training time.
    """
    if not history:
        return {}
    epoch, loss = history["epoch"], history["loss"]
    length, closing = _epoch_length(epoch, steps_per_epoch), closing_length(epoch, steps_per_epoch)
    complete = len(epoch) // length if length else 0
    found = {f"loss_epoch_{i}": float(loss[epoch == i].mean()) for i in (1, 5, 10) if i <= complete}
    if complete >= 5:
        found["loss_last_five_epochs"] = float(loss[-5 * length :].mean())
    for term in (name for name in history if name not in ("step", "epoch")):
        found[f"{term}_at_end"] = float(history[term][-closing:].mean())
    for term in ("loss", "reconstruction", "kl", "elbo"):
        if validation:
            best = np.flatnonzero(validation["step"] == best_step)
            found[f"held_out_{term}"] = float(validation[term][best[-1] if len(best) else -1])
    if isinstance(nll := evaluation.get("nll", {}).get("nll"), int | float):
        found["nll"] = float(nll)
    if timing:
        found["seconds"] = float(timing["seconds"][-1])
    return found
