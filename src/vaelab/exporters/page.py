"""Pages that vaelab writes: one self-contained file each, from the templates."""

import base64
import io
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from vaelab.evaluation.metrics import Question
from vaelab.exporters.privacy import hide_folders
from vaelab.system.paths import name_for_people

QUESTIONS: Mapping[Question, tuple[str, str]] = {
    "fit": ("Fit", "How well the model explains held-out images."),
    "latent space": ("Latent space", "Information in the codes, and their distance from the prior."),
    "generation": ("Generation", "How close generated images are to real ones."),
    "prediction": ("Prediction", "How well labels and attributes can be predicted from the codes."),
    "disentanglement": ("Disentanglement", "Whether single latents represent single factors of the images."),
    "other": ("Other metrics", "Metrics that do not belong to any of these sections."),
}
"""Question of a metric → title and first sentence of its section."""
TALLEST = 640
"""Height in CSS pixels of a figure that fits on a screen."""
LETTER = 0.4
"""Share of its width to which a figure of an unknown letter size can be reduced."""
ENLARGED = 1.6
"""Largest multiple of its legible width at which a figure is shown, so that letters have one size on the whole page."""
COLUMN = 587
"""Largest legible width of a figure in one of two columns, which have 558 CSS pixels or more."""


@dataclass(frozen=True)
class Picture:
    """A figure as a data URL, with the texts that its file carries."""

    name: str
    title: str
    caption: str
    data: str
    width: int
    height: int
    legible: int
    """Width in CSS pixels below which the smallest letters of the figure cannot be read; 0 without letters."""

    @property
    def largest(self) -> int:
        """Width in CSS pixels up to which the figure is shown: no taller than a screen, letters of one size."""
        room = round(TALLEST * self.width / self.height)
        if self.legible:
            room = min(room, round(ENLARGED * self.legible))
        return min(self.width, max(self.legible, 352, room))

    @property
    def is_wide(self) -> bool:
        """Whether the figure cannot be read in one of two columns."""
        return self.legible > COLUMN


@dataclass(frozen=True)
class Number:
    """One number of the page with its standard error and what it means."""

    title: str
    value: str
    error: str = ""
    unit: str = ""
    better: str = ""
    meaning: str = ""


@dataclass
class Section:
    """Figures and numbers that answer one question."""

    title: str
    lead: str
    rows: list[Number] = field(default_factory=list)
    protocols: list[dict[str, str]] = field(default_factory=list)
    figures: list[Picture] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        """Fragment of the section's address."""
        return self.title.lower().replace(" ", "-")


@cache
def _load_environment() -> jinja2.Environment:
    """Return the environment of the templates, which are compiled once per process."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vaelab.exporters"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["sentence"] = as_sentence
    environment.filters["for_people"] = lambda path: name_for_people(Path(path))
    environment.finalize = _hide_folders
    return environment


def render_page(template: str, **values: Any) -> str:
    """A page of ``templates/``, with a contents list of its sections and the glossary of the terms that it uses."""
    page = _load_environment().get_template(template)
    draft = page.render(contents=[], glossary=[], **values)
    contents = re.findall(r'<h2 id="([^"]+)">([^<]+)</h2>', draft)
    text = re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]*>", " ", draft, flags=re.S)
    terms = tomllib.loads(files("vaelab.exporters").joinpath("glossary.toml").read_text(encoding="utf-8"))
    glossary = [entry for pattern, entry in terms.items() if re.search(pattern, text)]
    if glossary:
        contents.append(("glossary", "Glossary"))
    whole = page.render(contents=contents, glossary=glossary, **values)
    return whole.encode("utf-8", "replace").decode("utf-8")  # names that are not UTF-8


def _hide_folders(value: Any) -> Any:
    """Return a text of the page without folders of this machine; markup and pictures as they are."""
    return hide_folders(value) if type(value) is str and not value.startswith("data:image/") else value


def as_sentence(clause: str) -> str:
    """A clause with a capital letter and a full stop."""
    return f"{clause[:1].upper()}{clause[1:]}{'' if clause.endswith('.') else '.'}"


def format_number(value: float, digits: int = 2) -> str:
    """A number with commas between thousands and a true minus sign."""
    return f"{value:,.{digits}f}".replace("-", "−")


def read_pictures(paths: Mapping[str, Path], order: Sequence[str]) -> tuple[list[Picture], list[str]]:
    """The figures that exist, in this order, and a sentence for each that cannot be read."""
    pictures, problems = [], []
    for name in order:
        if name not in paths:
            continue
        try:
            with Image.open(paths[name]) as image:
                words, size = dict(image.info), image.size
                kind, content = _compress(image, paths[name])
        except (ValueError, SyntaxError, OSError) as error:
            problems.append(f"{paths[name]} cannot be read ({type(error).__name__}): vaelab figures draws it again")
            continue
        data = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        legible = int(words.get("Legible", LETTER * size[0]))
        title, caption = str(words.get("Title", name)), str(words.get("Description", ""))
        pictures.append(Picture(name, title, caption, data, *size, legible))
    return pictures, problems


def _compress(image: Image.Image, file: Path) -> tuple[str, bytes]:
    """(type, bytes) of a figure: the file itself, or WebP for photographs, a fifth of their size as PNG."""
    if image.mode != "RGB":
        return "png", file.read_bytes()
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=90, method=4)
    return "webp", buffer.getvalue()
