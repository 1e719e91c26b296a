"""``vaelab explore``: one run, or two side by side, as the explorer's page shows them."""

from collections.abc import Sequence
from pathlib import Path

from vaelab.api.load import load
from vaelab.api.run_images import load_run_images
from vaelab.api.sample import make_sampler
from vaelab.data.containers import printable
from vaelab.data.images import binarize, subsample
from vaelab.evaluation.evaluate import codes_of
from vaelab.explorer.inference import InferenceWorker
from vaelab.explorer.payload import Payload, ServedRun, make_payload
from vaelab.models.vae import VAE
from vaelab.run import Run
from vaelab.system.arguments import AnyPath, check_list, check_whole
from vaelab.system.device import disable_tf32, resolve_device
from vaelab.system.errors import UsageError
from vaelab.system.seeds import generator

NUM_POINTS = 200_000
"""Default maximum of points on a map."""


def explore(
    run_paths: Sequence[AnyPath],
    *,
    data: str | Path | None = None,
    points: int = NUM_POINTS,
    device: str = "auto",
    sampler: str = "prior",
) -> list[ServedRun]:
    """Return what the explorer shows of one or two runs: their payloads, and their models on ``device``.

    ``points``: the maximum number of training images on a map. ``sampler``: the distribution of sampled codes. Raises
    UsageError for another number of runs, and InputError for a model with one latent.
    """
    run_paths, points = check_list(run_paths, "run_paths"), check_whole(points, "points", 2)
    if len(run_paths) not in (1, 2):
        raise UsageError(f"{len(run_paths)} runs: give one or two", subject="run_paths", value=run_paths)
    names = [Run(path).name for path in run_paths]
    if len(set(names)) < len({run.resolve() for run in map(Path, run_paths)}):  # runs of one name in two folders
        names = [printable(str(path)) for path in run_paths]
    opened = [
        open_payload(path, name=name, data=data, points=points, device=device, sampler=sampler)
        for path, name in zip(run_paths, names, strict=True)
    ]
    return [ServedRun(payload, InferenceWorker(model)) for payload, model in opened]


def open_payload(
    run_path: AnyPath,
    *,
    name: str | None = None,
    data: str | Path | None = None,
    points: int = NUM_POINTS,
    device: str = "auto",
    sampler: str = "prior",
) -> tuple[Payload, VAE]:
    """Return the payload of a run with at most ``points`` training images, and its model; codes are cached.

    ``name``: the run's name on the page (default: that of its directory).
    """
    run = Run.open(run_path)
    model, known = load(run.path), load_run_images(run, data)
    model.to(resolve_device(device))
    rows = subsample(len(known.train), points, generator(0, "explore"))
    train = known.train.take(rows)
    seen = train if known.binarize == "none" else binarize(known.train, known.binarize).take(rows)
    with disable_tf32():
        codes = codes_of(run, model, seen)
        drawn_from = make_sampler(sampler, model, run.path, data)
        payload = make_payload(
            name or run.name, run.recipe, model, codes, seen, len(known.train), train.fingerprint(), drawn_from
        )
    return payload, model
