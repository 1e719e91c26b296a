"""Images that a program has in memory become ``Images``; decisions are noted, and unusable input is one line."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_datasets import random_pixels

from vaelab.data.images import Images
from vaelab.data.memory import ArrayOptions, read_memory
from vaelab.system.errors import InputError

COLOUR = random_pixels(12, 10, 9, 3)
GREY = COLOUR[..., 0]
PICTURES = [Image.fromarray(pixels) for pixels in COLOUR]
CLASSES = [number % 3 for number in range(12)]


class Items(torch.utils.data.Dataset[Any]):
    """A data set of these items."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Any:
        return self.items[number]


class Stream(torch.utils.data.IterableDataset[Any]):
    """A data set without a length."""

    def __iter__(self) -> Iterator[Any]:
        return zip(PICTURES, CLASSES, strict=True)


class Hub:
    """The part of the interface of ``datasets.Dataset`` that vaelab uses: columns, their features, rows."""

    def __init__(self, features: dict[str, str], rows: dict[str, list[Any]]) -> None:
        self.features = {name: type(kind, (), {"names": ["a", "b", "c"]})() for name, kind in features.items()}
        self.column_names = list(features)
        self.rows = rows

    def __len__(self) -> int:
        return len(next(iter(self.rows.values())))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number in range(len(self)):
            yield {name: column[number] for name, column in self.rows.items()}

    def select_columns(self, names: list[str]) -> "Hub":
        chosen = Hub({}, {name: self.rows[name] for name in names})
        chosen.features = {name: self.features[name] for name in names}
        chosen.column_names = names
        return chosen


HUB = Hub(
    {"id": "Value", "image": "Image", "kind": "ClassLabel"},
    {"id": list(range(12)), "image": PICTURES, "kind": CLASSES},
)


@pytest.mark.parametrize(
    "given",
    [
        COLOUR,
        COLOUR.transpose(0, 3, 1, 2),
        np.asfortranarray(COLOUR),
        COLOUR.astype(np.int64),
        COLOUR.astype(np.float32),
        COLOUR / 255,
        torch.from_numpy(COLOUR),
        (torch.from_numpy(COLOUR) / 255).permute(0, 3, 1, 2),
        torch.from_numpy(COLOUR) / 127.5 - 1,
        PICTURES,
        list(COLOUR),
        list(torch.from_numpy(COLOUR)),
        COLOUR.tolist(),
        Items(list(torch.from_numpy(COLOUR).permute(0, 3, 1, 2) / 255)),
        Images(COLOUR),
    ],
)
def test_all_kinds_give_the_same_pixels(given: Any) -> None:
    images = read_memory(given, CLASSES)
    assert np.array_equal(images.pixels, COLOUR)
    assert images.labels is not None
    assert images.labels.tolist() == CLASSES


@pytest.mark.parametrize(
    "given",
    [
        Items(list(zip(PICTURES, CLASSES, strict=True))),
        Items([{"label": label, "image": image, "box": [1]} for image, label in zip(COLOUR, CLASSES, strict=True)]),
        torch.utils.data.TensorDataset(torch.from_numpy(COLOUR) / 255, torch.tensor(CLASSES)),
        torch.utils.data.Subset(Items(list(zip(PICTURES, CLASSES, strict=True))), range(12)),
        Stream(),
        list(zip(PICTURES, CLASSES, strict=True)),
        HUB,
    ],
)
def test_labels_come_with_the_items(given: Any) -> None:
    images = read_memory(given)
    assert np.array_equal(images.pixels, COLOUR)
    assert images.labels is not None
    assert images.labels.tolist() == CLASSES
    assert images.label_names == (("a", "b", "c") if given is HUB else ())


