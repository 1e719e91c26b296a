"""Several processes that train one model, started by torchrun."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import ROOT
from wording import Wording
from work_of_a_rank import ROWS, batch_wise, train_every_model

from vaelab.run import Run
from vaelab.system.distributed import LostRank, ProcessGroup, Shard, current_group, launched_group

RECIPE = ["train", "digits", "--set", "network.channels=[8,8]", "--set", "network.strides=[2,2]"]
SETTINGS = [
    "--set",
    "training.checkpoint_every=20",
    "--set",
    "training.threads=1",
    "--set",
    'training.figures=["losses"]',
]
TRAIN = [
    *RECIPE,
    *SETTINGS,
    "--set",
    "data.valid=100",
    "--set",
    "training.batch_size=31",
    "--set",
    "training.learning_rate=1e-4",
]


def torchrun(*words: str, processes: int = 2) -> list[str]:
    options = ["--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, "-m", "torch.distributed.run", *options, *words]


def start(words: list[str], tmp_path: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


def finish(process: "subprocess.Popen[str]", expected: int = 0) -> str:
    try:
        out, err = process.communicate(timeout=240)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == expected, err[-3000:]
    return out + err


def train(tmp_path: Path, run: Path, *more: str, processes: int = 2, expected: int = 0) -> str:
    words = [*TRAIN, "--run", str(run), *more]
    if processes == 1:
        return finish(start([sys.executable, "-m", "vaelab", *words], tmp_path), expected)
    return finish(start(torchrun("-m", "--", "vaelab", *words, processes=processes), tmp_path), expected)


# -- alone ------------------------------------------------------------------------------------------------------------


def test_a_group_of_one_returns_what_it_is_given():
    alone = current_group()
    assert (alone.rank, alone.world_size, alone.is_main) == (0, 1, True)
    assert alone.shard(7) == Shard(0, 7, 7)
    tensor = torch.arange(3.0)
    assert alone.all_reduce_(tensor) is tensor
    assert alone.all_gather(tensor) is tensor
    assert alone.broadcast("x") == "x"
    alone.barrier()


@pytest.mark.parametrize("count", [0, 1, 5, 32, 1000])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shards_cover_all_rows_once_and_evenly(count: int, size: int):
    shards = [ProcessGroup(rank, size).shard(count) for rank in range(size)]
    assert [i for shard in shards for i in range(shard.start, shard.stop)] == list(range(count))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert count == 0 or sum(shard.weight for shard in shards) == pytest.approx(1)


def test_launched_group_reads_the_environment_of_torchrun(monkeypatch: pytest.MonkeyPatch):
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert launched_group() == ProcessGroup(5, 8, 1)


# -- together ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ranks_reduce_broadcast_gather_with_gradients_and_train_on_terms_of_the_whole_batch(tmp_path: Path):
    script = ROOT / "tests" / "support" / "work_of_a_rank.py"
    finish(start(torchrun(str(script), str(tmp_path)), tmp_path))
    found = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    whole = ROWS.clone().requires_grad_()
    batch_wise(whole).backward()
    trained = train_every_model()
    for one in found:
        assert one["trained"].keys() == trained.keys()
        for name, rows in trained.items():
            for ours, theirs in zip(one["trained"][name], rows, strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-5, err_msg=name)
        assert one["sum"] == [3.0, 20.0]
        assert one["broadcast"] == {"x": 1}
        np.testing.assert_array_equal(one["whole"], ROWS)
        np.testing.assert_array_equal(one["empty shard"], [[0.0, 0.0]])
        np.testing.assert_array_equal(one["tensor"], [[0, 3], [1, 4], [2, 5]])
        first, last = one["shard"]
        np.testing.assert_allclose(one["gradient"], whole.grad[first:last], rtol=1e-12)
    assert [one["shard"] for one in found] == [[0, 2], [2, 5]]
    # a thread of gloo that outlives the group could end a process by SIGABRT when its interpreter exits
    assert all(one["threads after"] <= one["threads within"] - 3 for one in found)


def train_alone(folder: Path, *more: str) -> Run:
    train(folder, folder / "alone", *more, processes=1)
    return Run(folder / "alone")


def assert_equal_to_rounding(run: Run, alone: Run) -> None:
    for found, expected in ((run.history, alone.history), (run.validation, alone.validation)):
        assert found.keys() == expected.keys()
        for column, values in expected.items():
            np.testing.assert_allclose(found[column], values, rtol=1e-4, atol=1e-5, err_msg=column)


@pytest.mark.slow
def test_two_processes_train_as_one_and_rank_0_alone_writes_and_prints(tmp_path: Path):
    settings = ["--set", "training.precision=fp32", "--steps", "40"]
    alone = train_alone(tmp_path, *settings)
    said = train(tmp_path, tmp_path / "run", *settings)
    run = Run(tmp_path / "run")
    assert_equal_to_rounding(run, alone)
    assert said.count("1,338 images, 40 steps of 31") == 1
    assert said.count("report: ") == 1
    assert run.is_finished
    assert run.machine["ranks"] == 2
    assert sorted(path.name for path in run.path.iterdir()) == sorted(path.name for path in alone.path.iterdir())


@pytest.mark.long
def test_a_killed_job_is_restarted_by_torchrun_or_resumed_by_another_number_of_processes(tmp_path: Path):
    run, settings = Run.at(tmp_path / "run"), ["--set", "training.precision=fp32", "--steps", "300"]
    alone = train_alone(tmp_path, *settings)
    words = ["-m", "--", "vaelab", *TRAIN, "--run", str(run.path), *settings]
    job = start(torchrun("--max-restarts", "1", *words), tmp_path)
    os.kill(wait_for_a_checkpoint(run, job), signal.SIGKILL)
    os.kill(wait_for_a_checkpoint(run, job, after=run.checkpoints.newest_step + 20), signal.SIGKILL)
    said = finish(job, expected=1)
    assert said.count("resumes after step") == 1
    assert "Traceback" not in "".join(line for line in said.splitlines(True) if line.startswith("vaelab"))
    assert not run.is_trained
    said = train(tmp_path, run.path, *settings, processes=3)
    assert "ranks 2 then, 3 now" in said
    assert_equal_to_rounding(run, alone)


def wait_for_a_checkpoint(run: Run, job: "subprocess.Popen[str]", after: int = 0) -> int:
    """The process number of a rank that does not write, once the run has a checkpoint past step ``after``."""
    deadline = time.monotonic() + 120
    while run.checkpoints.newest_step <= after:
        assert job.poll() is None, finish(job)
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            words = path.read_bytes().split(b"\0")
            parent = int((path.parent / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            continue
        if b"RANK=1" in words and parent == job.pid:
            return int(path.parent.name)
    raise AssertionError("rank 1 is gone already")


def test_a_rank_that_cannot_reach_the_others_says_what_to_do(monkeypatch: pytest.MonkeyPatch, wording: Wording):
    def broken(*_: object) -> None:
        raise RuntimeError("[a/gloo/pair.cc:5] Connection closed by peer. Stack")

    monkeypatch.setattr(torch.distributed, "all_reduce", broken)
    with pytest.raises(LostRank) as caught:
        ProcessGroup(1, 2).barrier()
    assert (caught.value.rank, caught.value.world_size) == (1, 2)
    wording(caught.value)
