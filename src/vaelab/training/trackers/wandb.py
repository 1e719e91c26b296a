"""Weights & Biases: online, or offline with WANDB_MODE=offline and ``wandb sync`` later."""

import os
from collections.abc import Mapping
from pathlib import Path

from vaelab.training import trackers
from vaelab.training.trackers import End, TrackedRun


class Tracker(trackers.Tracker):
    """A run in the project $WANDB_PROJECT ("vaelab" by default)."""

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        self._wandb = wandb
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "vaelab"),
            id=run.id,
            name=run.name,
            config=dict(run.recipe),
            resume="allow",
            dir=os.environ.get("WANDB_DIR", str(run.folder.parent)),  # wandb adds its own name
            settings=wandb.Settings(silent=True, console="off"),
        )
        self.place = f"wandb sync {self._run.settings.sync_dir}" if self._run.offline else str(self._run.url)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def log_results(self, step: int, values: Mapping[str, float], figures: Mapping[str, Path]) -> None:
        self._run.summary.update(values)
        pictures = {f"figures/{name}": self._wandb.Image(str(path)) for name, path in figures.items()}
        self._run.log(pictures, step=step)

    def close(self, end: End) -> None:
        self._run.finish(exit_code=0 if end == "finished" else 1)
