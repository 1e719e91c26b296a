"""``vaelab explore``: the page in a browser."""

import os
import sys
import webbrowser
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Annotated, Any

import typer

from vaelab.cli.options import DataOption, DeviceOption, SamplerOption, app
from vaelab.cli.terminal import print_note, show_progress

PORT = 8765


@app.command()
def explore(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN [RUN]", help="A run's directory, or two to compare.")],
    data: DataOption = None,
    host: Annotated[str, typer.Option("--host", help="Where to listen; by default only this machine can see it.")] = (
        "127.0.0.1"
    ),
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Where to listen; 0, or where it is taken: any free one.")
    ] = PORT,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
    points: Annotated[int, typer.Option("--points", min=2, help="At most so many training images on the map.")] = (
        200_000
    ),
    device: DeviceOption = "auto",
    sampler: SamplerOption = "prior",
) -> None:
    """Open a page in the browser on which you move through the latent space and watch it decode.

    Examples: vaelab explore runs/digits · vaelab explore runs/beta-1 runs/beta-5
    """
    import vaelab
    from vaelab.explorer import server

    show_progress()
    with server.listen(host, port) as listener:
        served = vaelab.explore(runs, data=data, most=points, device=device, sampler=sampler)

        def ready() -> None:
            own, address = listener.getsockname()[1], server.address_of(listener)
            if port not in (0, own):
                print_note(f"port {port} cannot be had: {own} instead")
            if not server.is_private(listener):
                print_note("warning: anyone who can reach this machine can open this page and see the images on it")
            for payload, _ in served:
                print(_describe(payload.manifest))
            print(f"{address}  (loads {server.first_bytes(served) / 1e6:.1f} MB; Ctrl-C ends it)", flush=True)
            if not no_browser:
                Thread(target=_open_browser, args=(address,), daemon=True).start()

        server.serve(server.make_app(served, host), listener, ready)
    print("ended")


def _describe(facts: dict[str, Any]) -> str:
    """One run in a line."""
    of = f" of {facts['total']:,}" if facts["total"] > facts["count"] else ""
    return f"{facts['run']}: {facts['count']:,}{of} training images, {facts['latent_dim']} latents"


def _open_browser(address: str) -> None:
    """Show the page where there is a screen: without one, a browser of text would take the terminal."""
    if sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))):
        with suppress(Exception):
            webbrowser.open(address)
