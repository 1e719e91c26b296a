"""Opens HDF5 files, which need the extra ``h5``."""

import importlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.system.errors import InputError
from vaelab.system.files import check_file
from vaelab.system.machine import available_memory

HDF5_SUFFIXES = (".h5", ".hdf5")


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open an HDF5 file for reading; InputError without h5py or for a damaged file."""
    try:
        h5py = importlib.import_module("h5py")
    except ImportError:
        raise InputError(f"{path}: HDF5 files need the extra h5: pip install 'vaelab[h5]'", subject=path) from None
    check_file(path)
    with damage_named(path):
        file = h5py.File(path, "r")
    with file:
        yield file


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Raise h5py's OSError about a damaged file as an InputError that names it."""
    try:
        yield
    except OSError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not an HDF5 file, or damaged ({reason})", subject=path) from None


def list_hdf5(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the name of each array in a file, with its groups, and its shape."""
    found: dict[str, tuple[int, ...]] = {}

    def note(name: str, item: Any) -> None:
        if getattr(item, "shape", None):
            found[name] = tuple(item.shape)

    with open_hdf5(path) as file, damage_named(path):
        file.visititems(note)
    return found


def read_hdf5(path: Path, name: str) -> NDArray[Any]:
    """Return an array of a file, text as strings; InputError if it is damaged or larger than the free memory."""
    with open_hdf5(path) as file, damage_named(path):
        array = file[name]
        needed = math.prod(array.shape) * array.dtype.itemsize
        if needed > available_memory():
            raise InputError(f"{path}: {name} declares {needed:,} bytes, more than the free memory", subject=path)
        is_text = array.dtype.kind == "O"
        return np.array(array.asstr()[:].tolist()) if is_text else np.asarray(array)
