"""Fashion-MNIST: 70,000 articles of clothing, 28×28 grey."""

from vaelab.data.datasets import Dataset, DatasetInfo
from vaelab.data.datasets._idx_files import IdxSet, Mirrored

# The authors publish digests of the gzipped files only, so these are checked before decompression.
_FILES = (
    Mirrored("train-images-idx3-ubyte", None, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    Mirrored("train-labels-idx1-ubyte", None, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    Mirrored("t10k-images-idx3-ubyte", None, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    Mirrored("t10k-labels-idx1-ubyte", None, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
)
INFO = DatasetInfo(
    title="Fashion-MNIST",
    image_shape=(1, 28, 28),
    splits={"train": 60_000, "test": 10_000},
    licence="MIT",
    source="H. Xiao, K. Rasul, R. Vollgraf 2017 (1708.07747)",
    files=tuple(file.name for file in _FILES),
)
_SET = IdxSet(
    name="fashion",
    info=INFO,
    files=_FILES,
    mirrors=(
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    folders=("fashion", "fashion-mnist", "fashion_mnist", "FashionMNIST", "FashionMNIST/raw", "raw"),
    label_names=("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
                 "ankle boot"),
)  # fmt: skip
DATASET = Dataset(INFO, _SET.load, _SET.find, _SET.get, _SET.check)
