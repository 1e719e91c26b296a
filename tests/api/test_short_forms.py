"""``vaelab.train("digits", beta=4)`` and ``--beta 4`` for the keys that are set most."""

import json
from pathlib import Path

import pytest
from typed import TINY_WORDS, Typed

import vaelab
from vaelab.api.short_forms import ShortFormsAndSeed, list_short_forms
from vaelab.system.errors import UsageError

SHORT = {"epochs": 3, "batch_size": 16, "learning_rate": 0.01, "latents": 4, "beta": 2.0, "seed": 5}


def test_short_forms_are_overrides() -> None:
    forms = list_short_forms(ShortFormsAndSeed)
    overrides = {forms[word].key: value for word, value in SHORT.items()}
    short, full = vaelab.plan("digits", **SHORT), vaelab.plan("digits", overrides)
    assert short["recipe"] == full["recipe"]
    assert str(short["run"]) == str(full["run"])
    assert vaelab.plan("digits", steps=7)["steps"] == 7


def test_options_are_short_forms(cli: Typed) -> None:
    options = [word for name, value in SHORT.items() for word in (f"--{name.replace('_', '-')}", value)]
    code, out, _ = cli("train", "digits", *options, "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)["recipe"] == json.loads(json.dumps(vaelab.plan("digits", **SHORT)["recipe"].sections()))


def test_a_sweep_has_short_forms(cli: Typed) -> None:
    words = ("sweep", "digits", *TINY_WORDS, "--latents", 3, "--over", "objective.beta=1,2", "--dry-run", "--json")
    code, out, _ = cli(*words)
    assert (code, len(json.loads(out)["runs"])) == (0, 2)
    members = vaelab.plan_sweep("digits", {"objective.beta": [1, 2]}, latents=3, epochs=2).members
    assert [member.overrides["network.latent_dim"] for member in members] == [3, 3]


def test_epochs_replace_the_steps_of_a_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('[data]\nname = "digits"\n[training]\nsteps = 10_000\n')
    assert vaelab.plan(recipe)["steps"] == 10_000
    facts = vaelab.plan(recipe, epochs=2)
    assert facts["steps"] == 2 * -(-facts["images"]["train"] // facts["recipe"].training.batch_size)


def test_wrong_words_are_refused() -> None:
    with pytest.raises(TypeError):
        vaelab.plan("digits", epoch=2)  # type: ignore[call-arg]
    with pytest.raises(UsageError) as caught:
        vaelab.plan("digits", {"objective.beta": 4}, beta=4)
    assert caught.value.subject == "objective.beta"
