"""Cached pictures: decoded once, whole or absent, byte-identical however often the work was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from cached import POLICY, ROW_BYTES, ProgressLog, expected, make, read_files, write_pictures
from hypothesis import given
from hypothesis import strategies as st
from joblib.externals.loky import wrap_non_picklable_objects

from vaelab.data import decode as decoding
from vaelab.data.arrays import ArrayView, ConcatArray
from vaelab.data.cache import COLUMNS, MANIFEST, find_entry, verify_entry
from vaelab.data.containers import UnreadablePictures
from vaelab.data.contents import Tally
from vaelab.data.decode import ResizePolicy
from vaelab.data.decode_pool import run_jobs
from vaelab.data.images import Images
from vaelab.data.journal import JOURNAL, Part, split_rows
from vaelab.data.picture_cache import PictureFiles, cache_pictures, check_items
from vaelab.data.pictures import encode_png
from vaelab.system.files import DiskFull

pytestmark = pytest.mark.usefixtures("cache")
PIXELS = "pixels.npy"
SHARDS = [f"pixels-0000{number}.npy" for number in range(3)]
SMALL: dict[str, Any] = {"max_per_part": 4, "shard_bytes": 5 * ROW_BYTES + ROW_BYTES - 1}
"""Parts of at most four pictures, and five pictures in a file."""


def refuse() -> PictureFiles:
    raise AssertionError("the source was asked for")


def skipped_names(cached: Any) -> list[tuple[str, str]]:
    return [(picture.name, picture.reason) for picture in cached.manifest.skipped]


# -- entries ----------------------------------------------------------------------------------------------------------


def test_an_entry_holds_the_pixels_and_is_made_once(tmp_path: Path, cache: Path) -> None:
    items = write_pictures(tmp_path / "in", 10)
    cached = make(items, columns={"labels": np.arange(10)}, metadata={"names": ["ä"]})
    np.testing.assert_array_equal(np.load(cached.folder / PIXELS), expected(range(10)), strict=True)
    np.testing.assert_array_equal(cached.pixels, expected(range(10)))
    assert isinstance(cached.pixels, np.memmap)
    assert cached.pixels.flags.writeable is False
    assert cached.columns["labels"].tolist() == list(range(10))
    assert (cached.manifest.metadata, cached.num_skipped, len(cached)) == ({"names": ["ä"]}, 0, 10)
    assert cached.describe_skipped() == cached.describe_recovered() == ""
    assert cached.digest == Images(expected(range(10))).fingerprint()
    assert sorted(path.name for path in cache.iterdir()) == [cached.folder.name, f"{cached.folder.name}.lock"]
    assert sorted(read_files(cached.folder)) == [COLUMNS, MANIFEST, PIXELS]
    again = cache_pictures("mine train", {"key": "one"}, refuse)
    np.testing.assert_array_equal(again.pixels, cached.pixels)
    assert again.digest == cached.digest
    assert make(items, key="two").folder != cached.folder


def test_unreadable_pictures_are_skipped_with_their_rows(tmp_path: Path, wording: Callable[[object], None]) -> None:
    items = write_pictures(tmp_path / "in", 12)
    broken = {4: b"", 5: b"text", 11: b""}
    for row, content in broken.items():
        (tmp_path / "in" / f"{row:03d}.png").write_bytes(content)
    for options in ({"max_per_part": 4}, SMALL):
        cached = make(items, str(options), columns={"labels": np.arange(12)}, **options)
        kept = [row for row in range(12) if row not in broken]
        np.testing.assert_array_equal(np.asarray(cached.pixels), expected(kept))
        assert isinstance(cached.pixels, ArrayView)
        assert isinstance(cached.pixels.array, ConcatArray) == (options is SMALL)
        assert cached.columns["labels"].tolist() == cached.rows.tolist() == kept
        assert [picture.row for picture in cached.manifest.skipped] == list(broken)
        assert (cached.num_skipped, cached.manifest.content.count) == (3, 9)
        assert cached.digest == Images(expected(kept)).fingerprint()
    wording(cached.describe_skipped())


def test_no_readable_picture_is_an_error_that_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    items = write_pictures(tmp_path / "in", 3)
    for _, name in items:
        (tmp_path / "in" / name).write_bytes(b"")
    with pytest.raises(UnreadablePictures) as raised:
        make(items)
    assert (raised.value.count, raised.value.total, raised.value.first) == (3, 3, ("000.png", "empty file"))
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_a_strict_source_keeps_what_was_decoded(tmp_path: Path, log: ProgressLog) -> None:
    items = write_pictures(tmp_path / "in", 10)
    (tmp_path / "in" / "005.png").write_bytes(b"half")
    for num_decoded in (10, 0):
        with pytest.raises(UnreadablePictures) as raised:
            make(items, strict=True, max_per_part=4)
        assert (raised.value.count, raised.value.total, raised.value.first[0]) == (1, 10, "005.png")
        assert log.num_decoded() == num_decoded
    write_pictures(tmp_path / "in", 6)
    np.testing.assert_array_equal(make(items, strict=True, max_per_part=4).pixels, expected(range(10)))
    assert log.num_decoded() == 4


@pytest.mark.parametrize("count", [5, 6, 10, 12])
def test_large_entries_have_several_files(tmp_path: Path, count: int) -> None:
    cached = make(write_pictures(tmp_path / "in", count), **SMALL)
    names = [PIXELS] if count == 5 else SHARDS[: -(-count // 5)]
    assert sorted(read_files(cached.folder)) == [COLUMNS, MANIFEST, *names]
    for name, first in zip(names, range(0, count, 5), strict=True):
        rows = range(first, min(first + 5, count))
        np.testing.assert_array_equal(np.load(cached.folder / name, mmap_mode="r"), expected(rows), strict=True)
    shards = cached.pixels.arrays if isinstance(cached.pixels, ConcatArray) else [cached.pixels]
    assert all(isinstance(shard, np.memmap) and not shard.flags.writeable for shard in shards)
    np.testing.assert_array_equal(np.asarray(cached.pixels), expected(range(count)), strict=True)
    assert cached.digest == Images(expected(range(count))).fingerprint()
    assert type(make([], **{**SMALL, "shard_bytes": 1}).pixels) is type(cached.pixels)  # opened as it was made


# -- interrupted ------------------------------------------------------------------------------------------------------


def interrupt(log: ProgressLog, items: Any, num_parts: int, error: BaseException | None = None, **options: Any) -> None:
    error = error or KeyboardInterrupt()
    log.interrupt(num_parts, error)
    with pytest.raises(type(error)):
        make(items, **{"max_per_part": 4, **options})


def borders_in(journal: Path) -> list[list[int]]:
    return [json.loads(line)[:2] for line in journal.read_text().splitlines()]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("num_parts", [1, 2, 4])
def test_finished_parts_are_kept(
    tmp_path: Path, cache: Path, log: ProgressLog, num_parts: int, error: BaseException
) -> None:
    items = write_pictures(tmp_path / "in", 12)
    (tmp_path / "in" / "003.png").write_bytes(b"broken")
    whole = read_files(make(items, key="whole", **SMALL).folder)
    interrupt(log, items, num_parts, error, **SMALL)
    (journal,) = cache.glob(f"*.part/{JOURNAL}")
    borders = [[0, 4], [4, 5], [5, 9], [9, 10], [10, 12]][:num_parts]
    assert borders_in(journal) == borders
    log.units.clear()
    assert read_files(make(items, **SMALL).folder) == whole
    assert log.num_decoded() == 12 - borders[-1][1]
    assert not journal.parent.exists()


def test_damaged_lines_of_the_journal_are_ignored(tmp_path: Path, cache: Path, log: ProgressLog) -> None:
    items = write_pictures(tmp_path / "in", 18)
    whole = read_files(make(items, key="whole", max_per_part=4).folder)
    for num_parts in (2, 1):  # killed twice, each time in the middle of a line
        interrupt(log, items, num_parts)
        (journal,) = cache.glob(f"*.part/{JOURNAL}")
        with journal.open("a") as file:
            file.write("[3]\n[0, 99, [], {}]\n[16, 99, [], {}]\n[2, 6, [], {}]\nnull\n[12, 1")
    log.units.clear()
    assert read_files(make(items, max_per_part=4).folder) == whole
    assert log.num_decoded() == 6


def test_a_picture_that_comes_back_before_the_entry_is_whole_is_in_it(tmp_path: Path, log: ProgressLog) -> None:
    items = write_pictures(tmp_path / "in", 12)
    (tmp_path / "in" / "002.png").write_bytes(b"broken")
    (tmp_path / "in" / "005.png").rename(tmp_path / "away.png")
    interrupt(log, items, 2)
    (tmp_path / "away.png").rename(tmp_path / "in" / "005.png")
    log.units.clear()
    resumed = make(items, max_per_part=4)
    assert log.num_decoded() == 8  # the part of the picture and the one that was missing; the broken file is unchanged
    assert [name for name, _ in skipped_names(resumed)] == ["002.png"]
    assert resumed.num_recovered == 0


@pytest.mark.parametrize("change", ["other shards", "first", "last", "short"])
def test_a_journal_without_its_pixels_is_ignored(tmp_path: Path, cache: Path, log: ProgressLog, change: str) -> None:
    items = write_pictures(tmp_path / "in", 12)
    interrupt(log, items, 3, shard_bytes=ROW_BYTES * (3 if change == "other shards" else 5))
    (making,) = cache.glob("*.part")
    match change:
        case "first" | "last":
            (making / SHARDS[0 if change == "first" else 2]).unlink()
        case "short":
            os.truncate(making / SHARDS[1], 200)
    log.units.clear()
    cached = make(items, shard_bytes=ROW_BYTES * 5)
    assert log.num_decoded() == 12
    np.testing.assert_array_equal(np.asarray(cached.pixels), expected(range(12)))
    assert sorted(read_files(cached.folder)) == [COLUMNS, MANIFEST, *SHARDS]


def test_progress_counts_every_picture_once(tmp_path: Path, log: ProgressLog) -> None:
    items = write_pictures(tmp_path / "in", 18)
    interrupt(log, items, 2)
    assert log.units.pop("caching mine train 18") == [0, 4, 4]
    make(items, max_per_part=4)
    assert log.units == {"caching mine train 18": [8, 4, 4, 2], "checking mine train 18": [18]}


@given(
    st.integers(1, 60),
    st.lists(st.tuples(st.integers(0, 59), st.integers(1, 9)), max_size=6),
    st.integers(1, 9),
    st.none() | st.integers(1, 70),
)
def test_parts_fill_the_gaps(count: int, lengths: list[tuple[int, int]], size: int, border: int | None) -> None:
    done: list[Part] = []
    for start, length in lengths:
        stop = min(start + length, count)
        if start < stop and all(stop <= part.start or part.stop <= start for part in done):
            done.append(Part(start, stop, [], Tally()))
    todo = list(split_rows(count, done, size, border))
    rows = [row for start, stop, *_ in [*todo, *done] for row in range(start, stop)]
    assert sorted(rows) == list(range(count))
    assert all(0 < stop - start <= size for start, stop in todo)
    assert border is None or all(start // border == (stop - 1) // border for start, stop in todo)


def test_parts_are_small_at_first() -> None:
    assert [stop - start for start, stop in split_rows(600, [], 128)] == [8, 16, 32, 64, 128, 128, 128, 96]


# -- pictures that become readable ------------------------------------------------------------------------------------


def test_a_picture_that_comes_back_completes_the_entry(tmp_path: Path, log: ProgressLog) -> None:
    items = write_pictures(tmp_path / "in", 9)
    labels = {"labels": np.arange(9)}
    (tmp_path / "in" / "002.png").write_bytes(b"broken")
    (tmp_path / "in" / "005.png").rename(tmp_path / "away.png")
    first = make(items, columns=labels)
    assert (len(first), [name for name, _ in skipped_names(first)]) == (7, ["002.png", "005.png"])
    log.units.clear()
    assert make(items, columns=labels).digest == first.digest
    assert log.num_decoded() == 1  # the broken file has not changed
    (tmp_path / "away.png").rename(tmp_path / "in" / "005.png")
    second = make(items, columns=labels)
    assert log.num_decoded() == 2  # tried, then decoded into its place
    assert (second.num_recovered, second.folder) == (1, first.folder)
    np.testing.assert_array_equal(second.pixels, expected([0, 1, 3, 4, 5, 6, 7, 8]))
    assert second.columns["labels"].tolist() == second.rows.tolist() == [0, 1, 3, 4, 5, 6, 7, 8]
    assert second.manifest.content.count == 8
    verify_entry(second.folder)
    assert (make(items, columns=labels).num_recovered, log.num_decoded()) == (0, 0)
    np.testing.assert_array_equal(np.asarray(first.pixels), expected([0, 1, 3, 4, 6, 7, 8]))  # mapped by another run


def test_earlier_images_of_an_entry_are_kept(tmp_path: Path) -> None:
    items = write_pictures(tmp_path / "in", 6)
    digests = {}
    for gone in ([1, 4], [4], []):
        for i in gone:
            (tmp_path / "in" / f"{i:03d}.png").unlink()
        now = make(items, columns={"labels": np.arange(6)})
        digests[now.digest] = [i for i in range(6) if i not in gone]
        write_pictures(tmp_path / "in", 6)
    for digest, kept in digests.items():
        found = find_entry(now.folder.name, digest)
        assert found is not None
        np.testing.assert_array_equal(np.asarray(found.pixels), expected(kept))
        assert found.columns["labels"].tolist() == kept
        assert found.digest == Images(np.asarray(found.pixels)).fingerprint() == digest
    assert find_entry(now.folder.name, "0" * 64) is None
    assert find_entry(f"../images/{now.folder.name}", now.digest) is None


def test_strict_refuses_a_cached_set_with_skipped_pictures(tmp_path: Path) -> None:
    items = write_pictures(tmp_path / "in", 4)
    (tmp_path / "in" / "001.png").rename(tmp_path / "away.png")
    with pytest.raises(UnreadablePictures):
        make(items, strict=True)
    assert skipped_names(make(items)) == [("001.png", "No such file or directory")]
    with pytest.raises(UnreadablePictures):
        make(items, strict=True)
    (tmp_path / "away.png").rename(tmp_path / "in" / "001.png")
    assert len(make(items, strict=True)) == 4


def test_another_decoder_tries_again(tmp_path: Path, log: ProgressLog, monkeypatch: pytest.MonkeyPatch) -> None:
    items = write_pictures(tmp_path / "in", 4)
    (tmp_path / "in" / "001.png").write_bytes(b"a format of the future")
    for release, num_tried in (("1", 4), ("1", 0), ("2", 1), ("2", 0)):
        monkeypatch.setattr(PIL, "__version__", release)
        assert len(make(items)) == 3
        assert log.num_decoded() == num_tried


def test_a_read_only_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = write_pictures(tmp_path / "in", 4)
    (tmp_path / "in" / "001.png").write_bytes(b"broken")
    folder = make(items).folder
    monkeypatch.setattr(PIL, "__version__", "2")
    lock = folder.with_name(f"{folder.name}.lock")
    lock.unlink()
    lock.mkdir()  # nobody can take the lock, root included
    assert len(make(items)) == 3
    write_pictures(tmp_path / "in", 4)
    with pytest.raises(OSError, match=r"\$XDG_CACHE_HOME"):
        make(items)


def test_checked_pictures_are_decoded_as_for_the_cache(tmp_path: Path) -> None:
    items = write_pictures(tmp_path / "in", 9)
    (tmp_path / "in" / "003.png").write_bytes(b"")
    (tmp_path / "in" / "008.png").unlink()
    problems, content = check_items("pictures", items, POLICY)
    assert problems == [(items[3], "empty file"), (items[8], "No such file or directory")]
    assert content == make(items, max_per_part=2).manifest.content
    assert check_items("pictures", [], POLICY) == ([], Tally())


# -- processes, memory, disk ------------------------------------------------------------------------------------------

PROGRAM = """  # prose: ignore
import sys
from vaelab.data.decode import ResizePolicy
from vaelab.data.picture_cache import PictureFiles, cache_pictures
folder, count = sys.argv[1], int(sys.argv[2])
items = [(folder, f"{i % 200:03d}.png") for i in range(count)]
source = PictureFiles(items, ResizePolicy(9, 8, 1), max_per_part=8, num_processes=2)
print(cache_pictures("mine train", {}, lambda: source).digest)
"""


def start(folder: Path, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), str(count)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def num_parts_done(cache: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in cache.glob(f"*.part/{JOURNAL}"))


def is_alive(group: int) -> bool:
    """Return whether a process of a group still runs."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, found = stat.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(found) == group and state != "Z":
            return True
    return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_killed_with_its_workers_it_resumes_and_leaves_no_process(tmp_path: Path, cache: Path) -> None:
    count, before = 6000, 0
    write_pictures(tmp_path / "in", 200)
    for number in (signal.SIGKILL, signal.SIGINT):
        process = start(tmp_path / "in", count)
        wait_for(lambda before=before: num_parts_done(cache) > before + 20)
        if number is signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        _, err = process.communicate(timeout=30)
        if number is signal.SIGINT:
            assert err.count("Traceback") == 1, err  # none of a worker or a thread of the pool
            assert err.rstrip().endswith("KeyboardInterrupt")
        wait_for(lambda process=process: not is_alive(process.pid), 10)
        before = num_parts_done(cache)
        assert before < count / 8
        (making,) = cache.glob("*.part")
        done = np.concatenate([np.arange(*borders) for borders in borders_in(making / JOURNAL)])
        rows = np.load(making / PIXELS, mmap_mode="r")[done]
        np.testing.assert_array_equal(rows, expected(done % 200))  # the rows of the journal are on the disk
    out, err = start(tmp_path / "in", count).communicate(timeout=60)
    assert err == ""
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    pixels = expected(np.arange(count) % 200)
    np.testing.assert_array_equal(np.load(folder / PIXELS), pixels)
    assert out.strip() == Images(pixels).fingerprint()


