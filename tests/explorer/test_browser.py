"""The explorer in a real browser: what a person does, and what then is on the page."""

import http.client
import io
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import browser
import numpy as np
import pytest
from browser import Visit, plane_of
from PIL import Image
from typed import train_small

import vaelab
from vaelab.explorer import server
from vaelab.explorer.payload import ServedRun

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "there is a browser"),
]
LATENTS = 6
NETWORK = {"network.hidden": [64], "network.latent_dim": LATENTS, "training.steps": 300}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[ServedRun]:
    """Two runs on the digits, β = 1 and β = 5."""
    folder = tmp_path_factory.mktemp("runs")
    paths = [train_small(folder / f"beta-{beta}", {**NETWORK, "objective.beta": beta}).path for beta in (1, 5)]
    return vaelab.explore(paths).runs


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser.open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(runs: list[ServedRun]) -> Iterator[str]:
    """The URL of the first run."""
    with browser.serve(server.make_app(runs[:1], "127.0.0.1")) as found:
        yield found


@pytest.fixture(scope="module")
def address_of_both(runs: list[ServedRun]) -> Iterator[str]:
    with browser.serve(server.make_app(runs, "127.0.0.1")) as found:
        yield found


Open = Callable[..., Visit]


@pytest.fixture
def visit(chromium: Any, address: str) -> Iterator[Open]:
    """Opens the page; in the end nothing may have complained, and nobody else been asked."""
    visits: list[Visit] = []

    def open_page(at: str = address, **settings: Any) -> Visit:
        visits.append(Visit(chromium, at, **settings))
        return visits[-1]

    yield open_page
    for each in visits:
        each.close()
        assert each.complaints == []
        places = {urlsplit(request)[:2] for request in each.requests if not request.startswith(("blob:", "data:"))}
        assert places == {urlsplit(each.requests[0])[:2]}


def decode(served: ServedRun, code: np.ndarray) -> np.ndarray:
    """The image of one code, as the server decodes it."""
    return served.worker.decode(code[None])[0]


def along(served: ServedRun, axes: list[int], code: np.ndarray) -> np.ndarray:
    return plane_of(served.payload.manifest, axes) @ code


def off(served: ServedRun, axes: list[int], code: np.ndarray) -> np.ndarray:
    """The part of a code that is not on the map."""
    plane = plane_of(served.payload.manifest, axes)
    return code - plane.T @ (plane @ code)


def lone_point(served: ServedRun, axes: list[int]) -> int:
    """The point whose nearest neighbour on the map is farthest away."""
    places = served.payload.means @ plane_of(served.payload.manifest, axes).T
    squares = ((places[:, None] - places[None]) ** 2).sum(2)
    np.fill_diagonal(squares, np.inf)
    inner = np.abs(places - places.mean(0)).max(1) < 2 * places.std()  # where the card has room beside it
    return int(np.where(inner, squares.min(1), -1).argmax())


# -- the map ----------------------------------------------------------------------------------------------------------


def test_the_page_opens_with_all_its_parts(visit: Open, runs: list[ServedRun]):
    one = visit()
    titles = ["Map", "Decoded", "Loss", "Sliders", "Your own image", "Nearest training images", "Pins"]
    assert one.page.locator("main h2").all_inner_texts() == titles
    assert one.page.title() == "beta-1 – vaelab explorer"
    view = one.view()
    assert view.axes == [runs[0].payload.manifest["maps"][0]["axes"]]
    assert (runs[0].payload.means == view.codes[0]).all(1).any()  # it begins at an image
    one.shows(one.decoded(), decode(runs[0], view.codes[0]))


def test_a_drag_moves_the_code_in_the_plane_of_the_map_alone(visit: Open, runs: list[ServedRun]):
    one = visit()
    before, first = one.view(), one.pixels(one.decoded())
    end = np.array([0.7, -0.9])
    one.drag([-1.2, 1.1], end)
    after = one.view()
    (axes,) = before.axes
    assert along(runs[0], axes, after.codes[0]) == pytest.approx(end, abs=1e-3)
    assert off(runs[0], axes, after.codes[0]) == pytest.approx(off(runs[0], axes, before.codes[0]), abs=1e-5)
    assert np.linalg.norm(off(runs[0], axes, after.codes[0])) > 0.1
    one.shows(one.decoded(), decode(runs[0], after.codes[0]))
    assert (one.pixels(one.decoded()) != first).any()
    one.wait(lambda: "Not the code of an image" in one.page.locator(".origin").inner_text(), "its origin")


