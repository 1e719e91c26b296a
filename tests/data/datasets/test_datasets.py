"""Contract tests over every data set."""

from pathlib import Path

import numpy as np
import pytest
from plugins import install
from tiny_datasets import MAKERS, Tiny

import vaelab
from vaelab import recipe
from vaelab.data.datasets import Dataset, load_dataset
from vaelab.data.decode import decode
from vaelab.data.images import Images
from vaelab.data.pictures import encode_png
from vaelab.system import registry
from vaelab.system.errors import InputError, UnknownName

NAMES = registry.names("datasets")
WITH_FILES = [name for name in NAMES if load_dataset(name).info.files]
OF_PICTURES = [name for name in NAMES if load_dataset(name).resize_policy]


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "shapes3d":
        pytest.importorskip("h5py")
    return str(request.param)


@pytest.fixture
def tiny(name: str, tmp_path: Path) -> Tiny:
    """A small instance of the data set, in a folder with its name."""
    if name not in MAKERS:
        pytest.skip(f"no small instance of {name} in tests/support/tiny_datasets.py")
    return MAKERS[name](tmp_path / name)


@pytest.fixture
def dataset(name: str) -> Dataset:
    return load_dataset(name)


every = pytest.mark.parametrize("name", NAMES, indirect=True)
with_files = pytest.mark.parametrize("name", WITH_FILES, indirect=True)
SPLITS = [(name, split) for name in NAMES for split in load_dataset(name).info.splits]


def load(dataset: Dataset, tiny: Tiny, split: str) -> Images:
    return dataset.load(tiny.place, split, **tiny.options)


def assert_one_line(error: BaseException) -> None:
    assert str(error)
    assert len(str(error).splitlines()) == 1


# -- what it declares -------------------------------------------------------------------------------------------------


@every
def test_info_is_complete(dataset: Dataset, name: str) -> None:
    info = dataset.info
    assert "train" in info.splits
    assert set(info.splits) <= {"train", "valid", "test"}
    assert all(count is None or count > 0 for count in info.splits.values())
    assert info.image_shape is not None or not info.is_published
    assert info.title
    assert info.licence
    assert info.source
    if info.files:
        assert dataset.find
        assert dataset.check
        assert dataset.get or info.instructions


@every
def test_options_have_valid_defaults(name: str) -> None:
    validated = recipe.validate({"data": {"name": name}}, name)
    assert recipe.validate({"data": dict(validated.data)}, name) == validated


def test_a_module_without_dataset_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        tmp_path, "odd", {"odd_images": "def load(data_dir, split): ...\n"}, {"vaelab.datasets": {"odd": "odd_images"}}
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="odd_images"):
        load_dataset("odd")


@every
def test_an_unknown_split_is_refused_before_files_are_searched(dataset: Dataset, tmp_path: Path) -> None:
    for place in (None, tmp_path / "missing"):
        with pytest.raises(UnknownName) as caught:
            dataset.load(place, "holdout")
        assert (caught.value.value, set(caught.value.choices)) == ("holdout", set(dataset.info.splits))
        assert_one_line(caught.value)


# -- what it loads ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "split"), SPLITS, indirect=["name"])
def test_images_are_those_of_the_files(dataset: Dataset, tiny: Tiny, split: str) -> None:
    images = load(dataset, tiny, split)
    for column, expected in tiny.expected[split].items():
        np.testing.assert_array_equal(getattr(images, column), expected)
    if not tiny.expected[split] and not tiny.options:
        assert (len(images), images.image_shape) == (dataset.info.splits[split], dataset.info.image_shape)
    assert images.labels is None or set(np.unique(images.labels)) <= set(range(len(images.label_names)))
    if dataset.shape:
        assert images.image_shape == dataset.shape(**tiny.options)
    assert images.fingerprint() == Images(np.asarray(images.pixels)).fingerprint()
    assert tiny.place is None or Path(images.source).is_relative_to(tiny.place)


@every
def test_a_second_load_decodes_nothing(dataset: Dataset, tiny: Tiny) -> None:
    first = load(dataset, tiny, "train")
    before = None if first.cache_folder is None else _times(first.cache_folder)
    second = load(dataset, tiny, "train")
    assert second.fingerprint() == first.fingerprint()
    assert second.notes == first.notes
    if second.cache_folder is not None:
        assert _times(second.cache_folder) == before
        assert isinstance(getattr(second.pixels, "array", second.pixels), np.memmap)


