"""Processes that are really killed: the same command ends as if nothing had happened."""

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

STEPS = 800
COMMAND = [
    sys.executable, "-m", "vaelab", "train", "digits", "--set", "network.name=mlp", "--set", "network.hidden=[24]",
    "--set", f"training.steps={STEPS}", "--set", "training.checkpoint_every=20", "--set", "training.threads=1",
]  # fmt: skip


def start(run: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "--run", str(run)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=run.parent
    )


def finish(run: Path) -> str:
    process = start(run)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return out


def wait_for_checkpoint(run: Path, process: subprocess.Popen[str], after: int = 0) -> int:
    """Step of the newest checkpoint once it is past ``after``."""
    for _ in range(6000):
        steps = [int(path.stem.removeprefix("step-")) for path in run.glob("checkpoints/step-*.safetensors")]
        if steps and max(steps) > after:
            return max(steps)
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("no checkpoint came")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    finish(run)
    return run


def assert_same(run: Path, whole: Path) -> None:
    for name in ("history.csv", "validation.csv", "model.safetensors", "recipe.toml"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name


def test_killed_at_random_moments_it_ends_bit_identical(tmp_path: Path, whole: Path):
    run, moments, step = tmp_path / "run", random.Random(0), 0
    for _ in range(3):
        process = start(run)
        step = wait_for_checkpoint(run, process, after=step)
        time.sleep(moments.uniform(0.0, 0.25))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (run / "model.safetensors").exists()
    assert "goes on after step" in finish(run)
    assert_same(run, whole)
    assert not list(run.rglob("*.part")), "half files stay behind"


def test_killed_in_the_middle_of_a_write_it_ends_bit_identical(tmp_path: Path, whole: Path):
    run = tmp_path / "run"
    process = start(run)
    deadline = time.monotonic() + 60
    while not list(run.glob("checkpoints/.step-*.part")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
    process.kill()
    process.communicate()
    finish(run)
    assert_same(run, whole)
    assert not list(run.rglob("*.part"))


def test_asked_to_stop_it_saves_and_a_flipped_bit_is_noticed(tmp_path: Path, whole: Path):
    run, stopped_at = tmp_path / "run", 0
    for number in (signal.SIGINT, signal.SIGTERM):
        process = start(run)
        wait_for_checkpoint(run, process, after=stopped_at + 20)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "and saved; the same command goes on from here" in err
        assert err.count("\n") == 1
        assert (f"goes on after step {stopped_at}" in out) == (stopped_at > 0)
        stopped_at = int(err.split("step ")[1].split()[0])
        assert (run / "checkpoints" / f"step-{stopped_at:09d}.safetensors").exists()
    newest, before = sorted(run.glob("checkpoints/step-*.safetensors"), reverse=True)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 16
    newest.write_bytes(bytes(content))
    out = finish(run)
    assert "SHA-256 does not match" in out
    assert f"goes on after step {int(before.stem.removeprefix('step-'))}" in out
    assert_same(run, whole)


def test_a_resumed_run_of_pictures_writes_the_same_model_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pictures, random = tmp_path / "pictures", np.random.default_rng(0)
    pictures.mkdir()
    for i in range(20):
        Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).save(pictures / f"{i}.png")
    settings = {"data.size": 8, "training.checkpoint_every": 25}
    run = train_small(tmp_path / "run", settings, name="folder", data=pictures)
    whole = run.model_path.read_bytes()  # holds the recipe with what "auto" became: grey
    run.write_json("machine.json", {key: value for key, value in run.machine.items() if key != "finished"})
    for path in (run.model_path, max(run.path.glob("checkpoints/step-*.safetensors"))):
        path.unlink()
    assert train_small(run.path, settings, name="folder", data=pictures).model_path.read_bytes() == whole