def test_while_an_image_is_on_its_way_only_the_newest_code_waits(visit: Open, runs: list[ServedRun]):
    one = visit()
    one.page.locator(".sliders").evaluate("(sliders) => sliders.remove()")  # whose filmstrips are decoded as well
    one.rest()
    held: list[Any] = []
    asked: list[bytes] = []

    def hold(route: Any) -> None:
        asked.append(route.request.post_data_buffer)
        if len(asked) == 1:
            held.append(route)
        else:
            route.continue_()

    one.page.route("**/decode", hold)
    one.drag([-1, -1], [1, 1], steps=30)
    code = one.code
    one.wait(lambda: held, "a code to decode")
    held[0].continue_()
    one.shows(one.decoded(), decode(runs[0], code))
    assert [len(asked), asked[1]] == [2, code.tobytes()]


def test_a_point_shows_its_image_under_the_cursor_and_a_click_goes_there(visit: Open, runs: list[ServedRun]):
    one, ((payload, _), *_) = visit(), runs
    (axes,) = one.view().axes
    index = lone_point(runs[0], axes)
    one.page.mouse.move(*one.at(along(runs[0], axes, payload.means[index])))
    card = one.page.locator(".hover-card")
    card.wait_for()
    assert card.locator("strong").inner_text() == f"#{index:,}"
    value = payload.manifest["groups"][0]["values"][payload.groups[0].members[index]]
    one.wait(lambda: f"label: {value}" in card.inner_text(), "the class")
    one.shows(card.locator("canvas"), payload.pixels[np.array([index])][0])
    one.page.mouse.down()
    one.page.mouse.up()
    one.wait(lambda: (one.code == payload.means[index]).all(), "the code of the point")
    one.shows(one.decoded(), decode(runs[0], payload.means[index]))
    one.wait(
        lambda: f"Training image #{index:,}, label: {value}" in one.page.locator(".origin").inner_text(), "its name"
    )


def test_wheel_keys_and_buttons_change_what_is_seen_and_not_the_code(visit: Open):
    one = visit()
    before = one.view()

    def frame() -> np.ndarray:
        return np.array(one.map().evaluate("({ map }) => [map.toPosition([0, 0]), map.toPosition([100, 100])]"))

    def is_wider(old: np.ndarray) -> float:
        return float((frame()[1] - frame()[0])[0] / (old[1] - old[0])[0])

    whole = frame()
    place = np.array(one.map().evaluate("({ map }) => map.toPosition([130, 170])"))
    x, y = one.at(place)
    one.page.mouse.move(x, y)
    one.page.mouse.wheel(0, -300)
    one.wait(lambda: is_wider(whole) < 0.7, "a closer look")
    assert one.at(place) == pytest.approx((x, y), abs=0.5)  # the place stays under the cursor
    near = frame()
    one.map().focus()
    one.page.keyboard.down(" ")
    one.page.mouse.down()
    one.page.mouse.move(x + 40, y + 30, steps=4)
    one.page.mouse.up()
    one.page.keyboard.up(" ")
    assert one.at(place) == pytest.approx((x + 40, y + 30), abs=1.5)
    assert is_wider(near) == pytest.approx(1)
    one.press("-")
    assert is_wider(near) == pytest.approx(1.25)
    one.press("f")
    assert frame() == pytest.approx(whole)
    after = one.view()
    assert after.codes[0].tobytes() == before.codes[0].tobytes()


def test_fingers_drag_and_pinch(visit: Open, runs: list[ServedRun]):
    one = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    before = one.view()
    (axes,) = before.axes
    fingers = one.context.new_cdp_session(one.page)

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    start, end = one.at([-0.5, 0.8]), one.at([0.6, -0.4])
    scrolled = one.page.evaluate("scrollY")
    touch("touchStart", start)
    for share in np.linspace(0.1, 1, 10):
        touch("touchMove", (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])))
    touch("touchEnd")
    assert one.page.evaluate("scrollY") == scrolled
    code = one.code
    assert along(runs[0], axes, code) == pytest.approx([0.6, -0.4], abs=0.02)
    assert off(runs[0], axes, code) == pytest.approx(off(runs[0], axes, before.codes[0]), abs=1e-5)
    x, y = one.at([0, 0])
    scale = one.at([1, 0])[0] - x
    touch("touchStart", (x - 30, y))
    touch("touchStart", (x - 30, y), (x + 30, y))
    for far in (40, 50, 60):
        touch("touchMove", (x - far, y), (x + far, y))
    touch("touchEnd")
    assert one.at([1, 0])[0] - one.at([0, 0])[0] == pytest.approx(2 * scale, rel=0.05)
    assert one.code.tobytes() == code.tobytes()


