"""The image cache: a flipped bit anywhere is noticed, and a picture is left out only while it cannot be read."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from numpy.typing import NDArray

import vaelab
from vaelab import recipe
from vaelab.api.run_images import load_images, verify_images
from vaelab.data import decode as decoding
from vaelab.data.cache import BLOCK_BYTES, MANIFEST, checksum_blocks, read_manifest, verify_cached
from vaelab.data.containers import ImageRef
from vaelab.data.datasets import folder, sprites
from vaelab.data.decode import ResizePolicy
from vaelab.data.images import Images
from vaelab.data.picture_cache import CachedPictures, PictureFiles, UnreadablePictures, cache_pictures, select_earlier
from vaelab.data.pictures import encode_png
from vaelab.system.files import DamagedFile

SMALL = {"data.size": 8, "training.steps": 2, "network.latent_dim": 2, "network.channels": [8]}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vaelab" / "images"


def picture(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (9, 8, 1), dtype=np.uint8)


def write(place: Path, count: int) -> list[ImageRef]:
    place.mkdir(exist_ok=True)
    for i in range(count):
        (place / f"{i:03d}.png").write_bytes(encode_png(picture(i)))
    return [(str(place), f"{i:03d}.png") for i in range(count)]


def make(items: list[ImageRef], **more: Any) -> CachedPictures:
    columns = {"labels": np.arange(len(items))}
    return cache_pictures(
        "mine train", {"key": "one"}, lambda: PictureFiles(items, ResizePolicy(9, 8, 1), columns, **more)
    )


def as_images(cached: CachedPictures) -> Images:
    return Images(cached.pixels, cached.columns["labels"], digest=cached.digest, cache_folder=cached.folder)


def expected(numbers: Any) -> NDArray[np.uint8]:
    return np.stack([picture(i) for i in numbers])


def flip(path: Path, position: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pictures that are decoded."""
    seen: list[str] = []
    read = decoding.read_item

    def note(item: ImageRef) -> bytes:
        seen.append(item[1])
        return read(item)

    monkeypatch.setattr(decoding, "read_item", note)
    return seen


# -- checksums --------------------------------------------------------------------------------------------------------


def damage_of(place: Path) -> DamagedFile | None:
    try:
        verify_cached(place)
    except DamagedFile as error:
        return error
    return None


def test_a_flipped_bit_anywhere_is_noticed(tmp_path: Path) -> None:
    items = write(tmp_path / "in", 5)
    (tmp_path / "in" / "003.png").write_bytes(b"broken")
    place = make(items).folder
    verify_cached(place)
    whole = read_manifest(place)
    rng = np.random.default_rng(0)
    for path in sorted(place.iterdir()):
        content = path.read_bytes()
        for position, bit in zip(rng.integers(0, len(content), 120), rng.integers(0, 8, 120), strict=True):
            flip(path, position, bit)
            damage = damage_of(place)
            if damage is None:  # a blank of the JSON file
                assert (path.name, read_manifest(place)) == (MANIFEST, whole)
            else:
                assert str(place) in str(damage)
                assert damage.remedy
            path.write_bytes(content)
    verify_cached(place)


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


def test_a_training_notices_a_damaged_cache_entry_and_makes_it_again(tmp_path: Path, cache: Path) -> None:
    write(tmp_path / "in", 12)
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
    assert {path.name.rpartition(".")[2] for path in cache.iterdir()} <= {
        "lock",
        "json",
        *(p.parent.name for p in paths),
    }


def test_a_damaged_cache_entry_without_its_pictures_is_named_and_kept(tmp_path: Path) -> None:
    cached = make(write(tmp_path / "in", 3))
    flip(cached.folder / "pixels.npy", 150)

    def fail() -> Images:
        raise FileNotFoundError("the disk is away")

    with pytest.raises(DamagedFile, match="the disk is away") as raised:
        verify_images(as_images(cached), fail)
    assert raised.value.path == cached.folder / "pixels.npy"
    assert raised.value.remedy
    assert (cached.folder / MANIFEST).is_file()


