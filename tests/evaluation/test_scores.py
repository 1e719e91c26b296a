"""``vaelab score``: the numbers by hand, the order, the files, and how well two sets are told apart."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import csv, parquet
from typed import TINY, Typed, train_small

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
from vaelab.system.seeds import GeneratorNoise, generator


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "digits"
    train_small(path, {"training.steps": 300})
    return path


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
    np.testing.assert_allclose(scores.kl, encode_images(model, images).kl_of_images().sum(1), rtol=1e-5)
    whole = elbo.measure(Evaluation(model, images), samples=200)
    assert scores.elbo.mean() == pytest.approx(whole["elbo"], abs=1.0)
    assert scores.reconstruction.mean() == pytest.approx(whole["reconstruction"], abs=1.0)
    constant = 784 / 2 * math.log(math.pi)
    np.testing.assert_allclose(scores.elbo, -scores.reconstruction - scores.kl - constant, rtol=1e-6)
    assert scores.iwae.mean() > scores.elbo.mean()


def test_chunks_change_no_score_but_by_noise(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = vaelab.load(run), load_run_images(Run(run), None).valid.take(np.arange(30))
    whole = score_images(model, images, 2)
    monkeypatch.setattr("vaelab.models.chunks.EVAL_BATCH_SIZE", 14)
    parts = score_images(model, images, 2)
    np.testing.assert_allclose(parts.kl, whole.kl, rtol=1e-5)
    assert parts.elbo.mean() == pytest.approx(whole.elbo.mean(), abs=2.0)


def test_held_out_images_most_unusual_first(cli: Typed, run: Path, tmp_path: Path) -> None:
    code, out, err = cli("score", run, "--samples", 2)
    assert (code, err, out) == (0, "", "digits-scores.csv\ndigits-scores.png\n")
    found = csv.read_csv("digits-scores.csv")
    assert found.column_names == ["image", "label", "elbo", "iwae", "reconstruction", "kl"]
    elbo = found["elbo"].to_numpy()
    assert len(elbo) == 359
    assert (np.diff(elbo) >= 0).all()
    names, labels = found["image"].to_pylist(), found["label"].to_pylist()
    known = load_run_images(Run(run), None).valid.labels
    assert all(known[int(name[5:-1])] == label for name, label in zip(names, labels, strict=True))
    assert sorted(int(name[5:-1]) for name in names) == list(range(359))


@pytest.mark.parametrize("ending", ["parquet", "npz"])
def test_formats_hold_the_same(cli: Typed, run: Path, noise: Path, ending: str) -> None:
    assert cli("score", run, noise, "--samples", 2, "--out", f"s.{ending}")[0] == 0
    scores = vaelab.score(run, noise, samples=2, out="t.csv")
    assert scores.num_images == 30
    expected = csv.read_csv("t.csv")
    if ending == "parquet":
        table = parquet.read_table("s.parquet")
        assert table.equals(expected)
    else:
        with np.load("s.npz") as stored:
            assert stored["image"].tolist() == expected["image"].to_pylist()
            np.testing.assert_array_equal(stored["elbo"], expected["elbo"].to_numpy())


def test_noise_is_told_from_digits(cli: Typed, run: Path, noise: Path) -> None:
    code, out, _ = cli("score", run, noise, "--normal", "held-out", "--samples", 2)
    assert code == 0
    assert "-ELBO\t1.000" in out
    found = json.loads(cli("score", run, noise, "--normal", noise, "--samples", 2, "--json")[1])
    assert found["separations"]["reconstruction"]["roc_auc"] == 0.5
    assert found["separations"]["protocol"]["normal_images"] == 30


def test_broken_pictures_are_left_out_on_both_sides(cli: Typed, run: Path, tmp_path: Path) -> None:
    pixels = load_run_images(Run(run), None).valid.pixels[:6]
    for name, broken in (("own", 2), ("others", 4)):
        (tmp_path / name).mkdir()
        for i, image in enumerate(pixels):
            (tmp_path / name / f"{i}.png").write_bytes(encode_png(image) if i != broken else b"no picture")
    code, out, err = cli("score", run, "own", "--normal", "others", "--samples", 2, "--out", "s.csv", "--json")
    assert (code, err.count("\n")) == (0, 2)
    assert "own: 1 of 6" in err
    assert "others: 1 of 6" in err
    found = json.loads(out)
    assert found["num_images"] == 5
    assert found["separations"]["protocol"]["normal_images"] == 5
    names = csv.read_csv("s.csv")["image"].to_pylist()
    assert sorted(names) == [f"{i}.png" for i in range(6) if i != 2]
    with_all = csv.read_csv(vaelab.score(run, data_of_pictures(tmp_path / "all", pixels), samples=2, out="t.csv").table)
    scores = dict(zip(with_all["image"].to_pylist(), with_all["elbo"].to_pylist(), strict=True))
    np.testing.assert_allclose(csv.read_csv("s.csv")["elbo"].to_numpy(), [scores[name] for name in names], atol=1e-4)
    for words in (("own", "--strict"), ("own", "--normal", "others", "--strict")):
        assert cli("score", run, *words)[0] == 1


def data_of_pictures(folder: Path, pixels: np.ndarray) -> Path:
    folder.mkdir()
    for i, image in enumerate(pixels):
        (folder / f"{i}.png").write_bytes(encode_png(image))
    return folder


def test_a_class_left_out_is_more_unusual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = data_of_digits()
    for name, keep in (("known", digits.labels != 1), ("unknown", digits.labels == 1)):
        np.save(tmp_path / f"{name}.npy", digits.pixels[keep])
    from vaelab.data.datasets import digits as module

    load = module.load
    monkeypatch.setattr(module, "load", lambda *a: (d := load(*a)).take(np.flatnonzero(d.labels != 1)))
    vaelab.train("digits", {**TINY, "training.steps": 600, "network.latent_dim": 4}, run=tmp_path / "run")
    scored = vaelab.score(
        tmp_path / "run", tmp_path / "unknown.npy", normal=tmp_path / "known.npy", out=tmp_path / "s.csv"
    )
    assert scored.separations is not None
    assert scored.separations["protocol"]["unusual_images"] == int((digits.labels == 1).sum())
    assert all(0 <= scored.separations[name]["roc_auc"] <= 1 for name in ("-ELBO", "-IWAE", "reconstruction"))


def data_of_digits() -> "object":
    from vaelab.data.datasets.digits import load

    return load(None, "test")


def test_a_lower_bound_is_more_unusual() -> None:
    values = np.array([1.0, 2.0])
    scores = Scores(elbo=-values, iwae=-values, reconstruction=values, kl=values)
    assert all((np.diff(score) > 0).all() for score in scores.unusualness.values())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--out", "scores.txt"], "ending of --out"),
        (["nowhere"], "nowhere"),
        (["--normal", "nowhere"], "nowhere"),
    ],
)
def test_wrong_usage_gets_one_line(cli: Typed, run: Path, words: list[str], says: str) -> None:
    code, _, err = cli("score", run, *words)
    assert code in (1, 2)
    assert says in err
    assert err.count("\n") == 1


def test_nothing_is_overwritten(cli: Typed, run: Path, noise: Path) -> None:
    Path("s.png").write_text("mine")
    code, _, err = cli("score", run, noise, "--out", "s.csv")
    assert code == 1
    assert "s.png exists" in err
    assert Path("s.png").read_text() == "mine"
    assert not Path("s.csv").exists()
