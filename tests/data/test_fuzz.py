"""Hostile bytes in every kind of input file raise only documented errors, in bounded time and memory."""

import gzip
import io
import json
import os
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from pyarrow import parquet

from vaelab.api.data import check_data
from vaelab.api.run_images import load_images
from vaelab.data import idx
from vaelab.data.cache import MANIFEST, read_manifest, verify_entry
from vaelab.data.containers import UnreadablePicture, open_zip, read_item
from vaelab.data.datasets._celeba_files import find_celeba
from vaelab.data.datasets.arrays import DATASET as ARRAYS
from vaelab.data.datasets.mnist import DATASET as MNIST
from vaelab.data.decode import ResizePolicy
from vaelab.data.npy import map_array, read_npy_header, read_npz
from vaelab.data.picture_cache import PictureFiles, cache_pictures
from vaelab.data.pictures import encode_png, read_pictures
from vaelab.data.scan import scan
from vaelab.recipe import validate
from vaelab.system.files import DamagedFile, NotAFile

pytestmark = pytest.mark.slow
MB = 1 << 20
FEW = 12
fuzzed = settings(
    max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vaelab"


@contextmanager
def bounded(memory: int = 64 * MB, seconds: float = 20.0) -> Iterator[None]:
    """Fail if the context takes more time, or more memory of Python and NumPy."""
    start = time.monotonic()
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < memory
    assert time.monotonic() - start < seconds


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Draw content with some bytes changed, cut off, inserted or doubled."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(changed) - 1, 0)))
        match draw(st.sampled_from(["flip", "set", "cut", "insert", "double", "zero"])):
            case "flip" if changed:
                changed[at] ^= 1 << draw(st.integers(0, 7))
            case "set":
                changed[at : at + 4] = struct.pack(draw(st.sampled_from(["<I", ">I"])), draw(st.integers(0, 2**32 - 1)))
            case "cut":
                del changed[at:]
            case "insert":
                changed[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "double":
                changed += changed[at:]
            case "zero":
                changed[at : at + 16] = bytes(len(changed[at : at + 16]))
    return bytes(changed)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(**columns: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **columns)
    return buffer.getvalue()


IMAGES = np.random.default_rng(0).integers(0, 256, (6, 9, 8), dtype=np.uint8)
LABELS = np.arange(6, dtype=np.uint8)


# -- arrays -----------------------------------------------------------------------------------------------------------

LENGTHS = st.one_of(
    st.integers(-3, 12), st.just(10**12), st.just(2**63), st.booleans(), st.none(), st.floats(), st.text(max_size=3)
)
HEADERS = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=120).map(lambda text: text.encode("utf-8", "replace")),
    st.builds(
        lambda shape, descr, order: repr({"descr": descr, "fortran_order": order, "shape": tuple(shape)}).encode(),
        st.lists(LENGTHS, max_size=5),
        st.sampled_from(["|u1", "<f8", "|O", "<U3", "V9999999999", "|b1", [("a", "<i4")], "", "nonsense"]),
        st.sampled_from([True, False, None, 1]),
    ),
    st.integers(1, 3000).map(lambda depth: b"(" * depth),
)


@seed(0)
@fuzzed
@given(HEADERS, st.sampled_from([b"\1\0", b"\2\0", b"\3\0", b"\xff\0"]), st.integers(-9, 9), st.binary(max_size=100))
def test_npy_headers(tmp_path: Path, text: bytes, version: bytes, wrong: int, rest: bytes) -> None:
    width = 2 if version == b"\1\0" else 4
    size = max(0, min(len(text) + wrong, 2 ** (8 * width) - 1)).to_bytes(width, "little")
    content = b"\x93NUMPY" + version + size + text + rest
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with bounded():
        try:
            header = read_npy_header(io.BytesIO(content))
        except ValueError:
            with pytest.raises(DamagedFile):
                map_array(path)
        else:
            assert all(type(length) is int and length >= 0 for length in header.shape)
            try:
                assert map_array(path).shape == header.shape
            except DamagedFile as error:
                assert error.path == path  # noqa: PT017


