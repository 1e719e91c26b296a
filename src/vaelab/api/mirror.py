"""The process that mirrors a run to one tracker: ``python -m vaelab.api.mirror NAME RUN``.

It follows the files of the run, and reads one line from stdin, how the training ended; an end of stdin means that the
training was killed. On stdout it reports one JSON object for each sentence that the user should see.
"""

import importlib.util
import json
import os
import queue
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vaelab.api.load import load
from vaelab.api.run_images import load_run_images
from vaelab.api.tracking import LATER
from vaelab.data.images import Images, drawable, spread_rows
from vaelab.evaluation.evaluate import load_codes
from vaelab.run import HISTORY, VALIDATION, Run
from vaelab.run.layout import TRACKERS
from vaelab.run.records import read_tracker_state
from vaelab.run.tables import Table
from vaelab.run.tail import Tail
from vaelab.system import registry
from vaelab.system.failures import describe_error
from vaelab.system.files import to_json, write_atomic
from vaelab.training.trackers import Embedding, End, TrackedRun, Tracker

LOOK_SECONDS = 1.0
"""Time between two looks at the files of the run."""
MAX_POINTS = 1000
"""Number of points of a training curve; a point is a mean over the batches since the previous one."""
MAX_CODES, THUMBNAIL, MAX_PIXELS = 5000, 64, 4_000_000
"""Images of an embedding, side of their thumbnails, and pixels of all thumbnails."""


