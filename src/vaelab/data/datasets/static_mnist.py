"""Static MNIST: MNIST binarised once, the data of most published likelihoods of binary digits."""

from vaelab.data.datasets import DatasetInfo
from vaelab.data.datasets._binary_files import BinarySet

NPZ, TEXT = "static_mnist.npz", "binarized_mnist_{split}.amat"
INFO = DatasetInfo(
    title="Static MNIST, binarised once",
    image_shape=(1, 28, 28),
    splits={"train": 50_000, "valid": 10_000, "test": 10_000},
    licence="CC BY-SA 3.0",
    source="H. Larochelle, I. Murray, The Neural Autoregressive Distribution Estimator, AISTATS 2011",
    files=tuple(TEXT.format(split=split) for split in ("train", "valid", "test")),
    instructions="Put the files binarized_mnist_train.amat, binarized_mnist_valid.amat and binarized_mnist_test.amat "
    "into a folder and name it with --data. They come from "
    "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/. The data set mnist with "
    "data.binarize=dynamic needs no files, and its likelihoods are not comparable",
)
DATASET = BinarySet(
    name="static_mnist",
    info=INFO,
    folders=("static_mnist", "binarized", "binarized_mnist"),
    npz=NPZ,
    sha256={
        "train": "43490d4d6ac9002727af4426d8748609fdb7e4094fa65ad8d681ea60082a7a5a",
        "valid": "069b4f0beb389b776478c3e872b4df71c95ac4be64d7cbe6d32e24ebac8e6d5e",
        "test": "ca0294c3b8d984c7a1dc891015a8eea6f37bae59a34e35ea0fc8c47110a8dd86",
    },
    text=TEXT,
).dataset()
