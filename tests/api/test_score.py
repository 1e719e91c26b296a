"""Scores of images: by other estimators, the order, the files, and the separation of two sets."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import csv, parquet
from typed import Typed, train_small

import vaelab
from vaelab.api.run_images import load_run_images
from vaelab.api.score import Scores, score_images
from vaelab.data.pictures import encode_png
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import elbo
from vaelab.evaluation.metrics.nll import sample_log_weights
from vaelab.models.bounds import iwae_bound
from vaelab.models.codes import encode_images
from vaelab.run import Run
from vaelab.system.noise import GeneratorNoise, generator


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("runs") / "digits", {"training.steps": 150}).path


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "noise.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (30, 28, 28, 1), dtype=np.uint8))
    return path


def test_scores_are_those_of_the_metrics(run: Path) -> None:
    model, images = vaelab.load(run), load_run_images(Run(run), None).valid.take(np.arange(20))
    scores = score_images(model, images, samples=8)
    noise = GeneratorNoise(generator(0, "score"), model.device)
    with torch.no_grad():
        weights = sample_log_weights(model, model.density(), images.batch(0, 20), noise, 8)
    np.testing.assert_allclose(scores.iwae, iwae_bound(weights), rtol=1e-6)
    kl = encode_images(model, images).kl_of_images().sum(1)
    np.testing.assert_allclose(scores.kl, kl, rtol=1e-5)
    whole = elbo.measure(Evaluation(model, images), samples=200)
    assert scores.elbo.mean() == pytest.approx(whole["elbo"], abs=2.5)
    assert scores.reconstruction.mean() == pytest.approx(whole["reconstruction"], abs=2.5)
    constant = 784 / 2 * math.log(math.pi)
    np.testing.assert_allclose(scores.elbo, -scores.reconstruction - scores.kl - constant, rtol=1e-6)
    assert scores.iwae.mean() > scores.elbo.mean()
    many = score_images(model, images, samples=100)  # five images at a time
    np.testing.assert_allclose(many.kl, kl, rtol=1e-5)
    np.testing.assert_allclose(many.elbo, scores.elbo, atol=20.0)


def test_held_out_images_are_sorted_by_elbo(cli: Typed, run: Path) -> None:
    Path("digits").symlink_to(run)
    code, out, err = cli("score", "digits", "--samples", 2)
    assert (code, err, out) == (0, "", "digits-scores.csv\ndigits-scores.png\n")
    found = csv.read_csv("digits-scores.csv")
    assert found.column_names == ["image", "label", "elbo", "iwae", "reconstruction", "kl"]
    values = found["elbo"].to_numpy()
    assert len(values) == 359
    assert (np.diff(values) >= 0).all()
    names, labels = found["image"].to_pylist(), found["label"].to_pylist()
    known = load_run_images(Run(run), None).valid.labels
    assert all(known[int(name[5:-1])] == label for name, label in zip(names, labels, strict=True))
    assert sorted(int(name[5:-1]) for name in names) == list(range(359))


def test_formats_hold_the_same(run: Path, noise: Path, tmp_path: Path) -> None:
    for ending in ("csv", "parquet", "npz"):
        scored = vaelab.score(run, noise, samples=2, out=tmp_path / f"s-{ending}.{ending}")
        assert (scored.num_images, scored.summary, scored.separations) == (30, None, None)
    expected = csv.read_csv(tmp_path / "s-csv.csv")
    assert parquet.read_table(tmp_path / "s-parquet.parquet").equals(expected)
    with np.load(tmp_path / "s-npz.npz") as stored:
        assert stored["image"].tolist() == expected["image"].to_pylist()
        np.testing.assert_array_equal(stored["elbo"], expected["elbo"].to_numpy())


def test_noise_is_separated_from_digits(cli: Typed, run: Path, noise: Path) -> None:
    code, out, _ = cli("score", run, noise, "--normal", "held-out", "--samples", 2)
    assert code == 0
    assert "-ELBO\t1.000" in out
    found = json.loads(cli("score", run, noise, "--normal", noise, "--samples", 2, "--out", "same.csv", "--json")[1])
    assert found["separations"]["reconstruction"]["roc_auc"] == pytest.approx(0.5)
    assert found["separations"]["protocol"]["normal_images"] == 30
    assert json.loads(Path("same.json").read_text()) == found["separations"]


def write_pictures(folder: Path, pixels: np.ndarray, broken: int | None = None) -> Path:
    folder.mkdir()
    for i, image in enumerate(pixels):
        (folder / f"{i}.png").write_bytes(encode_png(image) if i != broken else b"no picture")
    return folder


def test_broken_pictures_are_left_out_on_both_sides(cli: Typed, run: Path, tmp_path: Path) -> None:
    pixels = load_run_images(Run(run), None).valid.pixels[:6]
    for name, broken in (("own", 2), ("others", 4), ("all", None)):
        write_pictures(tmp_path / name, pixels, broken)
    code, out, err = cli("score", run, "own", "--normal", "others", "--samples", 2, "--out", "s.csv", "--json")
    assert (code, err.count("\n")) == (0, 2)
    assert all(text in err for text in ("own: 1 of 6", "others: 1 of 6"))
    found = json.loads(out)
    assert found["num_images"] == found["separations"]["protocol"]["normal_images"] == 5
    names = csv.read_csv("s.csv")["image"].to_pylist()
    assert sorted(names) == [f"{i}.png" for i in range(6) if i != 2]
    with_all = csv.read_csv(vaelab.score(run, "all", samples=2, out="t.csv").table)
    scores = dict(zip(with_all["image"].to_pylist(), with_all["elbo"].to_pylist(), strict=True))
    np.testing.assert_allclose(csv.read_csv("s.csv")["elbo"].to_numpy(), [scores[name] for name in names], atol=1e-4)
    for words in (("own", "--strict"), ("own", "--normal", "others", "--strict")):
        assert cli("score", run, *words)[0] == 1


def test_one_image_is_shown_once(run: Path, tmp_path: Path) -> None:
    scored = vaelab.score(run, load_run_images(Run(run), None).valid.pixels[:1], samples=2, out=tmp_path / "one.csv")
    assert scored.sheet is not None
    with Image.open(scored.sheet) as picture:
        assert "Ordered" not in picture.info["Description"]
        assert picture.height < 450  # an image and its reconstruction


def test_lower_bounds_are_more_unusual() -> None:
    values = np.array([1.0, 2.0])
    scores = Scores(elbo=-values, iwae=-values, reconstruction=values, kl=values)
    assert all((np.diff(score) > 0).all() for score in scores.unusualness.values())


@pytest.mark.parametrize("words", [["--out", "scores.txt"], ["nowhere"], ["--normal", "nowhere"]])
def test_wrong_usage_gets_one_line(cli: Typed, run: Path, words: list[str]) -> None:
    code, _, err = cli("score", run, *words)
    assert code in (1, 2)
    assert err.count("\n") == 1
    assert words[-1].removeprefix("scores") in err


def test_files_are_not_overwritten(cli: Typed, run: Path, noise: Path) -> None:
    Path("s.png").write_text("mine")
    code, _, err = cli("score", run, noise, "--out", "s.csv")
    assert code == 1
    assert "s.png" in err
    assert Path("s.png").read_text() == "mine"
    assert not Path("s.csv").exists()