def _times(folder: Path) -> list[tuple[str, int]]:
    return sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())


@every
def test_caching_loads_what_a_training_would(name: str, dataset: Dataset, tiny: Tiny, tmp_path: Path) -> None:
    if tiny.place is None:
        pytest.skip("needs no files")
    options = {f"data.{key}": value for key, value in tiny.options.items()}
    only_train = set(dataset.info.splits) == {"train"}
    images = vaelab.cache_data(tiny.place, name, {**options, **({"data.valid": 4} if only_train else {})})
    assert images.dataset["data"] == name
    total = sum(len(columns["pixels"]) for columns in tiny.expected.values())
    used = len(images.train) + len(images.valid)
    assert used == total - (len(tiny.expected["test"]["pixels"]) if "valid" in tiny.expected else 0)


@pytest.mark.parametrize("name", OF_PICTURES, indirect=True)
def test_other_pictures_become_images_of_the_same_shape(dataset: Dataset, tiny: Tiny) -> None:
    images = load(dataset, tiny, "train")
    assert dataset.resize_policy
    policy = dataset.resize_policy(images.image_shape, **tiny.options)
    channels, height, width = images.image_shape
    assert decode(encode_png(np.full((50, 30, 3), 9, np.uint8)), policy).shape == (height, width, channels)


# -- files ------------------------------------------------------------------------------------------------------------


@with_files
def test_files_are_found(dataset: Dataset, name: str, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dataset.find
    assert dataset.find(None) is None
    assert dataset.find(tiny.place) is not None
    if name != "folder":  # your own pictures are never taken for granted
        monkeypatch.setenv("VAELAB_DATA", str(tiny.place))
        assert dataset.find(None) == dataset.find(tiny.place)
        assert load(dataset, Tiny(None, {}, tiny.options), "train").source == load(dataset, tiny, "train").source


@with_files
def test_missing_files_are_reported_with_a_remedy(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert dataset.find
    assert dataset.find(tmp_path / "empty") is None
    for place in (tmp_path / "empty", tmp_path / "missing"):
        with pytest.raises((FileNotFoundError, InputError)) as caught:
            dataset.load(place, "train")
        assert str(place) in str(caught.value)
        assert_one_line(caught.value)


@with_files
def test_a_data_set_without_download_says_how_to_obtain_it(name: str, dataset: Dataset) -> None:
    if dataset.get:
        pytest.skip("can be downloaded")
    with pytest.raises(InputError) as caught:
        vaelab.get_data(name)
    assert caught.value.value == name
    assert dataset.info.instructions in str(caught.value)


@with_files
def test_check_accepts_whole_files(name: str, tiny: Tiny) -> None:
    assert tiny.place is not None
    (found,) = vaelab.check_data(tiny.place)
    assert found.name == name
    verdicts = [verdict for _, verdict in found.files]
    assert all(verdict.startswith(("ok", "readable, but not the published")) for verdict in verdicts)


@with_files
def test_truncated_files_are_named(
    dataset: Dataset, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file in turn loses its second half, with an empty cache."""
    assert tiny.place is not None
    assert dataset.check
    for i, path in enumerate(sorted(path for path in tiny.place.rglob("*") if path.is_file())):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache {i}"))
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        errors = []
        for split in tiny.expected:
            try:
                load(dataset, tiny, split)
            except ValueError as error:
                errors.append(error)
        assert errors, path
        assert all(str(path) in str(error) or path.name in str(error) for error in errors[:1])
        assert any(not verdict.startswith("ok") for _, verdict in dataset.check(tiny.place))
        for error in errors:
            assert_one_line(error)
        path.write_bytes(whole)
    for split, columns in tiny.expected.items():
        np.testing.assert_array_equal(load(dataset, tiny, split).pixels, columns["pixels"])


@with_files
def test_a_wrong_option_is_refused_before_files_are_checked(name: str, tiny: Tiny, cache: Path) -> None:
    assert tiny.place is not None
    with pytest.raises(UnknownName):
        vaelab.check_data(tiny.place, {"data.no_such_option": 1})
    assert not cache.exists()
