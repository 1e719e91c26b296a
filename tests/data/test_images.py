"""The container of images, batches."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vaelab.data.array_cache import keep_images, open_kept
from vaelab.data.images import Images, binarize, split_off
from vaelab.data.loader import Batches
from vaelab.data.pictures import encode_png
from vaelab.data.tensors import as_model_input
from vaelab.system.errors import RecipeError

CPU = torch.device("cpu")
GREY, RGB = (1, 9, 8), (3, 9, 8)


def some_pixels(count: int = 5, channels: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 9, 8, channels), dtype=np.uint8)


def numbered(count: int) -> Images:
    """Return images that show their number (up to 65,535), which is also their label."""
    pixels = np.zeros((count, 8, 8, 1), np.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 1, 0] = np.divmod(np.arange(count), 256)
    return Images(pixels, labels=np.arange(count))


def numbers_of(batch: Tensor) -> list[int]:
    return (batch[:, 0, 0, 0].long() * 256 + batch[:, 0, 1, 0]).tolist()


# -- Images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 9, 8), (0, 9, 8, 1), (5, 9, 8, 0), (5, 3, 9, 8), (5, 7, 8, 1), (5, 8, 7, 3)])
def test_pixels_of_another_shape(shape: tuple[int, ...], wording: Callable[[object], None]) -> None:
    with pytest.raises(ValueError) as raised:
        Images(np.zeros(shape, np.uint8), source="somewhere")
    wording(raised.value)


def test_pixels_of_another_type(monkeypatch: pytest.MonkeyPatch, wording: Callable[[object], None]) -> None:
    """The check holds without the type checker of the tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError) as raised:
        Images(np.zeros((5, 9, 8, 1), np.float64))
    wording(raised.value)


@pytest.mark.parametrize("name", ["labels", "attributes", "factors"])
def test_columns_of_another_length(name: str) -> None:
    columns = {
        "labels": np.zeros(4, np.int64),
        "attributes": np.zeros((4, 2), bool),
        "factors": np.zeros((4, 2), np.int64),
    }
    with pytest.raises(ValueError, match=name):
        Images(some_pixels(), **{name: columns[name]})


def test_smallest_image() -> None:
    images = Images(np.zeros((1, 8, 8, 3), np.uint8))
    assert len(images) == 1
    assert images.image_shape == (3, 8, 8)


def test_take_keeps_columns_together() -> None:
    images = replace(
        numbered(10),
        attributes=np.arange(20).reshape(10, 2) % 3 == 0,
        attribute_names=("a", "b"),
        factors=np.arange(30).reshape(10, 3),
        factor_names=("x", "y", "z"),
        factor_sizes=(30, 30, 30),
        notes=("a note",),
    )
    chosen = np.array([7, 0, 7])
    taken = images.take(chosen)
    assert numbers_of(torch.from_numpy(taken.pixels)) == [7, 0, 7]
    for name in ("labels", "attributes", "factors"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(images, name)[chosen])
    assert (taken.attribute_names, taken.notes, taken.source) == (("a", "b"), ("a note",), images.source)
    assert Images(some_pixels()).take(chosen[1:2]).labels is None


def test_memory_map(tmp_path: Path) -> None:
    pixels = some_pixels()
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = Images(np.load(tmp_path / "pixels.npy", mmap_mode="r"))
    assert mapped.fingerprint() == Images(pixels).fingerprint()
    torch.testing.assert_close(mapped.floats(1, 4), Images(pixels).floats(1, 4), rtol=0, atol=0)
    np.testing.assert_array_equal(mapped.take(np.array([4, 2])).pixels, pixels[[4, 2]])
    assert numbers_of(Batches(mapped, 5, 0, CPU).batch(0).pixels) != []


def test_floats_of_a_slice() -> None:
    images = numbered(10)
    x = images.floats(3, 6)
    assert (x[:, 0, 0, 1] * 255).round().tolist() == [3, 4, 5]


def test_fingerprint_of_equal_images() -> None:
    pixels = some_pixels(channels=3)
    print_ = Images(pixels).fingerprint()
    assert re.fullmatch("[0-9a-f]{64}", print_)
    assert Images(pixels.copy(), labels=np.arange(5), source="elsewhere").fingerprint() == print_
    in_another_layout = pixels.transpose(0, 3, 1, 2).copy().transpose(0, 2, 3, 1)
    assert Images(in_another_layout).fingerprint() == print_


