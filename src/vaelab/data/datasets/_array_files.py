"""Arrays in an ``.npz``, ``.npy`` or HDF5 file: which are the images and labels of which split.

Nothing is unpickled.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.data.array_cache import as_classes, cache_images
from vaelab.data.cache import file_signature
from vaelab.data.datasets import UnusableFile
from vaelab.data.datasets._factor_files import FACTORS_ARE_CLASSES, MAX_FACTOR_BYTES, is_npz_with, read_factors
from vaelab.data.hdf5 import HDF5_SUFFIXES, list_hdf5, read_hdf5
from vaelab.data.images import Images
from vaelab.data.memory import ArrayOptions, read_memory
from vaelab.data.npy import map_array, names_in_npz, open_npz, read_npz
from vaelab.system.errors import InputError

EXTENSIONS = (".npz", ".npy", *HDF5_SUFFIXES)
TRAIN_KEYS = ("images", "train_images", "x_train", "X_train", "x", "X", "pixels", "data")
"""Names of training images, the most specific first; those of MedMNIST and Keras are among them."""
HELD_OUT = ("val", "valid", "validation", "test")
"""Words in the names of held-out arrays in place of "train", the first that is there."""
LABEL_WORDS = (("images", "labels"), ("x", "y"), ("X", "y"), ("pixels", "labels"), ("data", "labels"))
"""Word in the name of an array of images → the word in the name of their labels."""
OTHER_LABELS = ("labels", "y", "targets")
MAX_LABEL_BYTES = 1 << 30


@dataclass(frozen=True)
class Part:
    """The arrays of one split of a file; None for what it does not have."""

    images: str
    """Empty for the array of an ``.npy``."""
    labels: str | None
    split_name: str = ""


def find_parts(path: Path, images: str, labels: str) -> dict[str, Part]:
    """Return the parts of a file: "train", and "test" if it has held-out images.

    ``images`` and ``labels`` are names of arrays or "auto"; no labels are "". InputError lists the arrays if the choice
    is not clear.
    """
    if path.suffix.lower() == ".npy":
        return {"train": Part("", None)}
    present = set(list_hdf5(path)) if _is_hdf5(path) else names_in_npz(path)
    train = _choose_images(path, present, images)
    if labels not in ("auto", "", *present):
        raise _no_such_array(path, "data.labels", labels, present)
    part = Part(train, _find_labels(train, present) if labels == "auto" else labels or None)
    for word in HELD_OUT if "train" in train else ():
        held_out = train.replace("train", word)
        if held_out in present:
            own = (part.labels or "").replace("train", word)
            return {"train": part, "test": Part(held_out, own if own in present else None, word)}
    return {"train": part}


def _choose_images(path: Path, present: set[str], wanted: str) -> str:
    if wanted != "auto":
        if wanted not in present:
            raise _no_such_array(path, "data.images", wanted, present)
        return wanted
    if known := [name for name in TRAIN_KEYS if name in present]:
        return known[0]
    shapes = list_hdf5(path) if _is_hdf5(path) else {name: _read_shape(path, name) for name in sorted(present)}
    fitting = [name for name, shape in shapes.items() if len(shape) in (3, 4)]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    how_many = "several arrays may be images" if fitting else "no array can be images"
    remedy = "Name one: --set data.images=KEY" if fitting else "Images are [N, H, W], [N, H, W, C] or [N, C, H, W]"
    raise InputError(
        f"{path}: {how_many}: {listed or 'it is empty'}. {remedy}",
        subject="data.images",
        choices=sorted(present),
    )


def _is_hdf5(path: Path) -> bool:
    return path.suffix.lower() in HDF5_SUFFIXES


def _read_shape(path: Path, name: str) -> tuple[int, ...]:
    with open_npz(path, name) as (header, _):
        return header.shape


def _find_labels(images: str, present: set[str]) -> str | None:
    """Return the array that has the labels of an array of images, by its name."""
    names = [images.replace(word, other) for word, other in LABEL_WORDS if word in images]
    others = () if any(word in images for word in ("train", *HELD_OUT)) else OTHER_LABELS
    return next((name for name in (*names, *others) if name in present and name != images), None)


def _no_such_array(path: Path, key: str, name: str, present: set[str]) -> InputError:
    arrays = ", ".join(sorted(present))
    return InputError(f"{path}: {key} = {name}: no such array; it has {arrays}", subject=key, choices=sorted(present))


def load_part(path: Path, split: str, parts: Mapping[str, Part], options: ArrayOptions) -> Images:
    """Return the images of a part through the cache; held-out images have the values and the shape of the others."""
    part = parts[split]
    train = None if split == "train" else load_part(path, "train", parts, options)
    wanted = options if train is None else replace(options, range=train.resolved["range"])
    key = {"data": "arrays", "file": file_signature(path), "part": asdict(part), "options": asdict(wanted)}
    images = cache_images(f"arrays {split}", key, lambda: read_part(path, part, wanted, train))
    return replace(images, source=str(path.resolve()), split_name=part.split_name)


def read_part(path: Path, part: Part, options: ArrayOptions, train: Images | None = None) -> Images:
    """Read the images of a part; InputError, which names the file, if they cannot be used."""
    title = f"{path}: {part.images}" if part.images else str(path)
    shape, names = (None, ()) if train is None else (train.image_shape, train.label_names)
    pixels = read_hdf5(path, part.images) if _is_hdf5(path) else map_array(path, part.images or None)
    labels = _read_labels(path, part.labels) if part.labels else None
    names = names or _label_names(path)
    try:
        images = read_memory(pixels, labels, None, options, shape, title, label_names=names)
    except InputError as error:
        raise error if str(error).startswith(str(path)) else UnusableFile(path, str(error)) from None
    found = [f"labels: the array {part.labels}"] if part.labels else []
    images = replace(images, notes=(*images.notes, *found))
    has_factors = train is None and path.suffix.lower() == ".npz"
    return _add_factors(path, images) if has_factors else images


def _read_labels(path: Path, name: str) -> NDArray[Any]:
    return read_hdf5(path, name) if _is_hdf5(path) else read_npz(path, name, max_bytes=MAX_LABEL_BYTES)[name]


def _label_names(path: Path) -> tuple[str, ...]:
    if not is_npz_with(path, "label_names"):
        return ()
    return tuple(map(str, read_npz(path, "label_names", max_bytes=1 << 20)["label_names"].ravel()))


def _add_factors(path: Path, images: Images) -> Images:
    """Return images with the factors of an ``.npz``, if it has any."""
    if not is_npz_with(path, "factors"):
        return images
    factors = as_classes(read_factors(path, "factors"))
    names = tuple(f"factor {k}" for k in range(factors.shape[1]))
    if is_npz_with(path, "factor_names"):
        names = tuple(map(str, read_npz(path, "factor_names", max_bytes=MAX_FACTOR_BYTES)["factor_names"].ravel()))
    sizes = tuple((factors.max(0) + 1).tolist())
    notes = (*images.notes, FACTORS_ARE_CLASSES)
    try:
        return replace(images, factors=factors, factor_names=names, factor_sizes=sizes, notes=notes)
    except ValueError as error:
        raise UnusableFile(path, f"{error}") from None


def check_parts(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (array, verdict) for the images of each part of a file, after reading all of them."""
    try:
        parts, train = find_parts(path, "auto", "auto"), None
        for part in parts.values():
            images = read_part(path, part, ArrayOptions(), train)
            train = train or images
            np.asarray(images.pixels[-1:])
            yield f"{path}{part.images and f': {part.images}'}", f"ok, {images.describe()}"
    except ValueError as error:
        yield str(path), str(error)
