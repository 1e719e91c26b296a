"""The container of images with their labels, attributes and factors."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from vaelab.data.arrays import ArrayView, MappedArray, PixelArray, as_eight_bits, row_bytes
from vaelab.system import html
from vaelab.system.arguments import describe
from vaelab.system.errors import InputError, RecipeError
from vaelab.system.messages import count_of
from vaelab.system.registry import unknown
from vaelab.system.seeds import derive_seed

if TYPE_CHECKING:
    import torch

    import vaelab.data.tensors

Split = Literal["train", "valid", "test"]
Binarize = Literal["none", "threshold", "dynamic"]
SMALLEST_SIDE = 8
DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))
"""Types of pixels: 0 to 255, 0 to 65,535, and 0 to 1."""
MAX_SHOWN, MAX_CLASSES = 24, 10
"""Images and names of classes that ``Images`` shows of itself."""


class ImagesNotFound(InputError):
    """The images that a run was trained on are gone or were changed."""


@dataclass(frozen=True, eq=False, repr=False)
class Images:
    """Images with their labels, attributes, factors and names.

    ``pixels`` is ``[N, H, W, C]`` of uint8, uint16 or float32 in [0, 1], with any number of channels. It is an array
    or anything with shape, dtype and integer-array indexing, such as a read-only memory map. Figures show 8 bits of
    the first three channels, or the first in grey if there are fewer.

    Raises TypeError or ValueError if the arrays do not fit each other.
    """

    pixels: PixelArray
    labels: NDArray[np.int64] | None = None
    label_names: tuple[str, ...] = ()
    attributes: NDArray[np.bool_] | None = None
    attribute_names: tuple[str, ...] = ()
    factors: NDArray[np.int64] | None = None
    factor_names: tuple[str, ...] = ()
    factor_sizes: tuple[int, ...] = ()
    source: str = "given as an array"
    """Origin of the pixels, for the record of a run."""
    notes: tuple[str, ...] = ()
    """Sentences about this data for the user."""
    warnings: tuple[str, ...] = ()
    """Sentences about problems of this data."""
    names: Sequence[str] | None = None
    """Name of each image, such as that of its file."""
    split_name: str = ""
    """Name of this split in the files, such as "val2017"; empty if it is the usual one."""
    selection: Mapping[str, Any] = field(default_factory=dict)
    """Arguments, as JSON, with which the data set's ``reload`` finds the same images again."""
    digest: str | None = None
    """The fingerprint, if it is known already."""
    cache_folder: Path | None = None
    """Folder of the cache entry that the pixels are mapped from."""
    resolved: Mapping[str, Any] = field(default_factory=dict)
    """Values of the data set's options that were "auto"."""

    def __post_init__(self) -> None:
        if not hasattr(self.pixels, "dtype") or not hasattr(self.pixels, "shape"):
            raise TypeError(f"pixels must be an array [N, H, W, C]; got {describe(self.pixels)}")
        shape = tuple(self.pixels.shape)
        if self.pixels.dtype not in DTYPES or len(shape) != 4:
            wanted = "uint8, uint16 or float32 [N, H, W, C]"
            raise ValueError(f"pixels must be {wanted}; got {self.pixels.dtype} {list(shape)}")
        if shape[0] == 0:
            raise ValueError(f"no images in {self.source}")
        may_be_rows = self.pixels.dtype == np.float32  # those of an estimator of scikit-learn have one pixel of height
        if shape[3] < 1 or (min(shape[1:3]) < SMALLEST_SIDE and not may_be_rows):
            raise ValueError(
                f"images must have sides of {SMALLEST_SIDE} pixels or more; "
                f"got {shape[1]}×{shape[2]} with {count_of(shape[3], 'channel')}"
            )
        for name in ("labels", "attributes", "factors"):
            column = getattr(self, name)
            if column is not None and not isinstance(column, np.ndarray):
                raise TypeError(f"{name} must be an array; got {describe(column)}")
            if column is not None and len(column) != shape[0]:
                raise ValueError(f"{len(column)} {name} for {count_of(shape[0], 'image')}")
        if self.names is not None and len(self.names) != shape[0]:
            raise ValueError(f"{len(self.names)} names for {count_of(shape[0], 'image')}")
        if self.labels is not None:
            self._check_labels(self.labels)
        if self.attributes is not None and (self.attributes.ndim != 2 or self.attributes.dtype != np.bool_):
            got = f"{self.attributes.dtype} {list(self.attributes.shape)}"
            raise ValueError(f"attributes must be true or false [N, A]; got {got}")
        if self.attributes is not None and len(self.attribute_names) != self.attributes.shape[1]:
            raise ValueError(f"{len(self.attribute_names)} names for {self.attributes.shape[1]} attributes")
        if self.factors is not None:
            self._check_factors(self.factors)

    def _check_labels(self, labels: NDArray[np.int64]) -> None:
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ValueError(f"labels must be integers [N]; got {labels.dtype} {list(labels.shape)}")
        if labels.min() < 0 or (self.label_names and labels.max() >= len(self.label_names)):
            named = f" to below {len(self.label_names)}, the number of names" if self.label_names else " on"
            raise ValueError(f"labels must go from 0{named}; got {labels.min()} … {labels.max()}")

    def _check_factors(self, factors: NDArray[np.int64]) -> None:
        if factors.ndim != 2 or factors.dtype.kind not in "iu":
            raise ValueError(f"factors must be integers [N, F]; got {factors.dtype} {list(factors.shape)}")
        for given, what in ((self.factor_names, "names"), (self.factor_sizes, "sizes")):
            if given and len(given) != factors.shape[1]:
                raise ValueError(f"{len(given)} {what} of factors for {factors.shape[1]} factors")
        if self.factor_sizes and ((factors < 0) | (factors >= self.factor_sizes)).any():
            raise ValueError(f"factors must lie within their sizes, from 0 to below {list(self.factor_sizes)}")

    def __len__(self) -> int:
        return int(self.pixels.shape[0])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the pixels ``[N, H, W, C]``."""
        return np.asarray(self.pixels[:], dtype)

    def __repr__(self) -> str:
        return f"Images({self.describe()})"

    def _repr_html_(self) -> str:
        """Return the first images and what is known about all, for a notebook."""
        from vaelab.data.pictures import encode_sheet

        rows = np.arange(min(MAX_SHOWN, len(self)))
        caption = f"the first {len(rows)}" if len(rows) < len(self) else "all"
        facts = {"source": self.source, **({"labels": self._describe_labels()} if self.labels is not None else {})}
        sheet = html.picture(encode_sheet(self.eight_bits[rows]), caption)
        return html.fragment(f"Images: {self.describe()}", facts, [sheet])

    def describe(self) -> str:
        """Return number, size, colours and annotations in a few words."""
        channels, height, width = self.image_shape
        depth = {2: ", 16 bits", 4: ", float32"}.get(self.pixels.dtype.itemsize, "")
        words = [f"{len(self):,} of {height}×{width} {name_channels(channels)}{depth}"]
        words += [self._describe_labels()] if self.labels is not None else []
        words += [f"{self.attributes.shape[1]} attributes"] if self.attributes is not None else []
        words += [f"{self.factors.shape[1]} factors"] if self.factors is not None else []
        return ", ".join(words)

    def _describe_labels(self) -> str:
        assert self.labels is not None
        numbers, counts = np.unique(self.labels, return_counts=True)
        most = ", ".join(self.label_name(int(number)) for number in numbers[:MAX_CLASSES])
        more = f" and {len(numbers) - MAX_CLASSES} more" if len(numbers) > MAX_CLASSES else ""
        return f"{len(counts)} classes ({most}{more})" if len(counts) > 1 else f"1 class ({most})"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, height, width, channels = self.pixels.shape
        return channels, height, width

    @property
    def eight_bits(self) -> PixelArray:
        """The pixels as uint8, for pictures: themselves, or converted when they are read."""
        return self.pixels if self.pixels.dtype == np.uint8 else MappedArray(self.pixels, as_eight_bits)

    def take(self, indices: NDArray[np.int64]) -> "Images":
        """Return the images at ``indices`` with all their columns; a view of a memory map.

        All indices in order return these images themselves.
        """
        if np.array_equal(indices, np.arange(len(self))):
            return self
        columns: dict[str, Any] = {
            name: None if column is None else column[indices]
            for name, column in (("labels", self.labels), ("attributes", self.attributes), ("factors", self.factors))
        }
        if self.names is not None:
            columns["names"] = [self.names[i] for i in np.arange(len(self))[indices].tolist()]
        is_lazy = type(self.pixels) is not np.ndarray
        pixels = ArrayView(self.pixels, indices) if is_lazy else self.pixels[indices]
        return replace(self, pixels=pixels, digest=None, selection={}, **columns)

    def subsample(self, most: int, generator: "torch.Generator") -> "Images":
        """Return at most ``most`` of the images, chosen at random, in their order."""
        from vaelab.data.tensors import subsample

        return self.take(subsample(len(self), most, generator))

    def binary_attributes(self) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
        """Return binary columns ``[N, A]`` and their names: the attributes, then each class against the rest.

        Classes without images are left out; A is 0 if there are neither attributes nor classes.
        """
        columns, names = [np.empty((len(self), 0), bool)], list(self.attribute_names)
        if self.attributes is not None:
            columns.append(np.asarray(self.attributes))
        if self.labels is not None:
            classes = np.unique(self.labels)
            columns.append(self.labels[:, None] == classes)
            names += [self.label_name(int(label)) for label in classes]
        return np.concatenate(columns, axis=1), tuple(names)

    def label_name(self, label: int) -> str:
        """Return the name of a class, or its number if it has none."""
        return self.label_names[label] if self.label_names else str(label)

    @property
    def has_class_names(self) -> bool:
        """Whether classes have names other than their numbers."""
        return any(name != str(i) for i, name in enumerate(self.label_names))

    def floats(self, start: int, stop: int, device: "torch.device | None" = None) -> "torch.Tensor":
        """Return images ``start`` to ``stop`` as floats in [0, 1], ``[B, C, H, W]``, on ``device``.

        They are copied to the device as they are stored.
        """
        from vaelab.data.tensors import as_tensor, to_float

        return to_float(as_tensor(self.pixels[start:stop]).to(device))

    def batch(self, start: int, stop: int, device: "torch.device | None" = None) -> "vaelab.data.tensors.Batch":
        """Return images ``start`` to ``stop``, or to the last, on ``device``, with their labels and attributes."""
        from vaelab.data.tensors import make_batch

        return make_batch(self, start, stop, device)

    def fingerprint(self) -> str:
        """Return the SHA-256 of shape and pixels."""
        if self.digest is not None:
            return self.digest
        dtype = "" if self.pixels.dtype == np.uint8 else str(self.pixels.dtype)
        digest = hashlib.sha256(f"{dtype}{tuple(self.pixels.shape)!r}".encode())
        step = max(1, (1 << 24) // row_bytes(self.pixels))
        for start in range(0, len(self), step):
            digest.update(np.ascontiguousarray(self.pixels[start : start + step]).data)
        return digest.hexdigest()

    def annotations_digest(self) -> str | None:
        """Return the SHA-256 of labels, attributes and factors with their names; None if there are none."""
        columns = {"labels": self.labels, "attributes": self.attributes, "factors": self.factors}
        given = {name: np.asarray(column).astype(np.int64) for name, column in columns.items() if column is not None}
        if not given:
            return None
        names = self.label_names, self.attribute_names, self.factor_names, self.factor_sizes
        digest = hashlib.sha256(repr((names, [(name, column.shape) for name, column in given.items()])).encode())
        for column in given.values():
            digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()


def spread_rows(total: int, most: int) -> Int[np.ndarray, " chosen"]:
    """Return at most ``most`` of ``total`` rows, spread evenly from the first to the last."""
    rows: NDArray[np.int64] = np.unique(np.linspace(0, total - 1, most).round().astype(np.int64))
    return rows


def drawable(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the channels of images ``[…, C]`` that a picture shows: the first three, or the first if there are fewer.

    The result is RGB or grey.
    """
    return pixels[..., : 3 if pixels.shape[-1] >= 3 else 1]


