"""Codes moved along the directions of attributes and classes."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from plugins import install
from typed import Typed, one_line, train_small

import vaelab
from vaelab.api.edit import compute_edits
from vaelab.data.datasets import digits
from vaelab.data.pictures import encode_png
from vaelab.data.tensors import to_uint8
from vaelab.run import Run
from vaelab.system.messages import VaelabWarning

TAGGED = """
# prose: ignore
from dataclasses import replace
import numpy as np
from vaelab.data.datasets import Dataset, digits

INFO = replace(digits.INFO, title="Digits with attributes instead of labels")

def load(data_dir, split, *, tags: bool = True):
    images = digits.load(None, split)
    has = np.random.default_rng(0).random((len(images), 3)) < 0.3
    has[:, 2] = True
    has = np.hstack([has, has[:, :1]])
    names = ("Mouth_Slightly_Open", "Smiling", "Human", "smiling")
    tagged = {"attributes": has, "attribute_names": names} if tags else {}
    return replace(images, labels=None, label_names=(), **tagged)

DATASET = Dataset(INFO, load)
"""


@pytest.fixture(scope="module")
def latent_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose codes separate the digits a little."""
    overrides = {"network.latent_dim": 3, "network.hidden": [64], "training.steps": 300, "objective.beta": 0.2}
    return train_small(tmp_path_factory.mktemp("runs") / "digits", overrides)


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Run]]:
    """Trains on a data set of another package, with attributes or without."""
    site = tmp_path_factory.mktemp("site")
    install(site, "tagged", {"tagged_digits": TAGGED}, {"vaelab.datasets": {"tagged": "tagged_digits"}})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)

        def train(*, tags: bool) -> Run:
            overrides = {"data.name": "tagged", "data.tags": tags, "training.steps": 5}
            return train_small(tmp_path_factory.mktemp("runs") / "tagged", overrides)

        yield train


def test_an_edit_moves_the_posterior_mean_to_the_mean_of_a_class(latent_run: Run, tmp_path: Path) -> None:
    train, original = digits.load(None, "train"), digits.load(None, "test").pixels[7]
    Image.fromarray(original[..., 0]).save(tmp_path / "mine.png")
    arrays = compute_edits(latent_run, tmp_path / "mine.png", [("3", 1.5), ("0", -2.0)])
    model = vaelab.load(latent_run)
    means = model.encode(train).mean.numpy().astype(np.float64)
    code = model.encode(original).mean.numpy()
    rebuilt = to_uint8(model.decode(torch.from_numpy(code)))[0]
    assert np.array_equal(arrays["originals"][0, 0], original)
    assert np.array_equal(arrays["originals"][0, 1], rebuilt)
    for i, (label, step) in enumerate(((3, 1.5), (0, -2.0))):
        towards = means[train.labels == label].mean(0) - code
        expected = to_uint8(model.decode(torch.from_numpy(code + step * towards)))[0]
        assert np.abs(arrays["edited"][0, i].astype(int) - expected).max() <= 1
        assert np.abs(expected.astype(int) - rebuilt).max() > 20
    assert arrays["columns"] == [["original", "reconstruction"], ["+1.5 to 3", "−2 to 0"]]


def test_held_out_images_are_edited_by_default(latent_run: Run) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VaelabWarning)  # the model is a poor one
        by_means, by_probe = (compute_edits(latent_run, None, [("8", 2.0)], method) for method in ("means", "probe"))
    held_out = digits.load(None, "test").pixels
    for image in by_means["originals"][:, 0]:
        assert (held_out == image).all((1, 2, 3)).any()
    assert by_means["edited"].shape == (8, 1, 28, 28, 1)
    assert np.array_equal(by_means["originals"], by_probe["originals"])
    assert not np.array_equal(by_means["edited"], by_probe["edited"])


