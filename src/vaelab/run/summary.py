"""Summary numbers of a run."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.run.tables import Table


def summarise(history: Table, validation: Table, timing: Table, evaluation: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers that ``[expected]`` of a recipe may name.

    Means over epochs of the history, the last validation, −ln p(x) if it was measured, and the training time.
    """
    if not history:
        return {}
    epoch = history["epoch"]
    last = int(epoch[-1])

    def mean(name: str, chosen: NDArray[np.bool_]) -> float:
        return float(history[name][chosen].mean())

    found = {f"loss_epoch_{i}": mean("loss", epoch == i) for i in (1, 5, 10) if i <= last}
    if last >= 5:
        found["loss_last_five_epochs"] = mean("loss", epoch > last - 5)
    for term in (name for name in history if name not in ("step", "epoch")):
        found[f"{term}_last_epoch"] = mean(term, epoch == last)
    for term in ("loss", "reconstruction", "kl", "elbo"):
        if validation:
            found[f"held_out_{term}"] = float(validation[term][-1])
    if isinstance(nll := evaluation.get("nll", {}).get("nll"), int | float):
        found["nll"] = float(nll)
    if timing:
        found["seconds"] = float(timing["seconds"][-1])
    return found
