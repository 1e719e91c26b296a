"""``vaelab sweep``: many runs from one command, killed and resumed, compared at the end."""

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
from typed import TINY, TINY_WORDS, Typed
from wording import Wording

import vaelab
from vaelab import recipe
from vaelab.api.sweep import rate_distortion_arrays
from vaelab.run import MACHINE, Run

FILES = {
    "comparison.json",
    "comparison.csv",
    "comparison.png",
    "side-by-side.png",
    "rate-distortion.png",
    "report.html",
}


@pytest.mark.slow
def test_a_sweep_trains_compares_draws_and_keeps_finished_runs(cli: Typed, tmp_path: Path):
    words = ("sweep", "digits", *TINY_WORDS, "--over", "objective.beta=4,0.5", "--seeds", 2, "--out", "s")
    code, out, err = cli(*words)
    assert (code, err) == (0, "")
    names = {f"objective.beta={beta}-seed={seed}" for beta in ("0.5", "4") for seed in (0, 1)}
    assert {path.name for path in (tmp_path / "s").iterdir()} == names | FILES
    assert "β = 4 (2 seeds)\tβ = 0.5 (2 seeds)" in out
    assert out.splitlines()[-1] == "s/rate-distortion.png"
    rows = {Path(row["run"]).name: row for row in json.loads((tmp_path / "s" / "comparison.json").read_text())["runs"]}
    assert set(rows) == names
    page = (tmp_path / "s" / "report.html").read_text(encoding="utf-8")
    assert page.index('id="figure-rate-distortion"') < page.index('id="figure-side-by-side"') < page.index("<table")
    assert "Sweep of digits over β" in page
    assert "vaelab sweep digits --over objective.beta=" in page
    assert str(tmp_path) not in page
    with Image.open(tmp_path / "s" / "rate-distortion.png") as picture:
        assert "means of 2 seeds" in picture.info["Description"]
    runs = [path for path in (tmp_path / "s").rglob("*/*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in runs}
    events: list[vaelab.SweepEvent] = []
    done = vaelab.sweep("digits", {"objective.beta": [4, 0.5]}, seeds=2, set=TINY, out="s", watch=events.append)
    assert [event.state for event in events if isinstance(event, vaelab.MemberEnded)] == ["done"] * 4
    assert {path: path.stat().st_mtime_ns for path in runs} == before
    planned = events[0]
    assert isinstance(planned, vaelab.SweepPlan)
    assert done.comparison is not None
    arrays = rate_distortion_arrays(planned.over, planned.members, done.comparison)
    assert arrays["swept"] == "β"
    (series,) = arrays["series"]
    assert [point["label"] for point in series["points"]] == ["0.5", "4"]
    for point in series["points"]:
        members = [Run(tmp_path / "s" / f"objective.beta={point['label']}-seed={seed}") for seed in (0, 1)]
        measured = [run.evaluation["elbo"] for run in members]
        assert point["rate"].tolist() == [entry["kl"] for entry in measured]
        assert point["distortion"].tolist() == [entry["reconstruction"] for entry in measured]
        assert [run.recipe.training.seed for run in members] == [0, 1]


@pytest.mark.slow
def test_a_run_that_fails_does_not_stop_the_others(cli: Typed, tmp_path: Path):
    over = "training.learning_rate=1e30,0.001"
    code, out, err = cli("sweep", "digits", *TINY_WORDS, "--over", over, "--out", "s", "--json")
    assert code == 1
    assert "training.learning_rate=1e+30-seed=0: step " in err.splitlines()[-1]
    assert [row["label"] for row in json.loads(out)["runs"]] == ["digits"]
    assert {path.name for path in (tmp_path / "s").iterdir()} >= FILES


def test_several_keys_make_a_grid_with_a_line_for_each_value_of_the_others(tmp_path: Path):
    over = {"objective.beta": [4, 1], "network.latent_dim": [2, 3]}
    plan = vaelab.plan_sweep("digits", over, seeds=2, out=tmp_path / "s", jobs=2)
    assert len(plan.members) == 8
    assert plan.members[0].run.path == tmp_path / "s" / "network.latent_dim=2-objective.beta=4-seed=0"
    rows = [{"run": str(member.run.path), "kl": i, "reconstruction": -i} for i, member in enumerate(plan.members)]
    arrays = rate_distortion_arrays(over, plan.members, vaelab.Comparison(rows, (), (), [], {}))
    assert [series["label"] for series in arrays["series"]] == ["latents = 2", "latents = 3"]
    assert [point["label"] for point in arrays["series"][1]["points"]] == ["1", "4"]
    np.testing.assert_array_equal(arrays["series"][1]["points"][0]["rate"], [6, 7])


def test_threads_are_divided_among_jobs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    over = {"objective.beta": [1, 2]}
    plan = vaelab.plan_sweep("digits", over, out=tmp_path / "s", jobs=4)
    assert plan.threads == 2
    plan.members[1].run.path.mkdir(parents=True)
    plan.members[1].run.begin(recipe.load("digits", plan.members[1].overrides), {})
    again = vaelab.plan_sweep("digits", over, out=tmp_path / "s", jobs=1)
    assert again.threads == 2
    assert [member.state for member in again.members] == ["new", "resumes"]
    given = vaelab.plan_sweep("digits", over, out=tmp_path / "t", jobs=1, set={"training.threads": 3})
    assert given.threads == 3
    swept = vaelab.plan_sweep("digits", {"training.threads": [1, 2]}, out=tmp_path / "u", jobs=2)
    assert [recipe.load("digits", member.overrides).training.threads for member in swept.members] == [1, 2]


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
def test_values_are_toml_or_words(text: str, values: list[Any]):
    assert vaelab.parse_over([text]) == {text.partition("=")[0]: values}


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--over", "objective.beta"],
        ["--over", "objective.beta="],
        ["--over", "objective.beta=1,,2"],
        ["--over", "objective.beta=1", "--over", "objective.beta=2"],
        ["--over", "objective.beta=1,1.0"],
        ["--over", "objective.beat=1,2"],
        ["--over", "objective.beta=1,-2"],
        ["--over", "objective.beta=1,2", "--set", "objective.beta=3"],
        ["--over", "training.seed=1,2"],
        ["--over", "objective.beta=1,2", "--set", "training.seed=3"],
        ["--over", "network.channels=[32,64,64],[32]"],
        ["--over", "objective.beta=1,2", "--seeds", "0"],
        ["--over", "objective.beta=1,2", "--jobs", "0"],
    ],
)
def test_mistakes_are_found_before_the_first_run(cli: Typed, tmp_path: Path, words: list[str], wording: Wording):
    code, out, err = cli("sweep", "digits", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    wording(err)
    assert list(tmp_path.iterdir()) == []


def test_another_recipe_in_the_same_place_is_refused_before_the_first_run(cli: Typed, tmp_path: Path):
    plan = vaelab.plan_sweep("digits", {"objective.beta": [1, 2]}, out="s")
    plan.members[1].run.begin(recipe.load("digits", plan.members[1].overrides), {})
    code, _, err = cli("sweep", "digits", "--over", "objective.beta=1,2", "--set", "training.epochs=3", "--out", "s")
    assert code == 1
    assert all(word in err for word in ("s/objective.beta=2-seed=0", "training.epochs: 60", "--out"))
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["objective.beta=2-seed=0"]


def test_a_dry_run_lists_the_runs(cli: Typed, tmp_path: Path):
    code, out, _ = cli("sweep", "digits", "--over", "objective.beta=1,2", "--set", "training.epochs=3", "--dry-run")
    assert code == 0
    assert out.startswith("runs/digits-sweep-objective.beta-epochs=3: ")
    assert "\nobjective.beta=2-seed=0\tnew\n" in out
    assert list(tmp_path.iterdir()) == []


# -- killed -----------------------------------------------------------------------------------------------------------

COMMAND = [
    "sweep", "digits", "--over", "objective.beta=1,2", "--out", "s", "--set", "network.name=mlp", "--set",
    "network.hidden=[300]", "--set", "training.steps=500", "--set", "training.checkpoint_every=40", "--set",
    "training.threads=1", "--set", "training.figures=[]",
]  # fmt: skip
NAMES = ("objective.beta=1-seed=0", "objective.beta=2-seed=0")


def start(folder: Path, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vaelab", *COMMAND, *map(str, words)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_checkpoints(folder: Path, names: tuple[str, ...], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while any(Run.at(folder / "s" / name).checkpoints.newest_step == 0 for name in names):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.long
def test_an_interrupted_sweep_saves_all_runs_in_progress(tmp_path: Path):
    process = start(tmp_path, "--jobs", 2, "--set", "training.steps=20000")
    wait_for_checkpoints(tmp_path, NAMES, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130
    assert err.count("\n") == 1
    for name in NAMES:
        run = Run(tmp_path / "s" / name)
        assert not run.is_trained
        with run.locked():  # no process holds it
            assert f"stopped at step {run.checkpoints.newest_step} of 20000" in (run.path / "run.log").read_text()


@pytest.mark.long
def test_a_killed_sweep_resumes_its_runs(cli: Typed, tmp_path: Path):
    process = start(tmp_path)
    wait_for_checkpoints(tmp_path, NAMES[:1], process)
    process.kill()
    process.communicate()
    first, second = (Run.at(tmp_path / "s" / name) for name in NAMES)
    reached = first.checkpoints.newest_step
    assert not first.is_trained
    assert not second.exists
    code, _, err = cli(*COMMAND, "--jobs", 1)
    assert (code, err) == (0, "")
    log = (first.path / "run.log").read_text()
    assert f"resumes after step {reached} of 500" in log
    assert "warning" not in log
    for run in (first, second):
        assert run.history["step"].tolist() == list(range(1, 501))
    assert {path.name for path in (tmp_path / "s").iterdir()} == {*NAMES, *FILES}


@pytest.mark.long
def test_a_run_that_another_process_trains_is_waited_for(cli: Typed, tmp_path: Path):
    over = {"objective.beta": [1, 2]}
    held, other = (member.run for member in vaelab.plan_sweep("digits", over, out="s").members)
    vaelab.sweep("digits", over, set=TINY, out="s")
    other.model_path.unlink()
    machine = held.machine
    held.write_json(MACHINE, {key: value for key, value in machine.items() if key != "finished"})

    events: list[vaelab.SweepEvent] = []

    def waits() -> list[str]:
        return [event.text for event in events if isinstance(event, vaelab.Note) and str(held.path) in event.text]

    def finish() -> None:
        """Finish the first run, as the other process would, once it is waited for."""
        deadline = time.monotonic() + 60
        while not waits() and time.monotonic() < deadline:
            time.sleep(0.01)
        held.write_json(MACHINE, machine)

    with FileLock(held.path / ".lock"):
        thread = threading.Thread(target=finish)
        thread.start()
        vaelab.sweep("digits", over, set=TINY, out="s", watch=events.append)
        thread.join()
    ended = [(event.member.run.name, event.state) for event in events if isinstance(event, vaelab.MemberEnded)]
    assert ended == [(other.name, "trained"), (held.name, "done")]
    assert len(waits()) == 1
