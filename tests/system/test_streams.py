"""Commands succeed with closed, broken or full output, other encodings, and file names that are not UTF-8."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typed import TINY, train_small

from vaelab.data.pictures import encode_png
from vaelab.run import Run

DRIVER = """
# prose: ignore
import json, sys
from vaelab import cli
commands, codes = json.loads(sys.argv[1]), []
for words in commands:
    sys.argv = ["vaelab", *words]
    try:
        cli.main()
    except SystemExit as stopped:
        codes.append(stopped.code)
open("codes.json", "w").write(json.dumps(codes))
"""
"""Types several commands in one process, since the import takes longer than most of them."""
POSIX = pytest.mark.skipif(os.name != "posix", reason="descriptors and byte names are those of POSIX")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("runs") / "σ…✓").path


def type_in_process(
    place: Path, commands: list[list[str]], before: str = "", **environment: str
) -> tuple[list[int], subprocess.CompletedProcess[bytes]]:
    """The exit codes of commands, and what their one process wrote; ``before``: redirections of the shell."""
    given = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(place / "cache"), **environment}
    arguments = [sys.executable, "-c", DRIVER, json.dumps(commands)]
    done = subprocess.run(
        ["sh", "-c", f'"$@" {before}', "sh", *arguments], cwd=place, env=given, capture_output=True, check=False
    )
    found = place / "codes.json"
    assert found.is_file(), done.stderr.decode(errors="replace")
    return json.loads(found.read_text()), done


def verbs(run: Path) -> list[list[str]]:
    """Every command that prints, in a form that takes little time."""
    name = str(run)
    return [
        ["recipes"],
        ["recipes", "--json"],
        ["data", "list"],
        ["train", "--help"],
        ["train", "digits", "--dry-run"],
        ["train", "digits", *words_of(TINY), "--run", name],
        ["train", "digits", *words_of(TINY), "--run", name, "--json"],
        ["sample", name],
        ["reconstruct", name],
        ["encode", name],
        ["score", name, "--samples", "1", "--normal", "held-out"],
        ["edit", name, "--attribute", "7"],
        ["evaluate", name, "--metrics", "elbo"],
        ["evaluate", name, "--metrics", "elbo", "--json"],
        ["doctor", name],
        ["doctor", name, "--json"],
        ["compare", name, "--out", "compared"],
        ["report", name],
        ["sweep", "digits", "--over", "objective.beta=1,2", "--dry-run"],
        ["export", name, "--to", "onnx"],
    ]


def words_of(overrides: dict[str, Any]) -> list[str]:
    return [word for key, value in overrides.items() for word in ("--set", f"{key}={value}".replace("'", '"'))]


@pytest.mark.long
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_missing_characters_are_replaced(run: Path, tmp_path: Path, encoding: str) -> None:
    commands = verbs(run)
    if encoding != "ascii":  # which lacks the most
        commands = [words for words in commands if words[0] in ("recipes", "train", "doctor")]
    codes, done = type_in_process(tmp_path, commands, PYTHONIOENCODING=encoding)
    failed = [words[0] for words, code in zip(commands, codes, strict=True) if code]
    assert failed == [], done.stderr
    assert b"Traceback" not in done.stderr
    done.stdout.decode(encoding)
    start = done.stdout.index(b'{\n  "run"')
    found, _ = json.JSONDecoder().raw_decode(done.stdout[start:].decode(encoding))
    assert found["run"] == str(run)


@POSIX
@pytest.mark.parametrize("before", [">&-", "<&- >&- 2>&-"])
@pytest.mark.slow
def test_closed_streams_lose_only_output(run: Path, tmp_path: Path, before: str) -> None:
    commands = [["recipes"], ["--help"], ["doctor", str(run)], ["sample", str(run)], ["no-verb"]]
    codes, done = type_in_process(tmp_path, commands, before)
    assert codes == [0, 0, 0, 0, 2]
    assert done.stdout == b""
    assert b"Traceback" not in done.stderr
    sheet = run.with_name(f"{run.name}-samples.png")
    assert sheet.read_bytes().startswith(b"\x89PNG")  # and nothing that was printed


@POSIX
@pytest.mark.slow
def test_a_broken_pipe_does_not_stop_a_training(tmp_path: Path) -> None:
    commands = [["train", "digits", *words_of(TINY), "--run", "run"], ["recipes"], ["recipes", "--json"]]
    codes, done = type_in_process(tmp_path, commands, "| true")
    assert (codes, done.stderr) == ([0, 0, 0], b"")
    assert Run(tmp_path / "run").is_finished


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full device is Linux's")
@pytest.mark.slow
def test_a_full_disk_of_the_output_is_reported_after_the_work(tmp_path: Path) -> None:
    codes, done = type_in_process(tmp_path, [["train", "digits", *words_of(TINY), "--run", "run"]], "> /dev/full")
    assert codes == [1]
    assert done.stderr.count(b"\n") == 1
    assert Run(tmp_path / "run").is_finished


@POSIX
@pytest.mark.long
def test_names_that_are_not_utf_8_work_in_every_command(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    name, own = os.fsdecode(b"r\xff\xfe"), os.fsdecode(b"own\xee")
    try:
        (tmp_path / own).mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (28, 28, 1), dtype=np.uint8)
        (tmp_path / own / f"{os.fsdecode(bytes([0xDD + i]))}.png").write_bytes(encode_png(pixels))
    train = ["train", "digits", *words_of(TINY), "--run", name]
    commands = [
        train,
        train,
        ["encode", name, own, "--out", f"{own}/codes.csv"],
        ["reconstruct", name, own, "--out", "all/"],
        ["score", name, "--samples", "1"],
        ["edit", name, "--attribute", "7"],
        ["evaluate", name, "--metrics", "elbo"],
        ["doctor", name],
        ["compare", name, "--out", f"{own}/compared"],
        ["export", name, "--to", "onnx"],
    ]
    codes, done = type_in_process(tmp_path, commands)
    assert codes == [0] * len(commands), done.stderr
    notes = done.stderr.splitlines()  # a model of a second is no good at edits
    assert all(note.startswith(b"vaelab: warning: edit by 7") for note in notes), done.stderr
    assert b"\nr\xff\xfe" in done.stdout  # a path is printed as its bytes, for shells to use
    assert name in Run(tmp_path / name).machine["command"]
    assert sorted(path.suffix for path in (tmp_path / "all").iterdir()) == [".png"] * 3
