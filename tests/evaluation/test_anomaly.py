"""Scores of normal and unusual images held against each other: by hand, and by scikit-learn."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn import metrics

from vaelab.evaluation.anomaly import roc_auc, roc_curve, separation, separations

# Few values, so that many are equal; infinite ones, as −ln p of an impossible image is.
SCORES = arrays(np.float64, st.integers(1, 9), elements=st.sampled_from([-math.inf, -1.5, 0.0, 0.5, 2.0, math.inf]))


@given(SCORES, SCORES)
def test_area_counts_pairs_and_half_of_ties(normal: NDArray[np.float64], unusual: NDArray[np.float64]) -> None:
    pairs = [1.0 if u > n else 0.5 if u == n else 0.0 for u in unusual for n in normal]
    assert roc_auc(normal, unusual) == sum(pairs) / len(pairs)
    assert roc_auc(normal, unusual) + roc_auc(unusual, normal) == pytest.approx(1)


@given(SCORES, SCORES)
def test_area_is_that_under_the_curve(normal: NDArray[np.float64], unusual: NDArray[np.float64]) -> None:
    fpr, tpr = roc_curve(normal, unusual)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()
    assert np.trapezoid(tpr, fpr) == pytest.approx(roc_auc(normal, unusual))


@given(SCORES, SCORES, st.integers(2, 5))
def test_nothing_depends_on_the_sizes_of_the_sets_or_the_scale_of_scores(
    normal: NDArray[np.float64], unusual: NDArray[np.float64], times: int
) -> None:
    expected = separation(normal, unusual)
    assert separation(normal, np.repeat(unusual, times)) == pytest.approx(expected)
    assert separation(np.tile(normal, times), unusual) == pytest.approx(expected)
    scaled = separation(np.arctan(normal) + 7, np.arctan(unusual) + 7)
    for name, number in expected.items():
        is_threshold = name in THRESHOLDS
        assert scaled[name] == (np.arctan(number) + 7 if is_threshold else number)
        assert is_threshold or 0 <= number <= 1


THRESHOLDS = {"threshold", "threshold_at_95_tpr"}


def test_thresholds_have_the_rates_that_are_told_of_them() -> None:
    normal, unusual = some_scores()
    found = separation(normal, unusual)
    assert found["threshold_tpr"] == np.mean(unusual >= found["threshold"])
    assert found["threshold_fpr"] == pytest.approx(np.mean(normal >= found["threshold"]))
    accuracy = (found["threshold_tpr"] + 1 - found["threshold_fpr"]) / 2
    assert found["best_balanced_accuracy"] == pytest.approx(accuracy)
    assert found["fpr_at_95_tpr"] == pytest.approx(np.mean(normal >= found["threshold_at_95_tpr"]))
    assert np.mean(unusual >= found["threshold_at_95_tpr"]) >= 0.95
    higher = unusual[unusual > found["threshold_at_95_tpr"]].min()
    assert np.mean(unusual >= higher) < 0.95


def some_scores() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    random = np.random.default_rng(0)
    return random.standard_normal(150).round(1), (0.7 + random.standard_normal(40)).round(1)


def test_numbers_are_those_of_scikit_learn() -> None:
    normal, unusual = some_scores()
    is_unusual, scores = np.repeat([False, True], [150, 40]), np.concatenate([normal, unusual])
    weight = np.repeat([1 / 150, 1 / 40], [150, 40])
    found = separation(normal, unusual)
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(is_unusual, scores))
    precision = metrics.average_precision_score(is_unusual, scores, sample_weight=weight)
    assert found["balanced_average_precision"] == pytest.approx(precision)
    fpr, tpr, thresholds = metrics.roc_curve(is_unusual, scores, drop_intermediate=False)
    for ours, theirs in zip(roc_curve(normal, unusual), (fpr, tpr), strict=True):
        np.testing.assert_allclose(ours, theirs)
    balanced = [metrics.balanced_accuracy_score(is_unusual, scores >= threshold) for threshold in thresholds]
    assert found["best_balanced_accuracy"] == pytest.approx(max(balanced))
    assert found["fpr_at_95_tpr"] == pytest.approx(fpr[tpr >= 0.95].min())


def test_area_of_two_normal_distributions() -> None:
    quantiles = np.array([NormalDist().inv_cdf((i + 0.5) / 2000) for i in range(2000)])
    for distance in (0.0, 0.5, 2.0):
        expected = NormalDist().cdf(distance / math.sqrt(2))
        assert roc_auc(quantiles, quantiles + distance) == pytest.approx(expected, abs=1e-3)


def test_sets_apart_and_sets_alike() -> None:
    low, high = np.array([0.0, 1.0, 2.0]), np.array([3.0, 4.0])
    perfect = {"roc_auc": 1, "balanced_average_precision": 1, "best_balanced_accuracy": 1, "fpr_at_95_tpr": 0}
    at = {"threshold": 3, "threshold_tpr": 1, "threshold_fpr": 0, "threshold_at_95_tpr": 3}
    assert separation(low, high) == perfect | at
    wrong = {"roc_auc": 0, "balanced_average_precision": 0.25 + 0.25, "best_balanced_accuracy": 0.5, "fpr_at_95_tpr": 1}
    at = {"threshold": 4, "threshold_tpr": 1, "threshold_fpr": 1, "threshold_at_95_tpr": 4}
    assert separation(np.array([5.0]), np.array([4.0, 4.0])) == wrong | at
    same = separation(np.ones(3), np.ones(5))
    at = {"threshold": 1, "threshold_tpr": 1, "threshold_fpr": 1, "threshold_at_95_tpr": 1}
    half = {"roc_auc": 0.5, "balanced_average_precision": 0.5, "best_balanced_accuracy": 0.5, "fpr_at_95_tpr": 1}
    assert same == half | at


def test_several_scores_of_the_same_images() -> None:
    normal, unusual = some_scores()
    found = separations({"a": normal, "b": -normal}, {"a": unusual, "b": -unusual})
    assert found["a"] == separation(normal, unusual)
    assert found["b"]["roc_auc"] == pytest.approx(1 - found["a"]["roc_auc"])
    assert (found["protocol"]["normal_images"], found["protocol"]["unusual_images"]) == (150, 40)
    assert "95 %" in found["protocol"]["fpr_at_95_tpr"]


def test_scores_that_cannot_be_compared() -> None:
    some, none = np.array([1.0, 2.0]), np.empty(0)
    with pytest.raises(ValueError, match="no scores of unusual images"):
        roc_auc(some, none)
    with pytest.raises(ValueError, match="1 of 2 scores of normal images are nan"):
        separation(np.array([1.0, math.nan]), some)
    with pytest.raises(ValueError, match="got elbo for the normal images, error for the others"):
        separations({"elbo": some}, {"error": some})
    with pytest.raises(ValueError, match=r"got \[2, 4\] normal and \[2\] unusual"):
        separations({"elbo": some, "error": np.ones(4)}, {"elbo": some, "error": some})
