"""dSprites, 3D Shapes and the user's own arrays: files of images with known factors."""

import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from tiny_datasets import FACTOR_FILES, GRID, NUM_IMAGES, Unpicklable, put_factor_file, random_pixels
from wording import Wording

import vaelab
from vaelab.data.array_cache import as_classes
from vaelab.data.datasets import Dataset, load_dataset
from vaelab.data.images import Images
from vaelab.system.errors import InputError
from vaelab.system.files import DamagedFile

FACTORS = {
    "dsprites": (("shape", "scale", "orientation", "x", "y"), (2, 3, 1, 1, 2)),
    "shapes3d": (("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation"), (2, 1, 1, 3, 1, 2)),
    "arrays": (("elevation", "azimuth", "object"), (2, 3, 2)),
}
"""Names and sizes of the factors in a small file."""
WHOLE: dict[str, dict[str, Any]] = {"arrays": {"valid": 0}}
"""Options with which a data set holds nothing out."""


@pytest.fixture(params=FACTORS)
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "shapes3d":
        pytest.importorskip("h5py")
    return str(request.param)


@pytest.fixture
def dataset(name: str) -> Dataset:
    return load_dataset(name)


@pytest.fixture
def path(name: str, tmp_path: Path) -> Path:
    """A small file under its published name."""
    return put_factor_file(name, tmp_path / "data" / FACTOR_FILES[name])


# -- content ----------------------------------------------------------------------------------------------------------


def test_factors_are_those_of_the_file(name: str, dataset: Dataset, path: Path) -> None:
    images = dataset.load(path.parent, "train", **WHOLE.get(name, {}))
    assert (images.factor_names, images.factor_sizes) == FACTORS[name]
    assert images.factors is not None
    assert images.factors.dtype == np.int64
    np.testing.assert_array_equal(np.ravel_multi_index(images.factors.T, images.factor_sizes), np.arange(NUM_IMAGES))
    assert images.source == str(path)
    assert images.notes


def test_a_changed_file_is_read_again(name: str, dataset: Dataset, path: Path) -> None:
    before = np.array(dataset.load(path, "train", **WHOLE.get(name, {})).pixels)
    key = "imgs" if name == "dsprites" else "images"
    pixels = random_pixels(*before.shape, high=2 if name == "dsprites" else 256)[::-1]
    put_factor_file(name, path, **{key: pixels[..., 0] if name == "dsprites" else pixels})
    np.testing.assert_array_equal(dataset.load(path, "train", **WHOLE.get(name, {})).pixels, before[::-1])


def test_large_images_are_read_in_blocks(name: str, dataset: Dataset, path: Path) -> None:
    pixels = random_pixels(NUM_IMAGES, 700, 600, high=2)
    changed = pixels if name == "dsprites" else np.repeat(pixels[..., None], 3, axis=3)
    put_factor_file(name, path, **{"imgs" if name == "dsprites" else "images": changed})
    expected = changed if name == "shapes3d" else changed.reshape(NUM_IMAGES, 700, 600, -1) * np.uint8(255)
    np.testing.assert_array_equal(dataset.load(path, "train", **WHOLE.get(name, {})).pixels, expected)


def test_a_training_sets_images_aside(name: str, path: Path) -> None:
    images = vaelab.cache_data(path.parent, set={"data.valid": 4})
    assert (images.dataset["data"], len(images.train), len(images.valid)) == (name, 8, 4)
    assert images.train.factor_sizes == images.valid.factor_sizes == FACTORS[name][1]
    factors = np.concatenate([images.train.factors, images.valid.factors])
    assert len(np.unique(factors, axis=0)) == NUM_IMAGES


def test_fewer_images_than_published_are_noted(tmp_path: Path) -> None:
    put_factor_file("dsprites", tmp_path / FACTOR_FILES["dsprites"])
    assert any("737,280" in note for note in load_dataset("dsprites").load(tmp_path, "train").notes)


def test_own_arrays_need_no_channels_names_or_factors(tmp_path: Path) -> None:
    load, grey = load_dataset("arrays").load, random_pixels(NUM_IMAGES, 10, 9)
    images = load(put_factor_file("arrays", tmp_path / "a.npz", images=grey, factor_names=None), "train", valid=0)
    np.testing.assert_array_equal(images.pixels, grey[..., None])
    assert images.factor_names == ("factor 0", "factor 1", "factor 2")
    images = load(put_factor_file("arrays", tmp_path / "b.npz", factors=None, factor_names=None), "train", valid=0)
    assert (images.factors, images.factor_names, images.factor_sizes) == (None, (), ())
    assert len(images) == NUM_IMAGES


