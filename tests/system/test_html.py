"""Objects in a notebook: escaped text, small inline pictures, nothing loaded from elsewhere."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vaelab
from vaelab.system import html

HOSTILE = '<script>alert("1")</script>'


class Tags(HTMLParser):
    """The tags and addresses of a fragment; every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.sources: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def objects(trained: Path, tmp_path: Path) -> dict[str, Any]:
    run = vaelab.Run(shutil.copytree(trained, tmp_path / "<b>run"))
    return {
        "Run": run,
        "VAE": vaelab.load(run),
        "Recipe": run.recipe,
        "Images": vaelab.Images(np.zeros((99, 8, 9, 3), np.uint8), np.arange(99) % 2, (HOSTILE, "b"), source=HOSTILE),
    }


@pytest.mark.parametrize("name", ["Run", "VAE", "Recipe", "Images"])
def test_objects_show_themselves(objects: dict[str, Any], name: str) -> None:
    shown = objects[name]._repr_html_()
    tags = Tags(shown)
    assert name in shown
    assert not tags.names & {"script", "b"}
    assert all(source.startswith("data:image/png;base64,") for source in tags.sources)
    assert len(shown) < 400_000
    assert name in repr(objects[name])


def test_representations_have_the_facts(objects: dict[str, Any]) -> None:
    assert "finished" in repr(objects["Run"])
    assert "held-out ELBO" in repr(objects["Run"])
    assert "images 1×28×28, 2 latents" in repr(objects["VAE"])
    assert "network=mlp" in repr(objects["Recipe"])
    assert str(objects["Recipe"]) == objects["Recipe"].to_toml()
    assert re.search(r"99 of 8×9 RGB, 2 classes", repr(objects["Images"]))


def test_figures_of_a_run_are_shown_small(trained: Path, tmp_path: Path) -> None:
    run = vaelab.Run(shutil.copytree(trained, tmp_path / "run"))
    vaelab.draw_figures(run, names=["samples"])
    assert len(Tags(run._repr_html_()).sources) == 1


def test_a_damaged_run_is_shown(trained: Path, tmp_path: Path) -> None:
    run = vaelab.Run(shutil.copytree(trained, tmp_path / "run"))
    (run.path / "validation.csv").write_text("damaged")
    assert "finished" in repr(run)
    run.path.joinpath("recipe.toml").write_text("[")
    assert "finished" in repr(run)
    shutil.rmtree(run.path)
    assert "not begun" in run._repr_html_()


def test_text_is_escaped() -> None:
    page = html.fragment(HOSTILE, {HOSTILE: HOSTILE}, [html.preformatted(HOSTILE, HOSTILE), html.picture(b"", HOSTILE)])
    assert "<script" not in page
