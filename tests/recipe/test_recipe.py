"""Recipes: presets, files that come back unchanged, defaults, values of "auto", differences."""

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import compute_terms

from vaelab import recipe
from vaelab.api.run_images import published_sizes
from vaelab.build import build
from vaelab.recipe import Recipe, Training
from vaelab.system import registry

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
    vae, objective = build(loaded.resolve(shape, 1000))
    terms = compute_terms(objective, vae, torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)))
    assert bool(torch.isfinite(terms["loss"]))


@every_preset
def test_presets_are_read_back_from_their_files(preset: str, tmp_path: Path) -> None:
    loaded = recipe.load(preset)
    assert recipe.load(write(tmp_path, loaded.to_toml(), preset)) == loaded


def test_the_mnist_preset_is_the_published_experiment() -> None:
    loaded = recipe.load("mnist")
    assert loaded.network["channels"] == [32, 64, 64, 64]
    assert loaded.network["strides"] == [1, 2, 2, 1]
    assert loaded.network["latent_dim"] == 2
    assert loaded.likelihood == {"name": "gaussian", "variance": 0.5, "link": "sigmoid"}
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
def test_a_recipe_is_read_back_from_its_file(
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
def test_titles_and_published_numbers_are_stored(title: str, source: str, numbers: dict[str, float]) -> None:
    expected = {**numbers, "source": source}
    resolved = recipe.validate({**minimal(expected=expected), "title": title}, "own")
    assert (resolved.title, resolved.expected) == (title, expected)
    assert recipe.validate(tomllib.loads(resolved.to_toml()), "own") == resolved


def test_defaults_are_filled_in_and_not_shared() -> None:
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


def test_whole_numbers_become_floats() -> None:
    loaded = recipe.load("mnist", {"training.learning_rate": 1, "likelihood.variance": 2})
    assert isinstance(loaded.training.learning_rate, float)
    assert isinstance(loaded.likelihood["variance"], float)


# -- values that follow from a recipe ---------------------------------------------------------------------------------


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
    assert small(**training).resolve(MNIST, num_images).num_steps == steps


@pytest.mark.parametrize(
    ("epochs", "every"), [(1, 1875), (20, 1875), (100, 1875), (101, 2 * 1875), (250, 3 * 1875), (1000, 10 * 1875)]
)
def test_validation_happens_every_epoch_at_most_a_hundred_times(epochs: int, every: int) -> None:
    assert small(epochs=epochs).resolve(MNIST, 60_000).validate_every == every


@given(counts, st.integers(1, 1000), st.integers(1, 10**5), st.integers(0, 10**5))
def test_automatic_validation_is_at_ends_of_epochs(epochs: int, batch_size: int, num_images: int, steps: int) -> None:
    resolved = small(epochs=epochs, batch_size=batch_size, steps=steps).resolve(MNIST, num_images)
    assert resolved.validate_every % math.ceil(num_images / batch_size) == 0
    assert resolved.num_steps / resolved.validate_every <= 100


@pytest.mark.parametrize("every", [0, 7])
def test_a_chosen_interval_of_validation_is_kept(every: int) -> None:
    chosen = small(validate_every=every, weight_decay=0.0)  # nothing is automatic
    assert chosen.resolve(MNIST, 1000).training == chosen.training


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        ("auto", {1: 1000, 32: 1000, 732: 131, 20_000: 8, 10**6: 8}),
        ("long", {1: 1000, 32: 1000, 732: 435, 20_000: 25, 10**6: 25}),
    ],
)
def test_automatic_epochs_give_enough_steps_within_bounds(length: str, expected: dict[int, int]) -> None:
    for num_images, epochs in expected.items():
        resolved = small(epochs=length).resolve(MNIST, num_images)
        assert resolved.training.epochs == epochs
        assert resolved.num_steps == epochs * math.ceil(num_images / 32)


@pytest.mark.parametrize(
    ("shape", "num_images", "latents", "channels"),
    [
        ((1, 8, 8), 1000, 8, [32]),
        ((1, 15, 15), 1000, 15, [32, 64]),  # 15, 8, 4: an odd side is rounded up
        ((3, 64, 64), 813, 64, [32, 64, 128, 256]),
        ((3, 64, 64), 31, 3, [32, 64, 128, 256]),
        ((1, 28, 28), 1, 2, [32, 64]),
        ((3, 256, 256), 10**6, 200, [32, 64, 128, 256, 256, 256]),
        ((1, 100, 20), 10**6, 44, [32, 64]),
    ],
)
def test_auto_depends_on_the_images(
    shape: tuple[int, int, int], num_images: int, latents: int, channels: list[int]
) -> None:
    data = {"size": list(shape[1:]), "channels": "rgb", "background": "white", "train": "", "valid": 0, "test": ""}
    table = {"table": "", "file_name": "", "label": ""}
    resolved = recipe.load("folder").resolve(shape, num_images, {**data, **table})
    assert resolved.network["latent_dim"] == resolved.latent_dim == latents
    assert resolved.network["channels"] == channels
    assert resolved.network["strides"] == [2] * len(channels)
    assert resolved.objective["beta"] > 0
    assert resolved.data["size"] == list(shape[1:])
    assert "auto" not in [
        v for section in ("data", "network", "objective") for v in getattr(resolved, section).values()
    ]
    assert resolved.resolve(shape, num_images) == resolved
    vae, _ = build(resolved)
    assert vae.decode(torch.zeros(2, latents)).shape == (2, *shape)


def test_chosen_values_are_kept_beside_auto() -> None:
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
    assert [line.partition(":")[0] for line in lines] == ["likelihood.link", "likelihood.name", "likelihood.variance"]


@pytest.mark.parametrize("preset", ["folder", "folder-best"])
def test_a_run_of_a_preset_with_an_automatic_length_is_no_other_recipe(preset: str) -> None:
    one = recipe.load(preset)
    assert one.differences(one.resolve((1, 64, 64), 734)) == []
    assert one.resolve((1, 64, 64), 734).differences(one) == []


def test_differences_that_change_no_training_do_not_count() -> None:
    one = recipe.load("mnist")
    assert one.differences(one.resolve(MNIST, 60_000)) == []
    assert one.resolve(MNIST, 60_000).differences(one) == []
    tables = {**one.sections(), "title": "another", "expected": {}}
    assert one.differences(recipe.validate(tables, "another")) == []
    assert one.resolve(MNIST, 60_000).differences(small(validate_every=7))


def test_only_options_of_the_data_set_are_passed_to_it() -> None:
    assert recipe.load_options(recipe.load("digits", {"data.valid": 10, "data.binarize": "dynamic"})) == {}


@pytest.mark.parametrize(
    "overrides", [{"training.figures": ["losses"]}, {"sampler.name": "gmm", "sampler.components": 3}]
)
def test_figures_and_samplers_do_not_make_another_recipe(overrides: dict[str, Any]) -> None:
    one, other = recipe.load("mnist"), recipe.load("mnist", overrides)
    assert one != other
    assert one.differences(other) == []
    assert (other.title, other.expected) == (one.title, one.expected)
