"""Metrics applied to a run, kept in evaluation.json with what they were measured on; codes kept in the run's cache."""

import hashlib
import inspect
import io
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np

from vaelab.data.images import Images
from vaelab.data.npy import NpyHeader, read_npz
from vaelab.evaluation.features import Extractor
from vaelab.models.codes import Codes, Encode, encode_images
from vaelab.models.vae import VAE
from vaelab.recipe import check_options
from vaelab.run import CACHE, EVALUATION, Run
from vaelab.system import registry as catalog
from vaelab.system.device import generator
from vaelab.system.failures import OnFailure, is_of_system
from vaelab.system.files import write_atomic

DEFAULT_METRICS = ("likelihood",)
"""What a training ends with."""
COMPARED = ("likelihood", "decomposition", "active_units", "sparsity", "fidelity", "probe")
"""What runs are compared by."""
OF_FACTORS = ("mig", "sap", "modularity", "irs", "factor_score", "beta_score")
"""And where the images have known factors."""
SEED = 0
OURS = ("train", "extractor")
"""Arguments of a metric that evaluation gives, and no person."""


def evaluate(
    run: Run,
    model: VAE,
    images: Images,
    protocol: dict[str, Any],
    metrics: tuple[str, ...] = DEFAULT_METRICS,
    train: Images | None = None,
    extractor: Extractor | None = None,
    options: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    on_failure: OnFailure | None = None,
    store: bool = True,
) -> dict[str, Any]:
    """Metric → numbers and protocol of ``run`` on ``images``; what is known already is not measured again.

    ``train``: images for the metrics that learn something, treated as ``images`` were (binarised or not). Metrics for
    which these images have nothing to measure are not in the result. ``options``: metric → its own keyword arguments.
    ``on_failure`` is called with the name of a metric that fails, and its error; the others go on. Without it the error
    is raised. ``store``: keep the results in evaluation.json.
    """
    modules = {name: _load(name) for name in metrics}
    measured_on = {
        **protocol,
        **_digests("images", images),
        "weights_sha256": run.weights_sha256,
        "seed": SEED,
    }
    encode = partial(codes_of, run, model)
    codes = cache(lambda: encode(images))
    known = run.evaluation
    for name, module in modules.items():
        learns_from = train if learns(name) else None
        looks_through = extractor if looks(name) else None
        wanted = {
            **measured_on,
            **({} if learns_from is None else _digests("train", learns_from)),
            **({"extractor": looks_through.name} if looks_through is not None else {}),
            **({"options": dict(options[name])} if options.get(name) else {}),
        }
        own = dict(options.get(name, {}))
        if known.get(name, {}).get("measured_on") == wanted:
            continue
        random = generator(SEED, "evaluation", name)
        try:
            if hasattr(module, "measure_codes"):
                own |= _training(module, learns_from, encode)
                numbers = module.measure_codes(codes(), images, random, **own)
            else:
                given = {"train": learns_from, "extractor": looks_through}
                own |= {key: value for key, value in given.items() if value is not None}
                numbers = module.measure(model, images, random, **own)
        except Exception as error:
            if on_failure is None or is_of_system(error):
                raise
            on_failure(name, error)
            continue
        known.pop(name, None)
        if numbers is not None:
            known[name] = {**numbers, "measured_on": wanted}
        if store:
            run.write_json(EVALUATION, known)
    return {name: known[name] for name in metrics if name in known}


def _digests(name: str, images: Images) -> dict[str, str]:
    """Fingerprints of images and, where there is any, of what is told of them."""
    told = images.told_fingerprint()
    return {f"{name}_sha256": images.fingerprint(), **({} if told is None else {f"{name}_told_sha256": told})}


def usual() -> tuple[str, ...]:
    """What a run is evaluated by unless told otherwise: every metric but those whose file says ``BY_DEFAULT = False``.

    Those that have nothing to measure on the images at hand, without factors, say, cost nothing.
    """
    modules = {name: catalog.load("metrics", name) for name in catalog.names("metrics")}
    every = [name for name, m in modules.items() if hasattr(m, "measure") and getattr(m, "BY_DEFAULT", True)]
    return tuple(sorted(every, key=lambda name: COMPARED.index(name) if name in COMPARED else len(COMPARED)))


