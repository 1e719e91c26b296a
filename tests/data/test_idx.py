"""IDX files, and where MNIST and its relatives are looked for and how they are read."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from paths import SHARED

from vaelab.data.datasets import fashion, mnist
from vaelab.data.idx import parse_idx, unpack, write_idx
from vaelab.data.images import Images

REAL_MNIST = SHARED / "data" / "mnist"
NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
COUNTS = {"train": 5, "t10k": 3}

uint8_arrays = arrays(np.uint8, array_shapes(min_dims=1, max_dims=4, max_side=5))


def some_arrays() -> dict[str, NDArray[np.uint8]]:
    """Name of a file → its array: 5 training and 3 test images of 9×8 pixels."""
    rng = np.random.default_rng(0)
    made = {}
    for name in NAMES:
        count = COUNTS[name.split("-")[0]]
        shape, top = ((count, 9, 8), 256) if "images" in name else ((count,), 10)
        made[name] = rng.integers(0, top, shape, dtype=np.uint8)
    return made


def put_files(
    folder: Path, suffix: str = "", rename: Callable[[str], str] = str, **changed: NDArray[np.uint8]
) -> dict[str, NDArray[np.uint8]]:
    """The four files in ``folder``, ``changed`` ones given by kind such as ``train_images``."""
    folder.mkdir(parents=True, exist_ok=True)
    made = some_arrays()
    for name in NAMES:
        made[name] = changed.get("_".join(name.split("-")[:2]), made[name])
        content = write_idx(made[name])
        (folder / (rename(name) + suffix)).write_bytes(gzip.compress(content, 1) if suffix == ".gz" else content)
    return made


def put_npz(path: Path, **changed: NDArray[np.generic]) -> dict[str, NDArray[np.uint8]]:
    """Keras's single file at ``path``; the arrays under the names of the four files."""
    made = some_arrays()
    keys = dict(zip(("x_train", "y_train", "x_test", "y_test"), made.values(), strict=True)) | changed
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, allow_pickle=False, **keys)
    return made


def assert_loads(data_dir: Path | None, made: dict[str, NDArray[np.uint8]]) -> None:
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = mnist.load(data_dir, split)
        np.testing.assert_array_equal(images.pixels[..., 0], made[f"{prefix}-images-idx3-ubyte"])
        np.testing.assert_array_equal(images.labels, made[f"{prefix}-labels-idx1-ubyte"])
        assert images.pixels.shape[3] == 1
        assert images.labels is not None
        assert images.labels.dtype == np.int64


def load_or_error(data_dir: Path) -> Images | str:
    """The training images, or the message of the one error that is right to raise."""
    try:
        return mnist.load(data_dir, "train")
    except ValueError as error:
        return str(error)


def parse_error(content: bytes) -> str:
    """What parse_idx says of ``content``, held to one line that names the file."""
    with pytest.raises(ValueError, match=r"^some/file: ") as caught:
        parse_idx(content, "some/file")
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two empty folders: what $VAELAB_DATA names, and the user's cache; nothing can be downloaded."""
    given, cache = tmp_path / "given", tmp_path / "cache"
    given.mkdir()
    monkeypatch.setenv("VAELAB_DATA", str(given))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))

    def refuse(*_args: object, **_options: object) -> None:
        pytest.fail("asked for a download")

    monkeypatch.setattr("vaelab.data.idx.fetch", refuse)
    return given, cache / "vaelab"


# -- the format -------------------------------------------------------------------------------------------------------


@given(uint8_arrays)
def test_round_trip(array: NDArray[np.uint8]) -> None:
    again = parse_idx(write_idx(array), "x")
    assert again.dtype == np.uint8
    np.testing.assert_array_equal(again, array, strict=True)


@given(uint8_arrays)
def test_layout_in_memory_does_not_matter(array: NDArray[np.uint8]) -> None:
    assert write_idx(array.T) == write_idx(array.T.copy(order="C"))


def test_known_bytes() -> None:
    content = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6])
    assert parse_idx(content, "x").tolist() == [[1, 2, 3], [4, 5, 6]]
    assert write_idx(np.array([[1, 2, 3], [4, 5, 6]], np.uint8)) == content


@given(uint8_arrays, st.data())
def test_truncated(array: NDArray[np.uint8], data: st.DataObject) -> None:
    content = write_idx(array)
    parse_error(content[: data.draw(st.integers(0, len(content) - 1))])


