"""What comes after training: load a model, draw its figures, measure it, write its report."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vaelab import recipe as recipes
from vaelab.api.data import DataOfRun, data_of, published_facts
from vaelab.build import beta_equivalents, build
from vaelab.data.decode import ResizePolicy
from vaelab.data.images import Images, as_tensor, binarize, spread_rows, to_float
from vaelab.evaluation import doctor
from vaelab.evaluation.evaluate import codes_of
from vaelab.exporters.report import write_report
from vaelab.models.vae import VAE
from vaelab.recipe import Recipe
from vaelab.run import FINDINGS, HISTORY, MODEL, REPORT, VALIDATION, OtherRecipe, Run
from vaelab.run.records import REMEDIES, ModelFacts
from vaelab.system import registry as catalog
from vaelab.system.arguments import AnyPath, check_names, check_path
from vaelab.system.failures import OnFailure, describe_error, is_of_system
from vaelab.system.files import DamagedFile, check_file, check_shape, load_tensors
from vaelab.system.progress import progress
from vaelab.system.seeds import generator

MODEL_FORMAT = 2
CONDITION_ROWS = "condition_rows"
"""Tensor of a model file that is no weight: conditions of training images (``models.conditions.training_rows``)."""
LOOKED_AT = 512
"""Images that are enough to see what they are like."""


def load(path: AnyPath) -> VAE:
    """The model of a run directory or of a ``model.safetensors``, on the CPU; nothing in it is executed."""
    return load_with_resize_policy(path)[0]


def load_with_resize_policy(path: AnyPath) -> tuple[VAE, ResizePolicy | None]:
    """A model, and how pictures of any size come to its own (None: the data set does not say).

    Raises DamagedFile for a file that is not whole, OtherRecipe if a run holds the model of another one.
    """
    path = check_path(path, "a run or model")
    if path.exists() and not path.is_dir():
        check_file(path)
    run = None if path.is_file() else Run.open(path)
    file = path if run is None else run.model_path
    remedy = "" if run is None else REMEDIES[MODEL]
    tensors, facts = load_tensors(file, remedy=remedy)
    if facts.get("format") != MODEL_FORMAT:
        raise ValueError(f"{file}: not a vaelab model, or one of another version (format {facts.get('format')})")
    told = check_shape(file, facts, ModelFacts, remedy)
    if run is not None and (reason := run.find_mismatch(facts)):
        raise OtherRecipe(f"{file} does not belong to this run: {reason}; {remedy}")
    recipe = recipes.validate(told.recipe, told.name)
    channels, height, width = told.image_shape
    vae, _ = build(recipe, (channels, height, width), told.num_images, tuple(told.condition_names))
    try:
        vae.condition_rows = tensors.pop(CONDITION_ROWS)
        vae.load_state_dict(tensors)
    except (KeyError, RuntimeError):
        raise DamagedFile(file, "its weights do not fit the recipe in it", remedy) from None
    vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    module = catalog.load("datasets", recipe.data["name"])
    frame = getattr(module, "resize_policy", None)
    policy: ResizePolicy | None = frame(vae.spec.image_shape, **recipes.load_options(recipe)) if frame else None
    return vae.eval(), policy


def draw_figures(
    run: Run, model: VAE, images: DataOfRun, on_failure: OnFailure, names: Sequence[str] | None = None
) -> list[str]:
    """Draw figures (default: all of one run that have a meaning here) into the run; the names drawn.

    ``on_failure`` is told of a figure that fails; the others are drawn.
    """
    from vaelab.figures import render  # Matplotlib takes a quarter of a second, which a first step need not wait for

    modules = {name: catalog.load("figures", name) for name in (names or _figures_of_one_run())}
    drawn = []
    with progress("drawing", len(modules)) as bar:
        for name, module in modules.items():
            try:
                arrays = _arrays(run, model, images, name, module)
                if arrays is not None:
                    words = {"Title": module.TITLE, "Description": module.caption(arrays)}
                    picture = render(module.draw(arrays), words)
            except Exception as error:
                if is_of_system(error):
                    raise
                on_failure(name, error)
            else:
                if arrays is not None:
                    run.write_figure(name, picture)
                    drawn.append(name)
            bar.advance(1)
    return drawn


def _figures_of_one_run() -> list[str]:
    """Names of all figures but those of several runs, whose arrays are gathered by ``compare`` and ``sweep``."""
    modules = {name: catalog.load("figures", name) for name in catalog.names("figures")}
    return [name for name, module in modules.items() if hasattr(module, "compute") or hasattr(module, "collect")]


def _arrays(run: Run, model: VAE, images: DataOfRun, name: str, module: Any) -> dict[str, Any] | None:
    if hasattr(module, "collect"):
        history = run.history
        collected: dict[str, Any] | None = module.collect(history, run.validation) if history else None
        return collected
    seed = run.recipe.training.seed
    chosen = binarize(images.train, images.binarize) if module.SPLIT == "train" else images.valid
    computed: dict[str, Any] | None = module.compute(model, chosen, generator(seed, "figure", name))
    return computed


def update_report(run: Run, model: VAE, finished: str | None = None) -> list[str]:
    """Write the report of ``run`` from what lies in its directory; a sentence for each file that cannot be read."""
    order = {name: getattr(catalog.load("figures", name), "ORDER", 99) for name in catalog.names("figures")}
    shown = sorted(order, key=lambda name: (order[name], name))
    return write_report(run, shown, describe_model(run.recipe, model), finished)


def describe_model(recipe: Recipe, model: VAE) -> dict[str, str]:
    """Lines about a model for people: sizes, parameters, β in other papers' terms."""
    facts, counts = model.spec, model.num_parameters
    channels, height, width = facts.image_shape
    other = beta_equivalents(recipe, facts)
    lines = {
        "images": f"{height}×{width}, {'grey' if channels == 1 else 'RGB'}; {facts.num_images:,} to train on",
        "latents": str(facts.latent_dim),
        "parameters": f"{sum(counts.values()):,} (encoder {counts['encoder']:,}, decoder {counts['decoder']:,})",
    }
    if "beta" in other:
        lines["β"] = f"{other['beta']:g} (normalised, β·d/D: {other['beta_normalised']:.4g})"
    if "sigma" in other:
        lines["equivalent decoder σ"] = f"{other['sigma']:.4g}"
    return lines


