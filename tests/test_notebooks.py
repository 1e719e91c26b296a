"""The notebooks of the docs run on tiny settings, and their files are what their pages say."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from idx_files import write_idx_set
from paths import ROOT
from tiny_datasets import put_picture

sys.path.append(str(ROOT / "docs"))
import notebooks

MOST_BYTES = 500_000
TINY: dict[str, Any] = {"training.steps": 2, "training.threads": 1, "training.batch_size": 4}
PARAMETERS: dict[str, dict[str, Any]] = {
    "mnist": {"settings": {**TINY, "network.channels": [8] * 4, "training.figures": ["losses", "latent"]}},
    "celeba-beta": {"settings": {**TINY, "network.channels": [8] * 5, "training.figures": ["losses", "traversals"]}},
    "celeba": {"settings": {**TINY, "network.channels": [8] * 4, "training.figures": ["reconstructions"]}},
    "own-images": {"settings": {**TINY, "training.figures": []}},
}
"""Notebook → values of its first cell."""


def put_drawn(folder: Path) -> None:
    """Write faces as the notebooks on CelebA expect them."""
    command = [sys.executable, ROOT / "benchmarks" / "make_faces.py", folder / "drawn", "--count", "24", "--jobs", "1"]
    subprocess.run(command, check=True, capture_output=True)


def put_own(folder: Path) -> None:
    for number in range(20):
        put_picture(folder / "pictures" / f"{number}.png", (16, 16), 10 * number)


def test_every_notebook_is_small_and_has_the_code_of_its_page() -> None:
    assert notebooks.find_stale() == []
    for page in notebooks.PAGES:
        content = page.with_suffix(".ipynb").read_text(encoding="utf-8")
        assert len(content.encode()) < MOST_BYTES
        assert "error" not in {
            output["output_type"] for _, outputs in notebooks.read_outputs(page) for output in outputs
        }
        assert str(Path.home()) not in content


def test_a_changed_page_is_found_and_outputs_stay_with_their_code(tmp_path: Path) -> None:
    source = notebooks.PAGES[0]
    page = Path(shutil.copy(source, tmp_path))
    shutil.copy(source.with_suffix(".ipynb"), tmp_path)
    assert notebooks.find_stale([page]) == []
    page.write_text(source.read_text(encoding="utf-8").replace("# Notebook", "# A notebook", 1), encoding="utf-8")
    assert "other text" in notebooks.find_stale([page])[0]
    made = notebooks.make_notebook(page)
    notebooks.copy_outputs(page, made)
    outputs = [cell.outputs for cell in made.cells if cell.cell_type == "code"]
    assert outputs == [found for _, found in notebooks.read_outputs(page)]
    page.write_text(
        source.read_text(encoding="utf-8").replace("import vaelab", "import vaelab as v", 1), encoding="utf-8"
    )
    assert "other code" in notebooks.find_stale([page])[0]
    with pytest.raises(SystemExit):
        notebooks.copy_outputs(page, notebooks.make_notebook(page))


@pytest.mark.slow
def test_notebooks_run_on_tiny_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_CACHE_HOME", "IPYTHONDIR", "MPLCONFIGDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    write_idx_set(tmp_path / "mnist")
    put_drawn(tmp_path)
    put_own(tmp_path)
    made = {page.stem: notebooks.make_notebook(page, **PARAMETERS[page.stem]) for page in notebooks.PAGES}
    whole = notebooks.make_notebook(notebooks.PAGES[0])
    whole.cells = [cell for notebook in made.values() for cell in notebook.cells]  # one kernel for all saves time
    notebooks.execute(whole, tmp_path)
    for notebook in made.values():
        outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
        warned = [output.text for output in outputs if output.get("name") == "stderr"]
        assert [text for text in warned if "VaelabWarning" not in text] == []
        assert "image/png" in [kind for output in outputs for kind in output.get("data", {})]
        *shown, explorer = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
        assert "" in shown  # a bar, which is removed in the end
        assert notebooks.FRAMED.search(explorer)
