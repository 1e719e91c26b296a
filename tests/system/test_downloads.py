"""Downloads from servers that answer, lie, break off, stall and fail; all of them in this process."""

import gzip
import hashlib
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from vaelab.data.datasets import fashion, mnist
from vaelab.data.datasets._idx_files import IdxSet, Mirrored
from vaelab.data.idx import write_idx
from vaelab.data.images import DatasetInfo
from vaelab.system.download import TRIES, DownloadFailed, fetch
from vaelab.system.progress import Task, show_progress

GOOD = bytes(range(256)) * 40
SHORT = 0.3
"""Seconds before a stalling server is given up."""
Answer = Callable[[BaseHTTPRequestHandler], None]


def check(content: bytes) -> None:
    if content != GOOD:
        raise ValueError(f"{len(content)} bytes that are not the file")


def send(body: bytes = b"", status: int = 200, promised: int | None = None) -> Answer:
    """Answers with ``body``, whose length is given as ``promised``, and hangs up."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(body) if promised is None else promised))
        request.end_headers()
        request.wfile.write(body)

    return answer


class Server:
    """A mirror: the last of the answers given for a path is repeated, every other path is a 404."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.asked: Counter[str] = Counter()
        self.released = threading.Event()
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answers = mirror.answers.get(self.path, [send(status=404)])
                number = mirror.asked[self.path]
                mirror.asked[self.path] += 1
                answers[min(number, len(answers) - 1)](self)

            def log_message(self, *_args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = False
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.place = f"127.0.0.1:{self._http.server_port}"
        self.url = f"http://{self.place}/"

    def stall(self, sent_first: bytes = b"") -> Answer:
        """Says nothing more after a first piece, until the server closes."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            if sent_first:
                request.send_response(200)
                request.send_header("Content-Length", str(len(GOOD)))
                request.end_headers()
                request.wfile.write(sent_first)
            self.released.wait(10)

        return answer

    def close(self) -> None:
        self.released.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """Starts servers that give the answers listed for ``/file``."""
    monkeypatch.setattr("vaelab.system.download.PAUSE_SECONDS", 0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ExitStack() as stack:

        def start(*answers: Answer) -> Server:
            server = Server()
            stack.callback(server.close)
            if answers:
                server.answers["/file"] = list(answers)
            return server

        yield start


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "file"


@pytest.fixture
def closed_port() -> str:
    """The address of a server that does not exist."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


def urls(*mirrors: Server) -> list[str]:
    return [f"{mirror.url}file" for mirror in mirrors]


def left_in(folder: Path) -> list[str]:
    """Everything that lies in or below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def assert_second_gives_it(first: Server, second: Server, target: Path) -> None:
    fetch(urls(first, second), target, check, timeout=SHORT)
    assert target.read_bytes() == GOOD
    assert left_in(target.parent) == ["file"]
    assert second.asked["/file"] == 1


# -- one file ---------------------------------------------------------------------------------------------------------


def test_good_file(servers: Callable[..., Server], target: Path) -> None:
    first, second = servers(send(GOOD)), servers(send(GOOD))
    fetch(urls(first, second), target, check)
    assert target.read_bytes() == GOOD
    assert left_in(target.parent) == ["file"]
    assert (first.asked["/file"], second.asked["/file"]) == (1, 0)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_refusal_is_final(servers: Callable[..., Server], target: Path, status: int) -> None:
    first = servers(send(b"not here", status))
    assert_second_gives_it(first, servers(send(GOOD)), target)
    assert first.asked["/file"] == 1


def test_other_content_is_final(servers: Callable[..., Server], target: Path) -> None:
    first = servers(send(GOOD[:-1] + b"x"))
    assert_second_gives_it(first, servers(send(GOOD)), target)
    assert first.asked["/file"] == 1


def test_cut_off_then_next_mirror(servers: Callable[..., Server], target: Path) -> None:
    first = servers(send(GOOD[:5000], promised=len(GOOD)))
    assert_second_gives_it(first, servers(send(GOOD)), target)
    assert first.asked["/file"] == TRIES


def test_cut_off_then_whole(servers: Callable[..., Server], target: Path) -> None:
    only = servers(send(GOOD[:5000], promised=len(GOOD)), send(GOOD))
    fetch(urls(only), target, check)
    assert target.read_bytes() == GOOD
    assert left_in(target.parent) == ["file"]


def test_server_error_then_good(servers: Callable[..., Server], target: Path) -> None:
    only = servers(send(b"busy", 500), send(GOOD))
    fetch(urls(only), target, check)
    assert target.read_bytes() == GOOD
    assert only.asked["/file"] == 2


@pytest.mark.parametrize("sent_first", [b"", GOOD[:5000]], ids=["at-once", "in-the-middle"])
def test_stalling_server(servers: Callable[..., Server], target: Path, sent_first: bytes) -> None:
    first = servers()
    first.answers["/file"] = [first.stall(sent_first)]
    assert_second_gives_it(first, servers(send(GOOD)), target)
    assert first.asked["/file"] == TRIES


def test_nobody_there_then_next_mirror(servers: Callable[..., Server], target: Path, closed_port: str) -> None:
    second = servers(send(GOOD))
    fetch([f"{closed_port}file", *urls(second)], target, check, timeout=SHORT)
    assert target.read_bytes() == GOOD


def test_all_fail(servers: Callable[..., Server], target: Path, closed_port: str) -> None:
    missing, broken, other, cut = (
        servers(),
        servers(send(b"", 503)),
        servers(send(b"<html>log in first</html>")),
        servers(send(GOOD[:9], promised=99)),
    )
    silent = servers()
    silent.answers["/file"] = [silent.stall()]
    mirrors = [*urls(missing, broken, other, cut, silent), f"{closed_port}file"]
    with pytest.raises(DownloadFailed) as caught:
        fetch(mirrors, target, check, timeout=SHORT)
    message = str(caught.value)
    assert message.split("; ")[:4] == [
        f"{missing.place}: answered 404",
        f"{broken.place}: answered 503",
        f"{other.place}: sent something else (25 bytes that are not the file)",
        f"{cut.place}: the connection failed (ChunkedEncodingError)",
    ]
    assert f"{silent.place}: did not answer within 0.3 s" in message
    assert f"{urlsplit(closed_port).netloc}: the connection failed" in message
    assert len(message.splitlines()) == 1
    assert left_in(target.parent) == []


def test_failure_leaves_the_old_file(servers: Callable[..., Server], target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old")
    with pytest.raises(DownloadFailed):
        fetch(urls(servers(send(b"other"))), target, check)
    assert target.read_bytes() == b"old"
    assert left_in(target.parent) == ["file"]


def test_interrupted(servers: Callable[..., Server], target: Path) -> None:
    def interrupt(_content: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(urls(servers(send(GOOD))), target, interrupt)
    assert left_in(target.parent) == []


def test_follows_a_redirect(servers: Callable[..., Server], target: Path) -> None:
    there = servers(send(GOOD))

    def redirect(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", f"{there.url}file")
        request.end_headers()

    fetch(urls(servers(redirect)), target, check)
    assert target.read_bytes() == GOOD


@pytest.mark.parametrize("length_known", [True, False])
def test_progress_adds_up(servers: Callable[..., Server], target: Path, length_known: bool) -> None:
    def without_length(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(GOOD)

    tasks: list[Task] = []
    with show_progress(tasks.append):
        fetch(urls(servers(send(GOOD) if length_known else without_length)), target, check)
    total = len(GOOD) if length_known else None
    assert {(task.label, task.done, task.total) for task in tasks} == {("downloading file", len(GOOD), total)}


# -- a data set of four files -----------------------------------------------------------------------------------------


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
def test_get(servers: Callable[..., Server], tmp_path: Path, digest_of: str) -> None:
    server = servers()
    tiny = tiny_set(digest_of, offer(server, "a"))
    folder = tiny.get(tmp_path / "here")
    assert folder == tmp_path / "here"
    assert left_in(folder) == sorted(f"{name}.gz" for name in tiny_files())
    with nothing_asked(server):
        assert tiny.get(folder) == folder
        images = tiny.load(folder, "train")
    assert images.pixels.shape == (4, 8, 8, 1)
    assert images.notes == ()


@digests
def test_load_downloads_into_the_cache(servers: Callable[..., Server], cache: Path, digest_of: str) -> None:
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
def test_next_mirror_for_one_file(servers: Callable[..., Server], cache: Path, digest_of: str) -> None:
    server = servers()
    other = gzip.compress(write_idx(np.zeros((4, 8, 8), np.uint8)))
    first = offer(server, "a", train_images=send(other), t10k_labels=send(b"", 404))
    tiny = tiny_set(digest_of, first, offer(server, "b"))
    assert tiny.load(None, "train").notes == ()
    assert sorted(path for path in server.asked if path.startswith("/b/")) == [
        "/b/t10k-labels-idx1-ubyte.gz",
        "/b/train-images-idx3-ubyte.gz",
    ]


def test_content_counts_not_the_archive(servers: Callable[..., Server], cache: Path) -> None:
    packed = tiny_files()["train-images-idx3-ubyte"]
    again = gzip.compress(gzip.decompress(packed), 1, mtime=7)
    assert again != packed
    server = servers()
    mirror = offer(server, "a", train_images=send(again))
    assert tiny_set("content", mirror).load(None, "train").notes == ()
    with pytest.raises(ValueError, match="another SHA-256 than train-images-idx3-ubyte has"):
        tiny_set("archive", mirror).files[0].check(again)


def test_not_gzip_at_all() -> None:
    with pytest.raises(ValueError, match="gzip"):
        tiny_set("content").files[0].check(b"<html>log in first</html>")


def test_download_goes_on_where_it_stopped(servers: Callable[..., Server], cache: Path) -> None:
    server = servers()
    mirror = offer(server, "a", t10k_images=send(b"", 404))
    with pytest.raises(DownloadFailed):
        tiny_set("content", mirror).load(None, "train")
    server.asked.clear()
    offer(server, "a")
    assert len(tiny_set("content", mirror).load(None, "train")) == 4
    assert sorted(server.asked) == ["/a/t10k-images-idx3-ubyte.gz", "/a/t10k-labels-idx1-ubyte.gz"]


def test_no_network(servers: Callable[..., Server], cache: Path, closed_port: str) -> None:
    with pytest.raises(DownloadFailed) as caught:
        tiny_set("content", closed_port, closed_port).load(None, "train")
    message = str(caught.value)
    assert message.startswith("tiny could not be downloaded (")
    assert all(f"{name}.gz" in message for name in tiny_files())
    assert "--data" in message
    assert len(message.splitlines()) == 1
    assert left_in(cache) == ["tiny"]


def test_explicit_folder_asks_nobody(servers: Callable[..., Server], cache: Path, tmp_path: Path) -> None:
    server = servers()
    tiny = tiny_set("content", offer(server, "a"))
    (tmp_path / "empty").mkdir()
    with nothing_asked(server), pytest.raises(FileNotFoundError):
        tiny.load(tmp_path / "empty", "train")


@pytest.mark.parametrize("member", [mnist, fashion], ids=["mnist", "fashion"])
def test_published_mirrors(member: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every file is offered by two hosts or more, over https, and has a digest to be held against."""
    asked: list[list[str]] = []
    monkeypatch.setattr("vaelab.data.datasets._idx_files.fetch", lambda mirrors, _target, _check: asked.append(mirrors))
    member.get(tmp_path)  # type: ignore[attr-defined]
    assert len(asked) == 4
    for mirrors in asked:
        parts = [urlsplit(mirror) for mirror in mirrors]
        assert len({part.netloc for part in parts}) >= 2
        assert {part.scheme for part in parts} == {"https"}
    for file in member._SET.files:  # type: ignore[attr-defined]
        assert len(file.content_sha256 or file.archive_sha256) == 64
