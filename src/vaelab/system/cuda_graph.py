"""CUDA graphs: work that is launched many times is captured once."""

from collections.abc import Callable

import torch

NUM_WARM_UPS = 3
"""Runs before a capture, in which libraries choose their algorithms and allocate their workspaces."""


class CannotCapture(RuntimeError):
    """The work cannot be a CUDA graph, for example because it reads a value back to the host."""


def warm_up(work: Callable[[], None], device: torch.device) -> None:
    """Run ``work`` a few times, on CUDA in a stream of its own; its changes stay."""
    if device.type != "cuda":
        for _ in range(NUM_WARM_UPS):
            work()
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(NUM_WARM_UPS):
            work()
    torch.cuda.current_stream(device).wait_stream(stream)
    torch.cuda.synchronize(device)


def capture(work: Callable[[], None], generator: torch.Generator | None) -> Callable[[], None]:
    """Capture ``work`` as a CUDA graph and return its replay.

    Random numbers of a replay start from the state that ``generator``, on CUDA, has at that moment. Without a generator
    there is no CUDA device: ``work`` is run once, where a capture would record it, and the replay is ``work`` itself.

    Raises CannotCapture. Capture nothing more in this process then, because torch's bookkeeping does not recover.
    """
    if generator is None:
        try:
            work()
        except RuntimeError as error:
            raise CannotCapture(_find_cause(error)) from None
        return work
    graph, device = torch.cuda.CUDAGraph(), generator.device
    graph.register_generator_state(generator)
    current = torch.cuda.current_stream(device)
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    try:
        # "thread_local": another thread may copy batches to pinned memory meanwhile
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            work()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        torch.cuda.set_stream(current)
        raise CannotCapture(_find_cause(error)) from None
    return graph.replay


def _find_cause(error: BaseException) -> str:
    """Return the first line of the error that came first."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error).splitlines()[0]