def test_the_legend_hides_a_class_and_shows_one_alone(visit: Open):
    one = visit()
    one.press("g")
    chips = one.page.get_by_role("group", name="Classes shown").get_by_role("button")
    assert chips.all_inner_texts() == [str(digit) for digit in range(10)]
    script = "(chip) => getComputedStyle(chip.firstChild).backgroundColor"
    colours = [tuple(map(int, re.findall(r"\d+", chip.evaluate(script)))) for chip in chips.all()]
    assert len(set(colours)) == 10

    def seen() -> list[int]:
        """The number of pixels of the map in the colour of each class."""
        pixels = one.pixels(one.map())
        return [int((pixels[..., :3] == colour).all(-1).sum()) for colour in colours]

    one.wait(lambda: min(seen()) > 50, "points of every class")
    chips.nth(3).click()
    one.wait(lambda: seen()[3] == 0, "a map without the 3")
    assert min(seen()[:3] + seen()[4:]) > 50
    assert chips.nth(3).get_attribute("aria-pressed") == "false"
    chips.nth(6).click(modifiers=["Shift"])
    one.wait(lambda: [k for k, count in enumerate(seen()) if count] == [6], "the 6 alone")
    assert one.view().options["hidden"] == [0, 1, 2, 3, 4, 5, 7, 8, 9]
    one.page.get_by_role("button", name="All", exact=True).click()
    one.wait(lambda: min(seen()) > 50, "all classes again")


def test_lattice_density_and_other_axes(visit: Open, runs: list[ServedRun]):
    one, ((payload, _), *_) = visit(), runs
    plain = one.pixels(one.map())
    for key, layer in (("d", "density"), ("l", "lattice")):
        one.press(key)
        assert one.view().options[layer]
        one.wait(lambda plain=plain: (one.pixels(one.map()) != plain).mean() > 0.002, layer)
        plain = one.pixels(one.map())
    names = [found["name"] for found in payload.manifest["maps"]]
    select = one.page.get_by_role("combobox", name="Map")
    assert select.locator("option").all_inner_texts() == [*names, "Any two …"]
    select.select_option(label="PCA")
    one.wait(lambda: one.view().axes[0] == payload.manifest["maps"][names.index("PCA")]["axes"], "PCA")
    select.select_option(label="Any two …")
    one.page.get_by_role("combobox", name="Axis across").select_option(label="z2")
    one.page.get_by_role("combobox", name="Axis up").select_option(label="z5")
    one.wait(lambda: one.view().axes[0] == [1, 4], "z2 and z5")
    before = one.code
    one.drag([0.2, 0.3], [-0.5, 1.25])
    expected = before.copy()
    expected[[1, 4]] = [-0.5, 1.25]
    assert one.code == pytest.approx(expected, abs=2e-2)
    others = [0, 2, 3, 5]
    assert one.code[others].tobytes() == before[others].tobytes()


# -- sliders, pins, keys ----------------------------------------------------------------------------------------------


def test_a_latent_slider_changes_its_latent_and_no_other(visit: Open, runs: list[ServedRun]):
    one = visit()
    before = one.code
    latent = runs[0].payload.manifest["order"][0]
    slider = one.page.get_by_role("slider", name=f"z{latent + 1}, KL")
    slider.focus()
    one.press("ArrowRight", "ArrowRight", "PageUp")
    after = one.code
    value = float(slider.input_value())
    assert after[latent] == np.float32(value)
    assert value > before[latent] + 0.1
    others = np.arange(LATENTS) != latent
    assert after[others].tobytes() == before[others].tobytes()
    one.shows(one.decoded(), decode(runs[0], after))
    film = one.page.locator(".slider", has=slider).locator("canvas.film")
    codes = np.tile(after, (9, 1))
    codes[:, latent] = -4 + 8 * (np.arange(9) + 0.5) / 9
    frames = runs[0].worker.decode(codes)

    def distance() -> int:
        cells = one.pixels(film)[..., :3].astype(int)
        return max(np.abs(cells[:, 29 * i : 29 * i + 28] - frame).max() for i, frame in enumerate(frames))

    one.wait(lambda: distance() <= 1, "the filmstrip")


def test_an_attribute_slider_moves_along_its_direction(visit: Open, runs: list[ServedRun]):
    one, attribute = visit(), runs[0].payload.manifest["attributes"][0]
    before = one.code
    slider = one.page.get_by_role("slider", name=f"{attribute['name']}, separates")
    slider.focus()
    one.press("Home")
    low = one.code
    one.press("End")
    high = one.code
    direction, without = np.array(attribute["direction"]), np.array(attribute["without"])
    assert high - low == pytest.approx(4 * direction, abs=1e-4)
    amounts = [(code - without) @ direction / (direction @ direction) for code in (low, high)]
    assert amounts == pytest.approx([-1.5, 2.5], abs=1e-4)
    rest = low - before
    assert rest - direction * (rest @ direction) / (direction @ direction) == pytest.approx(np.zeros(LATENTS), abs=1e-5)
    one.shows(one.decoded(), decode(runs[0], high))


