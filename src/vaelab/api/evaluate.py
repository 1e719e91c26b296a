"""``vaelab evaluate``: metrics of a run on its held-out images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from vaelab import recipe as recipes
from vaelab.api.load import load
from vaelab.api.report import update_report
from vaelab.api.run_images import RunImages, load_other_split, load_run_images
from vaelab.api.run_sampler import make_run_sampler
from vaelab.data.images import binarize
from vaelab.evaluation.evaluate import (
    Evaluated,
    default_metrics,
    load_codes,
    measure_run,
    parse_options,
    resolve_metrics,
)
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import load_metric
from vaelab.models.vae import VAE
from vaelab.run import Run
from vaelab.system.arguments import AnyPath, check_names
from vaelab.system.device import disable_tf32, resolve_device
from vaelab.system.failures import Failures


def evaluate(
    run_path: AnyPath,
    *,
    data: str | Path | None = None,
    metrics: Sequence[str] | None = None,
    set: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    split: str | None = None,
    store: bool = True,
    device: str = "auto",
) -> Evaluated:
    """Measure a run on its held-out images, write evaluation.json and update the report.

    ``metrics``: names or synonyms such as "frechet"; results have vaelab's names (default: all fast metrics whose needs
    the model and the images meet). ``set``: options of metrics by dotted key, such as {"nll.samples": 1000}, and of the
    sampler, such as {"sampler.name": "gmm"}. ``out``: a directory for evaluation.json and the report (default: the
    run). ``split``: another split of the data set, such as "test" or "train", with results in evaluation-SPLIT.json
    (default: the split that the run validates on). ``store``: False writes nothing. ``device``: such as "auto", "cpu"
    or "cuda".

    Raises NotMeasurable for a named metric whose needs are not met, UnknownName for a split that the data set does not
    have, and UnknownDevice. Raises PartialFailure after the other metrics are measured and stored.
    """
    run = Run(run_path, results=out if store else None)
    before = _read_results(run)  # a damaged file is reported before minutes of work, not after
    chosen = resolve_metrics(check_names(metrics, "metrics")) if metrics else default_metrics("evaluate")
    given = recipes.check_overrides(set)
    of_sampler = {key: value for key, value in given.items() if key.startswith("sampler.")}
    sampler = recipes.override_sampler(run.recipe.sampler, None, of_sampler)
    options = parse_options({key: value for key, value in given.items() if key not in of_sampler}, chosen)
    needs = {name: load_metric(name).needs for name in chosen}
    model, failures = load(run), Failures()
    model.to(resolve_device(device))
    if store:
        run.check_writable()
    images = load_run_images(run, data)
    other = split if split and split != images.valid_split else ""
    measured = load_other_split(run, images, data, other) if other else images.valid
    evaluation = load_evaluation(run, model, replace(images, valid=measured), chosen, sampler)
    protocol = images.protocol | ({"split": other} if other else {})
    for name in needs if metrics else ():
        evaluation.check_needs(needs[name], name)
    with disable_tf32():
        evaluated = measure_run(run, evaluation, protocol, chosen, options, failures, store, other)
    if store and (_read_results(run) != before or run.is_report_stale):
        update_report(run, model)
    failures.raise_any("metrics that could not be measured")
    return evaluated


def _read_results(run: Run) -> list[dict[str, Any]]:
    return [run.evaluation, *map(run.split_evaluation, run.measured_splits)]


def load_evaluation(
    run: Run, model: VAE, images: RunImages, metrics: Sequence[str], sampler: recipes.Section | None = None
) -> Evaluation:
    """Return a run's model on its held-out images, with the training images if one of the metrics needs them.

    ``sampler``: section of the sampler (default: that of the recipe).
    """
    needs_train = any(load_metric(name).needs_train_images for name in metrics)
    train = binarize(images.train, images.binarize) if needs_train else None
    encode = partial(load_codes, run, model)
    return Evaluation(
        model,
        images.valid,
        train,
        encode=encode,
        sampler=sampler or run.recipe.sampler,
        make_sampler=partial(make_run_sampler, run),
    )