@given(st.integers(0, 4), st.integers(0, 8), st.integers(0, 7), st.integers(1, 255))
def test_fingerprint_of_one_changed_pixel(image: int, row: int, column: int, change: int) -> None:
    pixels = some_pixels()
    before = Images(pixels).fingerprint()
    pixels[image, row, column] ^= np.uint8(change)
    assert Images(pixels).fingerprint() != before


def test_fingerprint_depends_on_order_and_shape() -> None:
    pixels = some_pixels(count=8)
    before = Images(pixels).fingerprint()
    assert Images(pixels[::-1]).fingerprint() != before
    assert Images(pixels.reshape(8, 8, 9, 1)).fingerprint() != before
    assert Images(pixels[:7]).fingerprint() != before


def test_fingerprint_of_more_than_one_piece() -> None:
    images = numbered(5000)
    prints = {images.fingerprint(), Images(images.pixels.copy()).fingerprint()}
    assert len(prints) == 1
    for index in (0, 4095, 4096, 4999):
        changed = images.pixels.copy()
        changed[index, -1, -1] = 1
        prints.add(Images(changed).fingerprint())
    assert len(prints) == 5


# -- many channels, more than 8 bits ----------------------------------------------------------------------------------

MANY = np.random.default_rng(0).integers(0, 65536, (5, 9, 8, 6)).astype(np.uint16)


@pytest.mark.parametrize("pixels", [MANY, (MANY / 65535).astype(np.float32)], ids=["uint16", "float32"])
def test_deep_images_of_many_channels_are_kept_as_they_are(pixels: NDArray[Any], tmp_path: Path) -> None:
    images = Images(pixels)
    np.testing.assert_allclose(images.floats(0, 5).numpy(), MANY.transpose(0, 3, 1, 2) / 65535, atol=1e-7)
    keep_images(tmp_path / "kept", images)
    kept = open_kept(tmp_path / "kept")
    assert kept is not None
    assert kept.pixels.dtype == pixels.dtype
    np.testing.assert_array_equal(kept.pixels, pixels)
    assert kept.fingerprint() == images.fingerprint() != Images(images.eight_bits).fingerprint()
    batches = Batches(kept, 2, 0, CPU, shuffle_buffer=2)
    rows = batches.batch(1)
    np.testing.assert_array_equal(rows.pixels.numpy(), pixels[rows.index.numpy()])
    x, _ = as_model_input(kept, (6, 9, 8))
    np.testing.assert_array_equal(x, images.floats(0, 5))


def test_pictures_show_the_first_channels() -> None:
    eight = np.rint(MANY / 257).astype(np.uint8)
    for pixels in (MANY, (MANY / 65535).astype(np.float32)):
        np.testing.assert_array_equal(Images(pixels).eight_bits[:], eight)
    assert "of 9×8 of 6 channels, 16 bits" in repr(Images(MANY))
    for count, shown in ((1, 1), (2, 1), (3, 3), (6, 3)):
        with Image.open(io.BytesIO(encode_png(eight[0, ..., :count]))) as picture:
            array = np.asarray(picture).reshape(9, 8, -1)
        np.testing.assert_array_equal(array, eight[0, ..., :shown])
        assert "png" in Images(eight[..., :count])._repr_html_()


# -- Batches ----------------------------------------------------------------------------------------------------------

sizes = st.tuples(st.integers(1, 60), st.integers(1, 70))


@given(sizes, st.integers(0, 2**31), st.integers(0, 3))
def test_every_image_once_in_an_epoch(size: tuple[int, int], seed: int, epoch: int) -> None:
    count, batch_size = size
    batches = Batches(numbered(count), batch_size, seed, CPU)
    steps = range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
    seen = [numbers_of(batches.batch(step).pixels) for step in steps]
    assert sorted(number for batch in seen for number in batch) == list(range(count))
    assert [len(batch) for batch in seen[:-1]] == [batch_size] * (len(seen) - 1)
    assert 1 <= len(seen[-1]) <= batch_size
    assert {batches.epoch(step) for step in steps} == {epoch}


def test_last_smaller_batch() -> None:
    batches = Batches(numbered(10), 4, 0, CPU)
    assert [len(batches.batch(step).pixels) for step in range(6)] == [4, 4, 2] * 2


@given(sizes, st.integers(0, 2**31), st.lists(st.integers(0, 200), min_size=1, max_size=8))
def test_batch_is_a_function_of_seed_and_step(size: tuple[int, int], seed: int, steps: list[int]) -> None:
    count, batch_size = size
    one = Batches(numbered(count), batch_size, seed, CPU)
    forwards = {step: numbers_of(one.batch(step).pixels) for step in sorted(steps)}
    for step in steps:
        assert numbers_of(one.batch(step).pixels) == forwards[step]
        assert numbers_of(Batches(numbered(count), batch_size, seed, CPU).batch(step).pixels) == forwards[step]


