"""MLflow: the server or database at $MLFLOW_TRACKING_URI, ``mlflow.db`` in this folder by default."""

import os
from collections.abc import Mapping
from pathlib import Path

from vaelab.training import trackers
from vaelab.training.trackers import End, TrackedRun

TAG = "vaelab.id"
STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
MAX_PARAMETERS, MAX_LENGTH = 100, 6000
"""Parameters that one request may have, and characters of a value."""


class Tracker(trackers.Tracker):
    """A run, identified by a tag, in the experiment $MLFLOW_EXPERIMENT_NAME ("vaelab" by default)."""

    def __init__(self, run: TrackedRun) -> None:
        import mlflow
        from mlflow.entities import Metric, Param

        self._metric, self._client = Metric, mlflow.MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "vaelab")
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self._client.create_experiment(name)
        found = self._client.search_runs([number], f"tags.`{TAG}` = '{run.id}'")
        if found:
            self._id = found[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
        else:
            self._id = self._client.create_run(number, run_name=run.name, tags={TAG: run.id}).info.run_id
            parameters = [Param(key, str(value)[:MAX_LENGTH]) for key, value in run.recipe.items()]
            for start in range(0, len(parameters), MAX_PARAMETERS):
                self._client.log_batch(self._id, params=parameters[start : start + MAX_PARAMETERS])
        self.place = f"{mlflow.get_tracking_uri()}, experiment {name}, run {self._id}"

    def log(self, step: int, values: Mapping[str, float]) -> None:
        from time import time

        now = int(1000 * time())
        self._client.log_batch(self._id, [self._metric(name, value, now, step) for name, value in values.items()])

    def log_results(self, step: int, values: Mapping[str, float], figures: Mapping[str, Path]) -> None:
        self.log(step, values)
        for path in figures.values():
            self._client.log_artifact(self._id, str(path), "figures")

    def close(self, end: End) -> None:
        self._client.set_terminated(self._id, STATUS[end])
