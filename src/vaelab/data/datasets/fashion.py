"""Fashion-MNIST: 70,000 articles of clothing, 28×28 grey."""

from vaelab.data.datasets import Dataset, DatasetInfo
from vaelab.data.datasets._idx_files import IdxSet, Mirrored

_FILES = (
    Mirrored("train-images-idx3-ubyte", "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    Mirrored("train-labels-idx1-ubyte", "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    Mirrored("t10k-images-idx3-ubyte", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    Mirrored("t10k-labels-idx1-ubyte", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
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
