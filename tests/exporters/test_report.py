"""The report of a run: what it contains, in which order, and that it is one self-contained page."""

import json
import re
from pathlib import Path

import browser
import pytest
from PIL import Image
from typed import train_small

import vaelab
from vaelab.exporters.page import Picture
from vaelab.exporters.privacy import hide_folders
from vaelab.exporters.report import describe_protocol
from vaelab.run import Run
from vaelab.system.messages import VaelabWarning

ADDRESS = re.compile(r'(?:src|href)="([^"]+)"')


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was evaluated, examined and drawn in part."""
    run = train_small(tmp_path_factory.mktemp("report") / "my run", {"objective.name": "beta", "objective.beta": 4.0})
    vaelab.draw_figures(run.path, names=["samples", "reconstructions", "losses", "traversals"])
    vaelab.evaluate(run.path, metrics=["elbo", "active_units", "reconstruction"])
    vaelab.doctor(run.path)
    return run


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return (run.path / "report.html").read_text(encoding="utf-8")


def test_report_is_self_contained(page: str):
    assert all(address.startswith(("#", "data:image/")) for address in ADDRESS.findall(page))


def test_contents_list_names_every_section_once(page: str):
    listed = re.findall(r'<li><a href="#([^"]+)">', page)
    assert listed == re.findall(r'<h2 id="([^"]+)">', page)
    assert len(set(listed)) == len(listed)


def test_pictures_come_before_tables(page: str):
    first_picture, first_table = page.index("<figure"), page.index("<table")
    assert page.index('class="cards"') < first_picture < first_table
    assert page.index('id="figure-samples"') < page.index('id="diagnosis"') < page.index('id="figure-losses"')


def test_numbers_stand_in_the_section_of_their_question(run: Run, page: str):
    parts = dict(re.findall(r'<h2 id="([^"]+)">[^<]*</h2>(.*?)(?=<h2 |</main>)', page, re.S))
    evaluation = run.evaluation
    assert f"{evaluation['elbo']['elbo']:.2f}".replace("-", "−") in parts["fit"]
    assert f"± {evaluation['elbo']['elbo_standard_error']:.2f}" in parts["fit"]
    assert "active units" in parts["latent-space"]
    assert 'id="figure-traversals"' in parts["latent-space"]
    assert "generation" not in parts


def test_protocols_are_collapsed_sentences(page: str):
    protocols = re.findall(r"<details><summary>How ([\w ]+) was measured</summary><p>([^<]+)</p>", page)
    assert {name for name, _ in protocols} == {"ELBO", "active units", "reconstruction"}
    assert all(re.match(r"Measured on \d+ images of the \w+ split of digits\.", text) for _, text in protocols)
    assert "sha256" not in "".join(text for _, text in protocols)


def test_summary_says_what_the_model_is(page: str):
    lead = re.search(r'<p class="lead">([^<]+)</p>', page)
    assert lead is not None
    assert all(fact in lead[1] for fact in ("β-VAE", "β = 4", "latents", "60 steps"))


def test_glossary_explains_the_terms_used_and_no_others(page: str):
    terms = re.findall(r"<dt>([^<]+)</dt>", page)
    assert {"ELBO", "KL", "PSNR"} <= set(terms)
    assert not {"DCI", "MIG", "Fréchet distance, FID"} & set(terms)


def test_commands_quote_a_path_with_spaces(page: str):
    assert "vaelab explore &#39;my run&#39;" in page


def test_page_names_no_folder_of_this_machine(run: Run, page: str, tmp_path: Path):
    text = re.sub(r'"data:image[^"]+"', "", page)
    assert str(run.path.parent) not in text
    assert str(Path.home()) not in text
    evaluation = run.path / "evaluation.json"
    kept = evaluation.read_bytes()
    evaluation.write_bytes(b"{")
    with pytest.warns(VaelabWarning):
        damaged = vaelab.report(run.path, out=tmp_path / "damaged").read_text(encoding="utf-8")
    evaluation.write_bytes(kept)
    assert "…/my run/evaluation.json" in damaged
    assert str(run.path.parent) not in damaged


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("vaelab train folder --data /home/ann/faces", "vaelab train folder --data …/faces"),
        ("--run '/tmp/x/my run' --steps 3", "--run '…/my run' --steps 3"),
        (r"C:\Users\ann\faces: no such folder", "…/faces: no such folder"),
        ("https://arxiv.org/abs/1234 and runs/a, nats/image", "https://arxiv.org/abs/1234 and runs/a, nats/image"),
        ("~/faces and ../faces and runs/a", "…/faces and ../faces and runs/a"),
    ],
)
def test_folders_of_absolute_paths_are_hidden(text: str, shown: str):
    assert hide_folders(text) == shown


def test_letters_of_figures_stay_legible_on_a_phone(run: Run, page: str):
    widths = dict(re.findall(r'<figure id="figure-(\w+)"[^>]* style="--legible: (\d+)px', page))
    assert widths["samples"] == "0"  # nothing is written there
    for name in ("losses", "traversals", "reconstructions"):
        with Image.open(run.figures[name]) as picture:
            assert int(picture.info["Legible"]) == int(widths[name]) > 0
            assert int(widths[name]) < picture.width


@pytest.mark.parametrize(
    ("width", "height", "legible", "shown", "is_wide"),
    [
        (1350, 510, 530, 848, False),  # letters of one size, however flat the figure is
        (1050, 1050, 0, 640, False),  # without letters: no taller than a screen
        (960, 960, 377, 603, False),
        (2272, 1076, 818, 1309, True),
        (300, 900, 280, 300, False),
    ],
)
def test_figures_have_letters_of_one_size(width: int, height: int, legible: int, shown: int, is_wide: bool):
    picture = Picture("name", "title", "caption", "data:", width, height, legible)
    assert (picture.largest, picture.is_wide) == (shown, is_wide)


@pytest.mark.browser
@pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "there is a browser")
def test_page_in_a_browser_dark_on_a_phone_and_wide(page: str):
    def contrast(pair: list[list[int]]) -> float:
        def luminance(colour: list[int]) -> float:
            shares = [value / 255 for value in colour]
            linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
            return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

        low, high = sorted(map(luminance, pair))
        return (high + 0.05) / (low + 0.05)

    colours = """() => ["color", "backgroundColor"].map((name, i) => {
        const element = document.querySelector(["figcaption", "figure"][i]);
        return getComputedStyle(element)[name].match(/\\d+/g).slice(0, 3).map(Number);
    })"""
    with browser.open_browser() as chromium:
        for scheme in ("light", "dark"):
            shown = chromium.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
            shown.set_content(page)
            caption, frame = shown.evaluate(colours)
            assert contrast([caption, frame]) >= 4.5
            assert (sum(frame) < 200) == (scheme == "dark")
            assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
        box = shown.locator("#figure-losses .scroll")
        shown.wait_for_function("document.querySelector('#figure-losses .scroll.cut')")  # there is more at the right
        box.evaluate("(box) => box.scrollTo(box.scrollWidth, 0)")
        shown.wait_for_function("!document.querySelector('#figure-losses .scroll.cut')")
        shown.set_viewport_size({"width": 1600, "height": 1000})
        left, right = (shown.locator(f"#figure-{name}").bounding_box() for name in ("losses", "traversals"))
        assert left["width"] == pytest.approx(right["width"], abs=1)
        assert not shown.locator(".scroll.cut").count()


def test_protocol_without_images_is_still_a_sentence():
    entry = {"protocol": {"estimator": "importance sampling", "samples": 5000}, "measured_on": {}}
    assert describe_protocol(entry) == "Estimator: importance sampling. Samples: 5,000."


def test_foreign_metric_is_shown_among_other_measurements(run: Run):
    evaluation = json.loads((run.path / "evaluation.json").read_text())
    elsewhere = Path(run.path).parent / "other"
    evaluation["mine"] = {**evaluation["elbo"], "kl": 1.25}
    (run.path / "evaluation.json").write_text(json.dumps(evaluation))
    page = vaelab.report(run.path, out=elsewhere).read_text()
    assert "Other metrics" in page
    assert "1.250" in page
