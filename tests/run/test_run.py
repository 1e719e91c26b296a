"""A run's directory: tables, checkpoints, the lock, failed starts."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from wording import Wording

from vaelab import recipe, run
from vaelab.run import OtherRecipe, Run, RunRemoved
from vaelab.run.resume import load_checkpoint, mend_tables
from vaelab.system.files import NotAFile, save_tensors

TERMS = ["step", "epoch", "loss", "reconstruction", "kl"]


def rows(first: int, last: int) -> list[list[float]]:
    return [[step, 1 + (step - 1) // 4, 10.0 / step, 9.0 / step, 1.0 / step] for step in range(first, last + 1)]


def begin(path: Path) -> Run:
    made = Run.at(path)
    made.path.mkdir(exist_ok=True)
    made.begin(recipe.load("digits"), {"recipe": "digits", "threads": 1})
    return made


def save(made: Run, step: int, value: float = 0.0, size: int = 3) -> None:
    made.save_checkpoint(step, {"w": torch.full((size,), value)}, {})


# -- tables -----------------------------------------------------------------------------------------------------------


def test_tables_read_back_what_was_written(tmp_path: Path):
    made = Run.at(tmp_path)
    values = np.random.default_rng(0).standard_normal(50).astype(np.float32) * np.float32(1e3)
    table = [[i + 1, 1, float(value), 2.0, 3.0] for i, value in enumerate(values)]
    made.append(run.HISTORY, TERMS, table[:20])
    made.append(run.HISTORY, TERMS, table[20:])
    assert np.array_equal(made.history["loss"].astype(np.float32), values)
    assert np.array_equal(made.history["step"], np.arange(1, 51))
    assert made.validation == {}


def test_mend_tables_drops_later_rows_and_half_lines(tmp_path: Path):
    made = Run.at(tmp_path)
    made.append(run.HISTORY, TERMS, rows(1, 10))
    made.append(run.VALIDATION, [*TERMS, "elbo"], [[4, 1, 3.0, 2.0, 1.0, -1.0], [8, 2, 3.0, 2.0, 1.0, -2.0]])
    timing = [[step, step / 10, 80.0] for step in range(1, 11)]
    made.append(run.TIMING, ["step", "seconds", "images_per_second"], timing)
    before = (tmp_path / run.HISTORY).read_text()
    with (tmp_path / run.HISTORY).open("a") as file:
        file.write("11,3,0.9")
    assert mend_tables(made, 10) == []
    assert (tmp_path / run.HISTORY).read_text() == before
    assert mend_tables(made, 6) == []
    assert made.history["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert made.validation["step"].tolist() == [4]
    assert mend_tables(made, 0) == []
    assert made.history == {}
    assert not (tmp_path / run.HISTORY).exists()


def test_mend_tables_drops_a_half_line_with_all_columns(tmp_path: Path):
    made = Run.at(tmp_path)
    made.append(run.HISTORY, TERMS, rows(1, 3))
    with (tmp_path / run.HISTORY).open("a") as file:
        file.write("4,1,2.5,2.25,0.2")  # its last number is cut off
    mend_tables(made, 3)
    assert made.history["step"].tolist() == [1, 2, 3]


# -- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_ahead_of_the_history_is_set_aside(tmp_path: Path):
    made = Run.at(tmp_path)
    made.append(run.HISTORY, TERMS, rows(1, 7))
    for step in (5, 10):
        save(made, step)
    step, _, notes = load_checkpoint(made)
    assert step == 5
    assert "step-000000010" in notes[0]
    assert "history.csv" in notes[0]


@pytest.mark.parametrize("facts", [{"step": -1}, {"step": 10.5}, {"step": "10"}, {}])
def test_a_checkpoint_without_a_proper_step_is_set_aside(tmp_path: Path, facts: dict[str, object]):
    made = Run.at(tmp_path)
    made.append(run.HISTORY, TERMS, rows(1, 10))
    save(made, 5)
    save_tensors(made.checkpoints.folder / "step-000000010.safetensors", {"w": torch.zeros(3)}, facts)
    step, _, notes = load_checkpoint(made)
    assert step == 5
    assert "step-000000010" in notes[0]
    assert [path.name for path in made.checkpoints.paths] == ["step-000000005.safetensors"]


def test_the_two_newest_checkpoints_stay(tmp_path: Path):
    made = Run.at(tmp_path)
    for step in (5, 10, 15):
        save(made, step, step)
    made.append(run.HISTORY, TERMS, rows(1, 15))
    newest = ["step-000000015.safetensors", "step-000000010.safetensors"]
    assert [path.name for path in made.checkpoints.paths] == newest
    (made.checkpoints.folder / "step-000000005.safetensors").write_bytes(b"of a process killed before it removed this")
    step, tensors, notes = load_checkpoint(made)
    assert (step, tensors["w"].tolist(), notes) == (15, [15.0] * 3, [])
    assert [path.name for path in made.checkpoints.paths] == newest


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(tmp_path: Path, damage: str):
    made = Run.at(tmp_path)
    made.append(run.HISTORY, TERMS, rows(1, 12))
    for step in (5, 10):
        save(made, step, step, 300)
    newest = made.checkpoints.paths[0]
    content = bytearray(newest.read_bytes())
    if damage == "flip":
        content[-100] ^= 1
    newest.write_bytes({"flip": bytes(content), "truncate": bytes(content[:-50]), "empty": b""}[damage])
    step, tensors, notes = load_checkpoint(made)
    assert (step, float(tensors["w"][0])) == (5, 5)
    assert len(notes) == 1
    assert newest.name in notes[0]
    save(made, 12)
    assert [path.name[8:14] for path in made.checkpoints.paths] == ["000012", "000005"], "the damaged one is kept"


def test_without_an_intact_checkpoint_the_tables_are_kept_aside(tmp_path: Path, wording: Wording):
    made = Run.at(tmp_path)
    made.append(run.HISTORY, TERMS, rows(1, 12))
    save(made, 10)
    before = (tmp_path / run.HISTORY).read_bytes()
    made.checkpoints.paths[0].write_bytes(b"gone")
    step, _, notes = load_checkpoint(made)
    assert step == 0
    wording(notes[-1])
    assert (tmp_path / "history.csv.before").read_bytes() == before
    assert made.history == {}


# -- the lock ---------------------------------------------------------------------------------------------------------


def test_half_written_files_of_a_killed_process_are_removed(tmp_path: Path):
    made = begin(tmp_path / "run")
    save(made, 1)
    (made.path / "checkpoints" / ".step-000000002.safetensors.abc.part").write_bytes(b"half")
    (made.path / ".model.safetensors.x1.part").write_bytes(b"half")
    (made.path / ".somebody-else.part").write_bytes(b"theirs")
    with made.locked():
        assert [path.name for path in made.path.rglob("*.part")] == [".somebody-else.part"]
    assert len(made.checkpoints.paths) == 1


@pytest.mark.slow
def test_a_second_process_is_refused(tmp_path: Path):
    made = begin(tmp_path / "run")
    other = (
        "import sys; from vaelab.run import Run, RunInUse\n"
        "try:\n    with Run.at(sys.argv[1]).locked(): print('in')\n"
        "except RunInUse: print('refused')"
    )
    command = [sys.executable, "-c", other, made.path]
    with made.locked():
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "refused\n"
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "in\n"


def test_a_start_that_fails_leaves_no_files(tmp_path: Path):
    made = Run.at(tmp_path / "runs" / "new")
    with pytest.raises(ZeroDivisionError), made.locked():
        made.write_json(run.MACHINE, {"recipe": "digits"})
        made.log("warning: it will fail")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    made.path.mkdir(parents=True)
    with pytest.raises(ZeroDivisionError), made.locked():
        raise ZeroDivisionError
    assert list(tmp_path.rglob("*")) == [tmp_path / "runs", made.path], "folders that were there stay"


def test_a_run_that_was_begun_stays_when_it_fails(tmp_path: Path):
    made = Run.at(tmp_path / "new")
    with pytest.raises(ZeroDivisionError), made.locked():
        made.begin(recipe.load("digits"), {"recipe": "digits"})
        raise ZeroDivisionError
    assert {path.name for path in made.path.iterdir()} == {run.RECIPE, run.MACHINE, ".lock"}


@pytest.mark.parametrize("whole", [True, False])
def test_a_run_removed_while_it_trains_is_noticed(tmp_path: Path, whole: bool):
    made = begin(tmp_path / "run")
    with made.locked():
        made.log("fine")
        made.path.rename(tmp_path / "elsewhere") if whole else (made.path / run.RECIPE).unlink()
        with pytest.raises(RunRemoved):
            made.log("lost")


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
@pytest.mark.parametrize("name", [run.RECIPE, run.MODEL, run.HISTORY, "run.log", "figures/losses.png", "cache/x.npz"])
def test_a_pipe_in_place_of_a_file_is_named(tmp_path: Path, name: str):
    made = begin(tmp_path / "run")
    path = made.path / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(NotAFile) as caught:
        Run(made.path)
    assert str(path) in str(caught.value)
    with pytest.raises(NotAFile), made.locked():
        pass


def test_another_recipe_is_refused_with_every_difference(tmp_path: Path, wording: Wording):
    made = begin(tmp_path / "run")
    made.check_same(recipe.load("digits"))
    with pytest.raises(OtherRecipe) as caught:
        made.check_same(recipe.load("digits", {"objective.beta": 4.0, "training.epochs": 3}))
    assert caught.value.subject == made.path
    assert len(caught.value.value) == 2
    wording(caught.value)


def test_a_missing_run_and_an_untrained_one_are_refused(tmp_path: Path, wording: Wording):
    with pytest.raises(FileNotFoundError) as caught:
        Run(tmp_path / "none")
    wording(caught.value)
    with pytest.raises(FileNotFoundError) as caught:
        _ = begin(tmp_path / "run").model_path
    wording(caught.value)


def test_measured_are_means_over_epochs(tmp_path: Path):
    made = Run.at(tmp_path)
    made.append(run.HISTORY, TERMS, rows(1, 24))
    found = made.measured()
    assert found["loss_epoch_1"] == pytest.approx(np.mean([10, 5, 10 / 3, 2.5]))
    assert found["loss_epoch_5"] == pytest.approx(np.mean([10 / step for step in range(17, 21)]))
    assert found["loss_last_five_epochs"] == pytest.approx(np.mean([10 / step for step in range(5, 25)]))
    assert found["kl_at_end"] == pytest.approx(np.mean([1 / step for step in range(22, 25)]))
    assert "loss_epoch_10" not in found
    assert Run.at(tmp_path / "none").measured() == {}


@pytest.mark.parametrize(
    ("steps", "per_epoch", "length", "words"),
    [
        (24, 4, 3, "the last 3 batches"),  # a tenth
        (48, 4, 4, "the last epoch"),
        (49, 4, 4, "the last 4 batches"),  # the last epoch has one batch
        (600, 1875, 60, "the last 60 batches"),  # less than an epoch
        (5, 1, 1, "the last epoch"),
    ],
)
def test_closing_figures_are_means_over_an_epoch_or_a_tenth(
    tmp_path: Path, steps: int, per_epoch: int, length: int, words: str
):
    made = Run.at(tmp_path)
    made.append(run.HISTORY, TERMS, [[s, (s - 1) // per_epoch + 1, 1 / s, 2 / s, 3 / s] for s in range(1, steps + 1)])
    assert made.measured()["loss_at_end"] == pytest.approx(
        np.mean([1 / s for s in range(steps - length + 1, steps + 1)])
    )
    assert made.describe_closing() == words


def test_an_incomplete_epoch_has_no_mean(tmp_path: Path):
    made = Run.at(tmp_path)
    made.append(run.HISTORY, TERMS, [[step, 1, 1, 1, 1] for step in range(1, 601)])
    made.write_json(run.MACHINE, {"steps_per_epoch": 1875})
    assert "loss_epoch_1" not in made.measured()
    made.write_json(run.MACHINE, {"steps_per_epoch": 600})
    assert made.measured()["loss_epoch_1"] == 1


def test_a_json_file_written_again_keeps_its_bytes(tmp_path: Path):
    made = begin(tmp_path / "run")
    measured = {"elbo": -1.5, "protocol": {"samples": 1}, "kl": 2, "measured_on": {"split": "test", "data": "digits"}}
    made.write_json(run.EVALUATION, {"likelihood": measured, "active_units": measured})
    before = (made.path / run.EVALUATION).read_bytes()
    made.write_json(run.EVALUATION, made.evaluation)
    assert (made.path / run.EVALUATION).read_bytes() == before