def test_drawn_images_are_drawn_again(cache: Path) -> None:
    options = {"data": {"name": "sprites", "orientations": 2, "positions": 2, "valid": 1}}
    before = load_images(recipe.validate(options, "a"), None, verify=True).train.fingerprint()
    content = {path.name: path.read_bytes() for path in next(cache.glob("sprites-*/")).iterdir()}
    for name in ("pixels.npy", "factors.npy"):
        flip(next(cache.glob(f"sprites-*/{name}")), 300)
        again = load_images(recipe.validate(options, "a"), None, verify=True).train
        assert again.fingerprint() == before
        assert {path.name: path.read_bytes() for path in next(cache.glob("sprites-*/")).iterdir()} == content


def test_wrong_factors_are_never_used(cache: Path) -> None:
    before = sprites.load(None, "train", orientations=2, positions=2).factors
    flip(next(cache.glob("sprites-*/factors.npy")), 300)
    np.testing.assert_array_equal(sprites.load(None, "train", orientations=2, positions=2).factors, before)


def as_it_was_written_before(place: Path) -> None:
    """Rewrite ``manifest.json`` as vaelab 0.1 did."""
    facts = json.loads((place / MANIFEST).read_text())
    old = {name: facts.get(name, []) for name in ("title", "digest", "rows_left_out", "left_out", "unread")}
    old["unread"] = [(path, signature[:2]) for path, signature in old["unread"]]
    (place / MANIFEST).write_text(json.dumps({**old, "facts": {}}, indent=1))


def test_a_cache_entry_without_checksums_is_held_against_its_digest(tmp_path: Path) -> None:
    cached = make(write(tmp_path / "in", 5))
    as_it_was_written_before(cached.folder)
    assert read_manifest(cached.folder).checksums is None
    flip(cached.folder / "pixels.npy", 150)
    with pytest.raises(DamagedFile):
        verify_cached(cached.folder)
    flip(cached.folder / "pixels.npy", 150)
    verify_cached(cached.folder)
    assert read_manifest(cached.folder).checksums is not None
    np.testing.assert_array_equal(make(write(tmp_path / "in", 5)).pixels, expected(range(5)))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"digest": 3}',
        '{"title": "a", "digest": "a"}',
        lambda facts: {**facts, "num_files": 10**9},
        lambda facts: {**facts, "num_files": -1},
        lambda facts: {**facts, "shape": [10**12, 9, 8, 1]},
        lambda facts: {**facts, "rows_left_out": [9], "left_out": [["a", "b"]], "unread": [["a", None]], "check": None},
        lambda facts: {**facts, "rows_left_out": [-1], "check": None},
        lambda facts: {**facts, "checksums": {"../../a": [0]}, "check": None},
        lambda facts: {**facts, "new": 1, "check": None},
    ],
)
def test_a_cache_entry_with_other_facts_is_made_again(tmp_path: Path, content: str | Callable[[Any], Any]) -> None:
    items = write(tmp_path / "in", 4)
    place = make(items).folder
    before = (place / MANIFEST).read_text()
    (place / MANIFEST).write_text(content if isinstance(content, str) else json.dumps(content(json.loads(before))))
    np.testing.assert_array_equal(make(items).pixels, expected(range(4)))
    assert (place / MANIFEST).read_text() == before


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (4, 9, 8, 1), ",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (4, 9, 8, -1), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (4, 9, 8, True), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (10**12, 9, 8, 1), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 9, 8, 1), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (4, 9, 8, 1), }",
        "{'descr': '<u2', 'fortran_order': False, 'shape': (4, 9, 8, 1), }",
        "{'descr': '|u1', 'fortran_order': True, 'shape': (4, 9, 8, 1), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (4, 8, 9, 1), }",
        "[" * 60,
    ],
)
def test_pixels_with_another_header_are_made_again(tmp_path: Path, header: str) -> None:
    items = write(tmp_path / "in", 4)
    path = make(items).folder / "pixels.npy"
    before = path.read_bytes()
    path.write_bytes(before[:10] + header.ljust(117).encode() + b"\n" + before[128:])
    np.testing.assert_array_equal(make(items).pixels, expected(range(4)))
    assert path.read_bytes() == before


# -- pictures that can be read at last --------------------------------------------------------------------------------