@given(uint8_arrays, st.binary(min_size=1, max_size=9))
def test_extended(array: NDArray[np.uint8], more: bytes) -> None:
    assert "longer than its header says" in parse_error(write_idx(array) + more)


@given(st.integers(0, 255), st.binary(max_size=40))
def test_any_bytes_give_an_array_or_one_line(num_dimensions: int, rest: bytes) -> None:
    content = bytes([0, 0, 8, num_dimensions]) + rest
    try:
        array = parse_idx(content, "some/file")
    except ValueError:
        parse_error(content)
    else:
        assert write_idx(array) == content


def test_truncated_says_how_much() -> None:
    message = parse_error(write_idx(np.zeros((2, 3), np.uint8))[:-1])
    assert "2×3 = 6 values; truncated: 5 of 6" in message
    assert "truncated within its header (9 of 12 bytes)" in parse_error(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0]))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\1\0\x08\1\0\0\0\1a",
        b"\0\1\x08\1\0\0\0\1a",
        b"\0\0\x0d\1\0\0\0\1aaaa",
        b"\0\0\x08\0a",
        b"<html>not here</html>",
    ],
    ids=["empty", "magic", "magic-2", "float32", "no-dimensions", "page"],
)
def test_not_idx(content: bytes) -> None:
    assert "not an IDX file of bytes" in parse_error(content)


def test_more_dimensions_than_numpy_has() -> None:
    parse_error(bytes([0, 0, 8, 70]) + bytes([0, 0, 0, 1]) * 70 + b"a")


def test_size_beyond_memory() -> None:
    parse_error(bytes([0, 0, 8, 4]) + b"\xff" * 16)
    parse_error(bytes([0, 0, 8, 4]) + bytes(4) + b"\xff" * 12)  # no values, but absurd sides


# -- gzip -------------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=60).filter(lambda content: content[:2] != b"\x1f\x8b"))
def test_unpack_goes_by_content(content: bytes) -> None:
    assert unpack(content, "x") == content
    assert unpack(gzip.compress(content), "x") == content


def test_gzip_damaged_anywhere() -> None:
    packed = gzip.compress(write_idx(np.arange(60, dtype=np.uint8).reshape(3, 4, 5)))
    for length in range(2, len(packed)):
        with pytest.raises(ValueError, match="some/file: damaged or truncated gzip file"):
            unpack(packed[:length], "some/file")
    middle = len(packed) // 2
    with pytest.raises(ValueError, match="some/file: damaged or truncated gzip file"):
        unpack(packed[:middle] + bytes([packed[middle] ^ 16]) + packed[middle + 1 :], "some/file")


def test_gzip_under_a_plain_name(tmp_path: Path) -> None:
    made = put_files(tmp_path, ".gz")
    for name in NAMES:
        (tmp_path / f"{name}.gz").rename(tmp_path / name)
    assert_loads(tmp_path, made)


def test_plain_under_a_gzip_name(tmp_path: Path) -> None:
    made = put_files(tmp_path)
    for name in NAMES:
        (tmp_path / name).rename(tmp_path / f"{name}.gz")
    assert_loads(tmp_path, made)


# -- layouts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"], ids=["plain", "gzipped"])
@pytest.mark.parametrize("folder", [".", "mnist", "MNIST/raw"])
def test_four_files(tmp_path: Path, folder: str, suffix: str) -> None:
    assert_loads(tmp_path, put_files(tmp_path / folder, suffix))


@pytest.mark.parametrize("suffix", ["", ".gz"], ids=["plain", "gzipped"])
def test_dotted_names(tmp_path: Path, suffix: str) -> None:
    assert_loads(tmp_path, put_files(tmp_path, suffix, lambda name: name.replace("-idx", ".idx")))
    assert (tmp_path / f"train-images.idx3-ubyte{suffix}").exists()


