"""The report of a run: what it contains, in which order, and that it is one self-contained page."""

import json
import re
from pathlib import Path

import pytest
from typed import train_small

import vaelab
from vaelab.exporters.report import describe_protocol
from vaelab.run import Run

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
    protocols = re.findall(r"<details><summary>How (\w+) was measured</summary><p>([^<]+)</p>", page)
    assert {name for name, _ in protocols} == {"elbo", "active_units", "reconstruction"}
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


def test_commands_quote_a_path_with_spaces(run: Run, page: str):
    assert f"vaelab explore &#39;{run.path}&#39;" in page


def test_protocol_without_images_is_still_a_sentence():
    entry = {"protocol": {"estimator": "importance sampling", "samples": 5000}, "measured_on": {}}
    assert describe_protocol(entry) == "Estimator: importance sampling. Samples: 5,000."


def test_foreign_metric_is_shown_among_other_measurements(run: Run):
    evaluation = json.loads((run.path / "evaluation.json").read_text())
    elsewhere = Path(run.path).parent / "other"
    evaluation["mine"] = {**evaluation["elbo"], "kl": 1.25}
    (run.path / "evaluation.json").write_text(json.dumps(evaluation))
    page = vaelab.report(run.path, out=elsewhere).read_text()
    assert "Other measurements" in page
    assert "1.250" in page