class SomeFailed(RuntimeError):
    """Some of several pieces of work failed; the others are done. ``reasons``: name → why."""

    def __init__(self, what: str, reasons: Mapping[str, str]) -> None:
        super().__init__(f"{what}: " + "; ".join(f"{name}: {reason}" for name, reason in reasons.items()))
        self.reasons = dict(reasons)


class Failures:
    """Collects what fails while the rest goes on."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def __call__(self, name: str, error: Exception) -> None:
        self.reasons[name] = describe_error(error)

    def raise_any(self, what: str) -> None:
        """SomeFailed if anything failed."""
        if self.reasons:
            raise SomeFailed(what, self.reasons)


def is_writable(run_path: AnyPath) -> bool:
    """Whether results can be written into a run."""
    return Run.open(run_path).is_writable


def open_run(run_path: AnyPath, out: str | Path | None) -> Run:
    """A run whose results go to ``out`` (None: into the run), where they can be written.

    Raises PermissionError if they cannot, before anything is measured.
    """
    run = Run.open(run_path)
    if out is not None and Path(out).resolve() != run.path.resolve():
        run = Run.open(run_path, results=out)
    run.check_writable()
    return run


def figures(
    run_path: AnyPath,
    *,
    data: str | Path | None = None,
    names: Sequence[str] | None = None,
    out: str | Path | None = None,
) -> list[Path]:
    """Draw the figures of a run again and update its report; the files drawn.

    ``out``: a directory for them and the report instead of the run's. Raises SomeFailed after the others are drawn.
    """
    run = Run.open(run_path)
    valid = _figures_of_one_run()
    names = None if names is None else check_names(names, "names")
    for name in names or ():
        if name not in valid:
            raise catalog.unknown("figure of a run", name, valid)
    model, images = load(run.path), data_of(run, data)
    run, failures = open_run(run_path, out), Failures()
    drawn = draw_figures(run, model, images, failures, names)
    update_report(run, model)
    failures.raise_any("figures that could not be drawn")
    return [run.figures[name] for name in drawn]


def report(run_path: AnyPath, *, out: str | Path | None = None) -> Path:
    """Write the report of a run again from what lies in its directory, or in ``out``, which then receives it.

    A file that cannot be read is left out; the report and a UserWarning say so.
    """
    model = load(Run.open(run_path).path)
    run = open_run(run_path, out)
    for problem in update_report(run, model):
        warnings.warn(problem, stacklevel=2)
    return run.results / REPORT


def diagnose(
    run_path: AnyPath, *, data: str | Path | None = None, out: str | Path | None = None
) -> list[doctor.Finding]:
    """What looks wrong with a run, problems first; kept in doctor.json and shown in the report.

    ``out``: a directory for both instead of the run's. Raises SomeFailed after the other checks are kept.
    """
    model = load(Run.open(run_path).path)
    run, failures = open_run(run_path, out), Failures()
    found = examine(run, model, data_of(run, data).valid, failures)
    update_report(run, model)
    failures.raise_any("checks that failed")
    return found


def examine(run: Run, model: VAE, held_out: Images, on_failure: OnFailure) -> list[doctor.Finding]:
    """The doctor's findings on a trained run and its held-out images, written to doctor.json.

    ``on_failure`` is told of a check that fails; the others go on.
    """
    looked_at = held_out.take(spread_rows(len(held_out), LOOKED_AT))
    originals = to_float(as_tensor(looked_at.pixels[:]))
    damage = [error for error in run.find_damage() if error.path.name != FINDINGS]
    damaged = {error.path.name for error in damage}
    evidence = doctor.Evidence(
        recipe=run.recipe,
        spec=model.spec,
        history={} if HISTORY in damaged else run.history,
        validation={} if VALIDATION in damaged else run.validation,
        codes=codes_of(run, model, held_out),
        originals=originals.numpy(),
        reconstructions=model.reconstruct(looked_at),
    )
    findings = doctor.sort_findings([*doctor.find_damage(damage), *doctor.examine(evidence, on_failure)])
    run.write_json(FINDINGS, {"findings": [vars(finding) for finding in findings]})
    return findings


def list_recipes() -> list[dict[str, Any]]:
    """Every preset with data, network, objective, size and the numbers it should reach.

    "auto" stays where it depends on a person's own images, and so do the shape and the parameters (None).
    """
    rows = []
    for name in recipes.presets():
        recipe = recipes.load(name)
        published, parameters = published_facts(recipe), None
        if published is not None:
            shape, counts = published
            recipe = recipe.resolve(shape, counts["train"])
            with torch.device("meta"):
                vae, _ = build(recipe, shape, counts["train"])
            parameters = sum(vae.num_parameters.values())
        rows.append(
            {
                "name": name,
                "title": recipe.title,
                "data": recipe.data["name"],
                "image_shape": list(published[0]) if published else None,
                "network": recipe.network["name"],
                "objective": recipe.objective["name"],
                "likelihood": recipe.likelihood["name"],
                "latent_dim": recipe.network["latent_dim"],
                "parameters": parameters,
                "epochs": recipe.training.epochs,
                "expected": recipe.expected,
            }
        )
    return rows
