"""Metrics applied to a run, kept in evaluation.json with what they were measured on."""

import hashlib
from typing import Any

from vaelab import catalog
from vaelab.images import Images
from vaelab.model import VAE
from vaelab.run import EVALUATION, Run
from vaelab.runtime import generator

DEFAULT_METRICS = ("likelihood",)
SEED = 0


def evaluate(
    run: Run, model: VAE, images: Images, protocol: dict[str, Any], metrics: tuple[str, ...] = DEFAULT_METRICS
) -> dict[str, Any]:
    """Metric → numbers and protocol of ``run`` on ``images``; what is known already is not measured again."""
    modules = {name: catalog.load("metrics", name) for name in metrics}
    measured_on = {
        **protocol,
        "images_sha256": images.fingerprint(),
        "weights_sha256": hashlib.sha256(run.model_path.read_bytes()).hexdigest(),
        "seed": SEED,
    }
    known = run.evaluation
    for name, module in modules.items():
        if known.get(name, {}).get("measured_on") != measured_on:
            numbers = module.measure(model, images, generator(SEED, "evaluation", name))
            known[name] = {**numbers, "measured_on": measured_on}
            run.write_json(EVALUATION, known)
    return {name: known[name] for name in metrics}
