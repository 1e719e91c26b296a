"""Runs that cannot be written to: results go elsewhere, and messages say how."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typed import TINY_WORDS, Typed, train_small

import vaelab

WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"]
"""Root writes where nobody may; without these capabilities it does not."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("trained") / "run").path


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_results_go_to_another_directory_and_the_run_stays_as_it_is(cli: Typed, trained: Path, tmp_path: Path):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    before = files(run)
    assert cli("evaluate", "run", "--metrics", "active_units", "--out", "results")[0] == 0
    assert cli("doctor", "run", "--out", "results")[0] == 0
    assert cli("figures", "run", "--only", "losses", "--out", "results")[0] == 0
    code, out, _ = cli("report", "run", "--out", "results")
    assert (code, out) == (0, f"{Path('results/report.html')}\n")
    assert files(run) == before
    results = files(tmp_path / "results")
    assert {"evaluation.json", "doctor.json", "figures/losses.png", "report.html", "source.json"} <= results.keys()
    assert {"elbo", "active_units"} <= json.loads(results["evaluation.json"]).keys()
    page = results["report.html"].decode()
    assert "active units" in page
    assert "data:image/" in page


def test_results_of_another_run_and_other_things_are_left_alone(cli: Typed, trained: Path, tmp_path: Path):
    other = train_small(tmp_path / "other", {"training.seed": 5}).path
    assert cli("report", trained, "--out", "results")[0] == 0
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = files(tmp_path)
    for verb, out in (("report", "results"), ("doctor", "full"), ("evaluate", "file"), ("figures", other)):
        code, _, err = cli(verb, other if out == "results" else trained, "--out", out)
        assert (code, err.count("\n")) == (1, 1)
        assert "--out" in err
    assert files(tmp_path) == before


@pytest.mark.slow
def test_a_run_without_write_permission(cli: Typed, trained: Path, tmp_path: Path):
    if os.name != "posix" or (os.geteuid() == 0 and not shutil.which("setpriv")):
        pytest.skip("permissions mean nothing to this user")
    run = Path(shutil.copytree(trained, tmp_path / "one", ignore=shutil.ignore_patterns("cache")))
    assert cli("doctor", "one")[0] == 0  # the answer is kept and not given when the run is read-only
    shutil.rmtree(run / "cache")
    for path in (run, *run.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    script = tmp_path / "script.py"
    script.write_text(
        "import contextlib, io, json, sys\n"
        "from vaelab import cli\n"
        "for line in open('commands.txt'):\n"
        "    sys.argv, out, err = ['vaelab', *line.split()], io.StringIO(), io.StringIO()\n"
        "    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):\n"
        "        try:\n"
        "            cli.main()\n"
        "        except SystemExit as stopped:\n"
        "            code = stopped.code\n"
        "    text = err.getvalue()\n"
        "    print(json.dumps([line.strip(), code, '--out' in text, text.count(chr(10))]), flush=True)\n"
    )
    refused = ["evaluate one", "report one", "doctor one", "figures one --only losses", "sample one --out one/x.png"]
    done_elsewhere = ["evaluate one --metrics active_units --out results", "compare one --out compared"]
    printed = "evaluate one --metrics active_units --json"
    (tmp_path / "commands.txt").write_text("\n".join([*refused, *done_elsewhere, printed]))
    words = [*(WITHOUT_RIGHTS if os.geteuid() == 0 else []), sys.executable, str(script)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = {words: rest for words, *rest in map(json.loads, done.stdout.splitlines())}
    assert len(found) == 8, done.stderr
    assert {tuple(found[words]) for words in refused} == {(1, True, 1)}
    assert {found[words][0] for words in done_elsewhere} == {0}
    assert found[printed] == [0, True, 1]
    assert (tmp_path / "compared" / "comparison.csv").is_file()
    for path in tmp_path.rglob("*"):
        path.chmod(path.stat().st_mode | 0o200)


def test_evaluate_can_return_its_numbers_without_writing(trained: Path):
    before = files(trained)
    found = vaelab.evaluate(trained, metrics=["sparsity"], store=False).results
    assert "hoyer" in found["sparsity"]
    assert {name: content for name, content in files(trained).items() if "cache" not in name} == {
        name: content for name, content in before.items() if "cache" not in name
    }


# -- what people read -------------------------------------------------------------------------------------------------


def test_a_lack_of_memory_is_one_line_with_advice(cli: Typed, trained: Path):
    code, _, err = cli("sample", trained, "--count", 4 * 10**13, "--out", "many.png")
    assert (code, err.count("\n")) == (1, 1)
    assert "out of memory" in err
    assert "enforce fail" not in err


def test_names_are_printed_on_a_terminal_as_they_stand(
    cli: Typed, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    names = ["[red]x :cat:", "[bold"]
    for name in names:
        shutil.copytree(trained, tmp_path / name)
        code, out, _ = cli("train", "digits", *TINY_WORDS, "--run", name)
        assert code == 0
        assert f"{name} is done already" in out
    assert cli("report", names[0])[0] == 0
    assert names[0] in (tmp_path / names[0] / "report.html").read_text()
