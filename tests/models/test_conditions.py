"""Conditional models: conditions in every form, errors, and a run from training to sampling."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import make_images, make_labelled, make_recipe, make_settings, make_state
from typed import train_small

import vaelab
from vaelab.data.images import Images
from vaelab.data.loader import Batches
from vaelab.models.conditions import condition_columns, condition_names, condition_of, parse_condition, training_rows
from vaelab.models.spec import Spec
from vaelab.models.vae import VAE
from vaelab.system.errors import InputError, RecipeError, UnknownName
from vaelab.training.loop import train

CPU = torch.device("cpu")
LABELS = Spec((1, 9, 8), 2, 50, "label", ("zero", "one", "two"))
ATTRIBUTES = Spec((1, 9, 8), 2, 50, "attributes", ("dark", "round"))
PLAIN = Spec((1, 9, 8), 2, 50)
ROWS = torch.tensor([[0, 0], [0, 1], [0, 1], [1, 1]], dtype=torch.uint8)


def parse(spec: Spec, given: Any, count: int = 2, seed: int = 0) -> list[list[float]] | None:
    rows = ROWS if spec is ATTRIBUTES else torch.eye(spec.condition_dim, dtype=torch.uint8)
    vectors = parse_condition(spec, given, count, rows, torch.Generator().manual_seed(seed))
    return None if vectors is None else vectors.tolist()


def make_vae(condition: str, data: Images | None = None) -> VAE:
    return make_state(make_recipe(network__condition=condition), data or make_labelled()).vae


# -- from images ------------------------------------------------------------------------------------------------------


def test_condition_names_come_from_the_data() -> None:
    images = make_labelled()
    assert condition_names("none", images) == ()
    assert condition_names("label", images) == ("zero", "one", "two")
    assert condition_names("attributes", images) == ("dark", "round")
    assert condition_names("label", Images(images.pixels, labels=images.labels)) == ("0", "1", "2")


def test_labels_become_one_hot_and_attributes_zero_or_one() -> None:
    images = make_labelled()
    vectors = condition_of(LABELS, images)
    assert vectors is not None
    np.testing.assert_array_equal(vectors, np.eye(3)[images.labels])
    np.testing.assert_array_equal(condition_of(ATTRIBUTES, images), images.attributes)
    assert condition_of(PLAIN, images) is None


@pytest.mark.parametrize("window", [0, 20])
def test_batches_hold_the_labels_and_attributes_of_their_images(window: int) -> None:
    data = make_labelled()
    batches = Batches(data, 8, 0, CPU, shuffle_buffer=window)
    for step in (0, 6, 9):
        raw = batches.batch(step)
        batch = batches.complete(raw.pixels.permute(0, 3, 1, 2).float() / 255, raw.index)
        np.testing.assert_array_equal(batch.labels, data.labels[batch.index])
        np.testing.assert_array_equal(batch.attributes, data.attributes[batch.index])
        np.testing.assert_array_equal(raw.pixels, data.pixels[batch.index])
        assert condition_columns(LABELS, batch.labels, batch.attributes).shape == (len(batch.index), 3)


@pytest.mark.parametrize("spec", [LABELS, ATTRIBUTES])
def test_images_without_labels_or_attributes_are_refused(spec: Spec) -> None:
    plain = make_images()
    for function in (lambda: condition_names(spec.condition, plain), lambda: condition_of(spec, plain)):
        with pytest.raises(InputError) as caught:
            function()
        assert caught.value.subject in ("network.condition", "condition")


@pytest.mark.parametrize("condition", ["label", "attributes"])
def test_images_with_other_labels_or_attributes_are_refused(condition: str) -> None:
    images, vae = make_labelled(), make_vae(condition)
    others = [replace(images, attribute_names=("round", "dark"))]
    if condition == "label":
        others = [replace(images, labels=images.labels + 1, label_names=())]
    for other in others:
        state = make_state(made := make_recipe(network__condition=condition), images)
        training = train(state, Batches(images, 8, 0, CPU), make_settings(made), valid=other)
        for function in (lambda other=other: vae.encode(other), lambda training=training: next(training)):
            with pytest.raises(InputError) as caught:
                function()
            assert caught.value.choices == vae.spec.condition_names
            assert caught.value.value == (3 if condition == "label" else ("round", "dark"))


@pytest.mark.parametrize("spec", [LABELS, ATTRIBUTES])
def test_a_model_keeps_the_conditions_of_its_training_images(spec: Spec) -> None:
    images = make_labelled()
    assert torch.equal(training_rows(spec, images).float(), condition_of(spec, images))
    assert training_rows(PLAIN, images).numel() == 0


# -- given by users ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["one", 1, "1", np.int64(1), ["one", 1], np.array([1, 1]), torch.tensor([1, 1])])
def test_a_class_is_given_by_name_or_number(given: Any) -> None:
    assert parse(LABELS, given) == [[0, 1, 0], [0, 1, 0]]


def test_classes_or_vectors_are_given_per_code() -> None:
    assert parse(LABELS, ["two", 0]) == [[0, 0, 1], [1, 0, 0]]
    assert parse(LABELS, np.array([[0.5, 0.5, 0], [0, 0, 1]])) == [[0.5, 0.5, 0], [0, 0, 1]]


@pytest.mark.parametrize("given", [None, {}])
def test_without_a_condition_those_of_training_images_are_drawn(given: Any) -> None:
    spec = ATTRIBUTES
    drawn = np.array(parse(spec, given, 4000))
    assert {tuple(row) for row in drawn} == {(0, 0), (0, 1), (1, 1)}
    assert abs((drawn == [0, 1]).all(1).mean() - 0.5) < 0.04
    assert parse(spec, given, 5) == parse(spec, given, 5)
    assert parse(spec, given, 50) != parse(spec, given, 50, seed=1)


def test_other_attributes_are_drawn_from_training_images_that_agree() -> None:
    drawn = np.array(parse(ATTRIBUTES, {"dark": False}, 4000))
    assert not drawn[:, 0].any()
    assert abs(drawn[:, 1].mean() - 2 / 3) < 0.04
    assert parse(ATTRIBUTES, {"dark": True}) == [[1, 1], [1, 1]]
    assert parse(ATTRIBUTES, {"dark": True, "round": False}) == [[1, 0], [1, 0]]  # no training image is so


@pytest.mark.parametrize(
    ("spec", "given", "error"),
    [
        (PLAIN, 1, InputError),
        (PLAIN, {"dark": True}, InputError),
        (LABELS, 3, UnknownName),
        (LABELS, -1, UnknownName),
        (LABELS, "three", UnknownName),
        (LABELS, ["one", "three"], UnknownName),
        (LABELS, [0, 1, 2], InputError),
        (LABELS, {"dark": True}, InputError),
        (LABELS, np.zeros((2, 2)), InputError),
        (LABELS, 1.5, InputError),
        (ATTRIBUTES, 1, InputError),
        (ATTRIBUTES, "dark", InputError),
        (ATTRIBUTES, {"light": True}, UnknownName),
    ],
)
def test_a_condition_that_does_not_fit_is_refused(
    spec: Spec, given: Any, error: type[InputError], wording: Any
) -> None:
    with pytest.raises(error) as caught:
        parse(spec, given)
    if error is UnknownName:
        assert set(caught.value.choices) == set(spec.condition_names)
    wording(caught.value)


# -- models -----------------------------------------------------------------------------------------------------------


def test_encode_and_reconstruct_use_the_labels_of_images() -> None:
    vae, images = make_vae("label"), make_labelled()
    known, given = vae.encode(images), vae.encode(images.pixels, images.labels)
    assert torch.equal(known.mean, given.mean)
    assert not torch.equal(known.mean, vae.encode(images.pixels, 2).mean)
    assert np.array_equal(vae.reconstruct(images), vae.reconstruct(images.pixels, images.labels))
    first = vae.encode(images.pixels[0], "one").mean
    torch.testing.assert_close(first, vae.encode(images.pixels[:1], [1]).mean)


def test_encode_and_reconstruct_use_the_attributes_of_images() -> None:
    vae, images = make_vae("attributes"), make_labelled()
    assert torch.equal(vae.encode(images).mean, vae.encode(images.pixels, images.attributes).mean)


def test_sample_and_decode_take_a_class() -> None:
    vae = make_vae("label")
    codes = torch.randn(4, 2, generator=torch.Generator().manual_seed(3))
    assert torch.equal(vae.sample(4, 3, condition="two"), vae.decode(codes, 2))
    assert not torch.equal(vae.sample(4, 3, condition=2), vae.sample(4, 3, condition=1))
    assert torch.equal(vae.sample(4, 3), vae.sample(4, 3)), "conditions come from the generator as well"


@pytest.mark.parametrize("condition", ["label", "attributes"])
def test_a_conditional_model_needs_a_condition(condition: str) -> None:
    vae = make_vae(condition)
    for function in (
        lambda: vae.encode(make_images(3)),
        lambda: vae.encode(make_images(3).pixels),
        lambda: vae.reconstruct(make_images(3).pixels),
        lambda: vae.decode(torch.zeros(2, 2)),
    ):
        with pytest.raises(InputError) as caught:
            function()
        assert caught.value.subject == "condition"


def test_an_unconditional_model_refuses_a_condition() -> None:
    vae, images = make_vae("none"), make_labelled()
    for function in (
        lambda: vae.sample(3, condition=1),
        lambda: vae.decode(torch.zeros(2, 2), 1),
        lambda: vae.encode(images.pixels, images.labels),
    ):
        with pytest.raises(InputError):
            function()
    assert vae.encode(images).mean.shape == (50, 2), "labels of Images are not a given condition"


# -- a run ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("network", [{}, {"network.name": "conv", "network.channels": [8], "network.strides": [2]}])
def test_a_label_conditional_run_trains_resumes_and_samples(tmp_path: Path, network: dict[str, Any]) -> None:
    set_ = {**network, "network.condition": "label", "training.steps": 40, "training.checkpoint_every": 20}
    if network:
        set_["network.hidden"] = []
    run = train_small(tmp_path / "run", set_)
    vae = vaelab.load(run.path)
    assert vae.spec.condition_names == tuple("0123456789")
    assert vae.condition_rows.shape[1] == 10
    assert vae.sample(5, 0, condition=7).shape[0] == 5
    assert vae.sample(5, 0).shape[0] == 5
    with pytest.raises(UnknownName) as caught:
        vae.sample(5, condition=10)
    assert set(caught.value.choices) == set("0123456789")
    content, history = run.model_path.read_bytes(), (run.path / "history.csv").read_bytes()
    run.model_path.unlink()
    max((run.path / "checkpoints").iterdir()).unlink()
    train_small(run.path, set_)
    assert run.model_path.read_bytes() == content
    assert (run.path / "history.csv").read_bytes() == history


def test_a_condition_without_its_data_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        train_small(tmp_path / "run", {"network.condition": "attributes"})
    assert (caught.value.subject, caught.value.value) == ("network.condition", "attributes")
    assert not (tmp_path / "run" / "history.csv").exists()