def test_everything_goes_by_keyboard_alone(visit: Open, runs: list[ServedRun]):
    one, ((payload, worker), *_) = visit(), runs
    for _ in range(40):
        one.press("Tab")
        if one.focused().startswith("CANVAS Map"):
            break
    assert one.focused().startswith("CANVAS Map of the codes of beta-1")
    (axes,) = one.view().axes

    def where() -> np.ndarray:
        return along(runs[0], axes, one.code)

    start = where()
    one.press("ArrowRight", "ArrowRight", "ArrowUp")
    right, up = where() - start
    assert right == pytest.approx(2 * up, rel=1e-3)
    assert up > 0.01
    one.press("Shift+ArrowLeft")
    assert where()[0] == pytest.approx(start[0] - 1.5 * right, abs=1e-4)
    one.press("Enter")
    one.wait(lambda: (payload.means == one.code).all(1).any(), "an image's code")
    chosen = one.code
    one.press("r")
    sampled = one.code
    one.press("0")
    assert one.code == pytest.approx(np.array(payload.manifest["mean"]), abs=1e-7)
    one.press("z")
    assert one.code.tobytes() == sampled.tobytes()
    one.press("z")
    assert one.code.tobytes() == chosen.tobytes()
    one.press("Shift+Z")
    assert one.code.tobytes() == sampled.tobytes()
    one.press("a", "r", "b")
    other = one.code
    assert {name: codes[0].tobytes() for name, codes in one.view().pins.items()} == {
        "A": sampled.tobytes(),
        "B": other.tobytes(),
    }
    one.press("?")
    help_dialog = one.page.get_by_role("dialog", name="Controls")
    help_dialog.wait_for()
    assert one.focused() == "BUTTON Close"
    one.press("r")  # belongs to the dialog now
    one.press("Escape")
    help_dialog.wait_for(state="hidden")
    assert one.focused().startswith("CANVAS Map")
    assert one.code.tobytes() == other.tobytes()
    between = worker.decode(np.stack([sampled + share * (other - sampled) for share in np.linspace(0, 1, 11)]))
    frames = one.page.locator(".frame canvas")
    assert frames.count() == 11
    for i, image in enumerate(between):
        one.shows(frames.nth(i), image, levels=1)
    one.press("p", "p")
    assert one.page.get_by_role("button", name="Play").is_visible()


def test_tab_reaches_everything_and_the_focus_can_be_seen(visit: Open):
    one = visit()
    one.press("r", "a", "r", "b", "c")
    one.rest()
    number = """() => {
        const all = "button:not([disabled]), select, input, summary, a[href], [tabindex='0']";
        return [...document.querySelectorAll(all)].filter((each) => each.checkVisibility({ visibilityProperty: true }))
            .map((each, i) => (each.dataset.number = i)).length;
    }"""
    count = one.page.evaluate(number)
    assert count > 40
    current = """() => {
        const { dataset, type } = document.activeElement;
        return [dataset.number, type === "range" || getComputedStyle(document.activeElement).outlineStyle !== "none"];
    }"""
    found: dict[str, bool] = {}
    for _ in range(count):
        one.press("Tab")
        which, is_seen = one.page.evaluate(current)
        found[which] = is_seen
    assert set(found) == {str(i) for i in range(count)}
    assert all(found.values())
    pen = one.page.get_by_role("slider", name="Pen")  # of sliders it is the thumb, whose style cannot be asked for
    without = pen.screenshot()
    one.page.locator("canvas.pad").focus()
    one.press("Tab")
    assert one.focused().startswith("INPUT")
    assert pen.screenshot() != without


