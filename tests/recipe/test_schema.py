"""Keys and values that a recipe refuses, with the valid ones."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaelab import recipe
from vaelab.system.errors import RecipeError, UnknownName, UsageError

Tables = dict[str, Any]


def minimal(**sections: Any) -> Tables:
    return {"data": {"name": "digits"}, **sections}


# -- refused: names ---------------------------------------------------------------------------------------------------


@given(st.sampled_from([*recipe.SECTIONS, "training"]), st.from_regex(r"[a-z_]{1,12}", fullmatch=True))
def test_unknown_keys_are_refused_with_the_valid_ones(section: str, key: str) -> None:
    valid = recipe.load("mnist").sections()[section]
    if key in valid:
        return
    with pytest.raises(UnknownName) as error:
        recipe.load("mnist", {f"{section}.{key}": 1})
    assert (error.value.subject, error.value.value) == (f"{section}.{key}", key)
    assert set(error.value.choices) == set(valid)


@given(st.from_regex(r"[a-z_]{1,12}", fullmatch=True))
def test_unknown_sections_are_refused_with_the_valid_ones(section: str) -> None:
    sections = {*recipe.SECTIONS, "training", "expected"}
    if section in {*sections, "title"}:
        return
    for attempt in (
        lambda: recipe.validate(minimal(**{section: {}}), "own"),
        lambda: recipe.load("mnist", {f"{section}.name": "x"}),
        lambda: recipe.load("mnist", {section: "x"}),
    ):
        with pytest.raises(UnknownName) as error:
            attempt()
        assert str(error.value.value).partition(".")[0] == section
        assert set(error.value.choices) >= sections - {"expected"}


@pytest.mark.parametrize(
    ("overrides", "near"),
    [
        ({"network.chanels": [1]}, "channels"),
        ({"training.epoch": 1}, "epochs"),
        ({"training.learning-rate": 1}, "learning_rate"),
        ({"objective.name": "betta"}, "beta"),
        ({"likelihood.name": "gausian"}, "gaussian"),
        ({"data.name": "minst"}, "mnist"),
        ({"network.name": "Conv"}, "conv"),
        ({"posterior.name": "full_cov"}, "full_covariance"),
        ({"prior.name": "mixtur"}, "mixture"),
        ({"prior.name": "mixture", "prior.component": 3}, "components"),
    ],
)
def test_the_nearest_match_is_offered(overrides: Tables, near: str) -> None:
    with pytest.raises(UnknownName) as error:
        recipe.load("mnist", overrides)
    assert near in error.value.choices
    assert f"Did you mean {near!r}?" in str(error.value)


def test_a_key_of_another_member_names_that_member(wording: Callable[[object], None]) -> None:
    with pytest.raises(UnknownName) as error:
        recipe.load("mnist", {"network.activation": "tanh"})
    assert error.value.subject == "network.activation"
    wording(error.value)


@pytest.mark.parametrize(("name", "kind"), [("mnits", UnknownName), ("none.toml", RecipeError)])
def test_unknown_recipes_are_refused_with_the_presets(name: str, kind: type[UsageError]) -> None:
    with pytest.raises(kind) as error:
        recipe.load(name)
    assert (error.value.value, list(error.value.choices)) == (name, recipe.presets())


# -- refused: values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("training.epochs", ["5", True, 2.5, 5.0, 0, -1, [5], math.nan, None, {}]),
        ("training.steps", ["5", False, -1, 0.5]),
        ("training.batch_size", ["32", True, 0, -32, 32.0]),
        ("training.learning_rate", ["0.1", True, 0, 0.0, -0.1, math.nan, math.inf, -math.inf, [0.1]]),
        ("training.precision", ["fp16", 32, True]),
        ("training.seed", ["0", True, -1, 1.0]),
        ("training.validate_every", ["never", True, -1, 1.5]),
        ("training.threads", ["all", True, 0, 1.5]),
        ("data.binarize", ["yes", True, 1]),
        ("data.valid", ["10", True, -1, 0.1]),
        ("network.latent_dim", ["2", True, 0, -2, 2.0]),
        ("network.channels", [32, "32", [], [0], [-1], [1.5], ["32"], [True], [[32]], {"a": 1}]),
        ("network.activate_last", ["true", 1, 0]),
        ("network.condition", ["labels", True, 1]),
        ("prior.components", ["3", True, 0, -1, 2.0]),
        ("likelihood.variance", ["0.5", True, 0, -1.0, math.nan, math.inf]),
        ("objective.beta", ["4", True, -1, math.nan, math.inf]),
        ("objective.warmup_steps", ["4", True, -1, 1.5]),
    ],
)
def test_wrong_types_and_values_are_refused(key: str, values: list[Any]) -> None:
    overrides = {"objective.name": "beta", "prior.name": "mixture"}
    for value in values:
        with pytest.raises(RecipeError) as error:
            recipe.load("mnist", {**overrides, key: value})
        assert error.value.subject == key
        assert error.value.value is value or error.value.value == value


def test_values_that_toml_cannot_write_are_refused() -> None:
    for value in (np.float64(1.5), object(), (1, 2), Path("x"), [None]):
        with pytest.raises(RecipeError) as error:
            recipe.load("mnist", {"training.epochs": value})
        assert error.value.subject == "training.epochs"
    assert recipe.load("mnist", {"training.epochs": np.int64(5)}).training.epochs == 5


def test_choices_are_listed() -> None:
    with pytest.raises(RecipeError) as error:
        recipe.load("mnist", {"training.precision": "fp16"})
    assert error.value.choices == ("auto", "bf16", "fp32", "tf32")


@pytest.mark.parametrize(
    ("tables", "subject"),
    [
        ({"data": "digits"}, "data"),
        (minimal(training=5), "training"),
        ({}, "data"),
        ({"data": {"name": 5}}, "data set"),
        ({"data": {"name": ["digits"]}}, "data set"),
        ({**minimal(), "title": 5}, "title"),
        (minimal(training={"figures": ["loses"]}), "figure"),
        (minimal(expected={"loss_at_end": 3.0}), "expected.source"),
        (minimal(expected={"loss_at_end": 3.0, "source": 5}), "expected.source"),
        (minimal(expected={"loss_at_end": "3", "source": "x"}), "expected.loss_at_end"),
        (minimal(expected={"loss_at_end": True, "source": "x"}), "expected.loss_at_end"),
        (minimal(expected={"loss_at_end": math.nan, "source": "x"}), "expected.loss_at_end"),
    ],
)
def test_wrong_tables_are_refused(tables: Tables, subject: str, wording: Callable[[object], None]) -> None:
    with pytest.raises(UsageError) as error:
        recipe.validate(tables, "own")
    assert error.value.subject == subject
    wording(error.value)


def test_an_override_of_a_section_that_is_no_table_is_refused() -> None:
    with pytest.raises(RecipeError) as error:
        recipe.merge({"data": 5}, {"data.name": "digits"})
    assert error.value.subject == "data"


@pytest.mark.parametrize("content", [b"[data\nname = 3", b'title = "\xff"'])
def test_files_that_are_not_toml_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "own.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as error:
        recipe.load(path)
    assert error.value.subject == str(path)
