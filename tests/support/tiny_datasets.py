"""Small instances of every data set that needs files, with the images that loading them must give."""

import gzip
import importlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import scipy.io
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

from vaelab.data.datasets import load_dataset
from vaelab.data.idx import write_idx
from vaelab.data.images import Images, split_off
from vaelab.data.pictures import encode_png

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Tiny:
    """A small data set: its place, options of ``load``, and split → expected pixels, labels and so on."""

    place: Path | None
    expected: Mapping[str, Columns]
    options: Mapping[str, Any] = field(default_factory=dict)


def random_pixels(*shape: int, high: int = 256) -> NDArray[np.uint8]:
    """Random pixels, the same for equal shapes."""
    return np.random.default_rng(0).integers(0, high, shape, dtype=np.uint8)


# -- pictures ---------------------------------------------------------------------------------------------------------


def put_picture(path: Path, size: tuple[int, int] = (28, 28), colour: Any = 100, **options: Any) -> Path:
    """Write a picture of one colour, grey for a number, with this width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(colour, int) else "RGB", size, colour).save(path, **options)
    return path


def put_pictures(root: Path, count: int, size: tuple[int, int] = (28, 28)) -> Path:
    """Write pictures whose grey value is their number."""
    for i in range(count):
        put_picture(root / f"{i:03d}.png", size, i)
    return root


def make_folder(place: Path) -> Tiny:
    """Two classes in the folders train and val."""
    expected: dict[str, Columns] = {}
    for split, name, count in (("train", "train", 5), ("test", "val", 3)):
        for i in range(count):
            put_picture(place / name / ("cat" if i % 2 else "dog") / f"{i}.png", (9, 8), 40 * i)
        order = sorted(range(count), key=lambda i: (i % 2 == 0, i))
        pixels = np.repeat(np.array([40 * i for i in order], np.uint8), 72).reshape(-1, 8, 9, 1)
        expected[split] = {"pixels": pixels, "labels": np.array([i % 2 == 0 for i in order], np.int64)}
    return Tiny(place, expected, {"strict": True})


# -- IDX --------------------------------------------------------------------------------------------------------------


def make_idx(place: Path) -> Tiny:
    """Four IDX files."""
    place.mkdir(parents=True)
    expected = {}
    for split, prefix, count in (("train", "train", 5), ("test", "t10k", 3)):
        pixels, labels = random_pixels(count, 9, 8), random_pixels(count, high=10)
        (place / f"{prefix}-images-idx3-ubyte").write_bytes(write_idx(pixels))
        (place / f"{prefix}-labels-idx1-ubyte").write_bytes(write_idx(labels))
        expected[split] = {"pixels": pixels[..., None], "labels": labels.astype(np.int64)}
    return Tiny(place, expected)


# -- images with factors ----------------------------------------------------------------------------------------------

FACTOR_FILES = {
    "dsprites": "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
    "shapes3d": "3dshapes.h5",
    "arrays": "arrays.npz",
}
NUM_IMAGES = 12
GRID = np.indices((2, 3, 2)).reshape(3, -1).T
"""Values of three factors for 12 images."""


class Unpicklable:
    """Fails the test if it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return pytest.fail, ("it was unpickled",)


def factor_arrays(name: str, **changed: Any) -> Columns:
    """The arrays of a small file as its authors publish it, with some changed or, if None, left out."""
    if name == "dsprites":
        classes = np.zeros((NUM_IMAGES, 6), np.int64)
        classes[:, [1, 2, 5]] = GRID
        arrays: Columns = {
            "imgs": random_pixels(NUM_IMAGES, 9, 8, high=2),
            "latents_classes": classes,
            "latents_values": classes * 0.5,
            "metadata": np.array(Unpicklable(), object),
        }
    elif name == "shapes3d":
        values = np.zeros((NUM_IMAGES, 6))
        values[:, [0, 3, 5]] = GRID * [0.1, 0.07, 15.0] + [0.2, 0.75, -30.0]
        arrays = {"images": random_pixels(NUM_IMAGES, 9, 8, 3), "labels": values}
    else:
        names = np.array(["elevation", "azimuth", "object"])
        arrays = {"images": random_pixels(NUM_IMAGES, 9, 8, 3), "factors": GRID * 7 - 3, "factor_names": names}
    return {key: value for key, value in {**arrays, **changed}.items() if value is not None}