@pytest.mark.slow
def test_two_processes_make_one_entry(tmp_path: Path, cache: Path) -> None:
    write_pictures(tmp_path / "in", 200)
    processes = [start(tmp_path / "in", 1500) for _ in range(2)]
    results = [process.communicate(timeout=60) for process in processes]
    assert len({out for out, _ in results}) == 1
    assert [err for _, err in results] == ["", ""]
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("shard_bytes", [1 << 32, 700])
def test_one_process_and_several_make_the_same_entry(tmp_path: Path, shard_bytes: int) -> None:
    items = write_pictures(tmp_path / "in", 30)
    (tmp_path / "in" / "007.png").write_bytes(b"broken")
    options = {"max_per_part": 4, "shard_bytes": shard_bytes}
    one, two = (make(items, key=str(num), num_processes=num, **options) for num in (1, 2))
    assert (PIXELS in read_files(two.folder)) == (shard_bytes > 700)
    assert read_files(one.folder) == read_files(two.folder)


@pytest.mark.slow
def test_an_error_in_a_worker_is_raised_here(tmp_path: Path) -> None:
    items = write_pictures(tmp_path / "in", 1)
    jobs = [(i, items, POLICY, (str(tmp_path / "none"), 0)) for i in range(9)]
    with pytest.raises(FileNotFoundError) as raised:
        list(run_jobs(decoding.decode_part, jobs, 2))
    assert raised.value.filename == str(tmp_path / "none")