def test_some_gzipped_some_not(tmp_path: Path) -> None:
    made = put_files(tmp_path)
    path = tmp_path / NAMES[0]
    (tmp_path / f"{NAMES[0]}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert_loads(tmp_path, made)


@pytest.mark.parametrize("place", ["mnist.npz", "datasets/mnist.npz"])
def test_keras_file(tmp_path: Path, place: str) -> None:
    assert_loads(tmp_path, put_npz(tmp_path / place))


def test_keras_file_given_itself(tmp_path: Path) -> None:
    path = tmp_path / "any name.npz"
    assert_loads(path, put_npz(path))
    assert mnist.load(path, "train").source == str(path)


def test_unpublished_files_get_a_note(tmp_path: Path) -> None:
    put_files(tmp_path, ".gz")
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = mnist.load(tmp_path, split)
        assert images.notes == tuple(
            f"{prefix}-{kind}.gz is not the published MNIST file" for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
        )
        assert images.source == str(tmp_path.resolve())


def test_digest_of_an_archive_is_compared_too(tmp_path: Path) -> None:
    put_files(tmp_path, ".gz")
    assert len(fashion.load(tmp_path, "test").notes) == 2


def test_unknown_split(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the splits train and test; there is no split 'valid'"):
        mnist.load(tmp_path, "valid")


# -- what does not fit ------------------------------------------------------------------------------------------------


def test_counts_disagree(tmp_path: Path) -> None:
    put_files(tmp_path, train_labels=np.zeros(4, np.uint8))
    with pytest.raises(ValueError, match="5 images but 4 labels in the train split"):
        mnist.load(tmp_path, "train")
    assert len(mnist.load(tmp_path, "test")) == 3


def test_label_that_is_no_class(tmp_path: Path) -> None:
    put_files(tmp_path, t10k_labels=np.array([0, 10, 9], np.uint8))
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte.*: label 10 in the test split"):
        mnist.load(tmp_path, "test")


def test_labels_where_images_are_wanted(tmp_path: Path) -> None:
    put_files(tmp_path, train_images=np.zeros(5, np.uint8))
    with pytest.raises(ValueError, match=r"3 axes is needed; its header declares \[5\]"):
        mnist.load(tmp_path, "train")


def test_no_images(tmp_path: Path) -> None:
    put_files(tmp_path, train_images=np.zeros((0, 9, 8), np.uint8), train_labels=np.zeros(0, np.uint8))
    with pytest.raises(ValueError, match="no images in"):
        mnist.load(tmp_path, "train")


def test_damaged_file_is_named(tmp_path: Path) -> None:
    put_files(tmp_path, ".gz")
    path = tmp_path / f"{NAMES[0]}.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=f"{path}: damaged or truncated gzip file"):
        mnist.load(tmp_path, "train")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_train": np.zeros((5, 9, 8), np.float32)}, r"x_train must be uint8 .*; got float32"),
        ({"y_train": np.zeros(5, np.float64)}, r"y_train must be whole numbers .*; got float64"),
        ({"y_train": np.array([0, 1, -1, 2, 3])}, "label -1 in the train split"),
        ({"y_train": np.zeros(6, np.uint8)}, "5 images but 6 labels"),
        ({"y_train": np.zeros((5, 1), np.uint8)}, r"y_train must be .* \[N\]; got uint8 \[5, 1\]"),
    ],
    ids=["pixels", "float-labels", "negative", "counts", "column"],
)
def test_keras_file_that_does_not_fit(tmp_path: Path, changed: dict[str, NDArray[np.generic]], message: str) -> None:
    put_npz(tmp_path / "mnist.npz", **changed)
    with pytest.raises(ValueError, match=message):
        mnist.load(tmp_path, "train")


