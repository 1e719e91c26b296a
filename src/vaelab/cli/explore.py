"""``vaelab explore`` and ``watch``: pages in a browser."""

import os
import subprocess
import sys
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Annotated, Any

import typer

from vaelab.cli import options
from vaelab.cli.terminal import print_note
from vaelab.system.messages import count_of

HOST, PORT = "127.0.0.1", 8765


@options.app.command()
def explore(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN [RUN]", help="Directories of one or two runs.")],
    data: options.Data = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; the default is reachable from this machine only.")
    ] = HOST,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; another free one if it is in use or 0.")
    ] = PORT,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
    points: Annotated[int, typer.Option("--points", min=2, help="Maximum number of images on the map.")] = 200_000,
    device: options.Device = "auto",
    sampler: options.Sampler = None,
    overrides: options.SamplerOverrides = None,
) -> None:
    """Explore the latent space in a browser.

    Examples:
      vaelab explore runs/digits
      vaelab explore runs/beta-1 runs/beta-5
    """
    import vaelab
    from vaelab.api.explore import open_runs
    from vaelab.explorer import server
    from vaelab.explorer.payload import ServedRun
    from vaelab.system.progress import observe_progress

    open_runs(runs)  # errors are printed before a page opens
    served: list[ServedRun] = []
    status: dict[str, Any] = {"label": "loading"}
    app = server.make_app(served, host, status)
    with suppress(KeyboardInterrupt), _serve(app, host, port, no_browser=no_browser) as wait:
        with observe_progress(lambda task: status.update(label=task.label, done=task.done, total=task.total)):
            served += vaelab.explore(
                runs, data=data, points=points, device=device, sampler=sampler, set=options.parse_overrides(overrides)
            ).runs
        for payload, _ in served:
            print(_describe(payload.manifest), flush=True)
        wait()
    print("ended")


@options.app.command()
def watch(
    run: options.Run,
    data: options.Data = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; the default is reachable from this machine only.")
    ] = HOST,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; another free one if it is in use or 0.")
    ] = PORT,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
) -> None:
    """Watch training in a browser.

    Shows progress, curves, and samples and reconstructions of the newest checkpoint. It only reads files of the run,
    with low priority, and does not affect training.

    Example:
      vaelab watch runs/mnist
    """
    import vaelab
    from vaelab.explorer import watching

    view = vaelab.watch(run, data=data)
    with suppress(OSError, AttributeError):  # a training run on this machine comes first
        os.nice(10)
    app = watching.make_app(view, host)
    with suppress(KeyboardInterrupt), _serve(app, host, port, no_browser=no_browser) as wait:
        wait()
    print("ended")


@contextmanager
def _serve(app: Any, host: str, port: int, *, no_browser: bool) -> Iterator[Callable[[], None]]:
    """Serve a page, print its address and open it; yields a function that waits for Ctrl-C."""
    from vaelab.explorer import server

    with server.listen(host, port) as listener, server.serve(app, listener) as wait:
        url, own = server.format_url(listener), listener.getsockname()[1]
        if port not in (0, own):
            print_note(f"port {port} is not available; using {own}")
        if not server.is_private(listener):
            print_note("warning: everyone who can reach this machine can open this page and see its images")
        print(f"{url}  (Ctrl-C ends it)", flush=True)
        if not no_browser:
            Thread(target=_open_browser, args=(url,), daemon=True).start()
        yield wait


@contextmanager
def serve_live() -> Iterator[Callable[[Path], None]]:
    """Yield a function that opens the page of a run in a separate process, which ends with this context."""
    started: list[subprocess.Popen[bytes]] = []

    def open_page(run: Path) -> None:
        if not started:
            words = [sys.executable, "-m", "vaelab", "watch", str(run)]
            # in a session of its own, so that Ctrl-C reaches the training alone
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
            started.append(process)
            Thread(target=_print_address, args=(process,), daemon=True).start()

    try:
        yield open_page
    finally:
        for process in started:
            process.terminate()
            process.wait()


def _print_address(process: "subprocess.Popen[bytes]") -> None:
    """Print the address of a page that another process serves."""
    assert process.stdout is not None
    if line := process.stdout.readline().decode():
        print_note(f"live page: {line.split()[0]}")


def _describe(manifest: dict[str, Any]) -> str:
    """Return name, images and latents of a run in one line."""
    of = f" of {manifest['total']:,}" if manifest["total"] > manifest["count"] else ""
    images = count_of(manifest["count"], "training image") if not of else f"{manifest['count']:,}{of} training images"
    return f"{manifest['run']}: {images}, {count_of(manifest['latent_dim'], 'latent')}"


def _open_browser(address: str) -> None:
    """Open the page if there is a screen; without one, a text browser would take over the terminal."""
    if sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))):
        with suppress(Exception):
            webbrowser.open(address)
