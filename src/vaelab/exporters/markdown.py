"""Texts for other people: the READMEs of exports and the model card, from ``templates/*.md.jinja``."""

from typing import Any

import jinja2

from vaelab.exporters.page import as_sentence
from vaelab.models.vae import VAE
from vaelab.recipe import Recipe


def render_markdown(template: str, model: VAE, recipe: Recipe, **values: Any) -> str:
    """Return the text of a template with these values, and the sizes and inputs of a model."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vaelab.exporters"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": as_cell, "sentence": as_sentence}
    channels, height, width = model.spec.image_shape
    return environment.get_template(template).render(
        recipe=recipe,
        spec=model.spec,
        channels=channels,
        height=height,
        width=width,
        condition="" if model.spec.condition == "none" else ", condition",
        has_normal_prior=recipe.prior["name"] == "normal",
        **values,
    )


def as_cell(text: object) -> str:
    """Return a text as one cell of a table."""
    return " ".join(str(text).split()).replace("|", r"\|")
