"""The user's own images as arrays: given to a Python function, or in one ``.npz``, ``.npy`` or HDF5 file.

Those of a program are in a folder that a run keeps (``api.given``). An ``.npz`` may also have ``factors``,
integers ``[N, F]``, and ``factor_names``, strings ``[F]``.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge

from vaelab.data.array_cache import open_kept
from vaelab.data.cache import MANIFEST
from vaelab.data.datasets import Dataset, DatasetInfo, UnusableFile
from vaelab.data.datasets._array_files import EXTENSIONS, TRAIN_KEYS, Part, check_parts, find_parts, load_part
from vaelab.data.datasets._factor_files import is_npz_with
from vaelab.data.datasets._folder_resize import MAX_SIDE, Size
from vaelab.data.images import Images, split_off
from vaelab.data.memory import ArrayOptions, Axes, ValueRange
from vaelab.system.paths import data_roots

INFO = DatasetInfo(
    title="Your own arrays of images",
    image_shape=None,
    splits={"train": None, "test": None},
    licence="yours",
    source="the .npz, .npy or .h5 that --data names, or images=… in Python",
    files=("arrays.npz",),
    instructions='Save them with numpy.savez("arrays.npz", images=images, labels=labels) or numpy.save, and name the '
    "file with --data",
)
HELD_OUT_SHARE, MAX_HELD_OUT = 10, 10_000
"""One image in ten is held out, but at most 10,000."""


def load(
    data_dir: Path | None,
    split: str,
    *,
    images: str = "auto",
    labels: str = "auto",
    valid: Annotated[int, Ge(0)] | Literal["auto"] = "auto",
    axes: Axes = "auto",
    range: ValueRange = "auto",
    size: Size = "auto",
) -> Images:
    """Load the images of a split, "train" or "test" (the held-out images).

    ``images`` and ``labels``: names of arrays in the file; "auto" knows the usual ones, such as those of MedMNIST.
    ``valid`` is the number of training images to set aside. "auto" takes the held-out images of the file or the
    program, else one image in ten, at most 10,000, chosen by a fixed seed. ``axes``, ``range`` and ``size`` say how
    arrays are read; see ``read_memory``.
    """
    INFO.check_split(split)
    options, file, parts = ArrayOptions(axes, range, size), None, dict[str, Part]()
    if not is_kept(data_dir):
        file = _find_file(data_dir)
        parts = find_parts(file, images, labels)

    def load_whole(name: str) -> Images:
        return _open_kept(data_dir, name) if file is None else load_part(file, name, parts, options)

    has_held_out = "test" in parts or (data_dir is not None and (data_dir / "test").is_dir())
    if split == "test" and has_held_out:
        return load_whole("test")
    whole = load_whole("train")
    if file is None:
        megabytes = math.prod(whole.pixels.shape) / 1e6
        whole = replace(whole, notes=(*whole.notes, f"the run keeps a copy of the images ({megabytes:,.1f} MB)"))
    given = {"images": images, "labels": labels, "axes": axes, "range": range, "size": size}
    found = _resolve(whole, parts.get("train"))
    whole = replace(whole, resolved={key: value for key, value in found.items() if given.get(key) == "auto"})
    if valid != "auto" and split == "train":
        return whole
    if has_held_out:
        return replace(whole, resolved={**whole.resolved, "valid": 0})
    count = max(1, min(MAX_HELD_OUT, len(whole) // HELD_OUT_SHARE)) if valid == "auto" else valid
    title = f"{count} images set aside from train"
    note = f"held out: {title}, one in {HELD_OUT_SHARE}, chosen by a fixed seed (data.valid)"
    train, held_out = split_off(whole, count)
    if split == "test":
        return replace(held_out, split_name=title)
    return replace(train, notes=(*whole.notes, note), resolved={**whole.resolved, "valid": count})


def _resolve(whole: Images, part: Part | None) -> dict[str, Any]:
    """Return the values of the options that may be "auto"; ``part`` is None for images from memory."""
    names = {"images": part.images if part else "", "labels": (part.labels if part else None) or ""}
    height, width = whole.image_shape[1:]
    size = {"size": [height, width]} if max(height, width) <= MAX_SIDE else {}  # larger ones cannot be an option
    return {"axes": "NHWC", "range": "full", **names, **size, **whole.resolved}


def is_kept(data_dir: Path | None) -> bool:
    """Return whether a folder holds images that a program gave to a run."""
    return data_dir is not None and (data_dir / "train" / MANIFEST).is_file()


def _open_kept(data_dir: Path | None, split: str) -> Images:
    assert data_dir is not None
    images = open_kept(data_dir / split)
    if images is None:
        raise UnusableFile(data_dir / split, "damaged; give the same images again: vaelab.train(…, images=…)")
    return images


def find(data_dir: Path | None) -> Path | None:
    """Return the file or the folder of the images; None if there is none."""
    return data_dir if is_kept(data_dir) else next(filter(None, map(_search, data_roots(data_dir))), None)


def _search(root: Path) -> Path | None:
    """Return a file at a data root that is known by its arrays or its name."""
    if root.is_file():
        is_npz = root.suffix.lower() == ".npz" and any(is_npz_with(root, key) for key in TRAIN_KEYS)
        return root if is_npz or root.suffix.lower() == ".npy" else None
    path = root / INFO.files[0]
    return path if path.is_file() else None


def is_array_file(path: Path) -> bool:
    """Return whether a path is a file of arrays, by its extension."""
    return path.suffix.lower() in EXTENSIONS and path.is_file()


def _find_file(data_dir: Path | None) -> Path:
    if data_dir is not None and is_array_file(data_dir):
        return data_dir
    path = find(data_dir)
    if path is None:
        if data_dir is not None and data_dir.is_file():
            raise UnusableFile(data_dir, f"not a file of arrays ({', '.join(EXTENSIONS)})")
        place = "" if data_dir is None else f"{data_dir}: "
        raise FileNotFoundError(f"{place}no file of arrays. {INFO.instructions}")
    return path


def check(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (array, verdict) after reading all images of a file."""
    yield from check_parts(_find_file(folder))


DATASET = Dataset(INFO, load, find=find, check=check)
