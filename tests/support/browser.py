"""A real browser on the explorer: how tests find it, and what a person sees and does in it."""

import base64
import importlib.util
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np
from PIL import Image
from starlette.types import ASGIApp

from vaelab.explorer import server

NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 30
"""Seconds that a page may take for anything before a test fails."""


def find_chromium() -> str | None:
    """The browser that VAELAB_CHROMIUM names, else the first that is on PATH."""
    return os.environ.get("VAELAB_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def missing() -> str:
    """Why there can be no tests in a browser; empty where there can."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed"
    return "" if find_chromium() else f"no browser: none of {', '.join(NAMES)} on PATH, nor $VAELAB_CHROMIUM"


@contextmanager
def open_browser() -> Iterator[Any]:
    """A browser without a window. While it is open this thread has a running event loop, so close it soon."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def serve(app: ASGIApp) -> Iterator[str]:
    """The URL of the explorer's application on a free port."""
    with server.listen("127.0.0.1", 0) as listener, server.serve(app, listener):
        yield server.format_url(listener)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """The address of a folder behind a plain web server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder)) as plain:
        thread = Thread(target=plain.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{plain.server_address[1]}/"
        finally:
            plain.shutdown()
            thread.join()


class View(NamedTuple):
    """The content of an address: code and axes of each model, codes of each pin, options."""

    codes: list[np.ndarray]
    axes: list[list[int]]
    pins: dict[str, list[np.ndarray]]
    options: dict[str, Any]


def read_hash(text: str) -> View:
    """The view in the hash of an address."""
    found = json.loads(unquote(text.partition("#view=")[2]))
    return View(
        [_code(text) for text, *_ in found["m"]],
        [axes for _, *axes in found["m"]],
        {name: [_code(text) for text in texts] for name, *texts in found["p"]},
        found["o"],
    )


def _code(text: str) -> np.ndarray:
    return np.frombuffer(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "<f4")


def plane_of(manifest: dict[str, Any], axes: Sequence[int]) -> np.ndarray:
    """Two orthonormal vectors ``[2, latent]`` that span the map along two columns, the first along the first."""
    columns = [manifest["columns"][axis] for axis in axes]
    a, b = (np.eye(manifest["latent_dim"])[c["latent"]] if "latent" in c else np.array(c["vector"]) for c in columns)
    x = a / np.linalg.norm(a)
    y = b - x * (x @ b)
    return np.stack([x, y / np.linalg.norm(y)])


class Visit:
    """A page of the explorer, and what went wrong on it: ``complaints`` of the console, of scripts and policies."""

    def __init__(self, browser: Any, address: str, **settings: Any) -> None:
        """Open ``address``; ``settings`` are those of a context, such as viewport and permissions."""
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.on_the_way = 0
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        self.context.set_default_timeout(1000 * SECONDS)
        self.context.on("request", self._asks)
        for end in ("requestfinished", "requestfailed"):
            self.context.on(end, self._has_its_answer)
        if "permissions" not in settings:  # what copying says would come at its own time
            self.context.add_init_script("Clipboard.prototype.writeText = () => new Promise(() => {})")
        self.page = self.context.new_page()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.go(address)

    def _asks(self, request: Any) -> None:
        self.requests.append(request.url)
        self.on_the_way += 1

    def _has_its_answer(self, _: Any) -> None:
        self.on_the_way -= 1

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def go(self, address: str) -> None:
        """Open an address, and wait for the first images."""
        self.page.goto(address)
        for i in range(max(1, self.page.locator("canvas.map").count())):
            self.map(i).wait_for()
            self.wait(lambda i=i: self.decoded(i).evaluate("({ width }) => width !== 300"), "a decoded image")

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        """Until ``condition()`` holds."""
        end = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < end, f"{what}: not within {SECONDS} s"
            self.page.wait_for_timeout(20)

    def rest(self) -> None:
        """Until the page has nothing more to do: no answer is awaited, and timers of up to 150 ms asked for none."""

        def rests() -> bool:
            before = len(self.requests)
            self.page.evaluate("() => new Promise((done) => setTimeout(done, 200))")
            return not self.on_the_way and len(self.requests) == before

        self.wait(rests, "the page at rest")

    # -- what is shown --

    def view(self) -> View:
        """Return the content of a copied link."""
        press = "[...document.querySelectorAll('button')].find(({ textContent: t }) => t === 'Copy link').click()"
        return read_hash(self.page.evaluate(f"() => {{ {press}; return location.hash; }}"))

    @property
    def code(self) -> np.ndarray:
        """The shown code, of the first model."""
        return self.view().codes[0]

    def map(self, i: int = 0) -> Any:
        return self.page.locator("canvas.map").nth(i)

    def decoded(self, i: int = 0) -> Any:
        return self.page.get_by_role("img", name="Decoded image").nth(i)

    def canvas(self, label: str) -> Any:
        """The canvas of that label."""
        return self.page.locator(f"canvas[aria-label={json.dumps(label)}]")

    def pixels(self, canvas: Any) -> np.ndarray:
        """Return the pixels of a canvas, uint8 ``[height, width, 4]``."""
        url = canvas.evaluate("(canvas) => canvas.toDataURL('image/png')")
        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
            return np.asarray(image.convert("RGBA"))

    def shows(self, canvas: Any, image: np.ndarray, levels: int = 0) -> None:
        """Wait until a canvas shows an image ``[height, width, channel]``, each pixel within ``levels`` of 255."""

        def distance() -> float:
            found = self.pixels(canvas)
            if found.shape[:2] != image.shape[:2] or (found[..., 3] != 255).any():
                return np.inf
            return int(np.abs(found[..., :3].astype(int) - image).max())

        self.wait(lambda: distance() <= levels, f"{canvas} shows what is expected to {levels} levels")

    # -- what hands do --

    def at(self, place: Sequence[float], i: int = 0) -> tuple[float, float]:
        """Where in the window a place of the map is, which is scrolled into sight."""
        self.map(i).scroll_into_view_if_needed()
        script = """(canvas, place) => {
            const { left, top } = canvas.getBoundingClientRect();
            const [x, y] = canvas.map.toPixels(place);
            return [left + canvas.clientLeft + x, top + canvas.clientTop + y];
        }"""
        x, y = self.map(i).evaluate(script, [float(value) for value in place])
        return x, y

    def drag(self, start: Sequence[float], end: Sequence[float], i: int = 0, steps: int = 12) -> None:
        """Drag with the mouse from one place of the map to another."""
        mouse = self.page.mouse
        mouse.move(*self.at(start, i))
        mouse.down()
        mouse.move(*self.at(end, i), steps=steps)
        mouse.up()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def focused(self) -> str:
        """Return tag and label of the focused element; BODY if nothing is focused."""
        script = "({ activeElement: { tagName, ariaLabel, textContent } }) => `${tagName} ${ariaLabel ?? textContent}`"
        found: str = self.page.evaluate_handle("document").evaluate(script)
        return found[:60]

    def close(self) -> None:
        self.context.close()
