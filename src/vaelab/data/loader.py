"""Batches: the order in which a training set is seen, and where its pixels wait until then."""

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from vaelab.data.arrays import PixelArray
from vaelab.data.blocks import BlockReader
from vaelab.data.images import Batch, Images, as_tensor
from vaelab.system.device import available_memory
from vaelab.system.distributed import Ranks, Shard
from vaelab.system.seeds import derive_seed

BLOCK_BYTES = 1 << 20
"""Of pixels that lie together and are read together where a set is larger than memory: a disk wants no less."""
FEWEST_BLOCKS = 16
"""In a window, however small it is."""
AHEAD = 4
"""Batches that wait in pinned memory for an accelerator that cannot hold the set."""
COPIED_BYTES = 1 << 26
"""On their way to an accelerator at a time."""
ALONE = Ranks()
Choose = Callable[[NDArray[np.int64]], NDArray[np.bool_]]
"""Positions in an epoch → which of them are wanted."""


class Shuffle:
    """The order of an epoch, a pure function of (seed, epoch); every epoch has another.

    Without a ``window`` it is a permutation of all images. With one, blocks of neighbouring images are permuted, as
    many of them as hold ``window`` images are taken at a time, and their images permuted: what is read together is in
    memory together.
    """

    def __init__(self, num_images: int, seed: int, window: int = 0, row_bytes: int = 1) -> None:
        window = window if window < num_images else 0
        self.num_images = num_images
        self._seed = seed
        self.block_rows = max(1, min(BLOCK_BYTES // row_bytes, window // FEWEST_BLOCKS)) if window else num_images
        num_blocks = -(-num_images // self.block_rows)
        self._blocks_per_window = max(1, window // self.block_rows) if window else num_blocks
        self.num_windows = -(-num_blocks // self._blocks_per_window)
        self._num_blocks = num_blocks
        self._shuffled: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def _random(self, *purpose: object) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=derive_seed(self._seed, "order", *purpose)))

    def _shuffled_blocks(self, epoch: int) -> NDArray[np.int64]:
        shuffled = self._shuffled  # another thread may put another epoch there
        if shuffled[0] != epoch:
            self._shuffled = shuffled = (epoch, self._random(epoch, "blocks").permutation(self._num_blocks))
        return shuffled[1]

    def blocks(self, epoch: int, window: int) -> NDArray[np.int64]:
        """The blocks of one window, ascending, as they are best read."""
        start = window * self._blocks_per_window
        return np.sort(self._shuffled_blocks(epoch)[start : start + self._blocks_per_window])

    def rows(self, epoch: int, window: int) -> NDArray[np.int64]:
        """The images of one window in the order in which they are seen."""
        if self.num_windows == 1:
            return self._random(epoch).permutation(self.num_images)
        starts = self.blocks(epoch, window) * self.block_rows
        rows = (starts[:, None] + np.arange(self.block_rows)).ravel()
        return self._random(epoch, window).permutation(rows[rows < self.num_images])

    def starts(self, epoch: int) -> NDArray[np.int64]:
        """The position in the epoch at which each window begins, and the number of images at the end."""
        if self.num_windows == 1:
            return np.array([0, self.num_images])
        last = self._num_blocks - 1
        missing = self._num_blocks * self.block_rows - self.num_images
        sizes = np.full(self.num_windows, self._blocks_per_window * self.block_rows)
        sizes[-1] = (self._num_blocks - (self.num_windows - 1) * self._blocks_per_window) * self.block_rows
        place = int(np.argmax(self._shuffled_blocks(epoch) == last))
        sizes[place // self._blocks_per_window] -= missing
        return np.concatenate([[0], np.cumsum(sizes)])


@dataclass(frozen=True)
class RawBatch:
    """Pixels of a batch as they are stored, and which images they are."""

    pixels: UInt8[Tensor, "batch height width channel"]
    index: Int[Tensor, " batch"]
    """Rows of the training set."""

    def to(self, device: torch.device) -> "RawBatch":
        """The batch on a device; from pinned memory without waiting for the copy."""
        return RawBatch(self.pixels.to(device, non_blocking=True), self.index.to(device, non_blocking=True))


class Batches:
    """Step → batch, a pure function of (seed, step); the last, smaller batch of an epoch is used too.

    Pixels stay where they are, in memory or in a memory map; to an accelerator they are copied whole where they leave
    ``reserve`` bytes free there, else a few batches ahead. With a ``window`` (see ``Order``) a set larger than memory
    is read from the disk window by window, the next one while the present one is trained on. Of several ranks each gets
    its share of every batch.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        seed: int,
        device: torch.device,
        *,
        window: int = 0,
        ranks: Ranks = ALONE,
        reserve: int = 0,
    ) -> None:
        self.num_images = len(images)
        self.batch_size = batch_size
        self.steps_per_epoch = -(-len(images) // batch_size)
        self._array, self._device, self._ranks = images.pixels, device, ranks
        self._order = Shuffle(len(images), seed, window, math.prod(images.pixels.shape[1:]))
        self._cached: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))
        is_windowed = self._order.num_windows > 1
        reader = BlockReader(images.pixels, forgets=ranks.size == 1) if is_windowed else None
        self._windows = _Windows(reader, self._order, self._own) if reader is not None else None
        fits = device.type == "cuda" and _bytes(images.pixels) + reserve < torch.cuda.mem_get_info(device)[0]
        self.resident = _copy_to(device, images.pixels) if fits else None
        """All pixels on the device, where they fit."""
        self._ahead = _Prefetcher(self._pinned) if device.type == "cuda" and not fits else None
        self._labels, self._attributes = (
            None if column is None else as_tensor(np.asarray(column)).to(device)
            for column in (images.labels, images.attributes)
        )

    def epoch(self, step: int) -> int:
        """The epoch of ``step``, both counted from 0."""
        return step // self.steps_per_epoch

    def share(self, step: int) -> Shard:
        """Which rows of the batch of ``step`` are this rank's."""
        start = step % self.steps_per_epoch * self.batch_size
        return self._ranks.share(min(self.batch_size, self.num_images - start))

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Indices of all images in the order of ``epoch``."""
        if self._cached[0] != epoch:
            windows = range(self._order.num_windows)
            self._cached = (epoch, np.concatenate([self._order.rows(epoch, window) for window in windows]))
        return self._cached[1]

    def batch(self, step: int) -> RawBatch:
        """This rank's part of the batch of ``step``, counted from 0; one black image where it has none."""
        if self.resident is None:
            return self.host_batch(step).to(self._device)
        index = torch.from_numpy(self.indices(step)).to(self._device)
        return RawBatch(self.resident[index], index)

    def host_batch(self, step: int) -> RawBatch:
        """The same in host memory: pinned for an accelerator."""
        return self._gather(step) if self._ahead is None else self._ahead.get(step)

    def complete(self, x: Float[Tensor, "batch channel height width"], index: Int[Tensor, " batch"]) -> Batch:
        """The batch as the model sees it: floats with the labels and attributes of their rows."""
        labels, attributes = (None if c is None else c[index] for c in (self._labels, self._attributes))
        return Batch(x, index, labels, attributes)

    def close(self) -> None:
        """Make nothing more ahead."""
        for ahead in (self._ahead, self._windows):
            if ahead is not None:
                ahead.pool.shutdown(wait=False, cancel_futures=True)

    def indices(self, step: int) -> NDArray[np.int64]:
        """Which images this rank's part of the batch holds."""
        start, stop = self._positions(step)
        return self.order(self.epoch(step))[start:stop]

    def _positions(self, step: int) -> tuple[int, int]:
        share, start = self.share(step), step % self.steps_per_epoch * self.batch_size
        return start + share.start, start + share.stop

    def _own(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which positions of an epoch are this rank's."""
        within, last = positions % self.batch_size, self.steps_per_epoch - 1
        whole, rest = self._ranks.share(self.batch_size), self.share(last)
        is_last = positions >= last * self.batch_size
        start, stop = np.where(is_last, rest.start, whole.start), np.where(is_last, rest.stop, whole.stop)
        return (within >= start) & (within < stop)

    def _gather(self, step: int) -> RawBatch:
        start, stop = self._positions(step)
        if start == stop:
            return RawBatch(
                torch.zeros(1, *self._array.shape[1:], dtype=torch.uint8), torch.zeros(1, dtype=torch.int64)
            )
        if self._windows is not None:
            rows, pixels = self._windows.read(self.epoch(step), start, stop)
        else:
            rows = self.indices(step)
            pixels = self._array[rows]
        return RawBatch(as_tensor(pixels), as_tensor(rows))

    def _pinned(self, step: int) -> RawBatch:
        batch = self._gather(step)
        return RawBatch(batch.pixels.pin_memory(), batch.index.pin_memory())


class _Prefetcher:
    """Batches made by another thread a few steps before they are wanted."""

    def __init__(self, make: Callable[[int], RawBatch]) -> None:
        self._make, self.pool = make, ThreadPoolExecutor(1, "batches")
        self._coming: dict[int, Future[RawBatch]] = {}

    def get(self, step: int) -> RawBatch:
        """The batch of ``step``; it is fastest one step after the other."""
        wanted = range(step, step + AHEAD)
        self._coming = {s: self._coming[s] if s in self._coming else self.pool.submit(self._make, s) for s in wanted}
        return self._coming[step].result()


class _Window(NamedTuple):
    """A rank's part of one window, positions ascending."""

    positions: NDArray[np.int64]
    """In the epoch."""
    rows: NDArray[np.int64]
    pixels: NDArray[np.uint8]


class _Windows:
    """The images of an epoch in its order, read from the disk window by window, the next one ahead."""

    def __init__(
        self, reader: BlockReader, order: Shuffle, own: Callable[[NDArray[np.int64]], NDArray[np.bool_]]
    ) -> None:
        self._reader, self._shape = reader, reader.shape[1:]
        self._order, self._own = order, own
        self.pool = ThreadPoolExecutor(1, "windows")
        self._held: dict[tuple[int, int], Future[_Window]] = {}
        self._starts: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def read(self, epoch: int, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Rows and pixels of the images at positions ``start`` to ``stop`` of an epoch."""
        if self._starts[0] != epoch:
            self._starts = (epoch, self._order.starts(epoch))
        starts = self._starts[1]
        rows, pixels = [], []
        while start < stop:
            number = int(np.searchsorted(starts, start, side="right")) - 1
            window = self._window(epoch, number)
            end = min(stop, int(starts[number + 1]))
            first = int(np.searchsorted(window.positions, start))
            rows.append(window.rows[first : first + end - start])
            pixels.append(window.pixels[first : first + end - start])
            start = end
        return (rows[0], pixels[0]) if len(rows) == 1 else (np.concatenate(rows), np.concatenate(pixels))

    def _window(self, epoch: int, window: int) -> _Window:
        after = (epoch, window + 1) if window + 1 < self._order.num_windows else (epoch + 1, 0)
        wanted = [(epoch, window), after]
        self._held = {key: future for key, future in self._held.items() if key in wanted}
        for key in wanted:
            if key not in self._held:
                self._held[key] = self.pool.submit(self._load, *key)
        return self._held[wanted[0]].result()

    def _load(self, epoch: int, window: int) -> _Window:
        """This rank's part of one window."""
        rows = self._order.rows(epoch, window)
        positions = int(self._order.starts(epoch)[window]) + np.arange(len(rows))
        chosen = self._own(positions)
        rows, positions = rows[chosen], positions[chosen]
        pixels = np.empty((len(rows), *self._shape), np.uint8)
        block_pixels = np.empty((self._order.block_rows, *self._shape), np.uint8)
        by_row = np.argsort(rows)
        for block in self._order.blocks(epoch, window):
            start = int(block) * self._order.block_rows
            stop = min(start + self._order.block_rows, self._order.num_images)
            first, last = np.searchsorted(rows[by_row], [start, stop])
            targets = by_row[first:last]
            self._reader.read(start, stop, block_pixels)
            pixels[targets] = block_pixels[rows[targets] - start]
        return _Window(positions, rows, pixels)


def suitable_window(pixels: PixelArray) -> int:
    """How many images to shuffle at a time: 0 for all of them, where they are in memory or fit into what is free.

    They may take three quarters of it: a map needs the page cache alone. Of a larger set, as many as an eighth of the
    free memory holds; two such windows are in memory at any time.
    """
    if isinstance(pixels, np.ndarray) and not isinstance(pixels, np.memmap):
        return 0
    free = available_memory()
    return 0 if _bytes(pixels) <= free * 3 // 4 else max(1, free // 8 // math.prod(pixels.shape[1:]))


def _copy_to(device: torch.device, pixels: PixelArray) -> Tensor:
    """All pixels on a device, block by block: a map larger than the memory of the host may fit there."""
    copied = torch.empty(tuple(pixels.shape), dtype=torch.uint8, device=device)
    step = max(1, COPIED_BYTES // math.prod(pixels.shape[1:]))
    for start in range(0, len(pixels), step):
        copied[start : start + step] = as_tensor(pixels[start : start + step])
    return copied


def _bytes(pixels: Any) -> int:
    return math.prod(pixels.shape)
