"""Images: the one container of image data, and what is known about a data set."""

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from vaelab.data.arrays import ArrayView, PixelArray
from vaelab.system.arguments import describe
from vaelab.system.errors import InputError
from vaelab.system.registry import unknown
from vaelab.system.seeds import derive_seed

Split = Literal["train", "valid", "test"]
Binarize = Literal["none", "threshold", "dynamic"]
SMALLEST_SIDE = 8


class ImagesNotFound(InputError):
    """The images that a run was trained on are gone or were changed."""


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set without loading it."""

    title: str
    image_shape: tuple[int, int, int] | None
    """Channels, height, width; None where they depend on a person's files."""
    splits: dict[str, int | None]
    """Number of images of each published split; None where it depends on a person's files."""
    licence: str
    source: str
    files: tuple[str, ...] = ()
    """Names of the files that hold it; empty for a data set that needs none."""
    terms: str = ""
    """What a person should know before downloading it."""


@dataclass(frozen=True)
class Batch:
    """Images as a model sees them, with what is known about each."""

    x: Float[Tensor, "batch channel height width"]
    """In [0, 1]."""
    index: Int[Tensor, " batch"]
    """Rows of the set that the images come from."""
    labels: Int[Tensor, " batch"] | None = None
    attributes: Bool[Tensor, "batch attribute"] | None = None


