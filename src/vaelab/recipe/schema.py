"""The schema of a recipe: the keyword arguments of its members, whose types pydantic checks."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_type_hints

import tomli_w
from annotated_types import Ge
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError, create_model

from vaelab.data.images import Binarize
from vaelab.models.spec import Auto, Condition, Spec
from vaelab.system import registry
from vaelab.system.errors import RecipeError, UnknownName

Section = dict[str, Any]
Schema = dict[str, tuple[Any, Any]]
"""Key → (type, default); the default of a required key is ``...``."""
CONFIG = ConfigDict(strict=True, allow_inf_nan=False)


class SectionInfo(NamedTuple):
    """A section that names a member of an open folder."""

    folder: str
    makers: tuple[str, ...]
    """Names of the classes or functions in a member's file whose keyword arguments are keys of the section."""
    default: str | None
    """The member used if the section names none; None if it must name one."""
    common: Schema
    """Keys that every member has."""


SECTIONS = {
    "data": SectionInfo(
        "datasets", ("DATASET.load",), None, {"binarize": (Binarize, "none"), "valid": (Annotated[int, Ge(0)], 0)}
    ),
    "network": SectionInfo(
        "networks",
        ("Encoder", "Decoder"),
        "conv",
        {"latent_dim": (Annotated[int, Ge(1)] | Literal["auto"], "auto"), "condition": (Condition, "none")},
    ),
    "posterior": SectionInfo("posteriors", ("Posterior",), "diagonal", {}),
    "prior": SectionInfo("priors", ("Prior",), "normal", {}),
    "likelihood": SectionInfo("likelihoods", ("Likelihood",), "gaussian", {}),
    "objective": SectionInfo("objectives", ("Objective",), "elbo", {}),
    "sampler": SectionInfo("samplers", ("Sampler",), "prior", {}),
}
TRAINED_SECTIONS = tuple(section for section in SECTIONS if section != "sampler")
"""Sections that training depends on."""


class Expected(BaseModel):
    """The ``[expected]`` section: published numbers and their source."""

    model_config = {**CONFIG, "extra": "allow"}
    __pydantic_extra__: dict[str, FiniteFloat]
    source: str


@cache
def signature_schema(maker: Callable[..., Any]) -> Schema:
    """Return types and defaults of the keyword-only arguments of a class or function."""
    hints = get_type_hints(maker.__init__ if inspect.isclass(maker) else maker, include_extras=True)
    schema: Schema = {}
    for name, parameter in inspect.signature(maker).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            hint, default = hints[name], ... if parameter.default is inspect.Parameter.empty else parameter.default
            if _find_auto(hint):
                hint, default = hint | Literal["auto"], "auto" if default is ... else default
            schema[name] = hint, default
    return schema


def _find_auto(hint: Any) -> Auto | None:
    """Return the annotation ``Auto`` of a type or of a member of a union."""
    annotations = [note for part in (hint, *get_args(hint)) for note in getattr(part, "__metadata__", ())]
    return next((note for note in annotations if isinstance(note, Auto)), None)


def member_schema(section: str, member: str) -> Schema:
    """Return the keys that a member adds to its section."""
    module, info = registry.load(SECTIONS[section].folder, member), SECTIONS[section]
    return {key: entry for name in info.makers for key, entry in signature_schema(attrgetter(name)(module)).items()}


def check_section(section: str, given: Section) -> Section:
    """Return a section that names a member, with defaults; UnknownName or RecipeError for a wrong key or value."""
    info, values = SECTIONS[section], dict(given)
    member = str(values.pop("name", info.default) or "")
    if not member:
        names = registry.names(info.folder)
        raise RecipeError(f"[{section}] has no name; valid: {', '.join(names)}", subject=section, choices=names)
    return {"name": member, **check_values(section, {**info.common, **member_schema(section, member)}, values, member)}


def resolve_section(section: str, table: Section, spec: Spec) -> Section:
    """Return a section with each "auto" replaced by what the annotation ``Auto`` of its keyword chooses."""
    resolved = dict(table)
    for key, (hint, _) in member_schema(section, table["name"]).items():
        if table[key] == "auto" and (auto := _find_auto(hint)):
            resolved[key] = auto.choose(spec)
    return resolved


def check_options(where: str, maker: Callable[..., Any], given: Section) -> Section:
    """Return ``given``, checked against the keyword arguments of ``maker``; ``where`` names it in errors."""
    checked = check_values(where, signature_schema(maker), given)
    return {key: checked[key] for key in given}


def check_values(section: str, schema: Schema, given: Section, member: str = "") -> Section:
    """Return ``given`` with the defaults of ``schema``; UnknownName or RecipeError for a wrong key or value."""
    for key in given:
        if key not in schema:
            raise _unknown_key(section, schema, member, key)
    return _validate(section, _make_model(section, schema), given)


_models: dict[object, type[BaseModel]] = {}


