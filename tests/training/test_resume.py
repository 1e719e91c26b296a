"""Resuming: processes that are really killed end as if they had never been, with the same command."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typed import train_small

from vaelab.run import Run

STEPS = 500
COMMAND = [
    sys.executable, "-m", "vaelab", "train", "digits", "--set", "network.name=mlp", "--set", "network.hidden=[24]",
    "--set", f"training.steps={STEPS}", "--set", "training.checkpoint_every=20", "--set", "training.threads=1",
    "--set", "training.figures=[]",
]  # fmt: skip
FILES = ("history.csv", "validation.csv", "model.safetensors", "recipe.toml")


def start(run: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "--run", str(run)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=run.parent
    )


def finish(run: Path) -> None:
    process = start(run)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err


def wait_for_checkpoint(run: Path, process: subprocess.Popen[str], after: int = 0) -> int:
    """Step of the newest checkpoint once it is past ``after``."""
    deadline = time.monotonic() + 60
    while (newest := Run.at(run).checkpoints.newest_step) <= after:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return newest


def resumed_at(run: Path) -> list[int]:
    """The steps after which the run was resumed, by its log."""
    lines = (run / "run.log").read_text().splitlines()
    return [int(line.partition("resumes after step ")[2].split()[0]) for line in lines if "resumes after step" in line]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    finish(run)
    return run


def assert_same(run: Path, whole: Path) -> None:
    for name in FILES:
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    assert not list(run.rglob("*.part")), "half-written files are left"


@pytest.mark.slow
def test_a_run_killed_at_random_moments_and_in_the_middle_of_a_write_ends_bit_identical(tmp_path: Path, whole: Path):
    run, moments, step = tmp_path / "run", random.Random(0), 0
    for moment in (moments.uniform(0.0, 0.25), moments.uniform(0.0, 0.25), "in a write"):
        process = start(run)
        step = wait_for_checkpoint(run, process, after=step)
        if isinstance(moment, float):
            time.sleep(moment)
        else:
            wait_for_a_write(run, process)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not Run(run).is_trained
    finish(run)
    assert resumed_at(run)[-1] >= step
    assert_same(run, whole)


def wait_for_a_write(run: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not list(run.glob("checkpoints/.step-*.part")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()


@pytest.mark.slow
def test_a_stopped_run_with_a_damaged_checkpoint_ends_bit_identical(tmp_path: Path, whole: Path):
    run, stops = tmp_path / "run", [0]
    for number in (signal.SIGINT, signal.SIGTERM):
        process = start(run)
        wait_for_checkpoint(run, process, after=stops[-1] + 20)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert err.count("\n") == 1
        stops.append(Run(run).checkpoints.newest_step)
        assert f"stopped at step {stops[-1]} of {STEPS}" in err
    newest, before = Run(run).checkpoints.paths
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 16
    newest.write_bytes(bytes(content))
    finish(run)
    assert resumed_at(run) == [stops[1], int(before.stem.removeprefix("step-"))]
    assert newest.with_suffix(".damaged").exists()
    assert_same(run, whole)


def test_a_resumed_run_of_pictures_writes_the_same_model_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pictures, random = tmp_path / "pictures", np.random.default_rng(0)
    pictures.mkdir()
    for i in range(20):
        Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).save(pictures / f"{i}.png")
    settings = {"data.size": 8, "training.checkpoint_every": 25}
    run = train_small(tmp_path / "run", settings, name="folder", data=pictures)
    whole = run.model_path.read_bytes()  # holds the recipe with the resolved channels
    run.write_json("machine.json", {key: value for key, value in run.machine.items() if key != "finished"})
    for path in (run.model_path, run.checkpoints.paths[0]):
        path.unlink()
    assert train_small(run.path, settings, name="folder", data=pictures).model_path.read_bytes() == whole
