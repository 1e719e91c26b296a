"""Downloads of data sets in MNIST's format: four files, several mirrors, digests."""

import gzip
import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
from idx_files import write_idx_set
from mirrors import Answer, Server, list_paths, send

from vaelab.data.datasets import DatasetInfo, fashion, kmnist, mnist
from vaelab.data.datasets._idx_files import IdxSet, Mirrored
from vaelab.data.idx import write_idx
from vaelab.system.download import DownloadFailed


def tiny_files() -> dict[str, bytes]:
    """Name → gzipped content of a data set of 4 training and 2 test images."""
    made = {}
    for prefix, count in (("train", 4), ("t10k", 2)):
        made[f"{prefix}-images-idx3-ubyte"] = np.full((count, 8, 8), count, np.uint8)
        made[f"{prefix}-labels-idx1-ubyte"] = np.arange(count, dtype=np.uint8)
    return {name: gzip.compress(write_idx(array), mtime=0) for name, array in made.items()}


def tiny_set(digest_of: str, *mirrors: str) -> IdxSet:
    """The data set, its digests those of the ``content`` or of the ``archive``."""
    files = []
    for name, packed in tiny_files().items():
        given = packed if digest_of == "archive" else gzip.decompress(packed)
        files.append(Mirrored(name, **{f"{digest_of}_sha256": hashlib.sha256(given).hexdigest()}))
    about = DatasetInfo(
        "Tiny", (1, 8, 8), {"train": 4, "test": 2}, "none", "made up", tuple(file.name for file in files)
    )
    return IdxSet("tiny", about, tuple(files), mirrors, folders=("tiny",))


def offer(server: Server, folder: str, **changed: Answer) -> str:
    """The four files below ``folder``, other answers for those named by kind such as ``train_images``; its address."""
    for name, packed in tiny_files().items():
        server.answers[f"/{folder}/{name}.gz"] = [changed.get("_".join(name.split("-")[:2]), send(packed))]
    return f"{server.url}{folder}/"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, empty."""
    monkeypatch.delenv("VAELAB_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "vaelab"


@contextmanager
def nothing_asked(server: Server) -> Iterator[None]:
    before = server.asked.copy()
    yield
    assert server.asked == before


digests = pytest.mark.parametrize("digest_of", ["content", "archive"])


@digests
def test_files_are_downloaded_once(servers: Callable[..., Server], tmp_path: Path, digest_of: str) -> None:
    server = servers()
    tiny = tiny_set(digest_of, offer(server, "a"))
    folder = tiny.get(tmp_path / "here")
    assert folder == tmp_path / "here"
    assert list_paths(folder) == sorted(f"{name}.gz" for name in tiny_files())
    with nothing_asked(server):
        assert tiny.get(folder) == folder
        images = tiny.load(folder, "train")
    assert images.pixels.shape == (4, 8, 8, 1)
    assert images.notes == ()


@digests
def test_loading_downloads_into_the_cache(servers: Callable[..., Server], cache: Path, digest_of: str) -> None:
    server = servers()
    tiny = tiny_set(digest_of, offer(server, "a"))
    images = tiny.load(None, "test")
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1]
    assert images.source == str((cache / "tiny").resolve())
    assert set(server.asked.values()) == {1}
    with nothing_asked(server):
        assert len(tiny.load(None, "train")) == 4


@digests
def test_each_file_has_its_own_mirror(servers: Callable[..., Server], cache: Path, digest_of: str) -> None:
    server = servers()
    other = gzip.compress(write_idx(np.zeros((4, 8, 8), np.uint8)))
    first = offer(server, "a", train_images=send(other), t10k_labels=send(b"", 404))
    tiny = tiny_set(digest_of, first, offer(server, "b"))
    assert tiny.load(None, "train").notes == ()
    assert sorted(path for path in server.asked if path.startswith("/b/")) == [
        "/b/t10k-labels-idx1-ubyte.gz",
        "/b/train-images-idx3-ubyte.gz",
    ]


def put(folder: Path, content: bytes) -> Path:
    (folder / "received").write_bytes(content)
    return folder / "received"


def test_the_digest_of_the_content_ignores_the_compression(
    servers: Callable[..., Server], cache: Path, tmp_path: Path
) -> None:
    packed = tiny_files()["train-images-idx3-ubyte"]
    again = gzip.compress(gzip.decompress(packed), 1, mtime=7)
    assert again != packed
    server = servers()
    mirror = offer(server, "a", train_images=send(again))
    assert tiny_set("content", mirror).load(None, "train").notes == ()
    with pytest.raises(ValueError) as error:
        tiny_set("archive", mirror).files[0].check(put(tmp_path, again))
    assert "train-images-idx3-ubyte" in str(error.value)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as error:
        tiny_set("content").files[0].check(put(tmp_path, b"<html>log in first</html>"))
    assert "gzip" in str(error.value)


def test_a_download_is_resumed(servers: Callable[..., Server], cache: Path) -> None:
    server = servers()
    mirror = offer(server, "a", t10k_images=send(b"", 404))
    with pytest.raises(DownloadFailed):
        tiny_set("content", mirror).load(None, "train")
    server.asked.clear()
    offer(server, "a")
    assert len(tiny_set("content", mirror).load(None, "train")) == 4
    assert sorted(server.asked) == ["/a/t10k-images-idx3-ubyte.gz", "/a/t10k-labels-idx1-ubyte.gz"]


def test_without_network_every_file_is_named(servers: Callable[..., Server], cache: Path, closed_port: str) -> None:
    with pytest.raises(DownloadFailed) as caught:
        tiny_set("content", closed_port, closed_port).load(None, "train")
    assert all(f"{name}.gz" in str(caught.value) for name in tiny_files())
    assert "\n" not in str(caught.value)
    assert list_paths(cache) == ["tiny"]


def test_a_given_folder_downloads_nothing(servers: Callable[..., Server], cache: Path, tmp_path: Path) -> None:
    server = servers()
    tiny = tiny_set("content", offer(server, "a"))
    (tmp_path / "empty").mkdir()
    with nothing_asked(server), pytest.raises(FileNotFoundError):
        tiny.load(tmp_path / "empty", "train")


@pytest.mark.parametrize(
    ("member", "num_mirrors"), [(mnist, 2), (fashion, 2), (kmnist, 1)], ids=["mnist", "fashion", "kmnist"]
)
def test_published_files_have_mirrors_and_a_digest(
    member: ModuleType, num_mirrors: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def send_other_content(url: str, **_options: object) -> requests.Response:
        asked.append(url)
        response = requests.Response()
        response.status_code = 200
        response.raw = io.BytesIO(gzip.compress(write_idx(np.zeros((2, 28, 28), np.uint8))))
        return response

    monkeypatch.setattr(requests, "get", send_other_content)
    with pytest.raises(DownloadFailed):
        member.DATASET.get(tmp_path)
    assert list_paths(tmp_path) == [], "content with another digest is refused"
    parts = [urlsplit(url) for url in asked]
    assert len({part.netloc for part in parts}) == num_mirrors
    own = write_idx_set(tmp_path / "own", ending=".gz")
    verdicts = [verdict for name, verdict in member.DATASET.check(own) if "idx" in name]
    assert len(verdicts) == 4
    assert "ok" not in verdicts, "each file has a digest, which other content does not match"
