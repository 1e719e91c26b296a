"""Contract tests over every figure."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from wording import Wording

from vaelab.data.images import Images
from vaelab.figures import (
    CLASS_COLOURS,
    aggregate,
    class_colormap,
    clean_text,
    comparison,
    data,
    losses,
    rate_distortion,
    render,
    scores,
)
from vaelab.figures._sheet import sheet_figure
from vaelab.models.codes import Codes, encode_images
from vaelab.models.samplers import make_sampler
from vaelab.models.terms import COMMON_TERMS, Term
from vaelab.system import registry

pytestmark = pytest.mark.slow
NAMES = registry.names("figures")
FROM_MODEL = [name for name in NAMES if hasattr(registry.load("figures", name), "compute")]
FROM_TABLES = [name for name in NAMES if hasattr(registry.load("figures", name), "collect")]
OF_RUNS = [name for name in NAMES if name not in FROM_MODEL and name not in FROM_TABLES]


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
    columns |= {"gradient_norm": 10 + np.sin(at), "weight_norm": 40 + at / 100}
    return history, {"step": at, "epoch": at, **columns} if validations else {}


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_what_the_report_needs(name: str):
    module = registry.load("figures", name)
    assert module.__doc__
    assert isinstance(module.TITLE, str)
    assert isinstance(module.ORDER, int)
    assert not (name in FROM_MODEL and name in FROM_TABLES)
    assert name not in FROM_MODEL or module.SPLIT in ("train", "valid")


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
    module, images = registry.load("figures", name), make_images(count, shape, classes)
    vae, _ = make_model(images.image_shape, {"network.latent_dim": latents})
    arrays = module.compute(vae, images, torch.Generator().manual_seed(0))
    if arrays is None:
        assert (name == "manifold" and latents != 2) or name == "edits"  # noise does not separate classes
        return
    picture = png(module.draw(arrays))
    assert 1000 < len(picture) < 1_500_000
    assert module.caption(arrays).endswith((".", ")"))
    again = module.compute(vae, images, torch.Generator().manual_seed(0))
    assert png(module.draw(again)) == picture


ODD_NAMES = (
    "a$$b",
    "US $1 – $5",
    r"$\frac{1}{$",
    "<b>x</b>",
    "[red]",
    "_",
    "caf\udce9",
    "tab\there",
    "\x1b[31m",
)


def texts_of(figure: Figure) -> dict[str, Text]:
    """Every text that a figure draws, once it is drawn."""
    return {text.get_text(): text for text in figure.findobj(Text) if text.get_text()}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["latent", "data", "edits"])
@pytest.mark.parametrize("odd", ODD_NAMES)
def test_names_of_classes_are_drawn_as_they_stand(name: str, odd: str, make_model: Callable[..., Any]):
    module, random = registry.load("figures", name), np.random.default_rng(0)
    labels = np.arange(60) % 2
    pixels = (random.integers(0, 40, (60, 9, 8, 1)) + 200 * labels[:, None, None, None]).astype(np.uint8)
    images = Images(pixels, labels, (odd, "other"))
    vae, _ = make_model((1, 9, 8), {"network.latent_dim": 2})
    arrays = module.compute(vae, images, torch.Generator().manual_seed(0))
    if name == "edits":
        arrays["rows"][0] = odd.replace("_", " ")  # of an untrained model, the row may have been left out
    figure = module.draw(arrays)
    assert render(figure, {"Title": odd, "Description": module.caption(arrays)})
    drawn = texts_of(figure)
    shown = clean_text(odd if name != "edits" else odd.replace("_", " "))
    if odd == "_":
        return  # an edit's row drops it
    assert any(shown in text for text in drawn), drawn
    assert not any(text.get_parse_math() for text in drawn.values())


@pytest.mark.parametrize("name", ["latent", "data"])
@pytest.mark.parametrize("foreign", ["日本", "ねこ", "고양이", "قطة"])
def test_classes_whose_names_the_font_lacks_are_numbered(name: str, foreign: str, make_model: Callable[..., Any]):
    """Also Arabic, whose letters the font has, but which Matplotlib would neither join nor turn."""
    module, images = registry.load("figures", name), make_images(40, (9, 8, 1), 3)
    vae, _ = make_model(images.image_shape, {"network.latent_dim": 2})
    arrays = module.compute(vae, replace(images, label_names=("cat", "dog", foreign)), torch.Generator().manual_seed(0))
    drawn = set(texts_of(module.draw(arrays)))
    assert {"0", "1", "2"} <= drawn
    assert not {"cat", "dog", foreign} & drawn
    assert f"classes: 0 cat, 1 dog, 2 {foreign}." in module.caption(arrays)


def test_at_most_twenty_classes_are_named_the_largest(make_model: Callable[..., Any]):
    module, labels = registry.load("figures", "latent"), np.concatenate([np.arange(25), np.arange(5, 25)])
    images = Images(np.zeros((45, 9, 8, 1), np.uint8), labels, tuple(f"class {i}" for i in range(25)))
    vae, _ = make_model(images.image_shape, {"network.latent_dim": 2})
    arrays = module.compute(vae, images, torch.Generator())
    drawn = {text.get_text() for text in module.draw(arrays).axes[0].texts}
    assert drawn == {f"class {i}" for i in range(5, 25)}
    assert "20 largest of 25" in module.caption(arrays)


@pytest.mark.parametrize("odd", ODD_NAMES)
def test_labels_of_runs_are_drawn_as_they_stand(odd: str):
    panel = {"title": "KL", "unit": "nats", "better": "", "values": [[1.0], [2.0, 3.0]], "errors": [[0.1], [0.0, 0.0]]}
    compared = comparison.draw({"labels": [odd, "other"], "panels": [panel]})
    points = [{"label": odd, "rate": np.ones(1), "distortion": np.ones(1)}]
    series = [{"label": odd, "points": points}, {"label": "other", "points": points}]
    swept = rate_distortion.draw({"swept": odd, "series": series})
    for figure in (compared, swept):
        assert render(figure, {"Title": odd})
        drawn = texts_of(figure)
        assert clean_text(odd) in drawn
        assert not any(text.get_parse_math() for text in drawn.values())


@pytest.mark.parametrize("name", FROM_TABLES)
@pytest.mark.parametrize(("steps", "validations"), [(1, 1), (45, 3), (40_000, 20)])
def test_figures_of_tables_draw_runs_of_any_length(name: str, steps: int, validations: int):
    module = registry.load("figures", name)
    arrays = module.collect(*make_tables(steps, validations), COMMON_TERMS)
    if name in ("elbo", "norms") and validations < 2:
        assert arrays is None
        return
    assert 1000 < len(png(module.draw(arrays))) < 500_000
    assert module.caption(arrays)


def test_without_validation_there_is_no_elbo_but_there_are_losses():
    history, none = make_tables(20, 0)
    assert registry.load("figures", "elbo").collect(history, none, COMMON_TERMS) is None
    assert len(losses.collect(history, none, COMMON_TERMS)["validation_step"]) == 0
    assert png(losses.draw(losses.collect(history, none, COMMON_TERMS)))


def test_losses_draws_the_declared_terms_with_their_units():
    history, validation = make_tables(200, 2)
    history |= {"beta_kl": 5 * history["kl"], "perceptual": history["kl"]}
    terms = [*COMMON_TERMS, Term("beta_kl", "β·KL"), Term("absent", "absent")]
    panels = losses.draw(losses.collect(history, validation, terms)).axes
    assert [text.get_text() for text in panels[1].get_legend().get_texts()] == ["KL", "β·KL"]
    assert ["nats" in axes.get_ylabel() for axes in panels] == [True, True]
    terms.append(Term("perceptual", "distance", unit=""))
    panels = losses.draw(losses.collect(history, validation, terms, "")).axes
    assert [text.get_text() for text in panels[1].get_legend().get_texts()] == ["KL", "β·KL", "distance"]
    assert ["nats" in axes.get_ylabel() for axes in panels] == [False, False]


def test_losses_says_what_lies_above_the_view():
    figure = losses.draw(losses.collect(*make_tables(5000, 2), COMMON_TERMS))
    upper = figure.axes[0]
    assert upper.get_ylim()[1] < 230
    assert "not shown: batches up to" in upper.texts[0].get_text()


@pytest.mark.parametrize("steps", [40, 135, 5000])
def test_the_first_batches_do_not_set_the_view_of_the_losses(steps: int):
    history, validation = make_tables(steps, 2)
    for name in ("loss", "kl"):
        history[name][: max(2, steps // 20)] = 1e5
    for axes in losses.draw(losses.collect(history, validation, COMMON_TERMS)).axes:
        low, high = axes.get_ylim()
        assert 0 <= low < high < 400
        assert axes.texts[0].get_text() == "not shown: batches up to 1e+05"


def test_losses_below_zero_are_shown():
    history, validation = make_tables(60, 2)
    history["loss"] = history["reconstruction"] = -history["step"]
    upper = losses.draw(losses.collect(history, validation, COMMON_TERMS)).axes[0]
    assert upper.get_ylim()[0] < -60


@pytest.mark.parametrize("window", [1, 3, 50])
def test_running_mean_by_hand(window: int):
    values = np.random.default_rng(0).standard_normal(40)
    expected = [values[max(0, i - window + 1) : i + 1].mean() for i in range(40)]
    np.testing.assert_allclose(losses.running_mean(values, window), expected)


def test_the_latent_figure_keeps_both_axes_on_one_scale(make_model: Callable[..., Any]):
    images = make_images(60, (9, 8, 1), 3)
    module = registry.load("figures", "latent")
    for latents, label in ((2, "z₁"), (4, "principal axis 1 (")):
        vae, _ = make_model(images.image_shape, {"network.latent_dim": latents})
        axes = module.draw(module.compute(vae, images, torch.Generator())).axes[0]
        assert axes.get_aspect() == 1.0
        assert axes.get_xlim() == axes.get_ylim()
        assert axes.get_xlabel().startswith(label)
        assert {text.get_text() for text in axes.texts} >= {"class 0", "class 1", "class 2"}


def test_samples_may_come_from_another_sampler(make_model: Callable[..., Any]):
    module, images = registry.load("figures", "samples"), make_images(60, (9, 8, 1), 3)
    vae, _ = make_model(images.image_shape)
    found = []
    for name in ("prior", "gmm"):
        sampler = make_sampler(name, vae, lambda: images)
        arrays = module.compute(vae, images, torch.Generator().manual_seed(0), sampler)
        assert name in module.caption(arrays)
        found.append(arrays["samples"])
    by_default = module.compute(vae, images, torch.Generator().manual_seed(0))["samples"]
    np.testing.assert_array_equal(found[0], by_default)
    assert (found[1] != by_default).any()


def test_the_manifold_is_decoded_where_its_axes_say(make_model: Callable[..., Any]):
    module, images = registry.load("figures", "manifold"), make_images(5, (9, 8, 1), 0)
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


@pytest.mark.parametrize("log_var", [0.0, -25.0])
def test_the_density_of_a_narrow_posterior_is_not_lost_between_two_points(log_var: float):
    means = np.float32([[0.03, -1.21], [2.96, 0.54]])
    edges = np.linspace(-6, 6, 121)
    density = aggregate.cell_densities(edges, Codes(means, np.full_like(means, log_var)), np.array([1, 0]))
    assert density.sum(1) * 0.1 == pytest.approx([1, 1], abs=2e-3)
    centres = (edges[:-1] + edges[1:]) / 2
    if log_var == 0:
        truth = np.exp(-0.5 * (centres[:, None] - means[:, 1]) ** 2).mean(1) / np.sqrt(2 * np.pi)
        assert density[0] == pytest.approx(truth, abs=4e-4)  # h²/24 of the second derivative
    else:
        assert centres[density[0] > 0] == pytest.approx([-1.25, 0.55])
        assert density[0].max() == pytest.approx(5)  # half of the mass in a cell of a tenth


def test_traversals_show_the_latents_with_the_largest_kl_first(make_model: Callable[..., Any]):
    module, images = registry.load("figures", "traversals"), make_images(30, (9, 8, 1), 0)
    vae, _ = make_model(images.image_shape, {"network.latent_dim": 14})
    arrays = module.compute(vae, images, torch.Generator().manual_seed(0))
    kl = encode_images(vae, images).kl
    assert arrays["latents"].tolist() == np.argsort(-kl)[:10].tolist()
    np.testing.assert_allclose(arrays["kl"], np.sort(kl)[::-1][:10], rtol=1e-4)
    row, column = 3, 10
    code = np.zeros(14, np.float32)
    code[arrays["latents"][row]] = 3.0
    expected = vae.decode(code)[0, 0] * 255
    assert np.abs(arrays["images"][row * module.COLUMNS + column, ..., 0] - expected).max() <= 0.51
    labels = [label.get_text() for label in module.draw(arrays).axes[0].get_xticklabels()]
    assert (labels[0], labels[5], labels[10]) == ("−3.0", "0", "+3.0")


# -- figures of several runs ------------------------------------------------------------------------------------------


def make_runs(name: str, runs: int, shape: tuple[int, int, int], seeds: int) -> dict[str, Any]:
    """Made-up arrays for a figure of several runs."""
    random = np.random.default_rng(0)
    labels = [f"β = {i}, latents = 100, an Ünusually long $ name" for i in range(runs)]
    if name == "side_by_side":
        pictures = random.integers(0, 256, (2, runs, 8, *shape), dtype=np.uint8)
        sources = ["the prior", *["the sampler gmm"] * (runs - 1)]
        arrays = {"labels": labels, "originals": pictures[0, 0], "sources": sources}
        return {**arrays, "reconstructions": pictures[0], "samples": pictures[1]}
    if name == "scores":
        originals, rebuilt = random.integers(0, 256, (2, 2, min(runs, 8), *shape), dtype=np.uint8)
        return {"originals": originals, "reconstructions": rebuilt, "elbo": -1e4 * random.random((2, min(runs, 8)))}
    values = 100 * 0.9 ** np.arange(runs)[:, None] + random.standard_normal((runs, seeds))
    if name == "rate_distortion":
        points = [
            {"label": f"{i}", "rate": row, "distortion": 300 - row + random.standard_normal(seeds)}
            for i, row in enumerate(values)
        ]
        points[-1] |= {key: points[-1][key][:1] for key in ("rate", "distortion")}  # the other seeds are not done yet
        return {"swept": "β", "series": [{"label": "conv", "points": points}, {"label": "mlp", "points": points[:1]}]}
    assert name == "comparison", f"{name}: say here what its arrays are"
    unknown = [[float("nan")] * seeds] * runs
    panel = {"title": "β·KL", "unit": "nats", "better": "lower", "values": values.tolist(), "errors": unknown}
    partly = [*unknown[:-1], [5.0] * seeds]
    counted = {**panel, "title": "active units", "better": "", "values": partly, "baseline": 3, "baseline_title": "x"}
    with_errors = {**panel, "values": (-200 * values).tolist(), "errors": (values / 50).tolist()}
    return {
        "labels": labels,
        "panels": [panel, counted, with_errors, panel, counted],
        "remarks": ["the decomposition is of 359 training images"],
        "images": [359, 400],
    }


@pytest.mark.parametrize("name", OF_RUNS)
@pytest.mark.parametrize(("runs", "shape", "seeds"), [(1, (28, 28, 1), 1), (2, (12, 16, 3), 3), (16, (40, 30, 3), 2)])
@pytest.mark.slow
def test_figures_of_runs_draw_any_number_of_them_and_cut_nothing_off(
    name: str, runs: int, shape: tuple[int, int, int], seeds: int
):
    module, arrays = registry.load("figures", name), make_runs(name, runs, shape, seeds)
    figure = module.draw(arrays)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 255).all()
    assert module.caption(arrays).endswith(".")


def test_a_comparison_writes_the_mean_of_the_seeds_beside_the_panel():
    arrays = make_runs("comparison", 2, (8, 8, 1), 3)
    arrays["panels"] = arrays["panels"][:1]
    arrays["panels"][0]["values"] = [[10.0, 20.0, 60.0], [-1234.5] * 3]
    axes = comparison.draw(arrays).axes[0]
    assert [text.get_text() for text in axes.texts] == ["30", "−1,234.5"]
    assert [label.get_text() for label in axes.get_yticklabels()] == arrays["labels"]
    low, high = axes.get_xlim()
    assert low < -1234.5
    assert high > 60


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "0.012"), (-12.345, "−12.35"), (635996, "635,996"), (3_260_000, "3.26 M"), (-467.74, "−467.7"), (6, "6")],
)
def test_numbers_have_the_digits_that_tell_runs_apart(value: float, text: str):
    assert comparison.number(value) == text


def test_the_interval_of_a_mean_is_students():
    values = np.array([3.0, 5.0, 10.0])
    # t(0.975, 2) = 4.30265 from a table, s = 3.60555
    assert rate_distortion.interval(values) == pytest.approx(4.30265 * 3.60555 / np.sqrt(3), rel=1e-5)
    assert np.isnan(rate_distortion.interval(values[:1]))


def test_a_hull_holds_all_points_and_is_made_of_them():
    random = np.random.default_rng(0)
    points = np.concatenate([random.random((40, 2)), [[-1, -1], [2, -1], [2, 2], [-1, 2], [2, 0.5]]])
    corners = rate_distortion.hull(points)
    assert corners.tolist() == [[-1, -1], [2, -1], [2, 2], [-1, 2]]
    assert len(rate_distortion.hull(np.zeros((5, 2)))) == 1


def test_one_seed_gives_no_band_and_several_are_named_in_the_caption(wording: Wording):
    single = make_runs("rate_distortion", 3, (8, 8, 1), 1)
    assert not rate_distortion.draw(single).axes[0].patches
    wording(rate_distortion.caption(single))
    several = make_runs("rate_distortion", 3, (8, 8, 1), 4)
    axes = rate_distortion.draw(several).axes[0]
    assert len(axes.patches) == 2
    outline = axes.patches[0].get_path().get_extents()
    first = several["series"][0]["points"][0]
    half = rate_distortion.interval(first["rate"])
    assert outline.x1 >= first["rate"].mean() + half - 1e-6
    assert "4 seeds" in rate_distortion.caption(several)
    wording(rate_distortion.caption(several))


def test_rates_are_joined_in_the_order_given_and_named_where_there_is_room():
    arrays = make_runs("rate_distortion", 4, (8, 8, 1), 1)
    arrays["series"] = arrays["series"][:1]
    axes = rate_distortion.draw(arrays).axes[0]
    line = axes.lines[0]
    assert line.get_xdata().tolist() == [float(point["rate"][0]) for point in arrays["series"][0]["points"]]
    assert {text.get_text() for text in axes.texts} == {"0", "1", "2", "3"}


# -- sheets and data --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "scale"), [((9, 8, 1), 24), ((100, 100, 3), 1)])
def test_a_sheet_holds_every_picture_in_whole_pixels(shape: tuple[int, int, int], scale: int):
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, *shape), dtype=np.uint8)
    canvas = FigureCanvasAgg(sheet_figure([pictures[:, :1], pictures[:, 1:]], ["a", "b"], [["one"], ["two", "three"]]))
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[..., :3]
    for picture in pictures.reshape(-1, *shape):
        wanted = np.broadcast_to(picture, (*shape[:2], 3)).repeat(scale, 0).repeat(scale, 1)
        corners = np.argwhere((drawn[: 1 - wanted.shape[0], : 1 - wanted.shape[1]] == wanted[0, 0]).all(-1))
        assert any(np.array_equal(drawn[y : y + wanted.shape[0], x : x + wanted.shape[1]], wanted) for y, x in corners)


def test_rows_of_reconstructions_have_names(make_model: Callable[..., Any]):
    module, images = registry.load("figures", "reconstructions"), make_images(20, (9, 8, 1), 0)
    arrays = module.compute(make_model(images.image_shape)[0], images, torch.Generator().manual_seed(0))
    words = [text.get_text() for text in module.draw(arrays).texts]
    assert words == ["original", "reconstruction"] * 2
    places = [text.get_position()[1] for text in module.draw({**arrays, "columns": 4}).texts]
    gaps = -np.diff(places)
    assert len(places) == 10
    assert gaps[1] > gaps[0]  # a reconstruction is nearer to its original than to the next one


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 40])
def test_no_image_is_both_the_most_and_the_least_unusual(count: int):
    elbo = np.random.default_rng(0).standard_normal(count)
    rows = scores.ends(elbo)
    shown = np.concatenate(rows)
    assert len(set(shown.tolist())) == len(shown) >= min(count, 8)
    assert (elbo[rows[0]] == np.sort(elbo)[: len(rows[0])]).all()
    pictures = np.zeros((len(rows), len(rows[0]), 9, 8, 1), np.uint8)
    arrays = scores.arrays_of(pictures, pictures, np.stack([elbo[chosen] for chosen in rows]))
    words = " ".join(text.get_text() for text in scores.draw(arrays).texts)
    assert ("unusual" in words) == (count > 1)
    assert ("least unusual" in words) == (count > 8)
    ordered = scores.caption({**arrays, "elbo": np.zeros((2, 8))})
    assert (scores.caption(arrays) == ordered) == (count > 1)


def test_axes_of_positive_quantities_do_not_begin_below_zero():
    panel = {
        "title": "active units",
        "unit": "",
        "better": "",
        "values": [[0.0], [1.0, 2.0]],
        "errors": [[0.5], [0, 0]],
    }
    below = {**panel, "title": "ELBO", "values": [[-3.0], [1.0, 2.0]]}
    first, second = comparison.draw({"labels": ["a", "b"], "panels": [panel, below]}).findobj(Axes)
    assert first.get_xlim()[0] == 0
    assert second.get_xlim()[0] < -3
    at_zero = next(line for line in first.get_lines() if line.get_marker() == "o")
    assert not at_zero.get_clip_on()
    points = [{"label": "1", "rate": np.array([0.0, 2.0]), "distortion": np.array([1.0, 30.0])}]
    axes = rate_distortion.draw({"swept": "β", "series": [{"label": "", "points": points}]}).axes[0]
    assert (axes.get_xlim()[0], axes.get_ylim()[0]) == (0, 0)


def test_quantities_that_decide_are_large_and_come_first():
    panel = {"title": "x", "unit": "", "better": "", "values": [[1.0], [2.0]], "errors": [[0.5], [0]]}
    panels = [{**panel, "title": f"small {i}"} for i in range(5)] + [{**panel, "title": "ELBO", "decides": True}]
    figure = comparison.draw({"labels": ["a", "b"], "panels": panels})
    figure.draw_without_rendering()
    shown = [axes for axes in figure.findobj(Axes) if axes.axison]
    assert [axes.get_title(loc="left") for axes in shown] == ["ELBO", *(f"Small {i}" for i in range(5))]
    heights = [axes.get_window_extent().height for axes in shown]
    assert min(axes.get_window_extent().y0 for axes in shown[:1]) > max(
        axes.get_window_extent().y1 for axes in shown[1:]
    )
    assert heights[0] > 1.2 * max(heights[1:])


def test_large_sheets_are_reduced_by_the_mean_of_whole_blocks():
    pictures = np.zeros((1, 10, 300, 300, 1), np.uint8)
    pictures[..., ::2, :] = 200
    canvas = FigureCanvasAgg(sheet_figure([pictures]))
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())
    assert drawn.shape[1] < 2400
    assert (drawn[60, 40] == [100, 100, 100, 255]).all()


def test_the_data_figure_names_the_rarest_attributes(make_model: Callable[..., Any]):
    images = make_images(30, (9, 8, 3), 0)
    has = np.zeros((30, 5), bool)
    has[:, 0], has[:20, 1], has[:15, 2], has[:10, 3], has[0, 4] = True, True, True, True, True
    names = ("Common", "Less_common", "Half", "Rare", "Wearing_the_longest_hat_that_was_ever_seen_anywhere")
    images = Images(images.pixels, attributes=has, attribute_names=names)
    arrays = data.compute(make_model(images.image_shape)[0], images, torch.Generator().manual_seed(0))
    chosen = torch.randperm(30, generator=torch.Generator().manual_seed(0))[:25].tolist()
    assert arrays["names"][chosen.index(0)] == [names[4].replace("_", " "), "Rare", "Half"]
    assert arrays["names"][chosen.index(17)] == ["Less common", "Common"]
    figure = data.draw(arrays)
    shown = [text.get_text() for text in figure.texts]
    assert "Less common" in shown
    assert any(text.startswith("Wearing the longest") and text.endswith("…") for text in shown)
    assert "3 of its attributes" in data.caption(arrays)


def test_a_png_has_256_colours_where_that_keeps_its_looks():
    plot = losses.draw(losses.collect(*make_tables(200, 2), COMMON_TERMS))
    photograph = sheet_figure([np.random.default_rng(0).integers(0, 256, (3, 5, 64, 64, 3), dtype=np.uint8)])
    for figure, mode in ((plot, "P"), (photograph, "RGB")):
        with Image.open(io.BytesIO(render(figure, {"Title": "β"}))) as picture:
            assert picture.mode == mode
            assert picture.info["Title"] == "β"
