"""Errors, exit codes, options of all commands and help."""

import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typed import TINY_WORDS, Typed, one_line

MISTAKES = [
    (["train", "mnits"], 2),
    (["train", "none.toml"], 2),
    (["train", "digits", "--set", "training.epoch=2"], 2),
    (["train", "digits", "--set", "training.epochs=two"], 2),
    (["train", "digits", "--set", "objective.beta=-1"], 2),
    (["train", "digits", "--set", "objective.name=bta"], 2),
    (["train", "digits", "--set", "objective.name=elbo", "--set", "objective.beta=2"], 2),
    (["train", "digits", "--set", "epochs=2"], 2),
    (["train", "digits", "--epochs", "2", "--set", "training.epochs=3"], 2),
    (["train", "digits", "--epochs", "2", "--steps", "3"], 2),
    (["train", "digits", "--epochs", "two"], 2),
    (["train", "mnist-nll", "--set", "beta=4"], 2),
    (["train", "mnist-nll", "--beta", "4"], 2),
    (["train", "digits", "--learning_rate", "4"], 2),
    (["train", "digits", "--set", "training.epochs"], 2),
    (["train", "digits", "--set", "training.figures=[\"loses\"]"], 2),
    (["train", "digits", "--set", "data.binarize=dynamc"], 2),
    (["train", "digits", "--set", "data.valid=2000"], 2),
    (["train", "mnist", "--data", "nowhere"], 1),
    (["train", "mnist", "--data", "."], 1),
    (["train"], 2),
    (["trian"], 2),
    (["data", "lst"], 2),
    (["help", "trian"], 2),
    (["sample", "nowhere"], 1),
    (["evaluate", "nowhere"], 1),
    (["data", "get", "mnits"], 2),
    (["data", "check", "nowhere"], 1),
]  # fmt: skip
WORDS = [
    (("--set", "lr=0.1"), "training.learning_rate"),
    (("--set", "beta=4"), "objective.beta"),
    (("--set", "latents=4"), "network.latent_dim"),
    (("--set", "training.lr=0.1"), "learning_rate"),
    (("--set", "training.epochs=many"), "auto"),
    (("--set", "data.size=57x91"), "[57, 91]"),
    (("--set", "data.size=57X91"), "[57, 91]"),
    (("--set", "data.size=4"), "8"),
    (("--set", "data.channels=gray"), "grey"),
    (("--device", "gpu"), "cpu"),
    (("--device", "mps"), "cpu"),
    (("--device", "cuda:77"), "cpu"),
    (("--device", "meta"), "cpu"),
]
"""Wrong options and the valid word that the error names."""


