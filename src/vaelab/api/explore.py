"""``vaelab explore``: what the page is told of one run, or of two side by side."""

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

MOST_POINTS = 200_000
"""Points of a map, unless told otherwise."""


def explore(
    run_paths: Sequence[AnyPath],
    *,
    data: str | Path | None = None,
    most: int = MOST_POINTS,
    device: str = "auto",
    sampler: str = "prior",
) -> list[ServedRun]:
    """What the page needs of one or two runs: their scenes, and their models on ``device``.

    ``sampler``: where the page's "Sample" takes its codes from.

    UsageError for another number of runs. ValueError for a model that has one latent.
    """
    run_paths, most = check_list(run_paths, "run_paths"), check_whole(most, "most", 2)
    if len(run_paths) not in (1, 2):
        raise UsageError(f"{len(run_paths)} runs: the page shows one, or two side by side")
    names = [Run(path).name for path in run_paths]
    if len(set(names)) < len({run.resolve() for run in map(Path, run_paths)}):  # in other folders: told apart by them
        names = [printable(str(path)) for path in run_paths]
    opened = [
        open_payload(path, name=name, data=data, most=most, device=device, sampler=sampler)
        for path, name in zip(run_paths, names, strict=True)
    ]
    return [ServedRun(payload, InferenceWorker(model)) for payload, model in opened]


def open_payload(
    run_path: AnyPath,
    *,
    name: str | None = None,
    data: str | Path | None = None,
    most: int = MOST_POINTS,
    device: str = "auto",
    sampler: str = "prior",
) -> tuple[Payload, VAE]:
    """The scene of a run on at most ``most`` of its training images, and its model; codes are kept in its cache.

    ``name``: what the page calls it (default: the run's own name).
    """
    run = Run.open(run_path)
    model, known = load(run.path), load_run_images(run, data)
    model.to(resolve_device(device))
    rows = subsample(len(known.train), most, generator(0, "explore"))
    train = known.train.take(rows)
    seen = train if known.binarize == "none" else binarize(known.train, known.binarize).take(rows)
    with disable_tf32():
        codes = codes_of(run, model, seen)
        drawn_from = make_sampler(sampler, model, run.path, data)
        payload = make_payload(
            name or run.name, run.recipe, model, codes, seen, len(known.train), train.fingerprint(), drawn_from
        )
    return payload, model
