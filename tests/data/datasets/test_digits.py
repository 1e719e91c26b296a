"""The digits of scikit-learn: fixed content in the layout of MNIST."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

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


@pytest.fixture(scope="module")
def splits() -> dict[str, Images]:
    return {split: digits.load(None, split) for split in PIXELS}


@pytest.mark.parametrize("split", PIXELS)
def test_content_is_fixed(splits: dict[str, Images], split: str) -> None:
    """A change here changes every number that was ever reported for digits."""
    images = splits[split]
    assert images.labels is not None
    assert images.label_names == tuple("0123456789")
    assert images.fingerprint() == PIXELS[split]
    assert hashlib.sha256(images.labels.astype("<i8").tobytes()).hexdigest() == LABELS[split]


def test_without_the_table_of_scikit_learn_its_reader_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path.name != "digits.csv.gz" and exists(path))
    images = digits.load(None, "test")
    assert images.labels is not None
    assert images.labels.dtype == np.int64
    assert images.fingerprint() == PIXELS["test"]


def test_splits_are_disjoint_and_complete(splits: dict[str, Images]) -> None:
    train, test = ({image.tobytes() for image in splits[split].pixels} for split in ("train", "test"))
    assert not train & test
    assert len(train | test) == 1797
    counts = sum(np.bincount(images.labels) for images in splits.values())
    np.testing.assert_array_equal(counts, np.bincount(load_digits().target))


@pytest.mark.parametrize("split", PIXELS)
def test_geometry_of_mnist(splits: dict[str, Images], split: str) -> None:
    ink = splits[split].pixels[..., 0].astype(float)
    total = ink.sum((1, 2))
    assert total.min() > 0
    for axis in (1, 2):
        profile = ink.sum(3 - axis)
        assert (profile > 0).sum(1).max() <= 20
        centre = profile @ np.arange(28) / total
        assert np.abs(centre - 13.5).max() <= 1
    assert (ink[:, [0, -1]] == 0).mean() > 0.99  # bright ink on dark paper
    assert ink.max((1, 2)).min() > 200
