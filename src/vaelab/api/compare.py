"""``vaelab compare``: several runs in one table and two pictures."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vaelab.api.load import load
from vaelab.api.output_paths import check_parents
from vaelab.api.report import update_report
from vaelab.api.run_images import RunImages, load_run_images
from vaelab.build import declared_objective
from vaelab.data.images import Images, binarize, to_uint8
from vaelab.evaluation.comparability import find_obstacles, group_runs
from vaelab.evaluation.evaluate import codes_of, default_metrics, known_results, measure_run
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric, Quantity, Result, SeedMetric, load_metrics, order_quantities
from vaelab.figures import comparison as figure
from vaelab.figures import render, side_by_side
from vaelab.models.vae import VAE
from vaelab.run import EVALUATION, TIMING, Run
from vaelab.run.records import REMEDIES
from vaelab.system.arguments import AnyPath, check_list, check_path
from vaelab.system.failures import describe_error
from vaelab.system.files import DamagedFile, fit_name, unique_path, write_atomic
from vaelab.system.seeds import derive_seed, generator

FILES = ("comparison.json", "comparison.csv", "comparison.png", "side-by-side.png")
SHOWN_RUNS, SHOWN_IMAGES = 8, 8
"""On the picture of runs side by side."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Fact:
    """A quantity that is known of a run without measuring."""

    quantity: Quantity
    value: Callable[[Run, VAE, Row], float | None]
    """From the run, its model and the row so far."""


def _weighted_kl(run: Run, model: VAE, row: Row) -> float | None:
    beta = declared_objective(run.recipe).kl_weight
    return None if beta is None else beta * row["kl"]


def _num_parameters(run: Run, model: VAE, row: Row) -> int:
    return sum(model.num_parameters.values())


def _seconds(run: Run, model: VAE, row: Row) -> float | None:
    timing = run.table(TIMING)
    return float(timing["seconds"][-1]) if timing else None


FACTS = (
    Fact(Quantity("beta_kl", "β·KL", "nats", order=11), _weighted_kl),
    Fact(Quantity("parameters", "parameters", digits=0, drawn="if different"), _num_parameters),
    Fact(Quantity("seconds", "training time", "s", digits=0), _seconds),
)


