"""The order of batches in windows, their reading ahead, and the shares of several ranks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vaelab.data import loader as module
from vaelab.data.arrays import ArrayView
from vaelab.data.images import Images
from vaelab.data.loader import Batches, Shuffle, suitable_window
from vaelab.system.distributed import Ranks

CPU = torch.device("cpu")
ROW = (8, 8, 1)


def numbered(count: int) -> np.ndarray:
    """Images that hold their own number in their first two pixels."""
    pixels = np.zeros((count, *ROW), np.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 1, 0] = np.arange(count) % 256, np.arange(count) // 256
    return pixels


def numbers(batch: torch.Tensor) -> list[int]:
    return (batch[:, 0, 0, 0].int() + 256 * batch[:, 0, 1, 0].int()).tolist()


def mapped(tmp_path: Path, count: int) -> np.ndarray:
    np.save(tmp_path / "pixels.npy", numbered(count))
    return np.load(tmp_path / "pixels.npy", mmap_mode="r")


sizes = st.integers(1, 300)


@given(count=sizes, window=st.integers(0, 400), seed=st.integers(0, 9), epoch=st.integers(0, 3))
def test_every_epoch_sees_every_image_once_and_a_window_holds_its_blocks(
    count: int, window: int, seed: int, epoch: int
):
    order = Shuffle(count, seed, window, row_bytes=64)
    parts = [order.rows(epoch, i) for i in range(order.num_windows)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
    assert np.diff(order.starts(epoch)).tolist() == [len(part) for part in parts]
    if order.num_windows > 1:
        assert max(map(len, parts)) <= window
        for i, part in enumerate(parts):
            assert set((part // order.block_rows).tolist()) == set(order.blocks(epoch, i).tolist())


def test_a_window_of_all_images_is_the_order_without_windows():
    assert Shuffle(50, 3).rows(2, 0).tolist() == Shuffle(50, 3, 50).rows(2, 0).tolist()
    assert Shuffle(50, 3).rows(2, 0).tolist() != Shuffle(50, 3).rows(1, 0).tolist()


def test_blocks_are_a_megabyte_and_windows_hold_sixteen_at_least():
    assert Shuffle(10**6, 0, 10**5, row_bytes=1024).block_rows == 1024
    assert Shuffle(10**6, 0, 1600, row_bytes=1024).block_rows == 100


@settings(deadline=None, max_examples=40)
@given(
    count=sizes,
    batch_size=st.integers(1, 40),
    window=st.integers(0, 120),
    size=st.integers(1, 5),
    seed=st.integers(0, 3),
)
def test_the_shares_of_all_ranks_are_the_batches_of_one(count: int, batch_size: int, window: int, size: int, seed: int):
    images = Images(numbered(count))
    one = Batches(images, batch_size, seed, CPU, window=window)
    many = [Batches(images, batch_size, seed, CPU, window=window, ranks=Ranks(rank, size)) for rank in range(size)]
    for step in range(2 * one.steps_per_epoch + 1):
        expected = numbers(one.batch(step).pixels)
        assert expected == one.indices(step).tolist()
        found = []
        for batches in many:
            share = batches.share(step)
            assert share.total == len(expected)
            pixels = batches.batch(step).pixels
            assert len(pixels) == max(len(share), 1)  # a rank without images works on a black one
            found += numbers(pixels)[: len(share)]
        assert found == expected


def test_windows_of_a_map_are_read_ahead_and_let_go(tmp_path: Path):
    array = mapped(tmp_path, 500)
    batches = Batches(Images(array), 7, 0, CPU, window=100)
    plain = Batches(Images(numbered(500)), 7, 0, CPU, window=100)
    assert batches._windows is not None
    for step in range(2 * batches.steps_per_epoch):
        assert numbers(batches.batch(step).pixels) == plain.indices(step).tolist()
        assert len(batches._windows._held) <= 2
    chosen = np.arange(0, 500, 3)
    some = Batches(Images(ArrayView(array, chosen)), 7, 0, CPU, window=50)
    assert numbers(some.batch(4).pixels) == chosen[some.indices(4)].tolist()


def test_any_step_can_be_the_first(tmp_path: Path):
    array = mapped(tmp_path, 200)
    forwards = Batches(Images(array), 9, 1, CPU, window=64)
    expected = [numbers(forwards.batch(step).pixels) for step in range(50)]
    for step in (49, 0, 23, 22, 45):
        assert numbers(Batches(Images(array), 9, 1, CPU, window=64).batch(step).pixels) == expected[step]
        assert numbers(forwards.batch(step).pixels) == expected[step]


@pytest.mark.parametrize("of", ["neighbours", "classes"])
def test_windows_mix(of: str):
    """Of images sorted by class, batches hold about as many of each class as of shuffled ones."""
    count, num_classes, batch_size = 20_000, 10, 50
    labels = np.arange(count) * num_classes // count

    def spread(window: int) -> float:
        order = Shuffle(count, 0, window, row_bytes=1 << 14)  # blocks of 64 images
        rows = np.concatenate([order.rows(0, i) for i in range(order.num_windows)]).reshape(-1, batch_size)
        if of == "classes":
            counts = np.stack([(labels[rows] == label).sum(1) for label in range(num_classes)])
            return float(counts.std())
        return float(np.mean([len(set((row // 64).tolist())) for row in rows]))

    whole, windowed, sorted_once = spread(0), spread(count // 4), spread(64 * 2)
    assert windowed == pytest.approx(whole, rel=0.25)
    assert abs(sorted_once - whole) > abs(windowed - whole)


def test_only_a_map_that_does_not_fit_is_read_in_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    array = mapped(tmp_path, 100)
    monkeypatch.setattr(module, "available_memory", lambda: 4 * array.nbytes)
    assert suitable_window(array) == 0
    monkeypatch.setattr(module, "available_memory", lambda: array.nbytes)
    assert suitable_window(array) == 12
    assert suitable_window(ArrayView(array, np.arange(90))) == 12
    assert suitable_window(np.array(array)) == 0
