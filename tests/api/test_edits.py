"""vaelab edit: codes moved along the directions of attributes, and the figure of edits."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typed import Typed, train_small

import vaelab
from vaelab.api import edit as edits
from vaelab.data.datasets import digits
from vaelab.data.images import Images, to_uint8
from vaelab.data.pictures import encode_png
from vaelab.figures import edits as figure


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    overrides = {"network.latent_dim": 3, "network.hidden": [64], "training.steps": 300, "objective.beta": 0.2}
    return train_small(tmp_path_factory.mktemp("runs") / "digits", overrides).path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arrays of every edit that is drawn."""
    seen: list[dict[str, Any]] = []
    draw = figure.draw

    def record(arrays: dict[str, Any]) -> Any:
        seen.append(arrays)
        return draw(arrays)

    monkeypatch.setattr(figure, "draw", record)
    return seen


def with_attributes(monkeypatch: pytest.MonkeyPatch, **columns: Any) -> None:
    """Let runs on digits find other labels and attributes than digits have."""
    load_run_images = edits.load_run_images

    def changed(*arguments: Any) -> Any:
        known = load_run_images(*arguments)
        return replace(known, train=replace(known.train, **columns), valid=replace(known.valid, labels=None))

    monkeypatch.setattr(edits, "load_run_images", changed)


def test_broken_pictures_are_left_out_of_an_edit(
    cli: Typed, trained: Path, tmp_path: Path, drawn: list[dict[str, Any]]
) -> None:
    (tmp_path / "own").mkdir()
    for i, pixels in enumerate(digits.load(None, "test").pixels[:10]):
        (tmp_path / "own" / f"{i}.png").write_bytes(encode_png(pixels) if i != 3 else b"no picture")
    code, out, err = cli("edit", trained, "own", "--attribute", "3", "--out", "edits.v2/")
    assert (code, err.count("\n"), "3.png" in err) == (0, 1, True)
    assert Path(out.strip()).parent == Path("edits.v2")
    assert drawn[0]["rows"] == [f"{i}.png" for i in range(9) if i != 3]
    for words in (("own/3.png",), ("own", "--strict")):
        code, out, err = cli("edit", trained, *words, "--attribute", "3")
        assert (code, out, err.count("\n"), "own/3.png" in err) == (1, "", 1, True)


def test_an_edit_moves_the_code_by_exactly_so_many_steps(
    cli: Typed, trained: Path, tmp_path: Path, drawn: list[dict[str, Any]]
):
    train, original = digits.load(None, "train"), digits.load(None, "test").pixels[7]
    Image.fromarray(original[..., 0]).save(tmp_path / "mine.png")
    words = ("--attribute", "3", "--by", "1.5", "--attribute", "0", "--by", "-2", "--out", "e.png")
    code, out, err = cli("edit", trained, "mine.png", *words)
    assert err == ""
    assert (code, out) == (0, "e.png\n")
    model = vaelab.load(trained)
    means = model.encode(train).mean.numpy().astype(np.float64)
    code_of_mine = model.encode(original).mean.numpy()
    arrays = drawn[0]
    assert np.array_equal(arrays["originals"][0, 0], original)
    rebuilt = to_uint8(model.decode(torch.from_numpy(code_of_mine)))[0]
    assert np.array_equal(arrays["originals"][0, 1], rebuilt)
    for i, (label, step) in enumerate(((3, 1.5), (0, -2.0))):
        towards = means[train.labels == label].mean(0) - means[train.labels != label].mean(0)
        expected = to_uint8(model.decode(torch.from_numpy(code_of_mine + step * towards)))[0]
        assert np.abs(arrays["edited"][0, i].astype(int) - expected).max() <= 1
        assert np.abs(expected.astype(int) - rebuilt).max() > 20
    assert arrays["columns"] == [["original", "reconstruction"], ["3 +1.5", "0 −2"]]
    with Image.open(tmp_path / "e.png") as picture:
        assert picture.info["Description"] == "digits: 3 +1.5, 0 −2; directions by means"


def test_without_an_image_a_few_held_out_ones_are_edited_and_nothing_is_overwritten(
    cli: Typed, trained: Path, tmp_path: Path, drawn: list[dict[str, Any]]
):
    assert cli("edit", trained, "--attribute", 8)[1] == "digits-edits.png\n"
    assert cli("edit", trained, "--attribute", 8, "--method", "probe")[1] == "digits-edits-2.png\n"
    by_means, by_probe = drawn
    held_out = digits.load(None, "test").pixels
    for image in by_means["originals"][:, 0]:
        assert (held_out == image).all((1, 2, 3)).any()
    assert by_means["edited"].shape == (8, 1, 28, 28, 1)
    assert np.array_equal(by_means["originals"], by_probe["originals"])
    assert not np.array_equal(by_means["edited"], by_probe["edited"])
    code, _, err = cli("edit", trained, "--attribute", 8, "--out", "digits-edits.png")
    assert code == 1
    assert "--overwrite" in err
    assert cli("edit", trained, "--attribute", 8, "--out", "digits-edits.png", "--overwrite")[0] == 0


