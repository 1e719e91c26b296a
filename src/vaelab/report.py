"""report.html: a run on one self-contained page."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from vaelab.files import write_atomic
from vaelab.run import LOG, RECIPE, REPORT, Run

NOT_SHOWN = ("notes", "command", "recipe", "torch_device", "data", "data_dir")
"""Of machine.json: shown elsewhere, or paths that concern nobody whom the page is sent to."""
SPELLED = {
    "beta kl": "β·KL",
    "kl": "KL",
    "elbo": "ELBO",
    "nll": "−ln p(x)",
    "held out": "held-out",
    "seconds": "training time",
}


def write_report(run: Run, order: Sequence[str], model_facts: Mapping[str, str]) -> None:
    """Write the report of ``run`` with its figures in this order and these lines about the model."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vaelab", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("report.html.jinja").render(
        name=run.name,
        title=run.recipe.title,
        figures=_figures(run, order),
        measured=_measured_rows(run),
        source=run.recipe.expected.get("source"),
        evaluation=_evaluation_rows(run.evaluation),
        findings=run.findings,
        model_facts=model_facts,
        recipe=(run.path / RECIPE).read_text(encoding="utf-8"),
        machine={key: value for key, value in run.machine.items() if key not in NOT_SHOWN},
        command=run.machine.get("command", "vaelab train recipe.toml"),
        notes=run.machine.get("notes", []),
        warnings=_warnings(run),
    )
    write_atomic(run.path / REPORT, page)


def _warnings(run: Run) -> list[str]:
    log = run.path / LOG
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    return list(dict.fromkeys(line.split("warning: ", 1)[1] for line in lines if "warning: " in line))


def _figures(run: Run, order: Sequence[str]) -> list[dict[str, Any]]:
    """The figures drawn, with the title and the caption that each carries in its file."""
    files = run.figures
    rows = []
    for name in order:
        if name in files:
            with Image.open(files[name]) as picture:
                words, wide = dict(picture.info), picture.width > 1.2 * picture.height
                kind, content = _light(picture, files[name])
            title, caption = words.get("Title", name), words.get("Description", "")
            data = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
            rows.append({"name": name, "title": title, "caption": caption, "data": data, "wide": wide})
    return rows


def _light(picture: Image.Image, file: Path) -> tuple[str, bytes]:
    """(kind, bytes) of a figure for a page to send: as it is, but photographs as WebP, a fifth of their size as PNG."""
    if picture.mode != "RGB":
        return "png", file.read_bytes()
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=90, method=4)
    return "webp", buffer.getvalue()


def _measured_rows(run: Run) -> list[dict[str, str]]:
    expected = run.recipe.expected
    measured = run.measured()
    names = list(dict.fromkeys([*measured, *(key for key in expected if key != "source")]))
    return [
        {
            "what": _words(name),
            "measured": _measured(name, measured.get(name)),
            "expected": f"{expected[name]:g}" if name in expected else "",
        }
        for name in names
    ]


def _words(name: str) -> str:
    """A number's name as people write it."""
    words = name.replace("_", " ")
    for plain, spelled in SPELLED.items():
        words = re.sub(rf"\b{plain}\b", spelled, words)
    return words


def _measured(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    if name == "seconds":
        minutes, seconds = divmod(round(value), 60)
        return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    return f"{value:.2f}"


def _evaluation_rows(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for metric, entry in evaluation.items():
        numbers = {_words(k): f"{v:.3f}" for k, v in entry.items() if isinstance(v, int | float)}
        protocol = {**entry["protocol"], **entry["measured_on"]}
        words = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in protocol.items() if not k.endswith("sha256"))
        rows.append({"metric": metric, "numbers": numbers, "protocol": words})
    return rows
