"""vaelab compare: one table and two pictures of several runs, and what does not compare."""

import csv
import json
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
from typed import TINY, Typed, train_small

import vaelab
from vaelab import recipe
from vaelab.api import compare as comparison
from vaelab.api.run_images import load_run_images
from vaelab.cli.comparisons import format_cell, print_comparison
from vaelab.data import idx
from vaelab.data.images import to_uint8
from vaelab.evaluation import comparability as differences
from vaelab.evaluation.evaluate import default_metrics
from vaelab.evaluation.metrics import Quantity, decomposition, elbo, load_metric, load_metrics, reconstruction
from vaelab.evaluation.metrics.udr import udr
from vaelab.models.codes import encode_images
from vaelab.run import Run
from vaelab.system.files import load_tensors, save_tensors
from vaelab.system.seeds import derive_seed

OF_FACTORS = tuple(name for name in default_metrics("compare") if "factors" in load_metric(name).needs)
COMPARED = tuple(name for name in default_metrics("compare") if name not in OF_FACTORS)
QUANTITIES = [(name, quantity) for name, metric in load_metrics().items() for quantity in metric.quantities]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small runs: another β, another seed."""
    folder = tmp_path_factory.mktemp("runs")
    made = {"one": {}, "four": {"objective.beta": 4.0}, "seed": {"training.seed": 1}}
    return {name: train_small(folder / name, overrides).path for name, overrides in made.items()}


@pytest.fixture
def cli(cli: Typed, monkeypatch: pytest.MonkeyPatch) -> Typed:
    monkeypatch.setattr(decomposition, "LEAST_SAMPLES", 1500)  # many take long
    return cli


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of the time."""
    monkeypatch.setattr(comparison, "draw", lambda _module, _arrays: b"")


