"""``vaelab explore``: one run, or two side by side, as the explorer's page shows them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vaelab.api.load import load
from vaelab.api.run_images import load_run_images
from vaelab.api.sample import make_sampler
from vaelab.data.containers import printable
from vaelab.data.images import binarize, subsample
from vaelab.evaluation.evaluate import load_codes
from vaelab.explorer.inference import InferenceWorker
from vaelab.explorer.payload import Payload, ServedRun, make_payload
from vaelab.models.vae import VAE
from vaelab.recipe import override_sampler
from vaelab.run import Run
from vaelab.system.arguments import AnyPath, check_list, check_whole
from vaelab.system.device import disable_tf32, resolve_device
from vaelab.system.errors import UsageError
from vaelab.system.seeds import generator

NUM_POINTS = 200_000
"""Default maximum of points on a map."""


def open_runs(run_paths: Sequence[AnyPath]) -> list[Run]:
    """Open the one or two runs of a page, without their models; UsageError for another number of runs."""
    paths = check_list(run_paths, "run_paths")
    if len(paths) not in (1, 2):
        raise UsageError(
            f"{len(paths)} runs: the page shows one, or two side by side", subject="runs", value=len(paths)
        )
    return [Run(path) for path in paths]


def explore(
    run_paths: Sequence[AnyPath],
    *,
    data: str | Path | None = None,
    points: int = NUM_POINTS,
    device: str = "auto",
    sampler: str | None = None,
    set: Mapping[str, Any] | None = None,
) -> list[ServedRun]:
    """Return the payloads of one or two runs on at most ``points`` training images each, and their models.

    ``sampler`` supplies the codes of the page's "Sample" (default: that of the recipe). ``set``: its options, such as
    {"sampler.components": 20}. Raises UsageError for another number of runs, and InputError for a model with one
    latent.
    """
    runs, points = open_runs(run_paths), check_whole(points, "points", 2)
    names = [run.name for run in runs]
    if len(dict.fromkeys(names)) < len({run.path.resolve() for run in runs}):  # runs of one name in two folders
        names = [printable(str(path)) for path in run_paths]
    opened = [
        open_payload(run, name=name, data=data, points=points, device=device, sampler=sampler, set=set)
        for run, name in zip(runs, names, strict=True)
    ]
    return [ServedRun(payload, InferenceWorker(model)) for payload, model in opened]


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
        fitted = make_sampler(section, model, run.path, data)
        digest = train.fingerprint()
        payload = make_payload(name or run.name, run.recipe, model, codes, seen, len(images.train), digest, fitted)
    return payload, model