def test_attributes_are_found_by_the_words_that_figures_show(
    cli: Typed, trained: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[dict[str, Any]]
):
    has = np.random.default_rng(0).random((1438, 3)) < 0.3
    has[:, 2] = True
    names = ("Mouth_Slightly_Open", "Smiling", "Human")
    with_attributes(monkeypatch, attributes=has, attribute_names=names, labels=None)
    assert cli("edit", trained, "--attribute", "mouth slightly open")[0] == 0
    assert drawn[0]["columns"][1] == ["Mouth Slightly Open +2"]
    code, _, err = cli("edit", trained, "--attribute", "Smilling")
    assert code == 2
    assert "Did you mean 'Smiling'? Valid: Human, Mouth_Slightly_Open, Smiling" in err
    code, _, err = cli("edit", trained, "--attribute", "Human")
    assert code == 1
    assert "Human: all of the 1,438 training images looked at have it" in err


def test_without_attributes_or_classes_there_is_nothing_to_edit_by(
    cli: Typed, trained: Path, monkeypatch: pytest.MonkeyPatch
):
    with_attributes(monkeypatch, labels=None)
    code, _, err = cli("edit", trained, "--attribute", "3")
    assert code == 1
    assert "have neither attributes nor classes" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "--attribute: name at least one"),
        (["--attribute", "11"], 2, "Did you mean '1'? Valid: 0, 1, 2"),
        (["--attribute", "1", "--by", "nan"], 2, "--by must be a finite number"),
        (
            ["--attribute", "1", "--attribute", "2", "--by", "1", "--by", "2", "--by", "3"],
            2,
            "2 attributes and 3 steps",
        ),
        (["--attribute", "1", "--method", "guess"], 2, "'means'"),
        (["--attribute", "1", "--out", "e.jpeg"], 2, "Valid: .png"),
        (["nowhere.png", "--attribute", "1"], 1, "nowhere.png: no such file"),
    ],
)
def test_wrong_usage_gets_one_line(cli: Typed, trained: Path, words: list[str], code: int, says: str):
    found, _, err = cli("edit", trained, *words)
    assert found == code
    assert says in err
    assert err.count("\n") == 1


def test_the_figure_shows_first_what_codes_tell_apart_best(make_model: Callable[..., Any]):
    random = np.random.default_rng(0)
    is_bright, by_chance = random.random(300) < 0.4, random.random(300) < 0.5
    pixels = random.integers(0, 60, (300, 9, 8, 1)) + 190 * is_bright[:, None, None, None]
    often = is_bright ^ (random.random(300) < 0.2)
    attributes = np.stack([often, is_bright, np.arange(300) == 0, by_chance], axis=1)
    names = ("often", "Is_bright", "rare", "by_chance")
    images = Images(pixels.astype(np.uint8), attributes=attributes, attribute_names=names)
    vae, _ = make_model(images.image_shape)
    arrays = figure.compute(vae, images, torch.Generator().manual_seed(0))
    shown = [row.split("\n") for row in arrays["rows"]]
    assert [name for name, _ in shown][:2] == ["Is bright", "often"]
    assert "rare" not in dict(shown)
    distances = [float(distance.removesuffix(" σ")) for _, distance in shown]
    assert distances[0] > 3 > distances[1] > 0.5
    assert [distance for distance in distances[2:] if distance > 0.5] == []
    assert arrays["originals"][0, 0].mean() < 60  # an image that is without the attribute
    means = vae.encode(images).mean.numpy()
    original = vae.encode(arrays["originals"][0, 0]).mean.numpy()
    towards = means[is_bright].mean(0) - means[~is_bright].mean(0)
    expected = to_uint8(vae.decode(torch.from_numpy(original + 2 * towards)))[0]
    assert arrays["columns"][1] == ["−2", "−1", "reconstruction", "+1", "+2"]
    assert np.abs(arrays["edited"][0, 4].astype(int) - expected).max() <= 1
    assert figure.compute(vae, Images(images.pixels), torch.Generator()) is None


def test_separation_of_normal_codes_is_their_distance_in_standard_deviations():
    random = np.random.default_rng(0)
    has = random.random(20_000) < 0.3
    codes = random.standard_normal((20_000, 4)) * 2
    codes[has, 1] += 5
    assert figure.separation(codes, has) == pytest.approx(2.5, abs=0.05)
    assert figure.separation(np.zeros((20, 2)), np.arange(20) % 2 == 0) == -np.inf
