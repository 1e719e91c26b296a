"""Batches of a training set: the order in which images are seen, and where their pixels wait until then."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Real
from numpy.typing import NDArray
from torch import Tensor

from vaelab.data.arrays import PixelArray, row_bytes
from vaelab.data.blocks import BlockReader
from vaelab.data.images import Images
from vaelab.data.tensors import Batch, as_tensor
from vaelab.system.distributed import ProcessGroup, Shard
from vaelab.system.machine import available_memory
from vaelab.system.seeds import derive_seed

BLOCK_BYTES = 1 << 20
"""Block size of out-of-core reads; smaller ones are seek-bound."""
MIN_BLOCKS = 16
"""Blocks in a shuffle buffer, however small it is."""
PREFETCHED = 4
"""Batches that wait in pinned memory for an accelerator that cannot hold the set."""
COPY_BYTES = 1 << 26
"""Size of the pieces in which a set is copied to an accelerator."""
SINGLE_PROCESS = ProcessGroup()
Select = Callable[[NDArray[np.int64]], NDArray[np.bool_]]
"""Positions in an epoch → mask of those that are wanted."""


class Shuffle:
    """The order of each epoch, a pure function of (seed, epoch).

    Without a ``buffer`` it is a permutation of all images. With one, blocks of neighbouring images are permuted; as
    many blocks as hold ``buffer`` images fill the buffer, and the images within it are permuted. Images that are read
    together are in memory together.
    """

    def __init__(self, num_images: int, seed: int, buffer: int = 0, row_bytes: int = 1) -> None:
        buffer = buffer if buffer < num_images else 0
        self.num_images = num_images
        self._seed = seed
        self.block_rows = max(1, min(BLOCK_BYTES // row_bytes, buffer // MIN_BLOCKS)) if buffer else num_images
        num_blocks = -(-num_images // self.block_rows)
        self._blocks_per_buffer = max(1, buffer // self.block_rows) if buffer else num_blocks
        self.num_buffers = -(-num_blocks // self._blocks_per_buffer)
        """Number of times that the buffer is filled in an epoch."""
        self._num_blocks = num_blocks
        self._shuffled: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def _random(self, *purpose: object) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=derive_seed(self._seed, "order", *purpose)))

    def _shuffled_blocks(self, epoch: int) -> NDArray[np.int64]:
        shuffled = self._shuffled  # another thread may replace it
        if shuffled[0] != epoch:
            self._shuffled = shuffled = (epoch, self._random(epoch, "blocks").permutation(self._num_blocks))
        return shuffled[1]

    def blocks(self, epoch: int, buffer: int) -> NDArray[np.int64]:
        """Return the blocks of one buffer, ascending, which is the fastest order to read them in."""
        start = buffer * self._blocks_per_buffer
        return np.sort(self._shuffled_blocks(epoch)[start : start + self._blocks_per_buffer])

    def rows(self, epoch: int, buffer: int) -> NDArray[np.int64]:
        """Return the images of one buffer in the order in which they are seen."""
        if self.num_buffers == 1:
            return self._random(epoch).permutation(self.num_images)
        starts = self.blocks(epoch, buffer) * self.block_rows
        rows = (starts[:, None] + np.arange(self.block_rows)).ravel()
        return self._random(epoch, buffer).permutation(rows[rows < self.num_images])

    def starts(self, epoch: int) -> NDArray[np.int64]:
        """Return the position in the epoch at which each buffer begins, followed by the number of images."""
        if self.num_buffers == 1:
            return np.array([0, self.num_images])
        last = self._num_blocks - 1
        missing = self._num_blocks * self.block_rows - self.num_images
        sizes = np.full(self.num_buffers, self._blocks_per_buffer * self.block_rows)
        sizes[-1] = (self._num_blocks - (self.num_buffers - 1) * self._blocks_per_buffer) * self.block_rows
        place = int(np.argmax(self._shuffled_blocks(epoch) == last))
        sizes[place // self._blocks_per_buffer] -= missing
        return np.concatenate([[0], np.cumsum(sizes)])


@dataclass(frozen=True)
class RawBatch:
    """Pixels of a batch as they are stored, and the rows of the training set that they come from."""

    pixels: Real[Tensor, "batch height width channel"]
    index: Int[Tensor, " batch"]

    def to(self, device: torch.device) -> "RawBatch":
        """Return the batch on a device, for CUDA copied asynchronously from pinned memory."""
        is_pinned = device.type == "cuda"
        return RawBatch(self.pixels.to(device, non_blocking=is_pinned), self.index.to(device, non_blocking=is_pinned))


class Batches:
    """Step → batch, a pure function of (seed, step); the last, smaller batch of an epoch is used too.

    Pixels stay in memory or in a memory map. For an accelerator the whole set is copied there if that leaves
    ``reserve`` bytes free, else a few batches ahead. With a ``shuffle_buffer`` (see ``Shuffle``) a set larger than
    memory is read from the disk buffer by buffer, the next one while the present one is trained on. Each rank gets its
    shard of every batch.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        seed: int,
        device: torch.device,
        *,
        shuffle_buffer: int = 0,
        group: ProcessGroup = SINGLE_PROCESS,
        reserve: int = 0,
    ) -> None:
        self.num_images = len(images)
        self.batch_size = batch_size
        self.steps_per_epoch = -(-len(images) // batch_size)
        self._array, self._device, self._group = images.pixels, device, group
        shuffle_buffer = shuffle_buffer if images.pixels.dtype == np.uint8 else 0  # others are read row by row
        self._order = Shuffle(len(images), seed, shuffle_buffer, row_bytes(images.pixels))
        self._memoised: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))
        self._buffers: _ShuffleBuffers | None = None
        if self._order.num_buffers > 1:
            reader = BlockReader(images.pixels, keep_cached=group.world_size > 1)
            self._buffers = _ShuffleBuffers(reader, self._order, self._is_own)
        size = len(images) * row_bytes(images.pixels)
        fits = device.type == "cuda" and size + reserve < torch.cuda.mem_get_info(device)[0]
        self.resident = _copy_to(device, images.pixels) if fits else None
        """All pixels on the device; None if they do not fit."""
        self._prefetcher = _Prefetcher(self._pinned) if device.type == "cuda" and not fits else None
        self._labels, self._attributes = (
            None if column is None else as_tensor(np.asarray(column)).to(device)
            for column in (images.labels, images.attributes)
        )

    def epoch(self, step: int) -> int:
        """Return the epoch of ``step``, both counted from 0."""
        return step // self.steps_per_epoch

    def shard(self, step: int) -> Shard:
        """Return this rank's shard of the batch of ``step``."""
        start = step % self.steps_per_epoch * self.batch_size
        return self._group.shard(min(self.batch_size, self.num_images - start))

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the rows of all images in the order of ``epoch``."""
        if self._memoised[0] != epoch:
            buffers = range(self._order.num_buffers)
            self._memoised = (epoch, np.concatenate([self._order.rows(epoch, buffer) for buffer in buffers]))
        return self._memoised[1]

    def batch(self, step: int) -> RawBatch:
        """Return this rank's shard of the batch of ``step``, counted from 0; one black image if its shard is empty."""
        if self.resident is None:
            return self.host_batch(step).to(self._device)
        index = torch.from_numpy(self.indices(step)).to(self._device)
        if self.resident.dtype == torch.uint16:  # which torch does not index on every device
            return RawBatch(self.resident.view(torch.int16)[index].view(torch.uint16), index)
        return RawBatch(self.resident[index], index)

    def host_batch(self, step: int) -> RawBatch:
        """Return the same in host memory, pinned for an accelerator."""
        return self._gather(step) if self._prefetcher is None else self._prefetcher.get(step)

    def complete(self, x: Float[Tensor, "batch channel height width"], index: Int[Tensor, " batch"]) -> Batch:
        """Add the labels and attributes of the rows ``index`` to their images."""
        labels, attributes = (None if c is None else c[index] for c in (self._labels, self._attributes))
        return Batch(x, index, labels, attributes)

    def close(self) -> None:
        """Stop the threads that read ahead."""
        for reader in (self._prefetcher, self._buffers):
            if reader is not None:
                reader.pool.shutdown(wait=False, cancel_futures=True)

    def indices(self, step: int) -> NDArray[np.int64]:
        """Return the rows of this rank's shard of the batch of ``step``."""
        start, stop = self._positions(step)
        return self.order(self.epoch(step))[start:stop]

    def _positions(self, step: int) -> tuple[int, int]:
        shard, start = self.shard(step), step % self.steps_per_epoch * self.batch_size
        return start + shard.start, start + shard.stop

    def _is_own(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return a mask of the positions of an epoch that are this rank's."""
        within, last = positions % self.batch_size, self.steps_per_epoch - 1
        whole, rest = self._group.shard(self.batch_size), self.shard(last)
        is_last = positions >= last * self.batch_size
        start, stop = np.where(is_last, rest.start, whole.start), np.where(is_last, rest.stop, whole.stop)
        return (within >= start) & (within < stop)

    def _gather(self, step: int) -> RawBatch:
        start, stop = self._positions(step)
        if start == stop:
            return RawBatch(
                torch.zeros(1, *self._array.shape[1:], dtype=as_tensor(self._array[:0]).dtype),
                torch.zeros(1, dtype=torch.int64),
            )
        if self._buffers is not None:
            rows, pixels = self._buffers.read(self.epoch(step), start, stop)
        else:
            rows = self.indices(step)
            pixels = self._array[rows]
        return RawBatch(as_tensor(pixels), as_tensor(rows))

    def _pinned(self, step: int) -> RawBatch:
        batch = self._gather(step)
        return RawBatch(batch.pixels.pin_memory(), batch.index.pin_memory())


class _Prefetcher:
    """Makes batches in another thread a few steps before they are wanted."""

    def __init__(self, make: Callable[[int], RawBatch]) -> None:
        self._make, self.pool = make, ThreadPoolExecutor(1, "batches")
        self._coming: dict[int, Future[RawBatch]] = {}

    def get(self, step: int) -> RawBatch:
        """Return the batch of ``step``; successive steps are fastest."""
        wanted = range(step, step + PREFETCHED)
        self._coming = {s: self._coming[s] if s in self._coming else self.pool.submit(self._make, s) for s in wanted}
        return self._coming[step].result()


class _Buffer(NamedTuple):
    """A rank's images of one shuffle buffer, by ascending position in the epoch."""

    positions: NDArray[np.int64]
    rows: NDArray[np.int64]
    pixels: NDArray[np.uint8]


class _ShuffleBuffers:
    """Reads the images of an epoch in its order, buffer by buffer, the next one ahead."""

    def __init__(self, reader: BlockReader, order: Shuffle, is_own: Select) -> None:
        self._reader, self._shape = reader, reader.shape[1:]
        self._order, self._is_own = order, is_own
        self.pool = ThreadPoolExecutor(1, "shuffle buffers")
        self._held: dict[tuple[int, int], Future[_Buffer]] = {}
        self._starts: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def read(self, epoch: int, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return rows and pixels of the images at positions ``start`` to ``stop`` of an epoch."""
        if self._starts[0] != epoch:
            self._starts = (epoch, self._order.starts(epoch))
        starts = self._starts[1]
        rows, pixels = [], []
        while start < stop:
            number = int(np.searchsorted(starts, start, side="right")) - 1
            buffer = self._get(epoch, number)
            end = min(stop, int(starts[number + 1]))
            first = int(np.searchsorted(buffer.positions, start))
            rows.append(buffer.rows[first : first + end - start])
            pixels.append(buffer.pixels[first : first + end - start])
            start = end
        return (rows[0], pixels[0]) if len(rows) == 1 else (np.concatenate(rows), np.concatenate(pixels))

    def _get(self, epoch: int, buffer: int) -> _Buffer:
        after = (epoch, buffer + 1) if buffer + 1 < self._order.num_buffers else (epoch + 1, 0)
        wanted = [(epoch, buffer), after]
        self._held = {key: future for key, future in self._held.items() if key in wanted}
        for key in wanted:
            if key not in self._held:
                self._held[key] = self.pool.submit(self._load, *key)
        return self._held[wanted[0]].result()

    def _load(self, epoch: int, buffer: int) -> _Buffer:
        rows = self._order.rows(epoch, buffer)
        positions = int(self._order.starts(epoch)[buffer]) + np.arange(len(rows))
        chosen = self._is_own(positions)
        rows, positions = rows[chosen], positions[chosen]
        pixels = np.empty((len(rows), *self._shape), np.uint8)
        block_pixels = np.empty((self._order.block_rows, *self._shape), np.uint8)
        by_row = np.argsort(rows)
        for block in self._order.blocks(epoch, buffer):
            start = int(block) * self._order.block_rows
            stop = min(start + self._order.block_rows, self._order.num_images)
            first, last = np.searchsorted(rows[by_row], [start, stop])
            targets = by_row[first:last]
            self._reader.read(start, stop, block_pixels)
            pixels[targets] = block_pixels[rows[targets] - start]
        return _Buffer(positions, rows, pixels)


def choose_shuffle_buffer(pixels: PixelArray, free_bytes: int | None = None) -> int:
    """Return how many images to shuffle at a time; 0, all of them, if they are in memory or fit into it.

    A memory map fits if it takes at most three quarters of the free memory (default: what the system reports). For a
    larger set a buffer takes an eighth of the free memory; two are in memory at any time.
    """
    if isinstance(pixels, np.ndarray) and not isinstance(pixels, np.memmap):
        return 0
    free = available_memory() if free_bytes is None else free_bytes
    size = row_bytes(pixels)
    return 0 if len(pixels) * size <= free * 3 // 4 else max(1, free // 8 // size)


def _copy_to(device: torch.device, pixels: PixelArray) -> Tensor:
    """Copy all pixels to a device piece by piece, since a map may be larger than the memory of the host."""
    copied = torch.empty(tuple(pixels.shape), dtype=as_tensor(pixels[:0]).dtype, device=device)
    step = max(1, COPY_BYTES // row_bytes(pixels))
    for start in range(0, len(pixels), step):
        copied[start : start + step] = as_tensor(pixels[start : start + step])
    return copied
