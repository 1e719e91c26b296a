"""report.html: a run on one self-contained page."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from vaelab.build import loss_unit
from vaelab.data.datasets import load_dataset
from vaelab.evaluation.metrics import Metric, load_metrics, order_quantities
from vaelab.exporters.page import QUESTIONS, Number, Picture, Section, format_number, read_pictures, render_page
from vaelab.models.codes import ACTIVE_KL
from vaelab.run import EVALUATION, FINDINGS, RECIPE, Run
from vaelab.run.layout import evaluation_file
from vaelab.system import registry
from vaelab.system.paths import name_for_people

NOT_SHOWN = ("notes", "command", "recipe", "torch_device", "data", "data_dir", "figures")
"""Keys of machine.json that the page shows elsewhere, and paths that concern nobody to whom the page is sent."""
SPELLED = {
    "beta kl": "β·KL",
    "kl": "KL",
    "elbo": "ELBO",
    "nll": "−ln p(x)",
    "swd": "SWD",
    "fid": "the Fréchet distance",
    "sliced wasserstein": "the sliced Wasserstein distance",
    "held out": "held-out",
    "seconds": "training time",
}


def write_report(
    run: Run, order: Sequence[str], model_facts: Mapping[str, str], finished: str | None = None
) -> list[str]:
    """Write the report of ``run`` with its figures in this order and these lines about the model.

    ``finished``: when the run was finished, if machine.json does not say so yet. Return a sentence for each file that
    cannot be read; the report shows them as warnings and leaves the file out.
    """
    damage = run.find_damage()
    damaged = {error.path.name for error in damage}
    pictures, unreadable = read_pictures(run.figures, order)
    problems = [*map(str, damage), *unreadable]
    machine = {**run.machine, **({"finished": finished} if finished else {})}
    evaluation = {} if EVALUATION in damaged else run.evaluation
    findings = [] if FINDINGS in damaged else run.findings
    placed = group_by_section(pictures)
    page = render_page(
        "report.html.jinja",
        name=run.name,
        title=run.recipe.title,
        path=name_for_people(run.path),
        summary=_summarise(run, machine, model_facts),
        verdict=_judge(findings),
        cards=list(_cards(run, evaluation)),
        pictures=placed,
        findings=findings,
        measured=_measured_rows(run),
        loss_unit=loss_unit(run.recipe),
        source=run.recipe.expected.get("source"),
        sections=[*_sections(evaluation, placed), *_split_sections(run, damaged)],
        model_facts=model_facts,
        recipe=(run.path / RECIPE).read_text(encoding="utf-8"),
        machine={key: value for key, value in machine.items() if key not in NOT_SHOWN},
        command=machine.get("command", "vaelab train recipe.toml"),
        notes=machine.get("notes", []),
        warnings=[*run.warnings, *problems],
    )
    run.write_report(page)
    return problems


def group_by_section(pictures: Sequence[Picture]) -> dict[str, list[Picture]]:
    """Section that each figure's file declares → its pictures; "overview" is there even if it is empty."""
    placed: dict[str, list[Picture]] = {"overview": [], "training": []}
    for picture in pictures:
        section = registry.load("figures", picture.name).SECTION
        placed.setdefault(section, []).append(picture)
    return placed


# -- the parts of a report --------------------------------------------------------------------------------------------


def _summarise(run: Run, machine: Mapping[str, Any], model_facts: Mapping[str, str]) -> str:
    """One sentence: which model, of which images, how long it was trained."""
    words = summarise_model(run, machine, model_facts)
    if seconds := run.measured().get("seconds"):
        words += f", in {_duration(seconds)} on {str(machine.get('device', 'this machine')).replace('cpu', 'the CPU')}"
    return f"{words}."


def summarise_model(run: Run, machine: Mapping[str, Any], model_facts: Mapping[str, str]) -> str:
    """The beginning of a sentence: which model, of which images, and the length of its training."""
    recipe, history = run.recipe, run.history if run.measured() else {}
    objective, beta = recipe.objective["name"], recipe.objective.get("beta")
    plain = objective == "elbo" or (objective == "beta" and beta == 1)
    kind = "VAE" if plain else f"β-VAE (β = {beta:g})" if objective == "beta" else f"VAE (objective {objective})"
    condition = recipe.network["condition"]
    prefix = {"none": "", "label": "label-conditional ", "attributes": "attribute-conditional "}[condition]
    data = load_dataset(recipe.data["name"]).info.title
    data = f"{data[0].lower()}{data[1:]}" if data.startswith("Your ") else data
    words = f"A {prefix}{kind} with {model_facts['latents']} latents, trained on {data} ({model_facts['images']})"
    if history:
        epochs, steps = int(history["epoch"][-1]), len(history["epoch"])
        plural = "" if epochs == 1 else "s"
        words += f" for {epochs} epoch{plural}, {steps:,} steps of {recipe.training.batch_size} images"
        asked = machine.get("steps", 0)
        if not run.is_trained:
            words += f" so far (of {asked:,}; training is not finished)" if asked else " so far"
        elif "ended_at" in machine:
            words += f" (finished early; {asked:,} were requested)"
    return words


