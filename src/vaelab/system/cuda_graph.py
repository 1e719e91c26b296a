"""CUDA graphs: work that is launched many times, captured once."""

from collections.abc import Callable

import torch

WARM_UPS = 3
"""Runs before the capture, in which libraries choose their algorithms and make their workspaces."""


class CannotCapture(RuntimeError):
    """Work that cannot be a CUDA graph, such as what reads a value back to the host."""


def warm_up(work: Callable[[], None], device: torch.device) -> None:
    """Run work a few times, on CUDA on a stream of its own as a capture needs it; what it changes is changed."""
    if device.type != "cuda":
        for _ in range(WARM_UPS):
            work()
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            work()
    torch.cuda.current_stream(device).wait_stream(stream)
    torch.cuda.synchronize(device)


def capture(work: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
    """What launches ``work``, which is not run now, as a graph on the tensors that it was captured with.

    The work's random numbers start at each launch from the state of ``generator``, a CUDA one, at that moment.
    CannotCapture where the work cannot be a graph; capture nothing more in this process then, for torch's bookkeeping
    does not recover.
    """
    graph, device = torch.cuda.CUDAGraph(), generator.device
    graph.register_generator_state(generator)
    here = torch.cuda.current_stream(device)
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    try:
        # "thread_local": another thread may put batches into pinned memory meanwhile
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            work()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        torch.cuda.set_stream(here)
        first: BaseException = error
        while first.__context__ is not None:
            first = first.__context__
        raise CannotCapture(str(first).splitlines()[0]) from None
    return graph.replay
