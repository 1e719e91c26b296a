"""The linear probe: scores by hand and on codes with a known answer, what is left out, what it learns from."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from given import given_evaluation
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vaelab.data.images import Images, subsample
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import probe
from vaelab.evaluation.metrics.probe import probe_attribute
from vaelab.models.codes import Codes

SCORES = ("accuracy", "majority_accuracy", "balanced_accuracy", "roc_auc", "average_precision")


def codes_of(means: NDArray[Any]) -> Codes:
    return Codes(means.astype(np.float32), np.zeros_like(means, np.float32))


def images_with(attributes: dict[str, NDArray[np.bool_]], labels: NDArray[np.int64] | None = None) -> Images:
    count = len(labels) if labels is not None else len(next(iter(attributes.values())))
    table = np.stack(list(attributes.values()), 1) if attributes else None
    return Images(
        np.zeros((count, 8, 8, 1), np.uint8), labels=labels, attributes=table, attribute_names=tuple(attributes)
    )


def draw(count: int, seed: int) -> tuple[Codes, dict[str, NDArray[np.bool_]]]:
    """Codes of four latents; one attribute that a latent gives away, one that nothing does."""
    random = np.random.default_rng(seed)
    means = random.standard_normal((count, 4)) * [1, 5, 0.01, 1]
    return codes_of(means), {"told": means[:, 2] > 0, "untold": random.random(count) < 0.3}


# -- scores of one attribute ------------------------------------------------------------------------------------------


def test_scores_by_hand() -> None:
    train_codes, train_has = np.array([[-2.0], [-1.0], [1.0], [2.0], [-3.0]]), np.array([0, 0, 1, 1, 0], bool)
    codes, has = np.array([[-5.0], [-4.0], [-3.0], [4.0]]), np.array([0, 1, 0, 1], bool)  # said: no, no, no, yes
    found = probe_attribute(train_codes, train_has, codes, has)
    assert found["accuracy"] == 0.75
    assert found["majority_accuracy"] == 0.5
    assert found["balanced_accuracy"] == 0.75  # 2 of 2 without, 1 of 2 with
    assert found["roc_auc"] == 0.75  # 3 of the 4 pairs are in order
    assert found["average_precision"] == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize(("has", "expected"), [([1, 1, 1, 0], 0.25), ([1, 1, 0, 0], 0.75), ([1, 0, 0, 0], 0.75)])
def test_the_majority_is_that_of_training_and_a_tie_means_no(has: list[int], expected: float) -> None:
    codes = np.arange(4.0)[:, None]
    found = probe_attribute(codes, np.array(has, bool), codes, np.array([0, 0, 1, 0], bool))
    assert found["majority_accuracy"] == expected


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3), st.floats(-10, 10))
def test_scores_do_not_depend_on_scale_and_place_of_a_latent(seed: int, scale: float, shift: float) -> None:
    codes, attributes = draw(80, seed)
    means, has = codes.mean.astype(float), attributes["untold"]
    has[[0, 40]], has[[1, 41]] = True, False
    before = probe_attribute(means[:40], has[:40], means[40:], has[40:])
    means[:, 1] = scale * means[:, 1] + shift
    after = probe_attribute(means[:40], has[:40], means[40:], has[40:])
    assert after["roc_auc"] == pytest.approx(before["roc_auc"], abs=0.01)
    assert after["accuracy"] == pytest.approx(before["accuracy"], abs=0.03)


def test_a_latent_that_does_not_vary_changes_nothing() -> None:
    codes, attributes = draw(200, 0)
    means, has = codes.mean.astype(float), attributes["told"]
    wider = np.concatenate([means, np.full((200, 1), 0.3)], 1)
    expected = probe_attribute(means[:100], has[:100], means[100:], has[100:])
    assert probe_attribute(wider[:100], has[:100], wider[100:], has[100:]) == pytest.approx(expected)


# -- measure ----------------------------------------------------------------------------------------------------------


def evaluation_of(codes: Codes, images: Images, train_codes: Codes, train: Images) -> Evaluation:
    """With these codes of both sets; images are known by their numbers in their first pixels."""
    both = {id(images): codes, id(train): train_codes}
    vae = given_evaluation(codes.mean).model

    def encode(some: Images) -> Codes:
        if id(some) in both:
            return both[id(some)]
        number = some.pixels[:, :2, 0, 0].astype(np.int64)
        return train_codes.take(number[:, 0] * 256 + number[:, 1])

    return Evaluation(vae, images, train, encode=encode)


def measure(codes: Codes, images: Images, train_codes: Codes, train: Images, **options: Any) -> Any:
    return probe.measure(evaluation_of(codes, images, train_codes, train), **options)


def test_what_codes_tell_and_what_they_do_not() -> None:
    (train_codes, train_has), (codes, has) = draw(2000, 0), draw(2000, 1)
    found = measure(codes, images_with(has), train_codes, images_with(train_has))
    each = found["balanced_accuracy_per_attribute"]
    assert each["told"] > 0.98
    assert each["untold"] == pytest.approx(0.5, abs=0.02)
    assert found["balanced_accuracy"] == pytest.approx((each["told"] + each["untold"]) / 2)
    assert (found["attributes"], found["attributes_left_out"]) == (2, 0)
    assert found["protocol"]["learnt_from"] == "training images"
    assert found["protocol"]["tested_on_images"] == 2000
    alone = {name: probe_attribute(train_codes.mean, train_has[name], codes.mean, has[name]) for name in has}
    for score in SCORES:
        assert found[score] == pytest.approx((alone["told"][score] + alone["untold"][score]) / 2)


def test_attributes_that_all_or_none_have_are_left_out_and_counted() -> None:
    (train_codes, train_has), (codes, has) = draw(100, 0), draw(100, 1)
    nobody, everybody = np.zeros(100, bool), np.ones(100, bool)
    train = images_with({**train_has, "a": nobody, "b": train_has["told"], "c": everybody})
    images = images_with({**has, "a": has["told"], "b": everybody, "c": everybody})
    found = measure(codes, images, train_codes, train)
    assert list(found["balanced_accuracy_per_attribute"]) == ["told", "untold"]
    assert (found["attributes"], found["attributes_left_out"]) == (2, 3)


def test_classes_count_as_attributes_and_one_that_is_missing_somewhere_is_left_out() -> None:
    centres = 3 * np.eye(4)
    train_labels, labels = np.arange(60) % 3, np.arange(40) % 4  # nobody has learnt of class 3
    noise = np.random.default_rng(0).standard_normal((100, 4)) * 0.3
    train_codes, codes = codes_of(centres[train_labels] + noise[:60]), codes_of(centres[labels] + noise[60:])
    train, images = images_with({}, train_labels), images_with({}, labels)
    found = measure(codes, images, train_codes, train)
    assert list(found["balanced_accuracy_per_attribute"]) == ["0", "1", "2"]
    assert found["attributes_left_out"] == 1
    assert found["roc_auc"] > 0.99


def test_of_many_training_codes_some_are_chosen_and_the_protocol_says_so() -> None:
    (train_codes, train_has), (codes, has) = draw(300, 0), draw(50, 1)
    numbered = np.zeros((300, 8, 8, 1), np.uint8)
    numbered[:, 0, 0, 0], numbered[:, 1, 0, 0] = np.divmod(np.arange(300), 256)
    train = replace(images_with(train_has), pixels=numbered)
    evaluation = evaluation_of(codes, images_with(has), train_codes, train)
    found: Any = probe.measure(evaluation, most=100)
    protocol = found["protocol"]
    assert (protocol["learnt_from_images"], protocol["learnt_from_images_of"]) == (100, 300)
    rows = subsample(300, 100, evaluation.generator("probe"))
    alone = probe_attribute(train_codes.mean[rows], train_has["told"][rows], codes.mean, has["told"])
    assert found["balanced_accuracy_per_attribute"]["told"] == alone["balanced_accuracy"] > 0.9
    every: Any = probe.measure(evaluation, most=300)
    assert every["protocol"]["learnt_from_images"] == 300


@pytest.mark.parametrize("count", [1, 20])
def test_there_may_be_nothing_to_probe(count: int) -> None:
    codes = codes_of(np.random.default_rng(0).standard_normal((count, 2)))
    one_class = images_with({}, np.zeros(count, np.int64))
    assert measure(codes, one_class, codes, one_class) is None
