"""report.html: a run on one self-contained page."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from vaelab.run import EVALUATION, FINDINGS, RECIPE, Run

NOT_SHOWN = ("notes", "command", "recipe", "torch_device", "data", "data_dir", "figures")
"""Of machine.json: shown elsewhere, or paths that concern nobody whom the page is sent to."""
SPELLED = {
    "beta kl": "β·KL",
    "kl": "KL",
    "elbo": "ELBO",
    "nll": "−ln p(x)",
    "held out": "held-out",
    "seconds": "training time",
}


def write_report(
    run: Run, order: Sequence[str], model_facts: Mapping[str, str], finished: str | None = None
) -> list[str]:
    """Write the report of ``run`` with its figures in this order and these lines about the model.

    ``finished``: when the run was finished, if machine.json does not say so yet. Returns a sentence for each file that
    cannot be read; the report shows them as warnings, and does without the file.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vaelab", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    damage = run.find_damage()
    damaged = {error.path.name for error in damage}
    figures, unreadable = _read_figures(run, order)
    problems = [*map(str, damage), *unreadable]
    machine = {**run.machine, **({"finished": finished} if finished else {})}
    page = environment.get_template("report.html.jinja").render(
        name=run.name,
        title=run.recipe.title,
        figures=figures,
        measured=_measured_rows(run),
        source=run.recipe.expected.get("source"),
        evaluation=[] if EVALUATION in damaged else _evaluation_rows(run.evaluation),
        findings=[] if FINDINGS in damaged else run.findings,
        model_facts=model_facts,
        recipe=(run.path / RECIPE).read_text(encoding="utf-8"),
        machine={key: value for key, value in machine.items() if key not in NOT_SHOWN},
        command=machine.get("command", "vaelab train recipe.toml"),
        notes=machine.get("notes", []),
        warnings=[*run.warnings, *problems],
    )
    run.write_report(page.encode("utf-8", "replace").decode("utf-8"))  # names that are not UTF-8
    return problems


def _read_figures(run: Run, order: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """The figures drawn, with the title and the caption that each carries in its file; which cannot be read."""
    files = run.figures
    rows, problems = [], []
    for name in order:
        if name not in files:
            continue
        try:
            with Image.open(files[name]) as picture:
                words, wide = dict(picture.info), picture.width > 1.2 * picture.height
                kind, content = _light(picture, files[name])
        except (ValueError, SyntaxError, OSError) as error:
            problems.append(f"{files[name]} cannot be read ({type(error).__name__}): vaelab figures draws it again")
            continue
        title, caption = words.get("Title", name), words.get("Description", "")
        data = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        rows.append({"name": name, "title": title, "caption": caption, "data": data, "wide": wide})
    return rows, problems


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
