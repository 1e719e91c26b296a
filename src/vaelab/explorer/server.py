"""The server behind the page, for one machine and one user. Arrays travel as raw little-endian bytes."""

import errno
import ipaddress
import logging
import math
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import uvicorn
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from vaelab.explorer.inference import Condition
from vaelab.explorer.payload import ServedRun
from vaelab.explorer.security import SecurityMiddleware
from vaelab.system.errors import InputError
from vaelab.system.signals import stop_signals

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Types of the page's files; other files are not served. The operating system's own table may be wrong about .js."""
MAX_CODES, MAX_POINTS = 64, 256
"""Codes decoded per request, points per request."""
BINARY = "application/octet-stream"
POLL_SECONDS, CLOSING_SECONDS = 0.1, 5.0
"""Time until Ctrl-C is noticed, and time for requests in progress to end then."""


def page_files() -> dict[str, Path]:
    """Return name → path of the page's files, the only files that are served."""
    files = (path for path in STATIC.rglob("*") if path.suffix in TYPES and path.is_file())
    return {path.relative_to(STATIC).as_posix(): path for path in files}


# -- routes -----------------------------------------------------------------------------------------------------------


def make_app(
    runs: Sequence[ServedRun],
    host: str,
    status: Mapping[str, Any] = MappingProxyType({}),
    frame_token: str = "",
) -> ASGIApp:
    """Return the application: the page, and each run below /runs/0/, /runs/1/ …; ``host`` is the address it listens at.

    ``runs`` may be an empty list that is filled later. Until then the page shows ``status``: label, done and total.
    Other pages, such as a notebook, may show /?frame=TOKEN in a frame if it is ``frame_token``.
    """

    def list_runs(_: Request) -> Response:
        if not runs:
            return JSONResponse(dict(status), 202)
        return JSONResponse([run.payload.manifest["run"] for run in runs])

    def find_run(request: Request) -> ServedRun:
        return runs[_read_index(request, "run", len(runs))]

    def get(name: str, work: Callable[[ServedRun, Request], Response]) -> Route:
        return Route(f"/runs/{{run}}/{name}", lambda request: work(find_run(request), request))

    def post(
        name: str, limit: Callable[[ServedRun], int], work: Callable[[ServedRun, Request, bytes], Response]
    ) -> Route:
        async def answer(request: Request) -> Response:
            run = find_run(request)
            try:
                body = await _read_body(request, limit(run))
            except ClientDisconnect:
                return Response(status_code=400)
            return await run_in_threadpool(work, run, request, body)

        return Route(f"/runs/{{run}}/{name}", answer, methods=["POST"])

    routes = [
        Route("/runs", list_runs),
        get("manifest", lambda run, _: Response(run.payload.json, media_type="application/json")),
        get("columns/{column}", _send_column),
        get("groups/{group}", _send_group),
        get("samples", lambda run, _: _send(run.payload.samples.astype("<f4"))),
        post("codes", lambda _: 4 * MAX_POINTS, _send_codes),
        post("images", lambda _: 4 * MAX_POINTS, _send_images),
        post("conditions", lambda _: 4 * MAX_POINTS, _send_conditions),
        post("nearest", lambda run: 4 * run.payload.manifest["latent_dim"], _send_nearest),
        post("decode", lambda run: 4 * MAX_CODES * run.payload.manifest["latent_dim"], _decode),
        post("encode", lambda run: math.prod(run.payload.pixels.shape[1:]), _encode),
        Route("/{name:path}", _send_page),
    ]
    return SecurityMiddleware(Starlette(routes=routes), host, frame_token)


def _send_page(request: Request) -> Response:
    path = page_files().get(request.path_params["name"] or "index.html")
    if path is None:
        raise HTTPException(404, "no such page")
    return Response(path.read_bytes(), headers={"Content-Type": TYPES[path.suffix]})


def _send_column(run: ServedRun, request: Request) -> Response:
    return _send(run.payload.quantise_column(_read_index(request, "column", len(run.payload.columns))).astype("<i2"))


def _send_group(run: ServedRun, request: Request) -> Response:
    return _send(run.payload.groups[_read_index(request, "group", len(run.payload.groups))].members)


def _send_codes(run: ServedRun, _: Request, body: bytes) -> Response:
    return _send(run.payload.means[_read_points(run, body)].astype("<f4"))


def _send_images(run: ServedRun, _: Request, body: bytes) -> Response:
    return _send(np.asarray(run.payload.pixels[_read_points(run, body)]))


def _send_conditions(run: ServedRun, _: Request, body: bytes) -> Response:
    points = _read_points(run, body)
    if run.payload.conditions is None:
        raise HTTPException(404, "this model is unconditional")
    return _send(run.payload.conditions[points])


def _send_nearest(run: ServedRun, _: Request, body: bytes) -> Response:
    indices, distances = run.payload.find_nearest(_read_codes(run, body)[0])
    return _send(indices.astype("<i4"), distances.astype("<f4"))


def _decode(run: ServedRun, request: Request, body: bytes) -> Response:
    return _send(run.worker.decode(_read_codes(run, body), _read_condition(run, request)))


def _encode(run: ServedRun, request: Request, body: bytes) -> Response:
    pixels, shape = np.frombuffer(body, np.uint8), run.payload.pixels.shape[1:]
    if len(pixels) != math.prod(shape):
        raise HTTPException(400, f"{len(body)} bytes: an image has {math.prod(shape)}")
    encoded = run.worker.encode(pixels.reshape(shape), _read_condition(run, request))
    return _send(*(np.asarray(part, "<f4") for part in encoded))


