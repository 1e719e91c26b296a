"""Sprites: what is drawn, where it lies, in which order; the cache entry that is made of it, and a training on it."""

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from typed import train_small

from vaelab import recipe
from vaelab.data.datasets import sprites
from vaelab.data.datasets.sprites import AREA, FACTORS, SCALES, SHAPES, SPRITE_SIDE, angles, draw_sprite, place, scales
from vaelab.data.images import Images
from vaelab.system.errors import RecipeError

DRAWN = {1: "e2694688e90297daa7e03901ffe86e7c2a9bb159951b8e3faeb00d136efda7d9"}
"""Version of the drawing → SHA-256 of the sprites of every shape and scale at eight orientations."""

shapes = st.sampled_from(SHAPES)
turns = st.floats(-7, 7)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vaelab" / "images"


# -- one sprite -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_have_one_area_and_turn_about_their_centre_of_mass(shape: str) -> None:
    along = (np.arange(1000) + 0.5) / 1000 * 34 - 17
    right, up = np.meshgrid(along, along)
    inside = sprites._is_inside(shape, right, up)
    assert inside.sum() * 0.034**2 == pytest.approx(AREA, rel=5e-3)
    assert [right[inside].mean(), up[inside].mean()] == pytest.approx([0, 0], abs=0.01)
    assert np.hypot(right, up)[inside].max() < SPRITE_SIDE / 2  # so that none leaves its square, however it is turned


@given(shapes, st.sampled_from(scales()), turns)
def test_a_sprite_is_black_and_white_and_as_large_as_its_scale_says(shape: str, scale: float, angle: float) -> None:
    sprite = draw_sprite(shape, scale, angle)
    assert sprite.dtype == np.uint8
    assert set(np.unique(sprite)) == {0, 255}
    assert (sprite > 0).sum() == pytest.approx(AREA * scale**2, rel=0.1)


@given(shapes, turns)
def test_angles_turn_anticlockwise(shape: str, angle: float) -> None:
    turned = draw_sprite(shape, 0.9, angle + np.pi / 2) != np.rot90(draw_sprite(shape, 0.9, angle))
    assert turned.sum() <= 2  # where an outline runs through the middle of a pixel, rounding decides


def test_an_upright_heart_stands_on_its_tip_and_an_upright_ellipse_lies() -> None:
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
def test_symmetries_are_those_that_the_notes_name(angle: float) -> None:
    assert difference("square", angle, angle + np.pi / 2) <= 2
    assert difference("ellipse", angle, angle + np.pi) <= 2
    assert all(difference(shape, angle, angle + 2 * np.pi) <= 2 for shape in SHAPES)
    assert difference("ellipse", angle, angle + np.pi / 2) > 20
    assert difference("heart", angle, angle + np.pi) > 20
    assert difference("square", angle, angle + np.pi / 4) > 20


def test_the_grid_is_that_of_dsprites() -> None:
    assert scales() == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert angles(40)[0] == 0
    assert angles(40)[-1] == pytest.approx(2 * np.pi)
    np.testing.assert_allclose(np.diff(angles(40)), 2 * np.pi / 39)
    factors = sprites._source(40, 32).factors
    assert factors is not None
    assert len(factors) == sprites.INFO.splits["train"] == 737_280
    rows = np.random.default_rng(0).integers(0, len(factors), 200)
    np.testing.assert_array_equal(np.ravel_multi_index(factors[rows].T, (3, 6, 40, 32, 32)), rows)


def test_another_drawing_has_another_version() -> None:
    drawn = [draw_sprite(*of) for of in itertools.product(SHAPES, scales(), angles(9)[:-1])]
    assert hashlib.sha256(np.stack(drawn).tobytes()).hexdigest() == DRAWN[sprites.VERSION]


# -- places -----------------------------------------------------------------------------------------------------------


def moved(sprite: NDArray[np.uint8], right: int, down: int) -> NDArray[np.uint8]:
    image = np.zeros((64, 64), np.uint8)
    image[down : down + 33, right : right + 33] = sprite
    return image


@given(shapes, turns)
def test_a_sprite_lies_at_every_pixel_from_left_to_right_and_from_top_to_bottom(shape: str, angle: float) -> None:
    sprite = draw_sprite(shape, 1, angle)
    images = place(sprite, 32)
    for x, y in [(0, 0), (31, 0), (0, 31), (31, 31), (7, 20)]:
        np.testing.assert_array_equal(images[x, y], moved(sprite, x, y))
    assert (images.sum((2, 3), dtype=np.int64) == sprite.sum(dtype=np.int64)).all()


