"""Recipes: what is accepted, what is refused and how, what comes back from a file, what is built."""

import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import compute_terms

from vaelab import recipe
from vaelab.api.run_images import published_sizes
from vaelab.build import beta_equivalents, build
from vaelab.models.spec import Spec
from vaelab.recipe import Recipe, Training
from vaelab.system import registry
from vaelab.system.errors import RecipeError, UnknownName

Tables = dict[str, Any]
every_preset = pytest.mark.parametrize("preset", recipe.presets())

# -- strategies -------------------------------------------------------------------------------------------------------

counts = st.integers(1, 10**6)
layers = st.lists(st.integers(1, 64), min_size=1, max_size=4)
positive = st.floats(1e-9, 1e9, allow_subnormal=False) | st.integers(1, 100)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def some_of(section: str, name: str, **keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Tables]:
    """Overrides that choose a member, with any of its keys."""
    optional = {f"{section}.{key}": value for key, value in keys.items()}
    return st.fixed_dictionaries({f"{section}.name": st.just(name)}, optional=optional)


sections: list[st.SearchStrategy[Tables]] = [
    st.fixed_dictionaries(
        {},
        optional={
            "data.binarize": st.sampled_from(["none", "threshold", "dynamic"]),
            "data.valid": st.integers(0, 1000),
            "network.latent_dim": st.integers(1, 400),
        },
    ),
    some_of("network", "conv", channels=layers, strides=layers, activate_last=st.booleans())
    | some_of("network", "mlp", hidden=layers, activation=st.sampled_from(["relu", "tanh", "gelu"])),
    some_of("likelihood", "gaussian", variance=positive) | some_of("likelihood", "bernoulli"),
    some_of("posterior", "diagonal") | some_of("posterior", "full_covariance"),
    some_of("prior", "normal") | some_of("prior", "mixture", components=counts, spread=positive),
    some_of("objective", "elbo")
    | some_of("objective", "beta", beta=positive | st.just(0), warmup_steps=st.integers(0, 10**6)),
    st.fixed_dictionaries(
        {},
        optional={
            "training.epochs": counts,
            "training.steps": st.integers(0, 10**6),
            "training.batch_size": counts,
            "training.learning_rate": positive,
            "training.precision": st.sampled_from(["auto", "fp32", "tf32", "bf16"]),
            "training.seed": st.integers(0, 2**63),
            "training.validate_every": st.integers(0, 10**6) | st.just("auto"),
            "training.checkpoint_every": counts,
            "training.threads": counts | st.just("auto"),
        },
    ),
]
overrides_of_any_kind = st.tuples(*sections).map(lambda parts: {k: v for part in parts for k, v in part.items()})


MNIST = (1, 28, 28)


def minimal(**sections: Tables) -> Tables:
    return {"data": {"name": "digits"}, **sections}


def write(folder: Path, text: str, name: str = "own") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


# -- presets ----------------------------------------------------------------------------------------------------------


@every_preset
def test_presets_load_and_build(preset: str) -> None:
    loaded = recipe.load(preset)
    assert loaded.name == preset
    assert len(loaded.title) > 10
    shape, _ = published_sizes(loaded) or ((3, 24, 20), {})
    vae, objective = build(loaded, shape, 1000)
    terms = compute_terms(objective, vae, torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)))
    assert bool(torch.isfinite(terms["loss"]))


@every_preset
def test_presets_hold_only_valid_keys_of_their_own(preset: str, tmp_path: Path) -> None:
    loaded = recipe.load(preset)
    assert recipe.load(write(tmp_path, loaded.to_toml(), preset)) == loaded


