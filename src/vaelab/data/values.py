"""Decodes pictures to their stored values: any number of channels, 8 or 16 bits or floating-point. Imports no torch.

Formats are TIFF, whose pages may be channels, ``.npy`` with one image, and those that Pillow reads.
"""

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaelab.data import tiff
from vaelab.data.containers import UnavailablePicture, UnreadablePicture, describe_error
from vaelab.data.contents import PictureFacts
from vaelab.data.depths import ADVICE, MAX_SAMPLE, describe_values
from vaelab.data.formats import HEAD_BYTES, identify
from vaelab.data.npy import read_npy_header, read_values
from vaelab.data.opening import check_size, deep_values, open_page, turn_upright

if TYPE_CHECKING:
    from vaelab.data.decode import ResizePolicy

NPY = b"\x93NUMPY"
WHITE = {"uint8": 255, "uint16": 65535, "float32": 1}
"""Type of the result → its white."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in grey (Rec. 601)."""
TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (1, True), 6: (3, False), 7: (3, True), 8: (1, False)}
"""Orientation of a TIFF → quarter turns to the left, and whether the result is mirrored."""


def decode_values(content: bytes, policy: "ResizePolicy", page: int = 0) -> tuple[NDArray[Any], PictureFacts]:
    """Return the pixels ``[H, W, C]`` of a picture in the policy's type and size, and facts about it.

    Raises UnreadablePicture with the reason.
    """
    values, facts = read_stored(content, page, policy.max_pixels, stacks_pages=policy.stacks_pages)
    scaled = _scale(values, policy, facts)
    channels = scaled.shape[2]
    if channels == 3 and policy.channels == 1:
        scaled = (scaled @ LUMA)[..., None]
    elif channels == 1 and policy.channels == 3:
        scaled = np.repeat(scaled, 3, 2)
    elif channels != policy.channels:
        raise UnreadablePicture(f"number of channels: {channels} instead of {policy.channels} (data.channels)")
    fitted = _fit(scaled, policy)
    white = WHITE[policy.dtype]
    return (fitted if white == 1 else np.rint(fitted * white)).astype(policy.dtype), facts


def read_stored(
    content: bytes, page: int, max_pixels: int, *, stacks_pages: bool = False
) -> tuple[NDArray[Any], PictureFacts]:
    """Return the stored values ``[H, W, S]`` of a page, upright, and facts.

    ``stacks_pages`` joins the channels of all pages.
    """
    facts = PictureFacts()
    try:
        if content[:6] == NPY:
            return _read_npy(content, max_pixels), facts
        is_tiff = identify(content[:HEAD_BYTES]) == "TIFF"
        numbers = tiff.page_numbers(content) if is_tiff and stacks_pages else [page]
        pages = [_read_page(content, number, max_pixels, facts, is_tiff=is_tiff) for number in numbers or [page]]
        facts.num_pages = max(1, len(tiff.page_numbers(content))) if is_tiff else facts.num_pages
    except UnreadablePicture:
        raise
    except MemoryError:
        raise UnavailablePicture("too large for the memory of this machine") from None
    except Exception as error:  # decoders raise a dozen types
        raise UnreadablePicture(describe_error(error)) from None
    shapes = {values.shape[:2] for values in pages}
    if len(shapes) > 1:
        raise UnreadablePicture(f"its {len(pages)} pages differ in size, so they cannot be channels")
    facts.num_pages = 1 if stacks_pages else facts.num_pages
    return pages[0] if len(pages) == 1 else np.concatenate(pages, axis=2), facts


def _read_npy(content: bytes, max_pixels: int) -> NDArray[Any]:
    file = io.BytesIO(content)
    header = read_npy_header(file)
    shape = header.shape if len(header.shape) == 3 else (*header.shape, 1)
    if len(shape) != 3 or 0 in shape or header.dtype.kind not in "buif":
        found = f"an array {header.dtype} {list(header.shape)}, not one image [H, W] or [H, W, C]"
        raise UnreadablePicture(f"{found}; a file of many images is named itself")
    is_first = shape[0] < min(shape[1:])
    check_size((shape[2], shape[1]) if is_first else (shape[1], shape[0]), max_pixels)
    values = read_values(file, header).reshape(shape)
    return np.moveaxis(values, 0, 2) if is_first else values


