"""EMNIST: handwritten digits and letters, 28×28 grey, in six sets."""

import string
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from vaelab.data.containers import read_members
from vaelab.data.datasets import Dataset, DatasetInfo
from vaelab.data.datasets._published_files import PublishedFile, PublishedSet, Subset
from vaelab.data.idx import parse_idx_file
from vaelab.data.images import Images
from vaelab.system.files import DamagedFile

Name = Literal["balanced", "byclass", "bymerge", "digits", "letters", "mnist"]
_MERGED = string.digits + string.ascii_uppercase + "abdefghnqrt"
SETS: Mapping[str, tuple[int, int, str]] = {
    "balanced": (112_800, 18_800, _MERGED),
    "byclass": (697_932, 116_323, string.digits + string.ascii_uppercase + string.ascii_lowercase),
    "bymerge": (697_932, 116_323, _MERGED),
    "digits": (240_000, 40_000, string.digits),
    "letters": (124_800, 20_800, string.ascii_lowercase),
    "mnist": (60_000, 10_000, string.digits),
}
"""Set → numbers of training and of test images, and its classes."""
# The authors publish the MD5 58c8d27c78d21e728a6bc7b3cc06412e; the SHA-256 is that of TensorFlow Datasets.
ARCHIVE = PublishedFile(
    "gzip.zip",
    "sha256:fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
    ("https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",),
)
INFO = DatasetInfo(
    title="EMNIST",
    image_shape=(1, 28, 28),
    splits={"train": SETS["balanced"][0], "test": SETS["balanced"][1]},
    licence="public domain (NIST)",
    source="G. Cohen, S. Afshar, J. Tapson, A. van Schaik 2017 (1702.05373)",
    files=(ARCHIVE.name,),
)


def _name(subset: str, split: str, kind: str) -> str:
    return f"emnist-{subset}-{split}-{kind}-ubyte"


def read(place: Path, subset: str, split: str) -> Images:
    """Return the images of a split upright; the files hold them with rows and columns exchanged."""
    names = [_name(subset, split, kind) for kind in ("images-idx3", "labels-idx1")]
    arrays = []
    for name, content, num_axes in zip(names, read_members(place, names), (3, 1), strict=True):
        try:
            arrays.append(parse_idx_file(content, num_axes))
        except ValueError as error:
            raise DamagedFile(place, f"{name}: {error}", "get it again") from None
    pixels, classes = arrays[0].transpose(0, 2, 1), SETS[subset][2]
    labels = arrays[1].astype(np.int64) - (subset == "letters")  # letters are numbered from 1
    if len(labels) != len(pixels) or (len(labels) and not 0 <= labels.min() <= labels.max() < len(classes)):
        raise DamagedFile(place, f"{names[1]} does not fit {len(pixels)} images of {len(classes)} classes")
    return Images(np.ascontiguousarray(pixels)[..., None], labels, tuple(classes))


def _files(subset: str) -> tuple[str, ...]:
    return tuple(_name(subset, split, kind) for split in INFO.splits for kind in ("images-idx3", "labels-idx1"))


_SET = PublishedSet(
    name="emnist",
    info=INFO,
    subsets={name: Subset((ARCHIVE,), _files(name)) for name in SETS},
    folders=("EMNIST/raw", "EMNIST", "gzip"),
    read=read,
)


def load(data_dir: Path | None, split: str, *, subset: Name = "balanced") -> Images:
    """Load the images of a split, "train" or "test", of one of the six sets."""
    return _SET.load(data_dir, split, subset)


def count_images(*, subset: Name = "balanced") -> dict[str, int]:
    """Return the published number of images of each split."""
    return dict(zip(INFO.splits, SETS[subset][:2], strict=True))


DATASET = Dataset(INFO, load, _SET.find, _SET.get, _SET.check, counts=count_images)