def resolve_metrics(given: Sequence[str]) -> tuple[str, ...]:
    """The names of metrics from names and the other words for them, such as "fid", each once.

    A metric lists these words as ``SYNONYMS``. Case and hyphens do not matter. UnknownName for other words.
    """
    return tuple(dict.fromkeys(map(_resolve, given)))


def _resolve(word: str) -> str:
    every = catalog.names("metrics")
    plain = word.strip().casefold().replace("-", "_").replace(" ", "_")
    if word in every or plain in every:
        return word if word in every else plain
    return next((name for name in every if plain in getattr(catalog.load("metrics", name), "SYNONYMS", ())), word)


def learns(metric: str) -> bool:
    """Whether a metric learns something from training images."""
    return "train" in inspect.signature(_load(metric).measure).parameters


def looks(metric: str) -> bool:
    """Whether a metric looks at images through an extractor of features."""
    return "extractor" in inspect.signature(_load(metric).measure).parameters


def parse_options(overrides: Mapping[str, Any], metrics: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Metric → its options, checked, from dotted keys such as "nll.samples"; WrongUsage lists what can be set."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in overrides.items():
        word, _, option = key.partition(".")
        metric = _resolve(word)
        if metric not in metrics:
            raise catalog.unknown("metric in --set, which must be among those measured:", metric, metrics)
        found.setdefault(metric, {})[option] = value
    return {metric: check_options(metric, _load(metric).measure, given, OURS) for metric, given in found.items()}


def _load(metric: str) -> Any:
    """The module of a metric; UnknownName for one that measures something else than one run on one set of images."""
    try:
        module = catalog.load("metrics", metric)
    except catalog.UnknownName:
        module = None
    if not hasattr(module, "measure"):
        every = catalog.names("metrics")
        valid = [name for name in every if hasattr(catalog.load("metrics", name), "measure")]
        raise catalog.unknown("metric of a run", metric, valid)
    return module


def _training(module: ModuleType, train: Images | None, encode: Encode) -> dict[str, Any]:
    """What a metric on codes is given to learn from, by name."""
    if train is None:
        return {}
    encodes = "encode" in inspect.signature(module.measure_codes).parameters
    return {"train": train, **({"encode": encode} if encodes else {})}


# -- codes ------------------------------------------------------------------------------------------------------------


def codes_of(run: Run, model: VAE, images: Images) -> Codes:
    """The posteriors of ``images`` under ``model``, which is that of ``run``; encoded once and kept in the run's cache.

    The cache may be removed at any time; a file in it that cannot be read is made again.
    """
    key = hashlib.sha256(f"{run.weights_sha256} {images.fingerprint()}".encode()).hexdigest()
    path, shape = run.results / CACHE / f"codes-{key[:20]}.npz", (len(images), model.spec.latent_dim)
    codes = _read(path, shape)
    if codes is None and run.results != run.path:
        codes = _read(run.path / CACHE / path.name, shape)
    if codes is None:
        codes = encode_images(model, images)
        content = io.BytesIO()
        np.savez(content, mean=codes.mean, log_var=codes.log_var)
        with suppress(OSError):  # a full or read-only disk: slower the next time, no less right
            write_atomic(path, content.getvalue())
    return codes


def _read(path: Path, shape: tuple[int, int]) -> Codes | None:
    """The codes in a file, whose checksums are verified; None where they are not there, damaged, or of other images."""

    def check(name: str, header: NpyHeader) -> None:
        if header.shape != shape or header.dtype != np.float32:
            raise ValueError(f"{path}: {name} is {header.dtype} {list(header.shape)}")

    try:
        stored = read_npz(path, "mean", "log_var", max_bytes=4 * math.prod(shape), check=check)
    except (OSError, ValueError):
        return None
    return Codes(stored["mean"], stored["log_var"])