def test_pins_give_way_path_play_and_analogy(visit: Open, runs: list[ServedRun]):
    one, ((_, worker), *_) = visit(), runs
    for name in "abc":
        one.press("r", name)
    a, b, c = (one.view().pins[name][0] for name in "ABC")
    for name, code in (("A", a), ("B", b), ("C", c)):
        one.shows(one.canvas(f"Image at pin {name}"), decode(runs[0], code))
    one.shows(one.canvas("The image of A minus B plus C"), decode(runs[0], a - b + c), levels=1)
    one.page.get_by_role("button", name="Show it: A minus B plus C").click()
    assert one.code == pytest.approx(a - b + c, abs=1e-6)
    one.page.get_by_role("button", name="Spherical").click()
    angle = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    units = [code / np.linalg.norm(code) for code in (a, b)]
    turned = (np.sin(0.5 * angle) * units[0] + np.sin(0.5 * angle) * units[1]) / np.sin(angle)
    middle = turned * (np.linalg.norm(a) + np.linalg.norm(b)) / 2
    one.shows(one.page.locator(".frame canvas").nth(5), worker.decode(middle[None].astype(np.float32))[0], levels=1)
    one.page.get_by_role("button", name="Linear").click()
    one.page.get_by_role("button", name="30 % of the way from A to B").click()
    assert one.code == pytest.approx(a + 0.3 * (b - a), abs=1e-6)
    start = one.code
    one.press("p")
    one.wait(lambda: (one.code != start).any(), "a move")
    one.press("p")
    shown = one.code
    share = (shown - a) @ (b - a) / ((b - a) @ (b - a))
    assert 0 <= share <= 1
    assert shown == pytest.approx(a + share * (b - a), abs=1e-5)
    one.page.get_by_role("button", name="Remove B").click()
    assert set(one.view().pins) == {"A", "C"}
    assert one.focused() == "BUTTON Set B"
    assert not one.page.locator(".frame").first.is_visible()


def test_with_little_motion_play_goes_in_steps_and_nothing_slides(visit: Open):
    still = visit(reduced_motion="reduce")
    still.press("r", "a", "r", "b")
    a, b = (still.view().pins[name][0] for name in "AB")
    still.page.clock.install()
    still.page.clock.pause_at(still.page.evaluate("Date.now()") / 1000 + 60)
    still.press("p")
    found = []
    for _ in range(20):
        still.page.clock.run_for(100)
        found.append(still.code.tobytes())
    still.press("p")
    steps = list(dict.fromkeys(found))
    shares = [(np.frombuffer(each, "<f4") - a) @ (b - a) / ((b - a) @ (b - a)) for each in steps]
    assert np.diff(shares[1:]) == pytest.approx(np.full(len(shares) - 2, 0.1), abs=1e-5)
    assert 4 <= len(shares) <= 5  # two seconds of half a second each
    moving = """() => [...document.querySelectorAll("*")].filter((each) => {
        const { animationName, transitionDuration } = getComputedStyle(each);
        return animationName !== "none" || transitionDuration.split(", ").some((time) => parseFloat(time) > 0.01);
    }).length"""
    assert still.page.evaluate(moving) == 0


# -- own input, links, files ------------------------------------------------------------------------------------------


def draw(one: Visit) -> None:
    """A stroke like a 1 on the pad; of what is read meanwhile the page shows a dot, then the whole."""
    pad = one.page.locator("canvas.pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    one.page.mouse.move(box["x"] + 0.55 * box["width"], box["y"] + 0.2 * box["height"])
    one.page.mouse.down()
    one.page.mouse.move(box["x"] + 0.45 * box["width"], box["y"] + 0.8 * box["height"])
    one.page.mouse.up()


def await_own(one: Visit, served: ServedRun, i: int = 0) -> np.ndarray:
    """The image in "what the model sees", once there is more than a dot on it and the shown code is its own."""

    def look() -> np.ndarray:
        return one.pixels(one.canvas("What the model sees").nth(i))[..., :1]

    def is_read() -> bool:
        seen = look()
        return (seen > 100).sum() > 30 and np.allclose(one.view().codes[i], served.worker.encode(seen).mean, atol=1e-5)

    one.wait(is_read, "an own picture")
    return look()


def check_own(one: Visit, served: ServedRun) -> np.ndarray:
    """All that follows from an own image; that image, as the model sees it."""
    payload, worker = served
    seen = await_own(one, served)
    one.wait(lambda: "Your own image" in one.page.locator(".origin").inner_text(), "its origin")
    mean, log_var, reconstruction, told = worker.encode(seen)
    code = one.code
    one.shows(one.canvas("Its reconstruction"), decode(served, code))
    one.shows(one.decoded(), decode(served, code))
    kl = 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var).sum()
    assert told == pytest.approx(kl, rel=1e-4)
    numbers = [float(text.split()[0]) for text in one.page.locator(".reconstruction-row dd").all_inner_texts()]
    assert numbers == pytest.approx([reconstruction, kl], abs=0.06)
    indices, _ = payload.find_nearest(code)
    which = one.page.locator(".thumbnail .which")
    one.wait(lambda: which.all_inner_texts() == [f"{i:,}" for i in indices], "the five nearest")
    for i, image in enumerate(payload.pixels[indices]):
        one.shows(one.page.locator(".thumbnail canvas").nth(i), image)
    return seen[..., 0]


