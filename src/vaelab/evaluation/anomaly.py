"""How well a score tells unusual images from normal ones, whatever the sizes of the two sets.

A score is larger the more unusual an image: −ELBO, −L_K of the importance-weighted bound, the reconstruction error.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray


def roc_auc(scores_normal: Float[np.ndarray, " n"], scores_unusual: Float[np.ndarray, " m"]) -> float:
    """The area under the ROC curve: P(an unusual image scores higher than a normal one) + ½ P(they score the same).

    Hanley & McNeil 1982 (Radiology 143(1)). 0 to 1, by chance ½; scores may be infinite. ValueError for nan or none.
    """
    normal, unusual = _checked(scores_normal, scores_unusual)
    ordered = np.sort(normal)
    lower, not_higher = (np.searchsorted(ordered, unusual, side).sum() for side in ("left", "right"))
    return float(lower + not_higher) / (2 * len(normal) * len(unusual))


def roc_curve(
    scores_normal: Float[np.ndarray, " n"], scores_unusual: Float[np.ndarray, " m"]
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """False and true positive rate: shares of normal and of unusual images that score at least t, for falling t.

    The first point is (0, 0), the last (1, 1), and there is one for every distinct score; float64. ValueError for nan,
    and for no scores.
    """
    normal, unusual = _checked(scores_normal, scores_unusual)
    thresholds = _thresholds(normal, unusual)
    fpr, tpr = (
        np.concatenate([[0.0], 1 - np.searchsorted(np.sort(scores), thresholds, "left") / len(scores)])
        for scores in (normal, unusual)
    )
    return fpr, tpr


def separation(
    scores_normal: Float[np.ndarray, " n"],
    scores_unusual: Float[np.ndarray, " m"],
) -> dict[str, float]:
    """Numbers of the ROC curve, as if there were as many unusual images as normal ones, and two thresholds on it.

    With tpr and fpr the shares of unusual and of normal images at or above a threshold: "roc_auc";
    "balanced_average_precision", Σ Δtpr · tpr/(tpr + fpr), by chance ½; "best_balanced_accuracy", the largest
    (tpr + 1 − fpr)/2, whose "threshold" is chosen on these very images, with its "threshold_tpr" and "threshold_fpr";
    "fpr_at_95_tpr", the fpr at the highest threshold where tpr ≥ 0.95, the "threshold_at_95_tpr". Thresholds have the
    unit of the scores; all other numbers are between 0 and 1.
    """
    fpr, tpr = roc_curve(scores_normal, scores_unusual)
    thresholds = _thresholds(*_checked(scores_normal, scores_unusual))
    best, enough = 1 + int(np.argmax(tpr[1:] - fpr[1:])), int(np.argmax(tpr >= 0.95))  # the first has no threshold
    return {
        "roc_auc": roc_auc(scores_normal, scores_unusual),
        "balanced_average_precision": float(np.sum(np.diff(tpr) * tpr[1:] / (tpr[1:] + fpr[1:]))),
        "best_balanced_accuracy": float((tpr + 1 - fpr).max() / 2),
        "threshold": float(thresholds[best - 1]),
        "threshold_tpr": float(tpr[best]),
        "threshold_fpr": float(fpr[best]),
        "fpr_at_95_tpr": float(fpr[enough]),
        "threshold_at_95_tpr": float(thresholds[enough - 1]),
    }


def separations(
    normal: Mapping[str, Float[np.ndarray, " n"]], unusual: Mapping[str, Float[np.ndarray, " m"]]
) -> dict[str, Any]:
    """``separation`` by each of several scores of the same two sets, by name, and the "protocol".

    ValueError if a score is known of one set only, or of another number of images than the next.
    """
    if not normal or normal.keys() != unusual.keys():
        named = [", ".join(scores) or "none" for scores in (normal, unusual)]
        raise ValueError(
            f"both sets need the same scores; got {named[0]} for the normal images, {named[1]} for the others"
        )
    lengths = [sorted({len(scores) for scores in of_set.values()}) for of_set in (normal, unusual)]
    if max(map(len, lengths)) > 1:
        raise ValueError(
            f"every score is one of the same images; got {lengths[0]} normal and {lengths[1]} unusual ones"
        )
    sizes = {"normal_images": lengths[0][0], "unusual_images": lengths[1][0]}
    return {
        **{name: separation(normal[name], unusual[name]) for name in normal},
        "protocol": {
            **sizes,
            "scores": "larger for the more unusual image; ties count half",
            "balance": "both sets weigh the same, whatever their sizes",
            "threshold": "a score at or above it counts as unusual",
            "best_balanced_accuracy": "threshold chosen on the images measured",
            "fpr_at_95_tpr": "share of normal images above a threshold that 95 % of the unusual ones reach",
        },
    }


def _thresholds(normal: NDArray[np.float64], unusual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every distinct score, falling: those of the points of the ROC curve but the first."""
    falling: NDArray[np.float64] = np.unique(np.concatenate([normal, unusual]))[::-1]
    return falling


def _checked(*of_sets: NDArray[Any]) -> list[NDArray[np.float64]]:
    for name, scores in zip(("normal", "unusual"), of_sets, strict=True):
        if len(scores) == 0:
            raise ValueError(f"no scores of {name} images: a comparison needs some of both sets")
        if np.isnan(scores).any():
            raise ValueError(f"{int(np.isnan(scores).sum())} of {len(scores)} scores of {name} images are nan")
    return [scores.astype(np.float64) for scores in of_sets]
