"""Answers about finished runs: given again without torch, and found anew when anything has changed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typed import TINY, Typed

import vaelab
from vaelab.api.answers import answer
from vaelab.run import Run
from vaelab.system.messages import VaelabWarning, warn

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

    def question(verb: str = "doctor", data: Path | None = Path("images"), note: str = "", **arguments: object) -> int:
        def find() -> dict[str, list[float]]:
            found.append(verb)
            if note:
                warn(note)
            return {"numbers": [0.1, len(found)]}

        answered = answer(Run("run"), verb, arguments, find, data)
        assert answered["numbers"][0] == 0.1
        return len(found)

    return question


def test_same_question_is_answered_from_the_cache(ask: Callable[..., int]) -> None:
    assert [ask(), ask(), ask()] == [1, 1, 1]
    assert [ask("evaluate"), ask(metrics=["elbo"]), ask(data=None)] == [2, 3, 4]
    assert [ask("evaluate"), ask(metrics=["elbo"]), ask(data=None), ask()] == [4, 4, 4, 4]


@pytest.mark.parametrize(
    "name", ["model.safetensors", "recipe.toml", "history.csv", "doctor.json", "report.html", "new"]
)
def test_changed_file_of_the_run(ask: Callable[..., int], name: str) -> None:
    ask()
    path = Path("run", name)
    content, date = path.read_bytes() if path.exists() else b"", 1_700_000_000
    path.write_bytes(content + b"\n")
    os.utime(path, (date, date))  # found by its content, not by its date
    assert [ask(), ask()] == [2, 2]


def test_files_that_say_nothing_about_the_results(ask: Callable[..., int]) -> None:
    ask()
    for name in ("run.log", ".lock"):
        with Path("run", name).open("a") as file:
            file.write("a line\n")
    assert ask() == 1


def test_changed_folder_of_images(ask: Callable[..., int]) -> None:
    ask()
    for place in ("images", "images/cats"):
        os.utime(place, (1_700_000_000, 1_700_000_000))
        assert ask() == ask()
    assert ask() == 3


def test_other_version_of_the_code(ask: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    ask()
    monkeypatch.setattr("vaelab.api.answers.version", lambda name: f"{name} 99")
    assert ask() == 2


def test_answers_with_warnings_and_about_unfinished_runs_are_not_kept(ask: Callable[..., int]) -> None:
    for _ in range(2):
        with pytest.warns(VaelabWarning, match="^a note$"):
            ask(note="a note")
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
