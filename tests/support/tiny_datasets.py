"""Small instances of every data set that needs files, with the images that loading them must give."""

import importlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vaelab.data.datasets import load_dataset
from vaelab.data.idx import write_idx
from vaelab.data.images import Images, split_off

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


# -- all --------------------------------------------------------------------------------------------------------------

MAKERS: dict[str, Callable[[Path], Tiny]] = {
    "arrays": lambda place: make_factor_file("arrays", place),
    "caltech101": lambda place: make_binary("caltech101", place),
    "celeba": make_celeba,
    "digits": lambda _place: Tiny(None, {"train": {}, "test": {}}),
    "dsprites": lambda place: make_factor_file("dsprites", place),
    "fashion": make_idx,
    "folder": make_folder,
    "mnist": make_idx,
    "shapes3d": lambda place: make_factor_file("shapes3d", place),
    "static_mnist": lambda place: make_binary("static_mnist", place),
    "sprites": lambda _place: Tiny(None, {"train": {}}, {"orientations": 3, "positions": 2}),
}
"""Data set → writer of a small instance into a new folder."""
