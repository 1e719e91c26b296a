"""MedMNIST v2: twelve sets of small medical images, grey or RGB, at 28×28 to 224×224."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from vaelab.data.datasets import Dataset, DatasetInfo, Shape, UnusableFile
from vaelab.data.datasets._published_files import PublishedFile, PublishedSet, Subset
from vaelab.data.images import Images
from vaelab.data.npy import map_array, read_npz

Name = Literal[
    "pathmnist",
    "chestmnist",
    "dermamnist",
    "octmnist",
    "pneumoniamnist",
    "retinamnist",
    "breastmnist",
    "bloodmnist",
    "tissuemnist",
    "organamnist",
    "organcmnist",
    "organsmnist",
]
Side = Literal[28, 64, 128, 224]
SIDES = (28, 64, 128, 224)
RECORD = "https://zenodo.org/records/10519652/files/"
MAX_LABEL_BYTES = 1 << 28


class _SetInfo(NamedTuple):
    """Published facts about one set."""

    channels: int
    counts: tuple[int, int, int]
    """Training, validation and test images."""
    classes: tuple[str, ...]
    md5: tuple[str, str, str, str]
    """Digest of the file for each of ``SIDES``."""


ORGANS = (
    "bladder",
    "femur-left",
    "femur-right",
    "heart",
    "kidney-left",
    "kidney-right",
    "liver",
    "lung-left",
    "lung-right",
    "pancreas",
    "spleen",
)
SETS: Mapping[str, _SetInfo] = {
    "pathmnist": _SetInfo(
        3,
        (89_996, 10_004, 7_180),
        (
            "adipose",
            "background",
            "debris",
            "lymphocytes",
            "mucus",
            "smooth muscle",
            "normal colon mucosa",
            "cancer-associated stroma",
            "colorectal adenocarcinoma epithelium",
        ),
        (
            "a8b06965200029087d5bd730944a56c1",
            "55aa9c1e0525abe5a6b9d8343a507616",
            "ac42d08fb904d92c244187169d1fd1d9",
            "2c51a510bcdc9cf8ddb2af93af1eadec",
        ),
    ),
    "chestmnist": _SetInfo(
        1,
        (78_468, 11_219, 22_433),
        (
            "atelectasis",
            "cardiomegaly",
            "effusion",
            "infiltration",
            "mass",
            "nodule",
            "pneumonia",
            "pneumothorax",
            "consolidation",
            "edema",
            "emphysema",
            "fibrosis",
            "pleural",
            "hernia",
        ),
        (
            "02c8a6516a18b556561a56cbdd36c4a8",
            "9de6cd0b934ebb5b7426cfba5efbae16",
            "db107e5590b27930b62dbaf558aebee3",
            "45bd33e6f06c3e8cdb481c74a89152aa",
        ),
    ),
    "dermamnist": _SetInfo(
        3,
        (7_007, 1_003, 2_005),
        (
            "actinic keratoses and intraepithelial carcinoma",
            "basal cell carcinoma",
            "benign keratosis-like lesions",
            "dermatofibroma",
            "melanoma",
            "melanocytic nevi",
            "vascular lesions",
        ),
        (
            "0744692d530f8e62ec473284d019b0c7",
            "b70a2f5635c6199aeaa28c31d7202e1f",
            "2defd784463fa5243564e855ed717de1",
            "8974907d8e169bef5f5b96bc506ae45d",
        ),
    ),
    "octmnist": _SetInfo(
        1,
        (97_477, 10_832, 1_000),
        ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
        (
            "c68d92d5b585d8d81f7112f81e2d0842",
            "e229e9440236b774d9f0dfef9d07bdaf",
            "0a97e76651ace45c5d943ee3f65b63ae",
            "abc493b6d529d5de7569faaef2773ba3",
        ),
    ),
    "pneumoniamnist": _SetInfo(
        1,
        (4_708, 524, 624),
        ("normal", "pneumonia"),
        (
            "28209eda62fecd6e6a2d98b1501bb15f",
            "8f4eceb4ccffa70c672198ea285246c6",
            "05b46931834c231683c68f40c47b2971",
            "d6a3c71de1b945ea11211b03746c1fe1",
        ),
    ),
    "retinamnist": _SetInfo(
        3,
        (1_080, 120, 400),
        ("0", "1", "2", "3", "4"),
        (
            "bd4c0672f1bba3e3a89f0e4e876791e4",
            "afda852cc34dcda56f86ad2b2457dbcc",
            "e48e916a24454daf90583d4e6efb1a18",
            "eae7e3b6f3fcbda4ae613ebdcbe35348",
        ),
    ),
    "breastmnist": _SetInfo(
        1,
        (546, 78, 156),
        ("malignant", "normal, benign"),
        (
            "750601b1f35ba3300ea97c75c52ff8f6",
            "742edef2a1fd1524b2efff4bd7ba9364",
            "363e4b3f8d712e9b5de15470a2aaadf1",
            "b56378a6eefa9fed602bb16d192d4c8b",
        ),
    ),
    "bloodmnist": _SetInfo(
        3,
        (11_959, 1_712, 3_421),
        (
            "basophil",
            "eosinophil",
            "erythroblast",
            "immature granulocytes (myelocytes, metamyelocytes and promyelocytes)",
            "lymphocyte",
            "monocyte",
            "neutrophil",
            "platelet",
        ),
        (
            "7053d0359d879ad8a5505303e11de1dc",
            "2b94928a2ae4916078ca51e05b6b800b",
            "adace1e0ed228fccda1f39692059dd4c",
            "b718ff6835fcbdb22ba9eacccd7b2601",
        ),
    ),
    "tissuemnist": _SetInfo(
        1,
        (165_466, 23_640, 47_280),
        (
            "Collecting Duct, Connecting Tubule",
            "Distal Convoluted Tubule",
            "Glomerular endothelial cells",
            "Interstitial endothelial cells",
            "Leukocytes",
            "Podocytes",
            "Proximal Tubule Segments",
            "Thick Ascending Limb",
        ),
        (
            "ebe78ee8b05294063de985d821c1c34b",
            "123ece2eba09d0aa5d698fda57103344",
            "61b955355d7425a89687b06cca3ce0c2",
            "b077128c4a949f0a4eb01517f9037b9c",
        ),
    ),
    "organamnist": _SetInfo(
        1,
        (34_561, 6_491, 17_778),
        ORGANS,
        (
            "68e3f8846a6bd62f0c9bf841c0d9eacc",
            "2dcccc29b88e6da5a01161ef20cda288",
            "eeae80d0a227a8d099027e1b3cfd3b60",
            "50747347e05c87dd3aaf92c49f9f3170",
        ),
    ),
    "organcmnist": _SetInfo(
        1,
        (12_975, 2_392, 8_216),
        ORGANS,
        (
            "b9ceb9546e10131b32923c5bbeaea2b1",
            "3ce34a8724ea6f548e6db4744d03b6a9",
            "773c1f009daa3fe5d9a2a201b2a7ed94",
            "050f5e875dc056f6768abf94ec9995d1",
        ),
    ),
    "organsmnist": _SetInfo(
        1,
        (13_932, 2_452, 8_827),
        ORGANS,
        (
            "9ab87b696fb54e2a387ebe992d6ed5f1",
            "53a6d115339d874c25e309a994ff46d3",
            "ded0c5fa01a95dc4978b956f613e9b8e",
            "b354719e553fbbb2513d5533f52a4cb1",
        ),
    ),
}
"""Facts from the authors' medmnist/info.py (3.0)."""
INFO = DatasetInfo(
    title="MedMNIST v2",
    image_shape=(3, 28, 28),
    splits=dict(zip(("train", "valid", "test"), SETS["pathmnist"].counts, strict=True)),
    licence="CC BY 4.0, dermamnist CC BY-NC 4.0",
    source="J. Yang, R. Shi, D. Wei, Z. Liu, L. Zhao, B. Ke, H. Pfister, B. Ni, MedMNIST v2, Scientific Data 2023",
    files=tuple(f"{name}.npz" for name in SETS),
    terms="MedMNIST is not for clinical use; dermamnist is for non-commercial use only (CC BY-NC 4.0)",
)
PREFIXES = {"train": "train", "valid": "val", "test": "test"}


