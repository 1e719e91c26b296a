"""Downloads from the hub, here a server in this process that breaks off, lies and disappears."""

import hashlib
import io
import json
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow
import pytest
from huggingface_hub import constants
from PIL import Image
from pyarrow import parquet
from servers import LocalServer
from typed import Typed

from vaelab.data import hub
from vaelab.data.datasets import _celeba_files, celeba
from vaelab.data.hub import download
from vaelab.system.download import DownloadFailed
from vaelab.system.files import DiskFull
from vaelab.system.paths import cache_dir
from vaelab.system.progress import Task, show_progress

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = {f"data/train-0000{i}-of-00002.parquet": bytes(range(256)) * (400 + 100 * i) for i in range(2)}
FIRST, SECOND = CONTENT


class Hub:
    """A server with the hub's API for one data set; ``faults`` are called before a file is sent."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = dict(files)
        self.digests: dict[str, str] = {}
        self.faults: list[Callable[[BaseHTTPRequestHandler, bytes], bool]] = []
        self.asked: list[tuple[str, str | None]] = []
        self.tokens: set[str | None] = set()
        self._server = LocalServer(self._respond)
        self.url = f"http://{self._server.place}"
        self.close = self._server.close

    def _respond(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        if path.startswith("/api/datasets/"):
            self.describe(request)
        else:
            self.send(request, path.partition(f"/resolve/{COMMIT}/")[2])

    def describe(self, request: BaseHTTPRequestHandler) -> None:
        siblings = [
            {"rfilename": name, "size": len(content), "blobId": "0" * 40,
             "lfs": {"sha256": self.digests.get(name, hashlib.sha256(content).hexdigest()), "size": len(content),
                     "pointerSize": 130}}
            for name, content in self.files.items()
        ]  # fmt: skip
        siblings.append({"rfilename": "README.md", "size": 10, "blobId": "1" * 40})
        about = {"_id": "x", "id": "flwrlabs/celeba", "sha": COMMIT, "private": False, "siblings": siblings, "tags": [],
                 "downloads": 0, "likes": 0}  # fmt: skip
        answer(request, 200, json.dumps(about).encode(), {"Content-Type": "application/json"})

    def send(self, request: BaseHTTPRequestHandler, name: str) -> None:
        given = request.headers.get("Range")
        if not name:  # a probe of the library
            answer(request, 404, b"")
            return
        self.asked.append((name, given))
        self.tokens.add(request.headers.get("Authorization"))
        if name not in self.files:
            answer(request, 404, b"not here")
            return
        begin = int(re.fullmatch(r"bytes=(\d+)-", given)[1]) if given else 0
        part = self.files[name][begin:]
        if self.faults and self.faults.pop(0)(request, part):
            return
        if begin and not part:
            answer(request, 416, b"")
        else:
            answer(request, 206 if given else 200, part)


def answer(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    request.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(body)


def break_off_after(count: int) -> Callable[[BaseHTTPRequestHandler, bytes], bool]:
    def fault(request: BaseHTTPRequestHandler, part: bytes) -> bool:
        request.send_response(206 if request.headers.get("Range") else 200)
        request.send_header("Content-Length", str(len(part)))
        request.end_headers()
        request.wfile.write(part[:count])
        return True

    return fault


def refuse(status: int) -> Callable[[BaseHTTPRequestHandler, bytes], bool]:
    return lambda request, _part: answer(request, status, b"no") is None


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Hub]]:
    """Return a function that starts a hub with the given files and points the library to it."""
    started: list[Hub] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("VAELAB_DATA", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def start(files: dict[str, bytes] | None = None) -> Hub:
        server = Hub(CONTENT if files is None else files)
        started.append(server)
        point_to(monkeypatch, server.url)
        return server

    yield start
    for server in started:
        server.close()


def point_to(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def get(folder: Path) -> list[Path]:
    return download("flwrlabs/celeba", folder, ["*.parquet"], "Ask them", pause_seconds=0.0, piece_bytes=1000)


def failure(folder: Path) -> str:
    with pytest.raises(DownloadFailed) as caught:
        get(folder)
    assert str(caught.value).endswith(". Ask them")
    return str(caught.value)


def there(folder: Path) -> dict[str, bytes]:
    """Return every file that is not hidden."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def partial_sizes(folder: Path) -> list[int]:
    return [path.stat().st_size for path in sorted(folder.rglob(".*.part"))]


# -- downloads --------------------------------------------------------------------------------------------------------


