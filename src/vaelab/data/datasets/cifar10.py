"""CIFAR-10: 60,000 photographs of ten kinds of objects, 32×32 RGB."""

from pathlib import Path

from vaelab.data.datasets import Dataset, DatasetInfo
from vaelab.data.datasets._cifar_files import REMARK, SHAPE, check_classes, read_rows
from vaelab.data.datasets._published_files import PublishedFile, PublishedSet, Subset
from vaelab.data.images import Images

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NAMES = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
# The authors publish the MD5 c32a1d4ab5d03f1284b67883e8d87530; the SHA-256 is that of TensorFlow Datasets.
ARCHIVE = PublishedFile(
    "cifar-10-binary.tar.gz",
    "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
)
INFO = DatasetInfo(
    title="CIFAR-10",
    image_shape=SHAPE,
    splits={"train": 50_000, "test": 10_000},
    licence="not stated",
    source="A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    files=(ARCHIVE.name,),
)


def read(place: Path, _subset: str, split: str) -> Images:
    """Return the images of a split with their classes."""
    pixels, labels = read_rows(place, NAMES[split], num_labels=1)
    return Images(pixels, check_classes(place, labels[:, 0], len(CLASSES)), CLASSES)


_SET = PublishedSet(
    name="cifar10",
    info=INFO,
    subsets={"": Subset((ARCHIVE,), tuple(NAMES["train"] + NAMES["test"]))},
    folders=("cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"),
    read=read,
    remark=REMARK,
)


def load(data_dir: Path | None, split: str) -> Images:
    """Load the images of a split, "train" or "test"."""
    return _SET.load(data_dir, split)


DATASET = Dataset(INFO, load, _SET.find, _SET.get, _SET.check)
