"""The server behind the page, asked without a browser."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from exploring import make_annotated, make_small_payload
from starlette.testclient import TestClient

from vaelab.data.tensors import as_tensor, to_float, to_uint8
from vaelab.explorer import server
from vaelab.explorer.inference import InferenceWorker
from vaelab.explorer.payload import ServedRun
from vaelab.models.vae import VAE
from vaelab.system.errors import InputError

BARE = {"Content-Type": "application/octet-stream"}
URL = "http://127.0.0.1:8765"
Opened = tuple[ServedRun, VAE]


@pytest.fixture(scope="module")
def opened() -> Opened:
    """A run of a small model, and the model."""
    payload, vae = make_small_payload(make_annotated(), network__latent_dim=3)
    return ServedRun(payload, InferenceWorker(vae)), vae


@pytest.fixture(scope="module")
def client(opened: Opened) -> TestClient:
    """The server of two runs."""
    return TestClient(server.make_app([opened[0], opened[0]], "127.0.0.1"), base_url=URL)


def test_progress_is_answered_until_the_runs_are_loaded(opened: Opened):
    runs: list[ServedRun] = []
    status = {"label": "encoding", "done": 3, "total": 60}
    client = TestClient(server.make_app(runs, "127.0.0.1", status), base_url=URL)
    answer = client.get("/runs")
    assert (answer.status_code, answer.json()) == (202, status)
    assert client.get("/").status_code == 200
    assert client.get("/runs/0/manifest").status_code == 404
    runs.append(opened[0])
    answer = client.get("/runs")
    assert (answer.status_code, answer.json()) == (200, ["small"])


def test_arrays_of_the_payload_are_served_as_they_are(client: TestClient, opened: Opened):
    payload = opened[0].payload
    assert client.get("/runs").json() == ["small", "small"]
    assert client.get("/runs/1/manifest").json() == payload.manifest
    for i in range(len(payload.manifest["columns"])):
        assert client.get(f"/runs/0/columns/{i}").content == payload.quantise_column(i).astype("<i2").tobytes()
    for i in range(len(payload.manifest["groups"])):
        assert client.get(f"/runs/0/groups/{i}").content == payload.groups[i].members.tobytes()
    some = np.array([59, 0, 7, 7], "<i4")
    codes = client.post("/runs/0/codes", content=some.tobytes(), headers=BARE)
    assert codes.headers["content-type"] == "application/octet-stream"
    assert codes.content == payload.means[some].tobytes()
    images = client.post("/runs/0/images", content=some.tobytes(), headers=BARE)
    assert images.content == make_annotated().pixels[some].tobytes()


def test_decoding_encoding_and_searching_equal_the_model(client: TestClient, opened: Opened):
    served, vae = opened
    codes = np.random.default_rng(0).standard_normal((64, 3)).astype("<f4")
    answer = client.post("/runs/0/decode", content=codes.tobytes(), headers=BARE)
    decoded = np.frombuffer(answer.content, np.uint8).reshape(64, 9, 8, 1)
    assert np.abs(decoded.astype(int) - to_uint8(vae.decode(as_tensor(codes)))).max() <= 1
    pixels = make_annotated().pixels[3]
    numbers = np.frombuffer(client.post("/runs/0/encode", content=pixels.tobytes(), headers=BARE).content, "<f4")
    posterior = vae.encode(pixels)
    error = vae.decode_batch(posterior.mean).reconstruction_loss(to_float(as_tensor(pixels[None])))
    kl = posterior.kl_to_standard_normal().sum(1)
    expected = torch.cat([posterior.mean[0], posterior.log_var[0], error, kl]).detach()
    assert numbers == pytest.approx(expected.numpy(), rel=1e-5, abs=1e-5)
    body = client.post("/runs/0/nearest", content=codes[0].tobytes(), headers=BARE).content
    indices, distances = served.payload.find_nearest(codes[0])
    assert np.array_equal(np.frombuffer(body[:20], "<i4"), indices)
    assert np.array_equal(np.frombuffer(body[20:], "<f4"), distances.astype(np.float32))


def test_a_large_batch_is_decoded_in_parts(opened: Opened):
    codes = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)
    whole, parts = (InferenceWorker(opened[1], values).decode(codes) for values in (1 << 18, 3 * 72))
    assert np.abs(parts.astype(int) - whole).max() <= 1


def test_the_files_of_the_page_have_their_types(client: TestClient):
    for path, kind in (("/", "html"), ("/index.html", "html"), ("/main.js", "javascript"), ("/style.css", "css")):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, f"text/{kind}; charset=utf-8")
    assert client.get("/").content == (server.STATIC / "index.html").read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "/server.py",
        "/../server.py",
        "/..%2fserver.py",
        "/%2e%2e/server.py",
        "/x/..%2f..%2fserver.py",
        "/..\\server.py",
        "//etc/passwd",
        "/%00",
        "/static/",
    ],
)
def test_other_files_are_not_served(client: TestClient, path: str):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "code", "fact"),
    [
        ("decode", b"", 400, "3"),
        ("decode", bytes(13), 400, "13"),
        ("decode", np.array([0, np.nan, 0], "<f4").tobytes(), 400, "finite"),
        ("decode", np.array([0, -np.inf, 0], "<f4").tobytes(), 400, "finite"),
        ("decode", bytes(64 * 12 + 1), 413, "768"),
        ("nearest", bytes(24), 413, "12"),
        ("nearest", bytes(8), 400, "8"),
        ("codes", b"", 400, "int32"),
        ("codes", bytes(5), 400, "int32"),
        ("codes", np.array([60], "<i4").tobytes(), 400, "59"),
        ("images", np.array([0, -1], "<i4").tobytes(), 400, "59"),
        ("images", bytes(4 * 257), 413, "1024"),
        ("encode", bytes(71), 400, "72"),
        ("encode", bytes(73), 413, "72"),
    ],
)
def test_bodies_that_do_not_fit_are_refused_in_one_line(
    client: TestClient, path: str, body: bytes, code: int, fact: str
):
    def in_parts() -> Iterator[bytes]:
        yield from (body[i : i + 100] for i in range(0, len(body), 100))

    for content in (body, in_parts()):  # with a Content-Length, and without
        answer = client.post(f"/runs/0/{path}", content=content, headers=BARE)
        assert answer.status_code == code
        assert fact in answer.text
        assert "\n" not in answer.text
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_requests_that_no_page_makes_are_refused(client: TestClient):
    code = bytes(12)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json"):
        assert client.post("/runs/0/decode", content=code, headers={"Content-Type": kind}).status_code == 415
    assert client.post("/runs/0/decode", content=code).status_code == 415
    assert client.get("/runs/0/decode").status_code == 404
    assert client.options("/runs/0/decode").status_code == 405
    for length in ("-1", "9" * 5000, "many"):
        answer = client.post("/runs/0/decode", content=code, headers={**BARE, "Content-Length": length})
        assert answer.status_code == 400
    for path in ("runs/2/manifest", "runs/-1/manifest", "runs/0/columns/99", "runs/0/columns/-1", "runs/0/groups/x"):
        assert client.get(f"/{path}").status_code == 404
    assert client.get(f"/runs/0/columns/{'9' * 5000}").status_code == 404


def test_a_port_that_is_in_use_is_replaced_by_a_free_one():
    with server.listen("127.0.0.1", 0) as first:
        assert first.proto == socket.IPPROTO_TCP, (
            "else asyncio leaves small answers to wait 40 ms for the client's word"
        )
        port = first.getsockname()[1]
        assert server.format_url(first) == f"http://127.0.0.1:{port}/"
        assert server.is_private(first)
        with server.listen("127.0.0.1", port) as second:
            assert second.getsockname()[1] not in (0, port)
    with server.listen("0.0.0.0", 0) as everywhere:
        assert server.format_url(everywhere) == f"http://127.0.0.1:{everywhere.getsockname()[1]}/"
        assert not server.is_private(everywhere)
    for host in ("nowhere.invalid", "192.0.2.1"):
        with pytest.raises(InputError) as error:
            server.listen(host, 0)
        assert (error.value.subject, error.value.value) == ("host", host)


INTERRUPTED = """
import signal, sys
from contextlib import suppress
from starlette.responses import PlainTextResponse
from vaelab.explorer import server

signal.signal(signal.SIGINT, signal.default_int_handler)
for moment in range(16):
    calls = 0

    def trace(frame, event, argument):
        global calls
        calls += 1
        if calls == moment + 1:
            signal.raise_signal(signal.SIGINT)

    app = PlainTextResponse("")
    with suppress(KeyboardInterrupt), server.listen("127.0.0.1", 0) as listener, server.serve(app, listener) as wait:
        sys.settrace(trace)
        wait()
    sys.settrace(None)
"""


@pytest.mark.slow
def test_ctrl_c_ends_the_server_at_any_moment_of_waiting():
    """Also within the methods of a lock, which an exception would leave locked."""
    subprocess.run([sys.executable, "-c", INTERRUPTED], timeout=60, check=True)
