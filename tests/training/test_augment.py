"""Augmentation of training images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import CPU
from typed import train_small

from vaelab.data.datasets import load_dataset
from vaelab.data.images import Images
from vaelab.recipe.training import Augment
from vaelab.system.distributed import ProcessGroup
from vaelab.system.noise import StepNoise
from vaelab.training.augment import MIN_CROP, augment, choose_augment

HEIGHT, WIDTH = 32, 48
PIXELS = torch.rand(64, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
IMAGES = PIXELS.contiguous(memory_format=torch.channels_last)


def change(x: torch.Tensor, changes: Augment, step: int = 0, interpolate: bool = True) -> torch.Tensor:
    noise = StepNoise(0, CPU)
    noise.seek(step)
    return augment(x, changes, noise, interpolate=interpolate)


def test_flips_mirror_about_half_of_the_images() -> None:
    changed = change(IMAGES, "flip")
    kept, mirrored = ((changed == x).flatten(1).all(1) for x in (IMAGES, IMAGES.flip(3)))
    assert bool((kept ^ mirrored).all())
    assert 20 < int(kept.sum()) < 44


def test_shifts_move_by_whole_pixels_and_repeat_the_edge() -> None:
    seen = set()
    for image, changed in zip(IMAGES, change(IMAGES, "shift"), strict=True):
        padded = torch.nn.functional.pad(image[None], (3, 3, 2, 2), mode="replicate")[0]
        places = [
            (y, x) for y in range(5) for x in range(7) if torch.equal(padded[:, y : y + HEIGHT, x : x + WIDTH], changed)
        ]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) > 20


def test_crops_enlarge_a_part_of_the_image() -> None:
    x, y = torch.linspace(0, 1, WIDTH), torch.linspace(0, 1, HEIGHT)[:, None]
    ramps = torch.stack([x.expand(HEIGHT, WIDTH), y.expand(HEIGHT, WIDTH)])
    changed = change(ramps.expand(64, 2, HEIGHT, WIDTH), "crop")
    across, down = changed[:, 0].diff(dim=2)[:, :, 4:-4], changed[:, 1].diff(dim=1)[:, 4:-4]
    slopes = torch.stack([across.mean((1, 2)) * (WIDTH - 1), down.mean((1, 2)) * (HEIGHT - 1)])
    torch.testing.assert_close(slopes[0], slopes[1])  # both sides by the same factor
    assert bool(((slopes > MIN_CROP - 1e-4) & (slopes < 1 + 1e-4)).all())
    assert float(slopes.std()) > 0.01
    constant = torch.full_like(IMAGES, 0.3)
    torch.testing.assert_close(change(constant, "flip+crop"), constant)


def test_black_and_white_images_stay_so_without_interpolation() -> None:
    binary = IMAGES.round()
    assert set(change(binary, "flip+crop", interpolate=False).unique().tolist()) == {0.0, 1.0}
    assert len(change(binary, "flip+crop").unique()) > 2


@pytest.mark.parametrize("changes", ["flip+shift", "flip+crop"])
def test_changes_are_a_function_of_the_step_and_the_position_in_the_batch(changes: Augment) -> None:
    whole = change(IMAGES, changes, step=7)
    assert whole.stride() == IMAGES.stride()
    assert not torch.equal(whole, change(IMAGES, changes, step=8))
    noise, parts = StepNoise(0, CPU), []
    for rank in range(3):
        shard = ProcessGroup(rank, 3).shard(len(IMAGES))
        noise.seek(7, shard)
        parts.append(augment(IMAGES[shard.start : shard.stop], changes, noise, interpolate=True))
    assert torch.equal(torch.cat(parts), whole)


def test_flips_are_chosen_where_mirrored_images_look_like_the_others() -> None:
    digits = load_dataset("digits").load(None, "train").take(np.arange(300))
    assert choose_augment(digits) == "none"
    pixels = np.asarray(digits.pixels)
    likely = Images(np.where((np.arange(300) % 2 == 0)[:, None, None, None], pixels, pixels[:, :, ::-1]))
    assert choose_augment(likely) == "flip"
    assert choose_augment(likely.take(np.arange(99))) == "none"


def test_a_run_keeps_the_changes_that_were_chosen(tmp_path: Path) -> None:
    source: dict[str, Any] = {"name": "folder", "data": tmp_path / "images.npz"}
    random = np.random.default_rng(0)
    np.savez(source["data"], images=random.integers(0, 256, (150, 8, 8), dtype=np.uint8))  # noise has no sides
    run = train_small(tmp_path / "run", {"data.name": "arrays"}, **source)
    assert (run.recipe.training.augment, run.recipe.training.ema) == ("flip", 0.999)
    assert train_small(run.path, {"data.name": "arrays"}, **source).recipe == run.recipe