def test_the_numbers_are_those_of_evaluation_json(cli: Typed, runs: dict[str, Path], tmp_path: Path):
    code, out, err = cli("compare", runs["one"], runs["four"], "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["warnings"] == []
    assert found["remarks"] == ["parts of the KL: of N = 1,438 training images, mutual information ≤ ln N = 7.27"]
    folder = tmp_path / "compare-one-four"
    assert {Path(path).resolve() for path in found["files"].values()} == set(folder.iterdir())
    stored = json.loads((folder / "comparison.json").read_text())
    assert stored["runs"] == found["runs"]
    with (folder / "comparison.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    measured = 0
    for row, line, name, beta in zip(found["runs"], table, ("one", "four"), (1, 4), strict=True):
        evaluation = Run(runs[name]).evaluation
        assert set(evaluation) == set(COMPARED)
        assert row["label"] == f"β = {beta}"
        for metric, quantity in QUANTITIES:
            if metric not in COMPARED:  # of factors, which digits have not, or slow
                assert row[quantity.key] is None
                continue
            assert row[quantity.key] == evaluation[metric][quantity.key]
            assert float(line[quantity.key]) == row[quantity.key]
            error = f"{quantity.key}_standard_error"
            assert row.get(error) == evaluation[metric].get(error)
            measured += 1
        assert row["beta_kl"] == pytest.approx(beta * row["kl"])
        assert row["parameters"] == sum(vaelab.load(runs[name]).num_parameters.values())
        assert row["seconds"] == Run(runs[name]).measured()["seconds"]
        assert "mutual information" in (runs[name] / "report.html").read_text()
    assert measured == 24
    parts = [found["runs"][0][part] for part in ("mutual_information", "total_correlation", "dimension_wise_kl")]
    assert sum(parts) == pytest.approx(Run(runs["one"]).evaluation["decomposition"]["kl"], abs=0.1)


def test_the_table_shows_them_with_their_errors_and_a_second_time_nothing_is_measured(
    cli: Typed, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert cli("compare", runs["one"], runs["four"], "--out", "first")[0] == 0
    for module in (reconstruction, elbo):
        again = replace(module.METRIC, measure=lambda *_: pytest.fail("measured again"))
        monkeypatch.setattr(module, "METRIC", again)
    code, out, err = cli("compare", runs["one"], runs["four"])
    assert (code, err) == (0, "")
    lines = {line.split("\t")[0]: line.split("\t")[1:] for line in out.splitlines()}
    assert lines[""] == ["β = 1", "β = 4"]
    for name, title, metric, key in (
        ("elbo", "ELBO, nats", "elbo", "elbo"),
        ("tc", "total correlation, nats", "decomposition", "total_correlation"),
    ):
        entry = Run(runs["four"]).evaluation[metric]
        shown = lines[title][1].replace("−", "-").replace(",", "").split(" ± ")
        digits = len(shown[1].partition(".")[2])
        assert shown == [f"{entry[key]:.{digits}f}", f"{entry[f'{key}_standard_error']:.{digits}f}"], name
        assert float(shown[1]) > 0
    assert lines["active units, latents"] == [str(Run(runs[n]).evaluation["active_units"]["active_units"]) for n in
                                              ("one", "four")]  # fmt: skip
    assert "mutual information ≤ ln N = 7.27" in out
    first, second = (sorted((tmp_path / name).iterdir()) for name in ("first", "compare-one-four"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_report_that_a_killed_process_did_not_write_again_is_written(
    cli: Typed, runs: dict[str, Path], tmp_path: Path, undrawn: None
):
    run = shutil.copytree(runs["one"], tmp_path / "run")
    (run / "evaluation.json").unlink()  # so that the report is written under the copy's name
    assert cli("compare", run, runs["four"], "--out", "first")[0] == 0
    assert cli("report", run)[0] == 0  # under the name of the copy, if nothing was measured
    whole = (run / "report.html").read_bytes()
    (run / "report.html").write_text("of before the evaluation")
    os.utime(run / "report.html", (0, 0))
    assert cli("compare", run, runs["four"], "--out", "second")[0] == 0
    assert (run / "report.html").read_bytes() == whole


def test_nothing_is_overwritten_unless_told(cli: Typed, runs: dict[str, Path], tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert cli("compare", runs["one"], "--out", "out")[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    code, _, err = cli("compare", runs["one"], runs["four"], "--out", "out")
    assert code == 1
    assert "out/comparison.json exists; choose another --out, or say --overwrite" in err
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert cli("compare", runs["one"], runs["four"], "--out", "out", "--overwrite")[0] == 0
    after = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert [name for name in after if after[name] == before[name]] == ["notes.txt"]
    code, _, err = cli("compare", runs["one"], "--out", "out/notes.txt")
    assert code == 1
    assert "is a file" in err


def test_a_copied_run_is_not_called_another_seed(cli: Typed, runs: dict[str, Path], tmp_path: Path):
    shutil.copytree(runs["one"], tmp_path / "copied")
    code, out, _ = cli("compare", runs["one"], "copied", "--out", "c")
    assert code == 0
    assert out.splitlines()[0].endswith("(2 runs)")


def test_seeds_of_a_recipe_are_one_column_with_the_standard_error_of_their_mean(
    cli: Typed, runs: dict[str, Path], tmp_path: Path
):
    code, out, _ = cli("compare", runs["one"], runs["four"], runs["seed"], runs["one"], "--out", "c")
    assert code == 0
    lines = {line.split("\t")[0]: line.split("\t")[1:] for line in out.splitlines()}
    assert lines[""] == ["β = 1 (2 seeds)", "β = 4 (1 seed)"]
    kl = [Run(runs[name]).evaluation["elbo"]["kl"] for name in ("one", "seed")]
    mean, error = (float(word) for word in lines["KL, nats"][0].split(" ± "))
    assert mean == pytest.approx(np.mean(kl), abs=0.005)
    assert error == pytest.approx(abs(kl[0] - kl[1]) / 2, abs=0.005)
    rows = json.loads((tmp_path / "c" / "comparison.json").read_text())["runs"]
    assert [(Path(row["run"]).name, row["label"], row["seed"]) for row in rows] == [
        ("one", "β = 1", 0), ("four", "β = 4", 0), ("seed", "β = 1", 1),
    ]  # fmt: skip
    quantities = tuple(quantity for _, quantity in QUANTITIES)
    arrays = comparison.comparison_arrays(vaelab.Comparison(rows, quantities, (), [], {}))
    panels = {panel["title"]: panel for panel in arrays["panels"]}
    assert arrays["labels"] == ["β = 1", "β = 4"]
    assert panels["KL"]["values"][0] == kl
    assert "accuracy of the majority's answer" not in panels
    assert panels["probe accuracy"]["baseline"] == rows[0]["majority_accuracy"]


def test_side_by_side_shows_what_each_run_makes_of_the_same_images(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    seen: list[dict[str, Any]] = []
    draw = comparison.side_by_side.draw
    monkeypatch.setattr(comparison.side_by_side, "draw", lambda arrays: seen.append(arrays) or draw(arrays))
    found = vaelab.compare([runs["one"], runs["seed"], runs["four"]], out=tmp_path / "c")
    arrays = seen[0]
    assert arrays["labels"] == ["β = 1", "β = 4"]  # one seed of a recipe
    for i, name in enumerate(("one", "four")):
        model = vaelab.load(runs[name])
        expected = to_uint8(torch.from_numpy(model.reconstruct(arrays["originals"])))
        assert np.array_equal(arrays["reconstructions"][i], expected)
        expected = to_uint8(model.sample(8, derive_seed(0, "side by side")))
        assert np.array_equal(arrays["samples"][i], expected)
    with Image.open(found.paths["side-by-side.png"]) as picture:
        assert picture.width > 1000
    with Image.open(found.paths["comparison.png"]) as picture:
        assert "A ring is a run" in picture.info["Description"]


# -- known factors, seeds ---------------------------------------------------------------------------------------------

SPRITES = {"data.orientations": 4, "data.positions": 4, "data.valid": 200, "network.latent_dim": 3, "objective.beta": 1}


@pytest.fixture(scope="module")
def of_factors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small runs on images with known factors: two seeds, another β."""
    folder = tmp_path_factory.mktemp("of-factors")
    made = {"seed-0": {}, "seed-1": {"training.seed": 1}, "other": {"objective.beta": 0.5}}
    return {name: train_small(folder / name, {**SPRITES, **more}, name="sprites").path for name, more in made.items()}


def test_images_with_known_factors_are_compared_by_all_scores_and_seeds_by_their_agreement(
    cli: Typed, of_factors: dict[str, Path], undrawn: None
):
    few = ("--set", "dci.train_draws=300", "--set", "dci.test_draws=100")
    assert cli("evaluate", of_factors["seed-0"], "--metrics", "dci", *few)[0] == 0
    code, out, err = cli("compare", *of_factors.values(), "--json")
    assert (code, err) == (0, "")
    rows = json.loads(out)["runs"]
    codes = []
    for row, path in zip(rows, of_factors.values(), strict=True):
        run = Run(path)
        for metric, quantity in QUANTITIES:
            if metric in OF_FACTORS:
                assert row[quantity.key] == run.evaluation[metric][quantity.key]
            if metric in ("nll", "fid"):
                assert row[quantity.key] is None  # not asked for
        codes.append(encode_images(vaelab.load(path), load_run_images(run, None).valid))
    assert rows[0]["completeness"] == Run(of_factors["seed-0"]).evaluation["dci"]["completeness"]
    assert [row["completeness"] for row in rows[1:]] == [None, None]
    expected, _ = udr([of_seed.mean for of_seed in codes[:2]], [of_seed.kl for of_seed in codes[:2]])
    assert [row["udr"] for row in rows] == [*expected.tolist(), None]  # a single run agrees with none
    assert 0 < expected.min() <= 1


def test_scores_by_other_options_are_said_not_to_compare(
    cli: Typed, of_factors: dict[str, Path], undrawn: None, tmp_path: Path
):
    for name, draws in (("seed-0", 300), ("seed-1", 200)):
        shutil.copytree(of_factors[name], tmp_path / name)
        words = ("--set", f"dci.train_draws={draws}", "--set", "dci.test_draws=100")
        assert cli("evaluate", name, "--metrics", "dci", *words)[0] == 0
    code, _, err = cli("compare", "seed-0", "seed-1", of_factors["other"])
    assert (code, err.count("\n")) == (0, 1)
    first, second = (
        f"train_draws {draws}, test_draws 100 ({name})" for name, draws in (("seed-0", 300), ("seed-1", 200))
    )
    assert f"Other options of dci: {first}; {second}. Its numbers do not compare" in err.replace("\n", "")


def test_what_was_measured_of_other_weights_is_not_compared(
    cli: Typed, of_factors: dict[str, Path], undrawn: None, tmp_path: Path
):
    shutil.copytree(of_factors["seed-1"], tmp_path / "old")
    assert cli("evaluate", "old", "--metrics", "nll", "--set", "nll.samples=4")[0] == 0
    assert json.loads(cli("compare", "old", "--json")[1])["runs"][0]["nll"] > 0
    tensors, facts = load_tensors(tmp_path / "old" / "model.safetensors")
    scaled = {name: 0.9 * value if value.is_floating_point() else value for name, value in tensors.items()}
    save_tensors(tmp_path / "old" / "model.safetensors", scaled, facts)
    assert json.loads(cli("compare", "old", "--json")[1])["runs"][0]["nll"] is None


# -- what does not compare --------------------------------------------------------------------------------------------


def write_mnist(folder: Path, seed: int, side: int = 28) -> Path:
    """Files in MNIST's format."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        pixels = random.integers(0, 256, (60, side, side), dtype=np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx.write_idx(pixels))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx.write_idx(random.integers(0, 10, 60).astype(np.uint8)))
    return folder


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"data.binarize": "threshold"}, "Otherwise binarised: none (one); threshold (other)."),
        ({"data.valid": 100}, "Other held-out images: test (one); 100 images set aside from train (other)."),
        ({"likelihood.variance": 0.1}, "Other likelihoods: gaussian variance 0.5 (one); gaussian variance 0.1 (other)"),
        ({"likelihood.name": "bernoulli"}, "Other likelihoods: gaussian variance 0.5 (one); bernoulli (other)."),
        ({"network.latent_dim": 3, "objective.name": "elbo", "training.learning_rate": 0.01}, None),
    ],
)
def test_what_does_not_compare_is_said(
    cli: Typed, runs: dict[str, Path], undrawn: None, tmp_path: Path, overrides: dict[str, Any], says: str | None
):
    options = {"watch": lambda _: None}  # a Bernoulli likelihood of grey images warns
    train_small(tmp_path / "other", {"training.steps": 5, **overrides}, **options)
    code, out, err = cli("compare", runs["one"], "other")
    assert code == 0
    assert "side-by-side.png" in out
    assert err.count("warning: ") == (says is not None)
    assert (says or "") in err


def test_what_a_model_does_not_allow_is_left_out_and_said(runs: dict[str, Path], undrawn: None, tmp_path: Path):
    train_small(tmp_path / "full", {"training.steps": 5, "posterior.name": "full_covariance"})
    found = vaelab.compare([runs["one"], tmp_path / "full"], out=tmp_path / "c")
    assert [row["total_correlation"] is None for row in found.rows] == [False, True]
    assert "decomposition needs a diagonal posterior" in found.remarks[-1]
    assert found.remarks[-1].endswith("not measured of full")
    assert not any("mig" in remark for remark in found.remarks), "of no run"


def test_other_data_and_other_sizes_are_said_and_pictures_leave_out_what_does_not_fit(
    cli: Typed, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(comparison, "draw", lambda _module, arrays: seen.append(arrays) or b"")
    for name, seed, side in (("a", 0, 28), ("b", 1, 28), ("c", 2, 16)):
        place = write_mnist(tmp_path / name / "mnist", seed, side)
        train_small(tmp_path / f"run-{name}", {"training.steps": 5}, name="mnist", data=place, watch=lambda _: None)
    code, _, err = cli("compare", runs["one"], "run-a", "--out", "1")
    assert code == 0
    assert "Other data: digits (one); mnist (run-a). No number of one compares" in err
    assert err.count("\n") == 1
    _, _, err = cli("compare", "run-a", "run-b", "--out", "2")
    assert re.search(r"Other held-out images: \w{8} \(run-a\); \w{8} \(run-b\)\.", err)
    assert err.count("\n") == 1
    code, out, err = cli("compare", "run-a", "run-c", "--out", "3", "--json")
    assert code == 0
    assert "Images of other sizes: 28×28×1 (run-a); 16×16×1 (run-c)." in err
    assert len(json.loads(out)["warnings"]) == 1
    assert seen[-1]["labels"] == ["run-a"]
    assert seen[-1]["reconstructions"].shape == (1, 8, 28, 28, 1)


@pytest.mark.parametrize(("words", "code", "says"), [(["nowhere"], 1, "nowhere: no run here"), ([], 2, "Missing")])
def test_wrong_usage_gets_one_line(cli: Typed, words: list[str], code: int, says: str):
    found, _, err = cli("compare", *words)
    assert (found, err.count("\n")) == (code, 1)
    assert says in err


def test_a_run_that_is_not_finished_is_named(cli: Typed, runs: dict[str, Path], tmp_path: Path):
    shutil.copytree(runs["one"], tmp_path / "half")
    (tmp_path / "half" / "model.safetensors").unlink()
    code, _, err = cli("compare", runs["four"], "half")
    assert (code, err.count("\n")) == (1, 1)
    assert "half: not trained to the end yet" in err
    assert not list(tmp_path.glob("compare-*"))


# -- labels -----------------------------------------------------------------------------------------------------------


def begin_run(path: Path, overrides: dict[str, Any], sha: str = "x") -> Run:
    """A run that has just begun."""
    run = Run(path)
    run.begin(recipe.load("digits", {**TINY, **overrides}), {"data_sha256": sha, "recipe": "digits"})
    return run


@pytest.mark.parametrize(
    ("overrides", "labels"),
    [
        ([{"objective.beta": 0.5}, {"objective.beta": 4.0}], ["β = 0.5", "β = 4"]),
        ([{}, {"network.name": "conv", "network.channels": [8], "network.strides": [2]}], ["mlp", "conv"]),
        ([{}, {"objective.name": "elbo"}], ["beta", "elbo"]),
        ([{}, {"objective.beta": 4.0}, {"objective.name": "dip"}], ["beta, β = 1", "beta, β = 4", "dip"]),
        ([{"network.latent_dim": 2}, {"network.latent_dim": 9}], ["latents = 2", "latents = 9"]),
        ([{}, {"network.hidden": [8, 8]}], ["hidden = [16]", "hidden = [8, 8]"]),
        ([{}, {"training.seed": 3, "training.threads": 2}], ["digits"]),
        (
            [{}, {"objective.beta": 2.0, "network.hidden": [8, 8, 8, 8, 8, 8, 8, 8], "training.learning_rate": 0.1}],
            ["run-0", "run-1"],
        ),
    ],
)
def test_labels_say_what_differs(tmp_path: Path, overrides: list[dict[str, Any]], labels: list[str]):
    made = [begin_run(tmp_path / f"run-{i}", values) for i, values in enumerate(overrides)]
    groups = differences.group_runs(made)
    assert list(groups) == labels
    assert [run for members in groups.values() for run in members] == made


def test_runs_on_other_images_are_no_seeds_of_one_another(tmp_path: Path):
    made = [begin_run(tmp_path / name, {}, sha=name) for name in "ab"]
    assert list(differences.group_runs(made)) == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "error", "digits", "shown"),
    [
        ([-467.736], 0.234, 2, "−467.74 ± 0.23"),
        ([635996], None, 0, "635,996"),
        ([5.64123], 0.0032, 2, "5.641 ± 0.003"),
        ([6, 7], None, 0, "6.5 ± 0.5"),
        ([6, 6], 0.3, 0, "6"),
        ([None], None, 2, "–"),
        ([None, 2.0], None, 2, "2.00"),
        ([9.2084, 9.2084 + 1e-8], None, 2, "9.21 ± 0.00"),
        ([9.2084, 9.2084 + 2e-6], None, 2, "9.208401 ± 0.000001"),
    ],
)
def test_cells(values: list[float | None], error: float | None, digits: int, shown: str):
    assert format_cell(values, error, digits) == shown


def test_on_a_narrow_terminal_the_table_is_cut_into_parts(capsys: pytest.CaptureFixture[str], monkeypatch: Any):
    quantities = (
        Quantity("reconstruction", "reconstruction", "nats"),
        Quantity("majority", "accuracy of the majority's answer", "share"),
    )
    row = {quantity.key: 1.0 for quantity in quantities}
    many = vaelab.Comparison([{**row, "label": f"β = {i} and more"} for i in range(9)], quantities, (), [], {})
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich's own setting: output is for a terminal
    monkeypatch.setenv("COLUMNS", "80")
    print_comparison(many)
    lines = capsys.readouterr().out.splitlines()
    assert sum("reconstruction, nats" in line for line in lines) == 5
    assert sum(line.count("and more") for line in lines) == 9
