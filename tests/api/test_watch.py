"""The view of a running training, and the page that shows it."""

import io
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from typed import train_small

import vaelab
from vaelab.api.watch import MAX_POINTS
from vaelab.explorer import watching
from vaelab.run import HISTORY, TIMING, Run
from vaelab.run.tail import Tail
from vaelab.system.signals import Interrupted
from vaelab.training.loop import ProgressRecord

URL = "http://127.0.0.1:8765"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was stopped between two epochs."""

    def watch(event: object) -> None:
        if isinstance(event, ProgressRecord) and event.step >= 50:
            os.kill(os.getpid(), signal.SIGINT)

    run = tmp_path_factory.mktemp("runs") / "digits"
    with pytest.raises(Interrupted):
        train_small(run, {"training.steps": 20_000}, watch=watch)
    return Run(run)


def test_a_view_tells_progress_curves_and_pictures_and_writes_nothing(stopped: Run):
    before = {path: path.stat().st_mtime_ns for path in stopped.path.rglob("*")}
    view = vaelab.watch(stopped)
    state, curves = view.state(), view.curves()
    step = stopped.checkpoints.newest_step
    assert (state["state"], state["step"], state["steps"], state["checkpoint"]) == ("training", step, 20_000, step)
    assert state["left"] is None or state["left"] > 0
    assert len(curves["training"]["step"]) <= MAX_POINTS
    assert curves["training"]["step"][-1] == step
    loss = stopped.history["loss"]
    if len(loss) <= MAX_POINTS:
        assert curves["training"]["loss"] == loss.tolist()
    for name in watching.PICTURES:
        found = view.picture(name)
        assert found is not None
        assert found.step == step
        sheet = np.asarray(Image.open(io.BytesIO(found.png)))
        assert sheet.shape[0] * found.columns == sheet.shape[1] * found.rows  # of square images
        assert sheet.std() > 1
    assert {path: path.stat().st_mtime_ns for path in stopped.path.rglob("*")} == before


def test_curves_are_means_of_successive_batches(tmp_path: Path):
    made = Run.at(tmp_path)
    rows = [[step, 1, float(step), 0.0, 0.0] for step in range(1, 601)]
    made.append(HISTORY, ["step", "epoch", "loss", "reconstruction", "kl"], rows)
    (tmp_path / "recipe.toml").touch()
    curve = vaelab.watch(tmp_path).curves()["training"]
    assert curve["step"] == [5.0 * i for i in range(1, MAX_POINTS + 1)]
    assert curve["loss"] == [5.0 * i - 2 for i in range(1, MAX_POINTS + 1)]


def test_the_time_left_is_that_of_the_rest_at_the_recent_speed(stopped: Run, tmp_path: Path):
    shutil.copytree(stopped.path, tmp_path / "copy")
    rows = [f"{step},{100 * step if step < 50 else 5000 + 2 * (step - 50)},1" for step in range(10, 101, 2)]
    (tmp_path / "copy" / TIMING).write_text("\n".join(["step,seconds,images_per_second", *rows, ""]))
    state = vaelab.watch(tmp_path / "copy").state()
    assert (state["seconds"], state["left"]) == (5100.0, 2.0 * (20_000 - 100))


def test_a_tail_reads_new_rows_only_and_a_new_table_from_its_beginning(tmp_path: Path):
    path = tmp_path / "table.csv"
    tail = Tail(path)
    assert tail.read() == {}
    path.write_text("step,loss\n1,5\n2,4")
    assert tail.read()["loss"].tolist() == [5]
    with path.open("a") as file:
        file.write("\n3,3\n")
    assert tail.read()["loss"].tolist() == [5, 4, 3]
    path.write_text("step,loss\n1,9\n")
    assert tail.read()["loss"].tolist() == [9]


def test_the_page_is_served_with_the_guard_of_the_explorer(stopped: Run):
    client = TestClient(watching.make_app(vaelab.watch(stopped), "127.0.0.1"), base_url=URL)
    page = client.get("/")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    for name in ("watch.js", "watch.css", *watching.SHARED):
        assert client.get(f"/{name}").status_code == 200
    assert "http" not in client.get("/watch.js").text.replace("http://www.w3.org/2000/svg", "")
    assert client.get("/state").json()["name"] == "digits"
    assert set(client.get("/curves").json()) == {"training", "held_out"}
    assert client.get("/pictures/samples").headers["content-type"] == "image/png"
    assert [client.get(path).status_code for path in ("/pictures/other", "/main.js", "/../server.py")] == [404] * 3
    assert client.get("/state", headers={"Host": "evil.example"}).status_code == 403


def test_a_run_that_is_removed_is_a_problem_in_words(tmp_path: Path):
    made = train_small(tmp_path / "run")
    client = TestClient(watching.make_app(vaelab.watch(made), "127.0.0.1"), base_url=URL)
    assert client.get("/state").json()["state"] == "finished"
    for path in made.path.glob("*.toml"):
        path.unlink()
    answer = client.get("/state")
    assert answer.status_code == 503
    assert "recipe.toml" in answer.json()["problem"]
