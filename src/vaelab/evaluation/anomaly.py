"""Separation of unusual images from normal ones by a score, independent of the sizes of the two sets.

A score is larger for a more unusual image: −ELBO, −L_K of the importance-weighted bound, the reconstruction error.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float


def separation(normal: Float[np.ndarray, " n"], unusual: Float[np.ndarray, " m"]) -> dict[str, float | None]:
    """Return numbers of the ROC curve of two sets of scores that weigh the same, and two thresholds on it.

    A score at or above a threshold counts as unusual; tpr and fpr are the shares of unusual and normal images there.

    "roc_auc" is P(an unusual image scores higher) + ½ P(equal scores) (Hanley & McNeil 1982, Radiology 143(1)).

    The "balanced_average_precision" is Σ Δtpr · tpr / (tpr + fpr). Both are ½ by chance.

    "best_balanced_accuracy" is the largest (tpr + 1 − fpr) / 2, at the "threshold", which is chosen on these images.

    "fpr_at_95_tpr" is the fpr at "threshold_at_95_tpr", the highest threshold with tpr ≥ 0.95.

    Thresholds have the unit of the scores and are None if infinite; all other numbers are between 0 and 1. Scores may
    be infinite. Raises ValueError for an empty set and for nan.
    """
    from sklearn import metrics

    for name, scores in (("normal", normal), ("unusual", unusual)):
        if len(scores) == 0 or np.isnan(scores).any():
            raise ValueError(f"{int(np.isnan(scores).sum())} of {len(scores)} scores of {name} images are nan")
    # Ranks in place of scores: only the order matters, and scikit-learn refuses infinite scores.
    values, ranks = np.unique(np.concatenate([normal, unusual]).astype(np.float64), return_inverse=True)
    is_unusual = np.repeat([False, True], [len(normal), len(unusual)])
    weights = np.repeat([1 / len(normal), 1 / len(unusual)], [len(normal), len(unusual)])
    fpr, tpr, at_rank = metrics.roc_curve(is_unusual, ranks, drop_intermediate=False)
    fpr, tpr, thresholds = fpr[1:], tpr[1:], values[at_rank[1:].astype(np.int64)]  # the first point has no threshold
    best, enough = int(np.argmax(tpr - fpr)), int(np.argmax(tpr >= 0.95))
    return {
        "roc_auc": float(metrics.roc_auc_score(is_unusual, ranks)),
        "balanced_average_precision": float(metrics.average_precision_score(is_unusual, ranks, sample_weight=weights)),
        "best_balanced_accuracy": float(tpr[best] + 1 - fpr[best]) / 2,
        "threshold": _finite(thresholds[best]),
        "threshold_tpr": float(tpr[best]),
        "threshold_fpr": float(fpr[best]),
        "fpr_at_95_tpr": float(fpr[enough]),
        "threshold_at_95_tpr": _finite(thresholds[enough]),
    }


def _finite(threshold: float) -> float | None:
    return float(threshold) if np.isfinite(threshold) else None


def separations(
    normal: Mapping[str, Float[np.ndarray, " n"]], unusual: Mapping[str, Float[np.ndarray, " m"]]
) -> dict[str, Any]:
    """Return ``separation`` for each of several scores of the same two sets, by name, and the "protocol"."""
    found: dict[str, Any] = {name: separation(normal[name], unusual[name]) for name in normal}
    return {
        **found,
        "protocol": {
            "normal_images": len(next(iter(normal.values()))),
            "unusual_images": len(next(iter(unusual.values()))),
            "scores": "larger for a more unusual image; ties count half",
            "balance": "both sets weigh the same, regardless of their sizes",
            "threshold": "a score at or above it counts as unusual; null if it is infinite",
            "best_balanced_accuracy": "threshold chosen on the images measured",
            "fpr_at_95_tpr": "share of normal images above a threshold that 95 % of the unusual ones reach",
        },
    }
