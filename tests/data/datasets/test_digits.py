"""The digits that come with scikit-learn: always the same, and laid out as MNIST's."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from vaelab.data.datasets import digits
from vaelab.data.images import Images

PIXELS = {
    "train": "62fac8842f8883645edf7a72cf42620941446599b1974ccf7bbb41c1f8004d32",
    "test": "468132b38fdf9d05470aa0c705ffc127a0751fc8b9893d185404647a3d22b327",
}
LABELS = {
    "train": "d88bc14b5455324ff8c5b13f3d3dbf61f9f2fed107c1bdae032e8506d4ff6116",
    "test": "5b60d960d691c63f4e10de32b748c8dadcfa8c4000d9b6fe5efbd78200686ddc",
}
both = pytest.mark.parametrize("split", ["train", "test"])


@pytest.fixture(scope="module")
def splits() -> dict[str, Images]:
    return {split: digits.load(None, split) for split in digits.INFO.splits}


@both
def test_shape_and_count(splits: dict[str, Images], split: str) -> None:
    images = splits[split]
    assert len(images) == {"train": 1438, "test": 359}[split] == digits.INFO.splits[split]
    assert images.image_shape == (1, 28, 28) == digits.INFO.image_shape
    assert images.labels is not None
    assert images.labels.dtype == np.int64
    assert set(images.labels.tolist()) == set(range(10))
    assert images.label_names == tuple("0123456789")
    assert "split by vaelab" in images.notes[0]


@both
def test_fixed_for_ever(splits: dict[str, Images], split: str) -> None:
    """A change here changes every number that was ever quoted for digits."""
    images = splits[split]
    assert images.labels is not None
    assert images.fingerprint() == PIXELS[split]
    assert hashlib.sha256(images.labels.astype("<i8").tobytes()).hexdigest() == LABELS[split]


def test_the_same_through_the_reader_of_scikit_learn(
    splits: dict[str, Images], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another scikit-learn may keep its table elsewhere; its own reader knows where."""
    monkeypatch.setattr(digits, "TABLE", Path("moved", "digits.csv.gz"))
    images = digits.load(None, "test")
    assert images.labels is not None
    assert images.labels.dtype == np.int64
    assert images.fingerprint() == PIXELS["test"]
    np.testing.assert_array_equal(images.labels, splits["test"].labels)


def test_splits_are_disjoint_and_cover_all(splits: dict[str, Images]) -> None:
    train, test = ({image.tobytes() for image in splits[split].pixels} for split in ("train", "test"))
    assert not train & test
    assert len(train | test) == 1797


def test_classes_are_as_in_the_source(splits: dict[str, Images]) -> None:
    from sklearn.datasets import load_digits

    counts = sum(np.bincount(images.labels) for images in splits.values())
    np.testing.assert_array_equal(counts, np.bincount(load_digits().target))


@both
def test_geometry_of_mnist(splits: dict[str, Images], split: str) -> None:
    ink = splits[split].pixels[..., 0].astype(float)
    total = ink.sum((1, 2))
    assert total.min() > 0
    for axis in (1, 2):
        profile = ink.sum(3 - axis)
        assert (profile > 0).sum(1).max() <= 20
        centre = profile @ np.arange(28) / total
        assert np.abs(centre - 13.5).max() <= 1


@both
def test_dark_paper_bright_ink(splits: dict[str, Images], split: str) -> None:
    pixels = splits[split].pixels
    assert (pixels[:, [0, -1]] == 0).mean() > 0.99
    assert pixels.max((1, 2, 3)).min() > 200


def test_unknown_split() -> None:
    with pytest.raises(ValueError, match="digits has the splits train and test; there is no split 'valid'"):
        digits.load(None, "valid")