class Mirror:
    """A run and its copy in a tracker."""

    def __init__(self, run: Run, name: str) -> None:
        self._run, self._path = run, run.path / TRACKERS / f"{name}.json"
        self._state = read_tracker_state(run.path, name) or {"id": secrets.token_hex(4), "step": 0, "complete": False}
        self._state["complete"] = False
        self._write()
        self._history, self._validation = Tail(run.path / HISTORY), Tail(run.path / VALIDATION)
        self._every = -(-max(1, run.machine.get("steps", 0)) // MAX_POINTS)
        sections = run.recipe.sections().items()
        recipe = {f"{section}.{key}": value for section, keys in sections for key, value in keys.items()}
        folder = run.path / TRACKERS / name
        self._tracker: Tracker = registry.load("trackers", name).Tracker(
            TrackedRun(self._state["id"], run.name, self._state["step"], folder, recipe)
        )
        self.place = self._tracker.place

    def _write(self) -> None:
        write_atomic(self._path, to_json(self._state))

    def update(self, *, is_over: bool = False) -> None:
        """Log what is new in the tables. Unless the training is over, the last batch may belong to a later point."""
        history, validation = self._history.read(), self._validation.read()  # in the order in which they are written
        try:
            for step, values in find_points(history, validation, self._state["step"], self._every, is_over=is_over):
                self._tracker.log(step, values)
                self._state["step"] = step
        finally:
            self._write()

    def finish(self) -> None:
        """Log the numbers, the figures and the embedding of a finished run."""
        step, run = self._state["step"], self._run
        self._tracker.log_results(step, find_results(run), run.figures)
        if self._tracker.takes_embedding:
            self._tracker.log_embedding(step, make_embedding(run))

    def close(self, end: End) -> None:
        """Close the mirror; a finished run need not be sent again."""
        self._tracker.close(end)
        self._state["complete"] = end == "finished"
        self._write()


def find_points(
    history: Table, validation: Table, after: int, every: int, *, is_over: bool
) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield (step, values) at each multiple of ``every`` and each validation after step ``after``.

    Terms of the training are means over the batches since the previous point, so that the points do not depend on when
    this function is called. The last batch is a point if the training is over.
    """
    if not history:
        return
    steps = history["step"].astype(int)
    last = int(steps[-1]) if is_over else int(steps[-1]) - 1  # a validation after the last batch may not be written yet
    validated = dict(zip(validation.get("step", np.empty(0)).astype(int).tolist(), range(len(steps)), strict=False))
    marks = {*range(every, last + 1, every), *validated, *([last] if is_over else [])}
    for mark in sorted(mark for mark in marks if after < mark <= last):
        rows = slice(*np.searchsorted(steps, [after, mark], side="right"))
        values = {
            f"train/{name}": float(history[name][rows].mean()) for name in history if name not in ("step", "epoch")
        }
        if mark in validated:
            row = {name: float(column[validated[mark]]) for name, column in validation.items()}
            values |= {f"validation/{name}": value for name, value in row.items() if _is_shown(name)}
        yield mark, {"epoch": float(history["epoch"][rows][-1]), **values}
        after = mark


def _is_shown(column: str) -> bool:
    """Return whether a column of validations is shown: not the KL of every single latent."""
    return column not in ("step", "epoch") and not (column.startswith("kl_") and column[3:].isdecimal())


def find_results(run: Run) -> dict[str, float]:
    """Return the final numbers of a run: final losses and every number of the evaluation."""
    found = {f"final/{name}": value for name, value in run.measured().items()}
    for metric, entry in run.evaluation.items():
        numbers = {key: value for key, value in entry.items() if isinstance(value, int | float)}
        found |= {f"evaluation/{metric}/{key}": float(value) for key, value in numbers.items()}
    return found


def make_embedding(run: Run) -> Embedding:
    """Return posterior means of held-out images, at most MAX_CODES of them, with thumbnails and labels."""
    images, model = load_run_images(run, None).valid, load(run.path)
    codes = load_codes(run, model, images).mean
    _, height, width = model.spec.image_shape
    scale = min(1.0, THUMBNAIL / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    rows = spread_rows(len(images), min(MAX_CODES, MAX_PIXELS // (size[0] * size[1])))
    chosen = images.take(rows)
    pixels = drawable(np.asarray(chosen.eight_bits[:]))
    return Embedding(codes[rows], pixels if scale == 1 else _shrink(pixels, size), _columns(chosen))


def _shrink(pixels: UInt8[np.ndarray, "n height width channel"], size: tuple[int, int]) -> UInt8[np.ndarray, "n h w c"]:
    shape = len(pixels), size[1], size[0], pixels.shape[3]
    pictures = (Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image) for image in pixels)
    return np.stack([np.asarray(picture.resize(size, Image.Resampling.BOX)) for picture in pictures]).reshape(shape)


def _columns(images: Images) -> dict[str, list[str]]:
    """Return label, attributes and factors of images as text."""
    columns: dict[str, list[str]] = {}
    if images.labels is not None:
        columns["label"] = [images.label_name(label) for label in images.labels.tolist()]
    for names, table in ((images.attribute_names, images.attributes), (images.factor_names, images.factors)):
        if table is not None:
            columns |= {name: [str(int(value)) for value in table[:, i]] for i, name in enumerate(names)}
    return columns


def main(name: str, run: Run, orders: "queue.Queue[str]", report: Callable[[str, bool], object]) -> None:
    """Mirror a run until an order says how its training ended; report sentences, and whether each is a warning."""
    try:
        mirror = Mirror(run, name)
        report(f"{name}: {mirror.place}", False)
        end: Any = None
        while end is None:
            mirror.update()
            try:
                end = orders.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue
        assert end in get_args(End), end
        mirror.update(is_over=end == "finished")
        if end == "finished":
            mirror.finish()
        mirror.close(end)
    except ImportError as error:
        is_own = importlib.util.find_spec(f"{registry.PACKAGES['trackers']}.{name}") is not None
        remedy = f"; pip install 'vaelab[{name}]'" if is_own else ""
        report(f"{name}: {error}{remedy}. The training continues", True)
    except Exception as error:
        report(f"{name}: {describe_error(error).rstrip('.')}. The training continues; {LATER}", True)


def _read_orders(orders: "queue.Queue[str]") -> None:
    orders.put(sys.stdin.readline().strip() or "stopped")


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # they are meant for the training, which saves and says so
        signal.signal(number, signal.SIG_IGN)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as reports:
        os.dup2(2, 1)  # packages print
        given: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_read_orders, args=(given,), daemon=True).start()
        main(
            sys.argv[1],
            Run(Path(sys.argv[2])),
            given,
            lambda text, warning: print(json.dumps({"text": text, "warning": warning}), file=reports, flush=True),
        )
