"""Executed notebooks of the docs: a page of docs/tutorials/notebooks is the source of the notebook beside it.

python docs/notebooks.py FOLDER [NAME…]   execute all notebooks, or those named, in a folder that keeps their runs
python docs/notebooks.py --text           copy the text of all pages; outputs stay

The Python blocks of a page are the code cells of its notebook, and the text between them are the Markdown cells. The
folder holds MNIST's files in ``mnist``, CelebA in ``celeba`` or faces of benchmarks/make_faces.py in ``drawn``, and
pictures in ``pictures``.
"""

import argparse
import base64
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "tutorials" / "notebooks").glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)\n```\n", re.S | re.M)
FRAMED = re.compile(r'<object type="text/html" data="([^"]+)"')
INLINE = re.compile(r"data:image/(?:png|jpeg);base64,([A-Za-z0-9+/=]+)")
SECONDS = 3600
"""Longest time that a cell may take."""
WIDTH, HEIGHT = 1100, 680
"""Size of the explorer in a cell, pixels."""
LARGEST = 800
"""Largest side of a picture that is kept, pixels."""


def split_page(text: str) -> Iterator[tuple[str, str]]:
    """Yield ("markdown" or "code", content) of each part of a page."""
    for number, part in enumerate(BLOCK.split(text)):
        if part.strip():
            yield "code" if number % 2 else "markdown", part.strip()


def read_cells(page: Path) -> list[Any]:
    """Return the cells of a page's notebook; no cells if there is no notebook."""
    path = page.with_suffix(".ipynb")
    cells: list[Any] = json.loads(path.read_text(encoding="utf-8"))["cells"] if path.exists() else []
    return cells


def read_outputs(page: Path) -> list[tuple[str, list[Any]]]:
    """Return code and outputs of each code cell of a page's notebook."""
    return [("".join(cell["source"]), cell["outputs"]) for cell in read_cells(page) if cell["cell_type"] == "code"]


def find_stale(pages: Iterable[Path] = PAGES) -> list[str]:
    """Return a line for each notebook that has other code or other text than its page."""
    found = []
    for page in pages:
        parts = list(split_page(page.read_text(encoding="utf-8")))
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in read_cells(page)]
        if [part for part in parts if part[0] == "code"] != [cell for cell in cells if cell[0] == "code"]:
            found.append(f"{page.name}: the notebook has other code; run docs/notebooks.py FOLDER {page.stem}")
        elif parts != cells:
            found.append(f"{page.name}: the notebook has other text; run docs/notebooks.py --text")
    return found


def with_outputs(page: Path) -> str:
    """Return a page's Markdown with the outputs of its notebook below the code, as raw HTML of MyST."""
    outputs, text = iter(read_outputs(page)), page.read_text(encoding="utf-8")

    def add(block: re.Match[str]) -> str:
        code, found = next(outputs, ("", []))
        shown = "\n".join(_as_html(output, code) for output in found)
        return f'{block[0]}\n`````{{raw}} html\n<div class="output">{shown}</div>\n`````\n' if shown else block[0]

    return BLOCK.sub(add, text)


def _as_html(output: Any, code: str) -> str:
    data = {kind: "".join(content) for kind, content in output.get("data", {}).items()}
    if "text/html" in data:
        return data["text/html"]
    for kind in (kind for kind in data if kind.startswith("image/")):
        picture = data[kind].replace("\n", "")
        return f'<img src="data:{kind};base64,{picture}" alt="Output of {escape(code.splitlines()[-1])}">'
    return f"<pre>{escape(''.join(output.get('text', [])) or data.get('text/plain', ''))}</pre>"


# -- execution --------------------------------------------------------------------------------------------------------


def make_notebook(page: Path, **parameters: Any) -> Any:
    """Return the notebook of a page without outputs; ``parameters`` replace values of the first code cell."""
    import nbformat

    made = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    parts = list(split_page(page.read_text(encoding="utf-8")))
    if parameters:
        first = next(number for number, (kind, _) in enumerate(parts) if kind == "code")
        parts.insert(first + 1, ("code", "\n".join(f"{name} = {value!r}" for name, value in parameters.items())))
    cells = [made[kind](content, id=f"{page.stem}-{number}") for number, (kind, content) in enumerate(parts)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def execute(notebook: Any, folder: Path, after: Callable[[Any], None] = lambda cell: None) -> None:
    """Execute a notebook in a folder; ``after`` is called with each code cell while the kernel lives."""
    from nbclient import NotebookClient

    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=SECONDS, resources=resources, record_timing=False)
    with client.setup_kernel():
        for number, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                client.execute_cell(cell, number)
                after(cell)
    notebook.metadata.pop("language_info", None)


def finish_cell(cell: Any) -> None:
    """Compress the pictures of a cell, remove what a bar left, and put a picture in the place of the explorer."""
    cell.outputs = [output for output in cell.outputs if output.get("data", {}).get("text/html") != ""]
    for data in (output.data for output in cell.outputs if "data" in output):
        if framed := FRAMED.search(data.get("text/html", "")):
            data.pop("text/html")
            data["image/png"] = base64.b64encode(photograph(framed[1])).decode()
        if "text/html" in data:
            data["text/html"] = INLINE.sub(
                lambda found: "data:{};base64,{}".format(*compress(found[1])), data["text/html"]
            )
        for kind in [kind for kind in data if kind.startswith("image/")]:
            smaller, content = compress(data.pop(kind))
            data[smaller] = content


def copy_outputs(page: Path, notebook: Any) -> None:
    """Fill the code cells of a new notebook with what the page's notebook has there; SystemExit for other code."""
    import nbformat

    if any("other code" in line for line in find_stale([page])):
        raise SystemExit(f"{page.name} has other code than its notebook, so it must be executed")
    executed = [cell for cell in read_cells(page) if cell["cell_type"] == "code"]
    for cell, before in zip((cell for cell in notebook.cells if cell.cell_type == "code"), executed, strict=True):
        cell.outputs, cell.execution_count = nbformat.from_dict(before["outputs"]), before["execution_count"]


def compress(png: str) -> tuple[str, str]:
    """Return type and base64 of a picture with fewer pixels, as PNG with few colours or as JPEG if that is smaller."""
    files = {"image/png": io.BytesIO(), "image/jpeg": io.BytesIO()}
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        shown = picture.convert("RGB")
    shown.thumbnail((LARGEST, LARGEST))
    shown.quantize(96).save(files["image/png"], "PNG", optimize=True)
    shown.save(files["image/jpeg"], "JPEG", quality=75, optimize=True)
    kind = min(files, key=lambda name: len(files[name].getvalue()))
    return kind, base64.b64encode(files[kind].getvalue()).decode()


def photograph(url: str) -> bytes:
    """Return a screenshot of the explorer as a PNG file."""
    sys.path.append(str(ROOT / "tests" / "support"))
    import browser

    with browser.open_browser() as chromium:
        visit = browser.Visit(chromium, url, viewport={"width": WIDTH, "height": HEIGHT})
        visit.rest()
        shot: bytes = visit.page.screenshot(animations="disabled")
        visit.close()
    return shot


def main() -> None:
    """Execute notebooks and write them beside their pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", nargs="?")
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *(page.stem for page in PAGES)])
    parser.add_argument("--text", action="store_true")
    given = parser.parse_args()
    if given.text == bool(given.folder):
        parser.error("either FOLDER or --text")
    import nbformat

    for page in PAGES:
        if given.names and page.stem not in given.names:
            continue
        notebook, path = make_notebook(page), page.with_suffix(".ipynb")
        if given.text:
            copy_outputs(page, notebook)
        else:
            execute(notebook, given.folder, finish_cell)
        nbformat.write(notebook, path)
        print(f"{path.relative_to(ROOT)}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
