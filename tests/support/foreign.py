"""Models of other packages, with random weights, as those packages save them."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator) / (shape[-1] ** 0.5 if len(shape) > 1 else 10)


def save_pythae(parent: Path, latents: int = 3, hidden: int = 32, **config: Any) -> tuple[Path, dict[str, Tensor]]:
    """Save a model of Pythae for images of 28×28 pixels below ``parent``; return its folder and its weights."""
    random = torch.Generator().manual_seed(0)
    sizes = {
        "encoder.layers.0.0": (hidden, 784),
        "encoder.embedding": (latents, hidden),
        "encoder.log_var": (latents, hidden),
        "decoder.layers.0.0": (hidden, latents),
        "decoder.layers.1.0": (784, hidden),
    }
    weights = {}
    for name, size in sizes.items():
        weights |= {f"{name}.weight": draw(random, *size), f"{name}.bias": draw(random, size[0])}
    facts = {
        "name": "VAEConfig", "input_dim": [1, 28, 28], "latent_dim": latents, "uses_default_encoder": True,
        "uses_default_decoder": True, "reconstruction_loss": "mse",
    }  # fmt: skip
    folder = parent / "final_model"
    folder.mkdir(exist_ok=True)
    (folder / "model_config.json").write_text(json.dumps({**facts, **config}))
    torch.save({"model_state_dict": weights}, folder / "model.pt")
    return folder, weights


def save_pytorch_vae(parent: Path, returned: int = 3, latents: int = 4) -> tuple[Path, dict[str, Tensor]]:
    """Save a checkpoint of PyTorch-VAE for images of 8×8 pixels in ``parent``; return its file and its weights."""
    random = torch.Generator().manual_seed(0)
    convolutions = {
        "encoder.0": (6, 3, 3, 3),
        "encoder.1": (8, 6, 3, 3),
        "decoder.0": (8, 6, 3, 3),
        "final_layer": (6, 6, 3, 3),
    }
    weights = {}
    for name, size in convolutions.items():
        channels = size[0] if name.startswith("encoder") else size[1]
        weights |= {
            f"{name}.0.weight": draw(random, *size),
            f"{name}.0.bias": draw(random, channels),
            f"{name}.1.weight": 1 + draw(random, channels),
            f"{name}.1.bias": draw(random, channels),
            f"{name}.1.running_mean": draw(random, channels),
            f"{name}.1.running_var": draw(random, channels).exp(),
            f"{name}.1.num_batches_tracked": torch.tensor(7),
        }
    linear = {"fc_mu": (latents, 32), "fc_var": (latents, 32), "decoder_input": (32, latents)}
    for name, shape in {**linear, "final_layer.3": (returned, 6, 3, 3)}.items():
        weights |= {f"{name}.weight": draw(random, *shape), f"{name}.bias": draw(random, shape[0])}
    path = parent / "last.ckpt"
    state = {f"model.{name}": value for name, value in weights.items()}
    torch.save({"epoch": 1, "pytorch-lightning_version": "1.5.6", "state_dict": state}, path)
    return path, weights
