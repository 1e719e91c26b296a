"""Cached pictures: decoded once, whole or absent, byte-identical however often the work was killed."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from joblib.externals.loky import wrap_non_picklable_objects
from numpy.typing import NDArray
from pydantic import BaseModel

from vaelab.data import cache as cache_module
from vaelab.data import decode as decoding
from vaelab.data import decode_pool, picture_cache
from vaelab.data.arrays import ArrayView, ConcatArray
from vaelab.data.contents import Tally
from vaelab.data.decode import ImageRef, ResizePolicy
from vaelab.data.images import Images
from vaelab.data.journal import JOURNAL, split_rows
from vaelab.data.memos import memoise
from vaelab.data.npy import PixelFiles
from vaelab.data.picture_cache import (
    COLUMNS,
    MANIFEST,
    RECORDS,
    CachedPictures,
    PictureFiles,
    UnreadablePictures,
    cache_pictures,
    check_items,
)
from vaelab.data.pictures import encode_png
from vaelab.system.progress import Silent

RESIZE = ResizePolicy(9, 8, 1)
PIXELS = "pixels.npy"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vaelab" / "images"


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_cache, "MOST_PER_PART", 4)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five pictures to a file."""
    monkeypatch.setattr(picture_cache, "SHARD_BYTES", 5 * 72 + 71)


def picture(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (9, 8, 1), dtype=np.uint8)


def write(folder: Path, count: int) -> list[ImageRef]:
    folder.mkdir(exist_ok=True)
    for i in range(count):
        (folder / f"{i:03d}.png").write_bytes(encode_png(picture(i)))
    return [(str(folder), f"{i:03d}.png") for i in range(count)]


def expected(numbers: Any) -> NDArray[np.uint8]:
    return np.stack([picture(i) for i in numbers])