def _read_page(content: bytes, number: int, max_pixels: int, facts: PictureFacts, *, is_tiff: bool) -> NDArray[Any]:
    directory = tiff.read_directory(content, number) if is_tiff else None
    if directory is None or not tiff.can_read_values(directory, most_samples=None):
        with open_page(content, number, max_pixels, "full", facts) as picture:
            upright = turn_upright(picture, None, facts)
            deep = deep_values(upright, facts)
            values = (
                np.asarray(upright.convert("L" if upright.mode in ("1", "L", "LA") else "RGB"))
                if deep is None
                else deep
            )
            return values if values.ndim == 3 else values[..., None]
    check_size(directory.size, max_pixels)
    values, alpha = tiff.read_values(directory), directory.alpha
    if alpha is not None and alpha < values.shape[2]:
        values = np.delete(values, alpha, 2)
    if directory.value(tiff.COLOURS, tiff.BLACK_IS_ZERO) == tiff.WHITE_IS_ZERO and values.dtype.kind == "u":
        values = np.iinfo(values.dtype).max - values
    turns, is_mirrored = TURNS.get(directory.value(tiff.ORIENTATION, 1), (0, False))
    turned = np.rot90(values, turns)
    return turned[:, ::-1] if is_mirrored else turned


def _scale(values: NDArray[Any], policy: "ResizePolicy", facts: PictureFacts) -> NDArray[np.float32]:
    """Return values in [0, 1]; record their kind and extremes. UnreadablePicture if they are not finite or outside."""
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UnreadablePicture("holds values that are not finite (NaN or infinity); replace them first")
    if values.dtype != np.uint8:
        facts.numbers, facts.low, facts.high = describe_values(values.dtype, low, high), low, high
    wanted = policy.values
    if wanted == "own":
        flat = values.reshape(-1)
        facts.sample = flat[:: -(-flat.size // MAX_SAMPLE)].astype(np.float64)
        wanted = (low, high if high > low else low + 1)
    if values.dtype == np.uint8 or wanted == "full":
        white = 1.0 if values.dtype.kind in "fb" else 255.0 if values.dtype.itemsize == 1 else 65535.0
        if low < 0 or high > white:
            kind = facts.numbers or "8-bit"
            raise UnreadablePicture(f"{kind} values from {low:,.6g} to {high:,.6g}, outside 0 … {white:,.0f}: {ADVICE}")
        return values.astype(np.float32) / np.float32(white)
    scale = 1 / (wanted[1] - wanted[0])
    return np.clip((values.astype(np.float64) - wanted[0]) * scale, 0, 1).astype(np.float32)


# -- size -------------------------------------------------------------------------------------------------------------


def _fit(values: NDArray[np.float32], policy: "ResizePolicy") -> NDArray[np.float32]:
    """Return values at the size of the policy, cropped or padded about the centre."""
    height, width = values.shape[:2]
    if policy.fit == "crop":
        high = min(height, max(1, round(width * policy.height / policy.width)))
        wide = min(width, max(1, round(height * policy.width / policy.height)))
        top, left = (height - high) // 2, (width - wide) // 2
        return _resize(values[top : top + high, left : left + wide], (policy.height, policy.width))
    scale = min(policy.height / height, policy.width / width)
    inner = max(1, round(height * scale)), max(1, round(width * scale))
    canvas = np.full((policy.height, policy.width, values.shape[2]), policy.background == "white", np.float32)
    top, left = (policy.height - inner[0]) // 2, (policy.width - inner[1]) // 2
    canvas[top : top + inner[0], left : left + inner[1]] = _resize(values, inner)
    return canvas


def _resize(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return values at another size: area averages to shrink, bicubic interpolation to enlarge."""
    height, width = values.shape[:2]
    if (height, width) == size:
        return values
    if height >= size[0] and width >= size[1]:
        rows = _average(values, size[0])
        return np.ascontiguousarray(_average(rows.swapaxes(0, 1), size[1]).swapaxes(0, 1))
    channels = [
        np.asarray(Image.fromarray(np.ascontiguousarray(channel)).resize(size[::-1], Image.Resampling.BICUBIC))
        for channel in np.moveaxis(values, 2, 0)
    ]
    return np.asarray(np.clip(np.stack(channels, 2), 0, 1), np.float32)


def _average(values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return means over ``count`` equal parts of the first axis; rows on their borders count by their share."""
    length = len(values)
    ends = np.arange(count + 1) * (length / count)
    sums = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0, dtype=np.float64)])
    below = np.minimum(np.floor(ends).astype(np.int64), length - 1)
    at = sums[below] + (ends - below)[:, None, None] * values[below]
    return np.asarray(np.diff(at, axis=0) * (count / length), np.float32)