def test_a_drawing_is_read_and_rebuilt_and_its_posterior_shown(visit: Open, runs: list[ServedRun]):
    one = visit()
    one.press("0", "g")
    one.page.get_by_role("button", name="Points", exact=True).click()
    accent = one.page.evaluate("() => getComputedStyle(document.documentElement).getPropertyValue('--accent').trim()")
    colour = [int(accent[i : i + 2], 16) for i in (1, 3, 5)]

    def posterior() -> np.ndarray:
        """Where the map has the colour of the ellipse, [row, column] of each pixel."""
        return np.argwhere((np.abs(one.pixels(one.map())[..., :3].astype(int) - colour) < 12).all(-1))

    one.wait(lambda: len(posterior()) == 0, "a map without an ellipse")
    one.map().focus()
    one.press("-", "-", "-")  # room for all of it
    draw(one)
    seen = check_own(one, runs[0])
    assert seen.max() > 200
    assert 20 < (seen > 100).sum() < 300
    assert one.page.get_by_text("For your own image.").is_visible()
    one.wait(lambda: len(posterior()) > 20, "an ellipse")
    (axes,) = one.view().axes
    plane = plane_of(runs[0].payload.manifest, axes)
    mean, log_var, *_ = runs[0].worker.encode(seen[..., None])
    script = "({ map }, place) => map.toPixels(place)"
    middle = np.array(one.map().evaluate(script, (plane @ mean).tolist()))[::-1]
    scale = one.map().evaluate("({ map }) => map.toPixels([1, 0])[0] - map.toPixels([0, 0])[0]")
    reach = 2 * scale * np.sqrt(np.diag(plane @ np.diag(np.exp(log_var)) @ plane.T))[::-1]
    found = posterior()
    assert found.min(0) == pytest.approx(middle - reach, abs=4)
    assert found.max(0) == pytest.approx(middle + reach, abs=4)
    one.drag([0.2, 0.3], [0.5, 0.4])  # from there one moves on
    one.wait(lambda: len(posterior()) == 0, "a map without an ellipse")
    one.page.get_by_role("button", name="Show it again").click()
    check_own(one, runs[0])


def test_a_picture_is_read_whether_chosen_or_dropped(visit: Open, runs: list[ServedRun], tmp_path: Path):
    one, ((payload, _), *_) = visit(), runs
    image = payload.pixels[np.array([11])][0, ..., 0]
    one.press("0")
    path = tmp_path / "eleven.png"
    Image.fromarray(image).resize((224, 224), Image.Resampling.NEAREST).save(path)
    one.page.locator("input[type=file]").set_input_files(path)
    seen = check_own(one, runs[0])
    assert np.corrcoef(seen.ravel(), image.ravel())[0, 1] > 0.9
    one.press("0")
    turned = io.BytesIO()
    Image.fromarray(np.rot90(image)).resize((224, 224), Image.Resampling.NEAREST).save(turned, "png")
    drop = """(files) => {
        const dataTransfer = new DataTransfer();
        for (const [bytes, name, type] of files)
            dataTransfer.items.add(new File([Uint8Array.from(bytes)], name, { type }));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
    }"""
    broken = [list(b"no picture"), "notes.png", "image/png"]
    one.page.evaluate(drop, [broken, [list(turned.getvalue()), "turned.png", "image/png"]])  # the first that is one
    seen = check_own(one, runs[0])
    assert np.corrcoef(seen.ravel(), np.rot90(image).ravel())[0, 1] > 0.9
    code = one.code
    one.page.evaluate(drop, [broken])
    one.page.get_by_text("notes.png: this browser cannot read it as an image").wait_for()
    assert one.code.tobytes() == code.tobytes()


def test_a_link_brings_back_the_very_view(visit: Open, address: str):
    permissions = ["clipboard-read", "clipboard-write"]
    one = visit(permissions=permissions)
    one.press("r", "a", "r", "b", "l")
    one.page.get_by_role("button", name="Spherical").click()
    one.page.get_by_role("group", name="Classes shown").get_by_role("button", name="4").click()
    one.page.get_by_role("combobox", name="Map").select_option(label="PCA")
    one.drag([0.3, 0.3], [-0.61, 0.42])
    one.page.get_by_role("button", name="Copy link").click()
    one.page.get_by_text("Link copied.").wait_for()
    link = one.page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(f"{address}#view=")
    other = visit(link, permissions=permissions)
    assert other.view()._replace(codes=[], pins={}) == one.view()._replace(codes=[], pins={})
    other.page.wait_for_function("(link) => location.href === link", arg=link)  # to the last bit
    for canvas in ("Image at pin A", "Image at pin B"):
        other.shows(other.canvas(canvas), one.pixels(one.canvas(canvas))[..., :3])
    other.shows(other.decoded(), one.pixels(one.decoded())[..., :3])
    assert other.page.get_by_role("combobox", name="Map").evaluate("(s) => s.selectedOptions[0].text") == "PCA"
    chip = other.page.get_by_role("group", name="Classes shown").get_by_role("button", name="4")
    assert chip.get_attribute("aria-pressed") == "false"
    assert other.page.get_by_role("button", name="Lattice").get_attribute("aria-pressed") == "true"


