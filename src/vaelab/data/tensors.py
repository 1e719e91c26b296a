"""Images as tensors: batches, the input of a model, and conversions to and from arrays."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Real
from numpy.typing import NDArray
from torch import Tensor

from vaelab.data.images import Images
from vaelab.system.arguments import describe


@dataclass(frozen=True)
class Batch:
    """Images in [0, 1] as a model sees them, their rows in the set, and their labels and attributes."""

    x: Float[Tensor, "batch channel height width"]
    index: Int[Tensor, " batch"]
    labels: Int[Tensor, " batch"] | None = None
    attributes: Bool[Tensor, "batch attribute"] | None = None


def make_batch(images: Images, start: int, stop: int, device: torch.device | None) -> Batch:
    """Return images ``start`` to ``stop``, or to the last, on ``device``, with their labels and attributes."""
    rows = slice(start, min(stop, len(images)))

    def column(values: NDArray[Any] | None) -> Tensor | None:
        return None if values is None else as_tensor(values[rows]).to(device)

    x = images.floats(rows.start, rows.stop, device)
    index = torch.arange(rows.start, rows.stop, device=device)
    return Batch(x, index, column(images.labels), column(images.attributes))


def subsample(total: int, most: int, generator: torch.Generator) -> Int[np.ndarray, " chosen"]:
    """Return ``most`` of ``total`` rows chosen at random, ascending; all rows if there are no more."""
    if total <= most:
        return np.arange(total)
    chosen: NDArray[np.int64] = torch.randperm(total, generator=generator)[:most].sort().values.numpy()
    return chosen


def as_tensor(array: Any) -> Tensor:
    """Return an array as a CPU tensor that shares its memory, or a copy if it is read-only."""
    array = np.ascontiguousarray(array)
    backwards = min(array.strides) < 0  # NumPy allows this for an axis of length 1, torch does not
    return torch.from_numpy(array if array.flags.writeable and not backwards else array.copy())


def to_float(pixels: Real[Tensor, "batch height width channel"]) -> Float[Tensor, "batch channel height width"]:
    """Return floats in [0, 1] of shape ``[B, C, H, W]``, channels-last in memory; integers are divided by 255.

    Those of 16 bits are divided by 65,535.
    """
    x = pixels.permute(0, 3, 1, 2)
    return x if x.is_floating_point() else x.float().div_(65535 if x.dtype == torch.uint16 else 255)


def to_uint8(images: Float[Tensor, "batch channel height width"]) -> NDArray[np.uint8]:
    """Return ``[B, C, H, W]`` in [0, 1] as uint8 ``[B, H, W, C]``; values outside are clipped."""
    scaled = images.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def as_model_input(
    given: Any, image_shape: tuple[int, int, int]
) -> tuple[Float[Tensor, "batch channel height width"], bool]:
    """Return images as float ``[B, C, H, W]`` in [0, 1], and whether they were given as a NumPy array.

    Accepts a tensor, an array or ``Images``, one image or many, channels first, last or (for grey images) absent.
    Values are uint8, uint16 (white is 65,535) or floating point in [0, 1]. ValueError if the shape does not fit the
    model or values are not finite, outside [0, 1] or masked; TypeError for anything but an array.
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
            f"images of shape {shape} do not fit this model, which needs "
            f"[N, {channels}, {height}, {width}] or [N, {height}, {width}, {channels}]"
        )
    order = layouts[tuple(x.shape[1:])]
    x = x.permute(0, *(axis + 1 for axis in order))
    if x.dtype in (torch.uint8, torch.uint16):
        return x.float().div_(255 if x.dtype == torch.uint8 else 65535), is_array
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
    """Return numbers as a CPU tensor; TypeError for anything but an array of numbers, ValueError if masked.

    ``kinds``: NumPy's letters of the accepted types. ``wanted``: these types in words.
    """
    if given is None or isinstance(given, str | bytes | os.PathLike | Mapping | set):
        raise TypeError(f"{name} must be an array or a tensor; got {describe(given)}")
    if np.ma.is_masked(given):
        raise ValueError(f"{name} must not be masked; fill the masked values first")
    try:
        array = np.asarray(given)
    except ValueError:  # rows of different lengths
        raise ValueError(f"{name} must all have one shape; got a list of different ones") from None
    if array.dtype.kind not in kinds or array.dtype.itemsize > 8:  # torch has no others
        what = "objects" if array.dtype == object else f"{array.dtype} {list(array.shape)}"
        raise (TypeError if array.dtype == object else ValueError)(f"{name} must be {wanted}; got {what}")
    return as_tensor(array.astype(array.dtype.newbyteorder("="), copy=False))
