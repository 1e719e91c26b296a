"""Metrics applied to a run, kept in evaluation.json with what they were measured on; codes kept in the run's cache."""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from vaelab.data.images import Images
from vaelab.data.npy import NpyHeader, read_npz
from vaelab.evaluation.evaluation import SEED, Evaluation
from vaelab.evaluation.metrics import Metric, Result, Verb, load_metric, load_metrics
from vaelab.models.codes import Codes, encode_images
from vaelab.models.vae import VAE
from vaelab.recipe import check_options
from vaelab.run import CACHE, EVALUATION, Run
from vaelab.system import registry
from vaelab.system.failures import OnFailure, is_of_system
from vaelab.system.files import write_atomic

NOTHING_TO_MEASURE = "there is nothing to measure: too few images, too few values or too few latents"


@dataclass(frozen=True)
class Evaluated:
    """What is known of a run on one set of images."""

    results: dict[str, Result]
    """Metric → its numbers, their protocol, and what they were measured on."""
    skipped: dict[str, str]
    """Metric → why it was not measured."""


def measure_run(
    run: Run,
    evaluation: Evaluation,
    protocol: Mapping[str, Any],
    metrics: Sequence[str],
    options: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    on_failure: OnFailure | None = None,
    store: bool = True,
) -> Evaluated:
    """Measure ``run`` by some metrics; what is known already is not measured again.

    ``evaluation`` holds the run's model and the images, ``protocol`` says which images they are. ``options``: metric →
    its own keyword arguments. Metrics whose needs are not met are skipped. ``on_failure`` is called with the name of a
    metric that fails, and its error; the others go on. Without it the error is raised. ``store``: keep the results in
    evaluation.json.
    """
    told = {**protocol, **_digests("images", evaluation.images), "weights_sha256": run.weights_sha256}
    known, skipped = run.evaluation, {}
    for name in metrics:
        metric, own = load_metric(name), dict(options.get(name, {}))
        obstacle = evaluation.find_obstacle(metric.needs)
        if obstacle is not None:
            known.pop(name, None)
            skipped[name] = obstacle
            continue
        try:
            wanted = {**told, "seed": SEED, **_learned_from(evaluation, metric), **({"options": own} if own else {})}
            if known.get(name, {}).get("measured_on") == wanted:
                continue
            numbers = cast(Callable[..., Result | None], metric.measure)(evaluation, **own)
        except Exception as error:
            if on_failure is None or is_of_system(error):
                raise
            on_failure(name, error)
            continue
        known.pop(name, None)
        if numbers is None:
            skipped[name] = NOTHING_TO_MEASURE
        else:
            known[name] = {**numbers, "measured_on": wanted}
        if store:
            run.write_json(EVALUATION, known)
    return Evaluated({name: known[name] for name in metrics if name in known}, skipped)


def known_results(run: Run, like: Result) -> dict[str, Result]:
    """All results of a run on the same images and weights as those of the result ``like``, by whichever options."""
    same = ("images_sha256", "images_told_sha256", "weights_sha256")
    wanted = [like["measured_on"].get(key) for key in same]
    entries = run.evaluation.items()
    return {name: entry for name, entry in entries if [entry["measured_on"].get(key) for key in same] == wanted}


def default_metrics(verb: Verb) -> tuple[str, ...]:
    """Metrics that a verb measures unless told otherwise, in the order of tables."""
    metrics = load_metrics().items()
    return tuple(name for name, metric in metrics if isinstance(metric, Metric) and verb in metric.by_default)


def resolve_metrics(given: Sequence[str]) -> tuple[str, ...]:
    """The names of metrics from names and the other words for them (``Metric.synonyms``), each once.

    Case and hyphens do not matter. Unknown words stay as they are.
    """
    return tuple(dict.fromkeys(map(_resolve, given)))


def _resolve(word: str) -> str:
    every = load_metrics()
    plain = word.strip().casefold().replace("-", "_").replace(" ", "_")
    if word in every or plain in every:
        return word if word in every else plain
    return next((n for n, metric in every.items() if isinstance(metric, Metric) and plain in metric.synonyms), word)


def check_needs(evaluation: Evaluation, metrics: Sequence[str]) -> None:
    """NotMeasurable for the first metric whose needs are not met."""
    for name in metrics:
        evaluation.require(name, *load_metric(name).needs)


def learns(metrics: Sequence[str]) -> bool:
    """Whether one of these metrics needs the training images."""
    return any(load_metric(name).needs & {"train", "features"} for name in metrics)


def parse_options(overrides: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Metric → its options, checked, from dotted keys such as "nll.samples"; UsageError lists what can be set."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in overrides.items():
        word, _, option = key.partition(".")
        metric = _resolve(word)
        if metric not in metrics:
            raise registry.unknown("metric in --set, which must be among those measured:", metric, metrics)
        found.setdefault(metric, {})[option] = value
    return {name: check_options(name, load_metric(name).measure, given) for name, given in found.items()}


def _learned_from(evaluation: Evaluation, metric: Metric) -> dict[str, str]:
    """What a metric's numbers depend on besides the images measured."""
    train = _digests("train", evaluation.train) if metric.needs & {"train", "features"} else {}
    return {**train, **({"extractor": evaluation.extractor.name} if "features" in metric.needs else {})}


def _digests(name: str, images: Images) -> dict[str, str]:
    """Fingerprints of images and, if there are any, of their annotations."""
    told = images.annotations_digest()
    return {f"{name}_sha256": images.fingerprint(), **({} if told is None else {f"{name}_told_sha256": told})}


# -- codes ------------------------------------------------------------------------------------------------------------


def codes_of(run: Run, model: VAE, images: Images) -> Codes:
    """The posteriors of ``images`` under ``model``, which is that of ``run``; encoded once and kept in the run's cache.

    The cache may be removed at any time. A file in it that cannot be read is made again.
    """
    conditions = images.annotations_digest() if model.spec.condition != "none" else ""
    key = hashlib.sha256(f"{run.weights_sha256} {images.fingerprint()}{conditions}".encode()).hexdigest()
    path = run.results / CACHE / f"codes-{key[:20]}.npz"
    codes = _read(path, model, len(images))
    if codes is None and run.results != run.path:
        codes = _read(run.path / CACHE / path.name, model, len(images))
    if codes is None:
        codes = encode_images(model, images)
        arrays = {name: array for name, array in vars(codes).items() if array is not None}
        content = io.BytesIO()
        np.savez(content, **arrays)
        with suppress(OSError):  # a full or read-only disk: slower the next time, no less right
            write_atomic(path, content.getvalue())
    return codes


def _read(path: Path, model: VAE, count: int) -> Codes | None:
    """The codes in a file, whose checksums are verified; None where they are not there, damaged, or of other images."""
    shapes = {"mean": (count, model.spec.latent_dim), "log_var": (count, model.spec.latent_dim)}
    if not model.has_latent_kl:
        shapes["image_kl"] = (count, 1)

    def check(name: str, header: NpyHeader) -> None:
        if header.shape != shapes[name] or header.dtype != np.float32:
            raise ValueError(f"{path}: {name} is {header.dtype} {list(header.shape)}")

    try:
        stored = read_npz(path, *shapes, max_bytes=4 * count * model.spec.latent_dim, check=check)
    except (OSError, ValueError):
        return None
    return Codes(**stored)
