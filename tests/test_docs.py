"""The docs: examples run, and the checks of docs/check.py and docs/prose.py find mistakes."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

sys.path.append(str(ROOT / "docs"))
import blocks
import check
import commands
import measured
import notebooks
import prose

import vaelab
from vaelab.run import layout

PAGES = check.list_pages()
PYTHON = re.compile(r"```python\n(.*?)```", re.S)
WITH_PYTHON = [page for page in PAGES if PYTHON.search(page.read_text()) and page not in notebooks.PAGES]
"""Pages whose examples run as they are; those of notebooks run in tests/test_notebooks.py."""


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.stem)
def test_python_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs have their figures on the README alone; drawing them takes most of the time."""
    if page.stem != "README":
        train = vaelab.train
        without: dict[str, Any] = {"training.figures": []}
        monkeypatch.setattr(vaelab, "train", lambda name, set=(), **more: train(name, {**without, **dict(set)}, **more))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    namespace = {"__name__": "docs"}
    for number, block in enumerate(PYTHON.findall(page.read_text())):
        exec(compile(block, f"{page.name}[{number}]", "exec"), namespace)


def test_recipes_in_the_docs_are_valid(tmp_path: Path):
    from vaelab import recipe

    found = [block for page in PAGES for block in re.findall(r"```toml\n(.*?)```", page.read_text(), re.S)]
    recipes = [block for block in found if "[data]" in block]
    assert recipes
    for block in recipes:
        (tmp_path / "my-recipe.toml").write_text(block)
        assert recipe.load(tmp_path / "my-recipe.toml").title == tomllib.loads(block)["title"]


def test_every_file_of_a_run_is_documented():
    page = (ROOT / "docs" / "reference" / "run-files.md").read_text()
    constants = [value for name, value in vars(layout).items() if name.isupper() and isinstance(value, str)]
    names = {name.rpartition("/")[0] or name for name in (*layout.PATTERNS, *constants)}
    assert {name for name in names if name not in page} == set()


def test_layers_on_the_architecture_page_are_those_of_the_import_contract():
    (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [
        (str(number), part.strip()) for number, layer in enumerate(contract["layers"], 1) for part in layer.split("|")
    ]
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    assert re.findall(r"^\| (\d+) \| `(\w+)` \|", page, re.M) == layers


def test_quoted_results_are_those_of_the_files():
    assert check.find_false_claims() == []


@pytest.mark.parametrize(
    ("words", "is_valid"),
    [
        ("train digits --set objective.beta=4", True),
        ("data check PATH", True),
        ("train digits --set objective.bta=4", False),
        ("train digits --bogus", False),
        ("trane digits", False),
        ("explore", False),
    ],
)
def test_commands_in_the_docs_are_parsed(words: str, is_valid: bool):
    page = f"```bash\ntorchrun -m -- vaelab {words}   # a comment\n```\n"
    (found,) = commands.find_commands(page)
    assert (commands.find_mistake(found) is None) == is_valid


def test_unknown_recipe_keys_are_found():
    page = "`training.seed`, `--set data.valid=N`, `objective.nonsense`, `likelihood.onnx`"
    assert commands.find_unknown_keys(page, commands.known_keys()) == ["objective.nonsense"]


def test_broken_links_and_anchors_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    page = check.ROOT / "docs" / "README.md"
    assert check.find_broken_links(page) == []
    assert "β-in-other-packages" in check.anchors_of(check.ROOT / "docs" / "explanation" / "beta.md")
    broken = tmp_path / "page.md"
    broken.write_text("# A `code` heading, twice\n# A code heading, twice\n[x](page.md#a-code-heading-twice-1)\n")
    assert "a-code-heading-twice-1" in check.anchors_of(broken)
    broken.write_text("[a](missing.md) [b](page.md#nowhere)\n```text\n[c](not-a-link.md)\n```\n")
    check.anchors_of.cache_clear()
    assert [line.split(": ")[1] for line in check.find_broken_links(broken, tmp_path)] == [
        "missing.md does not exist",
        "page.md has no heading #nowhere",
    ]


def test_generated_parts_keep_the_rest_of_the_page():
    page = "before\n<!-- generated: run mnist -->\nold\n<!-- end -->\nafter\n"
    filled = blocks.fill(page)
    assert filled.startswith("before\n<!-- generated: run mnist -->\n| quantity |")
    assert filled.endswith("|\n<!-- end -->\nafter\n")
    assert f"{measured.read('mnist')['measured']['loss_at_end']:.2f}" in filled


@pytest.mark.parametrize(
    "sentence",
    [
        "Of the images, some are grey.",
        "What a training ends with.",
        "Where the weights are.",
        "The training goes on.",
        "It is told a number.",
        f"A sentence {'with many words ' * 10}is too long.",
        "One; two; three.",
    ],
)
def test_prose_check_finds_sentences_to_decode(sentence: str):
    assert list(prose.find_violations(sentence))


@pytest.mark.parametrize("sentence", ["Return the loss.", "`train` resumes. What is β?", "Where possible, it is fast."])
def test_prose_check_accepts_plain_sentences(sentence: str):
    assert list(prose.find_violations(sentence)) == []


@pytest.mark.slow
def test_the_site_has_every_page_and_builds_without_a_warning(tmp_path: Path):
    docs = ROOT / "docs"
    arguments = ["-q", "-W", "--keep-going", "-b", "html", "-c", str(docs / "site"), str(docs), str(tmp_path)]
    built = subprocess.run([sys.executable, "-m", "sphinx", *arguments], capture_output=True, text=True)
    assert (built.returncode, built.stderr) == (0, "")
    names = {page.relative_to(tmp_path).with_suffix(".md") for page in tmp_path.rglob("*.html")}
    assert {page.relative_to(docs) for page in docs.rglob("*.md")} <= names
    assert not re.findall(r'(?:src|href)="https?://[^"]+\.(?:js|css|woff2?)"', (tmp_path / "README.html").read_text())
