"""Damaged runs: every command works, or says in one line which file is wrong and what to do."""

import json
import random
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from typed import TINY, TINY_WORDS, Typed, train_small

import vaelab
from vaelab.evaluation import doctor
from vaelab.evaluation.metrics import elbo
from vaelab.figures import losses
from vaelab.models.codes import ACTIVE_KL
from vaelab.run import OtherRecipe, Run, RunRemoved
from vaelab.system.files import DamagedFile
from vaelab.training import loop as training

pytestmark = pytest.mark.slow
JSON_FILES = ("machine.json", "evaluation.json", "doctor.json")
TABLES = ("history.csv", "timing.csv", "validation.csv")
FILES = (*JSON_FILES, *TABLES, "recipe.toml", "model.safetensors", "run.log", "figures/losses.png")
SETTINGS = {**TINY, "training.checkpoint_every": 20, "training.validate_every": 15}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with one figure."""
    run = train_small(tmp_path_factory.mktemp("damage") / "run", SETTINGS)
    vaelab.draw_figures(run.path, names=["losses"])
    return run.path


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def train(path: Path) -> Run:
    return train_small(path, SETTINGS)


VERBS: dict[str, Callable[[Path], Any]] = {
    "train": train,
    "report": vaelab.report,
    "evaluate": lambda path: vaelab.evaluate(path, metrics=["elbo", "active_units"]),
    "doctor": vaelab.doctor,
    "figures": lambda path: vaelab.draw_figures(path, names=["norms"]),
    "compare": lambda path: vaelab.compare([path], out=path.parent / "compared", overwrite=True),
    "sample": lambda path: vaelab.sample(path, count=1, out=path.parent / "sample.png", overwrite=True),
}


def try_verb(verb: str, path: Path) -> str:
    """The message of the error that a command ends with; empty if it ends well. Only documented errors may come."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            VERBS[verb](path)
        except (ValueError, OSError, RuntimeError) as error:
            found = error
        else:
            return ""
    assert type(found).__module__.startswith("vaelab") or isinstance(found, OSError), repr(found)
    return str(found)


# -- JSON files -------------------------------------------------------------------------------------------------------

WRONG_JSON = ("", "[]", "null", "3", '"text"', "{", "{}x", '{"a": 1}', "[" * 100_000, "\x00" * 50, "\udcff")


@pytest.mark.parametrize("name", JSON_FILES)
@pytest.mark.parametrize("content", WRONG_JSON, ids=range(len(WRONG_JSON)))
def test_json_of_the_wrong_shape_is_named_with_a_remedy(run: Path, name: str, content: str):
    (run / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    reader = {"machine.json": "machine", "evaluation.json": "evaluation", "doctor.json": "findings"}[name]
    if content == '{"a": 1}' and name != "evaluation.json":
        getattr(Run(run), reader)  # an unknown key does no harm
        return
    with pytest.raises(DamagedFile) as caught:
        getattr(Run(run), reader)
    assert caught.value.path == run / name
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("machine.json", {"threads": "two"}),
        ("machine.json", {"threads": 0}),
        ("machine.json", {"precision": "fp64"}),
        ("machine.json", {"notes": "one"}),
        ("machine.json", {"data_dir": 3}),
        ("evaluation.json", {"elbo": None}),
        ("evaluation.json", {"elbo": {"elbo": 1.0}}),
        ("evaluation.json", {"elbo": {"elbo": 1.0, "measured_on": [], "protocol": {}}}),
        ("doctor.json", {"findings": {}}),
        ("doctor.json", {"findings": [{"name": "latents"}]}),
        ("doctor.json", {"findings": [{"name": "latents", "level": "bad", "found": "x"}]}),
    ],
)
def test_values_of_the_wrong_type_are_named(run: Path, name: str, content: Any):
    (run / name).write_text(json.dumps(content))
    assert [error.path.name for error in Run(run).find_damage()] == [name]


@pytest.mark.parametrize("name", ["evaluation.json", "doctor.json"])
def test_a_report_does_without_a_damaged_file_and_says_so(run: Path, name: str):
    (run / name).write_text("[]")
    with pytest.warns(UserWarning, match=name):
        vaelab.report(run)
    assert f"{name} is damaged" in (run / "report.html").read_text()