def make(items: list[ImageRef], key: str = "one", **more: Any) -> CachedPictures:
    return cache_pictures("mine train", {"key": key}, lambda: PictureFiles(items, RESIZE, **more))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pictures that are decoded in this process."""
    seen: list[str] = []
    read = decoding.read_item

    def note(item: ImageRef) -> bytes:
        seen.append(item[1])
        return read(item)

    monkeypatch.setattr(decoding, "read_item", note)
    return seen


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# -- the content of an entry -------------------------------------------------------------------------------------------


def test_a_cache_entry_holds_the_pixels_and_is_made_once(tmp_path: Path, cache: Path, decoded: list[str]) -> None:
    items = write(tmp_path / "in", 10)
    labels = np.arange(10)
    cached = make(items, columns={"labels": labels}, facts={"names": ["ä"]})
    np.testing.assert_array_equal(cached.pixels, expected(range(10)))
    assert isinstance(cached.pixels, np.memmap)
    assert cached.pixels.flags.writeable is False
    assert cached.columns["labels"].tolist() == labels.tolist()
    assert (cached.facts, cached.left_out, cached.loss, len(cached)) == ({"names": ["ä"]}, [], "", 10)
    assert cached.digest == Images(expected(range(10))).fingerprint()
    assert sorted(path.name for path in cache.iterdir()) == [cached.folder.name, f"{cached.folder.name}.lock"]
    assert sorted(files(cached.folder)) == ["columns.npz", MANIFEST, PIXELS, RECORDS]
    assert len(decoded) == 10

    def fail() -> PictureFiles:
        raise AssertionError("asked again")

    again = cache_pictures("mine train", {"key": "one"}, fail)
    np.testing.assert_array_equal(again.pixels, cached.pixels)
    assert (again.digest, len(decoded)) == (cached.digest, 10)


def test_the_pixels_are_an_array_file_like_any_other(tmp_path: Path) -> None:
    cached = make(write(tmp_path / "in", 5))
    np.testing.assert_array_equal(np.load(cached.folder / PIXELS), expected(range(5)), strict=True)


def test_every_part_of_the_key_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = write(tmp_path / "in", 2)
    folders = {make(items, key=key).folder for key in ("one", "two", "one")}
    assert len(folders) == 2
    monkeypatch.setattr(picture_cache, "VERSION", picture_cache.VERSION + 1)
    assert make(items).folder not in folders


def test_unreadable_pictures_are_left_out_with_their_rows(tmp_path: Path, small_parts: None) -> None:
    items = write(tmp_path / "in", 11)
    (tmp_path / "in" / "002.png").write_bytes(b"")
    (tmp_path / "in" / "009.png").write_bytes(b"text")
    cached = make(items, columns={"labels": np.arange(11)})
    kept = [0, 1, 3, 4, 5, 6, 7, 8, 10]
    np.testing.assert_array_equal(np.asarray(cached.pixels), expected(kept))
    assert isinstance(cached.pixels, ArrayView)
    assert cached.columns["labels"].tolist() == kept
    assert cached.left_out == [("002.png", "empty file"), ("009.png", "not a picture, or damaged at its beginning")]
    assert cached.loss == "2 of 11 pictures cannot be read (first: 002.png: empty file)"
    assert cached.digest == Images(expected(kept)).fingerprint()


def test_not_one_readable_picture_is_an_error_that_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    items = write(tmp_path / "in", 3)
    for _, name in items:
        (tmp_path / "in" / name).write_bytes(b"")
    with pytest.raises(UnreadablePictures, match=r"^3 of 3 pictures cannot be read \(first: 000\.png: empty file\)$"):
        make(items)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_a_strict_source_is_refused_until_the_picture_is_mended_and_the_rest_is_kept(
    tmp_path: Path, small_parts: None, decoded: list[str]
) -> None:
    items = write(tmp_path / "in", 10)
    (tmp_path / "in" / "005.png").write_bytes(b"half")
    with pytest.raises(UnreadablePictures, match=r"1 of 10 pictures cannot be read \(first: 005\.png"):
        make(items, strict=True)
    decoded.clear()
    with pytest.raises(UnreadablePictures):
        make(items, strict=True)
    assert decoded == []
    write(tmp_path / "in", 6)
    np.testing.assert_array_equal(make(items, strict=True).pixels, expected(range(10)))
    assert decoded == ["004.png", "005.png", "006.png", "007.png"]


def test_a_cache_entry_without_a_picture_is_made_again_when_that_is_mended(tmp_path: Path, decoded: list[str]) -> None:
    items = write(tmp_path / "in", 4)
    (tmp_path / "in" / "001.png").unlink()
    assert make(items).left_out == [("001.png", "No such file or directory")]
    decoded.clear()
    assert len(make(items)) == 3
    assert decoded == ["001.png"]
    write(tmp_path / "in", 2)
    assert len(make(items)) == 4


@pytest.mark.parametrize("damage", ["facts", "pixels", "columns", "half", "hollow", "half columns", "empty"])
def test_a_damaged_cache_entry_is_made_again(tmp_path: Path, damage: str) -> None:
    items = write(tmp_path / "in", 6)
    folder = make(items).folder
    before = files(folder)
    match damage:
        case "facts":
            (folder / MANIFEST).write_text('{"digest": ')
        case "half":
            (folder / PIXELS).write_bytes(before[PIXELS][:-100])
        case "hollow":
            (folder / PIXELS).write_bytes(b"")
        case "half columns":
            (folder / COLUMNS).write_bytes(before[COLUMNS][:-10])
        case "empty":
            for path in folder.iterdir():
                path.unlink()
        case _:
            (folder / f"{damage}.{'npy' if damage == 'pixels' else 'npz'}").unlink()
    assert make(items).folder == folder
    assert files(folder) == before


class Size(BaseModel):
    side: int


def test_facts_are_found_out_once_and_kept_if_they_are_final() -> None:
    asked = []

    def find_out(may_keep: bool) -> tuple[Size, bool]:
        asked.append(may_keep)
        return Size(side=64), may_keep

    for key, may_keep in (("a", True), ("a", True), ("b", False), ("b", False)):
        assert memoise({"key": key}, Size, lambda may_keep=may_keep: find_out(may_keep)).side == 64
    assert asked == [True, False, False]


# -- in several files -------------------------------------------------------------------------------------------------

SHARDS = [f"pixels-0000{number}.npy" for number in range(3)]


def test_a_large_pack_lies_in_several_files(tmp_path: Path, small_shards: None) -> None:
    cached = make(write(tmp_path / "in", 12), columns={"labels": np.arange(12)})
    assert sorted(files(cached.folder)) == ["columns.npz", MANIFEST, *SHARDS, RECORDS]
    for name, rows in zip(SHARDS, (range(5), range(5, 10), range(10, 12)), strict=True):
        np.testing.assert_array_equal(np.load(cached.folder / name, mmap_mode="r"), expected(rows), strict=True)
    assert isinstance(cached.pixels, ConcatArray)
    assert all(isinstance(shard, np.memmap) and not shard.flags.writeable for shard in cached.pixels.arrays)
    np.testing.assert_array_equal(np.asarray(cached.pixels), expected(range(12)), strict=True)
    assert cached.digest == Images(cached.pixels).fingerprint() == Images(expected(range(12))).fingerprint()


@pytest.mark.parametrize(("count", "names"), [(5, [PIXELS]), (6, SHARDS[:2]), (10, SHARDS[:2]), (11, SHARDS)])
def test_no_file_has_more_than_it_may(tmp_path: Path, small_shards: None, count: int, names: list[str]) -> None:
    assert sorted(files(make(write(tmp_path / "in", count)).folder)) == ["columns.npz", MANIFEST, *names, RECORDS]


def test_a_small_pack_is_what_it_was_before_there_were_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = write(tmp_path / "in", 12)
    one = make(items)
    facts = json.loads((one.folder / MANIFEST).read_text())
    assert sorted(facts) == ["check", "checksums", "content", "digest", "shape", "title"]
    monkeypatch.setattr(picture_cache, "SHARD_BYTES", 360)
    before = files(one.folder)
    assert isinstance(make(items).pixels, np.memmap)  # opened as it is
    several = make(items, key="two")
    assert several.digest == one.digest
    monkeypatch.setattr(picture_cache, "SHARD_BYTES", 1 << 32)
    assert isinstance(make(items, key="two").pixels, ConcatArray)
    assert files(one.folder) == before


def test_pictures_left_out_of_shards(tmp_path: Path, small_shards: None, small_parts: None) -> None:
    items = write(tmp_path / "in", 12)
    for row in (4, 5, 11):
        (tmp_path / "in" / f"{row:03d}.png").write_bytes(b"")
    cached = make(items, columns={"labels": np.arange(12)})
    kept = [0, 1, 2, 3, 6, 7, 8, 9, 10]
    assert [name for name, _ in cached.left_out] == ["004.png", "005.png", "011.png"]
    assert isinstance(cached.pixels, ArrayView)
    assert isinstance(cached.pixels.array, ConcatArray)
    np.testing.assert_array_equal(np.asarray(cached.pixels), expected(kept))
    assert cached.columns["labels"].tolist() == kept
    assert cached.digest == Images(expected(kept)).fingerprint()


@pytest.mark.parametrize("stop", [2, 7, 9, 10, 11])
def test_shards_are_gone_on_with(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, small_shards: None, small_parts: None, stop: int
) -> None:
    items = write(tmp_path / "in", 12)
    whole = files(make(items, key="whole").folder)
    with monkeypatch.context() as patch:
        stop_after(patch, stop, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            make(items)
    (journal,) = cache.glob(f"*.part/{JOURNAL}")
    borders = [json.loads(line)[:2] for line in journal.read_text().splitlines()]
    assert borders == [part for part in ([0, 4], [4, 5], [5, 9], [9, 10], [10, 12]) if part[1] <= stop]
    decoded: list[str] = []
    with monkeypatch.context() as patch:
        read = decoding.read_item
        patch.setattr(decoding, "read_item", lambda item: (decoded.append(item[1]), read(item))[1])
        assert files(make(items).folder) == whole
    assert decoded == [f"{i:03d}.png" for i in range(borders[-1][1] if borders else 0, 12)]


@pytest.mark.parametrize("change", ["other layout", "first", "last", "half"])
def test_a_journal_of_other_shards_is_not_believed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, small_parts: None, change: str
) -> None:
    items = write(tmp_path / "in", 12)
    monkeypatch.setattr(picture_cache, "SHARD_BYTES", 72 * (3 if change == "other layout" else 5))
    with monkeypatch.context() as patch:
        stop_after(patch, 9, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            make(items)
    (making,) = cache.glob("*.part")
    monkeypatch.setattr(picture_cache, "SHARD_BYTES", 72 * 5)
    match change:
        case "first" | "last":
            (making / SHARDS[0 if change == "first" else 2]).unlink()
        case "half":
            os.truncate(making / SHARDS[1], 200)
    cached = make(items)
    np.testing.assert_array_equal(np.asarray(cached.pixels), expected(range(12)))
    assert sorted(files(cached.folder)) == ["columns.npz", MANIFEST, *SHARDS, RECORDS]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("damage", ["missing", "hollow", "half", "of another shape"])
def test_a_damaged_shard_makes_the_pack_again(tmp_path: Path, small_shards: None, number: int, damage: str) -> None:
    items = write(tmp_path / "in", 12)
    folder = make(items).folder
    before, path = files(folder), folder / SHARDS[number]
    match damage:
        case "missing":
            path.unlink()
        case "hollow":
            path.write_bytes(b"")
        case "half":
            path.write_bytes(before[path.name][:-1])
        case _:
            np.save(path, np.zeros((5, 8, 9, 1), np.uint8))
    assert make(items).folder == folder
    assert files(folder) == before


def test_where_a_row_lies(tmp_path: Path) -> None:
    large = PixelFiles(tmp_path, (400_000, 64, 64, 3), picture_cache.SHARD_BYTES)
    assert (large.num_files, large.rows_per_file, large.row_bytes) == (2, 349_525, 12_288)
    assert large.locate(349_524) == (str(tmp_path / SHARDS[0]), 128 + 349_524 * 12_288)
    assert large.locate(349_525) == (str(tmp_path / SHARDS[1]), 128)
    assert PixelFiles(tmp_path, (4, 64, 64, 3), 1).num_files == 4  # a row at least
    small = PixelFiles(tmp_path, (349_525, 64, 64, 3), picture_cache.SHARD_BYTES)
    assert small.locate(349_524) == (str(tmp_path / PIXELS), 128 + 349_524 * 12_288)


# -- interrupted ------------------------------------------------------------------------------------------------------


def stop_after(monkeypatch: pytest.MonkeyPatch, count: int, error: BaseException) -> None:
    read, counter = decoding.read_item, itertools.count()

    def interrupt(item: ImageRef) -> bytes:
        if next(counter) == count:
            raise error
        return read(item)

    monkeypatch.setattr(decoding, "read_item", interrupt)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_what_is_done_stays_done(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, small_parts: None, error: BaseException
) -> None:
    items = write(tmp_path / "in", 18)
    whole = files(make(items, key="whole").folder)
    with monkeypatch.context() as patch:
        stop_after(patch, 10, error)
        with pytest.raises(type(error)):
            make(items)
    (making,) = cache.glob("*.part")
    assert len((making / JOURNAL).read_text().splitlines()) == 2
    seen: list[str] = []
    with monkeypatch.context() as patch:
        read = decoding.read_item
        patch.setattr(decoding, "read_item", lambda item: (seen.append(item[1]), read(item))[1])
        cached = make(items)
    assert seen == [f"{i:03d}.png" for i in range(8, 18)]
    assert files(cached.folder) == whole
    assert not making.exists()


def test_half_a_line_of_the_journal_and_lines_of_nonsense(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, small_parts: None, decoded: list[str]
) -> None:
    items = write(tmp_path / "in", 18)
    whole = files(make(items, key="whole").folder)
    for stop in (9, 5):  # is killed twice, each time in the middle of a line
        with monkeypatch.context() as patch:
            stop_after(patch, stop, KeyboardInterrupt())
            with pytest.raises(KeyboardInterrupt):
                make(items)
        (journal,) = cache.glob(f"*.part/{JOURNAL}")
        with journal.open("a") as file:
            file.write("[12, 1")
    assert [json.loads(line)[:2] for line in journal.read_text().splitlines()[:-1]] == [[0, 4], [4, 8], [8, 12]]
    decoded.clear()
    assert files(make(items).folder) == whole
    assert decoded == [f"{i:03d}.png" for i in range(12, 18)]


def test_a_journal_without_its_pixels_is_not_believed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, small_parts: None
) -> None:
    items = write(tmp_path / "in", 9)
    with monkeypatch.context() as patch:
        stop_after(patch, 6, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            make(items)
    (pixels,) = cache.glob(f"*.part/{PIXELS}")
    pixels.unlink()
    np.testing.assert_array_equal(make(items).pixels, expected(range(9)))


@given(
    st.integers(1, 60),
    st.lists(st.tuples(st.integers(0, 59), st.integers(1, 9)), max_size=6),
    st.integers(1, 9),
    st.none() | st.integers(1, 70),
)
def test_the_parts_fill_the_gaps(count: int, lengths: list[tuple[int, int]], size: int, border: int | None) -> None:
    done: list[Any] = []
    for start, length in lengths:
        stop = min(start + length, count)
        if start < stop and all(stop <= begin or end <= start for begin, end, _ in done):
            done.append((start, stop, []))
    todo = list(split_rows(count, done, size, border))
    rows = [row for start, stop, *_ in [*todo, *done] for row in range(start, stop)]
    assert sorted(rows) == list(range(count))
    assert all(0 < stop - start <= size for start, stop in todo)
    assert border is None or all(start // border == (stop - 1) // border for start, stop in todo)
    assert [stop - start for start, stop in split_rows(600, [], 128)] == [8, 16, 32, 64, 128, 128, 128, 96]


PROGRAM = """
import sys
from pathlib import Path
from vaelab.data import picture_cache
from vaelab.data import decode_pool
from vaelab.data.decode import ResizePolicy
decode_pool.ALONE_SECONDS, picture_cache.MOST_PER_PART = 0.0, 8
decode_pool.default_threads = lambda: 2
folder, count = sys.argv[1], int(sys.argv[2])
items = [(folder, f"{i % 200:03d}.png") for i in range(count)]
source = picture_cache.PictureFiles(items, ResizePolicy(9, 8, 1))
cached = picture_cache.cache_pictures("mine train", {"key": sys.argv[3]}, lambda: source)
print(cached.digest)
"""


def start(folder: Path, count: int, key: str = "one") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), str(count), key],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def parts_done(cache: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in cache.glob(f"*.part/{JOURNAL}"))


def alive(group: int) -> bool:
    """Whether a process of a group still runs."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, found = stat.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(found) == group and state != "Z":
            return True
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="wants /proc to see the processes left")
def test_killed_with_all_its_workers_at_work_it_goes_on_and_nothing_stays_behind(tmp_path: Path, cache: Path) -> None:
    count, before = 3000, 0
    write(tmp_path / "in", 200)
    for number in (signal.SIGKILL, signal.SIGINT):
        process = start(tmp_path / "in", count)
        wait_for(lambda before=before: parts_done(cache) > before + 20)
        if number is signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        _, err = process.communicate(timeout=30)
        if number is signal.SIGINT:
            assert err.count("Traceback") == 1, err  # no worker and no thread of the pool has its own
            assert err.rstrip().endswith("KeyboardInterrupt")
        wait_for(lambda process=process: not alive(process.pid), 10)
        before = parts_done(cache)
        assert before < count / 8
        (making,) = cache.glob("*.part")
        journal = (making / JOURNAL).read_text().splitlines()
        done = np.concatenate([np.arange(*json.loads(line)[:2]) for line in journal])
        rows = np.load(making / PIXELS, mmap_mode="r")[done]
        np.testing.assert_array_equal(rows, expected(done % 200))  # what the journal says is there
    out, err = start(tmp_path / "in", count).communicate(timeout=60)
    assert err == ""
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    pixels = expected(np.arange(count) % 200)
    np.testing.assert_array_equal(np.load(folder / PIXELS), pixels)
    assert out.strip() == Images(pixels).fingerprint()


