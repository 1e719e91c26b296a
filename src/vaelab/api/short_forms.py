"""Short forms of the most common overrides: ``--beta 4`` and ``beta=4`` for ``objective.beta=4``."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, TypedDict, get_type_hints


class ShortForm(NamedTuple):
    """The key of a recipe that a short form sets, the letter of its value and its help."""

    key: str
    metavar: str
    help: str


class ShortForms(TypedDict, total=False):
    """Keyword arguments of ``train``, ``plan``, ``sweep`` and ``plan_sweep``, and options of their commands."""

    epochs: Annotated[int | str, ShortForm("training.epochs", "N", "Number of passes over the training images")]
    steps: Annotated[int, ShortForm("training.steps", "N", "Number of training steps, instead of --epochs")]
    batch_size: Annotated[int, ShortForm("training.batch_size", "N", "Images per step")]
    learning_rate: Annotated[float, ShortForm("training.learning_rate", "RATE", "Learning rate")]
    latents: Annotated[int | str, ShortForm("network.latent_dim", "N", "Number of latents")]
    beta: Annotated[float | str, ShortForm("objective.beta", "BETA", "Weight of the KL")]


class ShortFormsAndSeed(ShortForms, total=False):
    """Keyword arguments of ``train`` and ``plan``; a sweep has a number of seeds instead."""

    seed: Annotated[int, ShortForm("training.seed", "N", "Seed of weights, data order and noise")]


def list_short_forms(forms: type) -> dict[str, ShortForm]:
    """Return word → short form of a class of short forms."""
    return {word: hint.__metadata__[0] for word, hint in get_type_hints(forms, include_extras=True).items()}


def merge_short_forms(set: Mapping[str, Any] | None, short: Mapping[str, Any]) -> dict[str, Any]:
    """Return the overrides in ``set`` and in short forms, by dotted key.

    Raises TypeError for a word that is no short form, UsageError for a key that is given in both ways.
    """
    from vaelab import recipe as recipes
    from vaelab.system import registry
    from vaelab.system.errors import UsageError

    forms = list_short_forms(ShortFormsAndSeed)
    overrides = recipes.check_overrides(set)
    for word, value in short.items():
        if word not in forms:
            raise TypeError(str(registry.unknown("argument", word, forms)))
        key = forms[word].key
        if key in overrides:
            raise UsageError(f"{word} and {key} are the same; give one of them", subject=key, value=value)
        overrides[key] = value
    return recipes.check_overrides(overrides)