def test_the_mnist_preset_is_the_published_experiment() -> None:
    loaded = recipe.load("mnist")
    assert loaded.network["channels"] == [32, 64, 64, 64]
    assert loaded.network["strides"] == [1, 2, 2, 1]
    assert loaded.latent_dim == 2
    assert loaded.likelihood == {"name": "gaussian", "variance": 0.5}
    assert loaded.objective.get("beta", 1.0) == 1.0
    assert loaded.objective.get("warmup_steps", 0) == 0
    assert (loaded.training.epochs, loaded.training.batch_size) == (20, 32)
    assert loaded.training.learning_rate == 0.0005
    assert loaded.data == {"name": "mnist", "binarize": "none", "valid": 0}


def test_every_member_can_be_named_without_further_keys() -> None:
    for section, info in recipe.SECTIONS.items():
        for name in registry.names(info.folder):
            tables = minimal()
            tables[section] = {"name": name}
            assert getattr(recipe.validate(tables, "x"), section)["name"] == name


# -- there and back ---------------------------------------------------------------------------------------------------


@given(st.sampled_from(recipe.presets()), overrides_of_any_kind)
def test_a_resolved_recipe_comes_back_from_its_file(
    tmp_path_factory: pytest.TempPathFactory, preset: str, overrides: Tables
) -> None:
    resolved = recipe.load(preset, overrides)
    for key, value in overrides.items():
        section, _, rest = key.partition(".")
        assert resolved.sections()[section][rest] == value
    again = recipe.load(write(tmp_path_factory.getbasetemp(), resolved.to_toml(), preset))
    assert again == resolved
    assert again.to_toml() == resolved.to_toml()
    assert not resolved.differences(again)


@given(words, words, st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), st.floats(-1e9, 1e9)))
def test_titles_and_published_numbers_come_back(title: str, source: str, numbers: dict[str, float]) -> None:
    expected = {**numbers, "source": source}
    resolved = recipe.validate({**minimal(expected=expected), "title": title}, "own")
    assert (resolved.title, resolved.expected) == (title, expected)
    assert recipe.validate(tomllib.loads(resolved.to_toml()), "own") == resolved


def test_defaults_are_filled_in_and_are_nobody_elses() -> None:
    resolved = recipe.validate(minimal(), "own")
    assert resolved.title == "own"
    assert resolved.training == Training()
    assert (resolved.network["name"], resolved.likelihood["name"], resolved.objective["name"]) == (
        "conv",
        "gaussian",
        "elbo",
    )
    assert (resolved.network["latent_dim"], resolved.network["channels"]) == ("auto", "auto")
    resolved.network["hidden"].append(7)
    assert recipe.validate(minimal(), "own").network["hidden"] == []


def test_a_whole_number_will_do_for_a_float() -> None:
    loaded = recipe.load("mnist", {"training.learning_rate": 1, "likelihood.variance": 2})
    assert isinstance(loaded.training.learning_rate, float)
    assert isinstance(loaded.likelihood["variance"], float)


# -- refused: names ---------------------------------------------------------------------------------------------------


@given(st.sampled_from([*recipe.SECTIONS, "training"]), st.from_regex(r"[a-z_]{1,12}", fullmatch=True))
def test_unknown_keys_are_refused_with_the_valid_ones(section: str, key: str) -> None:
    valid = recipe.load("mnist").sections()[section]
    if key in valid:
        return
    with pytest.raises(UnknownName) as caught:
        recipe.load("mnist", {f"{section}.{key}": 1})
    message = str(caught.value)
    assert repr(key) in message
    assert f"[{section}]" in message
    assert all(name in message for name in valid)


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
        with pytest.raises(UnknownName) as caught:
            attempt()
        assert section in str(caught.value)
        assert all(name in str(caught.value) for name in sections - {"expected"})


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
    with pytest.raises(UnknownName, match=f"Did you mean '{near}'"):
        recipe.load("mnist", overrides)


def test_a_key_of_another_member_is_refused_and_the_other_named() -> None:
    with pytest.raises(UnknownName, match=r"'activation'.*--set network\.name=mlp"):
        recipe.load("mnist", {"network.activation": "tanh"})