def test_two_at_once_make_one_pack_and_the_second_waits(tmp_path: Path, cache: Path) -> None:
    write(tmp_path / "in", 200)
    processes = [start(tmp_path / "in", 1500) for _ in range(2)]
    results = [process.communicate(timeout=60) for process in processes]
    assert len({out for out, _ in results}) == 1
    assert [err for _, err in results] == ["", ""]
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1


def test_who_waits_sees_that_he_does(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items, labels, release = write(tmp_path / "in", 3), [], threading.Event()

    @contextmanager
    def note(label: str, _total: int | None) -> Iterator[Any]:
        labels.append(label)
        release.set()
        yield Silent()

    monkeypatch.setattr(picture_cache, "progress", note)
    monkeypatch.setattr(cache_module, "progress", note)
    lock = FileLock(cache / f"mine-{picture_cache._digest({'key': 'one'})}.lock")
    cache.mkdir(parents=True)

    def hold() -> None:
        with FileLock(lock.lock_file, thread_local=False):
            held.set()
            release.wait(10)

    held = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    make(items)
    thread.join()
    assert labels[0] == "waiting for another process that caches mine train"
    assert labels[1] == "caching mine train"


# -- processes, memory, disk ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shard_bytes", [1 << 32, 700])
def test_one_process_and_many_make_the_same_cache_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_parts: None, shard_bytes: int
) -> None:
    monkeypatch.setattr(picture_cache, "SHARD_BYTES", shard_bytes)
    items = write(tmp_path / "in", 30)
    (tmp_path / "in" / "007.png").write_bytes(b"broken")
    alone = make(items, key="alone")
    monkeypatch.setattr(decode_pool, "ALONE_SECONDS", 0.0)
    monkeypatch.setattr(decode_pool, "default_threads", lambda: 2)

    def fail(*_: object) -> None:
        raise AssertionError("decoded in this process")

    monkeypatch.setattr(decoding, "decode", fail)
    together = make(items, key="together")
    assert (PIXELS in files(together.folder)) == (shard_bytes > 700)
    assert {**files(alone.folder), MANIFEST: b""} == {**files(together.folder), MANIFEST: b""}
    assert (alone.left_out, alone.digest) == (together.left_out, together.digest)
    policy = ResizePolicy(64, 64, 3)
    assert check_items("pictures", items, policy)[0] == [(items[7], "not a picture, or damaged at its beginning")]