def test_all_files_that_match_and_none_twice(serve: Callable[..., Hub], tmp_path: Path) -> None:
    server = serve()
    assert get(tmp_path / "to") == [tmp_path / "to" / name for name in CONTENT]
    assert there(tmp_path / "to") == CONTENT
    assert server.asked == [(FIRST, None), (SECOND, None)]
    assert server.tokens == {None}
    get(tmp_path / "to")
    assert len(server.asked) == 2
    damaged = tmp_path / "to" / FIRST
    damaged.write_bytes(bytes(len(CONTENT[FIRST])))  # of the right size
    get(tmp_path / "to")
    assert there(tmp_path / "to") == CONTENT
    assert len(server.asked) == 3


def test_a_token_reaches_the_hub(serve: Callable[..., Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    get(tmp_path / "to")
    assert server.tokens == {"Bearer hf_secret"}


def test_a_broken_connection_is_resumed(serve: Callable[..., Hub], tmp_path: Path) -> None:
    server = serve()
    server.faults = [break_off_after(5000), break_off_after(0), refuse(503), break_off_after(3000)]
    get(tmp_path / "to")
    assert there(tmp_path / "to") == CONTENT
    assert [begin for name, begin in server.asked if name == FIRST] == [None, *["bytes=5000-"] * 3, "bytes=8000-"]
    assert partial_sizes(tmp_path) == []


def test_the_next_call_resumes_after_a_failure(serve: Callable[..., Hub], tmp_path: Path) -> None:
    server = serve()
    server.faults = [break_off_after(50_000), *[break_off_after(0)] * hub.MAX_TRIES]
    assert FIRST in failure(tmp_path / "to")
    assert there(tmp_path / "to") == {}
    assert partial_sizes(tmp_path) == [50_000]
    get(tmp_path / "to")
    assert server.asked[-2:] == [(FIRST, "bytes=50000-"), (SECOND, None)]
    assert there(tmp_path / "to") == CONTENT


def test_an_interrupted_file_has_no_name_and_is_resumed(serve: Callable[..., Hub], tmp_path: Path) -> None:
    server = serve()

    def stop(task: Task) -> None:
        assert (task.label, task.total) == (f"downloading {Path(FIRST).name}", len(CONTENT[FIRST]))
        if task.done == 3000 and not task.is_over:
            raise KeyboardInterrupt

    with show_progress(stop), pytest.raises(KeyboardInterrupt):
        get(tmp_path / "to")
    assert there(tmp_path / "to") == {}
    get(tmp_path / "to")
    assert server.asked[1] == (FIRST, "bytes=3000-")
    assert there(tmp_path / "to") == CONTENT


def test_progress_ends_at_the_size_despite_interruptions(serve: Callable[..., Hub], tmp_path: Path) -> None:
    server, done = serve(), dict.fromkeys(CONTENT, 0)
    (tmp_path / "to" / "data").mkdir(parents=True)
    (tmp_path / "to" / "data" / f".{Path(SECOND).name}.part").write_bytes(CONTENT[SECOND][:7000])
    server.faults = [break_off_after(5000), break_off_after(9000)]

    def note(task: Task) -> None:
        done[f"data/{task.label.removeprefix('downloading ')}"] = task.done

    with show_progress(note):
        get(tmp_path / "to")
    assert done == {name: len(content) for name, content in CONTENT.items()}


def test_a_server_without_ranges_begins_anew(serve: Callable[..., Hub], tmp_path: Path) -> None:
    server = serve()
    server.faults = [break_off_after(5000), lambda request, _part: answer(request, 200, CONTENT[FIRST]) is None]
    get(tmp_path / "to")
    assert there(tmp_path / "to") == CONTENT


def test_other_content_than_described_is_refused(serve: Callable[..., Hub], tmp_path: Path) -> None:
    server = serve()
    server.digests[FIRST] = "0" * 64
    assert FIRST in failure(tmp_path / "to")
    assert there(tmp_path / "to") == {}
    assert partial_sizes(tmp_path) == []
    server.digests.clear()
    get(tmp_path / "to")
    assert there(tmp_path / "to") == CONTENT


@pytest.mark.parametrize("length", [1, 300_000])
def test_a_partial_file_of_other_content_is_noticed(serve: Callable[..., Hub], tmp_path: Path, length: int) -> None:
    serve()
    half = tmp_path / "to" / "data" / f".{Path(FIRST).name}.part"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"\xff" * length)  # of an older version, that was shorter or longer
    assert FIRST in failure(tmp_path / "to")
    get(tmp_path / "to")
    assert there(tmp_path / "to") == CONTENT


@pytest.mark.parametrize(("status", "tries"), [(403, 1), (404, 1), (416, 1), (500, hub.MAX_TRIES)])
def test_refusals(serve: Callable[..., Hub], tmp_path: Path, status: int, tries: int) -> None:
    server = serve()
    server.faults = [break_off_after(5000), *[refuse(status)] * 9]
    assert str(status) in failure(tmp_path / "to")
    assert len(server.asked) == 1 + tries
    assert partial_sizes(tmp_path) == ([] if status == 416 else [5000])


def test_names_that_lead_outside_are_ignored(serve: Callable[..., Hub], tmp_path: Path) -> None:
    serve({"../evil.parquet": b"evil", "/tmp/evil.parquet": b"evil", "a/../../evil.parquet": b"evil", **CONTENT})
    get(tmp_path / "to")
    assert there(tmp_path / "to") == CONTENT
    assert not list(tmp_path.glob("evil*"))


def test_no_matching_file(serve: Callable[..., Hub], tmp_path: Path, wording: Callable[[object], None]) -> None:
    serve({"train.csv": b"text"})
    wording(failure(tmp_path / "to"))


def test_a_full_disk_is_noticed_before_the_download(
    serve: Callable[..., Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 100_000))
    with pytest.raises(DiskFull):
        get(tmp_path / "to")
    assert server.asked == []


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wording: Callable[[object], None]) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    wording(failure(tmp_path / "to"))


