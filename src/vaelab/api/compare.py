"""``vaelab compare``: several runs in one table and two pictures."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vaelab.api.data import DataOfRun, data_of
from vaelab.api.results import load, update_report
from vaelab.api.targets import check_parents
from vaelab.data.images import Images, binarize, to_uint8
from vaelab.evaluation import evaluate as evaluation
from vaelab.evaluation.comparability import find_obstacles, group_runs
from vaelab.evaluation.metrics.udr import SILENT_KL, udr
from vaelab.figures import comparison as figure
from vaelab.figures import render, side_by_side
from vaelab.models.codes import Codes
from vaelab.models.vae import VAE
from vaelab.run import EVALUATION, TIMING, Run
from vaelab.run.records import REMEDIES
from vaelab.system.arguments import AnyPath, check_list, check_path
from vaelab.system.device import derive_seed
from vaelab.system.failures import describe_error
from vaelab.system.files import DamagedFile, fit_name, free_path, write_atomic

FILES = ("comparison.json", "comparison.csv", "comparison.png", "side-by-side.png")
SHOWN_RUNS, SHOWN_IMAGES = 8, 8
"""On the picture of runs side by side."""
WHERE_MEASURED = ("nll", "dci")
"""Metrics that take minutes: compared where runs were evaluated by them."""


@dataclass(frozen=True)
class Quantity:
    """One line of the table, one panel of the figure."""

    key: str
    """In ``Comparison.rows``; where there is a standard error, it stands under KEY_standard_error."""
    metric: str
    """Of evaluation.json, where it has the same key; empty for what is known of the run itself."""
    title: str
    unit: str = ""
    better: str = ""
    """"lower" or "higher", where one of them is."""
    digits: int = 2
    """After the point, in the table."""
    is_drawn: bool = True


QUANTITIES = (
    Quantity("reconstruction", "likelihood", "reconstruction", "nats", "lower"),
    Quantity("kl", "likelihood", "KL", "nats"),
    Quantity("beta_kl", "", "β·KL", "nats"),
    Quantity("elbo", "likelihood", "ELBO", "nats", "higher"),
    Quantity("mutual_information", "decomposition", "index-code mutual information", "nats"),
    Quantity("total_correlation", "decomposition", "total correlation", "nats"),
    Quantity("dimension_wise_kl", "decomposition", "dimension-wise KL", "nats"),
    Quantity("active_units", "active_units", "active units", "latents", digits=0),
    Quantity("hoyer", "sparsity", "sparsity of the codes", "Hoyer, 0 to 1", digits=3),
    Quantity("accuracy", "probe", "probe accuracy", "share", "higher", digits=3),
    Quantity("majority_accuracy", "probe", "accuracy of the majority's answer", "share", digits=3, is_drawn=False),
    Quantity("balanced_accuracy", "probe", "probe balanced accuracy", "share", "higher", digits=3),
    Quantity("psnr_mean_over_finite", "fidelity", "PSNR, mean over images", "dB", "higher"),
    Quantity("nll", "nll", "−ln p(x)", "nats", "lower"),
    Quantity("mig", "mig", "MIG", better="higher", digits=3),
    Quantity("sap", "sap", "SAP", better="higher", digits=3),
    Quantity("disentanglement", "dci", "DCI disentanglement", better="higher", digits=3),
    Quantity("completeness", "dci", "DCI completeness", better="higher", digits=3),
    Quantity("informativeness", "dci", "DCI informativeness", better="higher", digits=3),
    Quantity("modularity", "modularity", "modularity", better="higher", digits=3),
    Quantity("explicitness", "modularity", "explicitness", better="higher", digits=3),
    Quantity("irs", "irs", "IRS", better="higher", digits=3),
    Quantity("factor_score", "factor_score", "FactorVAE score", better="higher", digits=3),
    Quantity("beta_score", "beta_score", "β-VAE score", better="higher", digits=3),
    Quantity("udr", "", "UDR, agreement of seeds", better="higher", digits=3),
    Quantity("parameters", "", "parameters", digits=0),
    Quantity("seconds", "", "training time", "s", digits=0),
)
"""Nats are per image, on the held-out images; the three parts of the KL are those of training images."""


@dataclass(frozen=True)
class Comparison:
    """What is known of several runs, side by side."""

    rows: list[dict[str, Any]]
    """One for each run, keys as in QUANTITIES; None for what a run has not. ``label``: what sets its recipe apart,
    the same for all seeds of a recipe."""
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

    Images with known factors add the scores of disentanglement. What takes minutes (``WHERE_MEASURED``) is shown where
    a run was evaluated by it. Seeds of one recipe are one group, and ``udr`` says how far they agree. Raises
    FileNotFoundError for what is no run or not trained to its end.
    """
    opened = [Run.open(run) for run in check_list(runs, "runs")]
    found = list({run.path.resolve(): run for run in opened}.values())
    for run in found:
        _ = run.model_path  # complains of a run that is not trained to its end
    target = _target(out, found, overwrite)
    groups = group_runs(found)
    known = _Data(data)
    shown = [members[0] for members in list(groups.values())[:SHOWN_RUNS]]
    rows, images, results, pictures = {}, {}, {}, []
    for label, members in groups.items():
        codes = []
        for run in members:
            model, (images[run], train) = load(run.path), known.of(run)
            results[run] = _measure(run, model, images[run], train)
            try:
                rows[run] = _row(run, label, model, results[run])
            except (KeyError, TypeError) as error:  # numbers that were measured before, and stand in the file otherwise
                reason = f"a number or a name is not as it was written ({describe_error(error)})"
                raise DamagedFile(run.path / EVALUATION, reason, REMEDIES[EVALUATION]) from None
            if len(members) > 1:
                codes.append(evaluation.codes_of(run, model, images[run].valid))
            if run in shown and model.spec.image_shape == images[shown[0]].train.image_shape:
                pictures.append((label, model))
        for run, agreement in zip(members, _agreement(codes) or [None] * len(members), strict=True):
            rows[run]["udr"] = agreement
    warnings = find_obstacles(found, [images[run] for run in found], [results[run] for run in found])
    comparison = Comparison([rows[run] for run in found], warnings, {name: target / name for name in FILES})
    _write(comparison, side_by_side_arrays(images[shown[0]].valid, pictures))
    return comparison