def _judge(findings: Sequence[Mapping[str, str]]) -> dict[str, str] | None:
    """The doctor's verdict in a few words; None if it has not examined the run."""
    if not findings:
        return None
    counts = {level: sum(finding["level"] == level for finding in findings) for level in ("problem", "notice")}
    parts = [f"{count} {level}{'s' if count > 1 else ''}" for level, count in counts.items() if count]
    level = next((level for level, count in counts.items() if count), "fine")
    return {"level": level, "text": f"Doctor: {' and '.join(parts) or 'no problems found'}"}


def _cards(run: Run, evaluation: Mapping[str, Any]) -> Iterator[Number]:
    """The four numbers that a reader wants first."""
    measured, expected, unit = run.measured(), run.recipe.expected, loss_unit(run.recipe)
    if "held_out_loss" in measured:
        parts = f"reconstruction {measured['held_out_reconstruction']:.2f}, KL {measured['held_out_kl']:.2f}"
        others = "" if unit else " and other terms"
        meaning = f"Mean over held-out images: {parts}{others}. Lower is better."
        yield Number("Held-out loss", format_number(measured["held_out_loss"]), unit=unit, meaning=meaning)
    elbo = evaluation.get("elbo", {})
    if isinstance(elbo.get("elbo"), int | float):
        error = elbo.get("elbo_standard_error")
        meaning = "Lower bound on the log-likelihood of a held-out image, including constants. Higher is better."
        yield Number(
            "ELBO", format_number(elbo["elbo"]), "" if error is None else f"{error:.2f}", "nats", meaning=meaning
        )
    if per_latent := elbo.get("kl_per_latent"):
        active = sum(kl > ACTIVE_KL for kl in per_latent)
        meaning = f"Latents with a mean KL above {ACTIVE_KL:g} nats; the others follow the prior."
        yield Number("Active latents", f"{active} of {len(per_latent)}", meaning=meaning)
    if "loss_at_end" in measured:
        published = expected.get("loss_at_end")
        beside = f" Published: {published:g}." if published is not None else ""
        meaning = f"Mean over {run.describe_closing()}.{beside}"
        yield Number("Training loss", format_number(measured["loss_at_end"]), unit=unit, meaning=meaning)


def _sections(evaluation: Mapping[str, Any], placed: Mapping[str, Sequence[Picture]]) -> list[Section]:
    """A section for each question that metrics or figures answer."""
    metrics = load_metrics()
    sections: dict[str, Section] = {question: Section(*words) for question, words in QUESTIONS.items()}
    for name, row in _declared_rows(evaluation):
        sections[metrics[name].question].rows.append(row)
    for name, entry in evaluation.items():
        metric = metrics.get(name)
        question = metric.question if isinstance(metric, Metric) else "other"
        sections[question].protocols.append({"metric": _words(name), "sentences": describe_protocol(entry)})
        if metric is None:
            sections[question].rows += [
                Number(_words(k), format_number(v, 3)) for k, v in entry.items() if isinstance(v, float)
            ]
    for title, pictures in placed.items():
        if title not in ("overview", "training"):
            sections.setdefault(title, Section(title.capitalize(), "")).figures += pictures
    return [section for section in sections.values() if section.rows or section.figures]


def _declared_rows(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, Number]]:
    """Yield the metric and the row of every number that a metric declares."""
    metrics = load_metrics().items()
    declared = order_quantities((name, metric.order, metric.quantities) for name, metric in metrics)
    for key, (name, quantity) in declared.items():
        value = evaluation.get(name, {}).get(key)
        if isinstance(value, int | float):
            error = evaluation[name].get(f"{key}_standard_error")
            shown = "" if error is None else f"{error:.{quantity.digits}f}"
            yield (
                name,
                Number(quantity.title, format_number(value, quantity.digits), shown, quantity.unit, quantity.better),
            )


def _split_sections(run: Run, damaged: Collection[str]) -> Iterator[Section]:
    """A section for each other split with results."""
    for split in run.measured_splits:
        if evaluation_file(split) not in damaged:
            evaluation = run.split_evaluation(split)
            section = Section(f"The {split} split", f"Measured by vaelab evaluate with --split {split}.")
            section.rows += [row for _, row in _declared_rows(evaluation)]
            section.protocols += [
                {"metric": _words(name), "sentences": describe_protocol(entry)} for name, entry in evaluation.items()
            ]
            yield section


def describe_protocol(entry: Mapping[str, Any]) -> str:
    """How a metric was measured, in sentences."""
    where, protocol = entry.get("measured_on", {}), dict(entry.get("protocol", {}))
    count = protocol.pop("images", None)
    images = f"{count:,} images" if isinstance(count, int) else "images"
    sentences = [f"Measured on {images} of the {where['split']} split of {where['data']}."] if "split" in where else []
    for key, value in protocol.items():
        text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        words = _words(key)
        sentences.append(f"{words[0].upper()}{words[1:]}: {text}.")
    return " ".join(sentences)


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
    """The name of a number in words."""
    words = name.replace("_", " ")
    for plain, spelled in SPELLED.items():
        words = re.sub(rf"\b{plain}\b", spelled, words)
    return words


def _measured(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return _duration(value) if name == "seconds" else format_number(value)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
