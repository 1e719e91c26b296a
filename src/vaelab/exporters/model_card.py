"""The card of a model on the hub: README.md with its metadata."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from vaelab.data.datasets import load_dataset
from vaelab.evaluation.metrics import load_metrics, order_quantities
from vaelab.exporters.markdown import render_markdown
from vaelab.exporters.page import format_number
from vaelab.exporters.privacy import Privacy
from vaelab.exporters.report import describe_protocol, summarise_model
from vaelab.models.vae import VAE
from vaelab.recipe import SECTIONS, Recipe
from vaelab.run import Run
from vaelab.system import registry

TASK = "unconditional-image-generation"
TAGS = ("vae", "variational-autoencoder", "image-generation", "representation-learning")

OWN_IMAGES = "the author's own images"
"""Title of a data set that is not published."""


@dataclass(frozen=True)
class Measured:
    """A number of the card."""

    metric: str
    key: str
    title: str
    value: float
    shown: str
    unit: str
    split: str


def make_card(
    run: Run,
    model: VAE,
    recipe: Recipe,
    repository: str,
    evaluations: Mapping[str, Mapping[str, Any]],
    *,
    model_facts: Mapping[str, str],
    figures: Sequence[str],
    has_graphs: bool,
    licence: str | None,
    privacy: Privacy,
) -> str:
    """Return the card of ``run`` in ``repository``.

    ``recipe`` is the cleaned one. ``evaluations``: file → cleaned results.
    """
    from huggingface_hub import ModelCardData

    data = load_dataset(recipe.data["name"]).info
    images = data.title if data.is_published else OWN_IMAGES
    measured = [number for evaluation in evaluations.values() for number in _list_measured(evaluation)]
    metadata = ModelCardData(
        model_name=repository.partition("/")[2],
        library_name="vaelab",
        license=licence,
        pipeline_tag=TASK,
        tags=[*TAGS, *(["onnx"] if has_graphs else []), "safetensors"],
        eval_results=_list_results(measured, recipe.data["name"], images) or None,
    )
    channels, height, width = model.spec.image_shape
    body = render_markdown(
        "model_card.md.jinja",
        model,
        recipe,
        repository=repository,
        name=repository.partition("/")[2],
        vaelab=version("vaelab"),
        title=recipe.title,
        summary=privacy.clean(summarise_model(run, run.machine, model_facts)).replace(data.title, images),
        parts={section: getattr(recipe, section)["name"] for section in SECTIONS if section != "data"},
        model_facts=model_facts,
        shape=f"{height}×{width} {'grey' if channels == 1 else 'RGB' if channels == 3 else f'{channels}-channel'}",
        has_graphs=has_graphs,
        data=data,
        validated_on=privacy.clean(str(run.machine.get("validated_on", ""))),
        measured=measured,
        evaluation_files=[f"`{name}`" for name in evaluations],
        protocols={
            (name, entry["measured_on"].get("split", "")): describe_protocol(entry)
            for evaluation in evaluations.values()
            for name, entry in evaluation.items()
        },
        findings=privacy.clean_values([found for found in run.findings if found["level"] != "fine"]),
        figures=[(name, *_read_texts(run, name, privacy)) for name in figures],
        licence=licence,
    )
    return f"---\n{metadata.to_yaml()}\n---\n\n{body}"


def _list_measured(evaluation: Mapping[str, Any]) -> list[Measured]:
    """Return the numbers of an evaluation in the order of tables."""
    declared = order_quantities((name, metric.order, metric.quantities) for name, metric in load_metrics().items())
    found = []
    for key, (metric, quantity) in declared.items():
        value = evaluation.get(metric, {}).get(key)
        if isinstance(value, int | float):
            error = evaluation[metric].get(f"{key}_standard_error")
            shown = format_number(value, quantity.digits) + (f" ± {error:.{quantity.digits}f}" if error else "")
            split = str(evaluation[metric]["measured_on"].get("split", ""))
            found.append(Measured(metric, key, quantity.title, float(value), shown, quantity.unit, split))
    return found


def _list_results(measured: Sequence[Measured], data: str, title: str) -> list[Any]:
    """Return the numbers as the hub's metadata has them."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=TASK,
            dataset_type=data,
            dataset_name=title,
            dataset_split=number.split or None,
            metric_type=number.key,
            metric_name=f"{number.title} ({number.unit})" if number.unit else number.title,
            metric_value=number.value,
        )
        for number in measured
    ]


def _read_texts(run: Run, figure: str, privacy: Privacy) -> tuple[str, str]:
    """Return title and caption of a figure."""
    from PIL import Image

    with Image.open(run.figures[figure]) as picture:
        words = dict(picture.info)
    title = str(words.get("Title", getattr(registry.load("figures", figure), "TITLE", figure)))
    return privacy.clean(title), privacy.clean(str(words.get("Description", "")))
