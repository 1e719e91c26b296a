"""VAE and BetaVAE of Pythae 0.1.2 with its default networks (https://github.com/clementchadebec/benchmark_VAE)."""

from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from vaelab.converters import Converted, Layers, load_weights, refuse
from vaelab.system.files import read_json

WEIGHTS, CONFIG = "model.pt", "model_config.json"
OBJECTIVES = {"VAEConfig": "elbo", "BetaVAEConfig": "beta"}
"""Name of a configuration → objective; other models have another loss or other networks."""


class _Config(BaseModel):
    """model_config.json."""

    model_config = ConfigDict(extra="allow")

    name: str
    input_dim: list[int] | None = None
    latent_dim: int = Field(ge=1)
    uses_default_encoder: bool
    uses_default_decoder: bool
    reconstruction_loss: Literal["mse", "bce"] = "mse"
    beta: float = 1.0


def convert(source: Path) -> Converted:
    """Return the model in a folder that Pythae saved, such as ``final_model``, or beside the given ``model.pt``.

    Encoder and decoder have one hidden layer of 512 units with ReLU, as in ``network.name = "mlp"``. Pythae's squared
    error ½ Σ (x − x̂)² is the Gaussian likelihood with a variance of 1, so β keeps its value.
    """
    folder = source if source.is_dir() else source.parent
    if not (folder / CONFIG).exists():
        refuse(source, f"there is no {CONFIG}, which Pythae saves next to {WEIGHTS}")
    config = read_json(folder / CONFIG, _Config, remedy="copy it again from Pythae's folder")
    if config.name not in OBJECTIVES:
        known = " and ".join(OBJECTIVES)
        refuse(folder, f"it is a {config.name}; of Pythae's models {known} can be converted")
    if not (config.uses_default_encoder and config.uses_default_decoder):
        refuse(
            folder, "it has networks of its own, which Pythae stores as pickles; only its default ones are converted"
        )
    shape = config.input_dim
    if shape is None or len(shape) != 3:
        refuse(folder, f"input_dim is {shape}; images have channels, height and width")
    path = folder / WEIGHTS if source.is_dir() else source
    weights = load_weights(path).get("model_state_dict")
    if not isinstance(weights, dict):
        refuse(path, "it has no model_state_dict")
    layers = Layers(path, weights)
    heads = [layers.take_layer(f"encoder.{name}", 2) for name in ("embedding", "log_var")]
    names = {
        "encoder.layers.0": layers.take_layer("encoder.layers.0.0", 2),
        "encoder.head": (torch.cat([weight for weight, _ in heads]), torch.cat([bias for _, bias in heads])),
        "decoder.layers.0": layers.take_layer("decoder.layers.0.0", 2),
        "decoder.head": layers.take_layer("decoder.layers.1.0", 2),
    }
    layers.check_empty()
    objective = {"name": OBJECTIVES[config.name]}
    is_gaussian = config.reconstruction_loss == "mse"
    return Converted(
        title=f"{config.name.removesuffix('Config')} of Pythae",
        sections={
            "network": {
                "name": "mlp", "latent_dim": config.latent_dim, "hidden": [len(names["encoder.layers.0"][1])],
            },
            "likelihood": {"name": "gaussian", "variance": 1.0} if is_gaussian else {"name": "bernoulli"},
            "objective": {**objective, "beta": config.beta} if objective["name"] == "beta" else objective,
        },
        tensors={
            f"{name}.{kind}": value
            for name, pair in names.items()
            for kind, value in zip(("weight", "bias"), pair, strict=True)
        },
        image_shape=(shape[0], shape[1], shape[2]),
        notes=("the model is assumed to be trained on pixels in [0, 1], which the file does not state",),
    )  # fmt: skip
