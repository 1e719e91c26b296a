"""A folder of pictures: ranges of values, flat pictures, pages, and their notes and warnings."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typed import TINY_WORDS, Typed

from vaelab.data.datasets import folder
from vaelab.data.images import Images
from vaelab.system.errors import UsageError

NUM = 20


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def both(root: Path, **options: Any) -> tuple[Images, Images]:
    return folder.load(root, "train", **options), folder.load(root, "test", **options)


def deep(root: Path, kind: str = "u2", low: float = 0, high: float = 4095, ending: str = "tif") -> Path:
    """Pictures of one ramp each, between low and high, shifted so that no two are alike."""
    root.mkdir()
    for i in range(NUM):
        ramp = np.roll(np.linspace(low, high, 32 * 32), 31 * i).reshape(32, 32)
        Image.fromarray(ramp.round().astype(kind) if kind[0] != "f" else ramp.astype(kind)).save(
            root / f"{i:02d}.{ending}"
        )
    return root


def icons(root: Path, shade: int, count: int = NUM) -> Path:
    """Opaque squares of one shade on transparency."""
    root.mkdir()
    for i in range(count):
        icon = np.zeros((32, 32, 4), np.uint8)
        icon[4 : 12 + i % 8, 4:20] = (shade, shade, shade, 255)
        Image.fromarray(icon).save(root / f"{i:02d}.png")
    return root


def stack(root: Path, count: int, pages: int, kind: str = "tif") -> Path:
    root.mkdir()
    for i in range(count):
        frames = [Image.fromarray(np.full((16, 16), 6 * i + 80 * (k % 3), np.uint8)) for k in range(pages)]
        options = {"lossless": True} if kind == "webp" else {}
        frames[0].save(root / f"{i:02d}.{kind}", save_all=True, append_images=frames[1:], **options)
    return root


def said(images: Images) -> str:
    return "\n".join(images.notes)


# -- ranges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["tif", "png"])
def test_twelve_bits_in_sixteen(tmp_path: Path, cli: Typed, ending: str) -> None:
    root = deep(tmp_path / "own", ending=ending)
    dark, _ = both(root)
    assert np.asarray(dark.pixels).max() == 16  # as before
    assert "data.range=auto" in said(dark)
    assert "4,095" in said(dark)
    code, out, _ = cli("data", "check", "own")
    assert code == 0
    assert "data.range=auto" in out
    assert "4,095" in out
    light, held = both(root, range="auto")
    assert light.resolved["range"] == held.resolved["range"]
    low, high = light.resolved["range"]
    assert (low, high) == pytest.approx((4, 4091), abs=3)  # a thousandth at either end
    assert np.asarray(light.pixels).min() == 0
    assert np.asarray(light.pixels).max() == 255
    assert np.asarray(light.pixels).mean() == pytest.approx(127.5, abs=1)
    assert "data.range=auto" in said(light)  # what was decided
    assert both(root, range=[low, high])[0].digest == light.digest


@pytest.mark.parametrize(("kind", "low", "high"), [("i2", -1000, 1000), ("f4", -3.5, 12.25), ("i4", -90_000, 90_000)])
def test_signed_and_floating_point_pictures(tmp_path: Path, kind: str, low: float, high: float) -> None:
    root = deep(tmp_path / "own", "i4" if kind == "i2" else kind, low, high)
    with pytest.raises(ValueError, match=r"data\.range"):
        folder.load(root, "train")
    whole, _ = both(root, range=[low, high])
    assert np.asarray(whole.pixels).mean() == pytest.approx(127.5, abs=0.6)
    assert whole.resolved.get("range") is None
    found = both(root, range="auto")[0].resolved["range"]
    assert found == pytest.approx([low, high], abs=(high - low) / 300)


def test_one_range_for_the_whole_set(tmp_path: Path) -> None:
    """A dim picture stays dim: a range of its own would make it as bright as the others."""
    root = deep(tmp_path / "own")
    Image.fromarray(np.full((32, 32), 1000, np.uint16)).save(root / "00.tif")
    for part in both(root, range="auto"):
        flat = [int(image[0, 0, 0]) for image in np.asarray(part.pixels) if np.ptp(image) == 0]
        assert all(55 <= shade <= 70 for shade in flat)


def test_a_range_leaves_eight_bits_alone(tmp_path: Path) -> None:
    root = tmp_path / "own"
    root.mkdir()
    for i in range(4):
        Image.fromarray(np.full((16, 16), 40 + i, np.uint8)).save(root / f"{i}.png")
    plain = both(root)
    for options in ({"range": [0.0, 9.0]}, {"range": "auto"}):
        assert [part.digest for part in both(root, **options)] == [part.digest for part in plain]
    assert both(root, range="auto")[0].resolved["range"] == "full"


@pytest.mark.parametrize("wanted", [[5.0, 5.0], [9.0, 1.0]])
def test_a_range_goes_upwards(tmp_path: Path, wanted: list[float]) -> None:
    with pytest.raises(UsageError):
        folder.load(deep(tmp_path / "own"), "train", range=wanted)


@pytest.mark.parametrize("wanted", ["[1]", "[1,2,3]", "wide", "[nan,1]", '["a","b"]'])
def test_a_range_that_is_none(tmp_path: Path, cli: Typed, wanted: str) -> None:
    deep(tmp_path / "own")
    code, _, err = cli("data", "cache", "own", "--set", f"data.range={wanted}")
    assert (code, err.count("\n")) == (2, 1)
    assert "data.range" in err


@pytest.mark.slow
def test_a_run_keeps_the_range_that_was_decided(tmp_path: Path, cli: Typed) -> None:
    deep(tmp_path / "own")
    words = ("train", "folder", *TINY_WORDS, "--data", "own", "--run", "run", "--set", "data.range=auto")
    assert cli(*words)[0] == 0
    recipe = tomllib.loads((tmp_path / "run" / "recipe.toml").read_text())
    low, high = recipe["data"]["range"]
    assert 0 <= low < high <= 4095
    assert recipe["data"]["background"] == "white"
    assert cli(*words)[0] == 0  # resumes, or is done already
    notes = json.loads((tmp_path / "run" / "machine.json").read_text())["notes"]
    assert any("mean" in note for note in notes)
    assert cli("encode", "run", "own", "--out", "codes.npz")[0] == 0
    own = np.load(tmp_path / "codes.npz")["mean"]
    assert np.ptp(own, axis=0).max() > 0  # pictures come to the model in the range of the run
    assert cli("evaluate", "run", "--metrics", "elbo")[0] == 0


# -- backgrounds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shade", "background"), [(255, "black"), (0, "white"), (128, "white")])
def test_icons_keep_their_shapes(tmp_path: Path, shade: int, background: str) -> None:
    train, test = both(icons(tmp_path / "own", shade))
    assert train.resolved["background"] == test.resolved["background"] == background
    assert all(np.ptp(image) > 100 for part in (train, test) for image in np.asarray(part.pixels))
    assert ("the background is black" in said(train)) == (background == "black")


def test_icons_that_vanish_are_counted(tmp_path: Path, cli: Typed) -> None:
    root = icons(tmp_path / "own", 255)
    train, _ = both(root, background="white")
    assert f"{len(train)} of {len(train)} images" in said(train)
    assert "data.background=black" in said(train)
    code, out, _ = cli("data", "check", "own")
    assert (code, "flat" in out) == (0, False)  # as a training would have them


def test_flat_pictures_are_counted_and_named(tmp_path: Path, cli: Typed) -> None:
    root = tmp_path / "own"
    root.mkdir()
    for i in range(NUM):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16), np.uint8)
        Image.fromarray(pixels if i % 4 else np.full((16, 16), 9, np.uint8)).save(root / f"{i:02d}.png")
    code, out, _ = cli("data", "check", "own")
    assert code == 0
    assert f"5 of {NUM} images are one flat colour (first: 00.png)" in out
    notes = [said(part) for part in both(root)]
    counts = [
        int(note.split(" images are one flat")[0].split()[-3].replace(",", "")) for note in notes if "flat" in note
    ]
    assert sum(counts) == 5


# -- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tif", "gif", "webp", "png"])
def test_pages_are_counted_and_taken(tmp_path: Path, cli: Typed, kind: str) -> None:
    root = stack(tmp_path / "own", 12, 3, kind)
    first = both(root)
    assert sum(map(len, first)) == 12
    assert f"{2 * len(first[0])} pages" in said(first[0])
    assert "data.pages=all" in said(first[0])
    code, out, _ = cli("data", "check", "own")
    assert (code, "24 pages" in out) == (0, True)
    train, test = both(root, pages="all")
    assert len(train) + len(test) == 36
    assert len(train) == 3 * len(first[0])  # the pages of a file stay together
    assert "data.pages=all" not in said(train)
    shades = np.sort(np.concatenate([np.asarray(part.pixels)[:, 8, 8, 0] for part in (train, test)]).astype(int))
    wanted = np.sort([6 * i + 80 * k for i in range(12) for k in range(3)])
    assert np.abs(shades - wanted).max() <= 1


def test_the_pages_of_one_file_are_split_among_themselves(tmp_path: Path) -> None:
    train, test = both(stack(tmp_path / "own", 1, 30), pages="all")
    assert len(train) + len(test) == 30
    assert len(test) >= 1
    assert len(both(tmp_path / "own")[0]) == 1


def test_pages_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    root = stack(tmp_path / "own", 12, 2)
    whole = (root / "03.tif").read_bytes()
    frames = [Image.fromarray(np.full((16, 16), 200, np.uint8)), Image.fromarray(np.full((16, 16), -5.0, np.float32))]
    frames[0].save(root / "03.tif", save_all=True, append_images=frames[1:])
    assert (root / "03.tif").read_bytes() != whole
    notes = "\n".join(said(part) for part in both(root, pages="all"))
    assert "03.tif[1]" in notes


def test_a_cache_entry_that_is_completed_counts_what_it_holds_then(tmp_path: Path) -> None:
    root = tmp_path / "own"
    (root / "train").mkdir(parents=True)
    (root / "test").mkdir()
    for i in range(9):
        Image.fromarray(np.full((16, 16), 10 + i, np.uint8)).save(root / "train" / f"{i}.png")
        Image.fromarray(np.full((16, 16), 10 + i, np.uint8)).save(root / "test" / f"{i}.png")
    (root / "train" / "9.png").symlink_to(tmp_path / "away.png")
    before = folder.load(root, "train")
    assert "train: 9 of 9 images are one flat colour" in said(before)
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "away.png")
    after = folder.load(root, "train")
    assert len(after) == 10
    assert "train: 9 of 10 images are one flat colour" in said(after)
    assert "train: pixel values from 0 to 255" in said(after)
