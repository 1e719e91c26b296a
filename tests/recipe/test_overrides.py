"""Overrides by dotted key: parsing, merging, titles."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaelab import recipe
from vaelab.system import registry
from vaelab.system.errors import RecipeError, UnknownName, UsageError


def minimal(**sections: Any) -> dict[str, Any]:
    return {"data": {"name": "digits"}, **sections}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4),
        ("-3", -3),
        ("1_000", 1000),
        ("0.5", 0.5),
        ("1e-4", 1e-4),
        ("true", True),
        ("[1, 2,3]", [1, 2, 3]),
        ("[0.5]", [0.5]),
        ("auto", "auto"),
        ('"auto"', "auto"),
        ("'4'", "4"),
        (" 4 ", 4),
        (" leaky_relu ", "leaky_relu"),
        ("", ""),
        ("a=b", "a=b"),
        ("two words", "two words"),
        ("[1, 2", "[1, 2"),
        ("C:\\data", "C:\\data"),
        ("5\nother = 6", "5\nother = 6"),
    ],
)
def test_override_values_are_toml_or_text(text: str, value: Any) -> None:
    key, parsed = recipe.parse_override(f"section.key={text}")
    assert (key, parsed) == ("section.key", value)
    assert type(parsed) is type(value)


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.lists(st.integers()) | st.booleans())
def test_plain_values_are_parsed(value: Any) -> None:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    assert recipe.parse_override(f" a.b = {text}") == ("a.b", value)


@pytest.mark.parametrize("text", ["", "training.epochs", "=5", "  =5", "--set"])
def test_overrides_without_key_or_value_are_refused(text: str) -> None:
    with pytest.raises(RecipeError) as error:
        recipe.parse_override(text)
    assert (error.value.subject, error.value.value) == ("--set", text)


def test_another_member_drops_keys_of_the_old_one() -> None:
    loaded = recipe.load("mnist", {"network.latent_dim": 9, "network.name": "mlp"})
    assert loaded.network == {
        "name": "mlp",
        "latent_dim": 9,
        "condition": "none",
        "hidden": [400],
        "activation": "relu",
    }
    assert recipe.load("mnist", {"likelihood.name": "bernoulli"}).likelihood == {"name": "bernoulli"}
    kept = recipe.load("mnist", {"network.name": "mlp"})
    assert kept.network["latent_dim"] == recipe.load("mnist").network["latent_dim"]


@pytest.mark.parametrize("name", registry.names("objectives"))
@pytest.mark.parametrize("preset", recipe.presets())
def test_every_preset_accepts_every_objective(preset: str, name: str) -> None:
    loaded = recipe.load(preset, {"objective.name": name}).resolve((1, 64, 64), 1000)
    assert loaded.objective["name"] == name
    assert "auto" not in loaded.objective.values()


def test_automatic_values_of_the_old_member_are_dropped() -> None:
    assert recipe.load("folder", {"objective.name": "tc"}).objective["beta"] == 6
    assert recipe.load("folder", {"objective.name": "tc", "objective.beta": 2.0}).objective["beta"] == 2
    assert recipe.load("folder", {"network.name": "mlp"}).network["latent_dim"] == "auto"


def test_the_same_member_keeps_its_keys() -> None:
    assert recipe.load("digits", {"network.name": "conv"}) == recipe.load("digits")


@given(st.permutations([("network.name", "mlp"), ("network.hidden", [5]), ("network.latent_dim", 3)]))
def test_the_order_of_overrides_does_not_matter(order: list[tuple[str, Any]]) -> None:
    assert recipe.load("mnist", dict(order)).network == {
        "name": "mlp",
        "latent_dim": 3,
        "condition": "none",
        "hidden": [5],
        "activation": "relu",
    }


@pytest.mark.parametrize("turn", [1, -1])
def test_unknown_overrides_are_never_dropped(turn: int) -> None:
    overrides = dict([("network.name", "mlp"), ("network.channels", [8])][::turn])
    with pytest.raises(UnknownName) as error:
        recipe.load("mnist", overrides)
    assert error.value.subject == "network.channels"


def test_the_title_lists_changes_of_the_experiment() -> None:
    title = recipe.load("mnist-nll").title
    assert "1,500 epochs" in title
    overrides = {"training.epochs": 9, "network.hidden": [5], "training.seed": 1, "training.batch_size": 100}
    loaded = recipe.load("mnist-nll", overrides)
    assert loaded.title == f"{title}; here training.epochs = 9, network.hidden = [5]"
    assert not loaded.expected
    same = recipe.load("mnist-nll", {"training.seed": 1, "training.epochs": 1500, "data.name": "mnist"})
    assert (same.title, same.expected) == (title, recipe.load("mnist-nll").expected)


def test_merge_does_not_change_its_tables() -> None:
    tables = minimal(network={"name": "conv", "strides": [1]})
    merged = recipe.merge(tables, {"network.name": "mlp", "training.epochs": 3})
    assert tables == minimal(network={"name": "conv", "strides": [1]})
    assert merged == minimal(network={"name": "mlp"}, training={"epochs": 3})


def test_a_sampler_is_replaced_and_its_options_are_set() -> None:
    own = {"name": "gmm", "components": 7}
    assert recipe.override_sampler(own, None, {}) == own
    assert recipe.override_sampler(own, "gmm", {"sampler.components": 3}) == {"name": "gmm", "components": 3}
    assert recipe.override_sampler(own, "prior", {}) == {"name": "prior"}
    by_key = recipe.override_sampler({"name": "prior"}, None, {"sampler.name": "gmm", "sampler.components": 3})
    assert by_key == {"name": "gmm", "components": 3}


@pytest.mark.parametrize(
    ("name", "overrides", "subject"),
    [
        ("kde", {}, "sampler"),
        (None, {"sampler.components": 0}, "sampler.components"),
        (None, {"sampler.steps": 5}, "sampler.steps"),
        (None, {"objective.beta": 5}, "key of the sampler:"),
        ("gmm", {"sampler.name": "prior"}, "sampler.name"),
    ],
)
def test_wrong_samplers_and_options_are_refused(
    name: str | None, overrides: dict[str, Any], subject: str, wording: Callable[[object], None]
) -> None:
    with pytest.raises(UsageError) as error:
        recipe.override_sampler({"name": "gmm", "components": 7}, name, overrides)
    assert error.value.subject == subject
    wording(error.value)
