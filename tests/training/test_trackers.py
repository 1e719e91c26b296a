"""Trackers: every member with its real package where it is installed, failures, and points that do not depend on time.

``dev`` installs TensorBoard only; the others are skipped without their packages.
"""

import json
import queue
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plugins import install
from typed import TINY_WORDS, Typed, train_small

import vaelab
from vaelab.api.mirror import find_points, find_results, main, make_embedding
from vaelab.run import Run
from vaelab.run.records import read_tracker_state
from vaelab.system import registry
from vaelab.system.errors import UnknownName

Points = dict[str, list[tuple[int, float]]]


# -- what the real packages have --------------------------------------------------------------------------------------


def read_tensorboard(run: Run, folder: Path) -> tuple[Points, list[str]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run.path / "trackers" / "tensorboard"), {"images": 0}).Reload()
    tags = found.Tags()
    assert "objective.beta" in found.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0].decode()
    embedding = make_embedding(run)
    (codes,) = (run.path / "trackers" / "tensorboard").glob("*/codes")
    np.testing.assert_allclose(np.loadtxt(codes / "tensors.tsv"), embedding.codes, atol=1e-5)
    labels = (codes / "metadata.tsv").read_text().split()
    assert labels == embedding.columns["label"]
    assert (codes / "sprite.png").stat().st_size
    points = {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in tags["scalars"]}
    return points, [tag for tag in tags["images"] if len(found.Images(tag)) == 1]


def read_log(path: Path) -> Iterator[bytes]:
    """The records of a file of wandb: LevelDB's log format after a header of seven bytes."""
    data, position, record = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        if (left := 32768 - position % 32768) < 7:
            position += left
            continue
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield record
            record = b""


