"""``vaelab figures``, ``report``, ``evaluate`` and ``doctor``."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typed import TINY_WORDS, Typed, one_line

from vaelab.run import Run
from vaelab.system import registry

SYNONYMS = [
    ("Active-Units", "active_units"),
    ("likelihood", "elbo"),
]


@pytest.mark.parametrize(("word", "name"), SYNONYMS)
def test_metrics_have_synonyms(cli: Typed, trained: Path, word: str, name: str) -> None:
    code, out, err = cli("evaluate", trained, "--metrics", f"{word},{name}", "--json")
    assert (code, list(json.loads(out))) == (0, [name])
    assert name in err


def test_every_synonym_stands_for_one_metric() -> None:
    words = []
    for name in registry.names("metrics"):
        words += [name, *getattr(registry.load("metrics", name).METRIC, "synonyms", ())]  # a SeedMetric has none
    assert len(words) == len(set(words))


def test_options_of_metrics_accept_synonyms(cli: Typed, trained: Path) -> None:
    code, out, _ = cli("evaluate", trained, "--metrics", "iwae", "--set", "iwae.samples=20", "--json")
    assert (code, json.loads(out)["nll"]["measured_on"]["options"]) == (0, {"samples": 20})


def test_results_are_stored_with_their_protocol(cli: Typed, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    code, out, _ = cli("evaluate", "run", "--metrics", "elbo", "--json")
    elbo = json.loads(out)["elbo"]
    assert code == 0
    assert (elbo["protocol"]["images"], elbo["measured_on"]["split"]) == (359, "test")
    assert elbo["elbo"] == pytest.approx(-elbo["reconstruction_plus_kl"] - 392 * np.log(np.pi), rel=1e-6)
    assert Run("run").evaluation["elbo"] == elbo
    stored = tmp_path / "run" / "evaluation.json"
    stored.write_text(stored.read_text().replace(f"{elbo['elbo']}", "-1.25"))
    assert json.loads(cli("evaluate", "run", "--metrics", "elbo", "--json")[1])["elbo"]["elbo"] == -1.25, "not stored"
    assert "-1.2500" in cli("evaluate", "run", "--metrics", "elbo")[1]


def test_metrics_that_do_not_apply_are_refused(cli: Typed, trained: Path, wording: Callable[[object], None]) -> None:
    assert cli("evaluate", trained, "--metrics", "likelyhood")[0] == 2
    code, out, err = cli("evaluate", trained, "--metrics", "mig,irs")
    assert (code, out) == (2, "")
    wording(one_line(err))


def test_a_damaged_file_is_named(cli: Typed, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "half")
    (tmp_path / "half" / "evaluation.json").write_text("{")
    code, _, err = cli("evaluate", "half")
    assert (code, "half/evaluation.json" in one_line(err)) == (1, True)


def test_figures_and_report_are_written_again(cli: Typed, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    figure, report = tmp_path / "run/figures/losses.png", tmp_path / "run/report.html"
    before = figure.read_bytes()
    figure.unlink()
    report.unlink()
    assert cli("figures", "run", "--only", "losses") == (0, "run/figures/losses.png\n", "")
    assert figure.read_bytes() == before
    assert cli("report", "run") == (0, "run/report.html\n", "")
    assert report.is_file()
    assert cli("figures", "run", "--only", "loses")[0] == 2


@pytest.mark.slow
def test_the_report_escapes_titles(cli: Typed, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('title = "<b onclick=alert(1)>bold</b>"\n[data]\nname = "digits"\n')
    assert cli("train", recipe, *TINY_WORDS, "--run", "x")[0] == 0
    page = (tmp_path / "x" / "report.html").read_text()
    assert "<b onclick" not in page
    assert "&lt;b onclick" in page


def test_findings_are_printed_and_stored(cli: Typed, trained: Path) -> None:
    code, out, _ = cli("doctor", trained, "--json")
    findings = json.loads(out)
    assert code == 0
    assert findings == Run(trained).findings
    assert len(cli("doctor", trained)[1].splitlines()) >= len(findings)
