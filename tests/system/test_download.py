"""Downloads from servers that answer, lie, break off, stall and fail."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mirrors import GOOD, Server, list_paths, send

from vaelab.system.download import TRIES, DownloadFailed, fetch
from vaelab.system.progress import Task, show_progress

SHORT = 0.3
"""Seconds after which a silent server is given up."""


def check(path: Path) -> None:
    content = path.read_bytes()
    if content != GOOD:
        raise ValueError(f"{len(content)} bytes that are not the file")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "file"


def urls(*mirrors: Server) -> list[str]:
    return [f"{mirror.url}file" for mirror in mirrors]


def assert_second_mirror_is_used(first: Server, second: Server, target: Path) -> None:
    fetch(urls(first, second), target, check, timeout=SHORT)
    assert target.read_bytes() == GOOD
    assert list_paths(target.parent) == ["file"]
    assert second.asked["/file"] == 1


# -- one file ---------------------------------------------------------------------------------------------------------


def test_a_file_is_downloaded_from_the_first_mirror(servers: Callable[..., Server], target: Path) -> None:
    first, second = servers(send(GOOD)), servers(send(GOOD))
    fetch(urls(first, second), target, check)
    assert target.read_bytes() == GOOD
    assert list_paths(target.parent) == ["file"]
    assert (first.asked["/file"], second.asked["/file"]) == (1, 0)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_is_final(servers: Callable[..., Server], target: Path, status: int) -> None:
    first = servers(send(b"not here", status))
    assert_second_mirror_is_used(first, servers(send(GOOD)), target)
    assert first.asked["/file"] == 1


def test_other_content_is_final(servers: Callable[..., Server], target: Path) -> None:
    first = servers(send(GOOD[:-1] + b"x"))
    assert_second_mirror_is_used(first, servers(send(GOOD)), target)
    assert first.asked["/file"] == 1


def test_an_incomplete_file_is_retried_then_taken_from_the_next_mirror(
    servers: Callable[..., Server], target: Path
) -> None:
    first = servers(send(GOOD[:5000], promised=len(GOOD)))
    assert_second_mirror_is_used(first, servers(send(GOOD)), target)
    assert first.asked["/file"] == TRIES


def test_an_incomplete_file_is_retried(servers: Callable[..., Server], target: Path) -> None:
    only = servers(send(GOOD[:5000], promised=len(GOOD)), send(GOOD))
    fetch(urls(only), target, check)
    assert target.read_bytes() == GOOD
    assert list_paths(target.parent) == ["file"]


def test_a_server_error_is_retried(servers: Callable[..., Server], target: Path) -> None:
    only = servers(send(b"busy", 500), send(GOOD))
    fetch(urls(only), target, check)
    assert target.read_bytes() == GOOD
    assert only.asked["/file"] == 2


@pytest.mark.parametrize("sent_first", [b"", GOOD[:5000]], ids=["at-once", "in-the-middle"])
def test_a_silent_server_is_given_up(servers: Callable[..., Server], target: Path, sent_first: bytes) -> None:
    first = servers()
    first.answers["/file"] = [first.stall(sent_first)]
    assert_second_mirror_is_used(first, servers(send(GOOD)), target)
    assert first.asked["/file"] == TRIES


def test_an_unreachable_server_is_skipped(servers: Callable[..., Server], target: Path, closed_port: str) -> None:
    second = servers(send(GOOD))
    fetch([f"{closed_port}file", *urls(second)], target, check, timeout=SHORT)
    assert target.read_bytes() == GOOD


def test_an_error_lists_the_failure_of_every_mirror(
    servers: Callable[..., Server], target: Path, closed_port: str
) -> None:
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
    assert caught.value.failures == (
        f"{missing.place}: answered 404",
        f"{broken.place}: answered 503",
        f"{other.place}: sent something else (25 bytes that are not the file)",
        f"{cut.place}: the connection failed (ChunkedEncodingError)",
        f"{silent.place}: did not answer within 0.3 s",
        f"{urlsplit(closed_port).netloc}: the connection failed (ConnectionError)",
    )
    assert "\n" not in str(caught.value)
    assert list_paths(target.parent) == []


def test_a_failure_keeps_the_old_file(servers: Callable[..., Server], target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old")
    with pytest.raises(DownloadFailed):
        fetch(urls(servers(send(b"other"))), target, check)
    assert target.read_bytes() == b"old"
    assert list_paths(target.parent) == ["file"]


def test_an_interruption_leaves_nothing(servers: Callable[..., Server], target: Path) -> None:
    def interrupt(_content: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(urls(servers(send(GOOD))), target, interrupt)
    assert list_paths(target.parent) == []


def test_redirects_are_followed(servers: Callable[..., Server], target: Path) -> None:
    there = servers(send(GOOD))

    def redirect(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", f"{there.url}file")
        request.end_headers()

    fetch(urls(servers(redirect)), target, check)
    assert target.read_bytes() == GOOD


@pytest.mark.parametrize("length_known", [True, False])
def test_progress_counts_every_byte_once(servers: Callable[..., Server], target: Path, length_known: bool) -> None:
    def without_length(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(GOOD)

    tasks: list[Task] = []
    with show_progress(tasks.append):
        fetch(urls(servers(send(GOOD) if length_known else without_length)), target, check)
    total = len(GOOD) if length_known else None
    assert {(task.label, task.done, task.total) for task in tasks} == {("downloading file", len(GOOD), total)}