def test_the_doctor_finds_damaged_files(run: Path):
    (run / "history.csv").write_text("step,epoch\n")
    found = vaelab.doctor(run)
    assert (found[0].name, found[0].level) == ("file history.csv", "problem")
    assert found[0].advice


# -- fuzz -------------------------------------------------------------------------------------------------------------


def mutate(content: bytes, how: str, seed: int) -> bytes | None:
    """The content with one kind of damage; None for a file that is removed."""
    chosen = random.Random(seed)
    place = chosen.randrange(len(content)) if content else 0
    mutants: dict[str, Callable[[], bytes | None]] = {
        "removed": lambda: None,
        "empty": lambda: b"",
        "cut": lambda: content[:place],
        "zeros": lambda: content[:place] + bytes(min(64, len(content) - place)) + content[place + 64 :],
        "flipped": lambda: content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :],
        "head": lambda: content.partition(b"\n")[0] + b"\n",
        "line lost": lambda: b"".join(line for i, line in enumerate(content.splitlines(True)) if i != 2),
        "line twice": lambda: b"".join(line * (1 + (i == 2)) for i, line in enumerate(content.splitlines(True))),
        "words": lambda: content.replace(b"1", b"one"),
        "random": lambda: chosen.randbytes(200),
        "values": lambda: content.replace(b": ", b": [], ", 1).replace(b"[], ", b"null, "),
    }
    return mutants[how]()


HOW = ("removed", "empty", "cut", "zeros", "flipped", "words", "random", "values", "head", "line lost", "line twice")


@settings(max_examples=40, phases=[Phase.generate])
@given(
    name=st.sampled_from(FILES),
    how=st.sampled_from(HOW),
    seed=st.integers(0, 1000),
    verb=st.sampled_from([verb for verb in VERBS if verb != "train"]),
)
@pytest.mark.long
def test_a_verb_on_a_damaged_run_ends_well_or_with_one_clear_line(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, name: str, how: str, seed: int, verb: str
):
    path = Path(shutil.copytree(whole, tmp_path_factory.mktemp("fuzz") / "run"))
    damage(path / name, how, seed)
    message = try_verb(verb, path)
    assert not message or path.name in message or name in message, message
    shutil.rmtree(path.parent)


def damage(path: Path, how: str, seed: int) -> None:
    """Damage a file in place."""
    content = mutate(path.read_bytes(), how, seed)
    path.unlink()
    if content is not None:
        path.write_bytes(content)


@settings(max_examples=15, phases=[Phase.generate])
@given(name=st.sampled_from(FILES), how=st.sampled_from(HOW), seed=st.integers(0, 1000), is_finished=st.booleans())
def test_training_goes_on_with_a_damaged_run_or_says_why_not(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, name: str, how: str, seed: int, *, is_finished: bool
):
    path = Path(shutil.copytree(whole, tmp_path_factory.mktemp("fuzz") / "run"))
    damage(path / name, how, seed)
    if not is_finished and name != "model.safetensors":
        (path / "model.safetensors").unlink()
    if not try_verb("train", path):
        assert Run(path).is_finished
        vaelab.load(path)
        if name in ("history.csv", "validation.csv") and not is_finished:
            is_same = (path / name).exists() and (path / name).read_bytes() == (whole / name).read_bytes()
            assert is_same or any(name in warning for warning in Run(path).warnings)
    shutil.rmtree(path.parent)


# -- going on ---------------------------------------------------------------------------------------------------------


def unfinish(path: Path) -> None:
    """As if the training had been killed after its last checkpoint."""
    (path / "model.safetensors").unlink()


def drop_line(path: Path, number: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for i, line in enumerate(lines) if i != number))


