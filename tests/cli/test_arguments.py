"""What people pass by mistake, from Python and on the command line: one clear line, and nothing is done silently."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typed import TINY_WORDS, Typed, train_small

import vaelab
from vaelab.run import Run

CALLS = {
    "TypeError": """
        vaelab.train(pixels)
        vaelab.train(vaelab.Images(pixels[..., None]))
        vaelab.train(None)
        vaelab.train("folder", data=pixels)
        vaelab.train("digits", ["training.steps"])
        vaelab.train("digits", "training.steps=1")
        vaelab.train("digits", {1: 2})
        vaelab.train("digits", {"objective.beta": pixels})
        vaelab.train("digits", run=5)
        vaelab.load(None)
        vaelab.load(model)
        vaelab.evaluate(None)
        vaelab.evaluate(run, metrics=[1])
        vaelab.evaluate(run, metrics=3)
        vaelab.evaluate(run, set=["nll.samples"])
        vaelab.evaluate(run, data=pixels)
        vaelab.Run(5)
        vaelab.Images([1, 2])
        vaelab.Images(pixels[..., None], [0, 1])
        model.sample(1.5)
        model.sample(None)
        model.sample("3")
        model.sample(True)
        model.sample(2, np.random.default_rng(0))
        model.sample(2, 1.5)
        model.sample(2, "seed")
        model.decode(None)
        model.decode("codes")
        model.decode({})
        model.decode(np.full((2, latents), None))
        model.decode(model.encode(pixels))
        model.encode(None)
        model.encode("own")
        model.encode(pathlib.Path("own"))
        model.encode(pixels.astype(object))
        model.reconstruct(None)
        vaelab.sample(run, count=1.5)
        vaelab.sample(run, seed="x")
        vaelab.sample(run, out=3)
        vaelab.encode(run, pixels)
        vaelab.reconstruct(run, pixels)
        vaelab.reconstruct(run, count=1.5)
        vaelab.score(run, pixels)
        vaelab.score(run, samples=2.5)
        vaelab.edit(run, attribute=None)
        vaelab.edit(run, attribute=7)
        vaelab.edit(run, attribute="7", by="2")
        vaelab.compare(3)
        vaelab.compare([None])
        vaelab.plan(pixels)
        vaelab.sweep(pixels, {"objective.beta": [1]})
        vaelab.sweep("digits", {"objective.beta": 1})
        vaelab.sweep("digits", {"objective.beta": "12"})
        vaelab.sweep("digits", ["objective.beta"])
        vaelab.sweep("digits", {"objective.beta": [1]}, seeds=1.5)
        vaelab.explore(3)
        vaelab.export(run, to="web", points="many")
        vaelab.draw_figures(run, names=[3])
        vaelab.check_data(3)
        vaelab.cache_data(None)
    """,
    "ValueError": """
        vaelab.train("digits", {"objective.name": "beta", "objective.beta": float("nan")})
        vaelab.train("digits", device=None)
        vaelab.train("digits", device="gpu")
        vaelab.train("digits", {"training.steps": 60}, run=run, device="mps")
        vaelab.Images(pixels)
        vaelab.Images(pixels[..., None], np.array([0.0, np.nan]))
        vaelab.Images(pixels[..., None], np.array([0, 5]), ("a", "b"))
        vaelab.Images(pixels[..., None], np.array([0, -1]))
        vaelab.Images(pixels[..., None], attributes=np.array([True, False]), attribute_names=("a",))
        model.sample(-1)
        model.sample(0)
        model.sample(2, 1 << 70)
        model.decode(np.full((2, latents), np.nan))
        model.decode(torch.full((2, latents), torch.inf))
        model.decode(np.full((2, latents), 1e300))
        model.decode(np.zeros((2, latents + 1)))
        model.decode(np.zeros((2, 2, latents)))
        model.decode(3.0)
        model.decode(np.zeros((0, latents)))
        model.decode(np.zeros((2, latents), complex))
        model.decode(torch.zeros((2, latents), dtype=torch.complex64))
        model.decode(np.zeros((2, latents), bool))
        model.encode(np.full((2, 28, 28), np.nan))
        model.encode(torch.full((2, 28, 28), -torch.inf))
        model.encode(np.full((2, 28, 28), 2.0))
        model.encode(pixels.astype(int))
        model.encode(pixels.astype(complex))
        model.encode([pixels[0], pixels[0][:5]])
        model.encode(np.ma.masked_array(pixels, pixels == 0))
        model.encode(pixels[:0])
        model.encode([])
        model.encode(pixels[:, :5, :5])
        model.reconstruct(np.full((2, 28, 28), np.nan))
        model.reconstruct(pixels[:0])
        vaelab.sample(run, count=-1)
        vaelab.sample(run, count=0)
        vaelab.sample(run, seed=-1)
        vaelab.reconstruct(run, count=0)
        vaelab.reconstruct(run, count=-3)
        vaelab.score(run, samples=0)
        vaelab.edit(run, attribute="7", by=float("nan"))
        vaelab.edit(run, attribute=[])
        vaelab.compare([])
        vaelab.explore([run], points=-1)
        vaelab.export(run, to="web", points=-1)
    """,
}
"""Error → calls that must raise it, or one of its kind."""
SCRIPT = """
import json, pathlib, sys
import numpy as np, torch
import vaelab
from vaelab import api as lab
run = sys.argv[1]
model = vaelab.load(run)
latents, pixels = model.spec.latent_dim, np.zeros((2, 28, 28), np.uint8)
found = []
for call in json.loads(sys.argv[2]):
    try:
        eval(call)
        found.append([call, "nothing", ""])
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        found.append([call, " ".join(kinds), str(error)])
print(json.dumps(found))
"""
"""A process of its own: where the tests check the shapes of arguments, these calls would not come to theirs."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("runs") / "digits").path