def test_unknown_recipes() -> None:
    with pytest.raises(
        UnknownName,
        match=r"unknown recipe 'mnits'.*Did you mean 'mnist'.*Valid: celeba, .*digits, fashion, folder, mnist",
    ):
        recipe.load("mnits")
    with pytest.raises(RecipeError, match=r"none\.toml.*presets are"):
        recipe.load("none.toml")


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
        with pytest.raises(RecipeError) as caught:
            recipe.load("mnist", {**overrides, key: value})
        assert str(caught.value).startswith(f"{key} = "), "says which key"
        assert len(str(caught.value)) > len(f"{key} = {value}: "), "and what it wants"


def test_values_that_toml_cannot_write_are_refused_as_clearly() -> None:
    for value in (np.float64(1.5), object(), (1, 2), Path("x"), [None]):
        with pytest.raises(RecipeError, match=r"^training\.epochs = .*integer"):
            recipe.load("mnist", {"training.epochs": value})
    assert recipe.load("mnist", {"training.epochs": np.int64(5)}).training.epochs == 5


def test_choices_are_listed() -> None:
    with pytest.raises(RecipeError, match=r"Did you mean 'bf16'\? Valid: auto, bf16, fp32, tf32"):
        recipe.load("mnist", {"training.precision": "fp16"})


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"data": "digits"}, r"data must be a table, \[data\]"),
        (minimal(training=5), r"training must be a table"),
        ({}, r"\[data\] has no name; valid: arrays, celeba, digits"),
        ({"data": {"name": 5}}, "unknown data set '5'"),
        ({"data": {"name": ["digits"]}}, "unknown data set"),
        ({**minimal(), "title": 5}, "title"),
        (minimal(expected={"loss_last_epoch": 3.0}), r"expected\.source is missing"),
        (
            minimal(expected={"loss_last_epoch": 3.0, "source": 5}),
            r"expected\.source = 5: .* a valid string",
        ),
        (
            minimal(expected={"loss_last_epoch": "3", "source": "x"}),
            r"expected\.loss_last_epoch = \"3\": input should be a valid number",
        ),
        (minimal(expected={"loss_last_epoch": True, "source": "x"}), r"expected\.loss_last_epoch = .*number"),
        (minimal(expected={"loss_last_epoch": math.nan, "source": "x"}), r"expected\.loss_last_epoch = .*number"),
    ],
)
def test_wrong_tables_are_refused(tables: Tables, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        recipe.validate(tables, "own")
    assert isinstance(caught.value, RecipeError | UnknownName)


def test_an_override_cannot_reach_into_what_is_no_table() -> None:
    with pytest.raises(RecipeError, match="data must be a table"):
        recipe.merge({"data": 5}, {"data.name": "digits"})


def test_files_that_are_not_toml_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, "[data\nname = 3")
    with pytest.raises(RecipeError, match=r"own\.toml: not valid TOML \(.*line 1"):
        recipe.load(path)
    path.write_bytes(b'title = "\xff"')
    with pytest.raises(RecipeError, match=r"own\.toml: not valid TOML"):
        recipe.load(path)


# -- overrides --------------------------------------------------------------------------------------------------------


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
def test_overrides_are_toml_or_else_words(text: str, value: Any) -> None:
    key, parsed = recipe.parse_override(f"section.key={text}")
    assert (key, parsed) == ("section.key", value)
    assert type(parsed) is type(value)


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.lists(st.integers()) | st.booleans())
def test_overrides_of_plain_values_come_back(value: Any) -> None:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    assert recipe.parse_override(f" a.b = {text}") == ("a.b", value)


@pytest.mark.parametrize("text", ["", "training.epochs", "=5", "  =5", "--set"])
def test_overrides_without_key_or_value(text: str) -> None:
    with pytest.raises(RecipeError, match=r"section\.key=value"):
        recipe.parse_override(text)


