"""Caltech 101 silhouettes: 8,671 outlines of objects, filled white on black, 28×28."""

from vaelab.data.datasets import DatasetInfo
from vaelab.data.datasets._binary_files import BinarySet

NPZ = "caltech101_silhouettes.npz"
NUM_CLASSES = 101
INFO = DatasetInfo(
    title="Caltech 101 silhouettes",
    image_shape=(1, 28, 28),
    splits={"train": 4100, "valid": 2264, "test": 2307},
    licence="not stated",
    source="B. Marlin, K. Swersky, B. Chen, N. de Freitas, Inductive Principles for Restricted Boltzmann Machine "
    "Learning, AISTATS 2010",
    files=(NPZ,),
    instructions=f"Put {NPZ} into a folder and name it with --data. Its arrays train, valid and test are the images of "
    "B. Marlin's caltech101_silhouettes_28_split1.mat, uint8 [N, 28, 28] with 1 for the figure. The arrays "
    "train_labels, valid_labels and test_labels are the classes 1 to 101",
)
DATASET = BinarySet(
    name="caltech101",
    info=INFO,
    folders=("caltech101", "binarized"),
    npz=NPZ,
    sha256={
        "train": "cb0a788db5095e4fbefdfa06cae30029507f2582d76d021ad30a08588774ca76",
        "valid": "1b9c3b942673aed8b85b69d149013de14565a0f7efd9ebf21655d0c4262a66d6",
        "test": "36fc4a2cc67cf73f78af709ed2228bdd1eb9feb6567b0b6a15fe2c80f83eab3f",
    },
    label_names=tuple(f"class {number}" for number in range(1, NUM_CLASSES + 1)),
).dataset()
