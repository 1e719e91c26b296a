"""Sweeps on a cluster: Dask workers, one of which is killed, and the script for SLURM."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from typed import TINY, Typed, train_small

import vaelab
from vaelab.api.cluster import DaskWorkers, write_slurm_script
from vaelab.api.workers import CommonArguments
from vaelab.run import Run
from vaelab.system.errors import InputError, UsageError

OVER = {"objective.beta": [1, 2]}
LONG = {**TINY, "training.steps": 1000, "training.checkpoint_every": 40}
FILES = ("history.csv", "validation.csv", "model.safetensors")


@pytest.mark.long
def test_the_run_of_a_killed_worker_is_taken_up_by_another_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    distributed, psutil = pytest.importorskip("distributed"), pytest.importorskip("psutil")
    monkeypatch.chdir(tmp_path)
    killed: list[int] = []

    settings = {"dashboard_address": None, "silence_logs": 50}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, **settings) as cluster:
        pids = [worker.pid for worker in cluster.workers.values()]

        def kill_its_worker() -> None:
            """Kill the worker that trains the run, once there is a checkpoint."""
            run, deadline = Run.at(tmp_path / "s" / "objective.beta=1-seed=0"), time.monotonic() + 100
            while run.checkpoints.newest_step == 0 and time.monotonic() < deadline:
                time.sleep(0.02)
            holder = next(
                pid
                for pid in pids
                for child in psutil.Process(pid).children()
                if any(str(run.path) in file.path for file in child.open_files())
            )
            os.kill(holder, signal.SIGKILL)
            killed.append(run.checkpoints.newest_step)

        thread = threading.Thread(target=kill_its_worker)
        thread.start()
        address = cluster.scheduler_address.replace("tcp://", "dask://")
        done = vaelab.sweep("digits", {"objective.beta": [1]}, set=LONG, out="s", on=address)
        thread.join()
    assert not done.failed
    assert 0 < killed[0] < 1000
    run = Run(tmp_path / "s" / "objective.beta=1-seed=0")
    assert "resumes after step" in (run.path / "run.log").read_text()
    whole = train_small(tmp_path / "whole", {**LONG, "objective.beta": 1, "training.seed": 0})
    for name in FILES:
        assert (run.path / name).read_bytes() == (whole.path / name).read_bytes(), name


def test_a_cluster_that_does_not_answer_is_one_line(closed_port: str):
    pytest.importorskip("distributed")
    address = closed_port.replace("http://", "dask://").rstrip("/")
    with pytest.raises(InputError) as error:
        DaskWorkers(address, CommonArguments("digits", None, "auto"), connect_seconds=0.1)
    assert error.value.value == address
    assert address in str(error.value)


@pytest.mark.parametrize("on", ["dask:", "dask://", "dask://host:port", "tcp://host:1", "slrm", "dask://host/path"])
def test_other_places_are_refused(on: str, tmp_path: Path):
    with pytest.raises(UsageError) as error:
        vaelab.sweep("digits", OVER, out=tmp_path / "s", on=on)
    assert (error.value.subject, error.value.value) == ("on", on)
    assert not (tmp_path / "s").exists()


def test_jobs_are_for_this_machine(tmp_path: Path):
    with pytest.raises(UsageError) as error:
        vaelab.sweep("digits", OVER, out=tmp_path / "s", on="dask://host", jobs=2)
    assert error.value.subject == "jobs"


@pytest.mark.slow
def test_a_task_of_the_slurm_script_trains_one_run(cli: Typed, tmp_path: Path):
    words = ("sweep", "digits", "--over", "objective.beta=1,2", "--set", "training.steps=60", "--set",
             "network.name=mlp", "--set", "training.figures=[]", "--out", "my runs")  # fmt: skip
    code, script, err = cli(*words, "--on", "slurm")
    assert (code, err) == (0, "")
    assert not (tmp_path / "my runs").exists()
    lines = script.splitlines()
    assert lines[0] == "#!/bin/bash"
    assert {"#SBATCH --array=0-1", "#SBATCH --cpus-per-task=1"} <= set(lines)
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "vaelab"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m vaelab "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "1"}
    (tmp_path / "sweep.sh").write_text(script)
    bash = shutil.which("bash")
    assert bash
    subprocess.run([bash, "sweep.sh"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    same = {"training.steps": 60, "network.name": "mlp", "training.figures": []}
    planned = vaelab.plan_sweep("digits", OVER, set=same, out=tmp_path / "my runs")
    assert [member.state for member in planned.members] == ["new", "done"]
    _, script, _ = cli(*words, "--on", "slurm")
    assert "#SBATCH --array=0-0" in script


def test_a_slurm_script_without_tasks_is_refused():
    with pytest.raises(InputError):
        write_slurm_script("done", [], CommonArguments("digits", None, "auto"), 1)