def test_another_member_sheds_the_keys_that_only_the_old_one_knew() -> None:
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
    assert kept.latent_dim == recipe.load("mnist").latent_dim


@pytest.mark.parametrize("name", registry.names("objectives"))
@pytest.mark.parametrize("preset", recipe.presets())
def test_every_preset_takes_every_objective(preset: str, name: str) -> None:
    loaded = recipe.load(preset, {"objective.name": name}).resolve((1, 64, 64), 1000)
    assert loaded.objective["name"] == name
    assert "auto" not in loaded.objective.values()


def test_what_the_old_member_was_to_choose_is_the_new_ones_default() -> None:
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
def test_an_override_is_never_dropped_in_silence(turn: int) -> None:
    overrides = dict([("network.name", "mlp"), ("network.channels", [8])][::turn])
    with pytest.raises(UnknownName, match="'channels'"):
        recipe.load("mnist", overrides)


def test_the_title_tells_what_makes_it_another_experiment() -> None:
    title = recipe.load("mnist-nll").title
    assert "1,500 epochs" in title
    overrides = {"training.epochs": 9, "network.hidden": [5], "training.seed": 1, "training.batch_size": 100}
    loaded = recipe.load("mnist-nll", overrides)
    assert loaded.title == f"{title}; here training.epochs = 9, network.hidden = [5]"
    assert not loaded.expected
    same = recipe.load("mnist-nll", {"training.seed": 1, "training.epochs": 1500, "data.name": "mnist"})
    assert (same.title, same.expected) == (title, recipe.load("mnist-nll").expected)


def test_merge_leaves_its_tables_alone() -> None:
    tables = minimal(network={"name": "conv", "strides": [1]})
    merged = recipe.merge(tables, {"network.name": "mlp", "training.epochs": 3})
    assert tables == minimal(network={"name": "conv", "strides": [1]})
    assert merged == minimal(network={"name": "mlp"}, training={"epochs": 3})


# -- what follows from a recipe ---------------------------------------------------------------------------------------


def small(**training: Any) -> Recipe:
    return recipe.validate(minimal(training=training), "own")


@pytest.mark.parametrize(
    ("training", "num_images", "steps"),
    [
        ({"epochs": 20, "batch_size": 32}, 60_000, 37_500),
        ({"epochs": 3, "batch_size": 32}, 65, 9),
        ({"epochs": 3, "batch_size": 32}, 1, 3),
        ({"epochs": 3, "steps": 5}, 1000, 5),
    ],
)
def test_number_of_steps(training: Tables, num_images: int, steps: int) -> None:
    assert small(**training).training.num_steps(num_images) == steps


@pytest.mark.parametrize(
    ("epochs", "every"), [(1, 1875), (20, 1875), (100, 1875), (101, 2 * 1875), (250, 3 * 1875), (1000, 10 * 1875)]
)
def test_validation_every_epoch_but_a_hundred_times_at_most(epochs: int, every: int) -> None:
    assert small(epochs=epochs).resolve(MNIST, 60_000).training.validate_every == every


@given(counts, st.integers(1, 1000), st.integers(1, 10**5), st.integers(0, 10**5))
def test_settled_validates_at_ends_of_epochs(epochs: int, batch_size: int, num_images: int, steps: int) -> None:
    training = small(epochs=epochs, batch_size=batch_size, steps=steps).resolve(MNIST, num_images).training
    every = training.validate_every
    assert isinstance(every, int)
    assert every % math.ceil(num_images / batch_size) == 0
    assert training.num_steps(num_images) / every <= 100


@pytest.mark.parametrize("every", [0, 7])
def test_settled_keeps_what_a_person_chose(every: int) -> None:
    chosen = small(validate_every=every)
    assert chosen.resolve(MNIST, 1000).training == chosen.training