def _measure(run: Run, model: VAE, images: DataOfRun, train: Images) -> dict[str, Any]:
    """Metric → numbers and protocol: what all runs are compared by, and of ``WHERE_MEASURED`` what is known."""
    before, held, store = run.evaluation, images.valid, run.is_writable
    of_factors = evaluation.OF_FACTORS if held.factors is not None else ()
    metrics = evaluation.COMPARED + of_factors
    results = evaluation.evaluate(run, model, held, images.protocol, metrics, train, store=store)
    if store and (run.evaluation != before or run.is_report_stale):
        update_report(run, model)
    same = ("images_sha256", "images_told_sha256", "weights_sha256")
    for name in WHERE_MEASURED:
        entry = run.evaluation.get(name)
        if entry and all(
            entry["measured_on"].get(key) == results["likelihood"]["measured_on"].get(key) for key in same
        ):
            results[name] = entry
    return results


def _agreement(codes: Sequence[Codes]) -> list[float | None] | None:
    """UDR of each of several seeds; None of one without a latent that carries anything, and where no two are left."""
    usable = [i for i, of_seed in enumerate(codes) if (of_seed.kl > SILENT_KL).any()]
    if len(usable) < 2:
        return None
    scores, _ = udr([codes[i].mean for i in usable], [codes[i].kl for i in usable])
    found = dict(zip(usable, scores.tolist(), strict=True))
    return [found.get(i) for i in range(len(codes))]


class _Data:
    """The images of runs; those of the same data are loaded once."""

    def __init__(self, place: str | Path | None) -> None:
        self._place = place
        self._known: dict[str, tuple[DataOfRun, Images]] = {}

    def of(self, run: Run) -> tuple[DataOfRun, Images]:
        """The images of a run, and the training images as the held-out ones are: binarised or not."""
        key = json.dumps([run.recipe.data, run.machine.get("data_dir"), run.machine.get("data_sha256")])
        if key not in self._known:
            images = data_of(run, self._place)
            self._known[key] = images, binarize(images.train, images.binarize)
        return self._known[key]


