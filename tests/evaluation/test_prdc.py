"""Precision, recall, density and coverage: reference vectors, loops, what each of them sees, what is measured."""

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
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.features import PrincipalComponents
from vaelab.evaluation.metrics import precision_recall as metric
from vaelab.evaluation.metrics.precision_recall import density_coverage, precision_recall
from vaelab.models.vae import VAE

MakeModel = Callable[..., tuple[VAE, nn.Module]]
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
def test_all_four_of_the_reference_vectors(name: str, k: int) -> None:
    case: Any = Case(name)
    real, fake = case.real.numpy(), case.fake.numpy()
    for key, value in zip(NAMES, (*precision_recall(real, fake, k), *density_coverage(real, fake, k)), strict=True):
        case.expect(f"k{k}.{key}", np.float64(value))


@given(st.integers(0, 2**32 - 1), st.integers(4, 9), st.integers(4, 9), st.integers(1, 3))
def test_all_four_by_loops(seed: int, n: int, m: int, k: int) -> None:
    a, b = draw(n, seed), draw(m, seed + 1)
    assert [*precision_recall(a, b, k), *density_coverage(a, b, k)] == pytest.approx(by_loops(a, b, k))


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100), st.floats(-100, 100))
def test_scale_and_place_change_nothing(seed: int, scale: float, shift: float) -> None:
    a, b = draw(12, seed), draw(12, seed + 1)
    moved = [scale * x + shift for x in (a, b)]
    assert precision_recall(*moved) == precision_recall(a, b)
    assert density_coverage(*moved) == density_coverage(a, b)


@given(st.integers(0, 2**32 - 1), st.integers(6, 30))
def test_equal_sets_are_alike_in_every_respect(seed: int, count: int) -> None:
    a = draw(count, seed)
    assert precision_recall(a, a) == (1, 1)
    assert density_coverage(a, a) == (1, 1)


def test_swapped_roles_swap_precision_and_recall() -> None:
    a, b = draw(40, 0), draw(30, 1) * 0.5
    assert precision_recall(a, b) == precision_recall(b, a)[::-1]
    precision, recall = precision_recall(a, b)
    assert precision > recall  # narrower than the real ones: all look real, not all could have been generated


def test_a_lost_mode_costs_recall_and_coverage_but_no_precision() -> None:
    modes = np.repeat([[0.0], [100.0]], 100, 0)
    a = draw(200, 0, 1) + modes
    b = draw(200, 1, 1)
    (precision, recall), (density, coverage) = precision_recall(a, b), density_coverage(a, b)
    assert precision > 0.9
    assert 0.4 < recall <= 0.5
    assert 0.4 < coverage <= 0.5
    assert density > 0.7


def test_one_outlier_among_the_real_ones_raises_precision_and_hardly_density() -> None:
    a, far = draw(200, 0, 2), np.array([[30.0, 0]])
    b = draw(200, 1, 2) + np.array([8, 0])
    clean, dirty = (precision_recall(x, b)[0] for x in (a, np.concatenate([a, far])))
    assert clean < 0.05
    assert dirty > 0.9
    assert density_coverage(np.concatenate([a, far]), b)[0] < 0.3


@pytest.mark.parametrize("block", [1, 50, 130])
def test_blocks_of_pairs_change_nothing(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    a, b = draw(40, 0), draw(33, 1)
    whole = precision_recall(a, b), density_coverage(a, b)
    monkeypatch.setattr(metric, "BLOCK", block)
    assert (precision_recall(a, b), density_coverage(a, b)) == whole


def test_there_must_be_a_kth_neighbour() -> None:
    with pytest.raises(ValueError, match="sets of 9 and 3 images: 4 or more of each"):
        precision_recall(draw(9, 0), draw(3, 1))
    with pytest.raises(ValueError, match="6 or more of each"):
        density_coverage(draw(5, 0), draw(9, 1))
    precision_recall(draw(4, 0), draw(4, 1))
    density_coverage(draw(6, 0), draw(6, 1))


# -- measure ----------------------------------------------------------------------------------------------------------


def images(count: int, seed: int = 0) -> Images:
    return Images(np.random.default_rng(seed).integers(0, 256, (count, 9, 8, 1), dtype=np.uint8))


def measured(vae: VAE, count: int, **options: int) -> Any:
    """By principal components of other images."""
    train = images(60, 1)
    extractor = PrincipalComponents(train, "the training images")
    return metric.measure(Evaluation(vae, images(count), train, extractor=extractor), **options)


def test_a_grey_image_looks_real_and_reaches_nothing(make_model: MakeModel) -> None:
    """In many dimensions the middle lies in every ball: precision alone rewards what is blurred."""
    found = measured(make_model()[0], 60)  # untrained: every sample is about grey
    assert [found[name] for name in NAMES] == [1, 0, 12, 1]  # in 60 balls of 5 neighbours
    assert {"k": 3, "k_density": 5, "images": 60}.items() <= found["protocol"].items()


def test_too_few_images_have_no_kth_neighbour(make_model: MakeModel) -> None:
    vae, _ = make_model()
    assert measured(vae, 5) is None
    assert measured(vae, 6) is not None
    assert measured(vae, 5, k_density=4) is not None
    assert measured(vae, 50, samples=5) is None
