"""Sprites: shapes, positions and factors of the drawn images."""

import hashlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from typed import train_small
from wording import Wording

from vaelab import recipe
from vaelab.data.datasets import sprites
from vaelab.data.datasets.sprites import (
    AREA,
    FACTORS,
    SHAPES,
    SPRITE_SIDE,
    angles,
    draw_sprite,
    place_sprite,
    scales,
)
from vaelab.data.images import Images
from vaelab.system.errors import RecipeError, UnknownName

DRAWN = {1: "e2694688e90297daa7e03901ffe86e7c2a9bb159951b8e3faeb00d136efda7d9"}
"""Version of the drawing → SHA-256 of the sprites of all shapes and scales at eight orientations."""

shapes = st.sampled_from(SHAPES)
turns = st.floats(-7, 7)


# -- one sprite -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_have_equal_areas_and_rotate_about_their_centre_of_mass(shape: str) -> None:
    along = (np.arange(1000) + 0.5) / 1000 * 34 - 17
    right, up = np.meshgrid(along, along)
    inside = sprites._is_inside(shape, right, up)
    assert inside.sum() * 0.034**2 == pytest.approx(AREA, rel=5e-3)
    assert [right[inside].mean(), up[inside].mean()] == pytest.approx([0, 0], abs=0.01)
    assert np.hypot(right, up)[inside].max() < SPRITE_SIDE / 2  # so no rotation leaves the square


@given(shapes, st.sampled_from(scales()), turns)
def test_a_sprite_is_binary_and_has_the_area_of_its_scale(shape: str, scale: float, angle: float) -> None:
    sprite = draw_sprite(shape, scale, angle)
    assert sprite.dtype == np.uint8
    assert set(np.unique(sprite)) == {0, 255}
    assert (sprite > 0).sum() == pytest.approx(AREA * scale**2, rel=0.1)


@given(shapes, turns)
def test_angles_rotate_anticlockwise(shape: str, angle: float) -> None:
    turned = draw_sprite(shape, 0.9, angle + np.pi / 2) != np.rot90(draw_sprite(shape, 0.9, angle))
    assert turned.sum() <= 2  # rounding may decide for outlines through the centre of a pixel


def test_upright_heart_and_ellipse() -> None:
    heart, ellipse = draw_sprite("heart", 1, 0) > 0, draw_sprite("ellipse", 1, 0) > 0
    np.testing.assert_array_equal(heart, heart[:, ::-1])
    widths = heart.sum(1)[heart.any(1)]
    assert widths.argmax() < len(widths) / 2
    assert widths[-1] == 1
    assert ellipse.any(0).sum() == 31
    assert ellipse.any(1).sum() < 22


def difference(shape: str, one: float, other: float) -> int:
    return int((draw_sprite(shape, 0.8, one) != draw_sprite(shape, 0.8, other)).sum())


@given(turns)
def test_symmetries_are_those_in_the_notes(angle: float) -> None:
    assert difference("square", angle, angle + np.pi / 2) <= 2
    assert difference("ellipse", angle, angle + np.pi) <= 2
    assert all(difference(shape, angle, angle + 2 * np.pi) <= 2 for shape in SHAPES)
    assert difference("ellipse", angle, angle + np.pi / 2) > 20
    assert difference("heart", angle, angle + np.pi) > 20
    assert difference("square", angle, angle + np.pi / 4) > 20


def test_grid_is_that_of_dsprites() -> None:
    assert scales() == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert angles(40)[0] == 0
    assert angles(40)[-1] == pytest.approx(2 * np.pi)
    np.testing.assert_allclose(np.diff(angles(40)), 2 * np.pi / 39)
    factors = sprites._source(40, 32).factors
    assert factors is not None
    assert len(factors) == sprites.INFO.splits["train"] == 737_280
    rows = np.random.default_rng(0).integers(0, len(factors), 200)
    np.testing.assert_array_equal(np.ravel_multi_index(factors[rows].T, (3, 6, 40, 32, 32)), rows)


def test_drawing_of_this_version_is_fixed() -> None:
    drawn = [draw_sprite(*of) for of in itertools.product(SHAPES, scales(), angles(9)[:-1])]
    assert hashlib.sha256(np.stack(drawn).tobytes()).hexdigest() == DRAWN[sprites.VERSION]


# -- positions --------------------------------------------------------------------------------------------------------


def moved(sprite: NDArray[np.uint8], right: int, down: int) -> NDArray[np.uint8]:
    image = np.zeros((64, 64), np.uint8)
    image[down : down + 33, right : right + 33] = sprite
    return image


@given(shapes, turns)
def test_positions_go_from_left_to_right_and_from_top_to_bottom(shape: str, angle: float) -> None:
    sprite = draw_sprite(shape, 1, angle)
    images = place_sprite(sprite, 32)
    for x, y in [(0, 0), (31, 0), (0, 31), (31, 31), (7, 20)]:
        np.testing.assert_array_equal(images[x, y], moved(sprite, x, y))
    assert (images.sum((2, 3), dtype=np.int64) == sprite.sum(dtype=np.int64)).all()


