"""The weights of a run: those of the trained model, else those of the newest checkpoint."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from vaelab.run.checkpoints import Facts, Tensors
from vaelab.run.directory import Run
from vaelab.run.layout import MODEL
from vaelab.run.records import REMEDIES
from vaelab.system.files import DamagedFile, load_tensors

PREFIXES = ("vae.", "average.")
"""Prefixes of the model's tensors in a checkpoint, and of averages of its weights, which are used instead."""
CONDITION_ROWS = "condition_rows"
"""Name of the training images' conditions, which are no weights (``conditions.training_rows``)."""
ATTEMPTS = 5
"""Listings of checkpoints that are tried: a training run may replace all of them between a listing and the reading."""


@dataclass(frozen=True)
class Weights:
    """The tensors of a model and the facts of their file."""

    path: Path
    tensors: Tensors
    facts: Facts
    step: int | None = None
    """Step of the checkpoint; None for the model of a complete training."""


def read_weights(run: Run) -> Weights:
    """Return the weights of a run. From a checkpoint, the run's results then go to a directory of their own.

    Raises FileNotFoundError if there is neither a model nor a checkpoint, and DamagedFile if none can be read.
    """
    if run.is_trained or not run.checkpoints.paths:
        path = run.model_path
        tensors, facts = load_tensors(path, remedy=REMEDIES[MODEL])
        return Weights(path, tensors, facts)
    found = _read_newest(run)
    assert found.step is not None
    run.use_checkpoint(found.step, str(found.facts["sha256"]))
    return found


def _read_newest(run: Run) -> Weights:
    """Return the newest checkpoint that can be read; a training run may remove files meanwhile."""
    problem: Exception | None = None
    for _ in range(ATTEMPTS):
        for path in run.checkpoints.paths:
            try:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                tensors, facts = load_tensors(path)
            except (FileNotFoundError, DamagedFile) as error:
                problem = error
                continue
            step = facts.get("step")
            if "format" not in facts or CONDITION_ROWS not in tensors or not isinstance(step, int):
                raise DamagedFile(
                    path, "it is of an earlier version and holds no complete model", "resume the training"
                )
            own = {name.removeprefix(p): tensors[name] for p in PREFIXES for name in tensors if name.startswith(p)}
            own[CONDITION_ROWS] = tensors[CONDITION_ROWS]
            return Weights(path, own, {**facts, "sha256": digest}, step)
        if isinstance(problem, DamagedFile):
            break
    assert problem is not None
    raise problem


def describe_step(run: Run, step: int) -> str:
    """Return how far the training of an unfinished run is, such as "step 1,200 of 4,600; …"."""
    asked = run.machine.get("steps", 0)
    return f"step {step:,}{f' of {asked:,}' if asked else ''}; the training is not finished"