def put_factor_file(name: str, path: Path, **changed: Any) -> Path:
    """Write ``factor_arrays`` in the format of the data set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = factor_arrays(name, **changed)
    if name != "shapes3d":
        np.savez_compressed(path, **arrays)
        return path
    with importlib.import_module("h5py").File(path, "w") as file:
        for key, value in arrays.items():
            is_small = key == "images" and value.ndim == 4 and value.size < 1 << 16
            chunks = (5, 4, 4, 1) if is_small else (5, *value.shape[1:]) if value.ndim == 4 else None
            file.create_dataset(key, data=value, chunks=chunks, compression="gzip" if chunks else None)
    return path


def make_factor_file(name: str, place: Path) -> Tiny:
    """The file under its published name."""
    put_factor_file(name, place / FACTOR_FILES[name])
    arrays = factor_arrays(name)
    if name == "dsprites":
        return Tiny(place, {"train": {"pixels": arrays["imgs"][..., None] * np.uint8(255)}})
    if name == "arrays":
        train, held_out = split_off(Images(arrays["images"]), 1)
        return Tiny(place, {"train": {"pixels": train.pixels}, "test": {"pixels": held_out.pixels}})
    return Tiny(place, {"train": {"pixels": arrays["images"]}})


# -- CelebA -----------------------------------------------------------------------------------------------------------

FACE_COUNTS = {"train": 4, "valid": 2, "test": 3}
NUM_FACES = sum(FACE_COUNTS.values())
FACE_NAMES = [f"{i + 1:06d}.jpg" for i in range(NUM_FACES)]
FACE_SPLITS = [number for number, count in enumerate(FACE_COUNTS.values()) for _ in range(count)]
ATTRIBUTES = ["5_o_Clock_Shadow", *(f"Trait_{i}" for i in range(38)), "Young"]
HAS = np.random.default_rng(1).integers(0, 2, (NUM_FACES, 40)).astype(bool)
"""Attributes of each face."""


def face_jpeg(number: int) -> bytes:
    """The file of one 178×218 face."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 256, (28, 23, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)[:218, :178]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def face_pixels(number: int) -> NDArray[np.uint8]:
    """All pixels of one face."""
    with Image.open(io.BytesIO(face_jpeg(number))) as picture:
        return np.asarray(picture)


def face_rows(split: str) -> list[int]:
    """Numbers of the faces in a split."""
    return [i for i in range(NUM_FACES) if FACE_SPLITS[i] == list(FACE_COUNTS).index(split)]


def centre_crops(numbers: list[int]) -> NDArray[np.uint8]:
    """The faces as the crop center128 gives them."""
    return np.stack([face_pixels(i)[45:173, 25:153] for i in numbers])


def attribute_list() -> str:
    """The list of attributes as the authors write it."""
    rows = [f"{FACE_NAMES[i]} " + " ".join(" 1" if has else "-1" for has in HAS[i]) for i in range(NUM_FACES)]
    return "\n".join([str(NUM_FACES), " ".join(ATTRIBUTES), *rows]) + "\n"


def partition_list(count: int = NUM_FACES) -> str:
    """The list of splits as the authors write it."""
    return "".join(f"{FACE_NAMES[i]} {FACE_SPLITS[i]}\n" for i in range(count))


def put_faces(folder: Path) -> Path:
    """Write the images."""
    folder.mkdir(parents=True)
    for i, name in enumerate(FACE_NAMES):
        (folder / name).write_bytes(face_jpeg(i))
    return folder


def put_celeba(root: Path) -> Path:
    """Write CelebA as its authors publish it: images in a folder beside the two lists."""
    put_faces(root / "img_align_celeba")
    (root / "list_attr_celeba.txt").write_text(attribute_list())
    (root / "list_eval_partition.txt").write_text(partition_list())
    return root


def make_celeba(place: Path) -> Tiny:
    """CelebA as its authors publish it."""
    put_celeba(place)
    expected: dict[str, Columns] = {
        split: {"pixels": centre_crops(face_rows(split)), "attributes": HAS[face_rows(split)]} for split in FACE_COUNTS
    }
    return Tiny(place, expected)