def test_edits_that_the_model_does_not_see_are_named(latent_run: Run, wording: Callable[[object], None]) -> None:
    model, train = vaelab.load(latent_run), digits.load(None, "train")
    means = model.encode(train).mean.numpy().astype(np.float64)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", VaelabWarning)
        arrays = compute_edits(latent_run, train.pixels[:4], [(str(label), None) for label in range(10)])
    assert arrays["columns"][1] == [f"to {label}" for label in range(10)]
    expected = set()
    for label in range(10):
        again = model.encode(arrays["edited"][0, label]).mean.numpy()
        nearest = np.argsort(((means - again) ** 2).sum(1))[:30]
        if (train.labels[nearest] == label).mean() < 2 / 3:
            expected.add(str(label))
    messages = {str(warning.message) for warning in caught}
    assert {message.split(":")[0].removeprefix("edit by ") for message in messages} == expected
    assert 0 < len(expected) < 10
    wording(sorted(messages)[0])


@pytest.mark.slow
def test_a_sheet_is_written_and_never_replaced(cli: Typed, latent_run: Run, tmp_path: Path) -> None:
    (tmp_path / "digits").symlink_to(latent_run.path)
    words = ("edit", "digits", "--attribute", "3", "--by", "1.5", "--attribute", "0", "--by", "-2")
    assert cli(*words) == (0, "digits-edits.png\n", "")
    with Image.open(tmp_path / "digits-edits.png") as picture:
        assert picture.info["Description"] == "digits: +1.5 to 3, −2 to 0; directions by means"
    assert cli(*words)[1] == "digits-edits-2.png\n"
    assert cli(*words, "--out", "digits-edits.png")[0] == 1
    assert cli(*words, "--out", "digits-edits.png", "--overwrite")[0] == 0


def test_unreadable_pictures_are_left_out(cli: Typed, latent_run: Run, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    for i, pixels in enumerate(digits.load(None, "test").pixels[:10]):
        (tmp_path / "own" / f"{i}.png").write_bytes(encode_png(pixels) if i != 3 else b"no picture")
    with pytest.warns(VaelabWarning) as warned:
        arrays = compute_edits(latent_run, tmp_path / "own", [("3", 2.0)])
    assert "3.png" in str(warned[0].message)
    assert arrays["rows"] == [f"{i}.png" for i in range(9) if i != 3]
    for words in (("own/3.png",), ("own", "--strict")):
        code, out, err = cli("edit", latent_run.path, *words, "--attribute", "3")
        assert (code, out, "own/3.png" in one_line(err)) == (1, "", True)


def test_attributes_are_found_by_the_words_of_figures(
    cli: Typed, tagged: Callable[..., Run], wording: Callable[[object], None]
) -> None:
    run = tagged(tags=True)
    with pytest.warns(VaelabWarning) as warned:  # the attributes are random
        arrays = compute_edits(run, None, [("mouth slightly open", 2.0)])
    wording(str(warned[0].message))
    assert arrays["columns"][1] == ["Mouth Slightly Open +2"]
    for name, code in (("Smilling", 2), ("SMILING", 2), ("Human", 1)):
        found, _, err = cli("edit", run.path, "--attribute", name)
        assert found == code
        wording(one_line(err))


def test_images_without_attributes_cannot_be_edited(
    cli: Typed, tagged: Callable[..., Run], wording: Callable[[object], None]
) -> None:
    run = tagged(tags=False)
    code, _, err = cli("edit", run.path, "--attribute", "3")
    assert code == 1
    wording(one_line(err).replace(str(run.path), "RUN"))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 2),
        (["--attribute", "11"], 2),
        (["--attribute", "1", "--by", "nan"], 2),
        (["--attribute", "1", "--attribute", "2", "--by", "1", "--by", "2", "--by", "3"], 2),
        (["--attribute", "1", "--method", "guess"], 2),
        (["--attribute", "1", "--out", "e.jpeg"], 2),
        (["nowhere.png", "--attribute", "1"], 1),
    ],
)
def test_mistakes_are_one_line(
    cli: Typed, latent_run: Run, words: list[str], code: int, wording: Callable[[object], None]
) -> None:
    found, _, err = cli("edit", latent_run.path, *words)
    assert found == code
    wording(one_line(err))
