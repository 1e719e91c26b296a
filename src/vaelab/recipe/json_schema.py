"""The JSON schema of recipes, by which editors complete and check ``.toml`` files."""

import ast
import inspect
from itertools import pairwise
from typing import Any

from pydantic import create_model

from vaelab.recipe.schema import CONFIG, SECTIONS, Schema, member_schema, signature_schema
from vaelab.recipe.training import Training
from vaelab.system import registry

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def make_json_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe: the keys of every member of every section, of ``training`` and ``expected``.

    It follows from the members that exist, including those of other packages.
    """
    return {
        "$schema": DIALECT,
        "title": "A recipe of vaelab",
        "type": "object",
        "properties": {
            "title": {"type": "string", "description": "What the recipe is, in one line."},
            **{section: _describe_section(section) for section in SECTIONS},
            "training": _describe_training(),
            "expected": {
                "type": "object",
                "description": "Published numbers and their source.",
                "properties": {"source": {"type": "string"}},
                "required": ["source"],
                "additionalProperties": {"type": "number"},
            },
        },
        "required": [name for name, info in SECTIONS.items() if info.default is None],
        "additionalProperties": False,
    }


def _describe_section(section: str) -> dict[str, Any]:
    """Return the schema of a section: one alternative for each member."""
    info = SECTIONS[section]
    choices = []
    for name in registry.names(info.folder):
        found = _describe_keys({**info.common, **member_schema(section, name)})
        found["properties"] = {"name": {"const": name}, **found.get("properties", {})}
        found["required"] = [*found.get("required", []), *([] if name == info.default else ["name"])]
        about = registry.load(info.folder, name).__doc__ or ""
        choices.append({**found, "title": name, "description": about.partition("\n\n")[0]})
    return {"type": "object", "oneOf": choices}


def _describe_keys(schema: Schema) -> dict[str, Any]:
    """Return the schema of a table with these keys and no others."""
    model = create_model("keys", __config__={**CONFIG, "extra": "forbid"}, **schema)  # type: ignore[call-overload]
    return _drop_titles(model.model_json_schema())


def _describe_training() -> dict[str, Any]:
    """Return the schema of the section ``training`` with the docstrings of its keys."""
    found = _describe_keys(signature_schema(Training))
    for key, meaning in read_field_docs(Training).items():
        found["properties"][key]["description"] = " ".join(meaning.split())
    return found


def read_field_docs(cls: type) -> dict[str, str]:
    """Return field → the docstring below it, of a dataclass."""
    (definition,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: ast.literal_eval(after.value)
        for field, after in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr)
    }


def _drop_titles(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without the titles that pydantic makes of the names of keys."""
    keys = schema.get("properties", {})
    bare = {key: {word: value for word, value in entry.items() if word != "title"} for key, entry in keys.items()}
    return {**{word: value for word, value in schema.items() if word != "title"}, "properties": bare}