# -- black or white ---------------------------------------------------------------------------------------------------


def make_binary(name: str, place: Path) -> Tiny:
    """An ``.npz`` with three splits, and classes from 1 if the data set has labels."""
    place.mkdir(parents=True)
    info, has_labels = load_dataset(name).info, name == "caltech101"
    arrays: Columns = {}
    expected: dict[str, Columns] = {}
    for i, split in enumerate(info.splits):
        pixels = random_pixels(7 - i, 28, 28, high=2)
        arrays[split] = pixels
        expected[split] = {"pixels": pixels[..., None] * np.uint8(255)}
        if has_labels:
            expected[split]["labels"] = random_pixels(7 - i, high=101).astype(np.int64)
            arrays[f"{split}_labels"] = expected[split]["labels"] + 1
    file = "caltech101_silhouettes.npz" if has_labels else "static_mnist.npz"
    np.savez(place / file, **arrays)
    return Tiny(place, expected)


# -- published archives -----------------------------------------------------------------------------------------------

PUBLISHED_COUNTS = {"train": 5, "valid": 4, "test": 3}


def published(*shape: int, num_classes: int, splits: tuple[str, ...] = ("train", "test")) -> dict[str, Columns]:
    """Random pixels and labels of some splits."""
    counts = {split: PUBLISHED_COUNTS[split] for split in splits}
    return {
        split: {
            "pixels": random_pixels(count, *shape),
            "labels": random_pixels(count, high=num_classes).astype(np.int64),
        }
        for split, count in counts.items()
    }


