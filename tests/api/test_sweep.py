"""vaelab sweep: many runs from one command, killed and resumed, compared at the end."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image
from typed import TINY_WORDS, Typed

import vaelab
from vaelab.api import compare as comparison
from vaelab.api import sweep as sweeps
from vaelab.api import workers
from vaelab.evaluation.metrics import decomposition
from vaelab.run import Run

FILES = {"comparison.json", "comparison.csv", "comparison.png", "side-by-side.png", "rate-distortion.png"}


@pytest.fixture
def cli(cli: Typed, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """As always, without what takes long: figures of single runs, many samples."""
    monkeypatch.setattr(decomposition, "LEAST_SAMPLES", 100)
    return cli


def test_a_sweep_trains_compares_draws_and_is_done_the_second_time(
    cli: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[dict[str, Any]] = []
    draw = sweeps.rate_distortion.draw
    monkeypatch.setattr(sweeps.rate_distortion, "draw", lambda arrays: seen.append(arrays) or draw(arrays))
    words = ("sweep", "digits", *TINY_WORDS, "--over", "objective.beta=4,0.5", "--seeds", 2, "--out", "s")
    code, out, err = cli(*words)
    assert (code, err) == (0, "")
    names = {f"objective.beta={beta}-seed={seed}" for beta in ("0.5", "4") for seed in (0, 1)}
    assert {path.name for path in (tmp_path / "s").iterdir()} == names | FILES
    assert "4 runs, 0 of them done; 1 at a time, 1 thread each" in out
    assert out.count("reconstruction, nats") == 1
    assert "β = 4 (2 seeds)\tβ = 0.5 (2 seeds)" in out
    assert out.splitlines()[-1] == "s/rate-distortion.png"
    rows = {Path(row["run"]).name: row for row in json.loads((tmp_path / "s" / "comparison.json").read_text())["runs"]}
    assert set(rows) == names
    (series,) = seen[0]["series"]
    assert seen[0]["swept"] == "β"
    assert [point["label"] for point in series["points"]] == ["0.5", "4"]
    for point in series["points"]:
        runs = [Run(tmp_path / "s" / f"objective.beta={point['label']}-seed={seed}") for seed in (0, 1)]
        measured = [run.evaluation["elbo"] for run in runs]
        assert point["rate"].tolist() == [entry["kl"] for entry in measured]
        assert point["distortion"].tolist() == [entry["reconstruction"] for entry in measured]
        assert [run.recipe.training.seed for run in runs] == [0, 1]
    with Image.open(tmp_path / "s" / "rate-distortion.png") as picture:
        assert "mean of 2 seeds" in picture.info["Description"]
    before = {path: path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file()}
    monkeypatch.setattr(workers, "train", lambda *_, **__: pytest.fail("trained again"))
    code, out, _ = cli(*words)
    assert code == 0
    assert out.count("(done already)") == 4
    assert {path: path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file()} == before


def test_one_that_fails_lets_the_others_go_on(cli: Typed, tmp_path: Path):
    code, out, err = cli(
        "sweep", "digits", *TINY_WORDS, "--over", "training.learning_rate=1e30,0.001", "--out", "s", "--json"
    )
    assert code == 1
    first, *_, last = err.splitlines()
    assert "2 values of training.learning_rate" in first
    assert last.startswith("vaelab: 1 of the runs failed: training.learning_rate=1e+30-seed=0: step ")
    assert "lower training.learning_rate" in last
    assert [row["label"] for row in json.loads(out)["runs"]] == ["digits"]
    assert {path.name for path in (tmp_path / "s").iterdir()} >= FILES


def test_several_keys_make_a_grid_with_a_line_for_each_of_the_others(tmp_path: Path):
    over = {"objective.beta": [4, 1], "network.latent_dim": [2, 3]}
    plan = vaelab.plan_sweep("digits", over, seeds=2, out=tmp_path / "s", jobs=2)
    assert len(plan.members) == 8
    assert plan.members[0].run.path == tmp_path / "s" / "network.latent_dim=2-objective.beta=4-seed=0"
    rows = [{"run": str(member.run.path), "kl": i, "reconstruction": -i} for i, member in enumerate(plan.members)]
    arrays = sweeps.rate_distortion_arrays(over, plan.members, vaelab.Comparison(rows, (), (), [], {}))
    assert [series["label"] for series in arrays["series"]] == ["latents = 2", "latents = 3"]
    assert [point["label"] for point in arrays["series"][1]["points"]] == ["1", "4"]
    np.testing.assert_array_equal(arrays["series"][1]["points"][0]["rate"], [6, 7])


def test_the_number_of_threads_is_divided_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sweeps, "default_threads", lambda: 8)
    over = {"objective.beta": [1, 2]}
    plan = vaelab.plan_sweep("digits", over, out=tmp_path / "s", jobs=4)
    assert plan.threads == 2
    member = plan.members[1]
    member.run.begin(sweeps.recipes.load("digits", member.overrides), {})
    again = vaelab.plan_sweep("digits", over, out=tmp_path / "s", jobs=1)
    assert again.threads == 2
    assert [member.state for member in again.members] == ["new", "resumes"]
    given = vaelab.plan_sweep("digits", over, out=tmp_path / "t", jobs=1, set={"training.threads": 3})
    assert given.threads == 3


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("objective.beta=1,2,5", [1, 2, 5]),
        ("objective.beta=0.5", [0.5]),
        ("network.name=conv,mlp", ["conv", "mlp"]),
        ("network.hidden=[16],[32, 32]", [[16], [32, 32]]),
        ("network.latent_dim=auto,10", ["auto", 10]),
        ("network.channels=[8,8],auto", [[8, 8], "auto"]),
        ('data.crop="a,b",c', ["a,b", "c"]),
    ],
)
def test_values_are_read_as_toml_and_as_words(text: str, values: list[Any]):
    assert vaelab.parse_over([text]) == {text.partition("=")[0]: values}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "nothing to sweep over"),
        (["--over", "objective.beta"], "write it as section.key=value,value"),
        (["--over", "objective.beta="], "write it as section.key=value,value"),
        (["--over", "objective.beta=1,,2"], "write it as section.key=value,value"),
        (["--over", "objective.beta=1", "--over", "objective.beta=2"], "objective.beta is given twice"),
        (["--over", "objective.beta=1,1.0"], "1.0 is given twice"),
        (["--over", "objective.beat=1,2"], "Did you mean 'beta'?"),
        (["--over", "objective.beta=1,-2"], "greater than or equal to 0"),
        (["--over", "objective.beta=1,2", "--set", "objective.beta=3"], "stands in --set and in --over"),
        (["--over", "training.seed=1,2"], "--seeds N"),
        (["--over", "objective.beta=1,2", "--set", "training.seed=3"], "--seeds N"),
        (["--over", "network.channels=[32,64,64],[32]"], "network.channels has 1 layers and network.strides 3"),
        (["--over", "objective.beta=1,2", "--seeds", "0"], "--seeds"),
        (["--over", "objective.beta=1,2", "--jobs", "0"], "--jobs"),
    ],
)
def test_mistakes_are_found_before_the_first_run_starts(
    cli: Typed, tmp_path: Path, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(workers, "train", lambda *_, **__: pytest.fail("started"))
    code, _, err = cli("sweep", "digits", *words)
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_another_recipe_in_the_same_place_is_refused_before_anything_runs(cli: Typed, tmp_path: Path):
    plan = vaelab.plan_sweep("digits", {"objective.beta": [1, 2]}, out="s")
    plan.members[1].run.begin(sweeps.recipes.load("digits", plan.members[1].overrides), {})
    code, _, err = cli("sweep", "digits", "--over", "objective.beta=1,2", "--set", "training.epochs=3", "--out", "s")
    assert code == 1
    assert "s/objective.beta=2-seed=0 holds a run of another recipe (training.epochs: 60 there, 3 now)" in err
    assert "--out" in err
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["objective.beta=2-seed=0"]


def test_a_dry_run_says_what_would_be_done(cli: Typed, tmp_path: Path):
    code, out, _ = cli("sweep", "digits", "--over", "objective.beta=1,2", "--set", "training.epochs=3", "--dry-run")
    assert code == 0
    assert "runs/digits-sweep-objective.beta-training.epochs=3/objective.beta=2-seed=0\tnew" in out
    assert list(tmp_path.iterdir()) == []


# -- killed -----------------------------------------------------------------------------------------------------------

COMMAND = [
    "sweep", "digits", "--over", "objective.beta=1,2", "--out", "s", "--set", "network.name=mlp", "--set",
    "network.hidden=[300]", "--set", "training.steps=500", "--set", "training.checkpoint_every=40", "--set",
    "training.threads=1",
]  # fmt: skip
NAMES = ("objective.beta=1-seed=0", "objective.beta=2-seed=0")


def start(folder: Path, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vaelab", *COMMAND, *map(str, words)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def newest(folder: Path, name: str) -> int:
    return Run(folder / "s" / name).newest_checkpoint


def wait_until_past(folder: Path, steps: dict[str, int], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while any(newest(folder, name) <= step for name, step in steps.items()):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_asked_to_stop_all_its_runs_save_and_none_lives_on(tmp_path: Path):
    process = start(tmp_path, "--jobs", 2)
    wait_until_past(tmp_path, dict.fromkeys(NAMES, 0), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130
    assert err == "vaelab: stopped, and all runs under way saved; the same command goes on from here\n"
    for name in NAMES:
        run = Run(tmp_path / "s" / name)
        assert not run.is_trained
        with run.locked():  # nobody holds it
            assert f"stopped at step {run.newest_checkpoint} of 500 and saved" in (run.path / "run.log").read_text()


def test_killed_it_goes_on_where_it_was(cli: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    process = start(tmp_path)
    wait_until_past(tmp_path, {NAMES[0]: 0}, process)
    process.kill()
    process.communicate()
    first, second = (Run(tmp_path / "s" / name) for name in NAMES)
    reached = first.newest_checkpoint
    assert not first.is_trained
    assert not second.exists
    monkeypatch.setattr(comparison, "draw", lambda _module, _arrays: b"")
    code, _, err = cli(*COMMAND, "--jobs", 1)
    assert (code, err) == (0, "")
    log = (first.path / "run.log").read_text()
    assert f"goes on after step {reached} of 500" in log
    assert "not bit for bit" not in log
    for run in (first, second):
        assert run.history["step"].tolist() == list(range(1, 501))
    assert {path.name for path in (tmp_path / "s").iterdir()} == {*NAMES, *FILES}


def test_what_another_process_trains_is_waited_for(cli: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(comparison, "draw", lambda _module, _arrays: b"")
    words = ("sweep", "digits", *TINY_WORDS, "--over", "objective.beta=1,2", "--out", "s")
    held, other = (member.run for member in vaelab.plan_sweep("digits", {"objective.beta": [1, 2]}, out="s").members)
    assert cli(*words)[0] == 0
    (other.path / "model.safetensors").unlink()
    machine = held.machine
    held.write_json("machine.json", {key: value for key, value in machine.items() if key != "finished"})
    order: list[str] = []

    def finish() -> None:
        """What the other process does: its last file, some time after the second run was trained here."""
        while not order:
            time.sleep(0.01)
        time.sleep(0.3)
        held.write_json("machine.json", machine)

    train = workers.train
    monkeypatch.setattr(workers, "train", lambda *a, **k: (train(*a, **k), order.append(k["run"].name)))
    with FileLock(held.path / ".lock"):
        thread = threading.Thread(target=finish)
        thread.start()
        code, out, _ = cli(*words)
        thread.join()
    assert code == 0
    assert order == ["objective.beta=2-seed=0"]
    assert "s/objective.beta=1-seed=0 is being trained by another process: waits for it" in out
    assert out.count("(done already)") == 1
