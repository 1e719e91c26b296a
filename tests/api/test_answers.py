"""Answers about finished runs: given again without torch, and found anew when anything has changed."""

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from inputs import write_pictures
from plugins import install
from typed import TINY, Typed, one_line, train_small

import vaelab
from vaelab.api.answers import answer
from vaelab.run import Run
from vaelab.system.messages import VaelabWarning

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; sys.argv[0] = 'vaelab'; from vaelab.cli import main; main()"
"""A program in which torch cannot be imported."""
COMMANDS = [
    "recipes",
    "recipes mnist",
    "data list",
    "doctor {run}",
    "evaluate {run} --metrics reconstruction",
    "--version",
]
OTHER_DATE = 1_700_000_000


def test_quick_commands_do_without_torch(cli: Typed, trained: Path) -> None:
    for command in COMMANDS:
        words = command.format(run=trained).split()
        code, out, err = cli(*words)
        again = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True)
        assert (again.returncode, again.stdout, again.stderr) == (code, out, err), command
        assert out, command


@pytest.fixture
def ask(cli: Typed, trained: Path, tmp_path: Path) -> Callable[..., int]:
    """Ask about a copy of a run in ``run``, with images in ``images``; return how often the answer was found anew."""
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "images" / "cats").mkdir(parents=True)
    found = []

    def question(
        verb: str = "doctor",
        data: Path | None = Path("images"),
        meanwhile: Callable[[], object] = lambda: None,
        **arguments: object,
    ) -> int:
        def find() -> dict[str, object]:
            found.append(verb)
            meanwhile()
            return {"numbers": [0.1, len(found)], "name that is not UTF-8": "\udcff"}

        answered = answer(Run("run"), verb, arguments, find, data)
        assert answered["numbers"][0] == 0.1
        assert answered["name that is not UTF-8"] == "\udcff"
        return len(found)

    return question


def test_same_question_is_answered_from_the_cache(ask: Callable[..., int]) -> None:
    assert [ask(), ask(), ask()] == [1, 1, 1]
    assert [ask("evaluate"), ask(metrics=["elbo"]), ask(data=None)] == [2, 3, 4]
    assert [ask("evaluate"), ask(metrics=["elbo"]), ask(data=None), ask()] == [4, 4, 4, 4]


@pytest.mark.parametrize("name", ["model.safetensors", "recipe.toml", "history.csv", "doctor.json"])
def test_changed_file_of_the_run(ask: Callable[..., int], name: str) -> None:
    ask()
    path = Path("run", name)
    path.write_bytes(path.read_bytes() + b"\n")
    os.utime(path, (OTHER_DATE, OTHER_DATE))  # found by its content, not by its date
    assert [ask(), ask()] == [2, 2]


def test_files_that_say_nothing_about_the_results(ask: Callable[..., int]) -> None:
    ask()
    for name in ("run.log", ".lock", "notes of the user"):
        with Path("run", name).open("a") as file:
            file.write("a line\n")
    assert ask() == 1


@pytest.mark.parametrize("place", ["images", "images/cats", "images/cats/one.npz"])
def test_changed_images(ask: Callable[..., int], place: str) -> None:
    Path("images/cats/one.npz").touch()
    ask()
    os.utime(place, (OTHER_DATE, OTHER_DATE))
    assert [ask(), ask()] == [2, 2]


@pytest.mark.parametrize("name", ["images/new", "run/history.csv"])
def test_change_while_the_answer_is_found(ask: Callable[..., int], name: str) -> None:
    def change() -> None:
        with Path(name).open("a") as file:
            file.write("\n")

    assert [ask(meanwhile=change), ask(), ask()] == [1, 2, 2]


@pytest.mark.parametrize("members", [{}, {"vaelab.metrics": {"judged": "judged"}}], ids=["torch-fidelity", "member"])
def test_new_package(
    ask: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: dict[str, dict[str, str]]
) -> None:
    ask()
    (tmp_path / "packages").mkdir()
    install(tmp_path / "packages", "judged" if members else "torch_fidelity", {}, members)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    assert [ask(), ask()] == [2, 2]


def test_answers_with_warnings_and_about_unfinished_runs_are_not_kept(ask: Callable[..., int]) -> None:
    for category in (VaelabWarning, FutureWarning):
        with pytest.warns(category, match="^a note$"):
            ask(meanwhile=lambda: warnings.warn("a note", category, stacklevel=2))  # noqa: B023 (called at once)
    Path("run/report.html").unlink()  # finished runs have a report
    assert [ask(), ask()] == [3, 4]


def test_damaged_answer_is_found_anew(ask: Callable[..., int]) -> None:
    ask()
    (path,) = Path(os.environ["XDG_CACHE_HOME"], "vaelab", "answers").iterdir()
    path.write_text(path.read_text().replace("0.1", "0.2"))
    assert [ask(), ask()] == [2, 2]


def test_training_answers_the_doctor(cli: Typed) -> None:
    vaelab.train("digits", {**TINY, "training.steps": 5}, run="run", progress=False)
    program = [sys.executable, "-c", WITHOUT_TORCH, "doctor", "run"]
    quick = subprocess.run(program, capture_output=True, text=True, check=True)
    shutil.rmtree(Path(os.environ["XDG_CACHE_HOME"], "vaelab", "answers"))
    assert (0, quick.stdout, quick.stderr) == cli("doctor", "run")


def test_changed_pictures_are_reported_every_time(cli: Typed) -> None:
    write_pictures(Path("pictures/train/cats"), 8)

    def add_picture(event: vaelab.Event) -> None:
        if isinstance(event, vaelab.Started):
            shutil.copy("pictures/train/cats/000.png", "pictures/train/cats/new.png")

    options = {"data.valid": 2, "data.size": 8, "training.steps": 3, "training.batch_size": 2}
    train_small(Path("run"), options, name="folder", data="pictures", watch=add_picture)
    for _ in range(2):
        assert one_line(cli("doctor", "run")[2]).startswith("warning: ")
    Path("pictures/train/cats/new.png").unlink()
    for _ in range(2):
        assert cli("doctor", "run")[::2] == (0, "")
    shutil.copy("pictures/train/cats/000.png", "pictures/train/cats/001.png")  # the dates of the folders stay
    for words in (["doctor", "run"], ["evaluate", "run", "--metrics", "reconstruction"]):
        assert one_line(cli(*words)[2]).startswith("warning: ")


def test_results_are_written_again(cli: Typed, trained: Path) -> None:
    for words in (["doctor", trained], ["evaluate", trained, "--metrics", "reconstruction"]):
        for _ in range(2):
            assert cli(*words, "--out", "results")[0] == 0
            shutil.rmtree("results")


def test_synonym_is_explained_before_it_cannot_be_measured(cli: Typed, trained: Path) -> None:
    _, _, err = cli("evaluate", trained, "--metrics", "factor_score")
    assert err.count("\n") == 2
    assert err.startswith("vaelab: factor_score is called factorvae")
