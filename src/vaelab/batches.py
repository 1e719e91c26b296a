"""Batches: the order in which a training set is seen, and where its pixels wait until then."""

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from vaelab.images import Images, as_tensor
from vaelab.pixels import PixelArray
from vaelab.runtime import derive_seed


class Batches:
    """The order in which a training set is seen: step → batch, a pure function of (seed, step).

    Every epoch is a fresh permutation; its last, smaller batch is used too. Pixels stay where they are, in memory or in
    a memory map; to an accelerator they are copied where they fit beside the training.
    """

    def __init__(self, images: Images, batch_size: int, seed: int, device: torch.device) -> None:
        self._array = images.pixels
        self._device = device
        self._on_device = as_tensor(images.pixels).to(device) if _fits(images.pixels, device) else None
        self._seed = seed
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))
        self.num_images = len(images)
        self.batch_size = batch_size
        self.steps_per_epoch = -(-len(images) // batch_size)

    def epoch(self, step: int) -> int:
        """The epoch of ``step``, both counted from 0."""
        return step // self.steps_per_epoch

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Indices of all images in the order of ``epoch``."""
        if self._order[0] != epoch:
            philox = np.random.Philox(key=derive_seed(self._seed, "order", epoch))
            self._order = (epoch, np.random.Generator(philox).permutation(self.num_images))
        return self._order[1]

    def pixels(self, step: int) -> UInt8[Tensor, "batch height width channel"]:
        """The batch of ``step``, counted from 0."""
        epoch, position = divmod(step, self.steps_per_epoch)
        start = position * self.batch_size
        chosen = self.order(epoch)[start : start + self.batch_size]
        if self._on_device is not None:
            return self._on_device[torch.from_numpy(chosen).to(self._device)]
        return as_tensor(self._array[chosen]).to(self._device)


def _fits(pixels: PixelArray, device: torch.device) -> bool:
    """Whether pixels take less than half of what an accelerator has free; memory of the CPU needs no second copy."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return int(np.prod(pixels.shape)) < free // 2
