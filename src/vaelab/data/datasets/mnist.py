"""MNIST: 70,000 handwritten digits, 28×28 grey."""

from vaelab.data.datasets import Dataset, DatasetInfo
from vaelab.data.datasets._idx_files import IdxSet, Mirrored

_FILES = (
    Mirrored("train-images-idx3-ubyte", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    Mirrored("train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    Mirrored("t10k-images-idx3-ubyte", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    Mirrored("t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
)
INFO = DatasetInfo(
    title="MNIST",
    image_shape=(1, 28, 28),
    splits={"train": 60_000, "test": 10_000},
    licence="CC BY-SA 3.0",
    source="Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits",
    files=tuple(file.name for file in _FILES),
)
_SET = IdxSet(
    name="mnist",
    info=INFO,
    files=_FILES,
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    folders=("mnist", "MNIST", "MNIST/raw", "raw", "datasets"),
    npz=("mnist.npz",),
)
DATASET = Dataset(INFO, _SET.load, _SET.find, _SET.get, _SET.check)
