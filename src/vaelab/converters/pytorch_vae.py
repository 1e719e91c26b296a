"""VanillaVAE and BetaVAE of PyTorch-VAE, commit a6896b9 (https://github.com/AntixK/PyTorch-VAE)."""

from pathlib import Path

import torch
from torch import Tensor

from vaelab.converters import Converted, Layers, load_weights, refuse

PREFIX = "model."
"""Prefix of the weights in a checkpoint of PyTorch Lightning."""
KLD_WEIGHT = 0.00025
"""Weight of the KL beside a mean of squared errors in all of the repository's configurations."""
EPSILON = 1e-5
"""Added to the variances of a batch normalisation by default."""
NEGATIVE_SLOPE = 0.01
"""Slope of a leaky ReLU by default."""
BOTTLENECK = 4
"""Positions of the feature map at the bottleneck, 2×2."""


def convert(source: Path) -> Converted:
    """Return the model in a checkpoint of PyTorch Lightning, or in a saved ``state_dict``.

    The two models have the same layers. Each batch normalisation is a fixed affine map at inference, which becomes part
    of the convolution before it. So the network is ``conv`` with leaky ReLUs and a last convolution.
    """
    content = load_weights(source)
    weights = content.get("state_dict", content)
    if not isinstance(weights, dict):
        refuse(source, "its state_dict is no dictionary of weights")
    layers = Layers(source, {name.removeprefix(PREFIX): value for name, value in weights.items()})
    depth = layers.count("encoder.{}.0.weight")
    if not depth or layers.count("decoder.{}.0.weight") != depth - 1:
        refuse(source, "its layers are not those of VanillaVAE or BetaVAE, which are the models that can be converted")
    heads = [layers.take_layer(name, 2) for name in ("fc_mu", "fc_var")]
    names = {f"encoder.convolutions.{i}": _take_folded(layers, f"encoder.{i}", 0) for i in range(depth)}
    names["encoder.head"] = (torch.cat([weight for weight, _ in heads]), torch.cat([bias for _, bias in heads]))
    names["decoder.stem"] = layers.take_layer("decoder_input", 2)
    for i in range(depth - 1):
        names[f"decoder.up_convolutions.{i}"] = _take_folded(layers, f"decoder.{i}", 1)
    names[f"decoder.up_convolutions.{depth - 1}"] = _take_folded(layers, "final_layer", 1)
    names["decoder.last"] = layers.take_layer("final_layer.3", 4)
    layers.check_empty()
    channels = [len(names[f"encoder.convolutions.{i}"][1]) for i in range(depth)]
    received, returned = names["encoder.convolutions.0"][0].shape[1], len(names["decoder.last"][1])
    if received != returned:
        refuse(source, f"it takes images of {received} channels and returns {returned}")
    if heads[0][0].shape[1] != BOTTLENECK * channels[-1]:
        refuse(source, "its bottleneck is not 2×2, so it was changed and is no VanillaVAE or BetaVAE")
    side = 2 << depth
    beta = KLD_WEIGHT * received * side**2
    return Converted(
        title="VanillaVAE or BetaVAE of PyTorch-VAE",
        sections={
            "network": {
                "name": "conv", "latent_dim": len(heads[0][1]), "channels": channels, "strides": [2] * depth,
                "negative_slope": NEGATIVE_SLOPE, "activate_last": True, "last_convolution": True,
            },
            "likelihood": {"name": "gaussian", "link": "tanh"},
            "objective": {"name": "beta", "beta": beta},
        },
        tensors={
            f"{name}.{kind}": value
            for name, pair in names.items()
            for kind, value in zip(("weight", "bias"), pair, strict=True)
        },
        image_shape=(received, side, side),
        notes=(
            "the model is assumed to be trained on pixels in [0, 1], as in PyTorch-VAE since 22 December 2021; "
            "earlier versions used [−1, 1]",
            f"the file does not hold the weight of the KL; kld_weight = {KLD_WEIGHT} is β = {beta:g} here. For another "
            "one, or times the beta of BetaVAE: --set objective.beta=…",
        ),
    )  # fmt: skip


def _take_folded(layers: Layers, name: str, axis: int) -> tuple[Tensor, Tensor]:
    """Return a convolution with the batch normalisation after it; ``axis``: that of the kernel's output channels."""
    weight, bias = (value.double() for value in layers.take_layer(f"{name}.0", 4))
    scale, shift = (value.double() for value in layers.take_layer(f"{name}.1", 1))
    mean, variance = (layers.take(f"{name}.1.running_{kind}", 1).double() for kind in ("mean", "var"))
    layers.drop(f"{name}.1.num_batches_tracked")
    scale = scale * torch.rsqrt(variance + EPSILON)
    shape = [1, 1, 1, 1]
    shape[axis] = -1
    return (weight * scale.view(shape)).float(), ((bias - mean) * scale + shift).float()
