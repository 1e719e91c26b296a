"""CIFAR-100: 60,000 photographs of a hundred kinds of objects, 32×32 RGB."""

from pathlib import Path
from typing import Literal

from vaelab.data.containers import printable, read_members
from vaelab.data.datasets import Dataset, DatasetInfo
from vaelab.data.datasets._cifar_files import REMARK, SHAPE, check_classes, read_rows
from vaelab.data.datasets._published_files import PublishedFile, PublishedSet, Subset
from vaelab.data.images import Images
from vaelab.system.files import DamagedFile

LEVELS = {"coarse": 20, "fine": 100}
"""Kind of label, in the order of the file → number of classes."""
# The authors publish the MD5 03b5dce01913d631647c71ecec9e9cb8; the SHA-256 is that of TensorFlow Datasets.
ARCHIVE = PublishedFile(
    "cifar-100-binary.tar.gz",
    "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    ("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",),
)
INFO = DatasetInfo(
    title="CIFAR-100",
    image_shape=SHAPE,
    splits={"train": 50_000, "test": 10_000},
    licence="not stated",
    source="A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    files=(ARCHIVE.name,),
)


def read(place: Path, subset: str, split: str) -> Images:
    """Return the images of a split with their coarse or fine classes."""
    pixels, labels = read_rows(place, [f"{split}.bin"], num_labels=2)
    names = _read_names(place, subset)
    return Images(pixels, check_classes(place, labels[:, list(LEVELS).index(subset)], len(names)), names)


def _read_names(place: Path, level: str) -> tuple[str, ...]:
    file = f"{level}_label_names.txt"
    (content,) = read_members(place, [file])
    names = tuple(printable(name) for name in content.decode(errors="replace").split())
    if len(names) != LEVELS[level]:
        raise DamagedFile(place, f"{file} has {len(names)} names of classes instead of {LEVELS[level]}", "get it again")
    return names


_FILES = ("train.bin", "test.bin", "fine_label_names.txt", "coarse_label_names.txt")
_SET = PublishedSet(
    name="cifar100",
    info=INFO,
    subsets=dict.fromkeys(LEVELS, Subset((ARCHIVE,), _FILES)),
    folders=("cifar-100-binary", "cifar100/cifar-100-binary"),
    read=read,
    remark=REMARK,
)


def load(data_dir: Path | None, split: str, *, classes: Literal["fine", "coarse"] = "fine") -> Images:
    """Load the images of a split, "train" or "test". ``classes``: the 100 kinds of objects, or 20 groups of them."""
    return _SET.load(data_dir, split, classes)


DATASET = Dataset(INFO, load, _SET.find, _SET.get, _SET.check)
