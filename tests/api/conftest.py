"""A small model file, images and pictures for the tests of commands."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from model_hub import WRITE, ModelHub, point_to, serve_models
from torch import nn

from vaelab import recipe
from vaelab.api.load import CONDITION_ROWS, MODEL_FORMAT
from vaelab.models.vae import VAE
from vaelab.system.files import save_tensors

SHAPE = (1, 8, 8)


@pytest.fixture(scope="session")
def model_file(make_model: Callable[..., tuple[VAE, nn.Module]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained model of 8×8 images with three latents."""
    vae, _ = make_model(SHAPE)
    given = {"data": {"name": "digits"}, "network": {"name": "mlp", "hidden": [16], "latent_dim": 3}}
    resolved = recipe.validate(given, "small").resolve(SHAPE, 100)
    facts = {"name": "small", "recipe": resolved.sections(), "image_shape": SHAPE, "num_images": 100}
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_tensors(path, {**vae.state_dict(), CONDITION_ROWS: vae.condition_rows}, {"format": MODEL_FORMAT, **facts})
    return path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModelHub]:
    """A hub whose user "me" is logged in, and an empty cache."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", WRITE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    with serve_models() as server:
        point_to(monkeypatch, server.url)
        yield server
