"""Trackio: a local database ($TRACKIO_DIR), or a Space of the Hugging Face hub ($TRACKIO_SPACE_ID)."""

from collections.abc import Mapping
from pathlib import Path

from vaelab.training import trackers
from vaelab.training.trackers import End, TrackedRun

PROJECT = "vaelab"


class Tracker(trackers.Tracker):
    """A run in the project "vaelab". Trackio finds runs by name, so the name ends with the identifier."""

    def __init__(self, run: TrackedRun) -> None:
        import trackio

        self._trackio = trackio
        self._run = trackio.init(
            project=PROJECT,
            name=f"{run.name}-{run.id}",
            config=dict(run.recipe),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        self.place = f"trackio show --project {PROJECT}"

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def log_results(self, step: int, values: Mapping[str, float], figures: Mapping[str, Path]) -> None:
        pictures = {f"figures/{name}": self._trackio.Image(str(path)) for name, path in figures.items()}
        self._run.log({**values, **pictures}, step=step)

    def close(self, end: End) -> None:
        self._run.finish()
