"""Projections against closed forms and scikit-learn."""

import numpy as np
import pytest
from exploring import cosine

from vaelab.explorer.projections import compute_neighbour_agreement, find_discriminants


def test_lda_without_posterior_variance_equals_scikit_learn():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    random = np.random.default_rng(0)
    labels = random.integers(0, 5, 500)
    means = random.standard_normal((500, 6)) @ random.standard_normal((6, 6)) + random.standard_normal((5, 6))[labels]
    theirs = LinearDiscriminantAnalysis(solver="eigen").fit(means, labels).scalings_.T
    for ours, vector in zip(find_discriminants(means, labels, np.zeros(6)), theirs, strict=False):
        assert abs(cosine(ours, vector)) == pytest.approx(1, abs=1e-4)


def test_neighbour_agreement_counts_points_at_one_position():
    assert compute_neighbour_agreement(np.array([[0.0, 0], [1, 0], [5, 0], [5, 0]]), np.array([0, 1, 1, 1])) == 0.5