def test_wrong_arguments_raise_one_line_and_write_nothing(run: Path, tmp_path: Path) -> None:
    calls = {call.strip(): kind for kind, text in CALLS.items() for call in text.strip().splitlines()}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    (tmp_path / "here").mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(run), json.dumps(list(calls))],
        cwd=tmp_path / "here",
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    wrong = [
        (call, kinds, message)
        for call, kinds, message in json.loads(done.stdout)
        if calls[call] not in kinds.split() or not 0 < len(message) < 400 or "\n" in message
    ]
    assert wrong == []
    assert list((tmp_path / "here").iterdir()) == []


def test_a_run_serves_where_its_path_does(run: Path) -> None:
    opened = Run(run)
    np.testing.assert_array_equal(vaelab.load(opened).sample(2, 0).numpy(), vaelab.load(run).sample(2, 0).numpy())
    assert Run(opened).path == opened.path


def test_one_name_serves_for_a_list(cli: Typed, run: Path) -> None:
    assert list(vaelab.evaluate(run, metrics="elbo").results) == ["elbo"]
    assert vaelab.draw_figures(run, names="losses") == [run / "figures" / "losses.png"]


# -- typed ------------------------------------------------------------------------------------------------------------


WORDS = {"Frechet": "fid", "PRDC": "precision_recall", "Active-Units": "active_units", "likelihood": "elbo"}


@pytest.mark.parametrize(("word", "name"), WORDS.items())
def test_metrics_answer_to_the_usual_words(cli: Typed, run: Path, word: str, name: str) -> None:
    code, out, err = cli("evaluate", run, "--metrics", f"{word},{name}", "--json")
    assert (code, list(json.loads(out))) == (0, [name])
    assert name in err  # what the word was taken for


def test_every_word_for_a_metric_stands_for_one() -> None:
    from vaelab.system import registry

    words = [word for name in registry.names("metrics") for word in (name, *_synonyms(name))]
    assert len(words) == len(set(words))


def _synonyms(name: str) -> tuple[str, ...]:
    from vaelab.system import registry

    return tuple(getattr(registry.load("metrics", name).METRIC, "synonyms", ()))  # a SeedMetric has none


