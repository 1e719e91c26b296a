"""BlockReader returns what indexing returns, and leaves nothing in the page cache."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vaelab.data.arrays import ArrayView, ConcatArray, PixelArray
from vaelab.data.blocks import BlockReader

needs_preadv = pytest.mark.skipif(not hasattr(os, "preadv"), reason="needs preadv")
SHAPE = (9, 8, 1)
COUNT = 60


def whole(count: int = COUNT) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the array in one file and in three shards."""
    folder = tmp_path_factory.mktemp("arrays")
    np.save(folder / "whole.npy", whole())
    for i, part in enumerate(np.split(whole(), [23, 46])):
        np.save(folder / f"shard-{i}.npy", part)
    return folder


def mapped(folder: Path, name: str = "whole.npy") -> Any:
    return np.load(folder / name, mmap_mode="r")


def sharded(folder: Path) -> ConcatArray:
    return ConcatArray([mapped(folder, f"shard-{i}.npy") for i in range(3)])


def mixed(folder: Path) -> ConcatArray:
    first, second, third = sharded(folder).arrays
    return ConcatArray([first, np.array(second), np.empty((0, *SHAPE), np.uint8), third])


PLACES: dict[str, Callable[[Path], PixelArray]] = {
    "memory": lambda _: whole(),
    "map": mapped,
    "shards": sharded,
    "mixed": mixed,
    "view": lambda folder: mapped(folder)[:],
}


def read(array: PixelArray, start: int, stop: int, room: int = 0, **sizes: int) -> NDArray[np.uint8]:
    out = np.full((stop - start + room, *array.shape[1:]), 77, np.uint8)
    with BlockReader(array, **sizes) as reader:
        reader.read(start, stop, out)
    assert (out[stop - start :] == 77).all()
    return out[: stop - start]


def same(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(found, expected, strict=True)


piece_bytes, gap_bytes = st.sampled_from([1, 72, 500, 1 << 23]), st.sampled_from([0, 72, 300, 1 << 15])
borders = st.tuples(st.integers(0, COUNT), st.integers(0, COUNT)).map(sorted)


@pytest.mark.parametrize("place", PLACES)
@given(borders, piece_bytes, st.integers(0, 3))
def test_a_block_equals_a_slice(folder: Path, place: str, border: list[int], piece: int, room: int) -> None:
    start, stop = border
    same(read(PLACES[place](folder), start, stop, room, piece_bytes=piece), whole()[start:stop])


@pytest.mark.parametrize("place", PLACES)
@given(st.sets(st.integers(0, COUNT - 1)), borders, piece_bytes, gap_bytes)
def test_a_block_of_ascending_rows(
    folder: Path, place: str, chosen: set[int], border: list[int], piece: int, gap: int
) -> None:
    rows = np.array(sorted(chosen), np.int64)
    start, stop = (min(end, len(rows)) for end in border)
    found = read(ArrayView(PLACES[place](folder), rows), start, stop, piece_bytes=piece, gap_bytes=gap)
    same(found, whole()[rows[start:stop]])


@pytest.mark.parametrize("place", PLACES)
@given(st.lists(st.integers(-COUNT, COUNT - 1)))
def test_a_block_of_any_rows(folder: Path, place: str, chosen: list[int]) -> None:
    for rows in (np.array(chosen, np.int64), np.sort(np.array([*chosen, 3, 3, 5], np.int64))):
        for own in (rows, rows[rows >= 0]):
            same(read(ArrayView(PLACES[place](folder), own), 0, len(own)), whole()[own])
    same(read(ArrayView(PLACES[place](folder), np.array([3, 3, 5])), 0, 3), whole()[[3, 3, 5]])


def test_rows_out_of_range(folder: Path) -> None:
    for place in PLACES.values():
        for rows in ([58, 60], [-61, 3], [60]):
            with pytest.raises(IndexError):
                read(ArrayView(place(folder), np.array(rows)), 0, len(rows))
        for start, stop in ((-1, 4), (4, 61), (5, 4)):
            with pytest.raises(IndexError):
                BlockReader(place(folder)).read(start, stop, whole())


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((4, *SHAPE), np.uint8),
        np.zeros((5, 8, 9, 1), np.uint8),
        np.zeros((5, 72), np.uint8),
        np.zeros((10, *SHAPE), np.uint8)[::2],
        np.broadcast_to(np.uint8(0), (5, *SHAPE)),
        np.frombuffer(bytes(5 * 72), np.uint8).reshape(5, *SHAPE),
    ],
    ids=["short", "other shape", "flat", "strided", "broadcast", "read-only"],
)
def test_unsuitable_out(folder: Path, out: NDArray[np.uint8]) -> None:
    for place in PLACES.values():
        with BlockReader(place(folder)) as reader, pytest.raises(ValueError):
            reader.read(0, 5, out)


