"""Recipes: everything that is needed to repeat a run, loaded from TOML, validated and resolved."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w

from vaelab.data.containers import printable
from vaelab.data.datasets._shard_files import is_shard_place
from vaelab.data.datasets.arrays import is_array_file
from vaelab.models.spec import Spec
from vaelab.recipe.overrides import SAME_EXPERIMENT, check_overrides, merge, override_sampler, parse_override
from vaelab.recipe.schema import (
    SECTIONS,
    TRAINED_SECTIONS,
    Section,
    check_expected,
    check_options,
    check_section,
    check_values,
    member_schema,
    resolve_section,
    signature_schema,
    toml_value,
)
from vaelab.recipe.training import LENGTHS, Training
from vaelab.system import html, registry
from vaelab.system.arguments import check_path
from vaelab.system.errors import RecipeError
from vaelab.system.files import check_file

__all__ = [
    "SAME_EXPERIMENT", "SECTIONS", "Recipe", "ResolvedRecipe", "Section", "Training", "check_options",
    "check_overrides", "check_place", "load", "load_options", "merge", "override_sampler", "parse_override", "presets",
    "signature_schema", "toml_value", "validate",
]  # fmt: skip
MAX_LATENTS = 200


@dataclass(frozen=True, repr=False)
class Recipe:
    """Everything that is needed to repeat a run, validated, with every default filled in."""

    name: str
    title: str
    data: Section
    network: Section
    posterior: Section
    prior: Section
    likelihood: Section
    objective: Section
    sampler: Section
    training: Training
    expected: Section

    def __repr__(self) -> str:
        members = ", ".join(f"{section}={getattr(self, section)['name']}" for section in SECTIONS)
        return f"{type(self).__name__}({self.name!r}, {members}, latent_dim={self.network['latent_dim']})"

    def __str__(self) -> str:
        return self.to_toml()

    def _repr_html_(self) -> str:
        """Return title and members for a notebook, with the whole recipe one click away."""
        facts = {section: getattr(self, section)["name"] for section in SECTIONS}
        facts["latents"] = self.network["latent_dim"]
        return html.fragment(f"Recipe {self.name}: {self.title}", facts, [html.preformatted(str(self), "recipe.toml")])

    def sections(self) -> dict[str, Section]:
        """Return the recipe as nested tables."""
        tables = {name: dict(getattr(self, name)) for name in SECTIONS}
        return {**tables, "training": asdict(self.training), "expected": dict(self.expected)}

    def to_toml(self) -> str:
        """Return the text of ``recipe.toml``; loading it gives this recipe again."""
        return tomli_w.dumps({"title": self.title, **{k: v for k, v in self.sections().items() if v}})

    def resolve(
        self, image_shape: tuple[int, int, int], num_images: int, data: Mapping[str, Any] | None = None
    ) -> "ResolvedRecipe":
        """Return the recipe with "auto" replaced by values for these images.

        ``data``: values of the data set's own options.
        """
        latents = self.network["latent_dim"]
        if latents == "auto":
            latents = _choose_latents(image_shape, num_images)
        spec = Spec(image_shape, latents, num_images)
        tables = {section: getattr(self, section) for section in SECTIONS if section != "data"}
        tables["network"] = {**self.network, "latent_dim": latents}
        training, num_steps, validate_every = self.training.resolve(num_images)
        return ResolvedRecipe(
            name=self.name,
            title=self.title,
            data={**self.data, **(data or {})},
            **{section: resolve_section(section, table, spec) for section, table in tables.items()},
            training=training,
            expected=self.expected,
            image_shape=image_shape,
            num_images=num_images,
            latent_dim=latents,
            num_steps=num_steps,
            validate_every=validate_every,
        )

    def differences(self, other: "Recipe", words: tuple[str, str] = ("there", "now")) -> list[str]:
        """Return ``key: value there, value now`` for every value in which two training runs differ.

        An automatic value equals any value, and the sampler does not affect training. ``words``: what the value of this
        recipe and that of the other are called.
        """
        mine, theirs = self.sections(), other.sections()
        lines = []
        for section in (*TRAINED_SECTIONS, "training"):
            for key in sorted(mine[section].keys() | theirs[section].keys()):
                values = [table[section].get(key) for table in (mine, theirs)]
                is_automatic = any(isinstance(value, str) and value in ("auto", *LENGTHS) for value in values)
                if values[0] != values[1] and not is_automatic and (section, key) != ("training", "figures"):
                    there, now = ("absent" if value is None else toml_value(value) for value in values)
                    lines.append(f"{section}.{key}: {there} {words[0]}, {now} {words[1]}")
        return lines


@dataclass(frozen=True, repr=False)
class ResolvedRecipe(Recipe):
    """A recipe for known images; only keys of ``training`` that depend on the machine may still be "auto"."""

    image_shape: tuple[int, int, int]
    num_images: int
    latent_dim: int
    num_steps: int
    """Batches in the whole run."""
    validate_every: int
    """Steps between validations; 0: never."""


def presets() -> list[str]:
    """Return the names of the recipes that come with vaelab."""
    folder = resources.files("vaelab.recipes")
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def load(
    name_or_path: str | Path, overrides: Mapping[str, Any] | None = None, place: str | Path | None = None
) -> Recipe:
    """Load a preset by name or a recipe file, with dotted ``overrides`` such as {"objective.beta": 4}.

    If ``place``, the place of the images, is a file of arrays or has shards, a recipe for a folder of pictures is one
    for these.

    Raises UnknownName or RecipeError for a wrong key or value, and TypeError for arguments of another type.
    """
    overrides = check_overrides(overrides)
    advice = _advise_arrays(name_or_path)
    path = check_path(name_or_path, "a recipe", wanted="a name or the path of a .toml", advice=advice)
    text = str(name_or_path)
    if not text.lower().endswith(".toml") and text in presets():
        name, content = text, resources.files("vaelab.recipes").joinpath(f"{text}.toml").read_bytes()
    elif path.is_file():
        name, content = printable(path.stem), path.read_bytes()
    elif text.lower().endswith(".toml"):
        if path.exists():
            check_file(path)
        message = f"{text}: no such recipe file; presets are {', '.join(presets())}"
        raise RecipeError(message, subject="recipe", value=text, choices=presets())
    else:
        raise registry.unknown("recipe", text, presets())
    try:
        tables = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{text}: not valid TOML ({error})", subject=text) from None
    is_for_pictures = isinstance(tables.get("data"), dict) and tables["data"].get("name") == "folder"
    if place and is_for_pictures and "data.name" not in overrides:
        overrides = {**_name_dataset(Path(place)), **overrides}
    return validate(merge(tables, overrides), name)


def _name_dataset(place: Path) -> dict[str, str]:
    """Return the override that names the data set of a place which is no folder of pictures; none for one."""
    if is_array_file(place):
        return {"data.name": "arrays"}
    return {"data.name": "shards"} if is_shard_place(place) else {}


def validate(tables: Mapping[str, Any], name: str) -> Recipe:
    """Return the recipe in nested tables, with defaults; UnknownName or RecipeError for a wrong key or value."""
    known = ("title", *SECTIONS, "training", "expected")
    for key, value in tables.items():
        if key not in known:
            raise registry.unknown("section in the recipe", key, known)
        if key != "title" and not isinstance(value, Mapping):
            raise RecipeError(f"{key} must be a table, [{key}]", subject=key, value=value)
    title = tables.get("title", name)
    if not isinstance(title, str):
        raise RecipeError(f"title = {toml_value(title)}: input should be a string", subject="title", value=title)
    sections = {section: check_section(section, dict(tables.get(section, {}))) for section in SECTIONS}
    training = Training(**check_values("training", signature_schema(Training), dict(tables.get("training", {}))))
    training.check()
    for figure in training.figures if training.figures != "all" else ():
        if figure not in registry.names("figures"):
            raise registry.unknown("figure", figure, registry.names("figures"))
    expected = check_expected(dict(tables.get("expected", {})))
    return Recipe(name=name, title=title, training=training, expected=expected, **sections)


def load_options(recipe: Recipe) -> Section:
    """Return the keyword arguments of the data set's ``load``."""
    accepted = member_schema("data", recipe.data["name"])
    return {key: value for key, value in recipe.data.items() if key in accepted}


def check_place(data: object) -> Path | None:
    """Return the path of a recipe's images, None for None or ""; TypeError with advice for an array."""
    is_left_out = data is None or (isinstance(data, str) and not data)
    return None if is_left_out else check_path(data, "data", advice=_advise_arrays(data))


def _advise_arrays(given: object) -> str:
    """Return how to train on an array that was given as a recipe or a path; empty for anything else."""
    if not hasattr(given, "__len__") or isinstance(given, Mapping):
        return ""
    return 'Images from memory are vaelab.fit(images), or vaelab.train("folder", images=images)'


def _choose_latents(image_shape: tuple[int, int, int], num_images: int) -> int:
    """Return the side of an image in pixels, at most 200 and at most one for eight images."""
    side = math.isqrt(image_shape[1] * image_shape[2])
    return max(2, min(side, MAX_LATENTS, num_images // 8))
