"""Pages of runs with and without classes, of models without a latent KL, and of runs that are still loading."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import browser
import numpy as np
import pytest
from browser import Visit
from exploring import make_annotated, make_codes, make_small_payload
from small import make_images

from vaelab.data.images import Images
from vaelab.explorer import server
from vaelab.explorer.inference import InferenceWorker
from vaelab.explorer.payload import ServedRun

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "there is a browser"),
]
Open = Callable[..., Visit]
Serve = Callable[[Any], str]
IMAGES = {
    "labelled": [make_annotated()],
    "unlabelled": [make_images(60)],
    "one class": [Images(make_images(60).pixels, labels=np.zeros(60, np.int64))],
    "two runs": [make_annotated(), make_images(60)],
}


def make_served(images: Images, **overrides: Any) -> ServedRun:
    """A small model behind the server, with three latents unless ``overrides`` say otherwise."""
    payload, vae = make_small_payload(images, **{"network__latent_dim": 3, **overrides})
    return ServedRun(payload, InferenceWorker(vae))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser.open_browser() as opened:
        yield opened


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves an application until the end of the test."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(browser.serve(app))


@pytest.fixture
def visit(chromium: Any, serve: Serve) -> Iterator[Open]:
    """Opens a page. In the end, and before the server stops, there may be no complaints."""
    visits: list[Visit] = []

    def open_page(address: str, **settings: Any) -> Visit:
        visits.append(Visit(chromium, address, **settings))
        return visits[-1]

    yield open_page
    for each in visits:
        each.close()
        assert each.complaints == []


def count_pixels(one: Visit, variable: str, i: int = 0) -> int:
    """The number of pixels of a map that have exactly the theme's colour ``variable``."""
    text = one.page.evaluate("(name) => getComputedStyle(document.documentElement).getPropertyValue(name)", variable)
    colour = [int(text.strip()[start : start + 2], 16) for start in (1, 3, 5)]
    return int((one.pixels(one.map(i))[..., :3] == colour).all(-1).sum())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", IMAGES)
def test_maps_have_the_colours_of_the_theme(serve: Serve, visit: Open, kind: str, scheme: str):
    """Rings are --muted, the marker is --ink, outlines are --card and points without classes --accent."""
    runs = [make_served(images) for images in IMAGES[kind]]
    address = serve(server.make_app(runs, "127.0.0.1"))
    one = visit(address, color_scheme=scheme)
    one.press("0")  # without the ellipse of a posterior, which is --accent as well
    for i, run in enumerate(runs):
        variables = ["--ink", "--muted", "--card", *([] if run.payload.groups else ["--accent"])]
        for variable in variables:
            one.wait(lambda v=variable, i=i: count_pixels(one, v, i) > 20, f"{variable} on map {i}")
    has_classes = [run for run in runs if run.payload.groups]
    assert one.page.get_by_title("Show all classes").count() == len(has_classes)


def test_a_model_of_five_channels_says_which_of_them_pictures_show(serve: Serve, visit: Open):
    images = make_images(60, (8, 8, 5))
    one = visit(serve(server.make_app([make_served(images)], "127.0.0.1")))
    assert "Images show the first three of 5 channels." in one.page.locator(".decoded").inner_text()
    assert "Your own image" not in one.page.locator("main h2").all_inner_texts()
    origin = one.page.locator(".origin")
    one.wait(lambda: "#" in origin.inner_text(), "the number of the image")
    index = int(origin.inner_text().partition("#")[2])
    one.shows(one.page.locator(".decoded .source canvas"), np.asarray(images.pixels)[index, ..., :3])


def read_drawn(one: Visit) -> dict[str, tuple[float, float, float]]:
    """Open the page again and return the texts on its map, each with its middle and its width."""
    record = """
        globalThis.drawn = new Map();
        const { fillText } = CanvasRenderingContext2D.prototype;
        CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
            globalThis.drawn.set(text, [x, y, this.measureText(text).width]);
            return fillText.apply(this, arguments);
        };
    """
    one.context.add_init_script(record)
    one.go(one.page.url.partition("#")[0])
    one.rest()
    return dict(one.page.evaluate("() => [...globalThis.drawn]"))