def _make_model(section: str, schema: Schema) -> type[BaseModel]:
    """Return the pydantic model of a schema; each is made once, since that takes milliseconds."""
    key = section, tuple((name, id(hint), repr(default)) for name, (hint, default) in schema.items())
    if key not in _models:  # a model keeps its types, so their ids stay unique
        _models[key] = create_model(section, __config__=CONFIG, **schema)  # type: ignore[call-overload]
    return _models[key]


def check_expected(given: Section) -> Section:
    """Return the section ``[expected]``; RecipeError unless it holds numbers and their source."""
    return _validate("expected", Expected, given) if given else {}


def _validate(section: str, model: type[BaseModel], given: Section) -> Section:
    try:
        return model(**given).model_dump()
    except ValidationError as error:
        errors = error.errors()
        key = next((str(part) for part in errors[0]["loc"] if isinstance(part, str)), "?")
        if errors[0]["type"] == "missing":
            raise RecipeError(f"{section}.{key} is missing", subject=f"{section}.{key}") from None
        reason, choices = _describe_errors([entry for entry in errors if key in entry["loc"]])
        message, value = f"{section}.{key} = {toml_value(given.get(key))}: {reason}", given.get(key)
        raise RecipeError(message, subject=f"{section}.{key}", value=value, choices=choices) from None


def _describe_errors(errors: Sequence[Any]) -> tuple[str, Sequence[object]]:
    """Return what a value should be, from the errors of every type it may have, and the valid choices if there are."""
    first, given = errors[0], errors[0]["input"]
    if all(entry["type"] == "literal_error" for entry in errors):
        unknown = registry.unknown("value", given, re.findall(r"'([^']+)'", first["ctx"]["expected"]))
        return str(unknown), unknown.choices
    for entry in errors:
        if entry["type"] != "literal_error" and not entry["type"].endswith("_type"):  # the type is right
            return entry["msg"][0].lower() + entry["msg"][1:], ()
    sides = re.fullmatch(r"(\d+) *[x×X*] *(\d+)", given) if isinstance(given, str) else None
    if sides and any(entry["type"] == "list_type" for entry in errors):
        return f"write it as a list, [{sides[1]}, {sides[2]}], height first, or as one number for both", ()
    wanted = [entry.removeprefix("Input should be ") for entry in dict.fromkeys(entry["msg"] for entry in errors)]
    return f"input should be {', '.join(wanted[:-1])}{' or ' if wanted[1:] else ''}{wanted[-1]}", ()


def _unknown_key(section: str, schema: Schema, member: str, key: str) -> UnknownName:
    """Return the error for a key that a member does not have, naming the members that do."""
    folder = SECTIONS[section].folder if section in SECTIONS else None
    others = [name for name in registry.names(folder) if key in member_schema(section, name)] if folder else []
    owner = f" of {section} {member!r}" if member else ""
    error = registry.unknown(f"key in [{section}]{owner}:", key, ["name", *schema] if folder else schema)
    have = "have" if len(others) > 1 else "has"
    hint = f". {', '.join(others)} {have} it: --set {section}.name={others[0]}" if others else ""
    return UnknownName(f"{error}{hint}", subject=f"{section}.{key}", value=key, choices=error.choices)


def unknown_section(key: str, tables: Mapping[str, Any], training: Schema) -> UnknownName:
    """Return the error for a dotted key that begins with no section, with the likely key of one.

    Keys of the recipe's own members come first, then those that another member has.
    """
    word = key.rpartition(".")[2]
    known = {name: f"training.{name}" for name in training}
    for section, info in SECTIONS.items():
        table = tables.get(section, {})
        member = table.get("name", info.default) if isinstance(table, Mapping) else info.default
        if member in registry.names(info.folder):
            known |= {name: f"{section}.{name}" for name in (*info.common, *member_schema(section, str(member)))}
    near = registry.nearest(word, list(known))
    guess = f" Did you mean {known[near]!r}?" if near else _name_other_members(word)
    sections = (*SECTIONS, "training")
    valid = ", ".join(f"{name}.…" for name in sections)
    message = f"unknown recipe key {key!r}.{guess} Valid: {valid}"
    return UnknownName(message, subject="recipe key", value=key, choices=sections)


def _name_other_members(word: str) -> str:
    """Return which members have the key ``word``, for a recipe whose members do not have it; empty if none has."""
    for section, info in SECTIONS.items():
        if owners := [name for name in registry.names(info.folder) if word in member_schema(section, name)]:
            belongs = f"{section}.{word} belongs to the {info.folder} {', '.join(owners)}"
            return f" {belongs}: --set {section}.name={owners[0]} --set {section}.{word}=VALUE."
    return ""


def toml_value(value: Any) -> str:
    """Return a value as a recipe writes it, on one line."""
    if value is None:
        return "nothing"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    try:
        return tomli_w.dumps({"v": value}).removeprefix("v = ").strip()
    except (TypeError, ValueError):  # Python callers may pass anything
        return repr(value)