def kill_itself(_number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_worker_is_explained(wording: Callable[[object], None]) -> None:
    function = wrap_non_picklable_objects(kill_itself)  # pickled by value: workers do not import the tests
    with pytest.raises(RuntimeError) as raised:
        list(run_jobs(function, [(i,) for i in range(9)], 2))
    wording(raised.value)


MEMORY = """  # prose: ignore
import resource, sys
from vaelab.data.decode import ResizePolicy
from vaelab.data.picture_cache import PictureFiles, cache_pictures
for count in (10, 1000):
    source = PictureFiles([(sys.argv[1], "big.png")] * count, ResizePolicy(256, 256, 3), num_processes=1)
    cache_pictures("mine train", {"key": count}, lambda: source)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="counts memory in the units of Linux")
def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    (tmp_path / "big.png").write_bytes(encode_png(pixels))
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=True)
    few, many = (int(line) for line in done.stdout.splitlines())  # kB
    mapped = 1000 * 256 * 256 * 3 // 1024  # pages of the entry itself, which the system can reclaim
    assert many - few < mapped + 30_000


def test_a_full_disk_is_noticed_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: ProgressLog, wording: Callable[[object], None]
) -> None:
    items = write_pictures(tmp_path / "in", 10)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 40_000_000}))
    with pytest.raises(DiskFull) as raised:
        cache_pictures("mine train", {}, lambda: PictureFiles(items, ResizePolicy(1024, 1024, 3)))
    assert (raised.value.needed, raised.value.free) == (10 * 1024 * 1024 * 3 + (1 << 24), 40_000_000)
    assert log.num_decoded() == 0
    wording(str(raised.value).replace(raised.value.folder.name, "mine-…"))
    np.testing.assert_array_equal(make(items).pixels, expected(range(10)))  # a smaller set fits
