"""Digits: the 1,797 handwritten digits of scikit-learn in the layout of MNIST; needs no files."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaelab.data.datasets import Dataset, DatasetInfo
from vaelab.data.images import Images

TEST_EVERY = 5
INFO = DatasetInfo(
    title="Optical Recognition of Handwritten Digits (test part), in MNIST's geometry",
    image_shape=(1, 28, 28),
    splits={"train": 1438, "test": 359},
    licence="CC BY 4.0",
    source="E. Alpaydin, C. Kaynak, UCI Machine Learning Repository 1998, doi:10.24432/C50P49; shipped by scikit-learn",
)


def load(data_dir: Path | None, split: str) -> Images:
    """Load the digits of a split, "train" or "test". In vaelab's own split every fifth image is a test image."""
    INFO.check_split(split)
    small, labels = _read()
    is_test = np.arange(len(labels)) % TEST_EVERY == TEST_EVERY - 1
    chosen = is_test if split == "test" else ~is_test
    return Images(
        _lay_out(small[chosen])[..., None],
        labels[chosen],
        tuple("0123456789"),
        source="scikit-learn",
        notes=("split by vaelab: every fifth image is a test image",),
    )


def _read() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The 8×8 images, values 0 … 16, and labels. scikit-learn's own reader takes 0.7 s to import."""
    spec = find_spec("sklearn")
    assert spec is not None
    assert spec.origin is not None
    file = Path(spec.origin).with_name("datasets") / "data" / "digits.csv.gz"
    if not file.exists():  # another version of scikit-learn
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        return images, labels.astype(np.int64)
    table = np.loadtxt(file, delimiter=",")
    return table[:, :-1], table[:, -1].astype(np.int64)


def _lay_out(small: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return digits in the layout of MNIST: 20×20 pixels, with the centre of mass in the middle of 28×28."""
    grey = (small * (255 / 16)).round().astype(np.uint8).reshape(-1, 8, 8)
    digits = _enlarge(grey, 20)
    mass = digits.sum((1, 2))
    centres = (digits.sum(axis) @ np.arange(20) / mass for axis in (2, 1))
    tops, lefts = (np.clip(np.rint(13.5 - centre), 0, 8).astype(int) for centre in centres)
    canvas = np.zeros((len(digits), 28, 28), np.uint8)
    for image, digit, top, left in zip(canvas, digits, tops, lefts, strict=True):
        image[top : top + 20, left : left + 20] = digit
    return canvas


def _enlarge(grey: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resize square images ``[N, H, H]`` as Pillow does: all rows at once, then all columns."""
    from PIL import Image

    count, height, _ = grey.shape
    rows = Image.fromarray(grey.reshape(count * height, height)).resize(
        (side, count * height), Image.Resampling.BICUBIC
    )
    beside = np.asarray(rows).reshape(count, height, side).transpose(1, 0, 2).reshape(height, count * side)
    columns = Image.fromarray(beside).resize((count * side, side), Image.Resampling.BICUBIC)
    return np.asarray(columns).reshape(side, count, side).transpose(1, 0, 2)


DATASET = Dataset(INFO, load)