def test_a_header_that_says_it_is_four_gigabytes_long(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        member.write(b"\x93NUMPY\2\0\xff\xff\xff\xff")
        for _ in range(200):
            member.write(bytes(MB))
    with bounded(), pytest.raises(DamagedFile):
        map_array(path)


@seed(0)
@fuzzed
@given(damaged(npz(images=IMAGES, factors=np.stack([LABELS, LABELS[::-1]], 1))))
def test_arrays_in_a_damaged_npz(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "arrays.npz"
    path.write_bytes(content)
    for read in (lambda: read_npz(path, max_bytes=MB), lambda: map_array(path), lambda: ARRAYS.load(path, "train")):
        with bounded():
            named_or_done(read, path)


def named_or_done(read: Callable[[], object], path: Path) -> object:
    """Return the result of a reader; None if it raises ValueError or FileNotFoundError that names the file."""
    message = ""
    try:
        return read()
    except (ValueError, FileNotFoundError) as error:
        message = str(error)
    assert path.name in message
    assert len(message.splitlines()) == 1
    return None


def test_a_member_that_unpacks_to_more_than_it_declares(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in {"x_train": IMAGES, "y_train": LABELS, "images": IMAGES}.items():
            with archive.open(f"{name}.npy", "w") as member:
                member.write(npy(array))
                for _ in range(150):
                    member.write(bytes(MB))
    for read in (lambda: map_array(path), lambda: MNIST.load(path, "train"), lambda: ARRAYS.load(path, "train")):
        with bounded(), pytest.raises(DamagedFile):
            read()


# -- IDX --------------------------------------------------------------------------------------------------------------


def put_idx(folder: Path, images: bytes, ending: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    for prefix in ("train", "t10k"):
        (folder / f"{prefix}-images-idx3-ubyte{ending}").write_bytes(images)
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx.write_idx(LABELS))
    return folder / f"train-images-idx3-ubyte{ending}"


@seed(0)
@fuzzed
@given(st.booleans(), st.data())
def test_damaged_idx(tmp_path: Path, is_compressed: bool, data: st.DataObject) -> None:
    content = idx.write_idx(IMAGES)
    content = data.draw(damaged(gzip.compress(content, mtime=0) if is_compressed else content))
    put_idx(tmp_path / "mnist", content)
    with bounded():
        named_or_done(lambda: MNIST.load(tmp_path / "mnist", "train"), tmp_path / "mnist")


@pytest.mark.parametrize("shape", [(6, 9, 8), (2**32 - 1,) * 3, (100_000, 50, 50), (10**9,)])
def test_an_idx_archive_that_unpacks_to_gigabytes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    header = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as packed:
        packed.write(header)
        for _ in range(200):
            packed.write(bytes(MB))
    put_idx(tmp_path / "mnist", buffer.getvalue(), ".gz")
    # memory for the declared array is allowed where it fits
    with bounded(300 * MB if shape == (100_000, 50, 50) else 64 * MB), pytest.raises(DamagedFile):
        MNIST.load(tmp_path / "mnist", "train")


# -- zips and parquet files of pictures -------------------------------------------------------------------------------


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for i, image in enumerate(IMAGES):
            archive.writestr(zipfile.ZipInfo(f"in/{i}.png"), encode_png(image[..., None]))
    return buffer.getvalue()


@seed(0)
@settings(fuzzed, max_examples=FEW)
@given(damaged(zipped()))
def test_damaged_zips(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "own.zip"
    path.write_bytes(content)
    with bounded():
        found = named_or_done(lambda: read_pictures(path, (1, 9, 8)), path)
        for entry in scan(path).entries if found else ():
            try:
                read_item(entry.item)
            except UnreadablePicture as error:
                assert "\n" not in str(error)  # noqa: PT017
        list(check_data(path)) if found else None


def test_an_entry_that_unpacks_to_more_than_it_declares(tmp_path: Path) -> None:
    path = tmp_path / "own.zip"
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(path, "w", method) as archive, archive.open("a.png", "w") as entry:
            for _ in range(150):
                entry.write(bytes(MB))
        content = bytearray(path.read_bytes())
        at = content.rindex(b"PK\1\2")
        content[at + 24 : at + 28] = struct.pack("<I", 1000)  # the directory says 1,000 bytes
        path.write_bytes(content)
        with bounded(96 * MB), pytest.raises(UnreadablePicture):
            read_item((str(path), "a.png"))


def test_a_zip_is_not_kept_open_after_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "own.zip"
    path.write_bytes(zipped())
    assert len(open_zip(str(path)).namelist()) == 6
    path.write_bytes(b"no zip")
    with pytest.raises(DamagedFile):
        open_zip(str(path))


def as_parquet() -> bytes:
    buffer = io.BytesIO()
    pictures = [{"bytes": encode_png(image[..., None])} for image in IMAGES]
    table = pa.table({"image": pictures, "Smiling": [True, False] * 3})
    parquet.write_table(table, buffer)
    return buffer.getvalue()


@seed(0)
@fuzzed
@given(damaged(as_parquet()))
def test_damaged_parquet_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "celeba" / "train-00000-of-00001.parquet"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    layout = find_celeba(tmp_path / "celeba")
    assert layout is not None
    with bounded(256 * MB):
        found = named_or_done(lambda: layout.read("train"), tmp_path / "celeba")
        for item in found.items[:6] if found else ():
            try:
                read_item(item)
            except UnreadablePicture as error:
                assert "\n" not in str(error)  # noqa: PT017


# -- the cache --------------------------------------------------------------------------------------------------------


def make_cached(folder: Path) -> tuple[Path, str]:
    folder.mkdir(exist_ok=True)
    for i, image in enumerate(IMAGES):
        (folder / f"{i}.png").write_bytes(encode_png(image[..., None]))
    (folder / "5.png").write_bytes(b"broken")
    items = [(str(folder), f"{i}.png") for i in range(len(IMAGES))]
    cached = cache_pictures(
        "mine", {}, lambda: PictureFiles(items, ResizePolicy(9, 8, 1), {"labels": LABELS.astype(np.int64)})
    )
    np.testing.assert_array_equal(np.asarray(cached.pixels)[..., 0], IMAGES[:5])
    assert cached.columns["labels"].tolist() == [0, 1, 2, 3, 4]
    return cached.folder, cached.digest


@seed(0)
@settings(fuzzed, max_examples=FEW)
@given(st.sampled_from([MANIFEST, "columns.npz", "pixels.npy"]), st.data())
def test_a_damaged_cache_entry(tmp_path: Path, name: str, data: st.DataObject) -> None:
    place, digest = make_cached(tmp_path / "in")
    whole = (place / name).read_bytes()
    (place / name).write_bytes(data.draw(damaged(whole)))
    with bounded():
        try:
            verify_entry(place)
        except DamagedFile as error:
            assert place in (error.path, error.path.parent)  # noqa: PT017
            assert error.remedy  # noqa: PT017
            (place / name).write_bytes(whole) if name == "pixels.npy" else None  # its values are verified, not opened
        assert make_cached(tmp_path / "in") == (place, digest)
    (place / MANIFEST).unlink(missing_ok=True)


TREES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 10**13), st.floats(), st.text(max_size=9)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=9), inner, max_size=4)),
    max_leaves=8,
)
KEYS = ("digest", "title", "num_files", "shape", "skipped", "checksums", "earlier", "metadata", "content")


