"""The loader: the order of batches, shuffle buffers read ahead, the shards of several ranks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vaelab.data.arrays import ArrayView
from vaelab.data.images import Images
from vaelab.data.loader import Batches, Shuffle, choose_shuffle_buffer
from vaelab.system.distributed import ProcessGroup

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


@given(count=sizes, shuffle_buffer=st.integers(0, 400), seed=st.integers(0, 9), epoch=st.integers(0, 3))
def test_an_epoch_sees_every_image_once_and_a_buffer_holds_its_blocks(
    count: int, shuffle_buffer: int, seed: int, epoch: int
):
    order = Shuffle(count, seed, shuffle_buffer, row_bytes=64)
    parts = [order.rows(epoch, i) for i in range(order.num_buffers)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
    assert np.diff(order.starts(epoch)).tolist() == [len(part) for part in parts]
    if order.num_buffers > 1:
        assert max(map(len, parts)) <= shuffle_buffer
        for i, part in enumerate(parts):
            assert set((part // order.block_rows).tolist()) == set(order.blocks(epoch, i).tolist())


def test_a_buffer_of_all_images_equals_no_buffer():
    assert Shuffle(50, 3).rows(2, 0).tolist() == Shuffle(50, 3, 50).rows(2, 0).tolist()
    assert Shuffle(50, 3).rows(2, 0).tolist() != Shuffle(50, 3).rows(1, 0).tolist()


def test_blocks_are_a_megabyte_and_a_buffer_holds_at_least_sixteen():
    assert Shuffle(10**6, 0, 10**5, row_bytes=1024).block_rows == 1024
    assert Shuffle(10**6, 0, 1600, row_bytes=1024).block_rows == 100


@settings(deadline=None, max_examples=40)
@given(
    count=sizes,
    batch_size=st.integers(1, 40),
    shuffle_buffer=st.integers(0, 120),
    size=st.integers(1, 5),
    seed=st.integers(0, 3),
)
@pytest.mark.slow
def test_the_shards_of_all_ranks_are_the_batches_of_one(
    count: int, batch_size: int, shuffle_buffer: int, size: int, seed: int
):
    images = Images(numbered(count))
    one, *many = (
        Batches(images, batch_size, seed, CPU, shuffle_buffer=shuffle_buffer, group=group)
        for group in (ProcessGroup(), *(ProcessGroup(rank, size) for rank in range(size)))
    )
    for step in range(2 * one.steps_per_epoch + 1):
        expected = numbers(one.batch(step).pixels)
        assert expected == one.indices(step).tolist()
        found = []
        for batches in many:
            shard = batches.shard(step)
            assert shard.total == len(expected)
            pixels = batches.batch(step).pixels
            assert len(pixels) == len(shard.rows)  # a rank with an empty shard gets a black image
            found += numbers(pixels)[: len(shard)]
        assert found == expected


def test_shuffle_buffers_of_a_map(tmp_path: Path):
    array = mapped(tmp_path, 500)
    batches = Batches(Images(array), 7, 0, CPU, shuffle_buffer=100)
    plain = Batches(Images(numbered(500)), 7, 0, CPU, shuffle_buffer=100)
    for step in range(2 * batches.steps_per_epoch):
        assert numbers(batches.batch(step).pixels) == plain.indices(step).tolist()
    chosen = np.arange(0, 500, 3)
    some = Batches(Images(ArrayView(array, chosen)), 7, 0, CPU, shuffle_buffer=50)
    assert numbers(some.batch(4).pixels) == chosen[some.indices(4)].tolist()


def test_any_step_can_be_the_first(tmp_path: Path):
    array = mapped(tmp_path, 200)
    forwards = Batches(Images(array), 9, 1, CPU, shuffle_buffer=64)
    expected = [numbers(forwards.batch(step).pixels) for step in range(50)]
    for step in (49, 0, 23, 22, 45):
        assert numbers(Batches(Images(array), 9, 1, CPU, shuffle_buffer=64).batch(step).pixels) == expected[step]
        assert numbers(forwards.batch(step).pixels) == expected[step]


@pytest.mark.parametrize("of", ["neighbours", "classes"])
def test_a_shuffle_buffer_mixes_sorted_images(of: str):
    """Batches hold about as many images of each class as with a full shuffle."""
    count, num_classes, batch_size = 20_000, 10, 50
    labels = np.arange(count) * num_classes // count

    def spread(shuffle_buffer: int) -> float:
        order = Shuffle(count, 0, shuffle_buffer, row_bytes=1 << 14)  # blocks of 64 images
        rows = np.concatenate([order.rows(0, i) for i in range(order.num_buffers)]).reshape(-1, batch_size)
        if of == "classes":
            counts = np.stack([(labels[rows] == label).sum(1) for label in range(num_classes)])
            return float(counts.std())
        return float(np.mean([len(set((row // 64).tolist())) for row in rows]))

    whole, buffered, barely = spread(0), spread(count // 4), spread(64 * 2)
    assert buffered == pytest.approx(whole, rel=0.25)
    assert abs(barely - whole) > abs(buffered - whole)


def test_only_a_map_larger_than_memory_gets_a_shuffle_buffer(tmp_path: Path):
    array = mapped(tmp_path, 100)
    assert choose_shuffle_buffer(array, free_bytes=4 * array.nbytes) == 0
    assert choose_shuffle_buffer(array, free_bytes=array.nbytes) == 12
    assert choose_shuffle_buffer(ArrayView(array, np.arange(90)), free_bytes=array.nbytes) == 12
    assert choose_shuffle_buffer(np.array(array), free_bytes=1) == 0
