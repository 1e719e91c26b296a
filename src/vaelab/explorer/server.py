"""The server behind the page: one machine, one person, bare arrays in and out (little-endian)."""

import errno
import ipaddress
import logging
import os
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
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

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Of the page's files; what else lies there is not served. A system's own table may have .js wrong."""
MOST_CODES, MOST_POINTS = 64, 256
"""Codes decoded at once, points asked for at once."""
BARE = "application/octet-stream"


def first_bytes(runs: Sequence[ServedRun]) -> int:
    """What the page loads before it can be used: itself, and each run's scene, two columns and a group of classes."""
    own = sum(path.stat().st_size for path in page_files().values())
    return own + sum(len(payload.json) + 5 * len(payload.means) for payload, _ in runs)


# -- answers ----------------------------------------------------------------------------------------------------------


def make_app(runs: Sequence[ServedRun], host: str) -> ASGIApp:
    """The application: the page, and every run's part under runs/0/, runs/1/ …; ``host``: what it listens at."""
    routes = [Route("/runs", lambda _: JSONResponse([run.payload.manifest["run"] for run in runs]))]
    for i, run in enumerate(runs):
        routes += _routes_of(run, f"/runs/{i}")
    return SecurityMiddleware(Starlette(routes=[*routes, Route("/{name:path}", _page)]), host)


def page_files() -> dict[str, Path]:
    """Path within the page → file; nothing else can be asked for."""
    files = (path for path in STATIC.rglob("*") if path.suffix in TYPES and path.is_file())
    return {path.relative_to(STATIC).as_posix(): path for path in files}


def _page(request: Request) -> Response:
    path = page_files().get(request.path_params["name"] or "index.html")
    if path is None:
        raise HTTPException(404, "no such page")
    return Response(path.read_bytes(), headers={"Content-Type": TYPES[path.suffix]})


def _routes_of(run: ServedRun, root: str) -> list[Route]:
    """What can be asked of one run."""
    payload, worker = run
    facts = payload.manifest
    width, count, image = facts["latent_dim"], facts["count"], facts["image"]
    shape = (image["height"], image["width"], image["channels"])

    def column(request: Request) -> Response:
        return _bare(payload.column(_place(request, "column", facts["columns"])).astype("<i2"))

    def group(request: Request) -> Response:
        return _bare(payload.group(_place(request, "group", facts["groups"])))

    def codes(body: bytes) -> Response:
        return _bare(payload.codes(_points(body, count)).astype("<f4"))

    def images(body: bytes) -> Response:
        return _bare(payload.images(_points(body, count)))

    def nearest(body: bytes) -> Response:
        indices, distances = payload.nearest(_codes(body, width)[0])
        return _bare(indices.astype("<i4"), distances.astype("<f4"))

    def conditions(body: bytes) -> Response:
        points = _points(body, count)
        if payload.conditions is None:
            raise HTTPException(404, "this model is unconditional")
        return _bare(payload.conditions[points])

    def decode(body: bytes, condition: Condition | None) -> Response:
        return _bare(worker.decode(_codes(body, width), condition))

    def encode(body: bytes, condition: Condition | None) -> Response:
        pixels = np.frombuffer(body, np.uint8)
        if len(pixels) != np.prod(shape):
            raise HTTPException(400, f"{len(body)} bytes: an image has {np.prod(shape)}")
        found = worker.encode(pixels.reshape(shape), condition)
        return _bare(*(np.asarray(part, "<f4") for part in found))

    def conditioned(work: Callable[[bytes, Condition | None], Response]) -> Callable[[bytes, Request], Response]:
        return lambda body, request: work(body, _condition(request, facts["condition"]))

    def plain(work: Callable[[bytes], Response]) -> Callable[[bytes, Request], Response]:
        return lambda body, _: work(body)

    return [
        Route(f"{root}/manifest", lambda _: Response(payload.json, media_type="application/json")),
        Route(f"{root}/columns/{{index}}", column),
        Route(f"{root}/groups/{{index}}", group),
        Route(f"{root}/samples", lambda _: _bare(payload.samples.astype("<f4"))),
        _post(f"{root}/codes", plain(codes), 4 * MOST_POINTS),
        _post(f"{root}/images", plain(images), 4 * MOST_POINTS),
        _post(f"{root}/conditions", plain(conditions), 4 * MOST_POINTS),
        _post(f"{root}/nearest", plain(nearest), 4 * width),
        _post(f"{root}/decode", conditioned(decode), 4 * width * MOST_CODES),
        _post(f"{root}/encode", conditioned(encode), int(np.prod(shape))),
    ]


def _bare(*arrays: NDArray[Any]) -> Response:
    return Response(b"".join(array.tobytes() for array in arrays), media_type=BARE)