def read(place: Path, subset: str, split: str) -> Images:
    """Return the images of a split with their class, or with attributes for the findings of chestmnist."""
    facts, prefix = SETS[subset.partition("_")[0]], PREFIXES[split]
    pixels = map_array(place, f"{prefix}_images")
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    labels = read_npz(place, f"{prefix}_labels", max_bytes=MAX_LABEL_BYTES)[f"{prefix}_labels"]
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != facts.channels:
        raise UnusableFile(place, f"{prefix}_images are {pixels.dtype} {list(pixels.shape)}, not those of {subset}")
    if labels.ndim != 2 or len(labels) != len(pixels) or labels.dtype.kind not in "biu":
        found = f"{labels.dtype} {list(labels.shape)}"
        raise UnusableFile(place, f"{prefix}_labels must be integers [{len(pixels)}, L]; got {found}")
    try:
        if labels.shape[1] == 1:
            return Images(pixels, labels[:, 0].astype(np.int64), facts.classes)
        return Images(pixels, attributes=labels > 0, attribute_names=facts.classes)
    except ValueError as error:
        raise UnusableFile(place, str(error)) from None


def _file(name: str, side: int) -> PublishedFile:
    file = f"{name}.npz" if side == SIDES[0] else f"{name}_{side}.npz"
    return PublishedFile(file, f"md5:{SETS[name].md5[SIDES.index(side)]}", (f"{RECORD}{file}?download=1",))


_FILES = {side: {name: Subset((_file(name, side),)) for name in SETS} for side in SIDES}
_SMALL = PublishedSet("medmnist", INFO, _FILES[28], ("MedMNIST", ".medmnist"), read)
_SET = PublishedSet(
    "medmnist",
    INFO,
    {f"{name}_{side}" if side != SIDES[0] else name: subset for side in SIDES for name, subset in _FILES[side].items()},
    ("MedMNIST", ".medmnist"),
    read,
)


def load(data_dir: Path | None, split: str, *, subset: Name = "pathmnist", size: Side = 28) -> Images:
    """Load the images of a split, "train", "valid" or "test", of one of the twelve sets. ``size``: their side."""
    return _SET.load(data_dir, split, subset if size == SIDES[0] else f"{subset}_{size}")


def find_shape(*, subset: Name = "pathmnist", size: Side = 28) -> Shape:
    """Return the shape of the images of a set."""
    return SETS[subset].channels, size, size


def count_images(*, subset: Name = "pathmnist", size: Side = 28) -> dict[str, int]:
    """Return the published number of images of each split."""
    return dict(zip(INFO.splits, SETS[subset].counts, strict=True))


DATASET = Dataset(INFO, load, _SET.find, _SMALL.get, _SET.check, shape=find_shape, counts=count_images)
