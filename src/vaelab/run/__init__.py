"""A run's directory: file names, records, tables, checkpoints, the lock."""

from vaelab.run.directory import OtherRecipe, Run
from vaelab.run.layout import (
    CACHE,
    EVALUATION,
    FINDINGS,
    HISTORY,
    IMAGES,
    LOG,
    MACHINE,
    MODEL,
    RECIPE,
    REPORT,
    SAMPLER,
    TIMING,
    VALIDATION,
)
from vaelab.run.lock import RunInUse, RunRemoved

__all__ = [
    "CACHE", "EVALUATION", "FINDINGS", "HISTORY", "IMAGES", "LOG", "MACHINE", "MODEL", "RECIPE", "REPORT", "SAMPLER",
    "TIMING", "VALIDATION", "OtherRecipe", "Run", "RunInUse", "RunRemoved",
]  # fmt: skip
