"""Seeds and random numbers as pure functions of what they are for."""

import hashlib
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from vaelab.system.distributed import Shard


def derive_seed(seed: int, *purpose: object) -> int:
    """A 63-bit seed of its own for each purpose, a pure function of ``seed`` and the words given."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *purpose: object) -> torch.Generator:
    """A CPU generator for one purpose of one seed."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


class Noise(ABC):
    """Where a forward pass takes its random numbers from, for the images of this process."""

    shard: Shard | None = None
    """Which images of a global batch this process has; None: all."""

    @abstractmethod
    def normal(self, count: int, *shape: int) -> Tensor:
        """Standard normal numbers ``[count, …]``, float32."""

    @abstractmethod
    def uniform(self, count: int, *shape: int) -> Tensor:
        """Numbers in [0, 1) ``[count, …]``, float32."""


class GeneratorNoise(Noise):
    """Random numbers of a torch generator on the CPU, moved to ``device``; for evaluation."""

    def __init__(self, generator: torch.Generator | None, device: torch.device) -> None:
        self._generator, self._device = generator, device

    def normal(self, count: int, *shape: int) -> Tensor:
        """Standard normal numbers ``[count, …]``, float32."""
        return torch.randn(count, *shape, generator=self._generator).to(self._device)

    def uniform(self, count: int, *shape: int) -> Tensor:
        """Numbers in [0, 1) ``[count, …]``, float32."""
        return torch.rand(count, *shape, generator=self._generator).to(self._device)


class StepNoise(Noise):
    """Random numbers that are a pure function of (seed, step, order of the calls within the step).

    On the CPU they come from NumPy's Philox with the step in its counter, on CUDA from torch's Philox with the step in
    its offset: nothing has to be stored to resume.
    """

    OFFSETS_PER_STEP = 1 << 32
    """How far apart the steps lie in CUDA's stream of random numbers."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        self.shard: Shard | None = None
        self._key = derive_seed(seed, "noise")
        self._cuda = torch.Generator(device) if device.type == "cuda" else None
        self.seek(0)

    def seek(self, step: int, shard: Shard | None = None) -> None:
        """Start the numbers of ``step``; of those for a whole batch this process takes its ``share`` (None: all)."""
        self.shard = shard
        if self._cuda is None:
            self._cpu = np.random.Generator(np.random.Philox(key=self._key, counter=[0, 0, step, 0]))
        else:
            self._cuda.manual_seed(self._key)
            self._cuda.set_offset(step * self.OFFSETS_PER_STEP)

    @property
    def generator(self) -> torch.Generator | None:
        """What the numbers come from on CUDA, for graphs to register."""
        return self._cuda

    def normal(self, count: int, *shape: int) -> Tensor:
        """Standard normal numbers ``[count, …]``, float32, for the images of this process."""
        if self._cuda is not None:
            return self._own(torch.randn(self._whole(count), *shape, generator=self._cuda, device=self.device))
        drawn = self._cpu.standard_normal((self._whole(count), *shape), dtype=np.float32)
        return self._own(torch.from_numpy(drawn).to(self.device))

    def uniform(self, count: int, *shape: int) -> Tensor:
        """Numbers in [0, 1) ``[count, …]``, float32, for the images of this process."""
        if self._cuda is not None:
            return self._own(torch.rand(self._whole(count), *shape, generator=self._cuda, device=self.device))
        drawn = self._cpu.random((self._whole(count), *shape), dtype=np.float32)
        return self._own(torch.from_numpy(drawn).to(self.device))

    def _whole(self, count: int) -> int:
        """Rows to draw, so that every rank draws the same numbers."""
        assert self.shard is None or count == len(self.shard.rows)
        return count if self.shard is None else self.shard.total

    def _own(self, drawn: Tensor) -> Tensor:
        return drawn if self.shard is None else drawn[self.shard.rows.start : self.shard.rows.stop]