def test_a_column_of_labels_is_named() -> None:
    images = read_memory(HUB, "id")
    assert images.labels is not None
    assert images.labels.tolist() == list(range(12))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (GREY.astype(np.uint8), "full"),
        (GREY > 100, [0.0, 1.0]),
        (GREY / 255, [0.0, 1.0]),
        (GREY / 127.5 - 1, [-1.0, 1.0]),
        (GREY.astype(np.int32), [0.0, 255.0]),
        (GREY.astype(np.uint16) * 16, [0.0, 4080.0]),
        (GREY * 2.0 - 100, [-100.0, 410.0]),
    ],
)
def test_the_range_is_found_and_noted(values: Any, found: Any) -> None:
    values[0, 0, 0], values[0, 0, 1] = values.min(), values.max()  # the extremes are there
    images = read_memory(values)
    assert images.resolved["range"] == found
    assert (np.asarray(images.eight_bits).min(), np.asarray(images.eight_bits).max()) == (0, 255)
    assert found in ("full", [0.0, 255.0]) or "become black to white" in images.notes[1]


NOISE = np.random.default_rng(3).random((6, 9, 10, 5))


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ((NOISE * 4095).astype(np.uint16), np.uint16, None),
        ((NOISE * 4095).astype(np.uint16).transpose(0, 3, 1, 2), np.uint16, None),
        ((NOISE * 1e6).astype(np.int64), np.uint16, None),
        (NOISE.astype(np.float32), np.float32, NOISE),
        (NOISE * 6 - 3, np.float32, None),
    ],
)
def test_values_of_more_than_8_bits_are_kept(values: Any, dtype: Any, expected: Any) -> None:
    images = read_memory(values)
    assert (images.pixels.dtype, images.image_shape) == (dtype, (5, 9, 10))
    low, high = images.resolved["range"]
    whole = values.transpose(0, 2, 3, 1) if values.shape[1] == 5 else values
    wanted = (whole - low) / (high - low) if expected is None else expected
    np.testing.assert_allclose(images.floats(0, 6).permute(0, 2, 3, 1).numpy(), wanted, atol=1 / 65535)
    assert "kept " in images.notes[1]


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((6, 12, 64, 70), "NCHW"), ((6, 64, 70, 12), "NHWC"), ((6, 3, 9, 9), "NCHW"), ((6, 9, 9, 9), None)],
)
def test_the_axis_of_channels_is_the_shortest(shape: tuple[int, ...], axes: str | None) -> None:
    if axes:
        assert read_memory(np.zeros(shape, np.uint8)).resolved["axes"] == axes
        return
    with pytest.raises(InputError) as caught:
        read_memory(np.zeros(shape, np.uint8))
    assert "data.axes" in str(caught.value)


def test_a_given_range_clips_and_says_so() -> None:
    images = read_memory(GREY, options=ArrayOptions(range=[50.0, 100.0]))
    expected = np.clip(np.rint((GREY.astype(float) - 50) * 5.1), 0, 255)
    assert np.array_equal(np.asarray(images.pixels)[..., 0], expected)
    assert f"{np.count_nonzero((GREY < 50) | (GREY > 100)):,} of" in images.notes[-1]