def test_an_error_in_a_worker_is_the_error_here(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_pool, "ALONE_SECONDS", 0.0)
    monkeypatch.setattr(decode_pool, "default_threads", lambda: 2)
    jobs = [(i, str(tmp_path / "none"), 0, write(tmp_path / "in", 1), RESIZE, str(tmp_path / "none")) for i in range(9)]
    with pytest.raises(FileNotFoundError, match="none"):
        list(decode_pool.run_jobs(decoding.decode_into, jobs))


def kill_itself(start: int, *_: object) -> tuple[int, list[Any]]:
    os.kill(os.getpid(), signal.SIGKILL)
    return start, []


def test_a_worker_that_the_system_kills_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_pool, "ALONE_SECONDS", 0.0)
    monkeypatch.setattr(decode_pool, "default_threads", lambda: 2)
    function = wrap_non_picklable_objects(kill_itself)  # travels by value: workers do not know the tests
    with pytest.raises(RuntimeError, match=r"was killed, most likely for want of memory; the same command goes on"):
        list(decode_pool.run_jobs(function, [(i,) for i in range(9)]))


MEMORY = """
import resource, sys
from vaelab.data import picture_cache
from vaelab.data import decode_pool
from vaelab.data.decode import ResizePolicy
decode_pool.default_threads = lambda: 1
for count in (10, 1000):
    items = [(sys.argv[1], "big.png")] * count
    source = picture_cache.PictureFiles(items, ResizePolicy(256, 256, 3))
    picture_cache.cache_pictures("mine train", {"key": count}, lambda: source)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory in Linux's units")
def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    (tmp_path / "big.png").write_bytes(encode_png(pixels))
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=True)
    few, many = (int(line) for line in done.stdout.splitlines())  # kB
    mapped = 1000 * 256 * 256 * 3 // 1024  # pages of the cache entry itself, which the system takes back when it likes
    assert many - few < mapped + 30_000


def test_a_disk_too_small_is_noticed_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str]
) -> None:
    items = write(tmp_path / "in", 10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 40_000_000))

    def large() -> PictureFiles:
        return PictureFiles(items, ResizePolicy(1024, 1024, 3))

    with pytest.raises(OSError, match=r"caching needs 0\.05 GB here and 0\.04 GB are free; free some space, or let"):
        cache_pictures("mine train", {"key": "large"}, large)
    assert decoded == []
    np.testing.assert_array_equal(make(items).pixels, expected(range(10)))  # of this size there is room


def test_a_cache_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = write(tmp_path / "in", 2)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(
        OSError, match=r"images: Not a directory; let \$XDG_CACHE_HOME name a folder that can be written"
    ):
        make(items)


def test_progress_counts_every_picture_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_parts: None) -> None:
    items = write(tmp_path / "in", 18)
    reports: dict[str, list[int]] = {}

    @contextmanager
    def note(label: str, total: int | None) -> Iterator[Any]:
        class Bar(Silent):
            def advance(self, amount: int) -> None:
                reports.setdefault(f"{label} {total}", []).append(amount)

        yield Bar()

    monkeypatch.setattr(picture_cache, "progress", note)
    with monkeypatch.context() as patch:
        stop_after(patch, 9, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            make(items)
    assert reports.pop("caching mine train 18") == [0, 4, 4]
    make(items)
    assert reports == {"caching mine train 18": [8, 4, 4, 2], "checking mine train 18": [18]}


def testevery_item_is_checked_as_it_would_be_cached(tmp_path: Path, small_parts: None) -> None:
    items = write(tmp_path / "in", 9)
    (tmp_path / "in" / "003.png").write_bytes(b"")
    (tmp_path / "in" / "008.png").unlink()
    assert check_items("pictures", items, RESIZE)[0] == [
        (items[3], "empty file"),
        (items[8], "No such file or directory"),
    ]
    assert check_items("pictures", [], RESIZE) == ([], Tally())
