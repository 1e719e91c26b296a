"""How well a linear rule reads attributes and classes off the codes."""

from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from vaelab.data.images import subsample
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric, Quantity
from vaelab.models.codes import fit_probe
from vaelab.system.progress import progress


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


def measure(
    evaluation: Evaluation, *, C: Annotated[float, Gt(0)] = 1.0, most: Annotated[int, Ge(2)] = 20_000
) -> dict[str, Any] | None:
    """Means over attributes of ``probe_attribute`` on posterior means; None if there is no attribute to probe.

    The probe learns from ``most`` of the training images, chosen at random, and is tested on the images measured.
    Attributes that all or none have in either part are left out.
    """
    train, random = evaluation.train, evaluation.generator("probe")
    names, (train_has, has) = _common(*train.binary_attributes(), *evaluation.images.binary_attributes())
    rows = subsample(len(train), most, random)
    train_has = train_has[rows]
    used = [j for j in range(len(names)) if _both(train_has[:, j]) and _both(has[:, j])]
    if not used:
        return None
    train_codes, codes, scores = evaluation.train_codes(rows).mean, evaluation.codes.mean, {}
    with progress("probing", len(used)) as bar:
        for j in used:
            scores[names[j]] = probe_attribute(train_codes, train_has[:, j], codes, has[:, j], C)
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
            "learnt_from": "training images",
            "learnt_from_images": len(rows),
            "learnt_from_images_of": len(train),
            "tested_on_images": len(codes),
        },
    }


def _common(
    train_has: NDArray[np.bool_], train_names: tuple[str, ...], has: NDArray[np.bool_], names: tuple[str, ...]
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


METRIC = Metric(
    measure,
    question="prediction",
    needs=frozenset({"train", "attributes"}),
    quantities=(
        Quantity("accuracy", "probe accuracy", "share", "higher", digits=3, baseline="majority_accuracy"),
        Quantity("majority_accuracy", "accuracy of the majority's answer", "share", digits=3, drawn="never"),
        Quantity("balanced_accuracy", "probe balanced accuracy", "share", "higher", digits=3),
    ),
    order=50,
    synonyms=("linear_probe",),
)
