"""KMNIST: 70,000 cursive Japanese characters (hiragana) of ten kinds, 28×28 grey."""

from vaelab.data.datasets import Dataset, DatasetInfo
from vaelab.data.datasets._idx_files import IdxSet, Mirrored

# Digests of the gzipped files as TensorFlow Datasets lists them; those of the content are not published.
_FILES = (
    Mirrored("train-images-idx3-ubyte", None, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
    Mirrored("train-labels-idx1-ubyte", None, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
    Mirrored("t10k-images-idx3-ubyte", None, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
    Mirrored("t10k-labels-idx1-ubyte", None, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
)
INFO = DatasetInfo(
    title="KMNIST",
    image_shape=(1, 28, 28),
    splits={"train": 60_000, "test": 10_000},
    licence="CC BY-SA 4.0",
    source="T. Clanuwat, M. Bober-Irizar, A. Kitamoto, A. Lamb, K. Yamamoto, D. Ha 2018 (1812.01718)",
    files=tuple(file.name for file in _FILES),
)
_SET = IdxSet(
    name="kmnist",
    info=INFO,
    files=_FILES,
    mirrors=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    folders=("kmnist", "KMNIST", "KMNIST/raw", "raw"),
    label_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
)
DATASET = Dataset(INFO, _SET.load, _SET.find, _SET.get, _SET.check)