def test_a_row_that_is_missing_sends_the_training_back_to_where_the_table_is_whole(run: Path, whole: Path):
    unfinish(run)
    drop_line(run / "history.csv", 50)  # steps 40 and 60 have checkpoints
    with pytest.warns(UserWarning, match="step-000000060"):
        train(run)
    for name in ("history.csv", "validation.csv", "model.safetensors"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("how", ["line", "zeros", "twice", "words"])
def test_rows_that_cannot_be_made_again_are_counted_and_the_table_is_kept(run: Path, whole: Path, how: str):
    unfinish(run)
    table = run / "history.csv"
    lines = table.read_bytes().splitlines(keepends=True)
    lines[30] = {
        "line": b"",
        "zeros": bytes(len(lines[30]) - 1) + b"\n",
        "twice": lines[29],
        "words": b"30,2,a,b,c,d\n",
    }[how]
    table.write_bytes(b"".join(lines))
    damaged = table.read_bytes()
    with pytest.warns(UserWarning, match=r"history\.csv"):
        train(run)
    assert (run / "history.csv.damaged").read_bytes() == damaged
    expected = (whole / "history.csv").read_bytes().splitlines()
    del expected[30]
    assert table.read_bytes().splitlines() == expected
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    report = (run / "report.html").read_text()
    assert "history.csv.damaged" in report


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_was_removed_is_missed(run: Path, name: str):
    unfinish(run)
    (run / name).unlink()
    with pytest.warns(UserWarning, match=name):
        train(run)
    assert any(name in warning for warning in Run(run).warnings)


def test_without_checkpoints_the_run_begins_again_and_keeps_its_tables(run: Path, whole: Path):
    unfinish(run)
    shutil.rmtree(run / "checkpoints")
    with pytest.warns(UserWarning, match=r"history\.csv\.before"):
        train(run)
    for name in ("history.csv", "validation.csv", "model.safetensors"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
    assert (run / "history.csv.before").read_bytes() == (whole / "history.csv").read_bytes()


def test_checkpoints_of_another_run_are_set_aside(run: Path, whole: Path, tmp_path: Path):
    other = train_small(tmp_path / "other", {**SETTINGS, "training.seed": 7}).path
    wider = train_small(tmp_path / "wider", {**SETTINGS, "network.latent_dim": 5}).path
    unfinish(run)
    newest, before = sorted((run / "checkpoints").glob("step-*.safetensors"), reverse=True)
    shutil.copy(other / "checkpoints" / newest.name, newest)
    shutil.copy(wider / "checkpoints" / before.name, before)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(run)
    text = " ".join(str(warning.message) for warning in caught)
    assert "training.seed" in text
    assert "network.latent_dim" in text
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert len(list((run / "checkpoints").glob("*.damaged"))) == 2


# -- weights of another run -------------------------------------------------------------------------------------------


def test_the_model_of_another_run_is_refused_and_made_again_by_training(run: Path, whole: Path, tmp_path: Path):
    other = train_small(tmp_path / "other", {**SETTINGS, "network.latent_dim": 5}).path
    shutil.copy(other / "model.safetensors", run / "model.safetensors")
    with pytest.raises(OtherRecipe, match=r"network.latent_dim"):
        vaelab.load(run)
    for verb in ("evaluate", "sample", "report", "compare"):
        assert "network.latent_dim" in try_verb(verb, run)
    with pytest.warns(UserWarning, match=r"model\.safetensors\.damaged"):
        train(run)
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert (run / "model.safetensors.damaged").read_bytes() == (other / "model.safetensors").read_bytes()
    assert Run(run).is_finished


@pytest.mark.parametrize("content", [b"", b"x" * 100])
def test_a_model_that_is_no_model_is_not_done(run: Path, whole: Path, content: bytes):
    (run / "model.safetensors").write_bytes(content)
    with pytest.raises(DamagedFile):
        vaelab.load(run)
    with pytest.warns(UserWarning, match=r"model\.safetensors"):
        train(run)
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


# -- what comes after training ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["report.html", "evaluation.json", "doctor.json", "figures/losses.png"])
def test_what_is_missing_is_made_again_by_the_same_command(cli: Typed, tmp_path: Path, name: str):
    words = ["train", "digits", *TINY_WORDS, "--set", 'training.figures=["losses"]', "--run", "run"]
    assert cli(*words)[0] == 0
    path = tmp_path / "run" / name
    before = json.loads((tmp_path / "run" / "machine.json").read_text())
    path.unlink()
    assert not Run.at(tmp_path / "run").is_finished
    code, _, err = cli(*words)
    assert (code, err) == (0, "")
    assert path.stat().st_size > 0
    assert Run(tmp_path / "run").is_finished
    assert json.loads((tmp_path / "run" / "machine.json").read_text())["figures"] == before["figures"] == ["losses"]


def test_the_mark_finished_comes_last(run: Path, whole: Path):
    machine = json.loads((run / "machine.json").read_text())
    assert machine["finished"] in (run / "report.html").read_text()
    made = [(whole / name).stat().st_mtime_ns for name in ("evaluation.json", "doctor.json", "machine.json")]
    assert made == sorted(made)


def fail(*_: object, **__: object) -> None:
    raise KeyError("a thing\nthat is missing")


def test_a_figure_a_metric_and_a_check_that_fail_are_named_and_the_run_is_finished(
    cli: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(losses, "draw", fail)
    monkeypatch.setattr(elbo, "METRIC", replace(elbo.METRIC, measure=fail))
    monkeypatch.setitem(doctor.CHECKS, "fail", doctor.Check(fail, 0, {}, lambda _: True))
    words = [*TINY_WORDS, "--set", 'training.figures=["losses"]']
    code, out, err = cli("train", "digits", *words, "--run", "run")
    assert (code, err) == (0, "")
    run = Run(tmp_path / "run")
    assert run.is_finished
    report = (run.path / "report.html").read_text()
    for what in ("figure losses", "metric elbo", "check fail"):
        assert any(what in warning and "KeyError" in warning for warning in run.warnings)
        assert what in out
        assert what in report
    assert cli("evaluate", "run", "--metrics", "elbo,active_units")[0] == 1
    assert "active_units" in run.evaluation
    assert cli("figures", "run", "--only", "losses,norms")[0] == 1
    assert "norms" in run.figures
    monkeypatch.undo()


# -- a directory that goes away ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["removed", "emptied", "moved"])
def test_a_run_that_is_removed_while_it_trains_is_noticed_at_once(tmp_path: Path, how: str):
    path, seen = tmp_path / "run", []

    def watch(event: vaelab.Event) -> None:
        if isinstance(event, training.ProgressRecord):
            seen.append(event.step)
            if len(seen) == 2:
                if how == "removed":
                    shutil.rmtree(path)
                elif how == "moved":
                    path.rename(tmp_path / "elsewhere")
                else:
                    for child in path.iterdir():
                        if not child.name.startswith("."):
                            shutil.rmtree(child) if child.is_dir() else child.unlink()

    with pytest.raises(RunRemoved):
        vaelab.train("digits", {**TINY, "training.steps": 5000}, run=path, watch=watch)
    assert len(seen) == 2
    assert how == "emptied" or not path.exists()


# -- alarms that were false -------------------------------------------------------------------------------------------


SILENT_AT_FIRST = {"network.hidden": [16, 16, 16], "training.seed": 8, "training.validate_every": 1}
"""With this seed neither latent carries 0.01 nats before the training."""


def test_a_warning_of_collapse_is_withdrawn_when_a_latent_is_used_again(tmp_path: Path):
    settings = {**TINY, **SILENT_AT_FIRST, "objective.name": "beta", "objective.beta": 0.0}
    with pytest.warns(UserWarning, match="posterior collapse"):
        run = train_small(tmp_path / "run", settings)
    assert max(run.validation["kl_1"][-1], run.validation["kl_2"][-1]) > ACTIVE_KL
    log = (run.path / "run.log").read_text()
    assert "warning: posterior collapse" in log
    assert "withdrawn: posterior collapse" in log
    assert not any("collapse" in warning for warning in run.warnings)
    assert "Warning: posterior collapse" not in (run.path / "report.html").read_text()


def test_the_gap_of_a_capacity_is_no_latent(tmp_path: Path):
    settings = {"objective.name": "capacity", "objective.gamma": 0.0, "objective.warmup_steps": 1}
    settings |= {**SILENT_AT_FIRST, "training.learning_rate": 1e-9, "training.steps": 3}
    with pytest.warns(UserWarning, match="posterior collapse"):
        run = train_small(tmp_path / "run", {**TINY, **settings})
    assert run.validation["kl_gap"][-1] > 1
    assert any("posterior collapse" in warning for warning in run.warnings)