def test_a_link_of_another_run_or_of_nobody_is_told_and_does_no_harm(visit: Open, address: str):
    one = visit(f"{address}#view=%")
    one.page.get_by_text("This link belongs to another run. The default view is shown instead.").wait_for()
    code = one.code
    told = one.page.get_by_text("This link belongs to another run.", exact=True)
    for text in ("%7B%22v%22%3A1%7D", "<script>", '{"v":1,"m":[["AAAA",0,1]],"p":[],"o":{}}', '{"v":2}'):
        one.page.evaluate("document.querySelector('.messages [role=status]').replaceChildren()")
        one.page.evaluate("(text) => { location.hash = `#view=${text}`; }", text)
        told.wait_for()
        assert one.code.tobytes() == code.tobytes()


def test_saved_files_are_what_was_shown(visit: Open, runs: list[ServedRun], tmp_path: Path):
    one, ((_, worker), *_) = visit(), runs
    one.press("r", "a", "r", "b")
    a, b = (one.view().pins[name][0] for name in "AB")
    one.shows(one.decoded(), decode(runs[0], b))

    def save(name: str) -> Image.Image:
        with one.page.expect_download() as download:
            one.page.get_by_role("button", name=name).click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        with Image.open(path) as image:
            image.load()
            return image.copy() if path.suffix == ".png" else Image.open(io.BytesIO(path.read_bytes()))

    large = np.asarray(save("Save image").convert("L"))
    assert (large == np.kron(decode(runs[0], b)[..., 0], np.ones((10, 10), int))).all()
    strip = np.asarray(save("Save strip").convert("RGB"))
    assert strip.shape == (4 * 28, 4 * (11 * 29 - 1), 3)
    assert (strip[::4, : 4 * 28 : 4] == decode(runs[0], a)).all()
    with save("Save GIF") as movie:
        assert (movie.n_frames, movie.size, movie.info["duration"]) == (30, (280, 280), 80)
        shares = [*np.linspace(0, 1, 16), *np.linspace(0, 1, 16)[-2:0:-1]]
        frames = worker.decode(np.stack([a + share * (b - a) for share in shares]).astype(np.float32))
        for i in (0, 7, 15, 16, 29):
            movie.seek(i)
            found = np.asarray(movie.convert("L"))[::10, ::10]
            assert np.abs(found.astype(int) - frames[i, ..., 0]).max() <= 1
    assert {path.name for path in tmp_path.iterdir()} == {
        "beta-1-decoded.png",
        "beta-1-A-to-B.png",
        "beta-1-A-to-B.gif",
    }


# -- two runs ---------------------------------------------------------------------------------------------------------


def test_two_runs_move_under_one_hand(visit: Open, runs: list[ServedRun], address_of_both: str):
    both = visit(address_of_both, viewport={"width": 1500, "height": 1000})
    assert both.page.locator("h2.run").all_inner_texts() == ["beta-1", "beta-5"]
    view = both.view()
    index = lone_point(runs[0], view.axes[0])
    both.page.mouse.click(*both.at(along(runs[0], view.axes[0], runs[0].payload.means[index])))
    both.wait(lambda: (both.view().codes[0] == runs[0].payload.means[index]).all(), "the image in the first")
    assert (both.view().codes[1] == runs[1].payload.means[index]).all()
    image = runs[0].payload.pixels[np.array([index])][0]
    for i, served in enumerate(runs):
        both.shows(both.page.locator(".decoded .source canvas").nth(i), image)
        both.shows(both.decoded(i), decode(served, served.payload.means[index]))
    for which in (0, 1):  # either map
        before = both.view()
        end = [0.4 - which, 0.7]
        both.drag([0.8, -0.8], end, i=which)
        after = both.view()
        for i, served in enumerate(runs):
            assert along(served, view.axes[i], after.codes[i]) == pytest.approx(end, abs=1e-3)
            kept = off(served, view.axes[i], before.codes[i])
            assert off(served, view.axes[i], after.codes[i]) == pytest.approx(kept, abs=1e-5)
            both.shows(both.decoded(i), decode(served, after.codes[i]))
    both.press("r")
    first, second = both.view().codes
    assert first.tobytes() == second.tobytes()  # one draw for both
    draw(both)
    pictures = [await_own(both, served, i) for i, served in enumerate(runs)]
    assert (pictures[0] == pictures[1]).all()
    both.page.locator("summary").first.click()
    both.page.get_by_role("slider", name="z1, KL").first.wait_for()
    assert both.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


