"""Recipes: load, merge, validate, build. The constructors' keyword arguments are the schema; there is no other."""

import inspect
import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import numpy as np
import tomli_w
from annotated_types import Ge, Gt
from pydantic import ConfigDict, ValidationError, create_model

from vaelab.data.containers import printable
from vaelab.data.images import Binarize
from vaelab.models.spec import Condition, Spec
from vaelab.system import registry
from vaelab.system.arguments import check_path, describe
from vaelab.system.device import Precision
from vaelab.system.errors import RecipeError, UnknownName
from vaelab.system.files import check_file

Section = dict[str, Any]
Auto = Literal["auto"]
Schema = dict[str, tuple[Any, Any]]
"""Key → (type, default); ``...`` for none."""

FOLDERS = {
    "data": "datasets",
    "network": "networks",
    "posterior": "posteriors",
    "prior": "priors",
    "likelihood": "likelihoods",
    "objective": "objectives",
}
"""Section → the open folder that its name is a member of."""
DEFAULT_NAMES = {
    "network": "conv",
    "posterior": "diagonal",
    "prior": "normal",
    "likelihood": "gaussian",
    "objective": "elbo",
}
CLASSES = {
    "data": ("load",),
    "network": ("Encoder", "Decoder"),
    "posterior": ("Posterior",),
    "prior": ("Prior",),
    "likelihood": ("Likelihood",),
    "objective": ("Objective",),
}
"""Section → what a member's file defines; the keyword arguments are the section's keys."""
COMMON: dict[str, Schema] = {
    "data": {"binarize": (Binarize, "none"), "valid": (Annotated[int, Ge(0)], 0)},
    "network": {"latent_dim": (Annotated[int, Ge(1)] | Auto, "auto"), "condition": (Condition, "none")},
    "posterior": {},
    "prior": {},
    "likelihood": {},
    "objective": {},
}
"""Keys of a section whatever member it names."""
SAME_EXPERIMENT = {
    "data.strict",
    *(
        f"training.{key}"
        for key in (
            "seed",
            "threads",
            "precision",
            "validate_every",
            "checkpoint_every",
            "shuffle_buffer",
        )
    ),
}
"""Overrides that leave a recipe's published numbers its own."""
MOST_LATENTS = 200
FEWEST_STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 5_000, 20, 1_000
"""Of "auto" epochs: as many as give so many batches, within these bounds."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """The ``[training]`` section."""

    epochs: Annotated[int, Ge(1)] | Auto = 20
    """Passes over the training set. auto: 20, or more to reach 5,000 steps, at most 1,000."""
    steps: Annotated[int, Ge(0)] = 0
    """Number of steps, instead of ``epochs``. 0: use ``epochs``."""
    batch_size: Annotated[int, Ge(1)] = 32
    """Images per step, over all processes."""
    learning_rate: Annotated[float, Gt(0)] = 0.001
    """Learning rate of Adam."""
    decay: Literal["none", "cosine"] = "none"
    """cosine: every learning rate falls to 0 along half a cosine, from the first step to the last."""
    precision: Precision = "auto"
    """Number format of the networks. auto: the fastest that keeps results on this machine."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of the weights, the order of the images and the noise."""
    validate_every: Annotated[int, Ge(0)] | Literal["auto"] = "auto"
    """Steps between validations. 0: never. auto: once per epoch, at most a hundred times in total."""
    checkpoint_every: Annotated[int, Ge(1)] = 1000
    """Steps between checkpoints."""
    threads: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    """CPU threads. auto: all processors that the process may use."""
    shuffle_buffer: Annotated[int, Ge(0)] | Literal["auto"] = "auto"
    """Images that are shuffled together. 0: all. auto: all if they fit into memory."""

    def num_steps(self, num_images: int) -> int:
        """Batches in the whole run."""
        epochs = self.resolve(num_images).epochs
        assert epochs != "auto"
        return self.steps or epochs * -(-num_images // self.batch_size)

    def resolve(self, num_images: int) -> "Training":
        """With ``auto`` epochs and validations replaced by what they are for so many images."""
        epoch = -(-num_images // self.batch_size)
        enough = min(max(FEWEST_EPOCHS, -(-FEWEST_STEPS // epoch)), MOST_EPOCHS)
        epochs = enough if self.epochs == "auto" else self.epochs
        hundredth = epoch * -(-(self.steps or epochs * epoch) // (100 * epoch))
        every = hundredth if self.validate_every == "auto" else self.validate_every
        return replace(self, epochs=epochs, validate_every=every)


@dataclass(frozen=True)
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
    training: Training
    expected: Section

    @property
    def latent_dim(self) -> int:
        """Number of latents, of a settled recipe."""
        return int(self.network["latent_dim"])

    def sections(self) -> dict[str, Section]:
        """The resolved recipe as nested tables."""
        tables = {name: dict(getattr(self, name)) for name in FOLDERS}
        return {**tables, "training": asdict(self.training), "expected": dict(self.expected)}

    def to_toml(self) -> str:
        """The text of ``recipe.toml``; loading it gives this recipe again."""
        return tomli_w.dumps({"title": self.title, **{k: v for k, v in self.sections().items() if v}})

    def resolve(
        self, image_shape: tuple[int, int, int], num_images: int, data: Mapping[str, Any] | None = None
    ) -> "Recipe":
        """With every ``auto`` replaced by what it is for this data; ``data``: what became of the data set's own."""
        latents = self.network["latent_dim"]
        if latents == "auto":
            latents = default_latents(image_shape, num_images)
        spec = Spec(image_shape, latents, num_images)
        changed: dict[str, Any] = {"data": {**self.data, **(data or {})}}
        for section in tuple(FOLDERS)[1:]:
            table = dict(getattr(self, section))
            if section == "network":
                table["latent_dim"] = latents
            if "auto" in table.values():
                offered = registry.load(FOLDERS[section], table["name"]).auto(spec)
                table = {key: offered.get(key, value) if value == "auto" else value for key, value in table.items()}
            changed[section] = table
        return replace(self, training=self.training.resolve(num_images), **changed)

    def differences(self, other: "Recipe", words: tuple[str, str] = ("there", "now")) -> list[str]:
        """``key: mine there, theirs now`` for every value in which training would differ; ``words`` say which is whose.

        "auto" agrees with any value: it became one when the data was known.
        """
        mine, theirs = self.sections(), other.sections()
        lines = []
        for section in (*FOLDERS, "training"):
            for key in sorted(mine[section].keys() | theirs[section].keys()):
                values = [table[section].get(key) for table in (mine, theirs)]
                if values[0] != values[1] and "auto" not in values:
                    there, now = ("absent" if value is None else toml_value(value) for value in values)
                    lines.append(f"{section}.{key}: {there} {words[0]}, {now} {words[1]}")
        return lines


# -- loading ----------------------------------------------------------------------------------------------------------


def presets() -> list[str]:
    """Names of the recipes that come with vaelab."""
    folder = resources.files("vaelab.recipes")
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def load(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A preset by name or a recipe file, with dotted ``overrides`` ({"objective.beta": 4}) on top.

    RecipeError or UnknownName says which key or value is wrong and lists the valid ones. TypeError for what is neither
    a name nor a path, and for overrides that are no mapping of keys to plain values.
    """
    advice, overrides = _advise_arrays(name_or_path), check_overrides(overrides)
    path = check_path(name_or_path, "a recipe", wanted="a name or the path of a .toml", advice=advice)
    text = str(name_or_path)
    if text.lower().endswith(".toml") or (text not in presets() and path.is_file()):
        if not path.is_file():
            if path.exists():
                check_file(path)
            raise RecipeError(f"{text}: no such recipe file; presets are {', '.join(presets())}")
        name, content = printable(path.stem), path.read_bytes()
    elif text in presets():
        name, content = text, resources.files("vaelab.recipes").joinpath(f"{text}.toml").read_bytes()
    else:
        raise registry.unknown("recipe", text, presets())
    try:
        tables = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{text}: not valid TOML ({error})") from None
    return validate(merge(tables, overrides), name)


def check_place(data: object) -> Path | None:
    """Where the images of a recipe lie; TypeError for what is no path, with advice for arrays."""
    is_left_out = data is None or (isinstance(data, str) and not data)
    return None if is_left_out else check_path(data, "data", advice=_advise_arrays(data))


def _advise_arrays(given: object) -> str:
    """How to train on an array that was passed where the name of a recipe or a place belongs."""
    if not hasattr(given, "__len__") or isinstance(given, Mapping):
        return ""
    return (
        'To train on an array, save it with numpy.savez("images.npz", images=array); then vaelab.train("folder", '
        f'{{"data.name": "arrays", "data.valid": {max(1, min(10_000, len(given) // 10))}}}, data="images.npz")'
    )


def check_overrides(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Overrides by dotted key, NumPy's numbers as Python's; TypeError says what is wrong."""
    if given is None:
        return {}
    example = 'such as {"objective.beta": 4}'
    if not isinstance(given, Mapping):
        raise TypeError(f"set must be a mapping, {example}; got {describe(given)}")
    checked = {}
    for key, value in given.items():
        if not isinstance(key, str):
            raise TypeError(f"the keys of set must be text, {example}; got {describe(key)}")
        if hasattr(value, "__array__") and not isinstance(value, np.generic):
            raise TypeError(f"{key} must be a number, text or a list; got {describe(value)}")
        checked[key] = value.item() if isinstance(value, np.generic) else value
    return checked


def parse_override(text: str) -> tuple[str, Any]:
    """``objective.beta=4`` → ("objective.beta", 4); a value that is not TOML is taken as a string."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {text!r}: write it as section.key=value, such as --set training.epochs=5")
    try:
        parsed = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()
    return key.strip(), parsed["value"] if set(parsed) == {"value"} else value.strip()


def merge(tables: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """``tables`` with dotted overrides, of which the title tells those that make it another experiment.

    Where one names another member, keys that only the old one knew fall away, and those that it was to choose ("auto").
    """
    merged = {key: dict(value) if isinstance(value, Mapping) else value for key, value in tables.items()}
    changed = []
    names_first = sorted(overrides.items(), key=lambda item: not item[0].endswith(".name"))
    for key, value in names_first:
        section, dot, rest = key.partition(".")
        if not dot or section not in (*FOLDERS, "training", "expected"):
            raise _unknown_section(key, tables)
        table = merged.setdefault(section, {})
        if not isinstance(table, dict):
            raise RecipeError(f"{section} must be a table, [{section}]")
        old = table.get(rest, DEFAULT_NAMES.get(section) if rest == "name" else None)
        if old != value and section != "expected" and key not in SAME_EXPERIMENT:
            changed.append(f"{key} = {toml_value(value)}")
        if rest == "name" and section in FOLDERS and old != value:
            common, own = {"name", *COMMON[section]}, _schema(section, str(value))
            merged[section] = table = {k: v for k, v in table.items() if k in common or (k in own and v != "auto")}
        table[rest] = value
    if changed:
        merged.pop("expected", None)  # numbers that were published for something else
        if isinstance(title := merged.get("title"), str):  # it may name the very values that are others now
            merged["title"] = f"{title}; here {', '.join(changed)}"
    return merged


def validate(tables: Mapping[str, Any], name: str) -> Recipe:
    """The recipe in nested tables, every key known, every value of the right type, defaults filled in."""
    known = ("title", *FOLDERS, "training", "expected")
    for key, value in tables.items():
        if key not in known:
            raise registry.unknown("section in the recipe", key, known)
        if key != "title" and not isinstance(value, Mapping):
            raise RecipeError(f"{key} must be a table, [{key}]")
    title = tables.get("title", name)
    if not isinstance(title, str):
        raise RecipeError(f"title = {toml_value(title)}: give a string")
    sections = {}
    for section in FOLDERS:
        given = dict(tables.get(section, {}))
        member = given.pop("name", DEFAULT_NAMES.get(section))
        if member is None:
            raise RecipeError(f"[{section}] has no name; valid: {', '.join(registry.names(FOLDERS[section]))}")
        member = str(member)
        sections[section] = {
            "name": member,
            **_checked(section, {**COMMON[section], **_schema(section, member)}, given, member),
        }
    training_schema = signature_schema(Training)
    training = Training(**_checked("training", training_schema, dict(tables.get("training", {}))))
    return Recipe(
        name=name,
        title=title,
        training=training,
        expected=_checked_expected(dict(tables.get("expected", {}))),
        **sections,
    )


def _schema(section: str, member: str) -> Schema:
    """Keys of the member's own."""
    module = registry.load(FOLDERS[section], member)
    makers = [getattr(module, name) for name in CLASSES[section]]
    return {key: entry for maker in makers for key, entry in signature_schema(maker).items()}


def signature_schema(maker: Callable[..., Any]) -> Schema:
    """Types and defaults of the keyword-only arguments of a class or function."""
    function = maker.__init__ if inspect.isclass(maker) else maker
    hints = get_type_hints(function, include_extras=True)
    return {
        name: (hints[name], ... if parameter.default is inspect.Parameter.empty else parameter.default)
        for name, parameter in inspect.signature(maker).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def check_options(where: str, maker: Callable[..., Any], given: Section, given_by_us: Sequence[str] = ()) -> Section:
    """``given``, checked against the keyword arguments of ``maker`` but those that are ours to give."""
    schema = {name: entry for name, entry in signature_schema(maker).items() if name not in given_by_us}
    checked = _checked(where, schema, given)
    return {key: checked[key] for key in given}


def _checked(section: str, schema: Schema, given: Section, member: str = "") -> Section:
    for key in given:
        if key not in schema:
            raise _unknown_key(section, schema, member, key)
    config = ConfigDict(strict=True, allow_inf_nan=False)
    model = create_model(section, __config__=config, **schema)  # type: ignore[call-overload]
    try:
        return dict(model(**given).model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        key = next((str(part) for part in first["loc"] if isinstance(part, str)), "?")
        about_key = [entry for entry in error.errors() if key in entry["loc"]]
        raise RecipeError(f"{section}.{key} = {toml_value(given.get(key))}: {_wanted(about_key)}") from None


def _wanted(errors: Sequence[Any]) -> str:
    """What a value should be, from the errors of every type that it may have."""
    first, given = errors[0], errors[0]["input"]
    if all(entry["type"] == "literal_error" for entry in errors):
        return str(registry.unknown("value", first["input"], re.findall(r"'([^']+)'", first["ctx"]["expected"])))
    is_other_type = [entry["type"] == "literal_error" or entry["type"].endswith("_type") for entry in errors]
    if not all(is_other_type):  # of the right type: what is wrong with it
        text = errors[is_other_type.index(False)]["msg"]
        return str(text[0].lower() + text[1:])
    starts, *wanted = "Input should be ", *dict.fromkeys(entry["msg"] for entry in errors)
    choices = [text.removeprefix(starts) for text in wanted]
    joined = f"{', '.join(choices[:-1])} or {choices[-1]}" if len(choices) > 1 else choices[0]
    sides = re.fullmatch(r"(\d+) *[x×X*] *(\d+)", given) if isinstance(given, str) else None
    if sides and any(entry["type"] == "list_type" for entry in errors):
        return f"write it as a list, [{sides[1]}, {sides[2]}], the height first, or as one number for both"
    return f"input should be {joined}"


def _unknown_section(key: str, tables: Mapping[str, Any]) -> UnknownName:
    """The error for a key that begins with no section; guesses the whole key where a section has one of that name."""
    known = {name: f"training.{name}" for name in signature_schema(Training)}
    for section, default in DEFAULT_NAMES.items():
        table = tables.get(section, {})
        member = table.get("name", default) if isinstance(table, Mapping) else default
        if member in registry.names(FOLDERS[section]):
            known |= {name: f"{section}.{name}" for name in (*COMMON[section], *_schema(section, str(member)))}
    near = registry.nearest(key.rpartition(".")[2], list(known))
    guess = f" Did you mean {known[near]!r}?" if near else ""
    sections = ", ".join(f"{name}.…" for name in (*FOLDERS, "training"))
    return UnknownName(f"unknown recipe key {key!r}.{guess} Valid: {sections}")


def _unknown_key(section: str, schema: Schema, member: str, key: str) -> UnknownName:
    """The error for a key that this member does not know; says which others do."""
    folder = FOLDERS.get(section)
    others = [name for name in registry.names(folder) if key in _schema(section, name)] if folder else []
    of = f" of {section} {member!r}" if member else ""
    error = registry.unknown(f"key in [{section}]{of}:", key, ["name", *schema] if folder else schema)
    have = "have" if len(others) > 1 else "has"
    hint = f". {', '.join(others)} {have} it: --set {section}.name={others[0]}" if others else ""
    return UnknownName(f"{error}{hint}")


def _checked_expected(given: Section) -> Section:
    for key, value in given.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if key != "source" and not is_number:
            raise RecipeError(f"expected.{key} = {toml_value(value)}: give a number")
    if given and not isinstance(given.get("source"), str):
        raise RecipeError('[expected] must name the source of its numbers: source = "…"')
    return given


def toml_value(value: Any) -> str:
    """A value as a recipe writes it, on one line."""
    if value is None:
        return "nothing"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    try:
        return tomli_w.dumps({"v": value}).removeprefix("v = ").strip()
    except (TypeError, ValueError):  # from Python anything may be given
        return repr(value)


def default_latents(image_shape: tuple[int, int, int], num_images: int) -> int:
    """As many latents as a side has pixels, 200 at most and no more than one for eight images."""
    side = math.isqrt(image_shape[1] * image_shape[2])
    return max(2, min(side, MOST_LATENTS, num_images // 8))


def load_options(recipe: Recipe) -> Section:
    """Keyword arguments of the data set's ``load``."""
    accepted = _schema("data", recipe.data["name"])
    return {key: value for key, value in recipe.data.items() if key in accepted}
