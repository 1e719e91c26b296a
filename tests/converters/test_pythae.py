"""Converted models of Pythae: equal to the original's forward pass, other models refused."""

import json
from pathlib import Path

import pytest
import torch
from foreign import save_pythae
from torch import Tensor
from torch.nn import functional as F
from wording import Wording

import vaelab
from vaelab.models.likelihoods import PixelDistribution
from vaelab.system.errors import InputError


def test_codes_images_and_loss_are_those_of_the_original(tmp_path: Path) -> None:
    folder, w = save_pythae(tmp_path, name="BetaVAEConfig", beta=2.5)
    run = vaelab.convert(folder, "digits", package="pythae", run=tmp_path / "run")
    x = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(1))

    def linear(h: Tensor, name: str) -> Tensor:
        return F.linear(h, w[f"{name}.weight"], w[f"{name}.bias"])

    h = linear(x.flatten(1), "encoder.layers.0.0").relu()
    mean, log_var = linear(h, "encoder.embedding"), linear(h, "encoder.log_var")
    image = linear(linear(mean, "decoder.layers.0.0").relu(), "decoder.layers.1.0").sigmoid().view_as(x)
    model = vaelab.load(run)
    found = model.encode(x)
    torch.testing.assert_close((found.mean, found.log_var), (mean, log_var))
    torch.testing.assert_close(model.decode(mean), image)
    p_x: PixelDistribution = model.likelihood(torch.logit(image))
    torch.testing.assert_close(p_x.reconstruction_loss(x), 0.5 * (x - image).square().sum((1, 2, 3)))
    assert run.recipe.objective["name"] == "beta"
    assert run.recipe.objective["beta"] == 2.5
    assert run.is_trained
    assert vaelab.evaluate(run, metrics=["elbo"]).results["elbo"]["protocol"]["images"] == 359


def test_the_cross_entropy_is_the_bernoulli_likelihood(tmp_path: Path) -> None:
    folder, _ = save_pythae(tmp_path, reconstruction_loss="bce")
    run = vaelab.convert(folder / "model.pt", "digits", package="pythae", run=tmp_path / "run")
    assert (run.recipe.likelihood["name"], run.recipe.objective["name"]) == ("bernoulli", "elbo")


@pytest.mark.parametrize(
    "config",
    [{"name": "VAMPConfig"}, {"uses_default_encoder": False}, {"input_dim": [784]}, {"latent_dim": "ten"}],
    ids=str,
)
def test_other_models_are_refused(config: dict[str, object], tmp_path: Path, wording: Wording) -> None:
    folder, _ = save_pythae(tmp_path, **config)
    with pytest.raises(InputError) as error:
        vaelab.convert(folder, "digits", package="pythae", run=tmp_path / "run")
    wording(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("damage", ["missing layer", "more layers", "no config", "no weights", "not torch"])
def test_damaged_folders_are_refused(damage: str, tmp_path: Path, wording: Wording) -> None:
    folder, weights = save_pythae(tmp_path)
    if damage == "missing layer":
        del weights["decoder.layers.1.0.bias"]
    if damage == "more layers":
        weights["discriminator.layers.0.0.weight"] = torch.zeros(2, 2)
    content = {"state": weights} if damage == "no weights" else {"model_state_dict": weights}
    torch.save(content, folder / "model.pt")
    if damage == "no config":
        (folder / "model_config.json").unlink()
    if damage == "not torch":
        (folder / "model.pt").write_text(json.dumps({"model_state_dict": {}}))
    with pytest.raises(InputError) as error:
        vaelab.convert(folder, "digits", package="pythae", run=tmp_path / "run")
    wording(error.value)
