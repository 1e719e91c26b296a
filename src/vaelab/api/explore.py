"""``vaelab explore``: one run, or two side by side, as the explorer's page shows them."""

import os
import secrets
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from vaelab.api.load import load
from vaelab.api.run_images import load_run_images
from vaelab.api.sample import load_sampler
from vaelab.data.containers import printable
from vaelab.data.images import binarize
from vaelab.data.tensors import subsample
from vaelab.evaluation.evaluate import load_codes
from vaelab.explorer.inference import InferenceWorker
from vaelab.explorer.payload import Payload, ServedRun, make_payload
from vaelab.explorer.server import format_url, listen, make_app, serve_in_thread
from vaelab.models.vae import VAE
from vaelab.recipe import override_sampler
from vaelab.run import Run
from vaelab.system import html
from vaelab.system.arguments import AnyPath, check_list, check_whole
from vaelab.system.device import disable_tf32, resolve_device
from vaelab.system.errors import InputError, UsageError
from vaelab.system.noise import generator
from vaelab.system.registry import unknown

NUM_POINTS = 200_000
"""Default maximum of points on a map."""
SHOW_AS = ("auto", "server", "page")
REMOTE = ("COLAB_RELEASE_TAG", "JUPYTERHUB_SERVICE_PREFIX", "KAGGLE_KERNEL_RUN_TYPE", "SSH_CONNECTION")
"""Variables that are set where the browser of a notebook runs on another machine, which no port here reaches."""
UNREACHABLE = (
    "The explorer is shown here while the notebook runs on the machine of the browser. "
    'vaelab.explore(run, show="page") shows it elsewhere, too.'
)


class Explorer:
    """The explorer of one or two runs, displayed as the last value of a notebook cell.

    ``url`` is the address of the page, served to this machine until the object is deleted or the process ends.
    ``page()`` returns the page as a single HTML file, which needs no server. ``runs`` are the displayed runs.
    """

    def __init__(
        self, runs: list[ServedRun], opened: Sequence[Run], data: str | Path | None, *, is_served: bool
    ) -> None:
        self.runs, self._opened, self._data, self._is_served = runs, opened, data, is_served
        self._server = ExitStack()
        self.close = weakref.finalize(self, self._server.close)
        """End the server, if there is one."""

    def __repr__(self) -> str:
        return f"Explorer({', '.join(run.payload.manifest['run'] for run in self.runs)})"

    @cached_property
    def url(self) -> str:
        """Address of the page, whose server is started on first use. Only whoever knows it can put it in a frame."""
        token = secrets.token_urlsafe()
        listener = self._server.enter_context(listen("127.0.0.1", 0))
        self._server.enter_context(serve_in_thread(make_app(self.runs, "127.0.0.1", frame_token=token), listener))
        return f"{format_url(listener)}?frame={token}"

    def page(self, runtime: str | Path | None = None) -> str:
        """Return the page of a single run as one HTML file; UsageError for two runs, or without onnxruntime-web.

        ``runtime`` is as for ``export``.
        """
        from vaelab.api.export import export  # which imports this module

        if len(self._opened) > 1:
            raise UsageError("a page without a server shows one run", subject="runs", value=len(self._opened))
        with tempfile.TemporaryDirectory(prefix="vaelab-") as folder:
            out = Path(folder) / "explorer.html"
            export(self._opened[0], to="web", single_file=True, out=out, data=self._data, runtime=runtime)
            return out.read_text(encoding="utf-8")

    def _repr_html_(self) -> str:
        """Return a frame with the server's page, or with the page itself; a line where that cannot be made."""
        if self._is_served:
            return html.frame_url(self.url, repr(self), UNREACHABLE)
        try:
            return html.frame_page(self.page(), repr(self))
        except InputError as error:
            return html.fragment(str(error), {})


def open_runs(run_paths: AnyPath | Sequence[AnyPath]) -> list[Run]:
    """Open the one or two runs of a page, without their models; UsageError for another number of runs."""
    paths = check_list(run_paths, "run_paths")
    if len(paths) not in (1, 2):
        raise UsageError(
            f"{len(paths)} runs: the page shows one, or two side by side", subject="runs", value=len(paths)
        )
    return [Run(path) for path in paths]


def explore(
    run_paths: AnyPath | Sequence[AnyPath],
    *,
    data: str | Path | None = None,
    points: int = NUM_POINTS,
    device: str = "auto",
    sampler: str | None = None,
    set: Mapping[str, Any] | None = None,
    show: Literal["auto", "server", "page"] = "auto",
) -> Explorer:
    """Return the explorer of a run, or of two side by side, on at most ``points`` training images each.

    ``sampler`` draws the codes of "Sample" on the page (default: that of the recipe). ``set``: its options, such as
    {"sampler.components": 20}. ``show``: how a notebook cell displays the explorer. "server" shows the page of a server
    in this process. "page" embeds the page itself, which works everywhere and takes several megabytes. "auto" chooses
    "page" if the browser is on another machine. Raises UsageError for more than two runs, and InputError for a model
    with one latent.
    """
    if show not in SHOW_AS:
        raise unknown("way to show the explorer", show, SHOW_AS)
    runs, points = open_runs(run_paths), check_whole(points, "points", 2)
    names = [run.name for run in runs]
    if len(dict.fromkeys(names)) < len({run.path.resolve() for run in runs}):  # runs of one name in two folders
        names = [printable(str(path)) for path in check_list(run_paths, "run_paths")]
    opened = [
        open_payload(run, name=name, data=data, points=points, device=device, sampler=sampler, set=set)
        for run, name in zip(runs, names, strict=True)
    ]
    served = [ServedRun(payload, InferenceWorker(model)) for payload, model in opened]
    is_remote = len(runs) == 1 and any(map(os.environ.get, REMOTE))
    return Explorer(served, runs, data, is_served=show == "server" or (show == "auto" and not is_remote))


def open_payload(
    run: Run,
    *,
    name: str | None = None,
    data: str | Path | None = None,
    points: int = NUM_POINTS,
    device: str = "auto",
    sampler: str | None = None,
    set: Mapping[str, Any] | None = None,
) -> tuple[Payload, VAE]:
    """Return the payload of a run on at most ``points`` of its training images, and its model.

    ``name`` is shown on the page (default: the run's name). Codes are kept in the run's cache.
    """
    section = override_sampler(run.recipe.sampler, sampler, set or {})
    model, images = load(run), load_run_images(run, data)
    model.to(resolve_device(device))
    rows = subsample(len(images.train), points, generator(0, "explore"))
    train = images.train.take(rows)
    seen = train if images.binarize == "none" else binarize(images.train, images.binarize).take(rows)
    with disable_tf32():
        codes = load_codes(run, model, seen)
        fitted = load_sampler(section, model, run.path, data)
        digest = train.fingerprint()
        payload = make_payload(name or run.name, run.recipe, model, codes, seen, len(images.train), digest, fitted)
    return payload, model
