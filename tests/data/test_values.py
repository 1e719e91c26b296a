"""Pictures with any number of channels and more than 8 bits: TIFF, .npy, pages as channels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from stacks import write_tiff
from typed import train_small

import vaelab
from vaelab.api.run_images import load_run_images
from vaelab.data.datasets import load_dataset
from vaelab.data.decode import ResizePolicy, decode
from vaelab.data.images import Images
from vaelab.system.errors import InputError

LOAD = load_dataset("folder").load
DEEP = np.random.default_rng(0).integers(0, 65536, (12, 10, 9, 6)).astype(np.uint16)
FLOATS = np.random.default_rng(1).random((12, 10, 9, 2)).astype(np.float32)


def put_many(folder: Path) -> None:
    """TIFFs with six channels of 16 bits."""
    for i, values in enumerate(DEEP):
        write_tiff(folder / f"{i:02d}.tif", values)


def put_stacks(folder: Path) -> None:
    """TIFFs with a page for each channel."""
    for i, values in enumerate(DEEP):
        pages = [Image.fromarray(page) for page in np.moveaxis(values, 2, 0)]
        pages[0].save(folder / f"{i:02d}.tif", save_all=True, append_images=pages[1:])


def put_arrays(folder: Path) -> None:
    """Arrays of floating-point numbers, channels last and first."""
    for i, values in enumerate(FLOATS):
        np.save(folder / f"{i:02d}.npy", values if i % 2 else np.moveaxis(values, 2, 0))


def kept_rows(images: Images) -> list[int]:
    assert images.names is not None
    return [int(name[:2]) for name in images.names]


@pytest.mark.parametrize(
    ("put", "options", "expected"),
    [
        (put_many, {"depth": 16}, DEEP),
        (put_many, {"channels": 6}, np.rint(DEEP / 257).astype(np.uint8)),
        (put_many, {"depth": 32, "range": [0.0, 65535.0]}, (DEEP / 65535).astype(np.float32)),
        (put_stacks, {"depth": 16, "pages": "channels"}, DEEP),
        (put_arrays, {"depth": 32}, FLOATS),
        (put_arrays, {}, np.rint(FLOATS * 255).astype(np.uint8)),
    ],
    ids=["16 bits", "8 bits", "float32", "pages", "npy", "npy 8 bits"],
)
def test_values_and_channels_are_those_of_the_files(
    put: Callable[[Path], None], options: Any, expected: NDArray[Any], tmp_path: Path
) -> None:
    put(tmp_path)
    images = LOAD(tmp_path, "train", size=[10, 9], **options)
    assert images.pixels.dtype == expected.dtype
    np.testing.assert_allclose(images.pixels, expected[kept_rows(images)], atol=1e-7)
    assert images.resolved.get("channels", expected.shape[3]) == expected.shape[3]


def test_a_run_on_stacks_scores_others(tmp_path: Path) -> None:
    put_stacks(tmp_path)
    options = {"data.pages": "channels", "data.depth": 16, "training.steps": 4}
    run = train_small(tmp_path.with_name("run"), options, name="folder", data=tmp_path)
    assert (run.recipe.data["channels"], load_run_images(run, None).train.pixels.dtype) == (6, np.uint16)
    encoded = vaelab.encode(run.path, tmp_path).mean
    np.testing.assert_allclose(encoded, vaelab.load(run.path).encode(DEEP).mean, atol=1e-4)
    vaelab.reconstruct(run.path, out=tmp_path.with_name("pairs.png"))


def test_other_numbers_of_channels_and_nan_are_named(tmp_path: Path, wording: Callable[[object], None]) -> None:
    for name, values in (
        ("train/0.npy", FLOATS[0]),
        ("train/1.npy", FLOATS[1, ..., :1]),
        ("train/2.npy", np.where(FLOATS[2] > 0.9, np.nan, FLOATS[2])),
        ("test/3.npy", FLOATS[3]),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / name, values)
    assert len(LOAD(tmp_path, "train", depth=32)) == 1
    with pytest.raises(InputError) as caught:
        LOAD(tmp_path, "train", depth=32, strict=True)
    wording(caught.value)
    (tmp_path / "train" / "1.npy").unlink()
    with pytest.raises(InputError) as caught:
        LOAD(tmp_path, "train", depth=32, strict=True)
    wording(caught.value)


def test_pages_of_different_sizes_are_no_channels(tmp_path: Path, wording: Callable[[object], None]) -> None:
    pages = [Image.fromarray(DEEP[0, ..., 0]), Image.fromarray(DEEP[0, :5, :, 0])]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError) as caught:
        LOAD(tmp_path, "train", pages="channels")
    wording(caught.value)


def test_many_channels_without_the_option_are_advised(tmp_path: Path, wording: Callable[[object], None]) -> None:
    put_many(tmp_path)
    with pytest.raises(InputError) as caught:
        LOAD(tmp_path, "train")
    wording(caught.value)


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_deep_pictures_are_resized_as_others(fit: Any, tmp_path: Path) -> None:
    """Both decoders give the same pictures, up to the rounding of 8 bits; enlarged ones by Pillow's own weights."""
    pixels = np.random.default_rng(2).integers(0, 256, (40, 30), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for size in ((16, 16), (40, 30), (13, 11)):
        usual = decode(content, ResizePolicy(*size, 1, fit))
        deep = decode(content, ResizePolicy(*size, 1, fit, keeps_values=True, dtype="uint16"))
        np.testing.assert_allclose(deep / 257, usual, atol=0.51)


def test_grey_and_rgb_are_converted(tmp_path: Path) -> None:
    Image.new("RGB", (9, 8), (10, 20, 30)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    grey = decode(content, ResizePolicy(8, 9, 1, keeps_values=True, dtype="float32"))
    np.testing.assert_allclose(grey, 0.299 * 10 / 255 + 0.587 * 20 / 255 + 0.114 * 30 / 255, rtol=1e-5)
    np.save(tmp_path / "b.npy", np.full((8, 9), 7, np.uint8))
    rgb = decode((tmp_path / "b.npy").read_bytes(), ResizePolicy(8, 9, 3))
    np.testing.assert_array_equal(rgb, np.full((8, 9, 3), 7))
