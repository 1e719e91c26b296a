"""Small picture files, their cache entries, and a log of progress that can interrupt the work."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.data.cache import CachedImages
from vaelab.data.containers import ImageRef
from vaelab.data.decode import ResizePolicy
from vaelab.data.picture_cache import PictureFiles, cache_pictures
from vaelab.data.pictures import encode_png
from vaelab.system.progress import Task

POLICY = ResizePolicy(9, 8, 1)
ROW_BYTES = 72


def picture(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (9, 8, 1), dtype=np.uint8)


def expected(numbers: Any) -> NDArray[np.uint8]:
    return np.stack([picture(i) for i in numbers])


def write_pictures(folder: Path, count: int) -> list[ImageRef]:
    folder.mkdir(exist_ok=True)
    for i in range(count):
        (folder / f"{i:03d}.png").write_bytes(encode_png(picture(i)))
    return [(str(folder), f"{i:03d}.png") for i in range(count)]


def make(items: list[ImageRef], key: str = "one", **options: Any) -> CachedImages:
    return cache_pictures("mine train", {"key": key}, lambda: PictureFiles(items, POLICY, **options))


def flip(path: Path, position: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class ProgressLog:
    """Records "label total" → units of each report; ``interrupt`` raises an error after some reports of a task."""

    def __init__(self) -> None:
        self.units: dict[str, list[int]] = {}
        self._done: dict[Task, int] = {}
        self._left, self._error = -1, BaseException()

    def interrupt(self, num_parts: int, error: BaseException) -> None:
        """Raise ``error`` after ``num_parts`` parts of the next caching."""
        self._left, self._error = num_parts + 1, error  # the first report counts what was done before

    def num_decoded(self) -> int:
        """Return how many pictures were decoded since the last call."""
        tasks = {label: units for label, units in self.units.items() if label.startswith(("caching", "checking"))}
        again = [sum(units) for label, units in tasks.items() if " again " in label]
        decoded = [sum(units[1:]) for label, units in tasks.items() if label.startswith("caching")]
        self.units.clear()
        return sum(again + decoded)

    def __call__(self, task: Task) -> None:
        """Record one change of a task."""
        units = self.units.setdefault(f"{task.label} {task.total}", [])
        if task.is_over:
            return
        before, self._done[task] = self._done.get(task), task.done
        if before is not None:
            units.append(task.done - before)
            self._left -= task.label.startswith("caching")
            if self._left == 0:
                raise self._error