def test_low_contrast_is_a_warning() -> None:
    assert read_memory(GREY // 16).warnings
    assert not read_memory(GREY).warnings


def test_pictures_of_several_sizes_are_cropped_to_one() -> None:
    given = [picture.resize((20 + number, 40)) for number, picture in enumerate(PICTURES)]
    assert read_memory(given).image_shape == (3, 16, 16)
    assert read_memory(given, options=ArrayOptions(size=24)).image_shape == (3, 24, 24)
    assert read_memory([picture.convert("L") for picture in PICTURES]).image_shape == (1, 10, 9)


@pytest.mark.parametrize("given", [PICTURES[0], COLOUR[0], COLOUR[0].transpose(2, 0, 1), COLOUR[:1]])
def test_one_image_is_enough_for_a_model(given: Any) -> None:
    assert np.array_equal(read_memory(given, image_shape=(3, 10, 9)).pixels, COLOUR[:1])


def test_labels_may_be_names() -> None:
    images = read_memory(GREY, np.array(["cat", "ape"] * 6, object))
    assert (images.label_names, images.labels[:2].tolist()) == (("ape", "cat"), [1, 0])  # type: ignore[index]
    again = read_memory(GREY, ["cat"] * 12, label_names=images.label_names)
    assert (again.label_names, again.labels[0]) == (("ape", "cat"), 1)  # type: ignore[index]


@pytest.mark.parametrize(
    "given", [{"x": [1, 0] * 6, "y": [False] * 12}, np.stack([[1, 0] * 6, [0] * 12], 1), torch.tensor([[1, -1]] * 12)]
)
def test_attributes_are_true_or_false(given: Any) -> None:
    images = read_memory(GREY, attributes=given)
    assert images.attributes is not None
    assert images.attributes[0].tolist() == [True, False]
    assert images.attribute_names == (("x", "y") if isinstance(given, dict) else ("attribute 0", "attribute 1"))


WRONG: dict[str, tuple[type[Exception], dict[str, Any]]] = {
    "nothing": (InputError, {"given": GREY[:0]}),
    "no data set items": (InputError, {"given": Items([])}),
    "rows": (InputError, {"given": GREY.reshape(12, -1)}),
    "one image": (InputError, {"given": COLOUR[0]}),
    "five axes": (InputError, {"given": COLOUR[None]}),
    "too small": (InputError, {"given": GREY[:, :5]}),
    "other axes than said": (InputError, {"given": COLOUR, "options": ArrayOptions(axes="NCHW")}),
    "NaN": (InputError, {"given": np.where(np.arange(12)[:, None, None] == 7, np.nan, GREY)}),
    "infinite": (InputError, {"given": np.where(np.arange(12)[:, None, None] == 7, np.inf, GREY)}),
    "beyond the range of the type": (InputError, {"given": GREY * 1.0, "options": ArrayOptions(range="full")}),
    "objects": (InputError, {"given": np.array([GREY[0], GREY[0, :3]], object)}),
    "different shapes": (InputError, {"given": [GREY[0], GREY[0, :3]]}),
    "different shapes of tensors": (InputError, {"given": list(map(torch.from_numpy, [GREY[0], GREY[0, :3]]))}),
    "complex": (InputError, {"given": GREY * 1j}),
    "masked": (InputError, {"given": np.ma.masked_less(GREY, 9)}),
    "text": (InputError, {"given": np.full((12, 9, 9), "a")}),
    "a loader": (InputError, {"given": torch.utils.data.DataLoader(Items(PICTURES))}),
    "several splits": (InputError, {"given": {"train": HUB, "test": HUB}}),
    "no kind of images": (TypeError, {"given": 5}),
    "two image columns": (InputError, {"given": Hub({"a": "Image", "b": "Image"}, {"a": PICTURES, "b": PICTURES})}),
    "no image column": (InputError, {"given": Hub({"a": "Value"}, {"a": CLASSES})}),
    "an unknown column": (InputError, {"given": HUB, "labels": "knid"}),
    "items without an image": (InputError, {"given": Items([{"label": 1}])}),
    "a broken picture": (InputError, {"given": [Image.new("RGBX", (9, 9)), *PICTURES]}),
    "a column of an array": (InputError, {"given": GREY, "labels": "label"}),
    "labels too few": (InputError, {"given": GREY, "labels": CLASSES[:5]}),
    "fractions as labels": (InputError, {"given": GREY, "labels": np.arange(12) / 2}),
    "several labels": (InputError, {"given": GREY, "labels": np.eye(12)}),
    "objects as labels": (InputError, {"given": GREY, "labels": [None] * 12}),
    "an unknown class": (InputError, {"given": GREY, "labels": ["c"] * 12, "label_names": ("a", "b")}),
    "attributes too few": (InputError, {"given": GREY, "attributes": np.ones((5, 2))}),
    "numbers as attributes": (InputError, {"given": GREY, "attributes": np.full((12, 2), 3)}),
    "a short column of attributes": (InputError, {"given": GREY, "attributes": {"x": [1]}}),
    "another size than the model's": (InputError, {"given": GREY, "image_shape": (3, 10, 9)}),
    "Images of another size": (InputError, {"given": Images(COLOUR), "image_shape": (1, 10, 9)}),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_used_is_one_line(case: str, wording: Callable[[object], None]) -> None:
    kind, arguments = WRONG[case]
    if case == "a broken picture":
        arguments["given"][0].load = lambda: 1 / 0
    with pytest.raises(kind) as caught:
        read_memory(**arguments)
    assert "\n" not in str(caught.value)
    wording(caught.value)
