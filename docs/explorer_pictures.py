"""Pictures of the explorer for the docs: python docs/explorer_pictures.py RUN [RUN] OUT [--data DIR]"""

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import vaelab
from vaelab.explorer import server
from vaelab.explorer.payload import Payload

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
import browser

Place = Sequence[float]
Step = Callable[[browser.Visit, list[Place]], None]
MOST_BYTES = 250_000
SEVEN = [(0.27, 0.28), (0.73, 0.25), (0.52, 0.55), (0.42, 0.82)]
"""Corners of a stroke on the pad, in shares of its width and height."""


def main() -> None:
    """Explore one run, or two side by side, and write what is then to be seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder")
    parser.add_argument("--data", type=Path, help="where the training images lie")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    served = vaelab.explore(given.runs, data=given.data).runs
    places = places_of(served[0].payload)
    with browser.serve(server.make_app(served, "127.0.0.1")) as address, browser.open_browser() as chromium:

        def take(name: str, width: int, height: int, scheme: str, steps: list[Step], **settings: Any) -> None:
            """Do something on the page, and write a picture once all of it is drawn."""
            size = {"width": width, "height": height}
            visit = browser.Visit(chromium, address, viewport=size, color_scheme=scheme, **settings)
            for step in steps:
                step(visit, places)
            visit.page.wait_for_load_state("networkidle")
            visit.page.wait_for_timeout(1500)  # filmstrips and lattice come once a hand rests
            path = given.out / name
            with Image.open(io.BytesIO(visit.page.screenshot(animations="disabled"))) as shot:
                path.write_bytes(pack(shot.convert("RGB")))
            visit.close()
            print(f"{path}  {path.stat().st_size:,} bytes")

        if len(served) == 2:
            take("explorer-compare.webp", 1600, 1040, "light", [pin, draw])
            return
        take("explorer.webp", 1600, 1040, "light", [pin, draw, hover])
        take("explorer-dark.webp", 1600, 1040, "dark", [lattice, pin, hover])
        phone = {"has_touch": True, "is_mobile": True, "device_scale_factor": 2}
        take("explorer-phone.webp", 390, 844, "light", [pin], **phone)


def places_of(payload: Payload) -> list[Place]:
    """Where on the map three points lie: far left, far right, and at the upper edge of the middle."""
    found = payload.means @ browser.plane_of(payload.manifest, payload.manifest["maps"][0]["axes"]).T
    by_x = found[np.argsort(found[:, 0])]
    middle = by_x[len(by_x) // 3 : -len(by_x) // 3]
    by_y = middle[np.argsort(middle[:, 1])]
    return [by_x[len(by_x) // 20], by_x[-len(by_x) // 20], by_y[-len(by_y) // 50]]


def pack(shot: Image.Image) -> bytes:
    """A picture as WebP, as good as has room in 250 kB; without loss where that fits."""
    for options in ({"lossless": True}, *({"quality": quality} for quality in (95, 90, 80, 70, 60))):
        packed = io.BytesIO()
        shot.save(packed, "webp", method=6, **options)
        if packed.tell() <= MOST_BYTES:
            break
    return packed.getvalue()


def pin(visit: browser.Visit, places: list[Place]) -> None:
    """Pins on two images."""
    for name, place in zip("ab", places, strict=False):
        visit.press("0")
        mean = visit.code.tobytes()
        visit.page.mouse.click(*visit.at(place))
        visit.wait(lambda mean=mean: visit.code.tobytes() != mean, "the code of an image")
        visit.press(name)


def draw(visit: browser.Visit, _: list[Place]) -> None:
    """A seven on the pad, where there is one."""
    pad = visit.page.locator("canvas.pad")
    if not pad.count():
        return
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    corners = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in SEVEN]
    visit.page.mouse.move(*corners[0])
    visit.page.mouse.down()
    for corner in corners[1:]:
        visit.page.mouse.move(*corner, steps=6)
    visit.page.mouse.up()
    visit.page.evaluate("scrollTo(0, 0)")


def lattice(visit: browser.Visit, _: list[Place]) -> None:
    """Decoded images behind the points."""
    visit.press("l")


def hover(visit: browser.Visit, places: list[Place]) -> None:
    """The cursor on a point."""
    visit.page.mouse.move(*visit.at(places[2]))
    visit.page.locator(".hover-card").wait_for()


if __name__ == "__main__":
    main()
