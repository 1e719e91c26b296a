"""The JSON schema of recipes: keys, members and types are those that a recipe is checked by."""

from typing import Any

import pytest

import vaelab
from vaelab import recipe
from vaelab.recipe.schema import SECTIONS, member_schema
from vaelab.system import registry

TYPES = {"string": str, "integer": int, "number": int | float, "array": list, "object": dict, "boolean": bool}


def accepts(schema: dict[str, Any], value: Any) -> bool:
    """Whether a value has the type, the constant and the bounds of a schema; as much of JSON schema as is used."""
    for word in ("oneOf", "anyOf"):
        if word in schema and not any(accepts(choice, value) for choice in schema[word]):
            return False
    if schema.get("const", value) != value or value not in schema.get("enum", [value]):
        return False
    if "type" in schema and not isinstance(value, TYPES[schema["type"]]):
        return False
    if isinstance(value, dict):
        keys, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        known = all(accepts(keys[key], value[key]) if key in keys else bool(more) for key in value)
        return known and set(schema.get("required", ())) <= value.keys()
    return value >= schema.get("minimum", value) if isinstance(value, int | float) else True


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return vaelab.recipe_schema()


@pytest.mark.parametrize("name", recipe.presets())
def test_presets_are_valid(schema: dict[str, Any], name: str) -> None:
    loaded = recipe.load(name)
    assert accepts(schema, {"title": loaded.title, **{k: v for k, v in loaded.sections().items() if v}})


@pytest.mark.parametrize(
    "overrides",
    [
        {"objective": {"name": "bta"}},
        {"objective": {"name": "beta", "bet": 4}},
        {"training": {"epochs": 0}},
        {"training": {"epoch": 2}},
        {"expected": {"loss_at_end": 3.0}},
        {"likelihoods": {}},
    ],
)
def test_mistakes_are_not(schema: dict[str, Any], overrides: dict[str, Any]) -> None:
    assert not accepts(schema, {"data": {"name": "digits"}, **overrides})


def test_every_member_and_every_key_of_the_training_is_described(schema: dict[str, Any]) -> None:
    sections = schema["properties"]
    for section, info in SECTIONS.items():
        members = {choice["title"]: choice for choice in sections[section]["oneOf"]}
        assert tuple(sorted(members)) == registry.names(info.folder)
        for name, choice in members.items():
            assert choice["properties"].keys() == {"name", *info.common, *member_schema(section, name)}
            assert choice["description"]
    assert all(entry["description"] for entry in sections["training"]["properties"].values())


def test_a_section_without_a_name_is_the_default_member(schema: dict[str, Any]) -> None:
    for section, info in SECTIONS.items():
        choices = schema["properties"][section]["oneOf"]
        unnamed = [choice["title"] for choice in choices if "name" not in choice["required"]]
        assert unnamed == [name for name in registry.names(info.folder) if name == info.default]
    assert accepts(schema, {"data": {"name": "digits"}, "network": {"latent_dim": 3}})
    assert not accepts(schema, {"data": {"name": "digits"}, "objective": {"beta": 4.0}})