# -- CelebA -----------------------------------------------------------------------------------------------------------

SIZES = {"train": 3, "valid": 2, "test": 1}


def mirror(sizes: dict[str, int]) -> dict[str, bytes]:
    """Return the files of the mirror with the given number of images in each split."""
    files = {}
    for split, count in sizes.items():
        image = io.BytesIO()
        shades = np.linspace(0, 255, 178, dtype=np.uint8)
        Image.fromarray(np.broadcast_to(shades[:, None], (218, 178, 3)).copy()).save(image, "JPEG")
        columns: dict[str, Any] = {"image": [{"bytes": image.getvalue(), "path": "a.jpg"}] * count}
        columns |= {"celeb_id": [1] * count, "Smiling": [True] * count, "Young": [False] * count}
        written = io.BytesIO()
        parquet.write_table(pyarrow.table(columns), written)
        files[f"img_align+identity+attr/{split}-00000-of-00001.parquet"] = written.getvalue()
    return files


@pytest.fixture
def cli(cli: Typed, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Type commands, with a small CelebA."""
    for module in (celeba, _celeba_files):
        monkeypatch.setattr(module, "PUBLISHED", SIZES)
    return cli


def test_get_celeba_states_its_terms(serve: Callable[..., Hub], cli: Typed, tmp_path: Path) -> None:
    server = serve(mirror(SIZES))
    code, out, err = cli("data", "get", "celeba")
    assert code == 0
    assert out == f"celeba: {cache_dir() / 'celeba'}\n"
    assert "non-commercial research only" in err
    assert celeba.OFFICIAL in err
    images = celeba.load(None, "train")
    assert (len(images), images.attribute_names) == (3, ("Smiling", "Young"))
    assert np.asarray(images.attributes).tolist() == [[True, False]] * 3
    assert images.notes[1:] == ()
    asked = len(server.asked)
    assert cli("data", "get", "celeba")[0] == 0
    assert len(server.asked) == asked
    assert cli("data", "get", "celeba", "--to", "here")[1] == "celeba: here\n"
    assert cli("data", "check", "here")[0] == 0


def test_official_files_in_the_folder_do_not_matter(serve: Callable[..., Hub], cli: Typed, tmp_path: Path) -> None:
    serve(mirror(SIZES))
    (tmp_path / "here" / "img_align_celeba").mkdir(parents=True)
    (tmp_path / "here" / "img_align_celeba" / "000001.jpg").write_bytes(b"")
    assert cli("data", "get", "celeba", "--to", "here")[0] == 0


@pytest.mark.parametrize("sizes", [{**SIZES, "valid": 1}, {"train": 3, "valid": 2}])
def test_other_counts_than_published_fail(serve: Callable[..., Hub], cli: Typed, sizes: dict[str, int]) -> None:
    serve(mirror(sizes))
    code, _, err = cli("data", "get", "celeba")
    assert code == 1
    said = err.splitlines()[-1]
    assert said.startswith("vaelab: flwrlabs/celeba")
    assert "3 + 2 + 1" in said
    assert celeba.OFFICIAL in said


def test_an_unreachable_hub_names_the_official_source(
    serve: Callable[..., Hub], cli: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        point_to(monkeypatch, f"http://127.0.0.1:{free.getsockname()[1]}")
    code, out, err = cli("data", "get", "celeba")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("vaelab: flwrlabs/celeba")
    assert "The official source instead: CelebA is for non-commercial research only" in err.splitlines()[-1]
    assert celeba.OFFICIAL in err.splitlines()[-1]
    assert "Traceback" not in err
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    err = cli("data", "get", "celeba")[2]
    assert "pip install 'vaelab[hub]'. The official source instead" in err.splitlines()[-1]
