"""Comparison of runs: rows, files, skipped metrics, figures, and what does not compare."""

import csv
import json
import math
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typed import Typed, train_small

import vaelab
from vaelab.api.compare import comparison_arrays, draw_pictures, side_by_side_arrays
from vaelab.api.run_images import load_run_images
from vaelab.data import idx
from vaelab.data.tensors import to_uint8
from vaelab.evaluation.evaluate import default_metrics
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Quantity, load_metric, load_metrics
from vaelab.evaluation.metrics.udr import udr
from vaelab.exporters.comparison_report import find_lead, render_comparison
from vaelab.figures import side_by_side
from vaelab.models.codes import encode_images
from vaelab.run import Run
from vaelab.system.errors import UsageError
from vaelab.system.noise import generator

pytestmark = pytest.mark.slow
OF_FACTORS = tuple(name for name in default_metrics("compare") if "factors" in load_metric(name).needs)
COMPARED = tuple(name for name in default_metrics("compare") if name not in OF_FACTORS)
QUANTITIES = [(name, quantity) for name, metric in load_metrics().items() for quantity in metric.quantities]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small runs: a different β, and a different seed."""
    folder = tmp_path_factory.mktemp("runs")
    made = {"one": {}, "four": {"objective.beta": 4.0}, "seed": {"training.seed": 1}}
    return {name: train_small(folder / name, overrides).path for name, overrides in made.items()}


@pytest.fixture(scope="module")
def compared(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> vaelab.Comparison:
    """The runs compared, one of them named twice."""
    out = tmp_path_factory.mktemp("compared") / "c"
    return vaelab.compare([runs["one"], runs["four"], runs["seed"], runs["one"]], out=out)


def test_rows_hold_the_numbers_of_evaluation_json(runs: dict[str, Path], compared: vaelab.Comparison) -> None:
    assert [(Path(row["run"]).name, row["label"], row["seed"]) for row in compared.rows] == [
        ("one", "β = 1", 0), ("four", "β = 4", 0), ("seed", "β = 1", 1),
    ]  # fmt: skip
    measured = 0
    for row, (name, beta) in zip(compared.rows, (("one", 1), ("four", 4), ("seed", 1)), strict=True):
        run = Run(runs[name])
        assert set(run.evaluation) == set(COMPARED)
        for metric, quantity in QUANTITIES:
            if metric in COMPARED:
                assert row[quantity.key] == run.evaluation[metric].get(quantity.key)
                error = f"{quantity.key}_standard_error"
                assert row.get(error) == run.evaluation[metric].get(error)
                measured += quantity.key in run.evaluation[metric]
            elif metric != "udr":  # needs factors, or slow
                assert row[quantity.key] is None
        assert row["beta_kl"] == pytest.approx(beta * row["kl"])
        assert row["parameters"] == sum(vaelab.load(run.path).num_parameters.values())
        assert row["seconds"] == run.measured()["seconds"]
        assert "mutual information" in (run.path / "report.html").read_text()
    assert measured == 57
    parts = [compared.rows[0][part] for part in ("mutual_information", "total_correlation", "dimension_wise_kl")]
    assert sum(parts) == pytest.approx(Run(runs["one"]).evaluation["decomposition"]["kl"], abs=0.1)


def test_files_hold_the_rows_and_remarks(compared: vaelab.Comparison, wording: Any) -> None:
    folder = compared.paths["comparison.json"].parent
    assert set(compared.paths.values()) == set(folder.iterdir())
    stored = json.loads((folder / "comparison.json").read_text())
    assert (stored["runs"], stored["warnings"]) == (compared.rows, [])
    assert stored["remarks"] == list(compared.remarks)
    assert math.log(1438) == pytest.approx(7.27, abs=0.01)
    for remark in compared.remarks:
        wording(remark)
    with (folder / "comparison.csv").open(encoding="utf-8") as file:
        for row, line in zip(compared.rows, csv.DictReader(file), strict=True):
            assert {key: line[key] for key in ("label", "seed")} == {"label": row["label"], "seed": str(row["seed"])}
            assert line["mig"] == ""
            assert float(line["kl"]) == row["kl"]
    with Image.open(folder / "side-by-side.png") as picture:
        assert picture.width > 1000
    with Image.open(folder / "comparison.png") as picture:
        assert all(part in picture.info["Description"] for part in ("359", "1,438"))


@pytest.fixture(scope="module")
def page(compared: vaelab.Comparison) -> str:
    return compared.paths["report.html"].read_text(encoding="utf-8")


def test_the_page_is_self_contained_and_names_no_folder_of_this_machine(page: str, runs: dict[str, Path]) -> None:
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert all(address.startswith(("#", "data:image/")) for address in addresses)
    assert str(runs["one"].parent) not in page
    assert re.findall(r'<li><a href="#([^"]+)">', page) == re.findall(r'<h2 id="([^"]+)">', page)


def test_the_page_shows_pictures_then_what_decides_then_tables(page: str, compared: vaelab.Comparison) -> None:
    order = ["figure-side-by-side", "decisive", "better", "figure-comparison", "fit", "runs", "repeat", "glossary"]
    places = [page.index(f'id="{name}"') for name in order]
    assert places == sorted(places)
    lead = re.search(r'<p class="lead">([^<]+)</p>', page)
    assert lead is not None
    assert all(fact in lead[1] for fact in ("3 runs of 2 recipes", "β = 1", "β = 4", "359 held-out images"))
    parts = dict(re.findall(r'<h2 id="([^"]+)">[^<]*</h2>(.*?)(?=<h2 |</main>)', page, re.S))
    means = [np.mean([row["elbo"] for row in rows]) for rows in compared.groups.values()]
    assert all(f"{mean:,.2f}".replace("-", "−") in parts["fit"] for mean in means)
    assert {"ELBO, nats", "higher is better"} <= set(re.findall(r"ELBO, nats|higher is better", parts["fit"]))
    assert "vaelab compare one four seed" in parts["repeat"]


def test_a_lead_is_clear_beyond_two_standard_errors() -> None:
    score = Quantity("x", "score", "nats", "lower")
    groups = {
        "a": [{"x": 1.0, "seed": 0}, {"x": 3.0, "seed": 1}],
        "b": [{"x": 9.0, "x_standard_error": 1.5, "seed": 0}],
        "c": [{"x": None, "seed": 0}],
    }
    lead = find_lead(score, groups)
    assert lead is not None
    assert (lead.best, lead.next, lead.difference) == ("a", "b", 7)
    assert lead.error == pytest.approx(math.hypot(1.0, 1.5))  # √2/√2, and as given
    assert lead.is_clear
    wider = find_lead(score, {**groups, "b": [{"x": 9.0, "x_standard_error": 4.0, "seed": 0}]})
    assert wider is not None
    assert not wider.is_clear
    unknown = find_lead(score, {**groups, "b": [{"x": 9.0, "seed": 0}]})
    assert unknown is not None
    assert (unknown.error, unknown.is_clear) == (None, False)
    higher = find_lead(replace(score, better="higher"), groups)
    assert higher is not None
    assert higher.best == "b"
    assert find_lead(replace(score, better=""), groups) is None
    assert find_lead(score, {"a": groups["a"], "c": groups["c"]}) is None


def test_no_run_is_called_better_if_they_do_not_compare() -> None:
    rows = {"a": [{"x": 1.0, "seed": 0, "run": "a"}], "b": [{"x": 2.0, "seed": 0, "run": "b"}]}
    score = Quantity("x", "score", better="lower", decides=True)
    pages = [
        render_comparison(
            title="t", lead="Two runs.", groups=rows, quantities=[("fit", score)], obstacles=obstacles, remarks=[],
            pictures=[], charts=[], explore="vaelab explore a b", commands=["vaelab compare a b"],
        )
        for obstacles in ([], ["Different data: mnist (a); fashion (b)"])
    ]  # fmt: skip
    assert ['id="better"' in page for page in pages] == [True, False]
    assert ['class="card"' in page for page in pages] == [True, False]
    assert "Different data: mnist (a); fashion (b)." in pages[1]
    assert "2.00" in pages[1]


def test_figures_show_recipes_and_the_same_images(runs: dict[str, Path], compared: vaelab.Comparison) -> None:
    arrays = comparison_arrays(compared)
    panels = {panel["title"]: panel for panel in arrays["panels"]}
    assert arrays["labels"] == ["β = 1", "β = 4"]
    assert panels["KL"]["values"][0] == [Run(runs[name]).evaluation["elbo"]["kl"] for name in ("one", "seed")]
    assert "majority baseline, mean over attributes" not in panels
    assert panels["probe accuracy of classes"]["baseline"] == compared.rows[0]["majority_class_accuracy"]
    assert panels["SWD × 1000"]["baseline"] == compared.rows[0]["training_swd"]


def test_pictures_side_by_side_use_the_sampler_of_each_recipe(runs: dict[str, Path]) -> None:
    run = Run(runs["one"])
    images, model = load_run_images(run, None), vaelab.load(runs["one"])
    sections = ({"name": "prior"}, {"name": "gmm", "components": 2})
    evaluations = [Evaluation(model, images.valid, images.train, sampler=section) for section in sections]
    pictures = [("a run", *draw_pictures(each, images.valid)) for each in evaluations]
    arrays = side_by_side_arrays(images.valid, pictures)
    assert arrays["sources"] == ["the prior", "the sampler gmm"]
    assert all(source in side_by_side.caption(arrays) for source in arrays["sources"])
    expected = to_uint8(torch.from_numpy(model.reconstruct(arrays["originals"])))
    for i, evaluation in enumerate(evaluations):
        np.testing.assert_array_equal(arrays["reconstructions"][i], expected)
        codes = evaluation.sampler().sample(8, generator(0, "side by side", "codes"))
        np.testing.assert_array_equal(arrays["samples"][i], to_uint8(model.decode(codes)))


@pytest.mark.slow
def test_the_table_shows_errors_and_stored_results_are_not_measured_again(
    cli: Typed, runs: dict[str, Path], compared: vaelab.Comparison
) -> None:
    stored = [(path / "evaluation.json").stat().st_mtime_ns for path in runs.values()]
    code, out, err = cli("compare", *runs.values())
    assert (code, err) == (0, "")
    lines = {line.split("\t")[0]: line.split("\t")[1:] for line in out.splitlines()}
    assert lines[""] == ["β = 1 (2 seeds)", "β = 4 (1 seed)"]
    kl = [Run(runs[name]).evaluation["elbo"]["kl"] for name in ("one", "seed")]
    mean, error = (float(word) for word in lines["KL, nats"][0].split(" ± "))
    assert mean == pytest.approx(np.mean(kl), abs=0.005)
    assert error == pytest.approx(abs(kl[0] - kl[1]) / 2, abs=0.005)
    entry = Run(runs["four"]).evaluation["elbo"]
    shown, its_error = lines["ELBO, nats"][1].replace("−", "-").replace(",", "").split(" ± ")
    assert float(shown) == pytest.approx(entry["elbo"], rel=0.01)
    assert float(its_error) == pytest.approx(entry["elbo_standard_error"], rel=0.5)
    assert [(path / "evaluation.json").stat().st_mtime_ns for path in runs.values()] == stored
    first = compared.paths["comparison.json"].parent
    (second,) = runs["one"].parent.glob("compare-*")
    same = {path.name for path in second.iterdir() if path.read_bytes() == (first / path.name).read_bytes()}
    assert same == {path.name for path in first.iterdir()}


@pytest.mark.slow
def test_a_stale_report_is_written_again(runs: dict[str, Path], compared: vaelab.Comparison, tmp_path: Path) -> None:
    run = shutil.copytree(runs["one"], tmp_path / "run")
    vaelab.report(run)
    whole = (run / "report.html").read_bytes()
    (run / "report.html").write_text("from before the evaluation")
    os.utime(run / "report.html", (0, 0))
    vaelab.compare([run], out=tmp_path / "out")
    assert (run / "report.html").read_bytes() == whole


def test_files_are_overwritten_only_on_request(runs: dict[str, Path], compared: vaelab.Comparison) -> None:
    folder = compared.paths["comparison.json"].parent
    (folder / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for out in (folder, folder / "notes.txt"):
        with pytest.raises(FileExistsError):
            vaelab.compare([runs["one"], runs["four"]], out=out)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.slow
def test_overwrite_replaces_the_files(runs: dict[str, Path], compared: vaelab.Comparison, tmp_path: Path) -> None:
    folder = shutil.copytree(compared.paths["comparison.json"].parent, tmp_path / "out")
    (folder / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    vaelab.compare([runs["one"]], out=folder, overwrite=True)
    assert [name for name in before if (folder / name).read_bytes() == before[name]] == ["notes.txt"]


def test_runs_that_cannot_be_compared_are_named(cli: Typed, runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        vaelab.compare([])
    half = shutil.copytree(runs["one"], tmp_path / "half")
    (half / "model.safetensors").unlink()
    for path in (half, tmp_path / "nowhere"):
        code, _, err = cli("compare", runs["four"], path)
        assert (code, err.count("\n")) == (1, 1)
        assert path.name in err
    assert not list(runs["four"].parent.glob("compare-*four*nowhere*"))


# -- skipped metrics and obstacles ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_metrics_that_a_model_does_not_allow_are_left_out_with_a_remark(
    runs: dict[str, Path], compared: vaelab.Comparison, tmp_path: Path
) -> None:
    full = train_small(tmp_path / "full", {"training.steps": 5, "posterior.name": "full_covariance"})
    found = vaelab.compare([runs["one"], full.path], out=tmp_path / "c")
    assert [row["total_correlation"] is None for row in found.rows] == [False, True]
    of_all, of_full = found.remarks[-2:]
    assert all(name in of_all for name in OF_FACTORS)
    assert "full" not in of_all
    assert all(word in of_full for word in ("full", "decomposition", "posterior.name"))


def write_mnist(folder: Path, side: int) -> Path:
    """Write files in MNIST's format."""
    random = np.random.default_rng(side)
    folder.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        pixels = random.integers(0, 256, (60, side, side), dtype=np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx.write_idx(pixels))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx.write_idx(random.integers(0, 10, 60).astype(np.uint8)))
    return folder


