"""Static MNIST and Caltech 101 silhouettes: text files, foreign content, and the published files where they are."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_datasets import make_binary, random_pixels

from vaelab.data.datasets import UnusableFile, load_dataset
from vaelab.system.files import DamagedFile


def write_text(place: Path) -> dict[str, np.ndarray]:
    """The three text files of static MNIST with few images."""
    place.mkdir()
    written = {
        split: random_pixels(count, 28, 28, high=2) for split, count in (("train", 5), ("valid", 4), ("test", 3))
    }
    for split, pixels in written.items():
        lines = [" ".join(map(str, image.flatten())) for image in pixels]
        (place / f"binarized_mnist_{split}.amat").write_text("\n".join(lines) + "\n")
    return written


def test_text_files_are_read_as_published(tmp_path: Path) -> None:
    written, dataset = write_text(tmp_path / "amat"), load_dataset("static_mnist")
    for split, pixels in written.items():
        images = dataset.load(tmp_path / "amat", split)
        np.testing.assert_array_equal(images.pixels[..., 0], pixels * 255)
        assert len(images.notes) == 1, "these are not the published images"
    assert dataset.find(tmp_path) is None
    (tmp_path / "amat").rename(tmp_path / "binarized_mnist")
    assert dataset.find(tmp_path) == tmp_path / "binarized_mnist"


@pytest.mark.parametrize("content", ["0 1 2", "0 1 0", ""])
def test_text_that_is_no_images_is_named(tmp_path: Path, content: str, wording: Any) -> None:
    write_text(tmp_path / "amat")
    (tmp_path / "amat" / "binarized_mnist_valid.amat").write_text(content)
    with pytest.raises(DamagedFile) as caught:
        load_dataset("static_mnist").load(tmp_path / "amat", "valid")
    wording(caught.value)
    verdicts = dict(load_dataset("static_mnist").check(tmp_path / "amat"))
    assert "binarized_mnist_valid.amat" in verdicts["valid split"]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("train", np.full((7, 28, 28), 255, np.uint8)),
        ("train", np.zeros((7, 784), np.uint8)),
        ("train_labels", np.zeros(7, np.int64)),
        ("train_labels", np.ones(6, np.int64)),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, name: str, wrong: np.ndarray, wording: Any) -> None:
    place = make_binary("caltech101", tmp_path / "set").place
    assert place is not None
    file = place / "caltech101_silhouettes.npz"
    with np.load(file) as content:
        arrays = dict(content)
    np.savez(file, **{**arrays, name: wrong})
    with pytest.raises(UnusableFile) as caught:
        load_dataset("caltech101").load(place, "train")
    wording(caught.value)


def test_a_renamed_file_is_recognised_by_its_arrays(tmp_path: Path) -> None:
    for name, other in (("caltech101", "static_mnist"), ("static_mnist", "caltech101")):
        place = make_binary(name, tmp_path / name).place
        assert place is not None
        (path,) = place.iterdir()
        renamed = path.rename(place / "renamed.npz")
        assert load_dataset(name).find(renamed) == renamed
        assert load_dataset(other).find(renamed) is None


@pytest.mark.parametrize("name", ["static_mnist", "caltech101"])
def test_published_files_have_the_published_digests(name: str) -> None:
    folder = os.environ.get("VAELAB_BINARIZED", "")
    if not folder:
        pytest.skip("needs the published files: set VAELAB_BINARIZED to their folder")
    dataset = load_dataset(name)
    for split, count in dataset.info.splits.items():
        images = dataset.load(Path(folder), split)
        assert (len(images), images.notes) == (count, ())
