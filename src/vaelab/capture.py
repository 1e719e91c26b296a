"""CUDA graphs: work that is launched many times, captured once."""

from collections.abc import Callable, Sequence

import torch

WARM_UPS = 3
"""Runs before the capture, in which libraries choose their algorithms and make their workspaces."""


class CannotCapture(RuntimeError):
    """Work that cannot be a CUDA graph, such as what reads a value back to the host."""


def warm_up(work: Callable[[], None]) -> None:
    """Run work a few times, on CUDA on a stream of its own as a capture needs it; what it changes is changed."""
    if not torch.cuda.is_available():
        for _ in range(WARM_UPS):
            work()
        return
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()


def capture(work: Callable[[], None], generators: Sequence[torch.Generator]) -> Callable[[], None]:
    """What launches ``work``, which is not run now, as a graph on the tensors that it was captured with.

    Random numbers of ``generators`` start at each launch from the generators' state at that moment. CannotCapture where
    the work cannot be a graph.
    """
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    try:
        with torch.cuda.graph(graph):
            work()
    except RuntimeError as error:
        raise CannotCapture(str(error).splitlines()[0]) from None
    return graph.replay