# -- finding ----------------------------------------------------------------------------------------------------------


def test_files_with_other_names_must_be_named(dataset: Dataset, path: Path) -> None:
    assert dataset.find
    other = path.rename(path.with_stem("another"))
    assert dataset.find(other.parent) is None
    assert dataset.find(other) == other


@pytest.mark.parametrize(("name", "below"), [("dsprites", "dsprites-dataset"), ("shapes3d", "3dshapes")])
def test_folders_of_other_programs_are_searched(name: str, below: str, tmp_path: Path) -> None:
    (tmp_path / below).mkdir()
    (tmp_path / below / FACTOR_FILES[name]).touch()
    find = load_dataset(name).find
    assert find
    assert find(tmp_path) == tmp_path / below / FACTOR_FILES[name]


def test_files_are_told_apart_by_their_arrays(tmp_path: Path) -> None:
    own, published = put_factor_file("arrays", tmp_path / "a.npz"), put_factor_file("dsprites", tmp_path / "b.npz")
    (tmp_path / "c.npz").write_bytes(b"no zip")
    found = {}
    for name in FACTORS:
        find = load_dataset(name).find
        assert find
        found[name] = [find(path) for path in (own, published, tmp_path / "c.npz")]
    none = [None, None, None]
    assert found == {"arrays": [own, None, None], "dsprites": [None, published, None], "shapes3d": none}


# -- wrong content ----------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "dsprites: a value above 1": ("dsprites", {"imgs": random_pixels(NUM_IMAGES, 9, 8, high=3)}),
    "dsprites: channels": ("dsprites", {"imgs": random_pixels(NUM_IMAGES, 9, 8, 3, high=2)}),
    "dsprites: floats": ("dsprites", {"imgs": random_pixels(NUM_IMAGES, 9, 8, high=2) * 1.0}),
    "dsprites: an image too few": ("dsprites", {"imgs": random_pixels(NUM_IMAGES - 1, 9, 8, high=2)}),
    "dsprites: a factor too few": ("dsprites", {"latents_classes": np.zeros((NUM_IMAGES, 5), int)}),
    "dsprites: floating-point factors": ("dsprites", {"latents_classes": np.zeros((NUM_IMAGES, 6))}),
    "dsprites: several colours": ("dsprites", {"latents_classes": np.eye(NUM_IMAGES, 6, dtype=int)}),
    "dsprites: objects as factors": ("dsprites", {"latents_classes": np.array(Unpicklable(), object)}),
    "dsprites: objects as images": ("dsprites", {"imgs": np.array([Unpicklable()] * NUM_IMAGES, object)}),
    "shapes3d: no images": ("shapes3d", {"images": None}),
    "shapes3d: nothing": ("shapes3d", {"images": None, "labels": None}),
    "shapes3d: no channels": ("shapes3d", {"images": random_pixels(NUM_IMAGES, 9, 8)}),
    "shapes3d: floats": ("shapes3d", {"images": random_pixels(NUM_IMAGES, 9, 8, 3) * 1.0}),
    "shapes3d: an image too few": ("shapes3d", {"labels": np.zeros((NUM_IMAGES + 1, 6))}),
    "shapes3d: factors too few": ("shapes3d", {"labels": np.zeros((NUM_IMAGES, 3))}),
    "shapes3d: not finite": ("shapes3d", {"labels": np.full((NUM_IMAGES, 6), np.nan)}),
    "arrays: too small": ("arrays", {"images": random_pixels(NUM_IMAGES, 7, 8, 3)}),
    "arrays: flat": ("arrays", {"images": random_pixels(NUM_IMAGES, 9)}),
    "arrays: empty": ("arrays", {"images": random_pixels(0, 9, 8)}),
    "arrays: complex": ("arrays", {"images": random_pixels(NUM_IMAGES, 9, 8) * 1j}),
    "arrays: NaN": ("arrays", {"images": random_pixels(NUM_IMAGES, 9, 8) * np.nan}),
    "arrays: labels too few": ("arrays", {"labels": np.zeros(NUM_IMAGES - 1, int)}),
    "arrays: no images": ("arrays", {"images": None}),
    "arrays: several images": ("arrays", {"images": None, "a": random_pixels(9, 9, 8), "b": random_pixels(9, 9, 8)}),
    "arrays: one factor": ("arrays", {"factors": np.zeros(NUM_IMAGES, int)}),
    "arrays: no factor": ("arrays", {"factors": np.zeros((NUM_IMAGES, 0), int)}),
    "arrays: floating-point factors": ("arrays", {"factors": np.zeros((NUM_IMAGES, 3))}),
    "arrays: names too few": ("arrays", {"factor_names": np.array(["a", "b"])}),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_content_is_refused(fault: str, tmp_path: Path, cache: Path, wording: Wording) -> None:
    name, changed = WRONG[fault]
    if name == "shapes3d":
        pytest.importorskip("h5py")
    path, dataset = put_factor_file(name, tmp_path / FACTOR_FILES[name], **changed), load_dataset(name)
    with pytest.raises(ValueError) as caught:
        dataset.load(tmp_path, "train")
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value).splitlines()) == 1
    wording(caught.value)
    assert not [left for left in cache.rglob("*") if left.is_dir()]
    assert dataset.check
    assert list(dataset.check(tmp_path)) == [(str(path), str(caught.value))]