def test_the_name_of_every_class_is_drawn_and_none_covers_another(serve: Serve, visit: Open):
    """All classes have the same median, and the shown code is there too."""
    random = np.random.default_rng(0)
    names = tuple(f"class {name}" for name in "abcdefghij")
    images = Images(make_images(200).pixels, labels=np.arange(200) % 10, label_names=names)
    payload, vae = make_small_payload(images, make_codes(random.standard_normal((200, 2))), network__latent_dim=2)
    one = visit(serve(server.make_app([ServedRun(payload, InferenceWorker(vae))], "127.0.0.1")))
    drawn = read_drawn(one)
    assert {*names, "shown"} <= set(drawn)
    boxes = [drawn[name] for name in (*names, "shown")]
    for i, (x, y, width) in enumerate(boxes):
        for other_x, other_y, other_width in boxes[:i]:
            assert abs(x - other_x) >= (width + other_width) / 2 or abs(y - other_y) >= 13


def test_the_names_of_rings_give_way_to_the_shown_code(serve: Serve, visit: Open):
    codes = make_codes(np.tile([0.6, 0.7], (60, 1)) + np.random.default_rng(0).normal(0, 0.01, (60, 2)))
    payload, vae = make_small_payload(make_images(60), codes, network__latent_dim=2)
    drawn = read_drawn(visit(serve(server.make_app([ServedRun(payload, InferenceWorker(vae))], "127.0.0.1"))))
    (x, y, width), (other_x, other_y, other_width) = drawn["shown"], drawn["1σ"]
    assert abs(x - other_x) >= (width + other_width) / 2 or abs(y - other_y) >= 13


def test_the_twenty_largest_classes_are_named_in_any_script(serve: Serve, visit: Open):
    names = (*(f"class {i}" for i in range(24)), "猫", "고양이", "قطة")
    labels = np.concatenate([np.arange(27), np.arange(7, 27)])
    codes = make_codes(np.random.default_rng(0).standard_normal((47, 2)))
    payload, vae = make_small_payload(Images(make_images(47).pixels, labels=labels, label_names=names), codes)
    one = visit(serve(server.make_app([ServedRun(payload, InferenceWorker(vae))], "127.0.0.1")))
    drawn = read_drawn(one)
    assert set(names) & set(drawn) == set(names[7:])
    assert one.page.locator(".chip").all_inner_texts() == list(names)


def test_the_kl_of_a_model_without_a_latent_kl_is_that_to_its_prior(serve: Serve, visit: Open):
    served = make_served(make_annotated(), posterior__name="full_covariance", prior__name="mixture")
    address = serve(server.make_app([served], "127.0.0.1"))
    one = visit(address)
    one.map().focus()
    one.press("Enter")
    one.rest()
    index = int((served.payload.means == one.code).all(1).argmax())
    encoded = served.worker.encode(served.payload.pixels[[index]][0])
    rows = one.page.locator(".reconstruction-row dd").all_inner_texts()
    assert [float(text.split()[0]) for text in rows] == pytest.approx(encoded[2:], abs=0.06)
    total = float(one.page.locator(".loss .total strong").inner_text().replace(",", ""))
    assert total == pytest.approx(encoded.reconstruction + encoded.kl, abs=0.06)
    elbo = float(one.page.locator(".loss .elbo .number").inner_text().replace("−", "-").replace(",", ""))
    assert elbo - total == pytest.approx(served.payload.manifest["constant"], abs=0.11)