def test_auto_epochs_give_five_thousand_steps_within_bounds() -> None:
    for num_images, epochs in ((1, 1000), (32, 1000), (732, 218), (20_000, 20), (10**6, 20)):
        resolved = small(epochs="auto").resolve(MNIST, num_images).training
        assert resolved.epochs == epochs
        assert small(epochs="auto").training.num_steps(num_images) == resolved.num_steps(num_images)


@pytest.mark.parametrize(
    ("shape", "num_images", "latents", "channels"),
    [
        ((1, 8, 8), 1000, 8, [32]),
        ((3, 64, 64), 813, 64, [32, 64, 128, 256]),
        ((3, 64, 64), 31, 3, [32, 64, 128, 256]),
        ((1, 28, 28), 1, 2, [32, 64]),
        ((3, 256, 256), 10**6, 200, [32, 64, 128, 256, 256, 256]),
        ((1, 100, 20), 10**6, 44, [32, 64]),
    ],
)
def test_auto_becomes_what_suits_the_images(
    shape: tuple[int, int, int], num_images: int, latents: int, channels: list[int]
) -> None:
    resolved = recipe.load("folder").resolve(
        shape,
        num_images,
        {"size": list(shape[1:]), "channels": "rgb", "background": "white", "train": "", "valid": 0, "test": ""},
    )
    assert resolved.network["latent_dim"] == resolved.latent_dim == latents
    assert resolved.network["channels"] == channels
    assert resolved.network["strides"] == [2] * len(channels)
    assert resolved.objective["beta"] > 0
    assert resolved.data["size"] == list(shape[1:])
    assert "auto" not in [
        v for section in ("data", "network", "objective") for v in getattr(resolved, section).values()
    ]
    assert resolved.resolve(shape, num_images) == resolved
    vae, _ = build(resolved, shape, num_images)
    assert vae.decode(torch.zeros(2, latents)).shape == (2, *shape)


def test_what_a_person_chose_stays_beside_auto() -> None:
    chosen = recipe.load(
        "folder", {"network.latent_dim": 5, "objective.beta": 3, "network.channels": [8], "network.strides": [4]}
    )
    resolved = chosen.resolve((3, 64, 64), 500)
    assert (resolved.latent_dim, resolved.objective["beta"], resolved.network["channels"]) == (5, 3.0, [8])


def test_differences_name_every_key_with_both_values() -> None:
    one = recipe.load("mnist")
    assert one.differences(one) == []
    other = recipe.load("mnist", {"network.latent_dim": 5, "training.learning_rate": 0.1, "data.name": "fashion"})
    assert one.differences(other) == [
        'data.name: "mnist" there, "fashion" now',
        "network.latent_dim: 2 there, 5 now",
        "training.learning_rate: 0.0005 there, 0.1 now",
    ]
    (line,) = one.differences(recipe.load("mnist", {"network.channels": [8, 8, 8, 8]}))
    assert line == "network.channels: [32, 64, 64, 64] there, [8, 8, 8, 8] now"
    lines = one.differences(recipe.load("mnist", {"likelihood.name": "bernoulli"}))
    assert [line.partition(":")[0] for line in lines] == ["likelihood.name", "likelihood.variance"]


def test_differences_that_change_no_training_do_not_count() -> None:
    one = recipe.load("mnist")
    assert one.differences(one.resolve(MNIST, 60_000)) == []
    assert one.resolve(MNIST, 60_000).differences(one) == []
    tables = {**one.sections(), "title": "another", "expected": {}}
    assert one.differences(recipe.validate(tables, "another")) == []
    assert one.resolve(MNIST, 60_000).differences(small(validate_every=7))