@dataclass(frozen=True, eq=False)
class Images:
    """Images with what is known about each of them.

    ``pixels`` is uint8 ``[N, H, W, C]``: an array or anything with shape, dtype and integer-array indexing, such as a
    read-only memory map.
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
    """Where the pixels came from, for the record of a run."""
    notes: tuple[str, ...] = field(default=())
    """What a person should know about this data, one sentence each."""
    warnings: tuple[str, ...] = ()
    """Sentences about this data that should worry a person."""
    names: Sequence[str] | None = None
    """The name of each image, such as its file's; None if images have numbers only."""
    split_name: str = ""
    """What the files call this split, such as "val2017"; empty if that is its usual name."""
    selection: Mapping[str, Any] = field(default_factory=dict)
    """What the data set's ``reload`` needs, as JSON, to find these images again after others were added."""
    digest: str | None = None
    """The fingerprint, where it is known already."""
    cache_folder: Path | None = None
    """The folder of the cache entry that the pixels are mapped from, if they are."""
    resolved: Mapping[str, Any] = field(default_factory=dict)
    """What the data set's options that were "auto" became."""

    def __post_init__(self) -> None:
        if not hasattr(self.pixels, "dtype") or not hasattr(self.pixels, "shape"):
            raise TypeError(f"pixels must be a uint8 array [N, H, W, C]; got {describe(self.pixels)}")
        shape = tuple(self.pixels.shape)
        if self.pixels.dtype != np.uint8 or len(shape) != 4:
            raise ValueError(f"pixels must be uint8 [N, H, W, C]; got {self.pixels.dtype} {list(shape)}")
        if shape[0] == 0:
            raise ValueError(f"no images in {self.source}")
        if shape[3] not in (1, 3) or min(shape[1:3]) < SMALLEST_SIDE:
            raise ValueError(
                f"images must have 1 or 3 channels and sides of {SMALLEST_SIDE} pixels or more; "
                f"got {shape[1]}×{shape[2]} with {shape[3]} channels"
            )
        for name in ("labels", "attributes", "factors"):
            column = getattr(self, name)
            if column is not None and not isinstance(column, np.ndarray):
                raise TypeError(f"{name} must be an array; got {describe(column)}")
            if column is not None and len(column) != shape[0]:
                raise ValueError(f"{len(column)} {name} for {shape[0]} images")
        if self.names is not None and len(self.names) != shape[0]:
            raise ValueError(f"{len(self.names)} names for {shape[0]} images")
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
            raise ValueError(f"labels must be whole numbers [N]; got {labels.dtype} {list(labels.shape)}")
        if labels.min() < 0 or (self.label_names and labels.max() >= len(self.label_names)):
            named = f" to below {len(self.label_names)}, the number of names" if self.label_names else " on"
            raise ValueError(f"labels must go from 0{named}; got {labels.min()} … {labels.max()}")

    def _check_factors(self, factors: NDArray[np.int64]) -> None:
        if factors.ndim != 2 or factors.dtype.kind not in "iu":
            raise ValueError(f"factors must be whole numbers [N, F]; got {factors.dtype} {list(factors.shape)}")
        for given, what in ((self.factor_names, "names"), (self.factor_sizes, "sizes")):
            if given and len(given) != factors.shape[1]:
                raise ValueError(f"{len(given)} {what} of factors for {factors.shape[1]} factors")
        if self.factor_sizes and ((factors < 0) | (factors >= self.factor_sizes)).any():
            raise ValueError(f"factors must lie within their sizes, from 0 to below {list(self.factor_sizes)}")

    def __len__(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, height, width, channels = self.pixels.shape
        return channels, height, width

    def take(self, indices: NDArray[np.int64]) -> "Images":
        """The images at ``indices``, with their names, labels, attributes and factors; lazily from a memory map.

        All of them in their order are these images themselves.
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

    def subsample(self, most: int, generator: torch.Generator) -> "Images":
        """At most ``most`` of the images, chosen at random, in their order."""
        return self.take(subsample(len(self), most, generator))

    def binary_attributes(self) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
        """What each image has or has not, ``[N, A]``, and the names: its attributes, then one class against the rest.

        Classes that no image is in are left out; A is 0 where there is neither attribute nor class.
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
        """The name of a class, or its number where classes have none."""
        return self.label_names[label] if self.label_names else str(label)

    @property
    def has_class_names(self) -> bool:
        """Whether classes have names that say more than their numbers."""
        return any(name != str(i) for i, name in enumerate(self.label_names))

    def floats(
        self, start: int, stop: int, device: torch.device | None = None
    ) -> Float[Tensor, "batch channel height width"]:
        """Images ``start`` to ``stop`` as a model sees them, on ``device``, to which they travel as uint8."""
        return to_float(as_tensor(self.pixels[start:stop]).to(device))

    def batch(self, start: int, stop: int, device: torch.device | None = None) -> Batch:
        """Images ``start`` to ``stop``, or to the last, on ``device``, with their labels and attributes."""
        rows = slice(start, min(stop, len(self)))

        def column(values: NDArray[Any] | None) -> Tensor | None:
            return None if values is None else as_tensor(values[rows]).to(device)

        x = self.floats(rows.start, rows.stop, device)
        index = torch.arange(rows.start, rows.stop, device=device)
        return Batch(x, index, column(self.labels), column(self.attributes))

    def fingerprint(self) -> str:
        """SHA-256 of shape and pixels: equal for equal images, wherever they lie."""
        if self.digest is not None:
            return self.digest
        digest = hashlib.sha256(repr(tuple(self.pixels.shape)).encode())
        step = max(1, (1 << 24) // math.prod(self.pixels.shape[1:]))
        for start in range(0, len(self), step):
            digest.update(np.ascontiguousarray(self.pixels[start : start + step]).data)
        return digest.hexdigest()

    def annotations_digest(self) -> str | None:
        """SHA-256 of labels, attributes and factors with their names; None where nothing is told of the images."""
        columns = {"labels": self.labels, "attributes": self.attributes, "factors": self.factors}
        told = {name: np.asarray(column).astype(np.int64) for name, column in columns.items() if column is not None}
        if not told:
            return None
        names = self.label_names, self.attribute_names, self.factor_names, self.factor_sizes
        digest = hashlib.sha256(repr((names, [(name, column.shape) for name, column in told.items()])).encode())
        for column in told.values():
            digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()


def subsample(total: int, most: int, generator: torch.Generator) -> Int[np.ndarray, " chosen"]:
    """Rows of ``most`` of ``total`` images chosen at random, ascending; all rows if there are no more."""
    if total <= most:
        return np.arange(total)
    chosen: NDArray[np.int64] = torch.randperm(total, generator=generator)[:most].sort().values.numpy()
    return chosen


def spread_rows(total: int, most: int) -> Int[np.ndarray, " chosen"]:
    """At most ``most`` rows of ``total``, spread evenly from the first to the last."""
    rows: NDArray[np.int64] = np.unique(np.linspace(0, total - 1, most).round().astype(np.int64))
    return rows


def as_tensor(array: Any) -> Tensor:
    """An array as a CPU tensor: the same memory where that may be written to, else a copy."""
    array = np.ascontiguousarray(array)
    backwards = min(array.strides) < 0  # NumPy lets it pass along an axis of length 1, torch does not
    return torch.from_numpy(array if array.flags.writeable and not backwards else array.copy())


def to_float(pixels: UInt8[Tensor, "batch height width channel"]) -> Float[Tensor, "batch channel height width"]:
    """Float in [0, 1], ``[B, C, H, W]``, channels-last in memory."""
    return pixels.permute(0, 3, 1, 2).float().div_(255)


def to_uint8(images: Float[Tensor, "batch channel height width"]) -> NDArray[np.uint8]:
    """``[B, C, H, W]`` in [0, 1] → uint8 ``[B, H, W, C]``; values outside are cut off."""
    scaled = images.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def as_model_input(
    given: Any, image_shape: tuple[int, int, int]
) -> tuple[Float[Tensor, "batch channel height width"], bool]:
    """What a person has (see below) as float ``[B, C, H, W]`` in [0, 1], and whether it was a NumPy array.

    uint8 in 0 … 255 or floating point in [0, 1]; channels first, channels last, or none for grey images; one image or
    many; tensor, array or ``Images``. ValueError says which shape is wanted and what is wrong with the numbers: not
    finite, outside [0, 1], masked. TypeError for what is no array.
    """
    if isinstance(given, Images):
        given = given.pixels
    is_array = not isinstance(given, Tensor)
    x: Tensor = _given_tensor(given) if is_array else given
    shape = list(x.shape)
    channels, height, width = image_shape
    layouts: dict[tuple[int, ...], tuple[int, ...]] = {
        (channels, height, width): (0, 1, 2),
        (height, width, channels): (2, 0, 1),
    }
    if channels == 1 and tuple(x.shape[-2:]) == (height, width) and tuple(x.shape[-3:]) not in layouts:
        x = x.unsqueeze(-3)
    if x.ndim == 3:
        x = x.unsqueeze(0)
    if x.ndim != 4 or tuple(x.shape[1:]) not in layouts:
        raise ValueError(
            f"images of shape {shape} do not fit this model: it wants "
            f"[N, {channels}, {height}, {width}] or [N, {height}, {width}, {channels}]"
        )
    order = layouts[tuple(x.shape[1:])]
    x = x.permute(0, *(axis + 1 for axis in order))
    if x.dtype == torch.uint8:
        return x.float().div_(255), is_array
    if not x.is_floating_point():
        raise ValueError(f"images must be uint8 or floating point; got {x.dtype}, convert them first")
    if not bool(torch.isfinite(x).all()):
        raise ValueError("images must be finite; some of their values are NaN or infinite")
    if len(x) and (float(x.min()) < 0 or float(x.max()) > 1):
        raise ValueError("floating-point images must lie in [0, 1]; give uint8 for 0 … 255")
    return x.float(), is_array


def _given_tensor(given: Any) -> Tensor:
    return number_tensor(given, "images", "buif", "uint8 or floating point")


def number_tensor(given: Any, name: str, kinds: str, wanted: str) -> Tensor:
    """Numbers as a CPU tensor. TypeError for what is no array of numbers, ValueError for masked ones.

    ``kinds``: NumPy's letters of the types that are taken; ``wanted``: these types in words.
    """
    if given is None or isinstance(given, str | bytes | os.PathLike | Mapping | set):
        raise TypeError(f"{name} must be an array or a tensor; got {describe(given)}")
    if np.ma.is_masked(given):
        raise ValueError(f"{name} must not be masked; fill the masked values first")
    try:
        array = np.asarray(given)
    except ValueError:  # rows of different lengths
        raise ValueError(f"{name} must all have one shape; got a list of different ones") from None
    if array.dtype.kind not in kinds or array.dtype.itemsize > 8:  # torch knows no others
        what = "objects" if array.dtype == object else f"{array.dtype} {list(array.shape)}"
        raise (TypeError if array.dtype == object else ValueError)(f"{name} must be {wanted}; got {what}")
    return as_tensor(array.astype(array.dtype.newbyteorder("="), copy=False))


def split_off(images: Images, count: int) -> tuple[Images, Images]:
    """Two parts, the second with ``count`` images chosen by a fixed seed that does not depend on the training's."""
    if not 0 < count < len(images):
        raise ValueError(
            f"cannot set {count} of {len(images)} images aside: --set data.valid=N, from 1 to {len(images) - 1}"
        )
    permutation = np.random.Generator(np.random.Philox(key=derive_seed(0, "valid"))).permutation(len(images))
    return images.take(np.sort(permutation[count:])), images.take(np.sort(permutation[:count]))


def binarize(images: Images, mode: Binarize, seed: int = 0) -> Images:
    """Black-or-white copies: "threshold" at ½, "dynamic" drawn once with ``seed`` (for evaluation); "none": as given.

    In training, "dynamic" draws anew at every presentation instead (Salakhutdinov & Murray 2008; 1509.00519).
    """
    if mode not in get_args(Binarize):
        raise unknown("way to binarize", mode, get_args(Binarize))
    if mode == "none":
        return images
    pixels = np.asarray(images.pixels)
    if mode == "threshold":
        white = pixels >= 128
    else:
        draws = np.random.Generator(np.random.Philox(key=derive_seed(seed, "binarize")))
        white = draws.random(pixels.shape, dtype=np.float32) * 255 < pixels
    return replace(images, pixels=white.astype(np.uint8) * np.uint8(255), digest=None)
