"""``vaelab compare``: several runs on one page, in one table and two figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vaelab.api.comparison_page import compare_command, write_comparison_page
from vaelab.api.load import load
from vaelab.api.output_paths import find_folder
from vaelab.api.report import update_report
from vaelab.api.run_images import RunImages, load_run_images
from vaelab.build import declared_objective
from vaelab.data.containers import printable
from vaelab.data.images import Images, binarize
from vaelab.data.pictures import shrink_png
from vaelab.data.tensors import to_uint8
from vaelab.evaluation.comparability import find_obstacles, group_runs
from vaelab.evaluation.evaluate import default_metrics, known_results, load_codes, measure_run
from vaelab.evaluation.evaluation import Evaluation, NotMeasurable
from vaelab.evaluation.metrics import Metric, Quantity, Question, Result, SeedMetric, load_metrics, order_quantities
from vaelab.exporters.tables import write_columns
from vaelab.figures import comparison as figure
from vaelab.figures import render, side_by_side
from vaelab.models.vae import VAE
from vaelab.run import EVALUATION, REPORT, TIMING, Run
from vaelab.run.records import REMEDIES
from vaelab.system import html
from vaelab.system.arguments import AnyPath, check_list, check_path
from vaelab.system.errors import UsageError
from vaelab.system.failures import describe_error
from vaelab.system.files import DamagedFile, check_parents, fit_name, to_json, unique_path, write_atomic
from vaelab.system.messages import count_of
from vaelab.system.noise import generator

FILES = (REPORT, "comparison.json", "comparison.csv", "comparison.png", "side-by-side.png")
MAX_SHOWN_RUNS, SHOWN_IMAGES = 8, 8
"""Rows and columns of the figure of runs side by side."""
FIGURE_WIDTH = 900
"""Largest width, in pixels, of the figures in the representation of a comparison."""

OF_RUN = "the run"
Row = dict[str, Any]
Pixels = NDArray[np.uint8]
Skipped = dict[str, str]
"""Metric → why it was not measured."""


FACTS = (
    Quantity("beta_kl", "β·KL", "nats", order=11),
    Quantity("parameters", "parameters", digits=0, drawn="if different"),
    Quantity("seconds", "training time", "s", digits=0),
)
"""Quantities of a run that need no measurement."""


@dataclass(frozen=True)
class Comparison:
    """Numbers of several runs side by side."""

    rows: list[Row]
    """One per run, with a key for each quantity (None: unknown). ``label`` describes what distinguishes the run's
    recipe and is the same for all seeds of a recipe."""
    quantities: tuple[Quantity, ...]
    """Rows of the table from top to bottom."""
    remarks: tuple[str, ...]
    """Clauses that readers need in order to interpret the numbers, and what was not measured and why."""
    warnings: list[str]
    """Reasons why some of the numbers do not compare."""
    paths: dict[str, Path]
    """Name → file."""
    questions: Mapping[str, Question | None] = field(default_factory=dict, repr=False)
    """Key of a quantity → the question that it helps to answer; None for facts of the training."""

    def _repr_html_(self) -> str:
        """Return what does not compare and the figures, for a notebook."""
        figures = {name: path for name, path in self.paths.items() if path.suffix == ".png" and path.is_file()}
        shown = [html.picture(shrink_png(path.read_bytes(), FIGURE_WIDTH), name) for name, path in figures.items()]
        warnings = {f"warning {number}": warning for number, warning in enumerate(self.warnings, 1)}
        return html.fragment(f"Comparison of {count_of(len(self.rows), 'run')}", warnings, shown)

    @property
    def groups(self) -> dict[str, list[Row]]:
        """Label → rows of the runs that differ only in their seed."""
        found: dict[str, list[Row]] = {}
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
    """Compare trained runs on their held-out images and write tables, figures and a page.

    The files are report.html, comparison.json, comparison.csv, comparison.png and side-by-side.png. Stored results are
    not measured again. Metrics that take minutes are shown if a run was evaluated with them. Metrics whose needs are
    not met are left out with a remark. Seeds of one recipe form a group. ``out``: the output directory (default: a new
    one, compare-…). Raises FileNotFoundError for a path that is no run, and for a run that is not fully trained.
    """
    opened = [Run(run) for run in check_list(runs, "runs")]
    found = list({run.path.resolve(): run for run in opened}.values())
    for run in found:
        _ = run.model_path  # raises for a run that is not fully trained
    target = _choose_directory(out, found, overwrite)
    groups, metrics, known = group_runs(found), load_metrics(), dict[str, tuple[RunImages, Images]]()
    declared = [(name, metric.order, metric.quantities) for name, metric in metrics.items()]
    quantities = order_quantities([*declared, (OF_RUN, 900, FACTS)])
    owners = {key: owner for key, (owner, _) in quantities.items()}
    shown = [members[0] for members in list(groups.values())[:MAX_SHOWN_RUNS]]
    rows, images, results, skipped, pictures = {}, {}, {}, {}, []
    for label, members in groups.items():
        evaluations = []
        for run in members:
            model, (images[run], train) = load(run.path), _load_images(run, data, known)
            encode, sampler = partial(load_codes, run, model), run.recipe.sampler
            evaluation = Evaluation(model, images[run].valid, train, encode=encode, sampler=sampler)
            results[run], skipped[run] = _measure(run, evaluation, images[run])
            rows[run] = _row(run, label, model, results[run], owners)
            evaluations.append(evaluation)
            if run in shown and model.spec.image_shape == images[shown[0]].train.image_shape:
                pictures.append((label, *draw_pictures(evaluation, images[shown[0]].valid)))
        for name, metric in metrics.items():
            if isinstance(metric, SeedMetric) and len(members) > 1:
                for run, result in zip(members, _measure_seeds(metric, evaluations), strict=True):
                    if isinstance(result, str):
                        skipped[run][name] = result
                    else:
                        rows[run] |= {quantity.key: result.get(quantity.key) for quantity in metric.quantities}
    of_runs = [results[run] for run in found]
    comparison = Comparison(
        [rows[run] for run in found],
        tuple(quantity for _, quantity in quantities.values()),
        (*_remarks(of_runs, metrics), *_describe_skipped(skipped)),
        find_obstacles(found, [images[run] for run in found], of_runs),
        {name: target / name for name in FILES},
        {key: metrics[owner].question if owner != OF_RUN else None for key, owner in owners.items()}
        | {"beta_kl": "fit"},
    )
    _write(comparison, side_by_side_arrays(images[shown[0]].valid, pictures))
    title = f"Comparison of {count_of(len(found), 'run')}"
    write_page(comparison, target, title, [compare_command([run.path for run in found], data)])
    return comparison


def write_page(comparison: Comparison, folder: Path, title: str, commands: Sequence[str]) -> None:
    """Write report.html of a comparison whose other files are written."""
    write_comparison_page(
        folder,
        title,
        comparison.groups,
        [(comparison.questions[quantity.key], quantity) for quantity in comparison.quantities],
        obstacles=comparison.warnings,
        remarks=comparison.remarks,
        commands=commands,
    )


def _measure(run: Run, evaluation: Evaluation, images: RunImages) -> tuple[dict[str, Result], Skipped]:
    """Return the default metrics and all other stored results for the same weights and images, and skipped metrics."""
    before, store = run.evaluation, run.is_writable
    evaluated = measure_run(run, evaluation, images.protocol, default_metrics("compare"), store=store)
    results = evaluated.results
    if store and (run.evaluation != before or run.is_report_stale):
        update_report(run, evaluation.model)
    return {**known_results(run, like=next(iter(results.values()))), **results}, evaluated.skipped


def _measure_seeds(metric: SeedMetric, evaluations: Sequence[Evaluation]) -> Sequence[Result | str]:
    """Return for each of several seeds of a recipe its result, or why it has none."""
    try:
        for evaluation in evaluations:
            evaluation.check_needs(metric.needs)
        return metric.measure(evaluations)
    except NotMeasurable as error:
        return [str(error)] * len(evaluations)


def _describe_skipped(skipped: Mapping[Run, Skipped]) -> list[str]:
    """Return a clause for each reason why metrics were not measured, with the runs unless it concerns all."""
    concerned: dict[tuple[str, str], list[str]] = {}
    for run, reasons in skipped.items():
        for metric, reason in reasons.items():
            concerned.setdefault((metric, reason), []).append(run.name)
    metrics: dict[tuple[str, str], list[str]] = {}
    for (metric, reason), names in concerned.items():
        runs = f" of {', '.join(names)}" if len(names) < len(skipped) else ""
        metrics.setdefault((runs, reason), []).append(metric)
    return [f"not measured{runs}: {', '.join(names)} ({reason})" for (runs, reason), names in metrics.items()]


def _remarks(results: Sequence[Mapping[str, Result]], metrics: Mapping[str, Metric | SeedMetric]) -> tuple[str, ...]:
    found = [
        metric.remark(of_run[name])
        for name, metric in metrics.items()
        if isinstance(metric, Metric) and metric.remark is not None
        for of_run in results
        if name in of_run
    ]
    return tuple(dict.fromkeys(found))


def _load_images(run: Run, place: str | Path | None, known: dict[str, tuple[RunImages, Images]]) -> Any:
    """Return the images of a run, and its training images binarised as the held-out ones are; add them to ``known``."""
    key = json.dumps([run.recipe.data, run.machine.get("data_dir"), run.data_sha256])
    if key not in known:
        images = load_run_images(run, place)
        known[key] = images, binarize(images.train, images.binarize)
    return known[key]


def _choose_directory(out: str | Path | None, runs: Sequence[Run], overwrite: bool) -> Path:
    """Return the directory to write into; FileExistsError if it holds a comparison, unless ``overwrite``."""
    if not runs:
        raise UsageError("name at least one run to compare", subject="runs")
    if out is None:
        first = runs[0].name.replace(".", "_")
        others = f"-and-{len(runs) - 1}-more" if len(runs) > 2 else "".join(f"-{run.name}" for run in runs[1:])
        return unique_path(find_folder(runs[0]) / fit_name(f"compare-{first}{others.replace('.', '_')}", 100))
    path = check_path(out, "out")
    check_parents(path)
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file; --out names a directory")
    existing = [path / name for name in FILES if (path / name).exists()]
    if existing and not overwrite:
        raise FileExistsError(f"{existing[0]} exists; choose another --out, or say --overwrite")
    return path


def _row(run: Run, label: str, model: VAE, results: Mapping[str, Result], owners: Mapping[str, str]) -> Row:
    """Return the row of a run, ``owners`` being the metric of each quantity; DamagedFile if a result was edited."""
    beta, timing = declared_objective(run.recipe).kl_weight, run.table(TIMING)
    row: Row = {"run": str(run.path), "label": label, "recipe": run.recipe.name, "seed": run.recipe.training.seed}
    try:
        facts = {
            "beta_kl": None if beta is None else beta * results["elbo"]["kl"],
            "parameters": sum(model.num_parameters.values()),
            "seconds": float(timing["seconds"][-1]) if timing else None,
        }
        for key, owner in owners.items():
            result = results.get(owner, facts if owner == OF_RUN else {})
            errors = {f"{key}_standard_error": result.get(f"{key}_standard_error")}
            row |= {key: result.get(key), **{name: error for name, error in errors.items() if error is not None}}
        held_out = next(iter(results.values()))["protocol"]["images"]
    except (KeyError, TypeError) as error:
        reason = f"a number or a name is not as it was written ({describe_error(error)})"
        raise DamagedFile(run.path / EVALUATION, reason, REMEDIES[EVALUATION]) from None
    return {**row, "latents": model.spec.latent_dim, "held_out_images": held_out}


# -- figures and files ------------------------------------------------------------------------------------------------


def comparison_arrays(comparison: Comparison) -> dict[str, Any]:
    """Return the arrays of the comparison figure: a panel for each quantity that is known of any run."""
    groups = comparison.groups
    titles = {quantity.key: quantity.title for quantity in comparison.quantities}

    def values_of(key: str) -> list[list[float]]:
        """Return a number for each run of each group, nan if it is unknown."""
        return [[float("nan") if row.get(key) is None else float(row[key]) for row in rows] for rows in groups.values()]

    panels = []
    for quantity in comparison.quantities:
        known = {row[quantity.key] for row in comparison.rows if row.get(quantity.key) is not None}
        if quantity.drawn == "never" or not known or (quantity.drawn == "if different" and len(known) == 1):
            continue
        panel: dict[str, Any] = {
            "title": quantity.title,
            "unit": quantity.unit,
            "better": quantity.better,
            "decides": quantity.decides,
            "values": values_of(quantity.key),
            "errors": values_of(f"{quantity.key}_standard_error"),
        }
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


def draw_pictures(evaluation: Evaluation, held_out: Images) -> tuple[Pixels, Pixels, str]:
    """Return reconstructions of some images, images of random codes, and the source of these codes."""
    model, some = evaluation.model, _choose_images(held_out)
    codes, conditions, source = evaluation.draw_codes(SHOWN_IMAGES, generator(0, "side by side", "codes"))
    return to_uint8(torch.from_numpy(model.reconstruct(some))), to_uint8(model.decode(codes, conditions)), source


def _choose_images(held_out: Images) -> Images:
    return held_out.subsample(SHOWN_IMAGES, generator(0, "side by side"))


def side_by_side_arrays(held_out: Images, pictures: Sequence[tuple[str, Pixels, Pixels, str]]) -> dict[str, Any]:
    """Return some images, and by run its label, reconstructions of them, samples and the source of the samples."""
    labels, reconstructions, samples, sources = zip(*pictures, strict=True)
    return {
        "labels": list(labels),
        "originals": _choose_images(held_out).eight_bits[:],
        "reconstructions": np.stack(reconstructions),
        "samples": np.stack(samples),
        "sources": list(sources),
    }


def _write(comparison: Comparison, pictures: Mapping[str, Any]) -> None:
    """Write the tables and figures."""
    rows = comparison.rows
    columns = {
        key: [printable(value) if isinstance(value := row.get(key), str) else value for row in rows]
        for key in dict.fromkeys(key for row in rows for key in row)
    }
    content = {"runs": rows, "remarks": comparison.remarks, "warnings": comparison.warnings}
    write_atomic(comparison.paths["comparison.json"], to_json(content))
    write_columns(comparison.paths["comparison.csv"], columns)
    write_atomic(comparison.paths["comparison.png"], draw(figure, comparison_arrays(comparison)))
    write_atomic(comparison.paths["side-by-side.png"], draw(side_by_side, dict(pictures)))


def draw(module: Any, arrays: dict[str, Any]) -> bytes:
    """Return a figure of several runs as a PNG."""
    return render(module.draw(arrays), {"Title": module.TITLE, "Description": module.caption(arrays)})