def test_keras_file_without_a_key(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    np.savez(path, x_train=np.zeros((5, 9, 8), np.uint8))
    with pytest.raises(ValueError, match=r"mnist\.npz: .*y_train.* x_train and y_train"):
        mnist.load(tmp_path, "train")


def test_keras_file_damaged(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    made = put_npz(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"mnist\.npz: .*damaged"):
            mnist.load(tmp_path, "train")
    rng = np.random.default_rng(1)
    for position, bit in zip(rng.integers(0, len(whole), 150), rng.integers(0, 8, 150), strict=True):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << bit
        path.write_bytes(flipped)
        outcome = load_or_error(tmp_path)
        if isinstance(outcome, str):
            assert str(path) in outcome
        else:
            np.testing.assert_array_equal(outcome.pixels[..., 0], made[NAMES[0]])


def test_keras_name_on_other_content(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros((5, 9, 8), np.uint8))
    with pytest.raises(ValueError, match=r"mnist\.npz: "):
        mnist.load(tmp_path, "train")
    np.savez(path, x_train=np.array([{}]), y_train=np.zeros(1))
    with pytest.raises(ValueError, match=r"mnist\.npz: .*Python objects"):
        mnist.load(tmp_path, "train")


# -- where it is looked for -------------------------------------------------------------------------------------------


def test_no_files_where_named(tmp_path: Path, places: tuple[Path, Path]) -> None:
    put_files(places[0])
    put_files(places[1] / "mnist")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        mnist.load(empty, "train")
    message = str(caught.value)
    assert str(empty) in message
    assert all(f"{name}.gz" in message for name in NAMES)
    assert "--data" in message
    assert mnist.find(empty) is None


def test_three_of_four_files_do_not_count(tmp_path: Path, places: tuple[Path, Path]) -> None:
    put_files(tmp_path / "part")
    (tmp_path / "part" / NAMES[3]).unlink()
    with pytest.raises(FileNotFoundError, match=NAMES[3]):
        mnist.load(tmp_path / "part", "train")


def test_folder_that_does_not_exist(tmp_path: Path, places: tuple[Path, Path]) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        mnist.load(tmp_path / "nowhere", "train")


def test_file_of_another_kind(tmp_path: Path, places: tuple[Path, Path]) -> None:
    path = tmp_path / "mnist.zip"
    path.write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="no files of mnist here"):
        mnist.load(path, "train")


def test_order_of_the_places(tmp_path: Path, places: tuple[Path, Path]) -> None:
    given, cache = places
    assert mnist.find(None) is None
    put_files(cache / "mnist", ".gz")
    assert mnist.find(None) == cache / "mnist"
    put_files(given / "MNIST/raw")
    assert mnist.find(None) == given / "MNIST/raw"
    put_npz(given / "mnist.npz")
    assert mnist.find(None) == given / "mnist.npz"
    put_files(tmp_path / "own")
    assert mnist.find(tmp_path / "own") == tmp_path / "own"
    assert_loads(None, some_arrays())


def test_cache_alone(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAELAB_DATA")
    assert_loads(None, put_files(places[1] / "mnist"))


# -- check ------------------------------------------------------------------------------------------------------------


def test_check_names_what_is_wrong(tmp_path: Path) -> None:
    put_files(tmp_path, t10k_labels=np.array([1, 2], np.uint8))
    (tmp_path / NAMES[1]).write_bytes(b"")
    verdicts = dict(mnist.check(tmp_path))
    assert verdicts[str(tmp_path / NAMES[0])] == f"readable, but not the published {NAMES[0]}"
    assert "not an IDX file" in verdicts[str(tmp_path / NAMES[1])]
    assert "not an IDX file" in verdicts["train split"]
    assert "3 images but 2 labels" in verdicts["test split"]


def test_check_of_a_keras_file_covers_both_splits(tmp_path: Path) -> None:
    put_npz(tmp_path / "mnist.npz", y_test=np.zeros(2, np.uint8))
    verdicts = dict(mnist.check(tmp_path))
    assert list(verdicts) == ["train split", "test split"]
    assert verdicts["train split"] == "ok"
    assert "3 images but 2 labels" in verdicts["test split"]


def test_check_tells_an_archive_that_is_not_the_published_one(tmp_path: Path) -> None:
    put_files(tmp_path / "gzipped", ".gz")
    put_files(tmp_path / "plain")
    gzipped, plain = (dict(fashion.check(tmp_path / name)) for name in ("gzipped", "plain"))
    assert gzipped[str(tmp_path / "gzipped" / f"{NAMES[0]}.gz")] == f"readable, but not the published {NAMES[0]}"
    assert plain[str(tmp_path / "plain" / NAMES[0])].startswith("ok (readable; only the digest of the .gz")


def test_check_of_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no files of mnist here"):
        list(mnist.check(tmp_path))


# -- the published files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("split", "counts"),
    [
        ("train", [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        ("test", [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
    ],
)
def test_real_mnist(split: str, counts: list[int]) -> None:
    if not REAL_MNIST.is_dir():
        pytest.skip(f"MNIST does not lie at {REAL_MNIST}")
    images = mnist.load(REAL_MNIST, split)
    assert images.notes == ()
    assert images.image_shape == mnist.INFO.image_shape
    assert len(images) == mnist.INFO.splits[split]
    assert images.labels is not None
    assert np.bincount(images.labels).tolist() == counts
