"""Separation of unusual images from normal ones by a score."""

import json
import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from vaelab.evaluation.anomaly import separation, separations

# Few values, so that many are equal, and infinite ones, such as −ln p of an impossible image.
SCORES = arrays(np.float64, st.integers(1, 9), elements=st.sampled_from([-math.inf, -1.5, 0.0, 0.5, 2.0, math.inf]))
Values = NDArray[np.float64]


def by_hand(normal: Values, unusual: Values) -> dict[str, Any]:
    """The same numbers from loops over pairs and thresholds."""
    thresholds = sorted({*normal.tolist(), *unusual.tolist()}, reverse=True)
    tpr, fpr = (np.array([np.mean(scores >= t) for t in thresholds]) for scores in (unusual, normal))
    best, enough = int(np.argmax(tpr - fpr)), int(np.argmax(tpr >= 0.95))
    pairs = [1.0 if u > n else 0.5 if u == n else 0.0 for u in unusual for n in normal]
    return {
        "roc_auc": sum(pairs) / len(pairs),
        "balanced_average_precision": float(np.sum(np.diff(tpr, prepend=0) * tpr / (tpr + fpr))),
        "best_balanced_accuracy": (tpr[best] + 1 - fpr[best]) / 2,
        "threshold": thresholds[best] if math.isfinite(thresholds[best]) else None,
        "threshold_tpr": tpr[best],
        "threshold_fpr": fpr[best],
        "fpr_at_95_tpr": fpr[enough],
        "threshold_at_95_tpr": thresholds[enough] if math.isfinite(thresholds[enough]) else None,
    }


@given(SCORES, SCORES)
def test_numbers_are_those_of_loops_over_pairs_and_thresholds(normal: Values, unusual: Values) -> None:
    found = separation(normal, unusual)
    assert found == pytest.approx(by_hand(normal, unusual))
    assert found["roc_auc"] + separation(unusual, normal)["roc_auc"] == pytest.approx(1)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@given(SCORES, SCORES, st.integers(2, 5))
def test_numbers_do_not_depend_on_set_sizes_or_score_scale(normal: Values, unusual: Values, times: int) -> None:
    expected = separation(normal, unusual)
    assert separation(normal, np.repeat(unusual, times)) == pytest.approx(expected)
    assert separation(np.tile(normal, times), unusual) == pytest.approx(expected)
    scaled = separation(np.arctan(normal) + 7, np.arctan(unusual) + 7)
    for name in expected.keys() - {"threshold", "threshold_at_95_tpr"}:
        assert scaled[name] == expected[name]


@pytest.mark.parametrize("distance", [0.0, 0.5, 2.0])
def test_roc_auc_of_two_normal_distributions(distance: float) -> None:
    quantiles = np.array([NormalDist().inv_cdf((i + 0.5) / 2000) for i in range(2000)])
    expected = NormalDist().cdf(distance / math.sqrt(2))
    assert separation(quantiles, quantiles + distance)["roc_auc"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("normal", "unusual", "expected"),
    [
        ([0, 1, 2], [3, 4], [1, 1, 1, 3, 1, 0, 0, 3]),
        ([5], [4, 4], [0, 0.5, 0.5, 4, 1, 1, 1, 4]),
        ([1, 1, 1], [1, 1, 1, 1, 1], [0.5, 0.5, 0.5, 1, 1, 1, 1, 1]),
    ],
    ids=["separate", "inverted", "equal"],
)
def test_known_separations(normal: list[float], unusual: list[float], expected: list[float]) -> None:
    assert list(separation(np.array(normal, float), np.array(unusual, float)).values()) == expected


def test_several_scores_of_the_same_images() -> None:
    random = np.random.default_rng(0)
    normal, unusual = random.standard_normal(150).round(1), (0.7 + random.standard_normal(40)).round(1)
    found = separations({"a": normal, "b": -normal}, {"a": unusual, "b": -unusual})
    assert found["a"] == separation(normal, unusual)
    assert found["b"]["roc_auc"] == pytest.approx(1 - found["a"]["roc_auc"])
    assert (found["protocol"]["normal_images"], found["protocol"]["unusual_images"]) == (150, 40)


@pytest.mark.parametrize("scores", [[], [1.0, math.nan]])
def test_empty_sets_and_nan_are_refused(scores: list[float]) -> None:
    for pair in ((np.array(scores), np.ones(2)), (np.ones(2), np.array(scores))):
        with pytest.raises(ValueError):
            separation(*pair)