def _target(out: str | Path | None, runs: Sequence[Run], overwrite: bool) -> Path:
    """The directory to write into; nothing in it is replaced unless ``overwrite``."""
    if not runs:
        raise ValueError("name at least one run to compare")
    if out is None:
        first = runs[0].name.replace(".", "_")
        others = f"-and-{len(runs) - 1}-more" if len(runs) > 2 else "".join(f"-{run.name}" for run in runs[1:])
        return free_path(Path(fit_name(f"compare-{first}{others.replace('.', '_')}", 100)))
    path = check_path(out, "out")
    check_parents(path)
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file; --out names a directory")
    there = [name for name in FILES if (path / name).exists()]
    if there and not overwrite:
        raise FileExistsError(f"{path / there[0]} exists; choose another --out, or say --overwrite")
    return path


def _row(run: Run, label: str, model: VAE, results: Mapping[str, Any]) -> dict[str, Any]:
    recipe, timing = run.recipe, run.table(TIMING)
    row: dict[str, Any] = {"run": str(run.path), "label": label, "recipe": recipe.name, "seed": recipe.training.seed}
    for quantity in QUANTITIES:
        entry = results.get(quantity.metric, {})
        row[quantity.key] = entry.get(quantity.key)
        if f"{quantity.key}_standard_error" in entry:
            row[f"{quantity.key}_standard_error"] = entry[f"{quantity.key}_standard_error"]
    beta = _beta(run)
    return {
        **row,
        "beta": beta,
        "beta_kl": None if beta is None else beta * row["kl"],
        "latents": model.spec.latent_dim,
        "parameters": sum(model.num_parameters.values()),
        "seconds": float(timing["seconds"][-1]) if timing else None,
        "held_out_images": results["likelihood"]["protocol"]["images"],
        "decomposition_codes": results["decomposition"]["protocol"]["codes"],
        "decomposition_of": results["decomposition"]["protocol"].get("aggregate_posterior_of", "held-out images"),
        "mutual_information_limit": results["decomposition"]["mutual_information_limit"],
    }


def _beta(run: Run) -> float | None:
    """The weight of the KL in the loss; None for an objective that does not weigh it as a whole."""
    if "beta_kl" in run.history:
        return float(run.recipe.objective["beta"])
    return 1.0 if run.recipe.objective["name"] == "elbo" else None


# -- pictures ---------------------------------------------------------------------------------------------------------


def comparison_arrays(comparison: Comparison) -> dict[str, Any]:
    """What the figure shows: a panel for each quantity that is known of any run."""
    groups = comparison.groups
    panels = []
    for quantity in QUANTITIES:
        values = _values(groups, quantity.key)
        known = [value for group in values for value in group if np.isfinite(value)]
        is_dull = quantity.key == "parameters" and len({*known}) == 1
        if not quantity.is_drawn or not known or is_dull:
            continue
        panel = {"title": quantity.title, "unit": quantity.unit, "better": quantity.better, "values": values}
        panel["errors"] = _values(groups, f"{quantity.key}_standard_error")
        majority = {row["majority_accuracy"] for row in comparison.rows} - {None}
        if quantity.key == "accuracy" and len(majority) == 1:
            panel |= {"baseline": majority.pop(), "baseline_title": "the majority's answer"}
        panels.append(panel)
    return {
        "labels": list(groups),
        "panels": panels,
        "decomposed": sorted({(row["decomposition_codes"], row["decomposition_of"]) for row in comparison.rows}),
        "images": sorted({row["held_out_images"] for row in comparison.rows}),
    }


def _values(groups: Mapping[str, Sequence[Mapping[str, Any]]], key: str) -> list[list[float]]:
    """One number for each run of each group, nan where there is none."""
    return [[float("nan") if row.get(key) is None else float(row[key]) for row in rows] for rows in groups.values()]


def side_by_side_arrays(held_out: Images, models: Sequence[tuple[str, VAE]]) -> dict[str, Any]:
    """The same originals for all models, and what each makes of them and of the same random codes."""
    random = np.random.Generator(np.random.Philox(key=derive_seed(0, "side by side")))
    chosen = np.sort(random.choice(len(held_out), min(SHOWN_IMAGES, len(held_out)), replace=False))
    some = held_out.take(chosen)
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
    content = {"runs": comparison.rows, "warnings": comparison.warnings}
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
