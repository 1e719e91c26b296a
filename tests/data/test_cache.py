"""The image cache: every flipped bit is noticed, and a damaged entry is made again."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cached import ProgressLog, expected, flip, make, read_files, write_pictures
from filelock import FileLock
from pydantic import BaseModel

import vaelab
from vaelab import recipe
from vaelab.api.run_images import load_images, verify_images
from vaelab.data.cache import (
    BLOCK_BYTES,
    COLUMNS,
    MANIFEST,
    VERSION,
    checksum_blocks,
    find_or_make,
    read_manifest,
    select_earlier,
    verify_entry,
)
from vaelab.data.datasets import folder as folder_data
from vaelab.data.datasets import sprites
from vaelab.data.images import Images
from vaelab.data.memos import memoise
from vaelab.system.files import DamagedFile

pytestmark = pytest.mark.usefixtures("cache")
SMALL = {"data.size": 8, "training.steps": 2, "network.latent_dim": 2, "network.channels": [8]}
SPRITES = {"orientations": 2, "positions": 2}


def test_the_version_is_part_of_the_key(tmp_path: Path) -> None:
    folder = make(write_pictures(tmp_path / "in", 2)).folder
    made: list[Path] = []

    def fail(place: Path) -> None:
        made.append(place)
        raise InterruptedError

    assert find_or_make("mine train", {"key": "one"}, fail, version=VERSION).folder == folder
    with pytest.raises(InterruptedError):
        find_or_make("mine train", {"key": "one"}, fail, version=VERSION + 1)
    assert made != [folder]


# -- checksums --------------------------------------------------------------------------------------------------------


def damage_of(folder: Path) -> DamagedFile | None:
    try:
        verify_entry(folder)
    except DamagedFile as error:
        return error
    return None


def test_a_flipped_bit_anywhere_is_noticed(tmp_path: Path) -> None:
    items = write_pictures(tmp_path / "in", 5)
    (tmp_path / "in" / "003.png").write_bytes(b"broken")
    folder = make(items).folder
    verify_entry(folder)
    whole = read_manifest(folder)
    rng = np.random.default_rng(0)
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for position, bit in zip(rng.integers(0, len(content), 120), rng.integers(0, 8, 120), strict=True):
            flip(path, position, bit)
            damage = damage_of(folder)
            if damage is None:  # white space of the JSON file
                assert (path.name, read_manifest(folder)) == (MANIFEST, whole)
            else:
                assert damage.path == path
                assert damage.remedy
            path.write_bytes(content)
    verify_entry(folder)


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 1])
def test_every_block_has_a_checksum(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(np.random.default_rng(0).bytes(size))
    before = checksum_blocks(path)
    assert len(before) == -(-size // BLOCK_BYTES)
    if size:
        flip(path, size - 1)
        after = checksum_blocks(path)
        assert (before[:-1], before[-1] != after[-1]) == (after[:-1], True)


# -- damage -----------------------------------------------------------------------------------------------------------


def break_header(folder: Path, header: str) -> None:
    path = folder / "pixels-00000.npy"
    content = path.read_bytes()
    path.write_bytes(content[:10] + header.ljust(117).encode() + b"\n" + content[128:])


def edit_manifest(folder: Path, **changes: Any) -> None:
    """Change fields of the manifest and its checksum with them."""
    manifest = read_manifest(folder).model_copy(update=changes)
    content = {**manifest.model_dump(), "check": manifest.compute_check()}
    (folder / MANIFEST).write_text(json.dumps(content))


SKIPPED = (99, "a", "b", "c", None)
DAMAGES: dict[str, Callable[[Path], object]] = {
    "manifest cut off": lambda folder: (folder / MANIFEST).write_text('{"digest": '),
    **{
        f"manifest {text}": lambda folder, text=text: (folder / MANIFEST).write_text(text)
        for text in ("", "[]", "null", "{}", '{"digest": 3}', '{"title": "a", "digest": "a"}')
    },
    "manifest num_files": lambda folder: edit_manifest(folder, num_files=10**9),
    "manifest negative": lambda folder: edit_manifest(folder, num_files=-1),
    "manifest shape": lambda folder: edit_manifest(folder, shape=[10**12, 9, 8, 1]),
    "manifest rows": lambda folder: edit_manifest(folder, skipped=[SKIPPED]),
    "manifest checksums": lambda folder: edit_manifest(folder, checksums={"../../a": [0]}),
    "manifest unsigned": lambda folder: (folder / MANIFEST).write_text(
        json.dumps({**json.loads((folder / MANIFEST).read_text()), "title": "other"})
    ),
    "empty": lambda folder: [path.unlink() for path in folder.iterdir()],
    "no columns": lambda folder: (folder / COLUMNS).unlink(),
    "columns cut off": lambda folder: (folder / COLUMNS).write_bytes((folder / COLUMNS).read_bytes()[:-10]),
    "columns flipped": lambda folder: flip(folder / COLUMNS, 150),
    **{
        f"{name} {number}": lambda folder, number=number, change=change: change(folder / f"pixels-0000{number}.npy")
        for number in range(3)
        for name, change in {
            "missing": Path.unlink,
            "hollow": lambda path: path.write_bytes(b""),
            "cut off": lambda path: path.write_bytes(path.read_bytes()[:-1]),
            "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
            "of another shape": lambda path: np.save(path, np.zeros((5, 8, 9, 1), np.uint8)),
        }.items()
    },
    **{
        f"header {header}": lambda folder, header=header: break_header(folder, header)
        for header in (
            "{'descr': '|u1', 'fortran_order': False, 'shape': (5, 9, 8, 1), ",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (5, 9, 8, -1), }",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (5, 9, 8, True), }",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (10**12, 9, 8, 1), }",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 9, 8, 1), }",
            "{'descr': '|O', 'fortran_order': False, 'shape': (5, 9, 8, 1), }",
            "{'descr': '<u2', 'fortran_order': False, 'shape': (5, 9, 8, 1), }",
            "{'descr': '|u1', 'fortran_order': True, 'shape': (5, 9, 8, 1), }",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (5, 8, 9, 1), }",
            "[" * 60,
        )
    },
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_made_again(tmp_path: Path, damage: str) -> None:
    items = write_pictures(tmp_path / "in", 12)
    options: dict[str, Any] = {"columns": {"labels": np.arange(12)}, "shard_bytes": 400}
    folder = make(items, **options).folder
    before = read_files(folder)
    DAMAGES[damage](folder)
    again = make(items, **options)
    np.testing.assert_array_equal(np.asarray(again.pixels), expected(range(12)))
    assert again.folder == folder
    assert read_files(folder) == before


@pytest.mark.slow
def test_training_notices_a_damaged_entry_and_makes_it_again(tmp_path: Path, cache: Path) -> None:
    write_pictures(tmp_path / "in", 12)
    first = vaelab.train("folder", SMALL, data=tmp_path / "in", run=tmp_path / "first")
    paths = sorted(cache.glob("folder-*/pixels.npy"))
    before = [path.read_bytes() for path in paths]
    for path in paths:
        flip(path, -1)
    second = vaelab.train("folder", SMALL, data=tmp_path / "in", run=tmp_path / "second")
    assert [path.read_bytes() for path in paths] == before
    assert second.machine["data_sha256"] == first.machine["data_sha256"]
    assert sum(str(path) in note for note in second.machine["notes"] for path in paths) == len(paths)
    assert (second.path / "history.csv").read_bytes() == (first.path / "history.csv").read_bytes()
    assert not list(cache.glob("*damaged*"))


def as_images(cached: Any) -> Images:
    return Images(cached.pixels, cached.columns["labels"], digest=cached.digest, cache_folder=cached.folder)


def test_a_damaged_entry_without_its_pictures_is_kept(tmp_path: Path) -> None:
    cached = make(write_pictures(tmp_path / "in", 3), columns={"labels": np.arange(3)})
    flip(cached.folder / "pixels.npy", 150)

    def fail() -> Images:
        raise FileNotFoundError("the disk is away")

    with pytest.raises(DamagedFile) as raised:
        verify_images(as_images(cached), fail)
    assert raised.value.path == cached.folder / "pixels.npy"
    assert "the disk is away" in raised.value.reason
    assert raised.value.remedy
    assert (cached.folder / MANIFEST).is_file()


def test_earlier_images_replace_the_newest(tmp_path: Path) -> None:
    items = write_pictures(tmp_path / "in", 4)
    (tmp_path / "in" / "001.png").unlink()
    labels = {"labels": np.arange(4)}
    before = make(items, columns=labels)
    write_pictures(tmp_path / "in", 4)
    now = as_images(make(items, columns=labels))
    earlier = select_earlier(now, before.digest)
    assert earlier is not None
    assert earlier.labels is not None
    assert (len(now), earlier.labels.tolist(), earlier.digest) == (4, [0, 2, 3], before.digest)
    assert select_earlier(now, "0" * 64) is select_earlier(Images(expected(range(3))), before.digest) is None


@pytest.mark.parametrize("name", ["pixels.npy", COLUMNS])
def test_damaged_arrays_are_made_again(cache: Path, name: str) -> None:
    options = {"data": {"name": "sprites", "valid": 1, **SPRITES}}
    before = load_images(recipe.validate(options, "a"), None, verify=True).train
    fingerprint = before.fingerprint()
    folder = next(cache.glob("sprites-*/"))
    content = read_files(folder)
    flip(folder / name, 300)
    again = load_images(recipe.validate(options, "a"), None, verify=True).train
    assert again.fingerprint() == fingerprint
    np.testing.assert_array_equal(again.factors, before.factors)
    assert read_files(folder) == content


def test_damaged_factors_are_never_used(cache: Path) -> None:
    before = sprites.load(None, "train", **SPRITES).factors
    flip(next(cache.glob(f"sprites-*/{COLUMNS}")), 300)
    np.testing.assert_array_equal(sprites.load(None, "train", **SPRITES).factors, before)


# -- processes and folders --------------------------------------------------------------------------------------------


def test_a_process_that_waits_shows_it(tmp_path: Path, log: ProgressLog) -> None:
    items = write_pictures(tmp_path / "in", 3)
    folder = make(items).folder
    held, label = threading.Event(), "waiting for another process that caches mine train None"
    for path in folder.iterdir():
        path.unlink()
    log.units.clear()

    def hold() -> None:
        with FileLock(f"{folder}.lock", thread_local=False):
            held.set()
            deadline = time.monotonic() + 10
            while label not in log.units and time.monotonic() < deadline:
                time.sleep(0.01)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    make(items)
    thread.join()
    assert list(log.units) == [label, "caching mine train 3", "checking mine train 3"]


def test_a_cache_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wording: Callable[[object], None]
) -> None:
    items = write_pictures(tmp_path / "in", 2)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OSError) as raised:
        make(items)
    wording(raised.value)


# -- memos ------------------------------------------------------------------------------------------------------------


class Size(BaseModel):
    side: int


def test_facts_are_found_once_if_they_are_final() -> None:
    asked = []

    def find(is_final: bool) -> tuple[Size, bool]:
        asked.append(is_final)
        return Size(side=64), is_final

    for key, is_final in (("a", True), ("a", True), ("b", False), ("b", False)):
        assert memoise({"key": key}, Size, lambda is_final=is_final: find(is_final)).side == 64
    assert asked == [True, False, False]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_pictures_without_permission_decide_nothing(tmp_path: Path, cache: Path) -> None:
    write_pictures(tmp_path / "in", 12)
    paths = sorted((tmp_path / "in").iterdir())
    for path in paths:
        path.chmod(0)
    with pytest.raises(ValueError, match="12 of 12"):
        folder_data.load(tmp_path / "in", "train")
    assert not list(cache.glob("facts-*"))
    for path in paths[1:]:
        path.chmod(0o644)
    assert folder_data.load(tmp_path / "in", "train").image_shape == (1, 9, 8)
    paths[0].chmod(0o644)
    images = [folder_data.load(tmp_path / "in", split, strict=True) for split in ("train", "test")]
    assert sum(map(len, images)) == 12
    assert any("can be read now" in note for found in images for note in found.notes)