def _place(request: Request, what: str, among: Sequence[Any]) -> int:
    index: str = request.path_params["index"]
    if not re.fullmatch(r"\d{1,9}", index, re.ASCII) or int(index) >= len(among):
        raise HTTPException(404, f"no such {what}: there are {len(among)}, from 0 on")
    return int(index)


def _condition(request: Request, about: dict[str, Any] | None) -> Condition | None:
    """The condition that ``?condition=0,1`` names by the numbers of its classes or attributes; None without one."""
    given = request.query_params.get("condition")
    if about is None:
        if given is not None:
            raise HTTPException(400, "this model is unconditional")
        return None
    count = len(about["names"])
    if given is None or not re.fullmatch(r"(\d{1,6}(,\d{1,6})*)?", given, re.ASCII):
        raise HTTPException(400, "name the condition: ?condition=0 or, of attributes, 0,3")
    numbers = {int(number) for number in given.split(",") if number}
    if any(number >= count for number in numbers) or (about["kind"] == "label" and len(numbers) != 1):
        raise HTTPException(400, f"no such condition: there are {count}, from 0 on")
    vector = np.zeros(count, np.float32)
    vector[list(numbers)] = 1
    return vector


# -- bodies -----------------------------------------------------------------------------------------------------------


def _post(path: str, work: Callable[[bytes, Request], Response], most: int) -> Route:
    """A route for bodies of at most ``most`` bytes; the work is done beside the loop that answers others."""

    async def answer(request: Request) -> Response:
        try:
            body = await _body(request, most)
        except ClientDisconnect:
            return Response(status_code=400)
        return await run_in_threadpool(work, body, request)

    return Route(path, answer, methods=["POST"])


async def _body(request: Request, most: int) -> bytes:
    """What was sent; refused before it is read where it says that it is too long, and as soon as it is."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != BARE:
        raise HTTPException(415, f"send {BARE}")
    said = request.headers.get("content-length", "0")
    too_long = HTTPException(413, f"at most {most} bytes", {"Connection": "close"})
    if not re.fullmatch(r"\d{1,15}", said, re.ASCII):
        raise HTTPException(400, "Content-Length is no number")
    if int(said) > most:
        raise too_long
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise too_long
    return bytes(body)


def _codes(body: bytes, width: int) -> NDArray[np.float32]:
    """Codes ``[n, latent]`` in a body."""
    if not body or len(body) % (4 * width):
        raise HTTPException(400, f"{len(body)} bytes: a code has {width} float32 numbers")
    codes = np.frombuffer(body, "<f4").astype(np.float32).reshape(-1, width)
    if not np.isfinite(codes).all():
        raise HTTPException(400, "a code must be finite")
    return codes


def _points(body: bytes, count: int) -> NDArray[np.int64]:
    """Numbers of points in a body."""
    if not body or len(body) % 4:
        raise HTTPException(400, f"{len(body)} bytes: numbers of points are int32")
    indices = np.frombuffer(body, "<i4").astype(np.int64)
    if indices.min() < 0 or indices.max() >= count:
        raise HTTPException(400, f"numbers of points go from 0 to {count - 1}")
    return indices


# -- listening --------------------------------------------------------------------------------------------------------


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at ``host`` and ``port``, or at any free port where that one cannot be had.

    ValueError for what is none of this machine's names or addresses.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        # asyncio sends small answers at once (TCP_NODELAY) only where the socket says that it is TCP: 4 ms, not 44
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ValueError(f"--host {host}: {error.strerror or error}") from None
    if os.name == "posix":  # elsewhere it would let two listen at one port
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
        raise ValueError(f"--host {host}: {error.strerror}") from None
    return listener


def address_of(listener: socket.socket) -> str:
    """Where a browser on this machine finds the page."""
    name, port = listener.getsockname()[:2]
    place = ipaddress.ip_address(name.partition("%")[0])
    if place.is_unspecified:
        return f"http://127.0.0.1:{port}/" if place.version == 4 else f"http://[::1]:{port}/"
    return f"http://{place}:{port}/" if place.version == 4 else f"http://[{place}]:{port}/"


def is_private(listener: socket.socket) -> bool:
    """Whether only this machine can reach it."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def serve(app: ASGIApp, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Answer until Ctrl-C; ``ready`` is called once a browser may come. Torch works with one thread meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several make one image slower
    settings = uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    uvicorn_server, log = uvicorn.Server(settings), logging.getLogger("uvicorn.error")
    log.addFilter(is_news := lambda _: not uvicorn_server.should_exit)  # what Ctrl-C cuts off is no error
    try:
        ready()
        uvicorn_server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # it has come to its end already
    finally:
        log.removeFilter(is_news)
        listener.close()
        torch.set_num_threads(threads)
