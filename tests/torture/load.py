"""The explorer's server under load: requests of its own page and hostile ones over several connections at once.

Requests of the page must be served and all others refused with a status below 500. The server's memory must not grow.
"""

import json
import os
import random
import re
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .campaign import Campaign, Failed
from .workloads import Stage

CLIENTS = 4
MOST_GROWTH = 48 << 20
"""Bytes by which the server's memory may grow after the first third of the time, because allocators keep some."""
BARE = "application/octet-stream"
REFUSED = (400, 403, 404, 405, 411, 413, 415)
NO_PAGES = (
    "/../pyproject.toml", "/%2e%2e/x", "/runs/9/manifest", "/runs/0/columns/-1", "/runs/0/columns/99999999999",
    "/runs/0/groups/x", "/%D9%A6", "/security.py", "//etc/passwd", "/%00", "/runs/0/columns/1e3",
)  # fmt: skip
NOT_OURS = ("Origin: http://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n", "Host: evil.example\r\n")
"""Headers of requests from another page."""
PATIENCE = 0.3
"""Seconds that a client waits for the answer to an incomplete request."""


@dataclass
class Tally:
    """The answers that the clients received."""

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Request:
    """Bytes to send, and the valid statuses of the answer."""

    content: bytes
    right: tuple[int, ...]
    """Empty: any status below 500, or no answer."""
    length: int | None = None
    """Length of the right answer in bytes."""


def run(campaign: Campaign, stage: Stage) -> None:
    """Serve a small run, send requests as fast as several clients can, and watch the memory."""
    stage.prepare()
    stage.refill()
    command = [sys.executable, "-m", "vaelab", "explore", "run", "--no-browser", "--port", "0"]
    with (campaign.scratch / "server.err").open("w+") as complaints:
        server = subprocess.Popen(command, cwd=stage.folder, stdout=subprocess.PIPE, stderr=complaints, text=True)
        try:
            port = _port_of(server)
            _wait_for_runs(port)
            campaign.run("all", lambda: _hammer(campaign, server.pid, port), stage.folder)
            campaign.run("alive", lambda: _check_alive(server, port), stage.folder)
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        complaints.seek(0)
        said = complaints.read()
    if "Traceback" in said:
        campaign.fail("stderr", f"the server shows a traceback: {said.strip().splitlines()[-1]}", stage.folder)


def _port_of(server: subprocess.Popen[str]) -> int:
    """Return the port that a server prints."""
    assert server.stdout is not None
    deadline, said = time.monotonic() + 180, b""
    while time.monotonic() < deadline:
        if select.select([server.stdout], [], [], 1)[0]:
            piece = os.read(server.stdout.fileno(), 4096)  # unbuffered, because select does not see a buffer
            said += piece
            if found := re.search(rb"http://127\.0\.0\.1:(\d+)/", said):
                return int(found[1])
            if not piece:
                break
    raise Failed("the server does not begin")


def _wait_for_runs(port: int) -> None:
    """Wait until the server has loaded its runs; before, it answers with status 202."""
    deadline = time.monotonic() + 180
    while not _ask(port, _get("/runs")).startswith(b"HTTP/1.1 200"):
        if time.monotonic() > deadline:
            raise Failed("the server does not load its runs")
        time.sleep(0.1)


