"""Where MNIST and its relatives are found, and what is refused."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from paths import SHARED

from vaelab.data.datasets.fashion import DATASET as FASHION
from vaelab.data.datasets.kmnist import DATASET as KMNIST
from vaelab.data.datasets.mnist import DATASET as MNIST
from vaelab.data.idx import write_idx
from vaelab.data.images import Images
from vaelab.system.files import DamagedFile

REAL_MNIST = SHARED / "data" / "mnist"
NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
COUNTS = {"train": 5, "t10k": 3}


def some_arrays() -> dict[str, NDArray[np.uint8]]:
    """Return file name → array: 5 training and 3 test images of 9×8 pixels."""
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
    """Write the four files; ``changed`` replaces arrays by kind, such as ``train_images``."""
    folder.mkdir(parents=True, exist_ok=True)
    made = some_arrays()
    for name in NAMES:
        made[name] = changed.get("_".join(name.split("-")[:2]), made[name])
        content = write_idx(made[name])
        (folder / (rename(name) + suffix)).write_bytes(gzip.compress(content, 1) if suffix == ".gz" else content)
    return made


def put_npz(path: Path, **changed: NDArray[np.generic]) -> dict[str, NDArray[np.uint8]]:
    """Write Keras's single file; return the arrays by the names of the four files."""
    made = some_arrays()
    keys = dict(zip(("x_train", "y_train", "x_test", "y_test"), made.values(), strict=True)) | changed
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, allow_pickle=False, **keys)
    return made


def assert_loads(data_dir: Path | None, made: dict[str, NDArray[np.uint8]]) -> None:
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = MNIST.load(data_dir, split)
        np.testing.assert_array_equal(images.pixels[..., 0], made[f"{prefix}-images-idx3-ubyte"])
        np.testing.assert_array_equal(images.labels, made[f"{prefix}-labels-idx1-ubyte"])
        assert images.pixels.shape[3] == 1
        assert images.labels is not None
        assert images.labels.dtype == np.int64


def load_or_error(data_dir: Path) -> Images | DamagedFile:
    """Return the training images, or the only error that may be raised."""
    try:
        return MNIST.load(data_dir, "train")
    except DamagedFile as error:
        return error


def refused(data_dir: Path, path: Path, split: str = "train") -> str:
    """Return the reason why a split is refused; the error names ``path``."""
    with pytest.raises(DamagedFile) as raised:
        MNIST.load(data_dir, split)
    assert raised.value.path == path
    return raised.value.reason


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Return two empty folders, that of $VAELAB_DATA and the user's cache; downloads are refused."""
    given, cache = tmp_path / "given", tmp_path / "cache"
    given.mkdir()
    monkeypatch.setenv("VAELAB_DATA", str(given))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))

    def refuse(*_args: object, **_options: object) -> None:
        pytest.fail("asked for a download")

    monkeypatch.setattr("vaelab.data.datasets._idx_files.fetch", refuse)
    return given, cache / "vaelab"


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
    assert MNIST.load(path, "train").source == str(path)


def test_unpublished_files_get_a_note(tmp_path: Path) -> None:
    put_files(tmp_path, ".gz")
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = MNIST.load(tmp_path, split)
        assert images.notes == tuple(
            f"{prefix}-{kind}.gz is not the published MNIST file" for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
        )
        assert images.source == str(tmp_path.resolve())


def test_digest_of_an_archive_is_compared_too(tmp_path: Path) -> None:
    put_files(tmp_path, ".gz")
    assert len(FASHION.load(tmp_path, "test").notes) == 2


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


# -- unsuitable content ------------------------------------------------------------------------------------------------


def test_counts_disagree(tmp_path: Path) -> None:
    put_files(tmp_path, train_labels=np.zeros(4, np.uint8))
    assert refused(tmp_path, tmp_path) == "5 images but 4 labels in the train split"
    assert len(MNIST.load(tmp_path, "test")) == 3


def test_label_out_of_range(tmp_path: Path) -> None:
    put_files(tmp_path, t10k_labels=np.array([0, 10, 9], np.uint8))
    reason = refused(tmp_path, tmp_path / "t10k-labels-idx1-ubyte", "test")
    assert reason == "label 10 in the test split; mnist has 0 … 9"


def test_labels_instead_of_images(tmp_path: Path) -> None:
    put_files(tmp_path, train_images=np.zeros(5, np.uint8))
    assert "its header declares [5]" in refused(tmp_path, tmp_path / NAMES[0])


def test_no_images(tmp_path: Path) -> None:
    put_files(tmp_path, train_images=np.zeros((0, 9, 8), np.uint8), train_labels=np.zeros(0, np.uint8))
    with pytest.raises(ValueError, match="no images in"):
        MNIST.load(tmp_path, "train")


def test_damaged_file_is_named(tmp_path: Path) -> None:
    put_files(tmp_path, ".gz")
    path = tmp_path / f"{NAMES[0]}.gz"
    path.write_bytes(path.read_bytes()[:-20])
    assert "gzip" in refused(tmp_path, path)


