"""Process groups: the processes that ``torchrun`` starts to train one model; without it, a group of one."""

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

TIMEOUT = timedelta(hours=2)
"""Timeout of collectives; another host may still be building its image cache."""
ADDRESS_KEY = "vaelab-store-address"


class LostRank(RuntimeError):
    """Another process of the group ended or cannot be reached; ``rank`` and ``world_size`` are those of this one."""

    def __init__(self, group: "ProcessGroup", reason: str) -> None:
        super().__init__(f"rank {group.rank} of {group.world_size}: {reason}")
        self.rank, self.world_size = group.rank, group.world_size


@dataclass(frozen=True)
class Shard:
    """Rows ``start`` to ``stop`` of a global batch of ``total`` rows: those of one rank, possibly none."""

    start: int
    stop: int
    total: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def weight(self) -> float:
        """Weight of a mean over these rows in the mean over all rows."""
        return len(self) / self.total

    @property
    def rows(self) -> range:
        """The rows to compute on: at least one, because an empty shard computes on a row of weight 0."""
        first = min(self.start, self.total - 1)
        return range(first, max(self.stop, first + 1))


@dataclass(frozen=True)
class ProcessGroup:
    """The group of processes that train together, seen from one of them."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    """Number of this process among those on its host."""

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the only one that writes files and prints."""
        return self.rank == 0

    def shard(self, count: int) -> Shard:
        """Return this rank's part of ``count`` rows: contiguous, and as long as the others' to within one row."""
        first, after = count * self.rank // self.world_size, count * (self.rank + 1) // self.world_size
        return Shard(first, after, count)

    def all_reduce_(self, tensor: Tensor) -> Tensor:
        """Replace ``tensor`` by its sum over ranks, which has the same bits on each of them."""
        if self.world_size > 1:
            self._call(lambda: dist.all_reduce(tensor))
        return tensor

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.all_reduce_(torch.zeros(1))

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's ``value``, which can be pickled, on every rank."""
        if self.world_size == 1:
            return value
        boxed = [value]
        self._call(lambda: dist.broadcast_object_list(boxed))
        return boxed[0]

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return rank 0's named tensors on every rank."""
        if self.world_size == 1:
            return dict(tensors)
        kinds = self.broadcast([(name, t.shape, t.dtype) for name, t in tensors.items()])
        received: dict[str, Tensor] = {}
        for name, shape, dtype in kinds:
            received[name] = tensors[name].cpu().contiguous() if self.is_main else torch.empty(shape, dtype=dtype)
            self._call(partial(dist.broadcast, received[name], 0))
        return received

    def all_gather(self, rows: Float[Tensor, "own ..."], shard: Shard | None = None) -> Float[Tensor, "total ..."]:
        """Return the rows of all ranks in rank order, differentiably.

        ``shard``: the position of ``rows`` in the whole (default: every rank has as many). If every rank computes the
        same loss from all rows and multiplies it by its shard's weight, the gradients add up to those of one process.
        """
        if self.world_size == 1:
            return rows
        shard = self.shard(len(rows) * self.world_size) if shard is None else shard
        gathered: Tensor = _AllGather.apply(rows, self, shard)  # type: ignore[no-untyped-call]
        return gathered

    def _call(self, collective: Callable[[], Any]) -> None:
        try:
            collective()
        except RuntimeError as error:
            if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
                raise
            reason = re.sub(r"^\[[^ ]*\] ", "", str(error).partition(". ")[0])  # without the line of gloo's source
            advice = "the same command starts or resumes it"
            raise LostRank(
                self, f"another process of this job ended or cannot be reached ({reason}); {advice}"
            ) from None


class _AllGather(torch.autograd.Function):
    """Rows of all ranks forward; the sum over ranks of each row's gradient backward."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, group: ProcessGroup, shard: Shard) -> Tensor:
        ctx.group, ctx.shard, ctx.num_rows = group, shard, len(rows)
        whole = rows.new_zeros(shard.total, *rows.shape[1:])
        whole[shard.start : shard.stop] = rows[: len(shard)]
        return group.all_reduce_(whole)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        summed = ctx.group.all_reduce_(gradients[0].contiguous().clone())
        own = summed.new_zeros(ctx.num_rows, *summed.shape[1:])
        own[: len(ctx.shard)] = summed[ctx.shard.start : ctx.shard.stop]
        return own, None, None


_current = ProcessGroup()


def current_group() -> ProcessGroup:
    """Return the group that this process has joined; outside of ``join_group`` it is this process alone."""
    return _current


def launched_group() -> ProcessGroup:
    """Return the group that ``torchrun`` describes in the environment, joined or not."""
    rank, world_size, local_rank = (int(os.environ.get(name, 0)) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    return ProcessGroup(rank, max(world_size, 1), local_rank)


@contextmanager
def use_group(group: ProcessGroup) -> Iterator[ProcessGroup]:
    """Make ``group`` the current one within this context."""
    global _current
    before, _current = _current, group
    try:
        yield group
    finally:
        _current = before


@contextmanager
def join_group() -> Iterator[ProcessGroup]:
    """Connect the processes that ``torchrun`` started: gloo for CPU tensors, NCCL for CUDA ones."""
    group = launched_group()
    if group.world_size == 1:
        yield group
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store = _connect_store(group)
    options: dict[str, Any] = (
        {} if store is None else {"store": store, "rank": group.rank, "world_size": group.world_size}
    )
    # If it were imported later, its functions would keep the group as a default argument until the interpreter exits,
    # and with it gloo's threads. A thread that then frees a tensor ends the process by SIGABRT.
    from torch.distributed.nn import functional  # noqa: F401

    dist.init_process_group(backend, timeout=TIMEOUT, **options)
    is_done = False
    try:
        with use_group(group):
            yield group
        is_done = True
    finally:
        if is_done or backend == "gloo":  # after a failure NCCL may wait for ranks that never answer
            dist.destroy_process_group()


def _connect_store(group: ProcessGroup) -> Store | None:
    """Connect to the store in which the ranks of this attempt exchange addresses; None if torch's own will do.

    torchrun's store outlives an attempt (``--max-restarts``) and still holds the address of a process that is dead by
    now. Rank 0 therefore opens a store of its own and publishes its address there. If nobody answers at an address, it
    is an old one, and the other ranks ask again.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    agent = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=TIMEOUT)
    if group.is_main:
        is_one_host = os.environ.get("LOCAL_WORLD_SIZE") == str(group.world_size)
        host = "localhost" if is_one_host else socket.getfqdn()
        own = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=TIMEOUT)
        agent.set(ADDRESS_KEY, f"{host} {own.port}")
        return own
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    while True:
        host, port = agent.get(ADDRESS_KEY).decode().split()
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return TCPStore(host, int(port), timeout=TIMEOUT)
        except OSError:
            if time.monotonic() > deadline:
                raise LostRank(group, f"nobody answers at {host}:{port}") from None
            time.sleep(0.1)