@pytest.mark.parametrize(("name", "key"), [("dsprites", "imgs"), ("arrays", "images")])
def test_a_flipped_bit_in_an_npz_is_noticed(name: str, key: str, tmp_path: Path, cache: Path) -> None:
    path = put_factor_file(name, tmp_path / FACTOR_FILES[name])
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{key}.npy")
    damaged = bytearray(path.read_bytes())
    damaged[info.header_offset + 100 + info.compress_size // 2] ^= 16
    path.write_bytes(damaged)
    with pytest.raises(DamagedFile) as caught:
        load_dataset(name).load(tmp_path, "train")
    assert caught.value.path == path
    assert not [left for left in cache.rglob("*") if left.is_dir()]


@pytest.mark.parametrize("extra", [-1, 1])
def test_an_array_of_another_length_than_its_header_says(extra: int, tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    np.save(tmp_path / "images.npy", random_pixels(NUM_IMAGES, 9, 8))
    whole = (tmp_path / "images.npy").read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", whole + b"\0" if extra > 0 else whole[:extra])
    with pytest.raises(DamagedFile) as caught:
        load_dataset("arrays").load(path, "train")
    assert caught.value.path == path


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wording: Wording) -> None:
    (tmp_path / FACTOR_FILES["shapes3d"]).touch()
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError) as caught:
        load_dataset("shapes3d").load(tmp_path, "train")
    assert caught.value.subject == tmp_path / FACTOR_FILES["shapes3d"]
    wording(caught.value)


def test_a_full_disk_is_not_taken_for_a_damaged_file(
    dataset: Dataset, path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1 << 20}))
    with pytest.raises(OSError, match="XDG_CACHE_HOME"):
        dataset.load(path, "train")
    assert not [left for left in cache.rglob("*") if left.is_dir()]


# -- factors ----------------------------------------------------------------------------------------------------------


@given(
    arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.sampled_from([-1.5, 0, 0.1, 7]))
)
def test_classes_are_ranks_of_values(values: NDArray[np.float64]) -> None:
    classes = as_classes(values)
    assert classes.dtype == np.int64
    for column, of_column in zip(values.T, classes.T, strict=True):
        distinct = np.unique(column)
        np.testing.assert_array_equal(distinct[of_column], column)
        assert of_column.max() == len(distinct) - 1


@pytest.mark.parametrize(
    "changed",
    [
        {"factors": np.zeros(NUM_IMAGES, np.int64)},
        {"factor_names": ("one",)},
        {"factor_sizes": (1, 2, 3, 4)},
        {"factor_sizes": (5, 5, 1)},
        {"factors": GRID - 1, "factor_sizes": (1, 2, 1)},
    ],
    ids=["flat", "names", "number of sizes", "sizes", "negative"],
)
def test_images_refuse_inconsistent_factors(changed: dict[str, Any]) -> None:
    pixels = random_pixels(NUM_IMAGES, 8, 8, 1)
    Images(pixels, factors=GRID)  # names and sizes may be unknown
    with pytest.raises(ValueError, match="factors"):
        Images(pixels, **{"factors": GRID, **changed})
