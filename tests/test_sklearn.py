"""The estimator: scikit-learn's own checks, its tools, and numbers with known answers."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from vaelab.sklearn import VAE
from vaelab.system.errors import RecipeError, UnknownName

DIGITS, CLASSES = load_digits(return_X_y=True)
TINY: dict[str, Any] = {"epochs": 2, "hidden": (8,), "random_state": 0, "num_samples": 2}


@pytest.fixture(scope="module")
def fitted() -> VAE:
    """An estimator of 500 digits as flat rows."""
    return VAE(epochs=5, hidden=(64,), random_state=0).fit(DIGITS[:500])


@parametrize_with_checks([VAE(**TINY)])  # no check is expected to fail
def test_checks_of_scikit_learn(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


@pytest.mark.slow
def test_all_digits_take_seconds() -> None:
    vae = VAE(latent_dim=8, random_state=0)
    train, test = DIGITS[:1500], DIGITS[1500:]
    codes = vae.fit(train).transform(train)
    accuracy = LogisticRegression(max_iter=2000).fit(codes, CLASSES[:1500]).score(vae.transform(test), CLASSES[1500:])
    assert accuracy > 0.75
    assert vae.score(test) > VAE(latent_dim=8, epochs=1, random_state=0).fit(train).score(test) + 20


# -- the tools of scikit-learn ----------------------------------------------------------------------------------------


def test_steps_of_a_pipeline() -> None:
    pipeline = make_pipeline(StandardScaler(), VAE(latent_dim=3, **TINY), LogisticRegression())
    assert pipeline.fit(DIGITS[:100], CLASSES[:100]).predict(DIGITS[:5]).shape == (5,)


def test_settings_are_searched_by_the_elbo() -> None:
    search = GridSearchCV(VAE(**TINY), {"latent_dim": [1, 2]}, cv=2).fit(DIGITS[:80])
    assert search.best_params_["latent_dim"] in (1, 2)
    assert search.best_score_ == max(search.cv_results_["mean_test_score"])
    assert np.isfinite(cross_val_score(VAE(**TINY), DIGITS[:80], cv=2)).all()


def test_clones_and_copies_give_the_same(fitted: VAE) -> None:
    again = clone(fitted).fit(DIGITS[:500])
    restored = pickle.loads(pickle.dumps(fitted))
    for other in (again, restored):
        np.testing.assert_array_equal(other.transform(DIGITS[:9]), fitted.transform(DIGITS[:9]))
        np.testing.assert_array_equal(other.score_samples(DIGITS[:9]), fitted.score_samples(DIGITS[:9]))
        np.testing.assert_array_equal(other.sample(3, 1), fitted.sample(3, 1))
    assert fitted.get_feature_names_out().tolist() == ["vae0", "vae1"]


def test_codes_become_a_data_frame(fitted: VAE) -> None:
    pytest.importorskip("pandas")
    frame = clone(fitted).set_params(**TINY).set_output(transform="pandas").fit_transform(DIGITS[:50])
    assert list(frame.columns) == ["vae0", "vae1"]


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_the_score_has_the_units_of_the_rows() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 3))
    scale = np.array([2.0, 16.0, 0.5])  # powers of 2, so that the scaled rows are the same to the last bit
    first, second = (VAE(**TINY).fit(values).score_samples(values) for values in (rows, rows * scale))
    np.testing.assert_allclose(second, first - np.log(scale).sum())


@pytest.mark.slow
def test_the_score_is_a_lower_bound_of_the_density() -> None:
    """The mean ln p of N(μ, σ²I) is −(D/2)(1 + ln 2πσ²), and the trained decoder comes close."""
    rows = np.random.default_rng(0).normal(5, 2, size=(3000, 4))
    score = VAE(latent_dim=1, epochs=8, hidden=(16,), random_state=0, num_samples=2).fit(rows).score(rows[:1000])
    entropy = 2 * (1 + np.log(2 * np.pi * 4))
    assert -entropy - 0.5 < score < -entropy + 0.1


def test_probabilities_are_not_scaled() -> None:
    rows = np.random.default_rng(0).integers(0, 2, (200, 5))
    scores = [VAE(likelihood="bernoulli", **TINY).fit(values).score(values) for values in (rows, 10 * rows)]
    assert scores[0] == scores[1] < -5 * np.log(2) * 0.95


def test_the_score_of_a_row_does_not_depend_on_the_others(fitted: VAE) -> None:
    whole = fitted.score_samples(DIGITS[:40])
    np.testing.assert_allclose(fitted.score_samples(DIGITS[39::-1])[::-1], whole)
    np.testing.assert_allclose(fitted.score_samples(DIGITS[7:8]), whole[7:8])


def test_codes_are_those_of_the_model(fitted: VAE) -> None:
    scaled = (DIGITS[:9] - fitted.data_min_) / fitted.data_range_
    expected = fitted.vae_.encode(scaled.reshape(9, 1, 1, 64)).mean
    np.testing.assert_allclose(fitted.transform(DIGITS[:9]), expected, atol=1e-5)
    rebuilt = fitted.inverse_transform(fitted.transform(DIGITS[:500]))
    assert rebuilt.shape == (500, 64)
    assert ((rebuilt - DIGITS[:500]) ** 2).mean() < DIGITS[:500].var(0).mean()  # better than the mean row


def test_constant_features_stay_constant(fitted: VAE) -> None:
    assert (DIGITS[:500, 0] == 0).all()
    assert fitted.data_range_[0] == 1
    np.testing.assert_allclose(fitted.sample(5)[:, 0], 0, atol=0.6)


# -- images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "image_shape"),
    [((8, 8), (1, 8, 8)), ((8, 9, 3), (3, 8, 9)), ((3, 8, 9), (3, 8, 9)), ((8, 9, 1), (1, 8, 9))],
)
def test_images_keep_their_layout(shape: tuple[int, ...], image_shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).random((30, *shape)).astype(np.float32)
    vae = VAE(**TINY).fit(images)
    assert vae.image_shape_ == image_shape
    assert vae.recipe_.network["name"] == "conv"
    rebuilt = vae.inverse_transform(vae.transform(images))
    assert (rebuilt.shape, rebuilt.dtype) == (images.shape, images.dtype)
    assert vae.sample(2).shape == (2, *shape)
    flat = images.reshape(30, -1)
    np.testing.assert_array_equal(vae.transform(flat), vae.transform(images))


def test_flat_rows_may_be_images() -> None:
    images = np.random.default_rng(0).random((30, 8, 9, 3))
    flat = VAE(image_shape=(8, 9, 3), **TINY).fit(images.reshape(30, -1))
    np.testing.assert_array_equal(flat.transform(images.reshape(30, -1)), VAE(**TINY).fit_transform(images))
    assert flat.sample(2).shape == (2, 216)


# -- settings ---------------------------------------------------------------------------------------------------------


def test_any_recipe_can_be_fitted() -> None:
    vae = VAE(set={"objective.name": "tc", "objective.beta": 2.0}, **TINY).fit(DIGITS[:60])
    assert vae.recipe_.objective["name"] == "tc"
    others = VAE(set={"prior.name": "vamp"}, **TINY), VAE(set={"posterior.name": "full_covariance"}, **TINY)
    assert all(np.isfinite(other.fit(DIGITS[:60]).score(DIGITS[:60])) for other in (vae, *others))


WRONG: dict[str, tuple[type[Exception], dict[str, Any], Any]] = {
    "an unknown likelihood": (UnknownName, {"likelihood": "gausian"}, DIGITS),
    "no latents": (RecipeError, {"latent_dim": 0}, DIGITS),
    "an unknown key": (UnknownName, {"set": {"objective.bta": 1}}, DIGITS),
    "a shape that does not fit": (ValueError, {"image_shape": (8, 9)}, DIGITS),
    "NaN in images": (ValueError, {}, np.full((5, 8, 8), np.nan)),
    "five axes": (ValueError, {}, np.zeros((5, 8, 8, 3, 2))),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_settings_are_one_line(case: str, wording: Callable[[object], None]) -> None:
    kind, settings, rows = WRONG[case]
    with pytest.raises(kind) as caught:
        VAE(**{**TINY, **settings}).fit(rows)
    wording(str(caught.value).splitlines()[0])


def test_codes_and_counts_are_checked(fitted: VAE, wording: Callable[[object], None]) -> None:
    calls: list[Callable[[], object]] = [
        lambda: fitted.inverse_transform(np.zeros((3, 5))),
        lambda: fitted.sample(0),
        lambda: fitted.transform(np.zeros((3, 9, 9))),
    ]
    for call in calls:
        with pytest.raises(ValueError) as caught:
            call()
        wording(caught.value)
