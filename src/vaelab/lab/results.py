"""What comes after training: load a model, draw its figures, measure it, write its report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaelab import catalog, doctor, evaluation
from vaelab import recipe as recipes
from vaelab.decoding import Framing
from vaelab.files import check_file, load_tensors
from vaelab.images import Images, as_tensor, binarize, to_float
from vaelab.lab.data import DataOfRun, data_of, published_facts
from vaelab.lab.features import extractor_of
from vaelab.model import VAE
from vaelab.recipe import Recipe
from vaelab.report import write_report
from vaelab.run import FINDINGS, REPORT, Run
from vaelab.runtime import generator, progress

MODEL_FORMAT = 1
LOOKED_AT = 512
"""Images that are enough to see what they are like."""


def load(path: str | Path) -> VAE:
    """The model of a run directory or of a ``model.safetensors``, on the CPU; nothing in it is executed."""
    return load_with_framing(path)[0]


def load_with_framing(path: str | Path) -> tuple[VAE, Framing | None]:
    """A model, and how pictures of any size come to its own (None: the data set does not say)."""
    path = Path(path)
    if path.exists() and not path.is_dir():
        check_file(path)
    file = path if path.is_file() else Run.open(path).model_path
    tensors, facts = load_tensors(file)
    if facts.get("format") != MODEL_FORMAT:
        raise ValueError(f"{file}: not a vaelab model, or one of another version (format {facts.get('format')})")
    recipe = recipes.validate(_mapping(facts["recipe"]), str(facts["name"]))
    channels, height, width = (int(str(side)) for side in _sequence(facts["image_shape"]))
    vae, _ = recipes.build(recipe, (channels, height, width), int(str(facts["num_images"])))
    vae.load_state_dict(tensors)
    vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    module = catalog.load("datasets", recipe.data["name"])
    frame = getattr(module, "framing", None)
    framing: Framing | None = frame(vae.facts.image_shape, **recipes.load_options(recipe)) if frame else None
    return vae.eval(), framing


def _mapping(value: object) -> Mapping[str, Any]:
    assert isinstance(value, Mapping)
    return value


def _sequence(value: object) -> Sequence[object]:
    assert isinstance(value, Sequence)
    return value


def draw_figures(run: Run, model: VAE, images: DataOfRun, names: Sequence[str] | None = None) -> list[str]:
    """Draw figures (default: all of one run that have a meaning here) into the run; the names drawn."""
    from vaelab.figures import render  # Matplotlib takes a quarter of a second, which a first step need not wait for

    modules = {name: catalog.load("figures", name) for name in (names or _figures_of_one_run())}
    drawn = []
    with progress("drawing", len(modules)) as bar:
        for name, module in modules.items():
            arrays = _arrays(run, model, images, name, module)
            if arrays is not None:
                words = {"Title": module.TITLE, "Description": module.caption(arrays)}
                run.write_figure(name, render(module.draw(arrays), words))
                drawn.append(name)
            bar.advance(1)
    return drawn


def _figures_of_one_run() -> list[str]:
    """Names of all figures but those of several runs, whose arrays are gathered by ``compare`` and ``sweep``."""
    modules = {name: catalog.load("figures", name) for name in catalog.names("figures")}
    return [name for name, module in modules.items() if hasattr(module, "compute") or hasattr(module, "collect")]


def _arrays(run: Run, model: VAE, images: DataOfRun, name: str, module: Any) -> dict[str, Any] | None:
    if hasattr(module, "collect"):
        collected: dict[str, Any] | None = module.collect(run.history, run.validation)
        return collected
    seed = run.recipe.training.seed
    chosen = binarize(images.train, images.binarize) if module.SPLIT == "train" else images.valid
    computed: dict[str, Any] | None = module.compute(model, chosen, generator(seed, "figure", name))
    return computed


def update_report(run: Run, model: VAE) -> None:
    """Write the report of ``run`` from what lies in its directory."""
    order = {name: getattr(catalog.load("figures", name), "ORDER", 99) for name in catalog.names("figures")}
    write_report(run, sorted(order, key=lambda name: (order[name], name)), describe_model(run.recipe, model))


def describe_model(recipe: Recipe, model: VAE) -> dict[str, str]:
    """Lines about a model for people: sizes, parameters, β in other papers' terms."""
    facts, counts = model.facts, model.num_parameters
    channels, height, width = facts.image_shape
    other = recipes.equivalents(recipe, facts)
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


def figures(run_path: str | Path, *, data: str | Path | None = None, names: Sequence[str] | None = None) -> list[Path]:
    """Draw the figures of a run again and update its report; the files drawn."""
    run = Run.open(run_path)
    valid = _figures_of_one_run()
    for name in names or ():
        if name not in valid:
            raise catalog.unknown("figure of a run", name, valid)
    model = load(run.path)
    drawn = draw_figures(run, model, data_of(run, data), names)
    update_report(run, model)
    return [run.figures[name] for name in drawn]


def report(run_path: str | Path) -> Path:
    """Write the report of a run again from what lies in its directory."""
    run = Run.open(run_path)
    update_report(run, load(run.path))
    return run.path / REPORT


def evaluate(
    run_path: str | Path,
    *,
    data: str | Path | None = None,
    metrics: Sequence[str] | None = None,
    set: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure a run on its held-out images, write evaluation.json, update the report; metric → numbers and protocol.

    ``set``: options of metrics by dotted key, such as {"nll.samples": 1000}.
    """
    run = Run.open(run_path)
    _ = run.evaluation  # if it is damaged, that is said before minutes of work, not after
    chosen = tuple(metrics) if metrics else evaluation.usual()
    options = evaluation.parse_options(set or {}, chosen)
    learns = [name for name in chosen if evaluation.learns(name)]
    model, images = load(run.path), data_of(run, data)
    train = binarize(images.train, images.binarize) if learns else None
    extractor = extractor_of(train, model.device) if train is not None and any(map(evaluation.looks, chosen)) else None
    results = evaluation.evaluate(run, model, images.valid, images.protocol, chosen, train, extractor, options)
    update_report(run, model)
    return results


def diagnose(run_path: str | Path, *, data: str | Path | None = None) -> list[doctor.Finding]:
    """What looks wrong with a run, problems first; kept in doctor.json and shown in the report."""
    run = Run.open(run_path)
    model = load(run.path)
    found = examine(run, model, data_of(run, data).valid)
    update_report(run, model)
    return found


def examine(run: Run, model: VAE, held_out: Images) -> list[doctor.Finding]:
    """The doctor's findings on a trained run and its held-out images, written to doctor.json."""
    some = np.unique(np.linspace(0, len(held_out) - 1, LOOKED_AT).round().astype(np.int64))
    originals = to_float(as_tensor(held_out.pixels[some]))
    evidence = doctor.Evidence(
        recipe=run.recipe,
        facts=model.facts,
        history=run.history,
        validation=run.validation,
        codes=evaluation.codes_of(run, model, held_out),
        originals=originals.numpy(),
        reconstructions=model.reconstruct(originals).numpy(),
    )
    findings = doctor.examine(evidence)
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
            recipe = recipe.settled(shape, counts["train"])
            with torch.device("meta"):
                vae, _ = recipes.build(recipe, shape, counts["train"])
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