def _send(*arrays: NDArray[Any]) -> Response:
    return Response(b"".join(array.tobytes() for array in arrays), media_type=BINARY)


# -- what requests hold -----------------------------------------------------------------------------------------------


def _read_index(request: Request, name: str, count: int) -> int:
    """Return the path parameter ``name``, an index below ``count``."""
    text: str = request.path_params[name]
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) >= count:
        raise HTTPException(404, f"no such {name}: there are {count}, from 0 on")
    return int(text)


def _read_condition(run: ServedRun, request: Request) -> Condition | None:
    """Return the condition of ``?condition=0,1``, indices of classes or attributes; None for an unconditional model."""
    given, facts = request.query_params.get("condition"), run.payload.manifest["condition"]
    if facts is None:
        if given is not None:
            raise HTTPException(400, "this model is unconditional")
        return None
    count = len(facts["names"])
    if given is None or not re.fullmatch(r"(\d{1,6}(,\d{1,6})*)?", given, re.ASCII):
        raise HTTPException(400, "name the condition: ?condition=0 or, for attributes, 0,3")
    indices = {int(index) for index in given.split(",") if index}
    if any(index >= count for index in indices) or (facts["kind"] == "label" and len(indices) != 1):
        raise HTTPException(400, f"no such condition: there are {count}, from 0 on")
    vector = np.zeros(count, np.float32)
    vector[list(indices)] = 1
    return vector


async def _read_body(request: Request, limit: int) -> bytes:
    """Return a body of at most ``limit`` bytes. A longer one is refused before it is read, or once it is too long."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != BINARY:
        raise HTTPException(415, f"send {BINARY}")
    length = request.headers.get("content-length", "0")
    too_long = HTTPException(413, f"at most {limit} bytes", {"Connection": "close"})
    if not re.fullmatch(r"\d{1,15}", length, re.ASCII):
        raise HTTPException(400, "Content-Length is not a number")
    if int(length) > limit:
        raise too_long
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise too_long
    return bytes(body)


def _read_codes(run: ServedRun, body: bytes) -> NDArray[np.float32]:
    """Return the codes ``[n, latent]`` of a body."""
    width = run.payload.manifest["latent_dim"]
    if not body or len(body) % (4 * width):
        raise HTTPException(400, f"{len(body)} bytes: a code has {width} float32 numbers")
    codes = np.frombuffer(body, "<f4").astype(np.float32).reshape(-1, width)
    if not np.isfinite(codes).all():
        raise HTTPException(400, "a code must be finite")
    return codes


def _read_points(run: ServedRun, body: bytes) -> NDArray[np.int64]:
    """Return the indices of points in a body."""
    count = len(run.payload.means)
    if not body or len(body) % 4:
        raise HTTPException(400, f"{len(body)} bytes: indices of points are int32")
    indices = np.frombuffer(body, "<i4").astype(np.int64)
    if indices.min() < 0 or indices.max() >= count:
        raise HTTPException(400, f"indices of points go from 0 to {count - 1}")
    return indices


# -- listening --------------------------------------------------------------------------------------------------------


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at ``host`` and ``port``, or at a free port if that one is not available.

    Raises InputError if ``host`` is not a name or address of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        # asyncio sets TCP_NODELAY only if the socket names its protocol: small answers take 4 ms instead of 44
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(f"--host {host}: {error.strerror or error}", subject="host", value=host) from None
    if os.name == "posix":  # on Windows, the option would let two servers listen at one port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        try:
            listener.bind(address)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            listener.bind((address[0], 0, *address[2:]))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise InputError(f"--host {host}: {error.strerror}", subject="host", value=host) from None
    return listener


def format_url(listener: socket.socket) -> str:
    """Return the URL at which a browser on this machine finds the page."""
    name, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(name.partition("%")[0])
    if address.is_unspecified:
        return f"http://127.0.0.1:{port}/" if address.version == 4 else f"http://[::1]:{port}/"
    return f"http://{address}:{port}/" if address.version == 4 else f"http://[{address}]:{port}/"


def is_private(listener: socket.socket) -> bool:
    """Whether only this machine can reach the server."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


@contextmanager
def serve_in_thread(app: ASGIApp, listener: socket.socket) -> Iterator[Thread]:
    """Serve ``app`` from a thread within this context, and yield the thread."""
    settings = uvicorn.Config(
        app, ws="none", lifespan="off", log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server, log = uvicorn.Server(settings), logging.getLogger("uvicorn.error")
    log.addFilter(is_unexpected := lambda _: not server.should_exit)  # requests cut off at the end are no errors
    thread = Thread(target=server.run, kwargs={"sockets": [listener]}, name="explorer", daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        server.should_exit = True
        thread.join(CLOSING_SECONDS)
        log.removeFilter(is_unexpected)


@contextmanager
def serve(app: ASGIApp, listener: socket.socket) -> Iterator[Callable[[], None]]:
    """Serve ``app`` from a thread within this context. Yields a function that waits for Ctrl-C.

    Until it waits, Ctrl-C raises KeyboardInterrupt. While it waits, torch uses one thread, which is faster for single
    images.
    """
    threads = torch.get_num_threads()
    with stop_signals() as signals, serve_in_thread(app, listener) as thread:

        def wait() -> None:
            torch.set_num_threads(1)
            signals.interrupts = False  # an exception in the methods of a lock would leave it locked forever
            while thread.is_alive() and not signals.received:
                thread.join(POLL_SECONDS)

        try:
            signals.interrupts = True
            yield wait
        except Exception as error:
            if signals.received:  # a library has made an error of the interruption
                raise KeyboardInterrupt from error
            raise
        finally:
            signals.interrupts = False
            torch.set_num_threads(threads)
