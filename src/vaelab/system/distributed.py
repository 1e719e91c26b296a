"""Ranks: the processes that train one model together, as ``torchrun`` starts them; alone there is one."""

import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]

PATIENCE = timedelta(hours=2)
"""For so long a rank waits for one that lives: another host may still be caching its pictures."""
MEETING_KEY = "vaelab-meets-at"


class LostRank(RuntimeError):
    """Another process of the job ended or cannot be reached."""


@dataclass(frozen=True)
class Shard:
    """Which rows of a global batch of ``total`` rows are one rank's: ``start`` to ``stop``, maybe none."""

    start: int
    stop: int
    total: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def weight(self) -> float:
        """What a mean over these rows counts in the mean over all."""
        return len(self) / self.total


@dataclass(frozen=True)
class Ranks:
    """This process among those of the job."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Among those on this host."""

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def share(self, count: int) -> Shard:
        """This rank's part of ``count`` things, contiguous and as even as can be."""
        return Shard(count * self.rank // self.size, count * (self.rank + 1) // self.size, count)

    def sum_(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, in place; the same bits on every rank."""
        if self.size > 1:
            self._together(lambda: dist.all_reduce(tensor))
        return tensor

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.sum_(torch.zeros(1))

    def broadcast(self, content: Any) -> Any:
        """What the first rank gives, on every rank; any picklable value."""
        if self.size == 1:
            return content
        boxed = [content]
        self._together(lambda: dist.broadcast_object_list(boxed))
        return boxed[0]

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors that the first rank gives, on every rank, by name."""
        if self.size == 1:
            return dict(tensors)
        kinds = self.broadcast([(name, t.shape, t.dtype) for name, t in tensors.items()])
        found: dict[str, Tensor] = {}
        for name, shape, dtype in kinds:
            found[name] = tensors[name].cpu().contiguous() if self.is_first else torch.empty(shape, dtype=dtype)
            self._together(partial(dist.broadcast, found[name], 0))
        return found

    def gather(self, rows: Float[Tensor, "own ..."], share: Shard | None = None) -> Float[Tensor, "total ..."]:
        """The rows of all ranks in their order; gradients flow back to the rank that each row came from.

        ``share``: which rows of the whole these are (default: every rank has as many). Of a loss that every rank
        computes from all rows and weighs by its share, the gradients add up to those of one process.
        """
        if self.size == 1:
            return rows
        share = self.share(len(rows) * self.size) if share is None else share
        gathered: Tensor = _Gather.apply(rows, self, share)  # type: ignore[no-untyped-call]
        return gathered

    def _together(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except RuntimeError as error:
            if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
                raise
            reason = re.sub(r"^\[[^ ]*\] ", "", str(error).partition(". ")[0])  # without a line of gloo's source
            raise LostRank(
                f"rank {self.rank} of {self.size}: another process of this job ended or cannot be reached ({reason}); "
                "the same command begins again or goes on"
            ) from None


class _Gather(torch.autograd.Function):
    """Rows of all ranks forward; the sum over ranks of each row's gradient backward."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, ranks: Ranks, share: Shard) -> Tensor:
        ctx.ranks, ctx.share, ctx.num_rows = ranks, share, len(rows)
        whole = rows.new_zeros(share.total, *rows.shape[1:])
        whole[share.start : share.stop] = rows[: len(share)]
        return ranks.sum_(whole)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        summed = ctx.ranks.sum_(gradients[0].contiguous().clone())
        own = summed.new_zeros(ctx.num_rows, *summed.shape[1:])
        own[: len(ctx.share)] = summed[ctx.share.start : ctx.share.stop]
        return own, None, None


_current = Ranks()


def ranks() -> Ranks:
    """The ranks that work together now: those within ``joined``, else this process alone."""
    return _current


def launched() -> Ranks:
    """Rank and number of processes as ``torchrun`` says, whether they have joined or not."""
    found = [
        int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    ]
    return Ranks(*found)


@contextmanager
def joined() -> Iterator[Ranks]:
    """Within this context the processes that ``torchrun`` started work together: gloo, with NCCL for CUDA tensors."""
    global _current
    started = launched()
    if started.size == 1:
        yield started
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    place = _meeting_place(started)
    about_store: dict[str, Any] = (
        {} if place is None else {"store": place, "rank": started.rank, "world_size": started.size}
    )
    # loaded later, its functions would take the group for their default argument and keep it, with the threads of gloo,
    # until the interpreter has gone; a thread that then drops a tensor ends the process by SIGABRT
    from torch.distributed.nn import functional  # noqa: F401

    dist.init_process_group(backend, timeout=PATIENCE, **about_store)
    _current, is_done = started, False
    try:
        yield started
        is_done = True
    finally:
        _current = Ranks()
        if is_done or backend == "gloo":  # after a failure NCCL may wait for ranks that never answer
            dist.destroy_process_group()


def _meeting_place(started: Ranks) -> Store | None:
    """Where the ranks of this attempt tell each other their addresses; None where torch's own way will do.

    The store of torchrun lives on from one attempt to the next (``--max-restarts``) and tells where a process listened
    that is dead by now. So the first rank opens a store of its own and says there where; where nobody answers, the
    address is an old one, and the others ask again.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    shared = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=PATIENCE)
    if started.is_first:
        is_one_host = os.environ.get("LOCAL_WORLD_SIZE") == str(started.size)
        host = "localhost" if is_one_host else socket.getfqdn()
        own = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=PATIENCE)
        shared.set(MEETING_KEY, f"{host} {own.port}")
        return own
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while True:
        host, port = shared.get(MEETING_KEY).decode().split()
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return TCPStore(host, int(port), timeout=PATIENCE)
        except OSError:
            if time.monotonic() > deadline:
                raise LostRank(f"rank {started.rank} of {started.size}: nobody answers at {host}:{port}") from None
            time.sleep(0.1)
