"""Settings of the documentation site. Sphinx reads the Markdown pages of docs/; ``make docs`` writes build/docs.

Sphinx with MyST and Furo: the pages stay plain Markdown, and all three projects are maintained.
The site needs no network: it has no fonts, scripts or counters from elsewhere.
"""

import re
import sys
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]
sys.path.append(str(DOCS))
import notebooks  # noqa: E402

PROJECT = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SECTIONS = {"tutorials": "Tutorials", "how-to": "How-to guides", "reference": "Reference", "explanation": "Explanation"}
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")

project = html_title = PROJECT["name"]
version = release = PROJECT["version"]
author = copyright = PROJECT["authors"][0]["name"]
extensions = ["myst_parser", "sphinx_copybutton"]
root_doc = "README"
exclude_patterns = ["site", "results"]
nitpicky = True
myst_heading_anchors = 4
html_theme = "furo"
html_theme_options = {"navigation_with_keys": True}
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = html_copy_source = False


def add_contents(app: Sphinx, name: str, source: list[str]) -> None:
    """Append the contents of the sidebar to the front page: each folder in the order in which that page links to it."""
    if name != root_doc:
        return
    linked = list(dict.fromkeys(target.removesuffix(".md") for _, target in LINK.findall(source[0])))
    for folder, caption in SECTIONS.items():
        pages = "\n".join(page for page in linked if page.startswith(f"{folder}/"))
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{pages}\n```\n"
    source[0] += "\n\n```{toctree}\n:hidden:\n:caption: Project\n\nlog\n```\n"


def unlink_repository(app: Sphinx, name: str, source: list[str]) -> None:
    """Replace links to files outside docs/, which are not part of the site, by their text."""

    def replace(link: re.Match[str]) -> str:
        path = link[2].partition("#")[0]
        is_outside = path and ":" not in path and not (DOCS / name).parent.joinpath(path).resolve().is_relative_to(DOCS)
        return link[1] if is_outside else link[0]

    source[0] = LINK.sub(replace, source[0])


def add_outputs(app: Sphinx, name: str, source: list[str]) -> None:
    """Show the outputs of a notebook below the code of its page."""
    if (page := DOCS / f"{name}.md") in notebooks.PAGES:
        source[0] = notebooks.with_outputs(page)


def setup(app: Sphinx) -> None:
    """Prepare the pages as they are read."""
    app.connect("source-read", add_outputs)
    app.connect("source-read", add_contents)
    app.connect("source-read", unlink_repository)
