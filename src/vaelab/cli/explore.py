"""``vaelab explore``: the explorer in a browser."""

import os
import sys
import webbrowser
from contextlib import suppress
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
    host: Annotated[str, typer.Option("--host", help="Address to listen on; the default is visible only here.")] = HOST,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; a free one if it is taken or 0.")
    ] = PORT,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
    points: Annotated[int, typer.Option("--points", min=2, help="Maximum number of images on the map.")] = 200_000,
    device: options.Device = "auto",
    sampler: options.Sampler = "prior",
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
    with server.listen(host, port) as listener, server.serve(server.make_app(served, host, status), listener) as wait:
        url, own = server.format_url(listener), listener.getsockname()[1]
        if port not in (0, own):
            print_note(f"port {port} is not available; using {own}")
        if not server.is_private(listener):
            print_note("warning: everyone who can reach this machine can open this page and see its images")
        print(f"{url}  (Ctrl-C ends it)", flush=True)
        if not no_browser:
            Thread(target=_open_browser, args=(url,), daemon=True).start()
        with observe_progress(lambda task: status.update(label=task.label, done=task.done, total=task.total)):
            served += vaelab.explore(runs, data=data, points=points, device=device, sampler=sampler)
        for payload, _ in served:
            print(_describe(payload.manifest), flush=True)
        wait()
    print("ended")


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
