"""TensorBoard: event files in the run; the projector shows codes with their images."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vaelab.data.tensors import to_float
from vaelab.recipe import toml_value
from vaelab.training import trackers
from vaelab.training.trackers import Embedding, End, TrackedRun


class Tracker(trackers.Tracker):
    """Event files of ``torch.utils.tensorboard``."""

    takes_embedding = True

    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # what a killed process wrote after the last step that is known is written again, and hidden by purge_step
        self._writer = SummaryWriter(str(run.folder), purge_step=run.step + 1 if run.step else None)
        self.place = f"tensorboard --logdir {run.folder}"
        if not run.step:
            rows = [f"| {key} | `{toml_value(value)}` |" for key, value in run.recipe.items() if value is not None]
            self._writer.add_text("recipe", "\n".join(["| key | value |", "|---|---|", *rows]))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def log_results(self, step: int, values: Mapping[str, float], figures: Mapping[str, Path]) -> None:
        self.log(step, values)
        for name, path in figures.items():
            with Image.open(path) as picture:
                self._writer.add_image(f"figures/{name}", np.asarray(picture.convert("RGB")), step, dataformats="HWC")

    def log_embedding(self, step: int, embedding: Embedding) -> None:
        names, columns = list(embedding.columns), list(embedding.columns.values())
        is_table = len(columns) > 1  # a single column has no header
        self._writer.add_embedding(
            torch.from_numpy(embedding.codes),
            metadata=list(zip(*columns, strict=True)) if is_table else next(iter(columns), None),
            metadata_header=names if is_table else None,
            label_img=to_float(torch.from_numpy(embedding.thumbnails)),
            global_step=step,
            tag="codes",
        )

    def close(self, end: End) -> None:
        self._writer.close()