def _hammer(campaign: Campaign, pid: int, port: int) -> None:
    tally, stop = Tally(), threading.Event()
    manifest = json.loads(_body(_ask(port, _get("/runs/0/manifest"))))
    clients = [
        threading.Thread(target=_ask_on, args=(port, manifest, campaign.random(f"client {i}"), tally, stop))
        for i in range(CLIENTS)
    ]
    memory = []
    for client in clients:
        client.start()
    while not campaign.is_over_with(sum(tally.statuses.values())):
        time.sleep(0.1)
        memory.append(_resident(pid))
        if tally.wrong:
            break
    stop.set()
    for client in clients:
        client.join(60)
    campaign.num_cases += sum(tally.statuses.values())
    campaign.counts.update(tally.statuses)
    third = memory[len(memory) // 3 :] or [0]
    campaign.note_largest("growth of the server's memory, MB", (third[-1] - third[0]) / 1e6)
    if tally.wrong:
        raise Failed(tally.wrong[0])
    if third[-1] - third[0] > MOST_GROWTH:
        raise Failed(f"the server's memory grew from {third[0] / 1e6:.0f} to {third[-1] / 1e6:.0f} MB")


def _resident(pid: int) -> int:
    """Return the bytes of memory of a process; 0 if they are unknown."""
    try:
        return 4096 * int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0


def _ask_on(
    port: int, manifest: dict[str, object], generator: random.Random, tally: Tally, stop: threading.Event
) -> None:
    """Run one client: random requests one after the other, each on its own connection."""
    while not stop.is_set():
        request = _choose(manifest, generator)
        try:
            patience = 60.0 if request.right else PATIENCE
            answer = _ask(port, request.content, patience, abandon=generator.random() < 0.02)
        except OSError as error:
            answer = b""
            if request.right:
                with tally.lock:
                    tally.wrong.append(f"no answer ({error}) to {request.content[:200]!r}")
        found = re.match(rb"HTTP/1\.1 (\d{3})", answer)
        status = int(found[1]) if found else 0
        is_wrong = status >= 500 or (bool(request.right) and status not in (0, *request.right))
        if request.length is not None and status == 200 and len(_body(answer)) != request.length:
            is_wrong = True
        with tally.lock:
            tally.statuses[f"status {status}" if status else "no answer wanted"] += 1
            if is_wrong:
                tally.wrong.append(f"status {status}, expected {request.right}, for {request.content[:300]!r}")


def _ask(port: int, content: bytes, patience: float = 60.0, *, abandon: bool = False) -> bytes:
    """Return the whole answer; empty if the connection is abandoned in the middle."""
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
        if abandon:
            connection.sendall(content[: len(content) // 2 + 1])
            return b""
        connection.sendall(content)
        parts = []
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def _body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


# -- requests ---------------------------------------------------------------------------------------------------------


def _get(path: str, headers: str = "", method: str = "GET") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"
    return head.encode("latin1", "replace")


def _post(path: str, body: bytes, kind: str = BARE, said: int | str | None = None) -> bytes:
    head = f"Content-Type: {kind}\r\nContent-Length: {len(body) if said is None else said}\r\n"
    return _get(path, head, "POST") + body


def _choose(manifest: dict[str, object], generator: random.Random) -> Request:
    """Return a request, half of the time one that the page could send."""
    width, count, image = manifest["latent_dim"], manifest["count"], manifest["image"]
    assert isinstance(width, int)
    assert isinstance(count, int)
    assert isinstance(image, dict)
    size = image["height"] * image["width"] * image["channels"]
    if generator.random() < 0.5:
        return _valid(width, count, size, generator)
    return _hostile(width, count, size, generator)


def _valid(width: int, count: int, size: int, generator: random.Random) -> Request:
    n = generator.randint(1, 8)
    codes = struct.pack(f"<{n * width}f", *(generator.gauss(0, 1) for _ in range(n * width)))
    points = struct.pack(f"<{n}i", *(generator.randrange(count) for _ in range(n)))
    return generator.choice(
        [
            Request(_get("/"), (200,)),
            Request(_get("/runs"), (200,)),
            Request(_get("/runs/0/manifest"), (200,)),
            Request(_get("/runs/0/columns/0"), (200,), 2 * count),
            Request(_post("/runs/0/decode", codes), (200,), n * size),
            Request(_post("/runs/0/codes", points), (200,), 4 * n * width),
            Request(_post("/runs/0/images", points), (200,), n * size),
            Request(_post("/runs/0/nearest", codes[: 4 * width]), (200,)),
            Request(_post("/runs/0/encode", generator.randbytes(size)), (200,), 8 * width + 8),
        ]
    )


def _hostile(width: int, count: int, size: int, generator: random.Random) -> Request:
    noise = generator.randbytes(generator.choice([0, 1, 3, 4 * width, 1000]))
    path = "/runs/0/" + generator.choice(["decode", "codes", "images", "nearest", "encode"])
    bad = struct.pack("<f", generator.choice([float("nan"), float("inf"), -float("inf")])) * width
    far = struct.pack("<i", generator.choice([-1, count, 2**31 - 1, -(2**31)]))
    method = generator.choice(["GET", "PUT", "DELETE", "PATCH", "TRACE"])
    kind = generator.choice(["text/plain", "application/json", ""])
    said = generator.choice(["-1", "x", "1e9", "", "99999999999999999999"])
    headers = "".join(f"X-{i}: {'a' * 100}\r\n" for i in range(generator.choice([10, 900])))
    chunks = generator.choice([b"zz\r\n", b"ffffffffff\r\n", b"4\r\nabcd\r\n0\r\n\r\n", b"4\r\nab"])
    return generator.choice(
        [
            Request(_get(generator.choice(NO_PAGES)), (*REFUSED, 307)),
            Request(_get("/", generator.choice(NOT_OURS)), REFUSED),
            Request(_get(path, method=method), REFUSED),
            Request(_post(path, noise, kind), REFUSED),
            Request(_post("/runs/0/decode", bad), REFUSED),
            Request(_post("/runs/0/nearest", bad), REFUSED),
            Request(_post(f"/runs/0/{generator.choice(['codes', 'images'])}", far), REFUSED),
            Request(_post("/runs/0/encode", generator.randbytes(size + generator.choice([-1, 1, 5000]))), REFUSED),
            Request(_post("/runs/0/decode", b"", said=10**12), REFUSED),
            Request(_post(path, noise, said=said), ()),
            Request(_post(path, noise), ()),
            Request(_get("/", headers), ()),
            Request(generator.randbytes(200), ()),
            Request(f"GET /{'a' * 70000} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode(), ()),
            Request(_get(path, f"Transfer-Encoding: chunked\r\nContent-Type: {BARE}\r\n", "POST") + chunks, ()),
        ]
    )


def _check_alive(server: subprocess.Popen[str], port: int) -> None:
    """Check that the page is still served."""
    if server.poll() is not None:
        raise Failed(f"the server has ended, with {server.returncode}")
    for path in ("/", "/runs/0/manifest"):
        if not _ask(port, _get(path)).startswith(b"HTTP/1.1 200"):
            raise Failed(f"{path} is not served any more")
