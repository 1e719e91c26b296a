"""Metrics of a run, stored in evaluation.json with what they were measured on; codes cached in the run."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from vaelab.data.images import Images
from vaelab.data.npy import read_npz
from vaelab.evaluation.evaluation import OWN_SAMPLER, Evaluation, NotMeasurable
from vaelab.evaluation.metrics import Metric, Result, Verb, load_metric, load_metrics
from vaelab.models.codes import Codes, encode_images
from vaelab.models.vae import VAE
from vaelab.recipe import check_options, signature_schema
from vaelab.run import CACHE, EVALUATION, Run
from vaelab.run.layout import evaluation_file
from vaelab.system import registry
from vaelab.system.failures import OnFailure, is_of_system
from vaelab.system.files import write_atomic


@dataclass(frozen=True)
class Evaluated:
    """Results of metrics on one set of images."""

    results: dict[str, Result]
    """Metric → its numbers, their protocol, and what they were measured on."""
    skipped: dict[str, str]
    """Metric → why it was not measured, such as "needs training images"."""


def measure_run(
    run: Run,
    evaluation: Evaluation,
    protocol: Mapping[str, Any],
    metrics: Sequence[str],
    options: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    on_failure: OnFailure | None = None,
    store: bool = True,
    split: str = "",
) -> Evaluated:
    """Measure ``run`` with the given metrics; stored results are not measured again.

    ``evaluation`` holds the run's model and the images, ``protocol`` describes these images. ``options``: metric → its
    keyword arguments. A metric whose needs are not met is skipped. ``on_failure`` receives the name and the error of a
    metric that fails, and the others are still measured; without it the error is raised. ``store``: write the results
    to evaluation.json, or to the file of another ``split`` than the one that the run validates on.
    """
    images = {**protocol, **_digests("images", evaluation.images), "weights_sha256": run.weights_sha256}
    file = evaluation_file(split) if split else EVALUATION
    known, skipped = run.split_evaluation(split) if split else run.evaluation, dict[str, str]()
    for name in metrics:
        metric, own = load_metric(name), dict(options.get(name, {}))
        try:
            evaluation.check_needs(metric.needs)
            measured_on = {**images, "seed": evaluation.seed, **_dependencies(evaluation, metric)}
            measured_on |= {"options": own} if own else {}
            measured_on |= _sampler_of(metric, own, evaluation)
            if known.get(name, {}).get("measured_on") == measured_on:
                continue
            numbers = cast(Any, metric.measure)(evaluation, **own)
            known.pop(name, None)  # the newest result comes last
            known[name] = {**numbers, "measured_on": measured_on}
        except NotMeasurable as error:
            skipped[name] = str(error)
            if known.pop(name, None) is None:
                continue
        except Exception as error:
            if on_failure is None or is_of_system(error):
                raise
            on_failure(name, error)
            continue
        if store:
            run.write_json(file, known)
    return Evaluated({name: known[name] for name in metrics if name in known}, skipped)


def _dependencies(evaluation: Evaluation, metric: Metric) -> dict[str, str]:
    """Return what a metric's numbers depend on besides the images measured."""
    train = _digests("train", evaluation.train) if metric.needs_train_images else {}
    return {**train, **({"extractor": evaluation.extractor.name} if "features" in metric.needs else {})}


def _sampler_of(metric: Metric, options: Mapping[str, Any], evaluation: Evaluation) -> dict[str, Any]:
    """Return the sampler of the recipe if a metric draws from it and it is not the prior."""
    _, default = signature_schema(metric.measure).get("sampler", (None, None))
    used = options.get("sampler", default) in (OWN_SAMPLER, evaluation.own_sampler["name"])
    return {"recipe_sampler": evaluation.own_sampler} if used and evaluation.own_sampler["name"] != "prior" else {}


def _digests(name: str, images: Images) -> dict[str, str]:
    """Return the digests of images and, if there are any, of their annotations."""
    annotations = images.annotations_digest()
    return {
        f"{name}_sha256": images.fingerprint(),
        **({} if annotations is None else {f"{name}_annotations_sha256": annotations}),
    }


def known_results(run: Run, like: Result) -> dict[str, Result]:
    """Return all stored results of a run for the same images and weights as the result ``like``, with any options."""
    same = ("images_sha256", "images_annotations_sha256", "weights_sha256")
    wanted = [like["measured_on"].get(key) for key in same]
    entries = run.evaluation.items()
    return {name: entry for name, entry in entries if [entry["measured_on"].get(key) for key in same] == wanted}


# -- names and options of metrics -------------------------------------------------------------------------------------


def default_metrics(verb: Verb) -> tuple[str, ...]:
    """Return the metrics that a command measures by default, in the order of tables."""
    metrics = load_metrics().items()
    return tuple(name for name, metric in metrics if isinstance(metric, Metric) and verb in metric.by_default)


def resolve_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Return the metrics with the given names or synonyms, each once; unknown names are kept.

    Case and hyphens do not matter.
    """
    return tuple(dict.fromkeys(map(_resolve, names)))


def _resolve(name: str) -> str:
    metrics = load_metrics()
    plain = name.strip().casefold().replace("-", "_").replace(" ", "_")
    if name in metrics or plain in metrics:
        return name if name in metrics else plain
    return next((n for n, metric in metrics.items() if isinstance(metric, Metric) and plain in metric.synonyms), name)


def parse_options(overrides: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return metric → its checked options, from dotted keys such as "nll.samples"; UsageError lists what can be set."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in overrides.items():
        name, _, option = key.partition(".")
        metric = _resolve(name)
        if metric not in metrics:
            raise registry.unknown("metric in --set, which must be among those measured:", metric, metrics)
        found.setdefault(metric, {})[option] = value
    return {name: check_options(name, load_metric(name).measure, given) for name, given in found.items()}


# -- codes ------------------------------------------------------------------------------------------------------------


def load_codes(run: Run, model: VAE, images: Images) -> Codes:
    """Return the posteriors of ``images`` under the model of ``run``, from the run's cache if they are there.

    The cache may be deleted at any time. A damaged file in it is replaced.
    """
    conditions = images.annotations_digest() if model.spec.condition != "none" else ""
    key = hashlib.sha256(f"{run.weights_sha256} {images.fingerprint()}{conditions}".encode()).hexdigest()
    path = run.results / CACHE / f"codes-{key[:20]}.npz"
    for place in dict.fromkeys((path, run.path / CACHE / path.name)):
        codes = _read_codes(place, model, len(images))
        if codes is not None:
            return codes
    codes = encode_images(model, images)
    content = io.BytesIO()
    np.savez(content, **{name: array for name, array in vars(codes).items() if array is not None})
    with suppress(OSError):  # on a full or read-only disk they are encoded again next time
        write_atomic(path, content.getvalue())
    return codes


def _read_codes(path: Path, model: VAE, count: int) -> Codes | None:
    """Return the codes in a file, with verified checksums; None if it is missing, damaged or of other images."""
    shapes = {"mean": (count, model.spec.latent_dim), "log_var": (count, model.spec.latent_dim)}
    if not model.has_latent_kl:
        shapes["image_kl"] = (count, 1)
    try:
        arrays = read_npz(path, *shapes, max_bytes=4 * count * model.spec.latent_dim)
    except (OSError, ValueError):
        return None
    fits = all(array.shape == shapes[name] and array.dtype == np.float32 for name, array in arrays.items())
    return Codes(**arrays) if fits else None
