"""Random numbers that are pure functions of a seed and their purpose."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaelab.system.distributed import Shard
from vaelab.system.seeds import derive_seed


def generator(seed: int, *purpose: object) -> torch.Generator:
    """Return a CPU generator for one purpose of one seed."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


class Noise(ABC):
    """The random numbers of a forward pass, for the images of this process."""

    shard: Shard | None = None
    """The images of a global batch that this process has; None: all."""

    @abstractmethod
    def normal(self, count: int, *shape: int) -> Tensor:
        """Return standard normal numbers ``[count, …]``, float32."""

    @abstractmethod
    def uniform(self, count: int, *shape: int) -> Tensor:
        """Return numbers in [0, 1) ``[count, …]``, float32."""


class GeneratorNoise(Noise):
    """Random numbers of a torch generator on the CPU, moved to ``device``; for evaluation."""

    def __init__(self, generator: torch.Generator | None, device: torch.device) -> None:
        self._generator, self._device = generator, device

    def normal(self, count: int, *shape: int) -> Tensor:
        """Return standard normal numbers ``[count, …]``, float32."""
        return torch.randn(count, *shape, generator=self._generator).to(self._device)

    def uniform(self, count: int, *shape: int) -> Tensor:
        """Return numbers in [0, 1) ``[count, …]``, float32."""
        return torch.rand(count, *shape, generator=self._generator).to(self._device)


class StepNoise(Noise):
    """Random numbers that are a pure function of seed, step and the order of the calls within the step.

    On the CPU they come from NumPy's Philox with the step in its counter, on CUDA from torch's Philox with the step in
    its offset. Resuming needs no stored state.
    """

    OFFSETS_PER_STEP = 1 << 32
    """Distance of two steps in CUDA's stream of random numbers."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        self.shard: Shard | None = None
        self._key = derive_seed(seed, "noise")
        self._cuda = torch.Generator(device) if device.type == "cuda" else None
        self.seek(0)

    def seek(self, step: int, shard: Shard | None = None) -> None:
        """Go to the first number of ``step``; this process uses the rows of ``shard`` (None: all)."""
        self.shard = shard
        if self._cuda is None:
            self._cpu = np.random.Generator(np.random.Philox(key=self._key, counter=[0, 0, step, 0]))
        else:
            self._cuda.manual_seed(self._key)
            self._cuda.set_offset(step * self.OFFSETS_PER_STEP)

    @property
    def generator(self) -> torch.Generator | None:
        """The generator on CUDA, which CUDA graphs register; None on the CPU."""
        return self._cuda

    def normal(self, count: int, *shape: int) -> Tensor:
        """Return standard normal numbers ``[count, …]``, float32, for the images of this process."""
        return self._draw(self._cpu.standard_normal if self._cuda is None else torch.randn, count, *shape)

    def uniform(self, count: int, *shape: int) -> Tensor:
        """Return numbers in [0, 1) ``[count, …]``, float32, for the images of this process."""
        return self._draw(self._cpu.random if self._cuda is None else torch.rand, count, *shape)

    def _draw(self, draw: Callable[..., Any], count: int, *shape: int) -> Tensor:
        """Draw numbers for the global batch, so that every rank draws the same, and return those of this process."""
        assert self.shard is None or count == len(self.shard.rows)
        size = (count if self.shard is None else self.shard.total, *shape)
        if self._cuda is None:
            numbers = torch.from_numpy(draw(size, dtype=np.float32)).to(self.device)
        else:
            numbers = draw(size, generator=self._cuda, device=self.device)
        return numbers if self.shard is None else numbers[self.shard.rows.start : self.shard.rows.stop]
