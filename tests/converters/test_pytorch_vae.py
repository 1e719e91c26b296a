"""Converted models of PyTorch-VAE: equal to the original's forward pass, with batch normalisation in the weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from foreign import save_pytorch_vae
from torch import Tensor
from torch.nn import functional as F
from wording import Wording

import vaelab
from vaelab.system.errors import InputError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    path = tmp_path / "images.npz"
    np.savez(path, images=np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8))
    return path


def test_codes_and_images_are_those_of_the_original(images: Path, tmp_path: Path) -> None:
    source, w = save_pytorch_vae(tmp_path)
    run = vaelab.convert(source, "folder", package="pytorch-vae", data=images, run=tmp_path / "run")
    x = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))

    def pair(name: str) -> tuple[Tensor, Tensor]:
        return w[f"{name}.weight"], w[f"{name}.bias"]

    def activate(h: Tensor, name: str) -> Tensor:
        mean, variance = w[f"{name}.1.running_mean"], w[f"{name}.1.running_var"]
        return F.leaky_relu(F.batch_norm(h, mean, variance, *pair(f"{name}.1")))

    h = x
    for name in ("encoder.0", "encoder.1"):
        h = activate(F.conv2d(h, *pair(f"{name}.0"), stride=2, padding=1), name)
    mean, log_var = F.linear(h.flatten(1), *pair("fc_mu")), F.linear(h.flatten(1), *pair("fc_var"))
    h = F.linear(mean, *pair("decoder_input")).view(-1, 8, 2, 2)
    for name in ("decoder.0", "final_layer"):
        h = activate(F.conv_transpose2d(h, *pair(f"{name}.0"), stride=2, padding=1, output_padding=1), name)
    image = F.conv2d(h, *pair("final_layer.3"), padding=1).tanh()
    model = vaelab.load(run)
    found = model.encode(x)
    torch.testing.assert_close((found.mean, found.log_var), (mean, log_var), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.decode(mean), image, rtol=1e-5, atol=1e-5)
    assert float(image.min()) < 0
    assert run.recipe.objective["beta"] == pytest.approx(0.00025 * 3 * 8 * 8)  # a mean over D values, in [0, 1]


def test_the_weight_of_the_kl_can_be_given(images: Path, tmp_path: Path) -> None:
    source, weights = save_pytorch_vae(tmp_path)
    torch.save(weights, source)  # a state_dict alone
    overrides = {"objective.beta": 7.5}
    run = vaelab.convert(source, "folder", overrides, package="pytorch_vae", data=images, run=tmp_path / "run")
    assert run.recipe.objective["beta"] == 7.5
    assert "--set objective.beta=7.5" in run.machine["command"]


@pytest.mark.parametrize("change", ["no layers", "channels", "bottleneck", "unknown"])
def test_other_models_are_refused(change: str, images: Path, tmp_path: Path, wording: Wording) -> None:
    source, weights = save_pytorch_vae(tmp_path, returned=1 if change == "channels" else 3)
    if change == "no layers":
        weights = {"weight": torch.zeros(2)}
    elif change == "bottleneck":
        weights |= {"fc_mu.weight": torch.zeros(4, 72), "fc_var.weight": torch.zeros(4, 72)}
    elif change == "unknown":
        weights["embed_class.weight"] = torch.zeros(2, 2)
    torch.save({"state_dict": weights}, source)
    with pytest.raises(InputError) as error:
        vaelab.convert(source, "folder", package="pytorch_vae", data=images, run=tmp_path / "run")
    wording(error.value)