def test_what_does_not_apply_to_quantised_codes_is_absent_and_the_rest_works(serve: Serve, visit: Open):
    served = make_served(make_annotated(), posterior__name="vq", prior__name="uniform", network__latent_dim=20)
    one = visit(serve(server.make_app([served], "127.0.0.1")))
    one.rest()
    titles = one.page.locator(".loss h3").all_inner_texts()
    assert not any(title.startswith("KL of each latent") for title in titles)
    first = one.code
    slider = one.page.locator(".slider input").first
    inside = "(canvas, share) => canvas.map.toPosition([share * canvas.clientWidth, share * canvas.clientHeight])"
    for step in (
        lambda: one.press("r"),
        lambda: one.drag(one.map().evaluate(inside, 0.4), one.map().evaluate(inside, 0.6)),
        lambda: slider.press("Home" if slider.evaluate("({ value, max }) => value === max") else "End"),
    ):
        before = one.code
        step()
        one.rest()
        assert (one.code != before).any()
        one.shows(one.decoded(), served.worker.decode(one.code[None])[0], levels=1)
    one.press("z", "z", "z")
    assert (one.code == first).all()


def test_a_link_is_followed_while_the_address_is_being_replaced(serve: Serve, visit: Open):
    address = serve(server.make_app([make_served(make_annotated())], "127.0.0.1"))
    one = visit(address)
    one.press("r")
    wanted = one.code
    link = one.page.evaluate("location.hash")
    one.press("r")
    own = one.page.evaluate("location.hash") if (one.code != wanted).any() else ""
    follow = """([link, own]) => {
        location.hash = link;
        history.replaceState(null, "", own); // as the page does once the view rests
    }"""
    one.page.evaluate(follow, [link, own])
    one.wait(lambda: (one.code == wanted).all(), "the code of the link")
    one.rest()


def test_two_runs_share_one_scale(serve: Serve, visit: Open):
    random = np.random.default_rng(0)
    runs = []
    for size in (1.0, 5.0):
        codes = make_codes(size * random.standard_normal((60, 3)))
        payload, vae = make_small_payload(make_images(60), codes, network__latent_dim=3)
        runs.append(ServedRun(payload, InferenceWorker(vae)))
    unit = "({ map }) => map.toPixels([1, 0])[0] - map.toPixels([0, 0])[0]"
    address = serve(server.make_app(runs, "127.0.0.1"))
    both = visit(address, viewport={"width": 1500, "height": 1000})
    first, second = (both.map(i).evaluate(unit) for i in (0, 1))
    assert first == pytest.approx(second)
    both.map(0).focus()
    both.press("+", "+")
    near, other = (both.map(i).evaluate(unit) for i in (0, 1))
    assert near == pytest.approx(other)
    assert near > 1.3 * first


def test_a_page_shows_the_progress_of_loading_and_then_opens(serve: Serve, chromium: Any):
    runs: list[ServedRun] = []
    status: dict[str, Any] = {"label": "encoding", "done": 1234, "total": 60000}
    address = serve(server.make_app(runs, "127.0.0.1", status))
    page = chromium.new_page()
    page.goto(address)
    page.get_by_text("encoding: 1,234 of 60,000").wait_for()
    assert page.locator("progress").get_attribute("max") == "60000"
    runs.append(make_served(make_annotated()))
    page.locator("canvas.map").wait_for()
    page.close()


def test_the_lattice_is_legible_among_points(serve: Serve, visit: Open):
    """Its images have their full contrast, and points show between them."""
    black = Images(np.zeros((60, 9, 8, 1), np.uint8), labels=np.arange(60) % 3)
    payload, vae = make_small_payload(black, make_codes(np.random.default_rng(0).standard_normal((60, 2))))
    served = ServedRun(payload, InferenceWorker(vae))
    address = serve(server.make_app([served], "127.0.0.1"))
    one = visit(address)
    code = one.code
    level = int(served.worker.decode(code[None])[0].mean())
    one.press("l")

    def share() -> float:
        pixels = one.pixels(one.map())[..., :3].astype(int)
        is_grey = np.ptp(pixels, axis=2) == 0
        return float((is_grey & (np.abs(pixels[..., 0] - level) < 40)).mean())

    one.rest()
    assert 0.1 < share() < 0.75  # images at 32 % opacity on white would give 0
