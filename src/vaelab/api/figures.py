"""``vaelab figures``: draw the figures of a run."""

import inspect
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from vaelab.api.load import load
from vaelab.api.report import update_report
from vaelab.api.run_images import RunImages, load_run_images
from vaelab.api.run_sampler import make_run_sampler
from vaelab.build import logged_terms, loss_terms, loss_unit
from vaelab.data.images import binarize
from vaelab.models.vae import VAE
from vaelab.run import Run
from vaelab.system import registry
from vaelab.system.arguments import AnyPath, check_names
from vaelab.system.failures import Failures, OnFailure, is_of_system
from vaelab.system.noise import generator
from vaelab.system.picture import Picture
from vaelab.system.progress import progress


def draw_figures(
    run_path: AnyPath,
    *,
    data: str | Path | None = None,
    names: Sequence[str] | None = None,
    out: str | Path | None = None,
) -> list[Picture]:
    """Draw the figures of a run again, update its report and return the files.

    ``names``: the figures to draw (default: all). ``out``: a directory for figures and report (default: the run).
    Raises PartialFailure after the other figures are drawn.
    """
    names = None if names is None else check_names(names, "names")
    valid = _list_figures()
    for name in names or ():
        if name not in valid:
            raise registry.unknown("figure of a run", name, valid)
    run, failures = Run(run_path, results=out), Failures()
    model, images = load(run), load_run_images(run, data)
    run.check_writable()
    drawn = update_figures(run, model, images, failures, "all" if names is None else names)
    update_report(run, model)
    failures.raise_any("figures that could not be drawn")
    return [run.figures[name] for name in drawn]


def update_figures(
    run: Run, model: VAE, images: RunImages, on_failure: OnFailure, names: Sequence[str] | Literal["all"]
) -> list[str]:
    """Draw figures into a run and return the names of those drawn; figures that do not apply to it are left out.

    A figure that fails is passed to ``on_failure``; the others are drawn.
    """
    if not names:
        return []
    from vaelab.figures import render  # importing Matplotlib takes 0.25 s, which would delay the first training step

    modules = {name: registry.load("figures", name) for name in (_list_figures() if names == "all" else names)}
    drawn = []
    with progress("drawing", len(modules)) as bar:
        for name, module in modules.items():
            try:
                arrays = _make_arrays(run, model, images, name, module)
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


def _list_figures() -> list[str]:
    """Return the names of all figures of one run; those of several runs define neither ``compute`` nor ``collect``."""
    modules = {name: registry.load("figures", name) for name in registry.names("figures")}
    return [name for name, module in modules.items() if hasattr(module, "compute") or hasattr(module, "collect")]


def _make_arrays(run: Run, model: VAE, images: RunImages, name: str, module: Any) -> dict[str, Any] | None:
    """Return the arrays that a figure shows; None if it does not apply to this run."""
    if hasattr(module, "collect"):
        history = run.history
        recipe, arguments = run.recipe, inspect.signature(module.collect).parameters
        summands, unit = loss_terms(recipe), loss_unit(recipe)
        terms = [term for term in logged_terms(recipe) if term.unit == "nats" or term.name in summands]
        others = {"unit": unit} if "unit" in arguments else {}
        collected: dict[str, Any] | None = module.collect(history, run.validation, terms, **others) if history else None
        return collected
    chosen = binarize(images.train, images.binarize) if module.SPLIT == "train" else images.valid
    random, options = generator(run.recipe.training.seed, "figure", name), dict[str, Any]()
    section = run.recipe.sampler
    if "sampler" in inspect.signature(module.compute).parameters and section["name"] != "prior":
        seen = partial(binarize, images.train, images.binarize)
        options["sampler"] = make_run_sampler(run, section, model, seen)
    computed: dict[str, Any] | None = module.compute(model, chosen, random, **options)
    return computed
