"""Two processes that share a batch, as two threads of one, so that their losses are one graph."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from small import CPU, as_batch
from torch import Tensor

from vaelab.models.vae import VAE
from vaelab.system.distributed import ProcessGroup
from vaelab.system.noise import StepNoise
from vaelab.training import objectives
from vaelab.training.objectives import Context, Objective


class TwoProcesses:
    """Both halves of a batch of ``count`` images.

    ``Context.gather`` returns the rows of both, so the gradients of the weighted sum of both losses are the sums of the
    gradients of the processes.
    """

    def __init__(self, count: int) -> None:
        self.shards = [ProcessGroup(rank, 2).shard(count) for rank in range(2)]
        self._rows: list[Tensor | None] = [None, None]
        self._barrier = threading.Barrier(2, timeout=20)

    def gather(self, rank: int, rows: Tensor) -> Tensor:
        """The rows of both processes; a shard without images has a row that counts nothing."""
        self._rows[rank] = rows[: len(self.shards[rank])]
        self._barrier.wait()
        whole = torch.cat([rows for rows in self._rows if rows is not None])
        self._barrier.wait()
        return whole

    def compute_terms(self, rank: int, vae: VAE, objective: Objective, x: Tensor, step: int) -> dict[str, Tensor]:
        """The terms of one process, times the weight of its shard."""
        pair, shard = self, self.shards[rank]

        class Sharing(Context):
            def gather(self, rows: Tensor) -> Tensor:
                return pair.gather(rank, rows)

        noise = StepNoise(0, CPU)
        noise.seek(step, shard)
        try:
            batch, context = as_batch(x[list(shard.rows)]), Sharing(torch.tensor(step), noise, vae)
            _, terms = objectives.compute_terms(objective, vae, batch, context)
        except BaseException:
            self._barrier.abort()
            raise
        return {name: term * shard.weight for name, term in terms.items()}

    def run(
        self, objective: Objective, models: Sequence[VAE], x: Tensor, step: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The weighted terms of both processes, each with its own copy of the model."""
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(lambda rank: self.compute_terms(rank, models[rank], objective, x, step), range(2))
        return first, second