@pytest.mark.parametrize(("words", "code"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_mistakes_are_one_line_with_an_exit_code(
    cli: Typed, words: list[str], code: int, wording: Callable[[object], None]
) -> None:
    found, out, err = cli(*words)
    assert (found, out) == (code, ""), err
    wording(one_line(err))


@pytest.mark.parametrize(("words", "expected"), WORDS)
def test_errors_name_the_valid_word(cli: Typed, tmp_path: Path, words: tuple[str, str], expected: str) -> None:
    code, out, err = cli("train", "folder", "--data", tmp_path, *words)
    assert (code, out) == (2, "")
    assert expected in one_line(err)
    assert len(err) < 400


def test_the_device_is_checked_for_a_finished_run(cli: Typed, trained: Path) -> None:
    for device, code in (("gpu", 2), ("mps", 2), ("cpu", 0)):
        assert cli("train", "digits", *TINY_WORDS, "--run", trained, "--device", device)[0] == code


@pytest.mark.parametrize("device", ["gpu", "cuda:77"])
def test_evaluate_takes_a_device(cli: Typed, trained: Path, device: str) -> None:
    assert cli("evaluate", trained, "--metrics", "active_units", "--device", "cpu", "--json")[0] == 0
    code, out, err = cli("evaluate", trained, "--device", device)
    assert (code, out) == (2, "")
    assert "cpu" in one_line(err)


def test_the_module_names_a_command_as_the_script_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vaelab", "evaluate", "x", "--devise", "cpu"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert one_line(done.stderr).endswith("vaelab help evaluate")


def test_debug_shows_a_traceback(cli: Typed) -> None:
    for words in (("sample", "nowhere", "--debug"), ("--debug", "sample", "nowhere")):
        code, _, err = cli(*words)
        assert (code, "Traceback" in err) == (1, True)


def test_memory_that_cannot_exist_is_one_line(cli: Typed, trained: Path, wording: Callable[[object], None]) -> None:
    code, out, err = cli("sample", trained, "-n", 10**12)
    assert (code, out) == (1, "")
    wording(one_line(err))


def test_help_of_every_command_has_an_example(cli: Typed) -> None:
    code, out, _ = cli("--help")
    assert code == 0
    verbs = ("recipes", "train", "figures", "report", "evaluate", "doctor", "compare", "sweep", "sample",
             "reconstruct", "encode", "score", "edit", "explore", "export")  # fmt: skip
    assert all(verb in out for verb in (*verbs, "data"))
    for words in (*((verb,) for verb in verbs), *(("data", verb) for verb in ("list", "get", "check", "cache"))):
        code, out, _ = cli(*words, "--help")
        assert (code, "Example" in out) == (0, True)


def test_help_verb_shows_the_help_of_a_verb(cli: Typed) -> None:
    assert cli("help", "data", "list") == cli("data", "list", "--help")
    assert cli("help") == cli("--help")


@pytest.mark.parametrize("width", [60, 80])
def test_help_fits_the_terminal_and_examples_keep_their_lines(
    cli: Typed, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = cli("help", "train")[1].splitlines()
    assert max(map(len, lines)) <= width
    assert "   vaelab train mnist --beta 4 --epochs 5" in map(str.rstrip, lines)


def test_help_keeps_defaults_and_environment_variables(cli: Typed) -> None:
    text = " ".join(cli("train", "--help")[1].replace("│", " ").split())
    assert "(default: $VAELAB_DATA, then the cache)" in text


def test_version_is_printed(cli: Typed) -> None:
    assert cli("--version") == (0, "0.1.0\n", "")


def test_a_bug_report_gets_versions_and_devices(cli: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VAELAB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    code, out, _ = cli("--version", "--verbose")
    found = dict(line.split(": ", 1) for line in out.splitlines())
    assert (code, found["vaelab"], found["python"]) == (0, "0.1.0", platform.python_version())
    assert {"torch", "numpy", "devices", "CUDA of torch", "onnx"} <= found.keys()
    assert (found["VAELAB_DATA"], "pytest" in found) == (str(Path("~/data")), False)
    assert cli("--verbose")[0] == 2


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("tr", {"train"}), ("train dig", {"digits"}), ("train --ep", {"--epochs"}), ("doctor ru", {"runs/one"})],
)
def test_the_shell_completes_verbs_options_recipes_and_runs(
    cli: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, typed: str, expected: set[str]
) -> None:
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "recipe.toml").touch()
    words = f"vaelab {typed}"
    for name, value in (("", "complete_bash"), ("COMP_WORDS", words), ("COMP_CWORD", str(words.count(" ")))):
        monkeypatch.setenv(name or "_VAELAB_COMPLETE", value)
    assert set(cli()[1].split()) == expected


def test_the_command_line_starts_without_large_imports() -> None:
    check = "import sys, vaelab, vaelab.cli; print([m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("value", ["soon", ""])
def test_a_wrong_interval_of_progress_is_refused(
    cli: Typed, trained: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("VAELAB_PROGRESS_SECONDS", value)
    code, _, err = cli("train", "digits", *TINY_WORDS, "--run", trained)
    assert (code, "VAELAB_PROGRESS_SECONDS" in one_line(err)) == (2, True)
