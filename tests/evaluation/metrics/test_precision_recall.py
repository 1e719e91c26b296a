"""Precision, recall, density and coverage: reference vectors, loops, and what each of them sees."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn
from vectors import CASES, Case

from vaelab.data.images import Images
from vaelab.evaluation.evaluation import Evaluation, NotMeasurable
from vaelab.evaluation.features import PrincipalComponents
from vaelab.evaluation.metrics import precision_recall as metric
from vaelab.evaluation.metrics.precision_recall import density_coverage, precision_recall
from vaelab.models.vae import VAE

NAMES = ("precision", "recall", "density", "coverage")


def draw(count: int, seed: int, dim: int = 3) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((count, dim))


def by_loops(a: NDArray[np.float64], b: NDArray[np.float64], k: int) -> list[float]:
    """All four, pair by pair."""

    def radius(points: NDArray[np.float64], i: int) -> float:
        return sorted(float(np.linalg.norm(points[i] - points[j])) for j in range(len(points)) if j != i)[k - 1]

    def inside(centres: NDArray[np.float64], point: NDArray[np.float64]) -> list[bool]:
        return [float(np.linalg.norm(point - centres[i])) < radius(centres, i) for i in range(len(centres))]

    in_a, in_b = [inside(a, point) for point in b], [inside(b, point) for point in a]
    return [
        float(np.mean([any(row) for row in in_a])),
        float(np.mean([any(row) for row in in_b])),
        float(np.sum(in_a)) / (k * len(b)),
        float(np.mean([any(column) for column in zip(*in_a, strict=True)])),
    ]


@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("prdc/")])
def test_all_four_of_the_vectors(name: str, k: int) -> None:
    case: Any = Case(name)
    real, fake = case.real.numpy(), case.fake.numpy()
    for key, value in zip(NAMES, (*precision_recall(real, fake, k), *density_coverage(real, fake, k)), strict=True):
        case.expect(f"k{k}.{key}", np.float64(value))


@given(st.integers(0, 2**32 - 1), st.integers(4, 9), st.integers(4, 9), st.integers(1, 3), st.booleans())
def test_all_four_by_loops(seed: int, n: int, m: int, k: int, has_duplicates: bool) -> None:
    a, b = draw(n, seed), draw(m, seed + 1)
    if has_duplicates:
        a[-1], b[-1] = a[0], a[0]
    assert [*precision_recall(a, b, k), *density_coverage(a, b, k)] == pytest.approx(by_loops(a, b, k))


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100), st.floats(-100, 100))
def test_scale_and_offset_change_nothing(seed: int, scale: float, shift: float) -> None:
    a, b = draw(12, seed), draw(12, seed + 1)
    moved = [scale * x + shift for x in (a, b)]
    assert precision_recall(*moved) == precision_recall(a, b)
    assert density_coverage(*moved) == density_coverage(a, b)


@given(st.integers(0, 2**32 - 1), st.integers(6, 30))
def test_all_four_of_equal_sets_are_1(seed: int, count: int) -> None:
    a = draw(count, seed)
    assert precision_recall(a, a) == (1, 1)
    assert density_coverage(a, a) == (1, 1)


def test_exchanged_sets_exchange_precision_and_recall() -> None:
    a, b = draw(40, 0), draw(30, 1) * 0.5
    precision, recall = precision_recall(a, b)
    assert precision_recall(b, a) == (recall, precision)
    assert precision > recall  # narrower than the real ones: all look real, but not all could have been generated


def test_a_lost_mode_costs_recall_and_coverage_but_no_precision() -> None:
    a = draw(200, 0, 1) + np.repeat([[0.0], [100.0]], 100, 0)
    b = draw(200, 1, 1)
    (precision, recall), (density, coverage) = precision_recall(a, b), density_coverage(a, b)
    assert precision > 0.9
    assert density > 0.7
    assert 0.4 < recall <= 0.5
    assert 0.4 < coverage <= 0.5


def test_an_outlier_among_the_real_images_raises_precision_but_hardly_density() -> None:
    a, far = draw(200, 0, 2), np.array([[30.0, 0]])
    b = draw(200, 1, 2) + np.array([8, 0])
    clean, dirty = (precision_recall(x, b)[0] for x in (a, np.concatenate([a, far])))
    assert clean < 0.05
    assert dirty > 0.9
    assert density_coverage(np.concatenate([a, far]), b)[0] < 0.3


def test_more_pairs_than_a_block() -> None:
    """Two copies of the sets, far apart, have the values of one."""
    a, b = draw(1100, 0), draw(1100, 1)
    twice = [np.concatenate([x, x + 1000]) for x in (a, b)]  # 2200 × 2200 pairs: two blocks
    assert precision_recall(*twice) == precision_recall(a, b)
    assert density_coverage(*twice) == density_coverage(a, b)


@pytest.mark.parametrize(("score", "count"), [(precision_recall, 3), (density_coverage, 5)])
def test_there_must_be_a_kth_neighbour(score: Callable[..., Any], count: int) -> None:
    for sizes in ((9, count), (count, 9)):
        with pytest.raises(ValueError):
            score(draw(sizes[0], 0), draw(sizes[1], 1))
    score(draw(count + 1, 0), draw(count + 1, 1))


# -- measure ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def measured(make_model: Callable[..., tuple[VAE, nn.Module]]) -> Callable[..., Any]:
    """Measure an untrained model, whose samples are all about grey, by principal components of other images."""

    def images(count: int, seed: int = 0) -> Images:
        return Images(np.random.default_rng(seed).integers(0, 256, (count, 9, 8, 1), dtype=np.uint8))

    extractor = PrincipalComponents(images(60, 1), "the training images")
    return lambda count, **options: metric.measure(
        Evaluation(make_model()[0], images(count), images(60, 1), extractor=extractor), **options
    )


def test_a_grey_image_looks_real_but_reaches_nothing(measured: Callable[..., Any]) -> None:
    """In many dimensions the centre lies in every ball, so precision alone rewards blur."""
    found = measured(60)
    assert [found[name] for name in NAMES] == [1, 0, 12, 1]  # in 60 balls of 5 neighbours
    assert {"k": 3, "k_density": 5, "images": 60}.items() <= found["protocol"].items()


def test_too_few_images_have_no_kth_neighbour(measured: Callable[..., Any], wording: Any) -> None:
    for count, options in ((5, {}), (50, {"samples": 5})):
        with pytest.raises(NotMeasurable) as raised:
            measured(count, **options)
        wording(raised.value)
    measured(6)
    measured(5, k_density=4)
