"""The linear probe: reference vectors, scores by hand, codes with a known answer, and what is left out."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from given import given_evaluation
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from vectors import Case

from vaelab.data.images import Images
from vaelab.data.tensors import subsample
from vaelab.evaluation.evaluation import Evaluation, NotMeasurable
from vaelab.evaluation.metrics import probe
from vaelab.evaluation.metrics.probe import probe_attribute, probe_classes
from vaelab.models.codes import Codes, fit_probe

SCORES = ("accuracy", "majority_accuracy", "balanced_accuracy", "roc_auc", "average_precision")


def codes_of(means: NDArray[Any]) -> Codes:
    return Codes(means.astype(np.float32), np.zeros_like(means, np.float32))


def images_with(attributes: dict[str, NDArray[np.bool_]], labels: NDArray[np.int64] | None = None) -> Images:
    count = len(labels) if labels is not None else len(next(iter(attributes.values())))
    table = np.stack(list(attributes.values()), 1) if attributes else None
    pixels = np.zeros((count, 8, 8, 1), np.uint8)
    return Images(pixels, labels=labels, attributes=table, attribute_names=tuple(attributes))


def draw(count: int, seed: int) -> tuple[Codes, dict[str, NDArray[np.bool_]]]:
    """Codes of four latents; an attribute that a latent determines, and one that is independent."""
    random = np.random.default_rng(seed)
    means = random.standard_normal((count, 4)) * [1, 5, 0.01, 1]
    return codes_of(means), {"coded": means[:, 2] > 0, "uncoded": random.random(count) < 0.3}


# -- all classes at once ----------------------------------------------------------------------------------------------


def test_classes_are_predicted_among_all_of_them() -> None:
    random = np.random.default_rng(0)
    angles = np.arange(400) % 5  # five groups on a circle: each against the rest is no half-plane's matter of luck
    centres = 10 * np.stack([np.cos(angles * 2 * np.pi / 5), np.sin(angles * 2 * np.pi / 5)], 1)
    codes = centres + random.standard_normal(centres.shape)
    found = probe_classes(codes[:200], angles[:200], codes[200:], angles[200:])
    assert found == {"class_accuracy": 1.0, "majority_class_accuracy": 0.2}
    shuffled = probe_classes(codes[:200], angles[:200], codes[200:], (angles[200:] + 1) % 5)
    assert shuffled["class_accuracy"] == 0


def test_classes_in_the_middle_of_others_are_no_worse_for_it() -> None:
    """One against the rest cannot find the middle class on a line; the multi-class rule can."""
    labels = np.arange(600) % 3
    codes = labels[:, None] * 10.0 + np.random.default_rng(1).standard_normal((600, 1))
    assert probe_classes(codes, labels, codes, labels)["class_accuracy"] == 1
    assert probe_attribute(codes, labels == 1, codes, labels == 1)["balanced_accuracy"] == 0.5


# -- scores of one attribute ------------------------------------------------------------------------------------------


def test_probe_of_the_vectors() -> None:
    case = Case("linear_probe/binary_attributes")
    codes, test_codes = case.codes_train.numpy(), case.codes_test.numpy()
    has, test_has = case.attr_train.numpy().astype(bool), case.attr_test.numpy().astype(bool)
    attributes = range(has.shape[1])
    scores = [probe_attribute(codes, has[:, j], test_codes, test_has[:, j], case.params["C"]) for j in attributes]
    for name in SCORES:
        case.expect(name, np.array([score[name] for score in scores]), at_most=0.04)
    probes = [fit_probe(codes, has[:, j], case.params["C"]) for j in attributes]
    case.expect("coef_and_intercept", np.array([[*one.weight, one.bias] for one in probes]), at_most=1e-3)
    log_odds = np.stack([one.decision(test_codes) for one in probes], 1)
    case.expect("log_loss", np.log1p(np.exp(np.where(test_has, -1, 1) * log_odds)).mean(0), at_most=1e-4)


def test_scores_by_hand() -> None:
    train_codes, train_has = np.array([[-2.0], [-1.0], [1.0], [2.0], [-3.0]]), np.array([0, 0, 1, 1, 0], bool)
    codes, has = np.array([[-5.0], [-4.0], [-3.0], [4.0]]), np.array([0, 1, 0, 1], bool)  # predicted: 0, 0, 0, 1
    found = probe_attribute(train_codes, train_has, codes, has)
    assert found["accuracy"] == 0.75
    assert found["majority_accuracy"] == 0.5
    assert found["balanced_accuracy"] == 0.75  # 2 of 2 without, 1 of 2 with
    assert found["roc_auc"] == 0.75  # 3 of the 4 pairs are in order
    assert found["average_precision"] == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize(("has", "expected"), [([1, 1, 1, 0], 0.25), ([1, 1, 0, 0], 0.75), ([1, 0, 0, 0], 0.75)])
def test_majority_is_that_of_training_and_a_tie_means_no(has: list[int], expected: float) -> None:
    codes = np.arange(4.0)[:, None]
    found = probe_attribute(codes, np.array(has, bool), codes, np.array([0, 0, 1, 0], bool))
    assert found["majority_accuracy"] == expected


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3), st.floats(-10, 10))
def test_scores_do_not_depend_on_scale_and_offset_of_a_latent(seed: int, scale: float, shift: float) -> None:
    codes, attributes = draw(80, seed)
    means, has = codes.mean.astype(float), attributes["uncoded"]
    has[[0, 40]], has[[1, 41]] = True, False
    before = probe_attribute(means[:40], has[:40], means[40:], has[40:])
    means[:, 1] = scale * means[:, 1] + shift
    wider = np.concatenate([means, np.full((80, 1), 0.3)], 1)  # a constant latent changes nothing
    after = probe_attribute(wider[:40], has[:40], wider[40:], has[40:])
    assert after["roc_auc"] == pytest.approx(before["roc_auc"], abs=0.01)
    assert after["accuracy"] == pytest.approx(before["accuracy"], abs=0.03)


# -- measure ----------------------------------------------------------------------------------------------------------


def evaluation_of(codes: Codes, images: Images, train_codes: Codes, train: Images) -> Evaluation:
    """With these codes of both sets; images are identified by numbers in their first pixels."""
    both = {id(images): codes, id(train): train_codes}

    def encode(some: Images) -> Codes:
        if id(some) in both:
            return both[id(some)]
        number = some.pixels[:, :2, 0, 0].astype(np.int64)
        return train_codes.take(number[:, 0] * 256 + number[:, 1])

    return Evaluation(given_evaluation(codes.mean).model, images, train, encode=encode)


def measure(codes: Codes, images: Images, train_codes: Codes, train: Images, **options: Any) -> Any:
    return probe.measure(evaluation_of(codes, images, train_codes, train), **options)


def test_scores_are_means_over_attributes() -> None:
    (train_codes, train_has), (codes, has) = draw(2000, 0), draw(2000, 1)
    found = measure(codes, images_with(has), train_codes, images_with(train_has))
    each = found["balanced_accuracy_per_attribute"]
    assert each["coded"] > 0.98
    assert each["uncoded"] == pytest.approx(0.5, abs=0.02)
    assert (found["attributes"], found["attributes_left_out"]) == (2, 0)
    assert (found["protocol"]["train_images"], found["protocol"]["test_images"]) == (2000, 2000)
    alone = [probe_attribute(train_codes.mean, train_has[name], codes.mean, has[name]) for name in has]
    for score in SCORES:
        assert found[score] == pytest.approx(np.mean([one[score] for one in alone]))


def test_attributes_that_all_or_none_have_are_left_out_and_counted() -> None:
    (train_codes, train_has), (codes, has) = draw(100, 0), draw(100, 1)
    none, every = np.zeros(100, bool), np.ones(100, bool)
    train = images_with({**train_has, "a": none, "b": train_has["coded"], "c": every})
    images = images_with({**has, "a": has["coded"], "b": every, "c": every})
    found = measure(codes, images, train_codes, train)
    assert list(found["balanced_accuracy_per_attribute"]) == ["coded", "uncoded"]
    assert (found["attributes"], found["attributes_left_out"]) == (2, 3)


def test_classes_count_as_attributes() -> None:
    centres = 3 * np.eye(4)
    train_labels, labels = np.arange(60) % 3, np.arange(40) % 4  # class 3 is missing in training
    noise = np.random.default_rng(0).standard_normal((100, 4)) * 0.3
    train_codes, codes = codes_of(centres[train_labels] + noise[:60]), codes_of(centres[labels] + noise[60:])
    found = measure(codes, images_with({}, labels), train_codes, images_with({}, train_labels))
    assert list(found["balanced_accuracy_per_attribute"]) == ["0", "1", "2"]
    assert found["attributes_left_out"] == 1
    assert found["roc_auc"] > 0.99


def test_many_training_images_are_subsampled() -> None:
    (train_codes, train_has), (codes, has) = draw(300, 0), draw(50, 1)
    numbered = np.zeros((300, 8, 8, 1), np.uint8)
    numbered[:, 0, 0, 0], numbered[:, 1, 0, 0] = np.divmod(np.arange(300), 256)
    train = replace(images_with(train_has), pixels=numbered)
    evaluation = evaluation_of(codes, images_with(has), train_codes, train)
    found: Any = probe.measure(evaluation, max_train_images=100)
    assert (found["protocol"]["train_images"], found["protocol"]["train_images_available"]) == (100, 300)
    rows = subsample(300, 100, evaluation.generator("probe"))
    alone = probe_attribute(train_codes.mean[rows], train_has["coded"][rows], codes.mean, has["coded"])
    assert found["balanced_accuracy_per_attribute"]["coded"] == alone["balanced_accuracy"] > 0.9


@pytest.mark.parametrize("count", [1, 20])
def test_one_class_is_not_probed(count: int, wording: Any) -> None:
    codes = codes_of(np.random.default_rng(0).standard_normal((count, 2)))
    one_class = images_with({}, np.zeros(count, np.int64))
    with pytest.raises(NotMeasurable) as raised:
        measure(codes, one_class, codes, one_class)
    wording(raised.value)
