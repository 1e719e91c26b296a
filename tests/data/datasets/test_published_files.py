"""Published data sets of archives, files of MATLAB and .npz: downloads, digests, other layouts, damaged content."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from mirrors import Server, list_paths, send
from tiny_datasets import Tiny, cifar_files, emnist_files, make_cifar, make_medmnist, make_svhn, published
from typed import Typed
from wording import Wording

from vaelab.data.datasets import cifar10, cifar100, emnist, load_dataset, medmnist, svhn
from vaelab.data.datasets._published_files import PublishedFile, PublishedSet, Subset
from vaelab.data.images import Images
from vaelab.system.download import DownloadFailed
from vaelab.system.errors import InputError
from vaelab.system.files import DamagedFile


@pytest.fixture
def served(servers: Callable[..., Server], tmp_path: Path) -> tuple[PublishedSet, Server, Tiny]:
    """CIFAR-10 with a small archive that a local server offers, its address, and what the archive holds."""
    tiny = make_cifar("cifar10", tmp_path / "published")
    assert tiny.place is not None
    content = (tiny.place / cifar10.ARCHIVE.name).read_bytes()
    server = servers(send(content))
    file = PublishedFile(cifar10.ARCHIVE.name, f"md5:{hashlib.md5(content).hexdigest()}", (f"{server.url}file",))
    subsets = {"": Subset((file,), ("data_batch_1.bin", "test_batch.bin"))}
    return PublishedSet("cifar10", cifar10.INFO, subsets, (), cifar10.read), server, tiny


def test_a_data_set_is_downloaded_once(served: tuple[PublishedSet, Server, Tiny]) -> None:
    cifar, server, tiny = served
    for split, columns in tiny.expected.items():
        images = cifar.load(None, split)
        np.testing.assert_array_equal(images.pixels, columns["pixels"])
        assert images.notes == ()
    assert server.asked["/file"] == 1


def test_a_damaged_file_in_the_cache_is_replaced(served: tuple[PublishedSet, Server, Tiny], tmp_path: Path) -> None:
    cifar, _, tiny = served
    path = cifar.get(None) / cifar10.ARCHIVE.name
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DamagedFile):
        cifar.load(None, "test")
    assert dict(cifar.check(path.parent))["test split"] != "ok"
    cifar.get(None)
    np.testing.assert_array_equal(cifar.load(None, "test").pixels, tiny.expected["test"]["pixels"])
    assert set(dict(cifar.check(path.parent)).values()) == {"ok"}


def test_another_file_is_refused_with_advice(
    served: tuple[PublishedSet, Server, Tiny], tmp_path: Path, wording: Wording
) -> None:
    cifar, server, _ = served
    server.answers["/file"] = [send(b"<html>")]
    with pytest.raises(DownloadFailed) as caught:
        cifar.get(tmp_path / "here")
    assert list_paths(tmp_path / "here") == []
    wording(str(caught.value).replace(server.place, "HOST"))


@pytest.mark.parametrize("member", [cifar10, cifar100, emnist, svhn, medmnist], ids=lambda member: member.INFO.title)
def test_every_file_has_an_address_and_a_digest(member: Any) -> None:
    sets = member._SET.subsets.values()
    for file in {file for subset in sets for file in subset.files}:
        algorithm, _, digest = file.digest.partition(":")
        assert len(digest) == {"md5": 32, "sha256": 64}[algorithm]
        assert int(digest, 16)
        assert all(url.partition("?")[0].endswith(f"/{file.name}") for url in file.urls)


# -- other layouts ----------------------------------------------------------------------------------------------------


def put(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_an_archive_is_named_itself_or_unpacked(tmp_path: Path) -> None:
    load, tiny = load_dataset("cifar100").load, make_cifar("cifar100", tmp_path / "archive")
    assert tiny.place is not None
    put(tmp_path / "root" / "cifar-100-binary", cifar_files("cifar100", tiny.expected))
    for place in (tiny.place / "cifar-100-binary.tar.gz", tmp_path / "root", tmp_path / "root" / "cifar-100-binary"):
        images = load(place, "test")
        np.testing.assert_array_equal(images.pixels, tiny.expected["test"]["pixels"])
        np.testing.assert_array_equal(images.labels, tiny.expected["test"]["labels"])
        coarse = load(place, "test", classes="coarse")
        np.testing.assert_array_equal(coarse.labels, tiny.expected["test"]["labels"] // 5)
        assert (len(images.label_names), len(coarse.label_names)) == (100, 20)


@pytest.mark.parametrize("subset", ["balanced", "letters"])
def test_emnist_is_read_unpacked(tmp_path: Path, subset: Any) -> None:
    found = published(28, 28, 1, num_classes=20)
    put(tmp_path / "EMNIST" / "raw", emnist_files(subset, found))
    images = emnist.load(tmp_path, "train", subset=subset)
    np.testing.assert_array_equal(images.pixels, found["train"]["pixels"])
    np.testing.assert_array_equal(images.labels, found["train"]["labels"])
    assert images.label_name(10) == {"balanced": "A", "letters": "k"}[subset]
    with pytest.raises(FileNotFoundError):
        emnist.load(tmp_path, "train", subset="digits")


def test_findings_of_chest_images_are_attributes(tmp_path: Path) -> None:
    pixels, findings = np.zeros((6, 64, 64), np.uint8), np.arange(84).reshape(6, 14) % 2
    np.savez(tmp_path / "chestmnist_64.npz", val_images=pixels, val_labels=findings)
    images = medmnist.load(tmp_path, "valid", subset="chestmnist", size=64)
    np.testing.assert_array_equal(images.attributes, findings)
    assert images.attribute_names[-1] == "hernia"
    assert medmnist.find_shape(subset="chestmnist", size=64) == images.image_shape


def test_a_plan_knows_the_size_of_a_subset(cli: Typed) -> None:
    code, out, _ = cli("train", "mnist", "--dry-run", "--set", "data.name=medmnist", "--set", "data.subset=breastmnist")
    assert code == 0
    assert "546" in out


# -- damaged content --------------------------------------------------------------------------------------------------


def cifar_place(folder: Path, **changed: bytes) -> Path:
    files = cifar_files("cifar10", published(32, 32, 3, num_classes=10))
    return put(folder, {name: changed.get(name.partition(".")[0], content) for name, content in files.items()})


def svhn_place(folder: Path, **changed: Any) -> Path:
    make_svhn(folder)
    arrays = scipy.io.loadmat(folder / "test_32x32.mat", variable_names=["X", "y"])
    scipy.io.savemat(folder / "test_32x32.mat", {**{name: arrays[name] for name in "Xy"}, **changed})
    return folder


def medmnist_place(folder: Path, **changed: Any) -> Path:
    arrays = {"test_images": np.zeros((4, 28, 28), np.uint8), "test_labels": np.zeros((4, 1), np.int64)}
    folder.mkdir()
    np.savez(folder / "pneumoniamnist.npz", **{**arrays, **changed})
    return folder


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("cifar10", lambda folder: cifar_place(folder, test_batch=b"\1" * 3072)),
        ("cifar10", lambda folder: cifar_place(folder, test_batch=b"\12" * 3073)),
        ("svhn", lambda folder: svhn_place(folder, X=np.zeros((32, 32, 3)))),
        ("svhn", lambda folder: svhn_place(folder, y=np.full((3, 1), 11))),
        ("svhn", lambda folder: svhn_place(folder, X=np.array([[1], "a"], object))),
        ("medmnist", lambda folder: medmnist_place(folder, test_images=np.zeros((4, 28, 28, 3), np.uint8))),
        ("medmnist", lambda folder: medmnist_place(folder, test_labels=np.zeros((3, 1), np.int64))),
        ("medmnist", lambda folder: medmnist_place(folder, test_labels=np.full((4, 1), 2))),
    ],
)
def test_content_of_another_kind_is_refused(
    name: str, make: Callable[[Path], Path], tmp_path: Path, wording: Wording
) -> None:
    options = {"subset": "pneumoniamnist"} if name == "medmnist" else {}
    with pytest.raises(InputError) as caught:
        load_dataset(name).load(make(tmp_path / "files"), "test", **options)
    wording(str(caught.value))


def test_pickles_are_not_read(tmp_path: Path, wording: Wording) -> None:
    put(tmp_path / "cifar-10-batches-py", {"data_batch_1": b"", "test_batch": b""})
    with pytest.raises(FileNotFoundError) as caught:
        cifar10.load(tmp_path, "train")
    wording(str(caught.value))


def test_a_run_names_files_that_are_not_the_published_ones(tmp_path: Path) -> None:
    tiny = make_medmnist(tmp_path / "medmnist")
    images: Images = replace(medmnist.load(tiny.place, "test", **tiny.options))
    assert images.notes == ("pneumoniamnist.npz is not the published file",)
