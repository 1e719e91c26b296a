"""``vaelab evaluate``: metrics of a run on its held-out images."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vaelab import recipe as recipes
from vaelab.api.load import load
from vaelab.api.report import update_report
from vaelab.api.run_images import RunImages, load_run_images
from vaelab.data.images import binarize
from vaelab.evaluation.evaluate import (
    Evaluated,
    check_needs,
    codes_of,
    default_metrics,
    learns,
    measure_run,
    parse_options,
    resolve_metrics,
)
from vaelab.evaluation.evaluation import Evaluation
from vaelab.models.vae import VAE
from vaelab.run import Run
from vaelab.system.arguments import AnyPath, check_names
from vaelab.system.failures import Failures


def evaluate(
    run_path: AnyPath,
    *,
    data: str | Path | None = None,
    metrics: Sequence[str] | None = None,
    set: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    store: bool = True,
) -> Evaluated:
    """Measure a run on its held-out images, write evaluation.json, update the report.

    ``metrics``: names, or words for them such as "frechet" (default: all that take seconds and whose needs the model
    and the images meet); results have vaelab's names. ``set``: options of metrics by dotted key, such as
    {"nll.samples": 1000}. ``out``: a directory for evaluation.json and the report instead of the run's. ``store``:
    False writes nothing at all. Raises NotMeasurable for a metric asked for by name whose needs are not met, and
    PartialFailure after the other metrics are measured and kept.
    """
    run = Run.open(run_path, results=out if store else None)
    _ = run.evaluation  # if it is damaged, that is said before minutes of work, not after
    chosen = resolve_metrics(check_names(metrics, "metrics")) if metrics else default_metrics("evaluate")
    options = parse_options(recipes.check_overrides(set), chosen)
    learns(chosen)  # complains of an unknown name before anything is loaded
    model = load(run.path)
    failures = Failures()
    if store:
        run.check_writable()
    images = load_run_images(run, data)
    evaluation = evaluation_of(run, model, images, chosen)
    if metrics:
        check_needs(evaluation, chosen)
    evaluated = measure_run(run, evaluation, images.protocol, chosen, options, failures, store)
    if store:
        update_report(run, model)
    failures.raise_any("metrics that could not be measured")
    return evaluated


def evaluation_of(run: Run, model: VAE, images: RunImages, metrics: Sequence[str]) -> Evaluation:
    """A run's model on its held-out images, with the training images if one of the metrics needs them."""
    train = binarize(images.train, images.binarize) if learns(metrics) else None
    return Evaluation(model, images.valid, train, encode=partial(codes_of, run, model))
