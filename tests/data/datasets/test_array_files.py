"""Arrays in files: which of them are images, labels and held-out images; any kind of numbers and order of axes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_datasets import random_pixels
from typed import Typed, train_small

import vaelab
from vaelab.api.run_images import load_run_images
from vaelab.data.datasets import load_dataset
from vaelab.data.images import Images
from vaelab.system.errors import InputError

LOAD = load_dataset("arrays").load
TRAIN, HELD_OUT = random_pixels(20, 10, 9, 3), random_pixels(6, 10, 9, 3)
LABELS = np.arange(20) % 3


def load(path: Path, split: str = "train", **options: Any) -> Images:
    return LOAD(path, split, **{"valid": 0, **options})


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("images", "labels"),
    [("images", "labels"), ("x_train", "y_train"), ("X", "y"), ("data", "targets"), ("train_images", "train_labels")],
)
def test_usual_names_are_known(tmp_path: Path, images: str, labels: str) -> None:
    found = load(save(tmp_path / "a.npz", **{labels: LABELS[:, None], images: TRAIN}))
    np.testing.assert_array_equal(found.pixels, TRAIN)
    np.testing.assert_array_equal(found.labels, LABELS)


def test_files_of_medmnist_have_their_splits(tmp_path: Path) -> None:
    arrays = {"train_images": TRAIN, "val_images": HELD_OUT, "test_images": HELD_OUT[:2]}
    labels = {name.replace("images", "labels"): LABELS[: len(array), None] for name, array in arrays.items()}
    path = save(tmp_path / "pneumoniamnist.npz", **arrays, **labels)
    run = train_small(tmp_path / "run", {"data.name": "arrays"}, name="folder", data=path)
    found = load_run_images(run, None)
    np.testing.assert_array_equal(found.train.pixels, TRAIN)
    np.testing.assert_array_equal(found.valid.pixels, HELD_OUT)
    np.testing.assert_array_equal(found.valid.labels, LABELS[:6])
    assert (found.valid_split, run.recipe.data["valid"]) == ("val", 0)
    assert "auto" not in map(str, run.recipe.data.values())
    assert [run.recipe.data[key] for key in ("images", "labels")] == ["train_images", "train_labels"]


def test_other_names_are_given(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", a=TRAIN[..., 0], b=255 - TRAIN[..., 0], kinds=LABELS)
    found = load(path, images="b", labels="kinds")
    np.testing.assert_array_equal(np.asarray(found.pixels)[..., 0], 255 - TRAIN[..., 0])
    assert found.labels is not None


def test_a_single_array_needs_no_name(tmp_path: Path) -> None:
    np.testing.assert_array_equal(load(save(tmp_path / "a.npz", faces=TRAIN, ages=LABELS)).pixels, TRAIN)
    np.save(tmp_path / "b.npy", TRAIN)
    np.testing.assert_array_equal(load(tmp_path / "b.npy").pixels, TRAIN)


@pytest.mark.parametrize(
    "given",
    [
        TRAIN.transpose(0, 3, 1, 2),
        TRAIN.astype(">u2"),
        np.asfortranarray(TRAIN),
        TRAIN.astype(np.float32) / 255,
        TRAIN.astype(np.float16),
    ],
)
def test_any_numbers_and_axes_are_read(tmp_path: Path, given: Any) -> None:
    np.testing.assert_array_equal(load(save(tmp_path / "a.npz", images=given)).pixels, TRAIN)


def test_held_out_images_have_the_range_of_the_others(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", train_images=TRAIN * 2.0, test_images=HELD_OUT * 1.0)
    assert load(path).resolved["range"] == [0.0, 510.0]
    np.testing.assert_array_equal(load(path, "test").eight_bits, np.rint(HELD_OUT / 2))


def test_held_out_images_have_the_size_of_the_others(tmp_path: Path, wording: Callable[[object], None]) -> None:
    path = save(tmp_path / "a.npz", train_images=TRAIN, test_images=HELD_OUT[:, 1:])
    with pytest.raises(InputError) as caught:
        load(path, "test")
    wording(caught.value)


@pytest.mark.filterwarnings("ignore:posterior collapse")  # 4 steps are few
def test_deep_arrays_of_many_channels_are_trained_on(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 4096, (20, 5, 10, 9)).astype(np.uint16)
    deep[0, 0, 0, :2] = 0, 4095
    np.save(tmp_path / "a.npy", deep)
    run = train_small(
        tmp_path / "run", {"data.name": "arrays", "training.steps": 4}, name="folder", data=tmp_path / "a.npy"
    )
    assert [run.recipe.data[key] for key in ("range", "axes")] == [[0.0, 4095.0], "NCHW"]
    assert load_run_images(run, None).train.pixels.dtype == np.uint16
    scored = vaelab.score(run.path, tmp_path / "a.npy", out=tmp_path / "scores.csv")
    assert scored.num_images == 20
    model = vaelab.load(run.path)
    np.testing.assert_allclose(
        vaelab.encode(run.path, tmp_path / "a.npy").mean, model.encode(deep / 4095).mean, atol=1e-3
    )
    vaelab.reconstruct(run.path, out=tmp_path / "pairs.png")
    assert (tmp_path / "pairs.png").is_file()


def test_nan_is_refused_with_the_name_of_the_file(tmp_path: Path, wording: Callable[[object], None]) -> None:
    np.save(tmp_path / "a.npy", np.where(np.arange(10)[:, None, None] == 7, np.nan, np.zeros((10, 9, 9))))
    with pytest.raises(InputError) as caught:
        load(tmp_path / "a.npy")
    wording(caught.value)


def test_an_npy_is_trained_on(cli: Typed, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", TRAIN)
    words = ("--set", "network.name=mlp", "--set", "training.steps=2", "--set", "training.figures=[]", "--run", "run")
    assert cli("train", "folder", "--set", "data.name=arrays", "--data", "a.npy", *words)[0] == 0
    assert cli("data", "check", "a.npy")[0] == 0


def test_hdf5_files_are_read(tmp_path: Path, wording: Callable[[object], None]) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "galaxies.h5"
    with h5py.File(path, "w") as file:
        file["group/images"] = TRAIN
        file["ans"] = ["ab"[label % 2] for label in LABELS]
    images = load(path, labels="ans")
    np.testing.assert_array_equal(images.pixels, TRAIN)
    assert images.label_names == ("a", "b")
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(InputError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    (tmp_path / "a.txt").write_text("no arrays")
    with pytest.raises(InputError) as caught:
        load(tmp_path / "a.txt")
    wording(caught.value)


@pytest.mark.parametrize("options", [{"images": "c"}, {"labels": "c"}])
def test_missing_arrays_are_named(tmp_path: Path, options: Any, wording: Callable[[object], None]) -> None:
    path = save(tmp_path / "a.npz", images=TRAIN, labels=LABELS)
    with pytest.raises(InputError) as caught:
        load(path, **options)
    assert caught.value.choices == ("images", "labels")
    wording(caught.value)
