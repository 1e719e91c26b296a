"""A run's directory: tables, checkpoints, locks."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vaelab import recipe, run
from vaelab.run import Run
from vaelab.run.checkpoints import list_checkpoints

TERMS = ["step", "epoch", "loss", "reconstruction", "kl"]


def rows(first: int, last: int) -> list[list[float]]:
    return [[step, 1 + (step - 1) // 4, 10.0 / step, 9.0 / step, 1.0 / step] for step in range(first, last + 1)]


def begun(path: Path) -> Run:
    made = Run(path)
    made.path.mkdir(exist_ok=True)
    made.begin(recipe.load("digits"), {"recipe": "digits", "threads": 1})
    return made


def test_tables_read_back_what_was_written_exactly(tmp_path: Path):
    made = Run(tmp_path)
    values = np.random.default_rng(0).standard_normal(50).astype(np.float32) * np.float32(1e3)
    table = [[i + 1, 1, float(value), 2.0, 3.0] for i, value in enumerate(values)]
    made.append(run.HISTORY, TERMS, table[:20])
    made.append(run.HISTORY, TERMS, table[20:])
    assert np.array_equal(made.history["loss"].astype(np.float32), values)
    assert np.array_equal(made.history["step"], np.arange(1, 51))
    assert made.validation == {}


def test_cut_drops_later_rows_and_half_lines(tmp_path: Path):
    made = Run(tmp_path)
    made.append(run.HISTORY, TERMS, rows(1, 10))
    made.append(run.VALIDATION, [*TERMS, "elbo"], [[4, 1, 3.0, 2.0, 1.0, -1.0], [8, 2, 3.0, 2.0, 1.0, -2.0]])
    made.append(
        run.TIMING, ["step", "seconds", "images_per_second"], [[step, step / 10, 80.0] for step in range(1, 11)]
    )
    before = (tmp_path / run.HISTORY).read_text()
    with (tmp_path / run.HISTORY).open("a") as file:
        file.write("11,3,0.9")
    assert made.mend_tables(10) == []
    assert (tmp_path / run.HISTORY).read_text() == before
    assert made.mend_tables(6) == []
    assert made.history["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert made.validation["step"].tolist() == [4]
    assert made.mend_tables(0) == []
    assert made.history == {}
    assert not (tmp_path / run.HISTORY).exists()


def test_a_half_line_that_looks_whole_in_columns_is_dropped(tmp_path: Path):
    made = Run(tmp_path)
    made.append(run.HISTORY, TERMS, rows(1, 3))
    with (tmp_path / run.HISTORY).open("a") as file:
        file.write("4,1,2.5,2.25,0.2")  # its last number was cut, its end of line never came
    made.mend_tables(3)
    assert made.history["step"].tolist() == [1, 2, 3]


def test_a_checkpoint_that_the_history_does_not_reach_is_set_aside(tmp_path: Path):
    made = Run(tmp_path)
    made.append(run.HISTORY, TERMS, rows(1, 7))
    for step in (5, 10):
        made.save_checkpoint(step, {"w": torch.zeros(3)})
    step, _, notes = made.load_checkpoint()
    assert step == 5
    assert "step-000000010" in notes[0]
    assert "history.csv" in notes[0]


def test_the_two_newest_checkpoints_stay(tmp_path: Path):
    made = Run(tmp_path)
    for step in (5, 10, 15):
        made.save_checkpoint(step, {"w": torch.full((3,), float(step))})
    made.append(run.HISTORY, TERMS, rows(1, 15))
    folder = made.path / run.CHECKPOINTS
    newest = ["step-000000015.safetensors", "step-000000010.safetensors"]
    assert [path.name for path in list_checkpoints(folder)] == newest
    (folder / "step-000000005.safetensors").write_bytes(b"left by a process that was killed before it removed this")
    step, tensors, notes = made.load_checkpoint()
    assert (step, tensors["w"].tolist(), notes) == (15, [15.0] * 3, [])
    assert [path.name for path in list_checkpoints(folder)] == newest


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(tmp_path: Path, damage: str):
    made = Run(tmp_path)
    made.append(run.HISTORY, TERMS, rows(1, 12))
    for step in (5, 10):
        made.save_checkpoint(step, {"w": torch.full((300,), float(step))})
    newest = list_checkpoints(made.path / run.CHECKPOINTS)[0]
    content = bytearray(newest.read_bytes())
    if damage == "flip":
        content[-100] ^= 1
    newest.write_bytes({"flip": bytes(content), "truncate": bytes(content[:-50]), "empty": b""}[damage])
    step, tensors, notes = made.load_checkpoint()
    assert step == 5
    assert tensors["w"][0] == 5
    assert len(notes) == 1
    assert newest.name in notes[0]
    assert notes[0].endswith("set aside")
    made.save_checkpoint(12, {"w": torch.zeros(3)})
    assert [path.name[8:14] for path in list_checkpoints(made.path / run.CHECKPOINTS)] == ["000012", "000005"], (
        "the damaged one took no place"
    )


def test_without_an_intact_checkpoint_the_tables_are_kept_aside(tmp_path: Path):
    made = Run(tmp_path)
    made.append(run.HISTORY, TERMS, rows(1, 12))
    made.save_checkpoint(10, {"w": torch.zeros(3)})
    before = (tmp_path / run.HISTORY).read_bytes()
    list_checkpoints(made.path / run.CHECKPOINTS)[0].write_bytes(b"gone")
    step, _, notes = made.load_checkpoint()
    assert step == 0
    assert "no checkpoint is left: begins again" in notes[-1]
    assert (tmp_path / "history.csv.before").read_bytes() == before
    assert made.history == {}


def test_what_a_killed_process_was_writing_is_cleared_away(tmp_path: Path):
    made = begun(tmp_path / "run")
    made.save_checkpoint(1, {"w": torch.zeros(3)})
    partial = made.path / "checkpoints" / ".step-000000002.safetensors.abc.part"
    partial.write_bytes(b"half")
    (made.path / ".model.safetensors.x1.part").write_bytes(b"half")
    (made.path / ".somebody-else.part").write_bytes(b"theirs")
    with made.locked():
        assert [path.name for path in made.path.rglob("*.part")] == [".somebody-else.part"]
    assert len(list_checkpoints(made.path / run.CHECKPOINTS)) == 1


def test_a_second_process_is_refused(tmp_path: Path):
    made = begun(tmp_path / "run")
    other = (
        "import sys; from vaelab.run import Run, RunInUse\n"
        "try:\n    with Run(sys.argv[1]).locked(): print('in')\n"
        "except RunInUse as error: print(error)"
    )
    with made.locked():
        refused = subprocess.run([sys.executable, "-c", other, made.path], capture_output=True, text=True, check=True)
    allowed = subprocess.run([sys.executable, "-c", other, made.path], capture_output=True, text=True, check=True)
    assert "another process is training this run" in refused.stdout
    assert allowed.stdout == "in\n"


def test_another_recipe_is_refused_with_every_difference(tmp_path: Path):
    made = begun(tmp_path / "run")
    made.check_same(recipe.load("digits"))
    with pytest.raises(run.OtherRecipe) as caught:
        made.check_same(recipe.load("digits", {"objective.beta": 4.0, "training.epochs": 3}))
    assert "objective.beta: 1.0 there, 4.0 now" in str(caught.value)
    assert "training.epochs: 60 there, 3 now" in str(caught.value)


def test_what_does_not_exist_says_how_to_make_it(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"no run here .* vaelab train RECIPE --run"):
        Run.open(tmp_path)
    with pytest.raises(FileNotFoundError, match="not trained to the end yet"):
        _ = begun(tmp_path / "run").model_path


def test_measured_are_means_over_epochs(tmp_path: Path):
    made = Run(tmp_path)
    made.append(run.HISTORY, TERMS, rows(1, 24))
    found = made.measured()
    assert found["loss_epoch_1"] == pytest.approx(np.mean([10, 5, 10 / 3, 2.5]))
    assert found["loss_epoch_5"] == pytest.approx(np.mean([10 / step for step in range(17, 21)]))
    assert found["loss_last_five_epochs"] == pytest.approx(np.mean([10 / step for step in range(5, 25)]))
    assert found["kl_last_epoch"] == pytest.approx(np.mean([1 / step for step in range(21, 25)]))
    assert "loss_epoch_10" not in found
    assert Run(tmp_path / "none").measured() == {}


def test_a_json_file_that_is_written_again_is_the_same_file(tmp_path: Path):
    made = begun(tmp_path / "run")
    measured = {"elbo": -1.5, "protocol": {"samples": 1}, "kl": 2, "measured_on": {"split": "test", "data": "digits"}}
    made.write_json(run.EVALUATION, {"likelihood": measured, "active_units": measured})
    before = (made.path / run.EVALUATION).read_bytes()
    made.write_json(run.EVALUATION, made.evaluation)
    assert (made.path / run.EVALUATION).read_bytes() == before