def test_epochs_and_seeds_differ() -> None:
    orders = {
        tuple(Batches(numbered(50), 7, seed, CPU).order(epoch).tolist()) for seed in range(4) for epoch in range(4)
    }
    assert len(orders) == 16
    assert tuple(range(50)) not in orders


def test_order_does_not_depend_on_the_batch_size() -> None:
    small, large = (Batches(numbered(50), size, 3, CPU) for size in (5, 50))
    assert small.order(2).tolist() == large.order(2).tolist()


def test_order_has_not_changed() -> None:
    assert Batches(numbered(8), 8, 0, CPU).order(0).tolist() == [3, 1, 5, 7, 2, 6, 4, 0]


def test_read_only_pixels() -> None:
    images = numbered(10)
    images.pixels.flags.writeable = False
    assert sorted(numbers_of(Batches(images, 10, 0, CPU).batch(0).pixels)) == list(range(10))


# -- split_off and binarize -------------------------------------------------------------------------------------------


@given(st.integers(2, 60), st.data())
def test_split_off(count: int, data: st.DataObject) -> None:
    aside = data.draw(st.integers(1, count - 1))
    images = numbered(count)
    rest, chosen = split_off(images, aside)
    assert (len(rest), len(chosen)) == (count - aside, aside)
    for part in (rest, chosen):
        assert part.labels is not None
        assert part.labels.tolist() == numbers_of(torch.from_numpy(part.pixels)) == sorted(part.labels.tolist())
    assert sorted([*rest.labels, *chosen.labels]) == list(range(count))
    assert split_off(images, aside)[1].fingerprint() == chosen.fingerprint()


def test_split_off_is_random() -> None:
    chosen = split_off(numbered(100), 20)[1].labels
    assert chosen is not None
    assert chosen.tolist() not in (list(range(20)), list(range(80, 100)))


@pytest.mark.parametrize("count", [-1, 0, 10, 11])
def test_split_off_too_few_or_many(count: int) -> None:
    with pytest.raises(RecipeError) as raised:
        split_off(numbered(10), count)
    assert (raised.value.subject, raised.value.value) == ("data.valid", count)


def every_value() -> Images:
    return Images(np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1), labels=np.arange(4))


def test_binarize_none() -> None:
    images = every_value()
    assert binarize(images, "none") is images


def test_binarize_threshold() -> None:
    images = every_value()
    black_or_white = binarize(images, "threshold")
    expected = np.where(np.arange(256) < 128, 0, 255).reshape(4, 8, 8, 1)
    np.testing.assert_array_equal(black_or_white.pixels, expected)
    assert black_or_white.pixels.dtype == np.uint8
    assert black_or_white.labels is images.labels
    np.testing.assert_array_equal(images.pixels, every_value().pixels)


def test_binarize_dynamic() -> None:
    copies = 4000
    pixels = np.tile(np.array([0, 51, 128, 204, 255], np.uint8), (copies, 8, 2))[..., :8, None].copy()
    drawn = binarize(Images(pixels), "dynamic", seed=1).pixels
    assert set(np.unique(drawn)) == {0, 255}
    for value in (0, 51, 128, 204, 255):
        of_value = drawn[pixels == value] / 255
        deviation = np.sqrt(value / 255 * (1 - value / 255) / of_value.size)
        assert abs(of_value.mean() - value / 255) <= 4 * deviation


def test_binarize_dynamic_repeats_with_its_seed() -> None:
    first, again, other = (binarize(every_value(), "dynamic", seed).fingerprint() for seed in (1, 1, 2))
    assert first == again != other


def test_numbers_are_not_class_names() -> None:
    pixels, labels = np.zeros((2, 8, 8, 1), np.uint8), np.array([0, 1])
    assert not Images(pixels, labels).has_class_names
    assert not Images(pixels, labels, tuple("0123456789")).has_class_names
    assert Images(pixels, labels, ("shirt", "bag")).has_class_names


def test_names_go_with_their_images() -> None:
    images = Images(np.zeros((3, 8, 8, 1), np.uint8), names=["a", "b", "c"])
    assert images.take(np.array([2, 0])).names == ["c", "a"]
    with pytest.raises(ValueError, match="names"):
        Images(np.zeros((3, 8, 8, 1), np.uint8), names=["a", "b"])