# -- for everyone -----------------------------------------------------------------------------------------------------


def serious(one: Visit, script: Path) -> list[str]:
    """Violations that axe-core calls serious or critical."""
    if not one.page.evaluate("'axe' in window"):
        one.page.add_script_tag(path=script)
    found = one.page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{rule['id']}: {node['html'][:160]} {node['failureSummary']}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


@pytest.fixture(scope="module")
def axe() -> Path:
    package = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")
    return Path(package.__file__).parent / "axe.min.js"


@pytest.mark.parametrize("runs_shown", ["one", "both"])
def test_axe_finds_nothing_serious(visit: Open, axe: Path, address: str, address_of_both: str, runs_shown: str):
    one = visit({"one": address, "both": address_of_both}[runs_shown], bypass_csp=True, reduced_motion="reduce")
    one.press("r", "a", "r", "b", "c")
    draw(one)
    one.page.locator(".reconstruction-row").first.wait_for()
    one.page.locator("details").evaluate_all("(all) => all.forEach((each) => { each.open = true; })")
    one.rest()  # what is no longer true of the shown image is faint until it was read
    for width in (1280, 390):
        one.page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            one.page.emulate_media(color_scheme=scheme)
            assert serious(one, axe) == [], f"{width} px, {scheme}"
            assert one.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{width} px"
    one.press("?")
    one.page.get_by_role("dialog").wait_for()
    assert serious(one, axe) == []


def test_the_theme_is_the_systems_until_one_is_chosen(visit: Open, address: str):
    one = visit(color_scheme="dark")

    def paper() -> int:
        return one.page.evaluate("() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[1]")

    assert paper() < 60
    one.press("t", "t")
    assert paper() > 200
    one.go(address)
    assert paper() > 200


# -- others -----------------------------------------------------------------------------------------------------------


def test_another_site_in_the_same_browser_gets_nothing(chromium: Any, address: str, tmp_path: Path):
    (tmp_path / "index.html").write_text("<!doctype html><title>evil</title>")
    with browser.serve_folder(tmp_path) as evil:
        page = chromium.new_page()
        answers: dict[str, int] = {}
        page.on("response", lambda response: answers.update({response.url: response.status}))
        page.goto(evil.replace("127.0.0.1", "localhost"))
        ask = "([url, mode]) => fetch(url, { mode }).then(({ type }) => type, () => 'refused')"
        assert page.evaluate(ask, [f"{address}runs/0/manifest", "cors"]) == "refused"
        assert page.evaluate(ask, [f"{address}runs", "no-cors"]) == "refused"  # its resource policy
        frame = """(url) => new Promise((done) => {
            const frame = document.createElement("iframe");
            frame.onload = () => done(frame.contentDocument === null ? "closed" : frame.contentDocument.title);
            frame.src = url;
            document.body.append(frame);
        })"""
        assert page.evaluate(frame, address) == "closed"
        assert {status for url, status in answers.items() if url.startswith(address)} == {403}
        page.close()


def test_a_socket_that_means_harm_is_refused(address: str):
    place = urlsplit(address)

    def ask(method: str, path: str, body: bytes | None = None, **headers: str) -> int:
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=browser.SECONDS)
        connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
        status = connection.getresponse().status
        connection.close()
        return status

    bare = {"Content_Type": "application/octet-stream"}
    code = bytes(4 * LATENTS)
    assert ask("POST", "/runs/0/decode", code, **bare) == 200
    assert ask("POST", "/runs/0/decode", code, Host="evil.example", **bare) == 403
    assert ask("POST", "/runs/0/decode", code, Origin="http://evil.example", **bare) == 403
    assert ask("POST", "/runs/0/decode", code, Content_Type="text/plain") == 415
    assert ask("POST", "/runs/0/decode", bytes(4 * LATENTS * 65), **bare) == 413
    assert ask("POST", "/runs/0/decode", np.full(LATENTS, np.nan, "<f4").tobytes(), **bare) == 400
    for path in (
        "/../../pyproject.toml",
        "/%2e%2e/server.py",
        "/..%2fserver.py",
        "//etc/passwd",
        "/static/../security.py",
    ):
        assert ask("GET", path) == 404
    with socket.create_connection((place.hostname, place.port), timeout=browser.SECONDS) as raw:
        raw.sendall(b"POST /runs/0/decode HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n")
        raw.sendall(b"Content-Length: 99999999\r\n\r\n")  # refused before any of it is sent
        assert raw.recv(12) == b"HTTP/1.1 413"
