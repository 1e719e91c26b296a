"""Files of images with known factors: dSprites', 3D Shapes', a person's own; how they are cached, what is refused."""

import importlib
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

import vaelab
from vaelab.data import array_cache
from vaelab.data.array_cache import as_classes
from vaelab.data.images import Images
from vaelab.system import registry
from vaelab.system.files import DiskFull

Content = dict[str, NDArray[Any]]
NAMES = ("dsprites", "shapes3d", "arrays")
PUBLISHED = {
    "dsprites": "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
    "shapes3d": "3dshapes.h5",
    "arrays": "arrays.npz",
}
COUNT = 12


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("VAELAB_DATA", raising=False)
    return tmp_path / "cache" / "vaelab" / "images"


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "shapes3d":
        pytest.importorskip("h5py")
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def module(name: str) -> ModuleType:
    return registry.load("datasets", name)


def drawn(*shape: int, top: int = 256) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, top, shape, dtype=np.uint8)


class Trap:
    """What no one may unpickle."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return pytest.fail, ("it was unpickled",)


def content(name: str, **changed: Any) -> Content:
    """The arrays of a small file as its authors lay it out."""
    grid = np.indices((2, 3, 2)).reshape(3, -1).T
    if name == "dsprites":
        classes = np.zeros((COUNT, 6), np.int64)
        classes[:, [1, 2, 5]] = grid
        made = {
            "imgs": drawn(COUNT, 9, 8, top=2),
            "latents_classes": classes,
            "latents_values": classes * 0.5,
            "metadata": np.array(Trap(), object),
        }
    elif name == "shapes3d":
        values = np.zeros((COUNT, 6))
        values[:, [0, 3, 5]] = grid * [0.1, 0.07, 15.0] + [0.2, 0.75, -30.0]
        made = {"images": drawn(COUNT, 9, 8, 3), "labels": values}
    else:
        names = np.array(["elevation", "azimuth", "object"])
        made = {"images": drawn(COUNT, 9, 8, 3), "factors": grid * 7 - 3, "factor_names": names}
    return {key: value for key, value in {**made, **changed}.items() if value is not None}


def put(name: str, path: Path, **changed: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = content(name, **changed)
    if name == "shapes3d":
        h5py = importlib.import_module("h5py")
        with h5py.File(path, "w") as file:
            for key, value in made.items():
                chunks = (5, 4, 4, 1) if key == "images" and value.ndim == 4 else None
                file.create_dataset(key, data=value, chunks=chunks, compression="gzip" if chunks else None)
    else:
        np.savez_compressed(path, **made)
    return path


EXPECTED: dict[str, dict[str, Any]] = {
    "dsprites": {
        "pixels": content("dsprites")["imgs"][..., None] * np.uint8(255),
        "names": ("shape", "scale", "orientation", "x", "y"),
        "sizes": (2, 3, 1, 1, 2),
    },
    "shapes3d": {
        "pixels": content("shapes3d")["images"],
        "names": ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation"),
        "sizes": (2, 1, 1, 3, 1, 2),
    },
    "arrays": {
        "pixels": content("arrays")["images"],
        "names": ("elevation", "azimuth", "object"),
        "sizes": (2, 3, 2),
    },
}


# -- what is read -----------------------------------------------------------------------------------------------------


def test_images_and_factors_are_those_of_the_file(name: str, folder: Path) -> None:
    path = put(name, folder / PUBLISHED[name])
    images = module(name).load(folder, "train")
    expected = EXPECTED[name]
    np.testing.assert_array_equal(images.pixels, expected["pixels"])
    assert isinstance(images.pixels, np.memmap)
    assert (images.factor_names, images.factor_sizes) == (expected["names"], expected["sizes"])
    np.testing.assert_array_equal(np.ravel_multi_index(images.factors.T, images.factor_sizes), np.arange(COUNT))
    assert images.factors.dtype == np.int64
    assert images.digest == Images(expected["pixels"]).fingerprint()
    assert images.source == str(path)
    assert images.notes


def test_the_file_is_unpacked_once_and_again_when_it_changes(name: str, folder: Path, cache: Path) -> None:
    put(name, folder / PUBLISHED[name])
    first = module(name).load(folder, "train")
    (manifest,) = cache.glob("*/manifest.json")
    before = manifest.stat()
    assert module(name).load(folder, "train").digest == first.digest
    assert manifest.stat() == before
    key = "imgs" if name == "dsprites" else "images"
    put(name, folder / PUBLISHED[name], **{key: content(name)[key][::-1]})
    np.testing.assert_array_equal(module(name).load(folder, "train").pixels, EXPECTED[name]["pixels"][::-1])


def test_large_arrays_are_read_in_blocks(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = EXPECTED[name]["pixels"][0].size
    monkeypatch.setattr(array_cache, "BLOCK_BYTES", 3 * row + 1)
    put(name, folder / PUBLISHED[name])
    images = module(name).load(folder, "train")
    np.testing.assert_array_equal(images.pixels, EXPECTED[name]["pixels"])


def test_where_files_are_looked_for(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert module(name).find(folder) is None
    assert module(name).find(None) is None
    other = put(name, folder / f"another{Path(PUBLISHED[name]).suffix}")
    assert module(name).find(folder) is None
    assert module(name).find(other) == other
    usual = put(name, folder / PUBLISHED[name])
    assert module(name).find(folder) == usual
    monkeypatch.setenv("VAELAB_DATA", str(folder))
    assert module(name).find(None) == usual


@pytest.mark.parametrize(("name", "below"), [("dsprites", "dsprites-dataset"), ("shapes3d", "3dshapes")])
def test_folders_in_which_others_leave_them(name: str, below: str, folder: Path) -> None:
    (folder / below).mkdir()
    (folder / below / PUBLISHED[name]).touch()
    assert module(name).find(folder) == folder / below / PUBLISHED[name]


def test_files_of_other_sets_are_left_to_them(folder: Path) -> None:
    own, published = put("arrays", folder / "a.npz"), put("dsprites", folder / "b.npz")
    (folder / "c.npz").write_bytes(b"no zip")
    assert [module("dsprites").find(path) for path in (own, published, folder / "c.npz")] == [None, published, None]
    assert [module("arrays").find(path) for path in (own, published, folder / "c.npz")] == [own, None, None]
    assert module("shapes3d").find(own) is None


# -- a person's own arrays --------------------------------------------------------------------------------------------


def test_grey_images_need_no_channel_and_factors_no_names(folder: Path) -> None:
    path = put("arrays", folder / "own.npz", images=drawn(COUNT, 10, 9), factor_names=None)
    images = module("arrays").load(path, "train")
    np.testing.assert_array_equal(images.pixels, drawn(COUNT, 10, 9)[..., None])
    assert images.factor_names == ("factor 0", "factor 1", "factor 2")


def test_images_without_factors(folder: Path) -> None:
    path = put("arrays", folder / "own.npz", factors=None, factor_names=None)
    images = module("arrays").load(path, "train")
    assert images.factors is None
    assert (images.factor_names, images.factor_sizes) == ((), ())
    assert len(images) == COUNT


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named_with_its_place_and_licence(name: str, folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"^{folder}: .*{PUBLISHED[name]}.*--data") as caught:
        module(name).load(folder, "train")
    if name != "arrays":
        assert "https://" in str(caught.value)
        assert "Apache 2.0" in str(caught.value)
        with pytest.raises(ValueError, match=rf"does not download {name}.*https://"):
            module(name).get(None)
    with pytest.raises(FileNotFoundError, match=PUBLISHED[name]):
        module(name).load(None, "train")
    with pytest.raises(FileNotFoundError, match=PUBLISHED[name]):
        list(module(name).check(folder))


def test_there_is_one_split(name: str, folder: Path, cache: Path) -> None:
    put(name, folder / PUBLISHED[name])
    with pytest.raises(ValueError, match=r"12 images.*no split 'test'.*--set data\.valid=1$"):
        module(name).load(folder, "test")
    assert not cache.exists(), "and nothing was cached for it"


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("dsprites", {"imgs": drawn(COUNT, 9, 8, top=3)}, r"imgs must be 0 \(black\) and 1 \(white\); got 2"),
    ("dsprites", {"imgs": drawn(COUNT, 9, 8, 3, top=2)}, r"imgs must be \[N, H, W\]; got \[12, 9, 8, 3\]"),
    ("dsprites", {"imgs": drawn(COUNT, 9, 8, top=2) * 1.0}, "imgs must be uint8; got float64"),
    ("dsprites", {"imgs": drawn(COUNT - 1, 9, 8, top=2)}, "12 factors for 11 images"),
    ("dsprites", {"latents_classes": np.zeros((COUNT, 5), int)}, "has 5 columns; dSprites has color, shape"),
    ("dsprites", {"latents_classes": np.zeros((COUNT, 6))}, r"must be whole numbers \[N, F\]; got float64 \[12, 6\]"),
    ("dsprites", {"latents_classes": np.eye(COUNT, 6, dtype=int)}, "several colors"),
    ("dsprites", {"latents_classes": np.array(Trap(), object)}, "Python objects"),
    ("dsprites", {"imgs": np.array([Trap()] * COUNT, object)}, "Python objects"),
    ("shapes3d", {"images": None}, "no images in it; 3D Shapes has images and labels"),
    ("shapes3d", {"images": None, "labels": None}, "no images and no labels in it"),
    ("shapes3d", {"images": drawn(COUNT, 9, 8)}, r"images must be uint8 \[N, H, W, 3\]; got uint8 \[12, 9, 8\]"),
    ("shapes3d", {"images": drawn(COUNT, 9, 8, 3) * 1.0}, "got float64"),
    ("shapes3d", {"labels": np.zeros((COUNT + 1, 6))}, "13 factors for 12 images"),
    ("shapes3d", {"labels": np.zeros((COUNT, 3))}, "labels has 3 columns; 3D Shapes has floor_hue"),
    ("shapes3d", {"labels": np.full((COUNT, 6), np.nan)}, "labels must be finite"),
    ("arrays", {"images": drawn(COUNT, 9, 8, 2)}, r"1 or 3 channels .*; got 9×8 with 2 channels"),
    ("arrays", {"images": drawn(COUNT, 7, 8, 3)}, "sides of 8 pixels or more; got 7×8"),
    ("arrays", {"images": drawn(COUNT, 9)}, r"pixels must be uint8 \[N, H, W, C\]; got uint8 \[12, 9\]"),
    ("arrays", {"images": drawn(0, 9, 8)}, "no images"),
    ("arrays", {"images": np.asfortranarray(drawn(COUNT, 9, 8))}, r"save np\.ascontiguousarray\(images\)"),
    ("arrays", {"images": drawn(COUNT, 9, 8).astype(">u2")}, "images must be uint8; got >u2"),
    ("arrays", {"factors": np.zeros(COUNT, int)}, r"factors must be whole numbers \[N, F\]; got int64 \[12\]"),
    ("arrays", {"factors": np.zeros((COUNT, 0), int)}, r"got int64 \[12, 0\]"),
    ("arrays", {"factors": np.zeros((COUNT, 3))}, "factors must be whole numbers"),
    ("arrays", {"factor_names": np.array(["a", "b"])}, "2 names of factors for 3 factors"),
]


@pytest.mark.parametrize(("name", "changed", "said"), WRONG)
def test_what_is_wrong_with_a_file_is_said_in_one_line(
    name: str, changed: dict[str, Any], said: str, folder: Path, cache: Path
) -> None:
    if name == "shapes3d":
        pytest.importorskip("h5py")
    path = put(name, folder / PUBLISHED[name], **changed)
    with pytest.raises(ValueError, match=said) as caught:
        module(name).load(folder, "train")
    assert str(caught.value).startswith(f"{path}")
    assert len(str(caught.value).splitlines()) == 1
    assert not [left for left in cache.rglob("*") if left.is_dir()]
    assert list(module(name).check(folder)) == [(str(path), str(caught.value))]


def test_a_truncated_file(name: str, folder: Path) -> None:
    path = put(name, folder / PUBLISHED[name])
    whole = path.read_bytes()
    for length in (0, 20, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"^{path}.*damaged"):
            module(name).load(folder, "train")


@pytest.mark.parametrize(("name", "key"), [("dsprites", "imgs"), ("arrays", "images")])
def test_a_flipped_bit_in_an_npz_does_not_pass(name: str, key: str, folder: Path, cache: Path) -> None:
    path = put(name, folder / PUBLISHED[name])
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{key}.npy")
    damaged = bytearray(path.read_bytes())
    damaged[info.header_offset + 100 + info.compress_size // 2] ^= 16
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=rf"^{path}.*damaged.*{key}"):
        module(name).load(folder, "train")
    assert not [left for left in cache.rglob("*") if left.is_dir()]


@pytest.mark.parametrize(("extra", "said"), [(-1, "truncated"), (1, "longer than its header says")])
def test_an_array_of_another_length_than_its_header_says(extra: int, said: str, folder: Path) -> None:
    path = folder / "own.npz"
    np.save(folder / "images.npy", drawn(COUNT, 9, 8))
    whole = (folder / "images.npy").read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", whole + b"\0" if extra > 0 else whole[:extra])
    with pytest.raises(ValueError, match=said):
        module("arrays").load(path, "train")


def test_without_h5py_it_is_said_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / PUBLISHED["shapes3d"]).touch()
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ValueError, match=r"3dshapes\.h5: reading it needs the extra h5: pip install 'vaelab\[h5\]'"):
        module("shapes3d").load(folder, "train")


def test_a_disk_without_room(name: str, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(name, folder / PUBLISHED[name])
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(DiskFull):
        module(name).load(folder, "train")
    assert not [left for left in cache.rglob("*") if left.is_dir()]


# -- the verbs --------------------------------------------------------------------------------------------------------


def test_checking(name: str, folder: Path) -> None:
    path = put(name, folder / PUBLISHED[name])
    (found,) = vaelab.check_data(folder)
    assert (found.name, found.folder) == (name, path)
    published = module(name).INFO.splits["train"]
    words = "ok" if published is None else f"ok (12 images; published are {published:,})"
    assert found.files == [(str(path), words)]


def test_a_published_set_that_is_not_whole_says_so_in_its_notes(folder: Path) -> None:
    put("dsprites", folder / PUBLISHED["dsprites"])
    assert "12 images; published are 737,280" in module("dsprites").load(folder, "train").notes


def test_caching_as_a_training_would(name: str, folder: Path) -> None:
    put(name, folder / PUBLISHED[name])
    cached = vaelab.cache_data(folder, set={"data.valid": 4})
    assert (cached.dataset["data"], len(cached.train), len(cached.valid)) == (name, 8, 4)
    assert cached.train.factor_sizes == EXPECTED[name]["sizes"]
    assert cached.valid.factors is not None
    np.testing.assert_array_equal(
        cached.valid.pixels,
        EXPECTED[name]["pixels"][np.ravel_multi_index(cached.valid.factors.T, cached.valid.factor_sizes)],
    )


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
    ("given", "said"),
    [
        ({"factors": np.zeros(3, np.int64)}, r"factors must be whole numbers \[N, F\]; got int64 \[3\]"),
        ({"factor_names": ("one",)}, "1 names of factors for 2 factors"),
        ({"factor_sizes": (1, 2, 3)}, "3 sizes of factors for 2 factors"),
        ({"factor_sizes": (5, 1)}, r"from 0 to below \[5, 1\]"),
        ({"factors": np.array([[0, -1]] * 3), "factor_sizes": (1, 1)}, "from 0 to below"),
    ],
)
def test_factors_that_are_none(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Images(drawn(3, 8, 8, 1), **{"factors": np.ones((3, 2), np.int64), **given})
    Images(drawn(3, 8, 8, 1), factors=np.ones((3, 2), np.int64))  # names and sizes may be unknown
