"""Images as tensors: conversions and the accepted inputs of a model."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vaelab.data.images import Images
from vaelab.data.tensors import as_model_input, to_float, to_uint8

CPU = torch.device("cpu")
GREY, RGB = (1, 9, 8), (3, 9, 8)


def some_pixels(count: int = 5, channels: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 9, 8, channels), dtype=np.uint8)


# -- float and uint8 --------------------------------------------------------------------------------------------------


def test_every_value_comes_back() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
    floats = to_float(torch.from_numpy(pixels))
    assert floats.dtype == torch.float32
    assert (float(floats.min()), float(floats.max())) == (0, 1)
    np.testing.assert_array_equal(to_uint8(floats), pixels, strict=True)


@given(arrays(np.uint8, (2, 8, 9, 3)))
def test_round_trip_keeps_places(pixels: NDArray[np.uint8]) -> None:
    floats = to_float(torch.from_numpy(pixels))
    assert floats.shape == (2, 3, 8, 9)
    assert floats.is_contiguous(memory_format=torch.channels_last)
    assert float(floats[1, 2, 3, 4]) == np.float32(pixels[1, 3, 4, 2]) / np.float32(255)
    np.testing.assert_array_equal(to_uint8(floats), pixels, strict=True)


def test_to_float_leaves_its_input() -> None:
    pixels = torch.full((1, 8, 8, 1), 200, dtype=torch.uint8)
    to_float(pixels)
    assert int(pixels.max()) == 200


def test_values_are_clipped_and_rounded() -> None:
    x = torch.tensor([-0.5, 0.0, 0.1 / 255, 0.9 / 255, 254.4 / 255, 1.0, 7.0])
    assert to_uint8(x.reshape(1, 1, 1, -1)).ravel().tolist() == [0, 0, 0, 1, 254, 255, 255]


# -- as_model_input ---------------------------------------------------------------------------------------------------

channels_last = some_pixels(4, 3)
channels_first = channels_last.transpose(0, 3, 1, 2)
grey = some_pixels(4)
LAYOUTS: dict[str, tuple[Any, tuple[int, int, int], NDArray[np.uint8]]] = {
    "NHWC": (channels_last, RGB, channels_last),
    "NCHW": (channels_first, RGB, channels_last),
    "HWC": (channels_last[2], RGB, channels_last[2:3]),
    "CHW": (channels_first[2], RGB, channels_last[2:3]),
    "NHW": (grey[..., 0], GREY, grey),
    "NHW-of-one": (grey[:1, ..., 0], GREY, grey[:1]),
    "HW": (grey[1, ..., 0], GREY, grey[1:2]),
    "NHW1": (grey, GREY, grey),
    "N1HW": (grey[:, None, ..., 0], GREY, grey),
    "HW1": (grey[1], GREY, grey[1:2]),
    "1HW": (grey[1, None, ..., 0], GREY, grey[1:2]),
    "as-many-as-rows": (some_pixels(9)[..., 0], GREY, some_pixels(9)),
}
GIVEN: dict[str, Callable[[NDArray[np.uint8]], Any]] = {
    "uint8": np.ascontiguousarray,
    "float32": lambda pixels: pixels.astype(np.float32) / 255,
    "float64": lambda pixels: pixels / 255.0,
    "strided": lambda pixels: np.repeat(pixels, 2, axis=0)[::2],
    "backwards": lambda pixels: pixels[::-1].copy()[::-1],
    "tensor": lambda pixels: torch.from_numpy(pixels.copy()),
    "float-tensor": lambda pixels: torch.from_numpy(pixels.astype(np.float32) / 255),
}


@pytest.mark.parametrize("kind", GIVEN)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, kind: str) -> None:
    pixels, image_shape, expected = LAYOUTS[layout]
    given = GIVEN[kind](pixels)
    x, was_array = as_model_input(given, image_shape)
    assert x.dtype == torch.float32
    assert was_array == isinstance(given, np.ndarray)
    np.testing.assert_array_equal(to_uint8(x), expected, strict=True)
    torch.testing.assert_close(x, to_float(torch.from_numpy(expected)), rtol=1e-6, atol=0)


def test_images_given() -> None:
    x, was_array = as_model_input(Images(channels_last), RGB)
    assert was_array
    np.testing.assert_array_equal(to_uint8(x), channels_last)


def test_read_only_array() -> None:
    pixels = some_pixels()
    pixels.flags.writeable = False
    x, _ = as_model_input(pixels, GREY)
    np.testing.assert_array_equal(to_uint8(x), pixels)


def test_picture_and_list_given() -> None:
    x, _ = as_model_input(Image.fromarray(channels_last[0]), RGB)
    np.testing.assert_array_equal(to_uint8(x), channels_last[:1])
    x, _ = as_model_input([[0.0] * 8, [1.0] * 8] * 4, (1, 8, 8))
    assert x[0, 0, :, 0].tolist() == [0, 1] * 4


def test_big_endian_array() -> None:
    x, _ = as_model_input((grey / 255.0).astype(">f4"), GREY)
    np.testing.assert_array_equal(to_uint8(x), grey)


def test_inputs_are_not_changed() -> None:
    for mine in (some_pixels(), some_pixels() / 255.0, torch.rand(2, 9, 8)):
        before = mine.clone() if isinstance(mine, Tensor) else mine.copy()
        as_model_input(mine, GREY)
        assert (mine == before).all()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_any_count(count: int) -> None:
    for many in (np.zeros((count, 9, 8, 1), np.uint8), np.zeros((count, 9, 8), np.float32)):
        assert as_model_input(many, GREY)[0].shape == (count, 1, 9, 8)


@pytest.mark.parametrize(
    ("shape", "image_shape"),
    [
        ((8, 9), GREY),
        ((4, 8, 9), GREY),
        ((4, 9, 8, 3), GREY),
        ((9, 8), RGB),
        ((4, 9, 8), RGB),
        ((4, 9, 8, 1), RGB),
        ((4, 3, 8, 9), RGB),
        ((2, 4, 3, 9, 8), RGB),
        ((1, 4, 9, 8), GREY),
        ((8,), GREY),
        ((), GREY),
    ],
)
def test_wrong_shape(shape: tuple[int, ...], image_shape: tuple[int, int, int]) -> None:
    for unfit in (np.zeros(shape, np.uint8), torch.zeros(shape)):
        with pytest.raises(ValueError, match="do not fit this model"):
            as_model_input(unfit, image_shape)


@pytest.mark.parametrize("given", [[[0.0, 1.0]], Image.new("L", (9, 9))], ids=["list", "picture"])
def test_wrong_shape_of_other_things(given: object) -> None:
    with pytest.raises(ValueError):
        as_model_input(given, GREY)


@pytest.mark.parametrize("value", [-0.01, 1.01, 255.0, np.nan, np.inf, -np.inf])
def test_floats_out_of_range(value: float) -> None:
    x = np.full((2, 9, 8), 0.5, np.float32)
    x[1, 3, 4] = value
    for unfit in (x, x.astype(np.float64), x.astype(np.float16), torch.from_numpy(x)):
        with pytest.raises(ValueError):
            as_model_input(unfit, GREY)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint64", "bool", "complex64", "U1", "O"])
def test_other_dtypes(dtype: str) -> None:
    kind = TypeError if dtype == "O" else ValueError
    with pytest.raises(kind):
        as_model_input(np.zeros((9, 8), dtype), GREY)
