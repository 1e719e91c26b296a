"""The files of a run's repository on the Hugging Face hub, without anything private."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vaelab import recipe as recipes
from vaelab.data.datasets import load_dataset
from vaelab.exporters.privacy import Privacy
from vaelab.recipe import Recipe
from vaelab.run import EVALUATION, MODEL, RECIPE, SAMPLER, Run
from vaelab.run.layout import FIGURES, evaluation_file
from vaelab.run.records import ModelFacts, sampler_facts
from vaelab.system import registry
from vaelab.system.files import load_tensors, pack_tensors, to_json
from vaelab.system.hub import matches

CARD, GRAPHS = "README.md", "onnx"
EVALUATIONS = (EVALUATION, evaluation_file("*"))
OWN_FILES = (RECIPE, MODEL, SAMPLER, EVALUATION, CARD, f"{FIGURES}/*.png", f"{GRAPHS}/*.onnx")
"""Patterns of the files that a push writes, and removes where they are no longer needed.

Results on another split of the data set are written and removed too.
"""
OF_THE_HUB = (".gitattributes", ".gitignore", "LICENSE*", "LICENCE*")
"""Files beside which a repository counts as empty."""


def choose_figures(run: Run, wanted: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Return the names of the figures to publish, and of those left out because they show the author's own images.

    ``wanted``: names, or "all"; None: all, without those that show images of a data set that is not published. Raises
    UnknownName for a figure that the run does not have.
    """
    drawn = [name for name in run.figures if name in registry.names("figures")]
    order = {name: getattr(registry.load("figures", name), "ORDER", 99) for name in drawn}
    drawn.sort(key=lambda name: (order[name], name))
    if wanted is not None and list(wanted) != ["all"]:
        for name in wanted:
            if name not in drawn:
                raise registry.unknown(f"figure of {run.name}", name, ["all", "none", *drawn])
        return [name for name in drawn if name in wanted], []
    if wanted is not None or load_dataset(run.recipe.data["name"]).info.is_published:
        return drawn, []
    private = [name for name in drawn if _shows_images(name)]
    return [name for name in drawn if name not in private], private


def _shows_images(figure: str) -> bool:
    """Return whether a figure shows images of the data set; one that does not say so and sees images does."""
    module = registry.load("figures", figure)
    return bool(getattr(module, "SHOWS_IMAGES", hasattr(module, "compute")))


def clean_recipe(recipe: Recipe, privacy: Privacy) -> Recipe:
    """Return a recipe without private words; options of its data set that have some are left out.

    So is the run that the training started from, if its path has some.
    """
    tables = recipe.sections()
    tables["data"] = {key: value for key, value in recipe.data.items() if privacy.clean_values(value) == value}
    tables["expected"] = privacy.clean_values(recipe.expected)
    name = privacy.clean(recipe.name)
    cleaned = recipes.validate({"title": privacy.clean(recipe.title), **tables}, name if name == recipe.name else "own")
    place = recipe.training.start_from
    return replace(
        cleaned, training=replace(recipe.training, start_from=place if privacy.clean(place) == place else "")
    )


def make_files(run: Run, recipe: Recipe, figures: Sequence[str], privacy: Privacy) -> dict[str, bytes]:
    """Return name → content of recipe, model, fitted sampler, results and figures; ``recipe`` is the cleaned one.

    Results of the evaluations and a sampler that belong to other weights are left out.
    """
    tensors, facts = load_tensors(run.model_path)
    known = {key: facts[key] for key in ("format", "step", *ModelFacts.model_fields) if key in facts}
    sections = {"title": recipe.title, **recipe.sections()}
    model = pack_tensors(tensors, {**known, "recipe": sections, "name": recipe.name})
    files = {RECIPE: recipe.to_toml().encode(), MODEL: model}
    sha256 = hashlib.sha256(model).hexdigest()
    if state := run.read_sampler(recipe.sampler):
        files[SAMPLER] = pack_tensors(state, sampler_facts(recipe.sampler, sha256))
    evaluations = {EVALUATION: run.evaluation}
    splits = load_dataset(recipe.data["name"]).info.splits  # the name of any other file may be private
    evaluations |= {
        evaluation_file(split): run.split_evaluation(split) for split in run.measured_splits if split in splits
    }
    for name, evaluation in evaluations.items():
        if cleaned := _clean_evaluation(run, evaluation, sha256, privacy):
            files[name] = to_json(cleaned).encode()
    for name in figures:
        files[f"{FIGURES}/{name}.png"] = privacy.clean_picture(run.figures[name].read_bytes())
    return files


def _clean_evaluation(
    run: Run, evaluation: Mapping[str, dict[str, Any]], sha256: str, privacy: Privacy
) -> dict[str, object]:
    """Return the results of these weights, whose file has the digest ``sha256`` in the repository."""
    return {
        name: privacy.clean_values({**entry, "measured_on": {**entry["measured_on"], "weights_sha256": sha256}})
        for name, entry in evaluation.items()
        if entry["measured_on"].get("weights_sha256") == run.weights_sha256
    }


def find_strangers(names: Sequence[str]) -> list[str]:
    """Return the files of a repository that no push wrote; empty if it is new or holds a model of vaelab."""
    if RECIPE in names:
        return []
    return [name for name in names if not matches(name, (*OF_THE_HUB, CARD))]


def find_obsolete(names: Sequence[str], files: Mapping[str, bytes], recipe: Recipe) -> list[str]:
    """Return the files of an earlier push that are not among the new ones."""
    own = (*OWN_FILES, *map(evaluation_file, load_dataset(recipe.data["name"]).info.splits))
    return [name for name in names if name not in files and matches(name, own)]
