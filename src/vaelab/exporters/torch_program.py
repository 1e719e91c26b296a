"""Encoder and decoder as programs of torch.export, which run with PyTorch alone."""

import copy
import io
import json
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vaelab.models.vae import VAE
from vaelab.system.errors import InputError

FACTS = "vaelab.json"
"""File within a program that states what it is."""


class _Encoder(nn.Module):
    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        q = self.model.encode_batch(x, condition)
        return q.mean, q.log_var


class _Decoder(nn.Module):
    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        image: Tensor = self.model.decode_batch(z, condition).mean
        return image


def make_programs(model: VAE, facts: Mapping[str, str]) -> dict[str, bytes]:
    """Return the files encoder.pt2 and decoder.pt2 of a model on the CPU, for any batch size.

    The encoder maps x ``[B, C, H, W]`` in [0, 1] to mean and log_var ``[B, latent]``. The decoder maps z
    ``[B, latent]`` to the expected images ``[B, C, H, W]``. Both of a conditional model also take condition ``[B, K]``
    of 0 and 1. ``facts`` are stored in each file as vaelab.json. Raises InputError if the model cannot be exported.
    """
    was_training = model.training
    model.eval()
    spec = model.spec
    condition = () if spec.condition == "none" else (torch.zeros(2, spec.condition_dim),)
    parts: dict[str, tuple[nn.Module, Tensor]] = {
        "encoder": (_Encoder(_reduce(model, "encoder", "posterior")), torch.zeros(2, *spec.image_shape)),
        "decoder": (_Decoder(_reduce(model, "decoder", "likelihood")), torch.zeros(2, spec.latent_dim)),
    }
    programs = {f"{name}.pt2": _export(part, (x, *condition), facts) for name, (part, x) in parts.items()}
    model.train(was_training)
    return programs


def _reduce(model: VAE, *names: str) -> VAE:
    """Return a copy of a model that has these modules only, so that a program stores no other weights."""
    part = copy.copy(model)
    part._modules, part._buffers = {name: model._modules[name] for name in names}, {}
    reduced: VAE = copy.deepcopy(part).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return reduced


def _export(part: nn.Module, inputs: tuple[Tensor, ...], facts: Mapping[str, str]) -> bytes:
    shapes = ({0: torch.export.Dim("batch")},) * len(inputs)
    try:
        with torch.no_grad():
            program = torch.export.export(part, inputs, dynamic_shapes=shapes)
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"this model cannot be exported: torch.export cannot trace it ({reason})") from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it has paths of this machine
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={FACTS: json.dumps(dict(facts))})
    return buffer.getvalue()


@torch.no_grad()
def compare_programs(model: VAE, programs: Mapping[str, bytes], x: Tensor) -> float:
    """Return the largest difference of programs and model on images: of means, log-variances and expected images."""
    encoder, decoder = (
        torch.export.load(io.BytesIO(programs[f"{name}.pt2"])).module() for name in ("encoder", "decoder")
    )
    condition, _ = model.typical_condition()
    given = () if condition is None else (condition.expand(len(x), -1),)
    q = model.encode_batch(x, *given)
    mean, log_var = encoder(x, *given)
    image, expected = decoder(q.mean, *given), model.decode_batch(q.mean, *given).mean
    differences = (mean - q.mean, log_var - q.log_var, image - expected)
    return max(float(difference.abs().max()) for difference in differences)