def test_options_of_a_metric_take_its_other_words(cli: Typed, run: Path) -> None:
    code, out, _ = cli("evaluate", run, "--metrics", "iwae", "--set", "iwae.samples=20", "--json")
    assert (code, json.loads(out)["nll"]["measured_on"]["options"]) == (0, {"samples": 20})


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("--set", "lr=0.1"), "training.learning_rate"),
        (("--set", "beta=4"), "objective.beta"),
        (("--set", "latents=4"), "network.latent_dim"),
        (("--set", "training.lr=0.1"), "learning_rate"),
        (("--set", "training.epochs=many"), "auto"),
        (("--set", "data.size=57x91"), "[57, 91]"),
        (("--set", "data.size=57X91"), "[57, 91]"),
        (("--set", "data.size=4"), "8"),
        (("--set", "data.channels=gray"), "grey"),
        (("--device", "gpu"), "cpu"),
        (("--device", "mps"), "cpu"),
        (("--device", "cuda:77"), "cpu"),
        (("--device", "meta"), "cpu"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_one(
    cli: Typed, tmp_path: Path, words: tuple[str, str], wanted: str
) -> None:
    code, out, err = cli("train", "folder", "--data", tmp_path, *words)
    assert (code, out, err.count("\n"), len(err) < 400) == (2, "", 1, True)
    assert wanted in err


def test_the_device_is_checked_on_a_finished_run(cli: Typed, run: Path) -> None:
    for device in ("gpu", "mps"):
        code, out, err = cli("train", "digits", *TINY_WORDS, "--run", run, "--device", device)
        assert (code, out, err.count("\n")) == (2, "", 1)
    assert cli("train", "digits", *TINY_WORDS, "--run", run, "--device", "cpu")[0] == 0


def test_arrays_are_told_how_to_be_trained_on(cli: Typed, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 16, 16), dtype=np.uint8)
    np.save("x.npy", pixels)
    np.savez("x.npz", images=pixels)
    for words in (("folder", "--data", "x.npy"), ("folder", "--data", "x.npz"),
                  ("folder", "--set", "data.name=arrays", "--data", "x.npy")):  # fmt: skip
        code, _, err = cli("train", *words)
        assert (code, err.count("\n"), "data.name=arrays" in err) == (1, 1, True)
    code, _, err = cli("train", "folder", "--set", "data.name=arrays", "--data", "x.npz")
    assert (code, err.count("\n"), "40 images" in err, "data.valid=4" in err) == (1, 1, True, True)
    assert not (tmp_path / "cache").exists()  # said before anything is cached
    words = ("--set", "data.name=arrays", "--set", "data.valid=4", "--set", "network.hidden=[16]")
    tiny = ("--set", "training.steps=3", "--set", "network.name=mlp", "--data", "x.npz", "--run", "run")
    assert cli("train", "folder", *words, *tiny)[0] == 0


def test_score_prints_and_keeps_the_thresholds(cli: Typed, run: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8)
    np.save("noise.npy", pixels)
    code, out, _ = cli("score", run, "noise.npy", "--normal", "held-out", "--samples", 1, "--out", "s.csv")
    assert (code, "s.json" in out.splitlines()) == (0, True)
    assert all(word in out for word in ("threshold", "threshold tpr", "threshold fpr"))
    kept = json.loads(Path("s.json").read_text())
    normal = vaelab.score(run, samples=1, out="n.npz")
    with np.load(normal.table) as held_out:
        false_alarms = np.mean(-held_out["elbo"] >= kept["-ELBO"]["threshold"])
    assert kept["-ELBO"]["threshold_fpr"] == pytest.approx(false_alarms, abs=0.01)
    assert kept["-ELBO"]["threshold_tpr"] == 1
    assert cli("score", run, "noise.npy", "--normal", "held-out", "--out", "s.csv")[0] == 1  # s.csv is kept
    Path("s.csv").unlink()
    Path("s.png").unlink()
    assert cli("score", run, "noise.npy", "--normal", "held-out", "--out", "s.csv")[0] == 1  # and s.json is