@given(st.integers(2, 32))
def test_fewer_positions_are_spread_from_edge_to_edge(positions: int) -> None:
    sprite = np.zeros((33, 33), np.uint8)
    sprite[16, 16] = 255
    images = place_sprite(sprite, positions)
    assert images.shape == (positions, positions, 64, 64)
    x, y, rows, columns = np.nonzero(images)
    at = np.linspace(0, 31, positions).round().astype(int)
    np.testing.assert_array_equal(columns - 16, at[x])
    np.testing.assert_array_equal(rows - 16, at[y])
    assert (np.diff(at) > 0).all()


# -- the data set -----------------------------------------------------------------------------------------------------

SMALL = {"orientations": 3, "positions": 2}


def test_images_match_their_factors() -> None:
    images = sprites.load(None, "train", **SMALL)
    assert images.factor_names == FACTORS
    assert images.factor_sizes == (3, 6, 3, 2, 2)
    assert images.factors is not None
    assert len(images) == len(images.factors) == 216
    np.testing.assert_array_equal(np.ravel_multi_index(images.factors.T, images.factor_sizes), np.arange(216))
    for pixels, (shape, scale, angle, x, y) in zip(np.asarray(images.pixels), images.factors, strict=True):
        sprite = draw_sprite(SHAPES[shape], scales()[scale], angles(3)[angle])
        np.testing.assert_array_equal(pixels[..., 0], moved(sprite, 31 * x, 31 * y))


def test_only_symmetric_orientations_give_equal_images() -> None:
    images = sprites.load(None, "train", **SMALL)
    assert images.factors is not None
    flat = np.asarray(images.pixels).reshape(len(images), -1)
    _, first = np.unique(flat, axis=0, return_index=True)
    seen = set(map(tuple, images.factors[np.sort(first)]))
    same = {(0, 1), (1, 1)}  # half a turn of a square or an ellipse
    expected = {tuple(row) for row in images.factors if row[2] != 2 and (row[0], row[2]) not in same}
    assert seen == expected


def test_another_grid_is_another_cache_entry(cache: Path) -> None:
    one = sprites.load(None, "train", **SMALL)
    other = sprites.load(None, "train", orientations=2, positions=2)
    assert (len(one), len(other)) == (216, 144)
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 2


def test_an_interrupted_drawing_begins_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = itertools.count()
    pad = np.pad

    def interrupt(*args: Any, **options: Any) -> NDArray[Any]:
        if next(calls) == 20:
            raise KeyboardInterrupt
        return pad(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(np, "pad", interrupt)
        with pytest.raises(KeyboardInterrupt):
            sprites.load(None, "train", **SMALL)
    assert [path.suffix for path in cache.iterdir() if path.is_dir()] == [".part"]
    images = sprites.load(None, "train", **SMALL)
    assert images.digest == Images(np.asarray(images.pixels)).fingerprint()
    assert [path.suffix for path in cache.iterdir() if path.is_dir()] == [""]


@pytest.mark.parametrize("file", ["pixels.npy", "columns.npz", "manifest.json"])
def test_a_damaged_cache_entry_is_made_again(cache: Path, file: str) -> None:
    whole = sprites.load(None, "train", **SMALL)
    expected = np.array(whole.pixels)
    (path,) = cache.glob(f"*/{file}")
    content = path.read_bytes()
    path.unlink()  # the memory map keeps the old file
    path.write_bytes(content[: len(content) // 2])
    again = sprites.load(None, "train", **SMALL)
    np.testing.assert_array_equal(again.pixels, expected)
    assert again.digest == whole.digest


@pytest.mark.parametrize(("key", "values"), [("positions", [1, 33, 2.0, "8"]), ("orientations", [1, 361, 0])])
def test_invalid_grids_are_refused(key: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(RecipeError):
            recipe.load("sprites", {f"data.{key}": value})


def test_validation_needs_images_set_aside(wording: Wording) -> None:
    with pytest.raises(UnknownName) as caught:
        sprites.load(None, "test")
    wording(caught.value)


# -- training ---------------------------------------------------------------------------------------------------------


def test_preset_has_the_hyperparameters_of_the_study() -> None:
    """Locatello et al. 2019 (1811.12359), except for the number of steps."""
    loaded = recipe.load("sprites")
    assert (loaded.network["latent_dim"], loaded.likelihood["name"]) == (10, "bernoulli")
    assert loaded.objective["beta"] in (1, 2, 4, 6, 8, 16)
    assert (loaded.training.batch_size, loaded.training.learning_rate) == (64, 1e-4)
    assert loaded.network["channels"] == [32, 32, 64, 64]
    assert (loaded.network["kernel"], loaded.network["hidden"]) == (4, [256])
    assert loaded.data["valid"] < 737_280


def test_sprites_train(tmp_path: Path) -> None:
    small = {f"data.{key}": value for key, value in SMALL.items()}
    overrides = {**small, "data.valid": 30, "training.validate_every": 30}
    run = train_small(tmp_path / "run", overrides, name="sprites", watch=lambda _event: None)
    assert run.is_finished
    history = run.table("history.csv")
    assert len(history["loss"]) == 60
    assert history["loss"][-1] < history["loss"][0]
    assert run.machine["data"] == "drawn by vaelab"
    assert set(sprites.NOTES) <= set(run.machine["notes"])