@pytest.mark.parametrize(
    ("changed", "fact"),
    [
        ({"x_train": np.zeros((5, 9, 8), np.float32)}, "got float32"),
        ({"y_train": np.zeros(5, np.float64)}, "got float64"),
        ({"y_train": np.array([0, 1, -1, 2, 3])}, "label -1 in the train split"),
        ({"y_train": np.zeros(6, np.uint8)}, "5 images but 6 labels"),
        ({"y_train": np.zeros((5, 1), np.uint8)}, "got uint8 [5, 1]"),
    ],
    ids=["pixels", "float-labels", "negative", "counts", "column"],
)
def test_keras_file_that_does_not_fit(tmp_path: Path, changed: dict[str, NDArray[np.generic]], fact: str) -> None:
    put_npz(tmp_path / "mnist.npz", **changed)
    assert fact in refused(tmp_path, tmp_path / "mnist.npz")


def test_keras_file_without_a_key(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    np.savez(path, x_train=np.zeros((5, 9, 8), np.uint8))
    assert "y_train" in refused(tmp_path, path)


def test_keras_file_damaged(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    made = put_npz(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert refused(tmp_path, path)
    rng = np.random.default_rng(1)
    for position, bit in zip(rng.integers(0, len(whole), 150), rng.integers(0, 8, 150), strict=True):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << bit
        path.write_bytes(flipped)
        outcome = load_or_error(tmp_path)
        if isinstance(outcome, DamagedFile):
            assert outcome.path == path
        else:
            np.testing.assert_array_equal(outcome.pixels[..., 0], made[NAMES[0]])


def test_keras_name_on_other_content(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros((5, 9, 8), np.uint8))
    assert refused(tmp_path, path)
    np.savez(path, x_train=np.array([{}]), y_train=np.zeros(1))
    assert "Python objects" in refused(tmp_path, path)


# -- places -------------------------------------------------------------------------------------------


def test_no_files_in_the_given_folder(tmp_path: Path, places: tuple[Path, Path]) -> None:
    put_files(places[0])
    put_files(places[1] / "mnist")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        MNIST.load(empty, "train")
    message = str(caught.value)
    assert str(empty) in message
    assert all(f"{name}.gz" in message for name in NAMES)
    assert "--data" in message
    assert MNIST.find(empty) is None


def test_three_of_four_files_do_not_count(tmp_path: Path, places: tuple[Path, Path]) -> None:
    put_files(tmp_path / "part")
    (tmp_path / "part" / NAMES[3]).unlink()
    with pytest.raises(FileNotFoundError, match=NAMES[3]):
        MNIST.load(tmp_path / "part", "train")


def test_folder_that_does_not_exist(tmp_path: Path, places: tuple[Path, Path]) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        MNIST.load(tmp_path / "nowhere", "train")


def test_file_of_another_kind(tmp_path: Path, places: tuple[Path, Path]) -> None:
    path = tmp_path / "mnist.zip"
    path.write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="no files of mnist here"):
        MNIST.load(path, "train")


def test_order_of_the_places(tmp_path: Path, places: tuple[Path, Path]) -> None:
    given, cache = places
    assert MNIST.find(None) is None
    put_files(cache / "mnist", ".gz")
    assert MNIST.find(None) == cache / "mnist"
    put_files(given / "MNIST/raw")
    assert MNIST.find(None) == given / "MNIST/raw"
    put_npz(given / "mnist.npz")
    assert MNIST.find(None) == given / "mnist.npz"
    put_files(tmp_path / "own")
    assert MNIST.find(tmp_path / "own") == tmp_path / "own"
    assert_loads(None, some_arrays())


def test_cache_alone(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAELAB_DATA")
    assert_loads(None, put_files(places[1] / "mnist"))


# -- check ------------------------------------------------------------------------------------------------------------


def test_check_names_problems(tmp_path: Path) -> None:
    put_files(tmp_path, t10k_labels=np.array([1, 2], np.uint8))
    (tmp_path / NAMES[1]).write_bytes(b"")
    verdicts = dict(MNIST.check(tmp_path))
    assert verdicts[str(tmp_path / NAMES[0])] == f"readable, but not the published {NAMES[0]}"
    assert "not an IDX file" in verdicts[str(tmp_path / NAMES[1])]
    assert "not an IDX file" in verdicts["train split"]
    assert "3 images but 2 labels" in verdicts["test split"]


def test_check_of_a_keras_file_covers_both_splits(tmp_path: Path) -> None:
    put_npz(tmp_path / "mnist.npz", y_test=np.zeros(2, np.uint8))
    verdicts = dict(MNIST.check(tmp_path))
    assert list(verdicts) == ["train split", "test split"]
    assert verdicts["train split"] == "ok"
    assert "3 images but 2 labels" in verdicts["test split"]


def test_check_finds_unpublished_archives(tmp_path: Path) -> None:
    put_files(tmp_path / "gzipped", ".gz")
    put_files(tmp_path / "plain")
    gzipped, plain = (dict(KMNIST.check(tmp_path / name)) for name in ("gzipped", "plain"))
    assert gzipped[str(tmp_path / "gzipped" / f"{NAMES[0]}.gz")] == f"readable, but not the published {NAMES[0]}"
    assert plain[str(tmp_path / "plain" / NAMES[0])].startswith("ok (readable; only the digest of the .gz")


def test_check_of_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no files of mnist here"):
        list(MNIST.check(tmp_path))


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
    images = MNIST.load(REAL_MNIST, split)
    assert images.notes == ()
    assert images.image_shape == MNIST.info.image_shape
    assert len(images) == MNIST.info.splits[split]
    assert images.labels is not None
    assert np.bincount(images.labels).tolist() == counts