@dataclass(frozen=True)
class Comparison:
    """What is known of several runs, side by side."""

    rows: list[Row]
    """One for each run, a key for each quantity; None for what is not known of a run. ``label``: what sets its recipe
    apart, the same for all seeds of a recipe."""
    quantities: tuple[Quantity, ...]
    """The rows of the table from top to bottom."""
    remarks: tuple[str, ...]
    """What must be known to read some of the numbers."""
    warnings: list[str]
    """Why some of the numbers do not compare."""
    paths: dict[str, Path]
    """Name → file."""

    @property
    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """Label → rows of the runs that differ in their seed alone."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows:
            found.setdefault(row["label"], []).append(row)
        return found


def compare(
    runs: Sequence[AnyPath],
    *,
    out: str | Path | None = None,
    data: str | Path | None = None,
    overwrite: bool = False,
) -> Comparison:
    """Measure trained runs on their held-out images (what is measured already is not measured again), and write
    comparison.json, .csv and .png and side-by-side.png into ``out`` (default: a free directory compare-…).

    Metrics whose needs a model or its images do not meet are left out; those that take minutes are shown if a run was
    evaluated by them. Seeds of one recipe are one group. Raises FileNotFoundError for what is no run or not trained to
    its end.
    """
    opened = [Run.open(run) for run in check_list(runs, "runs")]
    found = list({run.path.resolve(): run for run in opened}.values())
    for run in found:
        _ = run.model_path  # complains of a run that is not trained to its end
    target = _target(out, found, overwrite)
    groups, known = group_runs(found), _Data(data)
    metrics, facts = load_metrics(), [fact.quantity for fact in FACTS]
    declared = [(name, metric.order, metric.quantities) for name, metric in metrics.items()]
    quantities = order_quantities([*declared, ("the run", 900, facts)])
    shown = [members[0] for members in list(groups.values())[:SHOWN_RUNS]]
    rows, images, results, skipped, pictures = {}, {}, {}, {}, []
    for label, members in groups.items():
        evaluations = []
        for run in members:
            model, (images[run], train) = load(run.path), known.of(run)
            evaluation = Evaluation(model, images[run].valid, train, encode=partial(codes_of, run, model))
            results[run], skipped[run] = _measure(run, evaluation, images[run])
            try:
                rows[run] = _row(run, label, model, results[run], quantities)
            except (KeyError, TypeError) as error:  # results of an earlier evaluation, edited since
                reason = f"a number or a name is not as it was written ({describe_error(error)})"
                raise DamagedFile(run.path / EVALUATION, reason, REMEDIES[EVALUATION]) from None
            evaluations.append(evaluation)
            if run in shown and model.spec.image_shape == images[shown[0]].train.image_shape:
                pictures.append((label, model))
        if len(members) > 1:
            for run, numbers in zip(members, _measure_seeds(evaluations, metrics), strict=True):
                rows[run] |= numbers
    of_runs = [results[run] for run in found]
    comparison = Comparison(
        [rows[run] for run in found],
        tuple(quantity for _, quantity in quantities.values()),
        (*_remarks(of_runs, metrics), *_describe_skipped(skipped)),
        find_obstacles(found, [images[run] for run in found], of_runs),
        {name: target / name for name in FILES},
    )
    _write(comparison, side_by_side_arrays(images[shown[0]].valid, pictures))
    return comparison


def _measure(run: Run, evaluation: Evaluation, images: RunImages) -> tuple[dict[str, Result], dict[str, str]]:
    """Metric → result, by default and of whatever else is known of these weights and images; metric → why it is not."""
    before, store = run.evaluation, run.is_writable
    evaluated = measure_run(run, evaluation, images.protocol, default_metrics("compare"), store=store)
    results = evaluated.results
    if store and (run.evaluation != before or run.is_report_stale):
        update_report(run, evaluation.model)
    return {**known_results(run, like=next(iter(results.values()))), **results}, evaluated.skipped


def _measure_seeds(evaluations: Sequence[Evaluation], metrics: Mapping[str, Metric | SeedMetric]) -> list[Row]:
    """What is measured of several seeds of one recipe, for each of them."""
    rows: list[Row] = [{} for _ in evaluations]
    for metric in metrics.values():
        if isinstance(metric, SeedMetric) and evaluations[0].find_obstacle(metric.needs) is None:
            for row, result in zip(rows, metric.measure(evaluations), strict=True):
                row |= {quantity.key: (result or {}).get(quantity.key) for quantity in metric.quantities}
    return rows


def _describe_skipped(skipped: Mapping[Run, Mapping[str, str]]) -> list[str]:
    """Why some runs lack what others have."""
    found: dict[str, list[str]] = {}
    for run, reasons in skipped.items():
        for metric, reason in reasons.items():
            if not all(metric in others for others in skipped.values()):
                found.setdefault(f"{metric} {reason}", []).append(run.name)
    return [f"{why}: not measured of {', '.join(names)}" for why, names in found.items()]


def _remarks(results: Sequence[Mapping[str, Result]], metrics: Mapping[str, Metric | SeedMetric]) -> tuple[str, ...]:
    found = [
        metric.remark(of_run[name])
        for name, metric in metrics.items()
        if isinstance(metric, Metric) and metric.remark is not None
        for of_run in results
        if name in of_run
    ]
    return tuple(dict.fromkeys(found))


class _Data:
    """The images of runs; those of the same data are loaded once."""

    def __init__(self, place: str | Path | None) -> None:
        self._place = place
        self._known: dict[str, tuple[RunImages, Images]] = {}

    def of(self, run: Run) -> tuple[RunImages, Images]:
        """The images of a run, and the training images as the held-out ones are: binarised or not."""
        key = json.dumps([run.recipe.data, run.machine.get("data_dir"), run.machine.get("data_sha256")])
        if key not in self._known:
            images = load_run_images(run, self._place)
            self._known[key] = images, binarize(images.train, images.binarize)
        return self._known[key]


def _target(out: str | Path | None, runs: Sequence[Run], overwrite: bool) -> Path:
    """The directory to write into; nothing in it is replaced unless ``overwrite``."""
    if not runs:
        raise ValueError("name at least one run to compare")
    if out is None:
        first = runs[0].name.replace(".", "_")
        others = f"-and-{len(runs) - 1}-more" if len(runs) > 2 else "".join(f"-{run.name}" for run in runs[1:])
        return unique_path(Path(fit_name(f"compare-{first}{others.replace('.', '_')}", 100)))
    path = check_path(out, "out")
    check_parents(path)
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file; --out names a directory")
    there = [name for name in FILES if (path / name).exists()]
    if there and not overwrite:
        raise FileExistsError(f"{path / there[0]} exists; choose another --out, or say --overwrite")
    return path


def _row(
    run: Run, label: str, model: VAE, results: Mapping[str, Result], quantities: Mapping[str, tuple[str, Quantity]]
) -> Row:
    recipe, facts = run.recipe, {fact.quantity.key: fact for fact in FACTS}
    row: Row = {"run": str(run.path), "label": label, "recipe": recipe.name, "seed": recipe.training.seed}
    for key, (owner, _) in quantities.items():
        result = results.get(owner, {})
        row[key] = facts[key].value(run, model, row) if key in facts else result.get(key)
        if f"{key}_standard_error" in result:
            row[f"{key}_standard_error"] = result[f"{key}_standard_error"]
    held_out = next(iter(results.values()))["protocol"]["images"]
    return {**row, "latents": model.spec.latent_dim, "held_out_images": held_out}


# -- pictures ---------------------------------------------------------------------------------------------------------


def comparison_arrays(comparison: Comparison) -> dict[str, Any]:
    """What the figure shows: a panel for each quantity that is known of any run."""
    groups = comparison.groups
    titles = {quantity.key: quantity.title for quantity in comparison.quantities}
    panels = []
    for quantity in comparison.quantities:
        values = _values(groups, quantity.key)
        known = {value for group in values for value in group if np.isfinite(value)}
        is_equal = quantity.drawn == "if different" and len(known) == 1
        if quantity.drawn == "never" or not known or is_equal:
            continue
        panel: dict[str, Any] = {
            "title": quantity.title,
            "unit": quantity.unit,
            "better": quantity.better,
            "values": values,
        }
        panel["errors"] = _values(groups, f"{quantity.key}_standard_error")
        baselines = {row.get(quantity.baseline) for row in comparison.rows} - {None}
        if len(baselines) == 1:
            panel |= {"baseline": baselines.pop(), "baseline_title": titles[quantity.baseline]}
        panels.append(panel)
    return {
        "labels": list(groups),
        "panels": panels,
        "remarks": list(comparison.remarks),
        "images": sorted({row["held_out_images"] for row in comparison.rows}),
    }


def _values(groups: Mapping[str, Sequence[Mapping[str, Any]]], key: str) -> list[list[float]]:
    """One number for each run of each group, nan where there is none."""
    return [[float("nan") if row.get(key) is None else float(row[key]) for row in rows] for rows in groups.values()]


def side_by_side_arrays(held_out: Images, models: Sequence[tuple[str, VAE]]) -> dict[str, Any]:
    """The same originals for all models, and what each makes of them and of the same random codes."""
    some = held_out.subsample(SHOWN_IMAGES, generator(0, "side by side"))
    originals = np.asarray(some.pixels[:])
    rebuilt: list[NDArray[np.uint8]] = []
    drawn: list[NDArray[np.uint8]] = []
    for _, model in models:
        rebuilt.append(to_uint8(torch.from_numpy(model.reconstruct(some))))
        drawn.append(to_uint8(model.sample(SHOWN_IMAGES, derive_seed(0, "side by side"))))
    return {
        "labels": [label for label, _ in models],
        "originals": originals,
        "reconstructions": np.stack(rebuilt),
        "samples": np.stack(drawn),
    }


def _write(comparison: Comparison, pictures: Mapping[str, Any]) -> None:
    """The four files."""
    columns = list(dict.fromkeys(key for row in comparison.rows for key in row))
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(comparison.rows)
    arrays = comparison_arrays(comparison)
    content = {"runs": comparison.rows, "remarks": comparison.remarks, "warnings": comparison.warnings}
    contents: dict[str, str | bytes] = {
        "comparison.json": json.dumps(content, indent=2, ensure_ascii=False) + "\n",
        "comparison.csv": sheet.getvalue(),
        "comparison.png": draw(figure, arrays),
        "side-by-side.png": draw(side_by_side, dict(pictures)),
    }
    for name, path in comparison.paths.items():
        write_atomic(path, contents[name])


def draw(module: Any, arrays: dict[str, Any]) -> bytes:
    """A figure of several runs as a PNG."""
    return render(module.draw(arrays), {"Title": module.TITLE, "Description": module.caption(arrays)})
