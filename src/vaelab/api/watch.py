"""``vaelab watch``: the content of the page that shows a run during training, from the files of the run."""

import time
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.api.load import load_with_recipe
from vaelab.api.run_images import load_run_images
from vaelab.data.arrays import as_eight_bits
from vaelab.data.pictures import encode_sheet
from vaelab.data.tensors import as_tensor, to_uint8
from vaelab.explorer.watching import Sheet
from vaelab.models import samplers
from vaelab.models.conditions import condition_of, parse_condition
from vaelab.run import HISTORY, REPORT, TIMING, VALIDATION, Run
from vaelab.run.tables import Table
from vaelab.run.tail import Tail
from vaelab.system.arguments import AnyPath
from vaelab.system.device import disable_tf32
from vaelab.system.noise import generator

MAX_POINTS = 120
"""Points of a curve: means over as many successive batches."""
NUM_SAMPLES, NUM_RECONSTRUCTIONS, COLUMNS = 32, 16, 8
TERMS = ("loss", "reconstruction", "kl")
RECENT = 20
"""Progress records over which the speed is measured."""


class Watched:
    """A view of a run that another process may be training; it only reads files of the run."""

    def __init__(self, run_path: AnyPath, data: str | Path | None = None) -> None:
        self._run, self._data = Run(run_path), data
        self._tails = {name: Tail(self._run.path / name) for name in (HISTORY, TIMING, VALIDATION)}
        self._reading, self._drawing = Lock(), Lock()
        self._held_out: Any = None
        self._sheets: tuple[int, dict[str, Sheet]] = (-1, {})

    def state(self) -> dict[str, Any]:
        """Return title, progress, time left and the step of the newest checkpoint."""
        run = self._run
        with self._reading:
            history, timing = self._tails[HISTORY].read(), self._tails[TIMING].read()
        machine = run.machine
        asked = int(machine.get("steps", 0))
        step = int(history["step"][-1]) if history else 0
        state = "finished" if run.is_finished else "completing" if run.is_trained else "training"
        return {
            "name": run.name,
            "path": str(run.path),
            "title": run.recipe.title,
            "state": state,
            "step": step,
            "steps": asked or step,
            "epoch": int(history["epoch"][-1]) if history else 0,
            "ended_at": machine.get("ended_at"),
            "seconds": float(timing["seconds"][-1]) if timing else 0.0,
            "left": None if state != "training" else _time_left(timing, asked),
            "quiet": _age(run.path / TIMING),
            "checkpoint": run.checkpoints.newest_step,
            "report": str(run.path / REPORT) if state == "finished" else None,
        }

    def curves(self) -> dict[str, dict[str, list[float]]]:
        """Return the terms of the loss by step: means over batches in training, and validations."""
        with self._reading:
            history, validation = self._tails[HISTORY].read(), self._tails[VALIDATION].read()
        return {"training": _bin(history), "held_out": _bin(validation)}

    def picture(self, name: str) -> Sheet | None:
        """Return the sheet of "samples" or of "reconstructions" of the newest checkpoint; None if there is none yet."""
        with self._drawing:
            newest = self._run.checkpoints.newest_step
            if newest != self._sheets[0] and (newest or self._run.is_trained):
                self._sheets = (newest, self._draw(newest))
        return self._sheets[1].get(name)

    def _draw(self, newest: int) -> dict[str, Sheet]:
        """Return the sheets of the current weights."""
        model, _ = load_with_recipe(self._run.path, _ignore)
        if self._held_out is None:
            self._held_out = load_run_images(self._run, self._data, _ignore).valid
        conditions = parse_condition(
            model.spec, None, NUM_SAMPLES, model.condition_rows, generator(0, "watch", "condition")
        )
        images = self._held_out.take(np.arange(min(NUM_RECONSTRUCTIONS, len(self._held_out))))
        with disable_tf32():
            sampler = samplers.make_sampler("prior", model, lambda: self._held_out)
            drawn = to_uint8(model.decode(sampler.sample(NUM_SAMPLES, generator(0, "watch")), conditions))
            pixels = np.asarray(images.pixels[:])
            rebuilt = to_uint8(model.reconstruct(as_tensor(pixels), condition_of(model.spec, images)))
        rows = [np.concatenate(pair) for pair in zip(_rows(as_eight_bits(pixels)), _rows(rebuilt), strict=True)]
        sheets = {"samples": drawn, "reconstructions": np.concatenate(rows)}
        return {
            name: Sheet(newest, encode_sheet(each, COLUMNS, gap=0), COLUMNS, -(-len(each) // COLUMNS))
            for name, each in sheets.items()
        }


def watch(run_path: AnyPath, *, data: str | Path | None = None) -> Watched:
    """Return a view of a run during training: its state, its curves, and images from its checkpoints.

    The command ``vaelab watch`` serves it as a page. Raises FileNotFoundError if there is no run.
    """
    return Watched(run_path, data)


def _ignore(_sentence: str) -> None:
    """Ignore messages that the page need not repeat."""


def _rows(pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Return rows of COLUMNS images; an incomplete last row is left out unless it is the only one."""
    whole = len(pixels) // COLUMNS * COLUMNS or len(pixels)
    return [pixels[i : i + COLUMNS] for i in range(0, whole, COLUMNS)]


def _time_left(timing: Table, steps: int) -> float | None:
    """Return the seconds that the rest of the training takes at its recent speed; None if that is not known."""
    if not timing or not steps or len(timing["step"]) < 2:
        return None
    step, seconds = timing["step"][-RECENT:], timing["seconds"][-RECENT:]
    done, took = step[-1] - step[0], seconds[-1] - seconds[0]
    return float((steps - step[-1]) * took / done) if done > 0 and took > 0 else None


def _age(path: Path) -> float | None:
    """Return the seconds since a file was written; None if there is no file."""
    with suppress(OSError):
        return max(0.0, time.time() - path.stat().st_mtime)
    return None


def _bin(table: Table) -> dict[str, list[float]]:
    """Return the terms of a table, averaged over successive rows to at most MAX_POINTS points."""
    if not table:
        return {"step": [], **{term: [] for term in TERMS}}
    count = len(table["step"])
    edges = np.unique(np.linspace(0, count, min(count, MAX_POINTS) + 1).astype(int))
    sizes = np.diff(edges)
    return {
        "step": table["step"][edges[1:] - 1].tolist(),
        **{term: (np.add.reduceat(table[term], edges[:-1]) / sizes).tolist() for term in TERMS if term in table},
    }