def test_equivalents_of_a_gaussian_decoder() -> None:
    facts = Spec((1, 28, 28), latent_dim=2, num_images=100)
    plain = beta_equivalents(recipe.validate(minimal(objective={"name": "elbo"}), "x").resolve(MNIST, 100), facts)
    assert plain == pytest.approx({"beta": 1, "sigma": math.sqrt(0.5), "beta_normalised": 2 / 784})
    tables = minimal(objective={"name": "beta", "beta": 5.0}, likelihood={"name": "gaussian", "variance": 0.02})
    # SSE/(2·0.02) + 5 KL = 25 (SSE + 0.2 KL): β of the sum of squares is 0.2, its decoder's variance 0.1
    assert beta_equivalents(recipe.validate(tables, "x").resolve(MNIST, 100), facts) == pytest.approx(
        {"beta": 5, "sigma": math.sqrt(0.1), "beta_normalised": 0.2 * 2 / 784}
    )


def test_equivalents_of_a_bernoulli_decoder_have_no_sigma() -> None:
    tables = minimal(objective={"name": "beta", "beta": 3.0}, likelihood={"name": "bernoulli"})
    spec = Spec((3, 8, 8), latent_dim=4, num_images=100)
    equivalents = beta_equivalents(recipe.validate(tables, "x").resolve(spec.image_shape, 100), spec)
    assert equivalents == pytest.approx({"beta": 3, "beta_normalised": 3 * 4 / 192})


# -- building ---------------------------------------------------------------------------------------------------------


def build_small(**overrides: Any) -> Any:
    tables = recipe.merge(
        minimal(network={"name": "mlp", "hidden": [5]}), {k.replace("__", "."): v for k, v in overrides.items()}
    )
    return build(recipe.validate(tables, "own"), (3, 9, 8), 100)


@pytest.mark.parametrize("network", registry.names("networks"))
@pytest.mark.parametrize("likelihood", registry.names("likelihoods"))
@pytest.mark.parametrize("posterior", registry.names("posteriors"))
@pytest.mark.parametrize("prior", registry.names("priors"))
def test_members_combine(network: str, likelihood: str, posterior: str, prior: str) -> None:
    vae, _ = build_small(
        network__name=network, likelihood__name=likelihood, posterior__name=posterior, prior__name=prior
    )
    x = torch.rand(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    assert vae.reconstruct(x).shape == x.shape


@pytest.mark.parametrize("objective", registry.names("objectives"))
def test_objectives_are_refused_where_the_model_lacks_what_they_need(objective: str) -> None:
    members = {"posterior__name": "full_covariance", "prior__name": "mixture", "objective__name": objective}
    needs = registry.load("objectives", objective).Objective.needs
    if not needs:
        build_small(**members)
        return
    with pytest.raises(RecipeError) as caught:
        build_small(**members)
    message = str(caught.value)
    assert message.startswith(f"the objective {objective} needs ")
    assert ('posterior.name = "diagonal"' in message) == ("diagonal_posterior" in needs)
    assert ('prior.name = "normal"' in message) == ("standard_normal_prior" in needs)
    assert "\n" not in message


def test_members_get_the_recipes_values() -> None:
    vae, objective = build_small(
        network__hidden=[7, 6],
        network__latent_dim=4,
        likelihood__variance=0.25,
        objective__name="beta",
        objective__beta=2.5,
    )
    assert [tuple(p.shape) for p in vae.encoder.parameters() if p.ndim == 2] == [(7, 216), (6, 7), (8, 6)]
    assert vae.likelihood.variance == 0.25
    assert objective.beta == 2.5
    assert vae.spec == Spec((3, 9, 8), latent_dim=4, num_images=100, posterior_parameters=8, decoder_channels=3)


def test_weights_are_a_function_of_the_seed() -> None:
    (one, _), (same, _), (other, _) = build_small(), build_small(), build_small(training__seed=1)
    for a, b, c in zip(one.parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_a_model_can_be_built_without_memory() -> None:
    with torch.device("meta"):
        counted, _ = build_small()
    assert counted.num_parameters == build_small()[0].num_parameters
    assert counted.device.type == "meta"


def test_options_of_the_data_set_are_passed_on_alone() -> None:
    assert recipe.load_options(recipe.load("digits", {"data.valid": 10, "data.binarize": "dynamic"})) == {}