def test_other_dtypes() -> None:
    with pytest.raises(ValueError):
        BlockReader(np.zeros((2, 2), np.float32))


# -- which file it is -------------------------------------------------------------------------------------------------


@needs_preadv
def test_only_maps_as_they_were_opened_are_read_from_their_file(folder: Path) -> None:
    array = mapped(folder)
    rows = np.arange(0, 40, 3)
    direct: list[tuple[PixelArray, int]] = [(array, 1), (ArrayView(array, rows), 1)]
    direct += [(sharded(folder), 3), (ArrayView(sharded(folder), rows), 3), (mixed(folder), 2)]
    views = [array[:], array[3:], array[::2], array.view(), array.reshape(30, 18, 8, 1), array.T, array[[4, 2]]]
    views += [np.asarray(array), array[3:].view(np.memmap), np.load(folder / "whole.npy", mmap_mode="c"), whole()]
    for given_, num_files in direct + [(view, 0) for view in views]:
        with BlockReader(given_) as reader:
            assert reader.num_files == num_files
        same(read(given_, 1, len(given_)), np.asarray(given_)[1:])


@needs_preadv
def test_a_replaced_file_is_indexed(folder: Path, tmp_path: Path) -> None:
    path, other = tmp_path / "pixels.npy", tmp_path / "other.npy"
    np.save(path, whole())
    array = mapped(tmp_path, "pixels.npy")
    for replacement in (255 - whole(), whole(5)):
        np.save(other, replacement)
        other.replace(path)
        assert BlockReader(array).num_files == 0
        same(read(array, 0, COUNT), whole())
    path.unlink()
    same(read(array, 0, COUNT), whole())


@needs_preadv
def test_a_file_truncated_while_it_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", whole())
    with BlockReader(mapped(tmp_path, "pixels.npy")) as reader:
        os.truncate(tmp_path / "pixels.npy", 3000)
        with pytest.raises(OSError):
            reader.read(0, COUNT, whole())


def test_without_preadv_everything_is_indexed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "preadv", raising=False)
    assert BlockReader(sharded(folder)).num_files == 0
    same(read(ArrayView(sharded(folder), np.arange(0, 60, 7)), 1, 7), whole()[7:49:7])


@needs_preadv
def test_without_fadvise(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "posix_fadvise", refuse, raising=False)
    same(read(mapped(folder), 3, 40), whole()[3:40])
    monkeypatch.delattr(os, "posix_fadvise")
    same(read(mapped(folder), 3, 40), whole()[3:40])


@needs_preadv
def test_short_reads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, parts, at: preadv(file, [parts[0][:50]], at))
    same(read(sharded(folder), 3, 55), whole()[3:55])


def test_a_closed_reader(folder: Path) -> None:
    reader = BlockReader(mapped(folder))
    reader.close()
    reader.close()
    with pytest.raises(ValueError):
        reader.read(0, 1, whole())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_files_are_closed_with_the_reader(folder: Path) -> None:
    def num_open() -> int:
        return sum("shard-" in str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink())

    array = sharded(folder)
    before = num_open()  # of the maps
    reader = BlockReader(array)
    assert num_open() == before + 3
    reader.close()
    assert num_open() == before
    reader = BlockReader(array)
    assert num_open() == before + 3
    del reader
    assert num_open() == before


