"""Contract tests over every figure."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from vaelab import catalog
from vaelab.figures import CLASS_COLOURS, class_colormap, losses
from vaelab.images import Images

NAMES = catalog.names("figures")
FROM_MODEL = [name for name in NAMES if hasattr(catalog.load("figures", name), "compute")]
FROM_TABLES = [name for name in NAMES if hasattr(catalog.load("figures", name), "collect")]


def make_images(count: int, shape: tuple[int, int, int], classes: int) -> Images:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, *shape), dtype=np.uint8)
    labels = random.integers(0, classes, count) if classes else None
    return Images(pixels, labels, tuple(f"class {i}" for i in range(classes)))


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def make_tables(steps: int, validations: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    step = np.arange(1, steps + 1, dtype=float)
    fall = 30 + 200 * np.exp(-step / 50)
    history = {
        "step": step, "epoch": 1 + (step - 1) // max(1, steps // 4), "loss": fall + 5, "reconstruction": fall,
        "kl": np.full(steps, 5.0),
    }  # fmt: skip
    at = np.linspace(1, steps, validations)
    columns = {"loss": at + 5, "reconstruction": at, "kl": at * 0 + 5, "elbo": -at - 400}
    return history, {"step": at, "epoch": at, **columns} if validations else {}


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_what_the_report_needs(name: str):
    module = catalog.load("figures", name)
    assert module.__doc__
    assert isinstance(module.TITLE, str)
    assert isinstance(module.ORDER, int)
    assert (name in FROM_MODEL) != (name in FROM_TABLES)
    assert name in FROM_TABLES or module.SPLIT in ("train", "valid")


@pytest.mark.parametrize("name", FROM_MODEL)
@pytest.mark.parametrize(
    ("count", "shape", "classes", "latents"),
    [(40, (9, 8, 1), 10, 2), (40, (8, 12, 3), 0, 2), (1, (9, 8, 1), 1, 1), (30, (8, 8, 1), 15, 5)],
)
def test_figures_of_models_draw_whatever_the_images(
    name: str,
    count: int,
    shape: tuple[int, int, int],
    classes: int,
    latents: int,
    make_model: Callable[..., Any],
):
    module, images = catalog.load("figures", name), make_images(count, shape, classes)
    vae, _ = make_model(images.image_shape, {"network.latent_dim": latents})
    arrays = module.compute(vae, images, torch.Generator().manual_seed(0))
    if name == "manifold" and latents != 2:
        assert arrays is None
        return
    picture = png(module.draw(arrays))
    assert 1000 < len(picture) < 1_500_000
    assert module.caption(arrays).endswith((".", ")"))
    again = module.compute(vae, images, torch.Generator().manual_seed(0))
    assert png(module.draw(again)) == picture


@pytest.mark.parametrize("name", FROM_TABLES)
@pytest.mark.parametrize(("steps", "validations"), [(1, 1), (45, 3), (40_000, 20)])
def test_figures_of_tables_draw_runs_of_any_length(name: str, steps: int, validations: int):
    module = catalog.load("figures", name)
    arrays = module.collect(*make_tables(steps, validations))
    if name == "elbo" and validations < 2:
        assert arrays is None
        return
    assert 1000 < len(png(module.draw(arrays))) < 500_000
    assert module.caption(arrays)


def test_without_validation_there_is_no_elbo_but_there_are_losses():
    history, none = make_tables(20, 0)
    assert catalog.load("figures", "elbo").collect(history, none) is None
    assert len(losses.collect(history, none)["validation_step"]) == 0
    assert png(losses.draw(losses.collect(history, none)))


def test_losses_shows_the_weighted_kl_only_where_it_differs():
    history, validation = make_tables(200, 2)
    same = losses.collect({**history, "beta_kl": history["kl"]}, validation)
    assert "beta_kl" not in same
    other = losses.collect({**history, "beta_kl": 5 * history["kl"]}, validation)
    labels = [text.get_text() for text in losses.draw(other).axes[1].get_legend().get_texts()]
    assert labels == ["KL divergence", "β·KL, as it enters the loss"]


def test_losses_says_what_lies_above_the_view():
    figure = losses.draw(losses.collect(*make_tables(5000, 2)))
    upper = figure.axes[0]
    assert upper.get_ylim()[1] < 230
    assert "single batches up to" in upper.texts[0].get_text()


@pytest.mark.parametrize("window", [1, 3, 50])
def test_running_mean_by_hand(window: int):
    values = np.random.default_rng(0).standard_normal(40)
    expected = [values[max(0, i - window + 1) : i + 1].mean() for i in range(40)]
    np.testing.assert_allclose(losses.running_mean(values, window), expected)


def test_the_latent_figure_keeps_both_axes_on_one_scale(make_model: Callable[..., Any]):
    images = make_images(60, (9, 8, 1), 3)
    module = catalog.load("figures", "latent")
    for latents, label in ((2, "$z_1$"), (4, "principal axis 1 (")):
        vae, _ = make_model(images.image_shape, {"network.latent_dim": latents})
        axes = module.draw(module.compute(vae, images, torch.Generator())).axes[0]
        assert axes.get_aspect() == 1.0
        assert axes.get_xlim() == axes.get_ylim()
        assert axes.get_xlabel().startswith(label)
        assert {text.get_text() for text in axes.texts} >= {"class 0", "class 1", "class 2"}


def test_the_manifold_is_decoded_where_its_axes_say(make_model: Callable[..., Any]):
    module, images = catalog.load("figures", "manifold"), make_images(5, (9, 8, 1), 0)
    vae, _ = make_model(images.image_shape, {"network.latent_dim": 2})
    arrays = module.compute(vae, images, torch.Generator())
    axis, row, column = arrays["axis"], 3, 17
    code = np.array([axis[column], axis[::-1][row]])
    expected = (vae.decode(code)[0, 0] * 255).round()
    shown = arrays["images"][row * module.SIDE + column, ..., 0]
    assert np.abs(shown.astype(float) - expected).max() <= 1


def test_classes_have_different_colours():
    assert len(set(CLASS_COLOURS)) == 10
    assert len({tuple(class_colormap(25)(i)) for i in range(25)}) == 25


def test_traversals_show_the_latents_with_the_largest_kl_first(make_model: Callable[..., Any]):
    module, images = catalog.load("figures", "traversals"), make_images(30, (9, 8, 1), 0)
    vae, _ = make_model(images.image_shape, {"network.latent_dim": 14})
    arrays = module.compute(vae, images, torch.Generator().manual_seed(0))
    kl = vae.encode(images).kl().mean(0).numpy()
    assert arrays["latents"].tolist() == np.argsort(-kl)[:10].tolist()
    np.testing.assert_allclose(arrays["kl"], np.sort(kl)[::-1][:10], rtol=1e-4)
    row, column = 3, 10
    code = np.zeros(14, np.float32)
    code[arrays["latents"][row]] = 3.0
    expected = vae.decode(code)[0, 0] * 255
    assert np.abs(arrays["images"][row * module.COLUMNS + column, ..., 0] - expected).max() <= 0.51
    labels = [label.get_text() for label in module.draw(arrays).axes[0].get_xticklabels()]
    assert (labels[0], labels[5], labels[10]) == ("−3.0", "0", "+3.0")