@pytest.mark.long
def test_different_sizes_are_warned_of_and_pictured_alone(cli: Typed, tmp_path: Path) -> None:
    for name, side in (("a", 28), ("b", 16)):
        place = write_mnist(tmp_path / name / "mnist", side)
        train_small(tmp_path / f"run-{name}", {"training.steps": 5}, name="mnist", data=place, watch=lambda _: None)
    code, out, err = cli("compare", "run-a", "run-b", "--out", "both", "--json")
    assert (code, err.count("warning: ")) == (0, 1)
    assert all(text in err for text in ("28×28×1 (run-a)", "16×16×1 (run-b)"))
    assert len(json.loads(out)["warnings"]) == 1
    assert cli("compare", "run-a", "--out", "one")[0] == 0
    with Image.open("both/side-by-side.png") as both, Image.open("one/side-by-side.png") as one:
        assert both.size == one.size


# -- known factors and seeds ------------------------------------------------------------------------------------------


@pytest.mark.long
def test_known_factors_and_agreement_of_seeds(cli: Typed, tmp_path: Path) -> None:
    sprites = {"data.orientations": 4, "data.positions": 4, "data.valid": 200, "network.latent_dim": 3}
    made = {"seed-0": {}, "seed-1": {"training.seed": 1}, "other": {"objective.beta": 0.5}}
    paths = [
        train_small(tmp_path / name, {**sprites, "objective.beta": 1, **more}, name="sprites").path
        for name, more in made.items()
    ]
    few = ("--set", "dci.train_draws=300", "--set", "dci.test_draws=100")
    assert cli("evaluate", paths[0], "--metrics", "dci", *few)[0] == 0
    code, out, err = cli("compare", *paths, "--json")
    assert (code, err) == (0, "")
    rows, codes = json.loads(out)["runs"], []
    for row, path in zip(rows, paths, strict=True):
        run = Run(path)
        for metric, quantity in QUANTITIES:
            if metric in OF_FACTORS:
                assert row[quantity.key] == run.evaluation[metric].get(quantity.key)
            if metric in ("nll", "fid"):
                assert row[quantity.key] is None  # not measured by default
        codes.append(encode_images(vaelab.load(path), load_run_images(run, None).valid))
    assert rows[0]["completeness"] == Run(paths[0]).evaluation["dci"]["completeness"]
    assert [row["completeness"] for row in rows[1:]] == [None, None]
    expected, _ = udr([of_seed.mean for of_seed in codes[:2]], [of_seed.kl for of_seed in codes[:2]])
    assert [row["udr"] for row in rows] == [*expected.tolist(), None]  # a single run has nothing to agree with
    assert 0 < expected.min() <= 1