def put_tar(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a gzipped tar."""
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"folder/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def cifar_rows(found: Columns, *labels: NDArray[Any]) -> NDArray[np.uint8]:
    """Rows of labels and pixels, channel by channel."""
    flat = found["pixels"].transpose(0, 3, 1, 2).reshape(len(found["pixels"]), -1)
    return np.concatenate([*(column[:, None].astype(np.uint8) for column in labels), flat], 1)


def cifar_files(name: str, found: Mapping[str, Columns]) -> dict[str, bytes]:
    """The files in an archive of CIFAR; the coarse labels of CIFAR-100 are a fifth of the fine ones."""
    train, test = found["train"], found["test"]
    if name == "cifar100":
        rows = {f"{split}.bin": cifar_rows(each, each["labels"] // 5, each["labels"]) for split, each in found.items()}
        names = {f"{kind}_label_names.txt": count for kind, count in (("fine", 100), ("coarse", 20))}
        lists = {file: "".join(f"thing_{i}\n" for i in range(count)).encode() for file, count in names.items()}
        return {**{file: content.tobytes() for file, content in rows.items()}, **lists}
    rows = cifar_rows(train, train["labels"])
    batches = {f"data_batch_{i + 1}.bin": row.tobytes() for i, row in enumerate(rows)}
    return {**batches, "test_batch.bin": cifar_rows(test, test["labels"]).tobytes()}


def make_cifar(name: str, place: Path) -> Tiny:
    """The archive of the binary version."""
    found = published(32, 32, 3, num_classes=100 if name == "cifar100" else 10)
    put_tar(place / load_dataset(name).info.files[0], cifar_files(name, found))
    return Tiny(place, found)


def make_svhn(place: Path) -> Tiny:
    """Two files of MATLAB, in which the digit 0 is called 10."""
    found = published(32, 32, 3, num_classes=10)
    place.mkdir(parents=True)
    for split, columns in found.items():
        labels = np.where(columns["labels"] == 0, 10, columns["labels"])[:, None].astype(np.uint8)
        arrays = {"X": columns["pixels"].transpose(1, 2, 3, 0), "y": labels}
        scipy.io.savemat(place / f"{split}_32x32.mat", arrays, do_compression=True)
    return Tiny(place, found)


def emnist_files(subset: str, found: Mapping[str, Columns]) -> dict[str, bytes]:
    """The four files of one set, whose images lie on their sides; letters are numbered from 1."""
    files = {}
    for split, columns in found.items():
        images, labels = columns["pixels"][..., 0].transpose(0, 2, 1), columns["labels"] + (subset == "letters")
        for kind, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
            files[f"emnist-{subset}-{split}-{kind}-ubyte.gz"] = gzip.compress(write_idx(array))
    return files


def make_emnist(place: Path) -> Tiny:
    """The archive of the six sets, here with the same images."""
    found = published(28, 28, 1, num_classes=10)
    place.mkdir(parents=True)
    with zipfile.ZipFile(place / "gzip.zip", "w") as archive:
        for subset in ("balanced", "byclass", "bymerge", "digits", "letters", "mnist"):
            for name, content in emnist_files(subset, found).items():
                archive.writestr(f"gzip/{name}", content)
    return Tiny(place, found, {"subset": "letters"})


def make_medmnist(place: Path) -> Tiny:
    """The file of one of the twelve sets."""
    found = published(28, 28, 1, num_classes=2, splits=("train", "valid", "test"))
    place.mkdir(parents=True)
    prefixes = {"train": "train", "valid": "val", "test": "test"}
    arrays = {f"{prefixes[split]}_images": columns["pixels"][..., 0] for split, columns in found.items()}
    labels = {f"{prefixes[split]}_labels": columns["labels"][:, None] for split, columns in found.items()}
    np.savez_compressed(place / "pneumoniamnist.npz", **arrays, **labels)
    return Tiny(place, found, {"subset": "pneumoniamnist"})


# -- shards -----------------------------------------------------------------------------------------------------------

NUM_ROWS = {"train": 8, "test": 4}


def picture_rows(split: str) -> list[dict[str, Any]]:
    """Rows of a table: a grey PNG whose value is ten times its number, a class and an attribute."""
    first = 0 if split == "train" else NUM_ROWS["train"]
    return [
        {
            "image": {"bytes": encode_png(np.full((9, 10, 1), 10 * i, np.uint8)), "path": None},
            "label": i % 2,
            "old": i % 3 == 0,
        }
        for i in range(first, first + NUM_ROWS[split])
    ]


def table_of(split: str, **more: list[Any]) -> Any:
    """The rows as a table of pyarrow with the names of classes as the Hugging Face library stores them."""
    info = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    table = pyarrow.Table.from_pylist(picture_rows(split))
    for name, column in more.items():
        table = table.append_column(name, [column])
    return table.replace_schema_metadata({"huggingface": json.dumps(info)})


def make_shards(place: Path) -> Tiny:
    """Two parquet files as on the Hugging Face hub, below the folder data."""
    (place / "data").mkdir(parents=True)
    expected: dict[str, Columns] = {}
    for split in NUM_ROWS:
        parquet.write_table(table_of(split), place / "data" / f"{split}-00000-of-00001.parquet", row_group_size=3)
        rows = picture_rows(split)
        first = 0 if split == "train" else NUM_ROWS["train"]
        pixels = np.stack([np.full((9, 10, 1), 10 * (first + i), np.uint8) for i in range(len(rows))])
        attributes = np.array([[row["old"]] for row in rows])
        labels = np.array([row["label"] for row in rows])
        expected[split] = {"pixels": pixels, "labels": labels, "attributes": attributes}
    return Tiny(place, expected)


# -- all --------------------------------------------------------------------------------------------------------------

MAKERS: dict[str, Callable[[Path], Tiny]] = {
    "arrays": lambda place: make_factor_file("arrays", place),
    "caltech101": lambda place: make_binary("caltech101", place),
    "celeba": make_celeba,
    "cifar10": lambda place: make_cifar("cifar10", place),
    "cifar100": lambda place: make_cifar("cifar100", place),
    "digits": lambda _place: Tiny(None, {"train": {}, "test": {}}),
    "dsprites": lambda place: make_factor_file("dsprites", place),
    "emnist": make_emnist,
    "fashion": make_idx,
    "folder": make_folder,
    "kmnist": make_idx,
    "medmnist": make_medmnist,
    "mnist": make_idx,
    "shapes3d": lambda place: make_factor_file("shapes3d", place),
    "shards": make_shards,
    "static_mnist": lambda place: make_binary("static_mnist", place),
    "svhn": make_svhn,
    "sprites": lambda _place: Tiny(None, {"train": {}}, {"orientations": 3, "positions": 2}),
}
"""Data set → writer of a small instance into a new folder."""