def read_wandb(run: Run, folder: Path) -> tuple[Points, list[str]]:
    from wandb.proto.wandb_internal_pb2 import Record

    points, figures = Points(), []
    stores = sorted((run.path / "trackers" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(stores) == 2
    assert len({store.name for store in stores}) == 1  # one run of the service, in two parts
    for data in (data for store in stores for data in read_log(store)):
        record = Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        items = record.history.item if kind == "history" else record.summary.update if kind == "summary" else ()
        for item in items:
            name, value = item.key or item.nested_key[0], json.loads(item.value_json)
            if name.startswith("figures/"):
                figures.append(name)
            elif kind == "history" or name.startswith(("final/", "evaluation/")):
                points.setdefault(name, []).append((record.history.step.num, value))
    return points, sorted(set(figures))


def read_trackio(run: Run, folder: Path) -> tuple[Points, list[str]]:
    points, figures = Points(), []
    with sqlite3.connect(folder / "trackio" / "vaelab.db") as database:
        rows = database.execute("select run_name, step, metrics from metrics order by id").fetchall()
    assert len({name for name, _, _ in rows}) == 1
    for _, step, metrics in rows:
        for name, value in json.loads(metrics).items():
            if isinstance(value, dict):
                figures.append(name)
            else:
                points.setdefault(name, []).append((step, value))
    return points, figures


def read_mlflow(run: Run, folder: Path) -> tuple[Points, list[str]]:
    script = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient()
(run,) = client.search_runs([client.get_experiment_by_name("vaelab").experiment_id])
assert run.info.status == "FINISHED" and "objective.beta" in run.data.params
history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
points = {name: [(metric.step, metric.value) for metric in metrics] for name, metrics in history.items()}
print(json.dumps([points, [item.path for item in client.list_artifacts(run.info.run_id, "figures")]]))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    points, figures = json.loads(done.stdout)
    return {name: [tuple(point) for point in found] for name, found in points.items()}, figures


READERS: dict[str, Callable[[Run, Path], tuple[Points, list[str]]]] = {
    "tensorboard": read_tensorboard,
    "wandb": read_wandb,
    "trackio": read_trackio,
    "mlflow": read_mlflow,
}
"""Tracker, which has the name of its package → what reads it back."""


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names("trackers"))
def test_a_resumed_run_is_mirrored_once_and_not_changed(
    name: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if find_spec(name) is None:  # not imported, because warnings of some of them are errors here
        pytest.skip(f"needs {name}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    run, notes = Run.at(tmp_path / "digits"), list[str]()

    class Stop(Exception):
        """The training dies, as far as files are concerned."""

    def die(event: vaelab.Event) -> None:
        if isinstance(event, vaelab.Note) and event.text.startswith(name):
            notes.append(event.text)
        if getattr(event, "step", 0) >= 40:
            raise Stop

    settings = {"training.figures": ["losses"], "training.checkpoint_every": 20}
    with pytest.raises(Stop):
        train_small(run.path, settings, track=[name], watch=die)
    before = read_tracker_state(run.path, name)
    assert 0 < before["step"] < 60
    train_small(run.path, settings, track=[name], watch=lambda event: notes.append(getattr(event, "text", "")))
    assert not [note for note in notes if "continues" in note]
    state = read_tracker_state(run.path, name)
    assert state == {"id": before["id"], "step": 60, "complete": True}
    assert (run.path / "history.csv").read_bytes() == (trained / "history.csv").read_bytes()
    points, figures = READERS[name](run, tmp_path)
    expected = list(find_points(run.history, run.validation, 0, 1, is_over=True))
    for tag in ("train/loss", "train/kl", "validation/elbo", "epoch"):
        wanted = [(step, values[tag]) for step, values in expected if tag in values]
        np.testing.assert_allclose(points[tag], wanted, rtol=1e-6, err_msg=tag)
    for tag, value in find_results(run).items():
        assert points[tag][-1][1] == pytest.approx(value, rel=1e-6), tag
    assert len(figures) == 1
    assert "losses" in figures[0]


def test_thumbnails_of_many_channels_and_floats_are_rgb(tmp_path: Path):
    pixels = np.random.default_rng(0).random((40, 9, 8, 5), np.float32)
    np.save(tmp_path / "own.npy", pixels)
    run = train_small(tmp_path / "run", {"training.steps": 2}, name="folder", data=tmp_path / "own.npy")
    shown = make_embedding(run).thumbnails
    assert (shown.dtype, shown.shape[1:]) == (np.uint8, (9, 8, 3))
    held_out = np.rint(pixels[..., :3] * 255).astype(np.uint8)
    assert all((held_out == picture).all((1, 2, 3)).any() for picture in shown)


# -- points -----------------------------------------------------------------------------------------------------------


def make_tables() -> tuple[dict[str, Any], dict[str, Any]]:
    steps = np.arange(1.0, 24.0)
    history = {"step": steps, "epoch": (steps - 1) // 10 + 1, "loss": steps**2}
    return history, {"step": np.array([10.0, 20.0, 23.0]), "loss": np.array([3.0, 2.0, 1.0]), "kl_2": np.ones(3)}


def test_points_are_means_since_the_previous_one():
    points = dict(find_points(*make_tables(), 0, 4, is_over=True))
    assert list(points) == [4, 8, 10, 12, 16, 20, 23]
    assert points[10] == {"epoch": 1.0, "train/loss": (81 + 100) / 2, "validation/loss": 3.0}
    assert points[23] == {"epoch": 3.0, "train/loss": (21**2 + 22**2 + 23**2) / 3, "validation/loss": 1.0}


def test_points_do_not_depend_on_when_the_tables_are_read():
    history, validation = make_tables()
    whole = list(find_points(history, validation, 0, 4, is_over=True))
    for size in (1, 3, 7):
        found: list[tuple[int, dict[str, float]]] = []
        for rows in range(0, 24, size):
            seen = {name: column[:rows] for name, column in history.items()}
            late = int((validation["step"] < rows).sum())  # a validation is written after its last batch
            known = {name: column[:late] for name, column in validation.items()} if late else {}
            found += find_points(seen if rows else {}, known, found[-1][0] if found else 0, 4, is_over=False)
        found += find_points(history, validation, found[-1][0], 4, is_over=True)
        assert found == whole


# -- failures ---------------------------------------------------------------------------------------------------------

FAKE = """
from vaelab.training import trackers

class Tracker(trackers.Tracker):
    place = "somewhere"
    def __init__(self, run):
        {open}
        self.path = run.folder.with_suffix(".lines")
        self.write(run.id, run.step, run.recipe["objective.beta"])
    def write(self, *words):
        with self.path.open("a") as file:
            print(*words, file=file)
    def log(self, step, values):
        {log}
        self.write(step)
    def log_results(self, step, values, figures):
        self.write(step, *figures)
    def close(self, end):
        self.write(end)
"""


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trackers of another package: one that works, one without its package, one whose service ends."""
    broken = {
        "fake_good": {"open": "pass", "log": "pass"},
        "fake_missing": {"open": "import package_that_is_not_there", "log": "pass"},
        "fake_down": {"open": "pass", "log": "if step > 30: raise ConnectionError('no answer')"},
    }
    folder = tmp_path / "site"
    folder.mkdir()
    modules = {name: FAKE.format(**parts) for name, parts in broken.items()}
    install(folder, "fakes", modules, {"vaelab.trackers": {name: name for name in broken}})
    monkeypatch.syspath_prepend(folder)
    yield
    for name in broken:
        sys.modules.pop(name, None)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Run:
    """A finished run of 60 steps that nothing has tracked."""
    shutil.copytree(trained, tmp_path / "run")
    return Run(tmp_path / "run")


def mirror(run: Run, name: str, end: str) -> tuple[list[str], list[str]]:
    """Mirror what is in a run, as its process does; return the warnings and what the fake tracker got."""
    orders, reports = queue.Queue[str](), list[tuple[str, bool]]()
    orders.put(end)
    main(name, run, orders, lambda text, warning: reports.append((text, warning)))
    lines = run.path / "trackers" / f"{name}.lines"
    warnings = [text for text, warning in reports if warning]
    return warnings, lines.read_text().splitlines() if lines.exists() else []


@pytest.mark.usefixtures("fakes")
def test_a_mirror_goes_on_where_it_ended(run: Run):
    whole = run.history
    text = (run.path / "history.csv").read_text().splitlines(keepends=True)
    (run.path / "history.csv").write_text("".join(text[:41]))
    validation = (run.path / "validation.csv").read_bytes()
    (run.path / "validation.csv").unlink()
    warnings, lines = mirror(run, "fake_good", "stopped")
    assert not warnings
    number = read_tracker_state(run.path, "fake_good")["id"]
    assert lines == [f"{number} 0 1.0", *map(str, range(1, 40)), "stopped"]
    (run.path / "history.csv").write_text("".join(text))
    (run.path / "validation.csv").write_bytes(validation)
    _, lines = mirror(run, "fake_good", "finished")
    assert lines[41:] == [f"{number} 39 1.0", *map(str, range(40, 61)), "60 losses", "finished"]
    assert read_tracker_state(run.path, "fake_good")["complete"]
    assert len(whole["step"]) == 60


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize(("name", "reached"), [("fake_missing", 0), ("fake_down", 30)])
def test_a_tracker_that_fails_reports_one_line(run: Run, name: str, reached: int, wording: Callable[[object], None]):
    (warning,), _ = mirror(run, name, "finished")
    wording(warning)
    state = read_tracker_state(run.path, name)
    assert (state["step"], state["complete"]) == (reached, False)


@pytest.mark.slow
@pytest.mark.usefixtures("fakes")
def test_a_failing_tracker_costs_a_line_on_stderr_and_nothing_else(cli: Typed, tmp_path: Path):
    words = ("train", "digits", *TINY_WORDS, "--run", "r", "--track", "fake_missing")
    code, out, err = cli(*words)
    assert code == 0
    assert err.startswith("vaelab: warning: fake_missing: ")
    assert err.count("\n") == 1
    assert "fake_missing" not in out
    run = Run(tmp_path / "r")
    assert run.is_finished
    assert not [warning for warning in run.warnings if "fake" in warning]


def test_an_unknown_tracker_is_refused_before_the_training(tmp_path: Path):
    with pytest.raises(UnknownName) as error:
        train_small(tmp_path / "run", track=["tensorbord"])
    assert error.value.subject == "tracker"
    assert "tensorboard" in error.value.choices
    assert not (tmp_path / "run").exists()