def test_a_picture_that_comes_back_completes_the_cache_entry(tmp_path: Path, decoded: list[str]) -> None:
    items = write(tmp_path / "in", 9)
    (tmp_path / "in" / "002.png").write_bytes(b"broken")
    (tmp_path / "in" / "005.png").rename(tmp_path / "away.png")
    first = make(items)
    assert (len(first), [name for name, _ in first.left_out]) == (7, ["002.png", "005.png"])
    decoded.clear()
    assert make(items).digest == first.digest
    assert decoded == ["005.png"]  # the broken one is what it was
    (tmp_path / "away.png").rename(tmp_path / "in" / "005.png")
    decoded.clear()
    second = make(items)
    assert set(decoded) == {"005.png"}
    assert (second.num_recovered, bool(second.recovery), second.folder) == (1, True, first.folder)
    np.testing.assert_array_equal(second.pixels, expected([0, 1, 3, 4, 5, 6, 7, 8]))
    assert second.columns["labels"].tolist() == [0, 1, 3, 4, 5, 6, 7, 8]
    verify_cached(second.folder)
    decoded.clear()
    assert (make(items).num_recovered, decoded) == (0, [])
    np.testing.assert_array_equal(np.asarray(first.pixels), expected([0, 1, 3, 4, 6, 7, 8]))  # mapped by another run


def test_the_images_of_a_run_are_still_there_after_that(tmp_path: Path) -> None:
    items = write(tmp_path / "in", 6)
    digests = {}
    for gone in ([1, 4], [4], []):
        for i in gone:
            (tmp_path / "in" / f"{i:03d}.png").unlink()
        digests[tuple(gone)] = make(items).digest
        write(tmp_path / "in", 6)
    now = as_images(make(items))
    assert select_earlier(now, "0" * 64) is None
    for gone, digest in digests.items():
        earlier = select_earlier(now, digest) if gone else now
        assert earlier is not None
        kept = [i for i in range(6) if i not in gone]
        np.testing.assert_array_equal(np.asarray(earlier.pixels), expected(kept))
        assert earlier.labels is not None
        assert earlier.labels.tolist() == kept
        assert earlier.digest == Images(np.asarray(earlier.pixels)).fingerprint() == digest


def test_strict_sees_what_is_there_now(tmp_path: Path) -> None:
    items = write(tmp_path / "in", 4)
    (tmp_path / "in" / "001.png").rename(tmp_path / "away.png")
    with pytest.raises(UnreadablePictures):
        make(items, strict=True)
    assert len(make(items)) == 3
    with pytest.raises(UnreadablePictures):
        make(items, strict=True)
    (tmp_path / "away.png").rename(tmp_path / "in" / "001.png")
    assert len(make(items, strict=True)) == 4


def test_another_decoder_tries_again(tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    items = write(tmp_path / "in", 4)
    (tmp_path / "in" / "001.png").write_bytes(b"a format of the future")
    for release, tried in (("1", 4), ("1", 0), ("2", 1), ("2", 0)):
        monkeypatch.setattr(PIL, "__version__", release)
        decoded.clear()
        assert len(make(items)) == 3
        assert len(decoded) == tried


def test_a_cache_that_cannot_be_written_to_is_used_as_it_is(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = write(tmp_path / "in", 4)
    (tmp_path / "in" / "001.png").write_bytes(b"broken")
    place = make(items).folder
    shutil.copytree(place, tmp_path / "copy")
    monkeypatch.setattr(PIL, "__version__", "2")
    lock = place.with_name(f"{place.name}.lock")
    lock.unlink()
    lock.mkdir()  # nobody can take the lock, root included
    assert len(make(items)) == 3
    write(tmp_path / "in", 4)
    with pytest.raises(OSError, match=r"\$XDG_CACHE_HOME"):
        make(items)


needs_permissions = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind the superuser"
)


@needs_permissions
def test_nothing_is_decided_by_pictures_that_cannot_be_read(tmp_path: Path, cache: Path) -> None:
    write(tmp_path / "in", 12)
    paths = sorted((tmp_path / "in").iterdir())
    for path in paths:
        path.chmod(0)
    with pytest.raises(ValueError, match="12 of 12"):
        folder.load(tmp_path / "in", "train")
    assert not list(cache.glob("facts-*"))
    for path in paths[1:]:
        path.chmod(0o644)
    assert folder.load(tmp_path / "in", "train").image_shape == (1, 9, 8)
    paths[0].chmod(0o644)
    images = [folder.load(tmp_path / "in", split, strict=True) for split in ("train", "test")]
    assert sum(map(len, images)) == 12
    assert any("can be read now" in note for found in images for note in found.notes)