def test_threads_read_at_the_same_time(folder: Path) -> None:
    array, results = sharded(folder), [np.zeros((COUNT, *SHAPE), np.uint8) for _ in range(4)]
    with BlockReader(array, piece_bytes=100) as reader:

        def work(out: NDArray[np.uint8]) -> None:
            for _ in range(20):
                reader.read(0, COUNT, out)

        threads = [threading.Thread(target=work, args=(out,)) for out in results]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for out in results:
        same(out, whole())


# -- memory -----------------------------------------------------------------------------------------------------------


def resident() -> int:
    """Return the resident bytes of mapped files (on tmpfs they count as shared)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssFile", "RssShmem")))


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return (first byte, byte after the last) of the ranges that the system is asked to drop."""
    ranges: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, begin, length, __: ranges.append((begin, begin + length)), False)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    return ranges


@needs_preadv
@pytest.mark.parametrize("rows", [None, [0, 1, 2, 30, 31, 33, 59], [20, 40], list(range(60))], ids=str)
def test_pages_that_were_read_are_dropped(folder: Path, dropped: list[tuple[int, int]], rows: list[int] | None) -> None:
    array = mapped(folder)
    chosen = array if rows is None else ArrayView(array, np.array(rows))
    same(read(chosen, 0, len(chosen), piece_bytes=500, gap_bytes=72, page_bytes=8), np.asarray(chosen))
    there = {(byte - 128) // 72 for begin, end in dropped for byte in range(begin, end)}
    assert there >= set(range(COUNT) if rows is None else rows)
    assert max(there) == (59 if rows is None else rows[-1])


@needs_preadv
def test_readahead_is_dropped_unless_it_is_read_next(folder: Path, dropped: list[tuple[int, int]]) -> None:
    found = []
    with BlockReader(mapped(folder), page_bytes=8, readahead_bytes=10 * 72) as reader:
        for start, stop in ((0, 5), (5, 8), (11, 14), (55, 60), (20, 21), (2, 3)):
            reader.read(start, stop, whole())
            found.append([tuple((byte - 128) // 72 for byte in both) for both in dropped])
            dropped.clear()
    assert found == [
        [(0, 5)], [(5, 8)], [(8, 11), (11, 14)], [(14, 24), (55, 60)], [(20, 21)], [(21, 31), (2, 3)]
    ]  # fmt: skip


@needs_preadv
def test_keep_cached_drops_nothing(folder: Path, dropped: list[tuple[int, int]]) -> None:
    with BlockReader(mapped(folder), keep_cached=True) as reader:
        for start in (0, 40, 20):
            out = whole()
            reader.read(start, start + 10, out)
            np.testing.assert_array_equal(out[:10], mapped(folder)[start : start + 10])
    assert dropped == []


@needs_preadv
def test_huge_pages_are_dropped_with_the_next_piece(folder: Path, dropped: list[tuple[int, int]]) -> None:
    with BlockReader(mapped(folder), piece_bytes=20 * 72, page_bytes=1000) as reader:
        reader.read(0, COUNT, whole())
    assert dropped == [(0, 1568), (1000, 3008), (3000, 4448)]


@needs_preadv
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("selection", ["all", "half", "few"])
def test_no_page_of_the_map_becomes_resident(tmp_path: Path, selection: str) -> None:
    np.save(tmp_path / "pixels.npy", np.ones((16 << 10, 64, 64, 1), np.uint8))
    array = mapped(tmp_path, "pixels.npy")
    rows = np.random.default_rng(0).random(len(array)) < {"all": 2, "half": 0.5, "few": 0.1}[selection]
    chosen = array if selection == "all" else ArrayView(array, np.flatnonzero(rows))
    out, before = np.empty((1000, 64, 64, 1), np.uint8), resident()
    with BlockReader(chosen) as reader:
        for start in range(0, len(chosen), 1000):
            reader.read(start, min(start + 1000, len(chosen)), out)
    assert resident() - before < 4 << 20
    for start in range(0, len(array), 1000):
        np.copyto(out[: len(array) - start], array[start : start + 1000])
    assert resident() - before > 48 << 20  # indexing does make it resident