def name_channels(count: int) -> str:
    """Return "grey", "RGB" or the number of channels."""
    return {1: "grey", 3: "RGB"}.get(count, f"of {count_of(count, 'channel')}")


def split_off(images: Images, count: int) -> tuple[Images, Images]:
    """Split off ``count`` images, chosen by a fixed seed that does not depend on that of the training."""
    if not 0 < count < len(images):
        raise RecipeError(
            f"cannot set {count} of {len(images)} images aside: --set data.valid=N, from 1 to {len(images) - 1}",
            subject="data.valid",
            value=count,
        )
    permutation = np.random.Generator(np.random.Philox(key=derive_seed(0, "valid"))).permutation(len(images))
    return images.take(np.sort(permutation[count:])), images.take(np.sort(permutation[:count]))


def binarize(images: Images, mode: Binarize, seed: int = 0) -> Images:
    """Return binary copies: "threshold" at ½, "dynamic" drawn once with ``seed``, "none" unchanged.

    Training draws "dynamic" images anew at every presentation instead (Salakhutdinov & Murray 2008; 1509.00519).
    """
    if mode not in get_args(Binarize):
        raise unknown("way to binarize", mode, get_args(Binarize))
    if mode == "none":
        return images
    pixels = np.asarray(images.eight_bits)
    if mode == "threshold":
        white = pixels >= 128
    else:
        draws = np.random.Generator(np.random.Philox(key=derive_seed(seed, "binarize")))
        white = draws.random(pixels.shape, dtype=np.float32) * 255 < pixels
    return replace(images, pixels=white.astype(np.uint8) * np.uint8(255), digest=None)