@given(st.integers(2, 32))
def test_fewer_places_spread_from_edge_to_edge(positions: int) -> None:
    sprite = np.zeros((33, 33), np.uint8)
    sprite[16, 16] = 255
    images = place(sprite, positions)
    assert images.shape == (positions, positions, 64, 64)
    x, y, rows, columns = np.nonzero(images)
    at = np.linspace(0, 31, positions).round().astype(int)
    np.testing.assert_array_equal(columns - 16, at[x])
    np.testing.assert_array_equal(rows - 16, at[y])
    assert (np.diff(at) > 0).all()


# -- the data set -----------------------------------------------------------------------------------------------------

SMALL = {"orientations": 3, "positions": 2}


def test_every_image_is_what_its_factors_say() -> None:
    images = sprites.load(None, "train", **SMALL)
    assert images.factor_names == FACTORS
    assert images.factor_sizes == (3, 6, 3, 2, 2)
    assert images.factors is not None
    assert len(images) == len(images.factors) == 216
    np.testing.assert_array_equal(np.ravel_multi_index(images.factors.T, images.factor_sizes), np.arange(216))
    for pixels, (shape, scale, angle, x, y) in zip(np.asarray(images.pixels), images.factors, strict=True):
        sprite = draw_sprite(SHAPES[shape], scales()[scale], angles(3)[angle])
        np.testing.assert_array_equal(pixels[..., 0], moved(sprite, 31 * x, 31 * y))


def test_images_differ_but_for_the_first_and_the_last_orientation() -> None:
    images = sprites.load(None, "train", **SMALL)
    assert images.factors is not None
    flat = np.asarray(images.pixels).reshape(len(images), -1)
    _, first = np.unique(flat, axis=0, return_index=True)
    seen = set(map(tuple, images.factors[np.sort(first)]))
    same = {(0, 1), (1, 1)}  # half a turn of a square and of an ellipse
    expected = {tuple(row) for row in images.factors if row[2] != 2 and (row[0], row[2]) not in same}
    assert seen == expected


def test_the_cache_entry_is_made_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sprites.load(None, "train", **SMALL)
    monkeypatch.setattr(sprites, "_source", lambda *_: pytest.fail("drawn again"))
    again = sprites.load(None, "train", **SMALL)
    assert isinstance(again.pixels, np.memmap)
    assert not again.pixels.flags.writeable
    assert again.digest == first.digest == Images(np.asarray(first.pixels)).fingerprint()
    assert again.notes == sprites.NOTES
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1


def test_another_grid_or_drawing_is_another_cache_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    one = sprites.load(None, "train", **SMALL)
    assert len(sprites.load(None, "train", orientations=2, positions=2)) == 144
    monkeypatch.setattr(sprites, "VERSION", 2)
    monkeypatch.setattr(sprites, "draw_sprite", lambda *_: np.full((33, 33), 255, np.uint8))
    assert sprites.load(None, "train", **SMALL).digest != one.digest


def test_what_was_interrupted_begins_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        count = itertools.count()

        def interrupted(*of: object) -> NDArray[np.uint8]:
            if next(count) == 20:
                raise KeyboardInterrupt
            return draw_sprite(*of)

        patch.setattr(sprites, "draw_sprite", interrupted)
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
    path.unlink()  # the map of the file before stays
    path.write_bytes(content[: len(content) // 2])
    again = sprites.load(None, "train", **SMALL)
    np.testing.assert_array_equal(again.pixels, expected)
    assert again.digest == whole.digest


@pytest.mark.parametrize(("key", "values"), [("positions", [1, 33, 2.0, "8"]), ("orientations", [1, 361, 0])])
def test_grids_that_there_are_none_of(key: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(RecipeError, match=rf"data\.{key}"):
            recipe.load("sprites", {f"data.{key}": value})


def test_there_is_no_split_to_validate_on() -> None:
    with pytest.raises(ValueError, match=r"no split 'test'.*--set data\.valid=10000"):
        sprites.load(None, "test")


# -- training ---------------------------------------------------------------------------------------------------------


def test_the_preset_has_the_training_of_the_study() -> None:
    """Locatello et al. 2019 (1811.12359), but for the number of steps."""
    loaded = recipe.load("sprites")
    assert (loaded.latent_dim, loaded.likelihood["name"]) == (10, "bernoulli")
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


def test_blocks_are_the_grid_in_its_order() -> None:
    blocks: Iterator[NDArray[np.uint8]] = sprites._blocks(2, 3)
    sizes = [block.shape for block in blocks]
    assert sizes == [(9, 64, 64, 1)] * (len(SHAPES) * SCALES * 2)
