"""SVHN: 99,289 digits cut from photographs of house numbers, 32×32 RGB."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.data.datasets import Dataset, DatasetInfo
from vaelab.data.datasets._published_files import PublishedFile, PublishedSet, Subset
from vaelab.data.images import Images
from vaelab.system.files import DamagedFile, check_file

MAX_BYTES = 1 << 31
BASE = "http://ufldl.stanford.edu/housenumbers/"
# The SHA-256 are those of TensorFlow Datasets. The host has no certificate, so the address begins with http.
FILES = {
    split: PublishedFile(f"{split}_32x32.mat", f"sha256:{digest}", (f"{BASE}{split}_32x32.mat",))
    for split, digest in (
        ("train", "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),
        ("test", "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
    )
}
INFO = DatasetInfo(
    title="SVHN, cropped digits",
    image_shape=(3, 32, 32),
    splits={"train": 73_257, "test": 26_032},
    licence="non-commercial use only",
    source="Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu, A. Y. Ng, Reading Digits in Natural Images with "
    "Unsupervised Feature Learning, NIPS Workshop 2011",
    files=tuple(file.name for file in FILES.values()),
    terms="SVHN is for non-commercial use only",
)


def read(place: Path, _subset: str, split: str) -> Images:
    """Return the images of a split; the digit 0, which the file calls 10, is class 0."""
    path = place / FILES[split].name
    arrays = _read_mat(path)
    pixels, labels = arrays["X"], arrays["y"].ravel()
    if pixels.ndim != 4 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or pixels.shape[3] != len(labels):
        found = f"{pixels.dtype} {list(pixels.shape)} with {len(labels)} labels"
        raise DamagedFile(path, f"X must be uint8 [32, 32, 3, N] with N labels y; got {found}")
    if not len(labels) or labels.min() < 1 or labels.max() > 10:
        raise DamagedFile(path, "its labels y must be from 1 to 10")
    classes = (labels % 10).astype(np.int64)
    return Images(np.ascontiguousarray(pixels.transpose(3, 0, 1, 2)), classes, tuple("0123456789"))


def _read_mat(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays X and y of a file of MATLAB, whose sizes are checked before they are read."""
    from scipy import io

    check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about variables in damaged files
            declared = {name: (shape, kind) for name, shape, kind in io.whosmat(path)}
            if missing := [name for name in "Xy" if name not in declared]:
                raise DamagedFile(path, f"it has no array {missing[0]}, or is truncated", "get it again")
            if any(np.prod(shape, dtype=float) > MAX_BYTES or kind == "cell" for shape, kind in declared.values()):
                raise DamagedFile(path, "it declares larger arrays than SVHN has")
            found = io.loadmat(path, variable_names=["X", "y"])
        return {name: np.asarray(found[name]) for name in "Xy"}
    except DamagedFile:
        raise
    except Exception as error:  # the reader raises a dozen types for damaged content
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DamagedFile(path, f"not a file of MATLAB, or truncated ({reason})", "get it again") from None


_SET = PublishedSet("svhn", INFO, {"": Subset(tuple(FILES.values()))}, ("SVHN",), read)


def load(data_dir: Path | None, split: str) -> Images:
    """Load the images of a split, "train" or "test"; the additional easy images are not used."""
    return _SET.load(data_dir, split)


DATASET = Dataset(INFO, load, _SET.find, _SET.get, _SET.check)
