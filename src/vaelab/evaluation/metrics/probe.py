"""How well a linear rule reads attributes and classes off the codes."""

from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from vaelab.data.images import Images, choose
from vaelab.models.codes import Codes, Encode, encode_images, fit_probe
from vaelab.models.vae import VAE
from vaelab.system.device import generator as generator_for
from vaelab.system.device import progress

SYNONYMS = ("linear_probe",)
"""Other words for it that ``--metrics`` takes."""

Part = tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]
"""Codes ``[n, latent]`` and what their images have ``[n, attribute]``."""


def probe_attribute(
    train_codes: Float[np.ndarray, "n latent"],
    train_has: Bool[np.ndarray, " n"],
    codes: Float[np.ndarray, "m latent"],
    has: Bool[np.ndarray, " m"],
    C: float = 1.0,
) -> dict[str, float]:
    """Scores on ``codes`` of a linear probe fitted on ``train_codes``, each between 0 and 1.

    "majority_accuracy" is that of always giving the majority's answer in training ("has not" for a tie). ValueError
    where all or none of the training images have the attribute; both must occur among ``has``, too.
    """
    from sklearn import metrics

    log_odds = fit_probe(train_codes, train_has, C).decision(codes)
    majority = bool(train_has.mean() > 0.5)
    return {
        "accuracy": float(((log_odds > 0) == has).mean()),
        "majority_accuracy": float((has == majority).mean()),
        "balanced_accuracy": float(metrics.balanced_accuracy_score(has, log_odds > 0)),
        "roc_auc": float(metrics.roc_auc_score(has, log_odds)),
        "average_precision": float(metrics.average_precision_score(has, log_odds)),
    }


def measure_codes(
    codes: Codes,
    images: Images,
    generator: torch.Generator,
    *,
    train: Images | None = None,
    encode: Encode | None = None,
    C: Annotated[float, Gt(0)] = 1.0,
    most: Annotated[int, Ge(2)] = 20_000,
) -> dict[str, Any] | None:
    """Means over attributes of ``probe_attribute`` on posterior means; None where there is no attribute to probe.

    The probe learns from ``train``, ``most`` of them chosen at random, which it has encoded by ``encode``; without
    them from one half of the images, and is tested on the other. Attributes that all or none have in either part are
    left out.
    """
    assert (train is None) == (encode is None), "train and encode belong together"
    has, names = images.binary_attributes()
    if train is None or encode is None:
        learnt_from = "half of the images (fixed seed); tested on the other half"
        (half, half_has), test = _halves(codes.mean, has)
        total = len(half)
        rows = choose(total, most, generator)
        learn = half[rows], half_has[rows]
    else:
        learnt_from = "training images"
        train_has, train_names = train.binary_attributes()
        names, (train_has, has) = _common(names, has, train_names, train_has)
        if not names:
            return None
        total = len(train)
        rows = choose(total, most, generator)
        learn, test = (encode(train.take(rows)).mean, train_has[rows]), (codes.mean, has)
    used = [j for j in range(len(names)) if _both(learn[1][:, j]) and _both(test[1][:, j])]
    if not used:
        return None
    scores = {}
    with progress("probing", len(used)) as bar:
        for j in used:
            scores[names[j]] = probe_attribute(learn[0], learn[1][:, j], test[0], test[1][:, j], C)
            bar.advance(1)
    every = list(scores.values())
    return {
        **{key: float(np.mean([score[key] for score in every])) for key in every[0]},
        "attributes": len(used),
        "attributes_left_out": len(names) - len(used),
        "balanced_accuracy_per_attribute": {name: score["balanced_accuracy"] for name, score in scores.items()},
        "protocol": {
            "codes": "posterior means, standardised by those learnt from",
            "classifier": f"logistic regression, ½|w|² + {C:g} Σ log-loss, bias free",
            "learnt_from": learnt_from,
            "learnt_from_images": len(learn[0]),
            "learnt_from_images_of": total,
            "tested_on_images": len(test[0]),
        },
    }


def measure(
    model: VAE,
    images: Images,
    generator: torch.Generator,
    *,
    train: Images | None = None,
    C: Annotated[float, Gt(0)] = 1.0,
    most: Annotated[int, Ge(2)] = 20_000,
) -> dict[str, Any] | None:
    """``measure_codes`` of freshly encoded images."""
    encode = None if train is None else partial(encode_images, model)
    return measure_codes(encode_images(model, images), images, generator, train=train, encode=encode, C=C, most=most)


def _halves(codes: NDArray[np.floating[Any]], has: NDArray[np.bool_]) -> tuple[Part, Part]:
    order = torch.randperm(len(codes), generator=generator_for(0, "probe", "halves")).numpy()
    first, second = np.sort(order[: len(codes) // 2]), np.sort(order[len(codes) // 2 :])
    return (codes[first], has[first]), (codes[second], has[second])


def _common(
    names: tuple[str, ...], has: NDArray[np.bool_], train_names: tuple[str, ...], train_has: NDArray[np.bool_]
) -> tuple[tuple[str, ...], tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """All names of either set, and both tables with a column for each: a class that is in no image has a False one."""
    every = tuple(dict.fromkeys((*train_names, *names)))
    tables = []
    for own, table in ((train_names, train_has), (names, has)):
        columns = [table[:, own.index(name)] if name in own else np.zeros(len(table), bool) for name in every]
        tables.append(np.stack(columns, 1) if columns else np.empty((len(table), 0), bool))
    return every, (tables[0], tables[1])


def _both(has: NDArray[np.bool_]) -> bool:
    return bool(has.any()) and not bool(has.all())