@seed(0)
@settings(fuzzed, max_examples=FEW)
@given(st.one_of(TREES, st.dictionaries(st.sampled_from(KEYS), TREES)), st.booleans())
def test_manifests_of_any_shape(tmp_path: Path, tree: object, merges: bool) -> None:
    place, digest = make_cached(tmp_path / "in")
    facts = json.loads((place / MANIFEST).read_text())
    if merges and isinstance(tree, dict):
        tree = {**facts, **tree}
    (place / MANIFEST).write_text(json.dumps(tree))
    with bounded():
        try:
            assert read_manifest(place).digest == digest
        except DamagedFile as error:
            assert error.path == place / MANIFEST  # noqa: PT017
        assert make_cached(tmp_path / "in") == (place, digest)


FOUND = b'{"check":"5e8ef70931c6436981af3f801635619cff9cc8680652c74e","facts":{"size":[9,8],"grey":true,"rows":[0,1]}}'


@seed(0)
@settings(fuzzed, max_examples=FEW)
@given(st.one_of(TREES.map(lambda tree: json.dumps(tree).encode()), st.binary(max_size=60), damaged(FOUND)))
def test_memoised_facts_of_any_shape(tmp_path: Path, cache: Path, content: bytes) -> None:
    if not (tmp_path / "in").exists():
        make_cached(tmp_path / "in")
    recipe = validate({"data": {"name": "folder"}}, "a")
    wanted = load_images(recipe, tmp_path / "in").train
    for path in cache.glob("images/facts-*.json"):
        path.write_bytes(content)
    with bounded():
        again = load_images(recipe, tmp_path / "in").train
    assert (again.fingerprint(), again.image_shape) == (wanted.fingerprint(), (1, 9, 8))


# -- pipes and devices ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="POSIX has named pipes")
@pytest.mark.parametrize("name", ["f.zip", "f.npy", "f.npz", "x.parquet", "f.h5", "f.png", "f"])
def test_a_pipe_is_refused_before_it_is_opened(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    recipes = [validate({"data": {"name": name, "valid": 1}}, "a") for name in ("folder", "arrays", "mnist", "celeba")]
    for read in (
        lambda: check_data(path),
        lambda: read_pictures(path, (1, 9, 8)),
        *(lambda recipe=recipe: load_images(recipe, path) for recipe in recipes),
    ):
        with pytest.raises(NotAFile):
            read()


@pytest.mark.skipif(os.name != "posix", reason="POSIX has named pipes")
def test_pipes_among_files(tmp_path: Path) -> None:
    path = put_idx(tmp_path / "mnist", idx.write_idx(IMAGES))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(NotAFile):
        MNIST.load(tmp_path / "mnist", "train")
    (tmp_path / "celeba").mkdir()
    os.mkfifo(tmp_path / "celeba" / "train-0.parquet")
    layout = find_celeba(tmp_path / "celeba")
    assert layout is not None
    with pytest.raises(NotAFile):
        layout.read("train")
