"""The training state: model, objective and optimizer as named tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vaelab.data.images import Batch
from vaelab.models.vae import VAE
from vaelab.recipe import Training
from vaelab.training.objectives import Objective

ALIGNED = 64
"""Alignment (elements) of each slice of the flat gradient buffer."""


@dataclass
class State:
    """Everything that changes while a model trains; with the recipe and the data it determines what follows."""

    vae: VAE
    objective: Objective
    optimizer: torch.optim.Optimizer
    step: int = 0
    warned: set[str] = field(default_factory=set)

    def _modules(self) -> dict[str, nn.Module]:
        return {"vae": self.vae, "objective": self.objective}

    def _named_parameters(self) -> dict[str, nn.Parameter]:
        return {f"{m}.{n}": p for m, module in self._modules().items() for n, p in module.named_parameters()}

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state by name."""
        found = {f"{m}.{n}": t for m, module in self._modules().items() for n, t in module.state_dict().items()}
        for name, parameter in self._named_parameters().items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                found[f"optimizer.{key}.{name}"] = value
        return found

    def example_batch(self, count: int) -> Batch:
        """A batch of ``count`` black images on the model's device, with a condition where the model takes one."""
        spec, device = self.vae.spec, self.vae.device
        x = torch.zeros(count, *spec.image_shape, device=device).contiguous(memory_format=torch.channels_last)
        index = torch.zeros(count, dtype=torch.int64, device=device)
        attributes = torch.zeros(count, spec.condition_dim, dtype=torch.bool, device=device)
        return Batch(
            x,
            index,
            labels=index if spec.condition == "label" else None,
            attributes=attributes if spec.condition == "attributes" else None,
        )

    def flatten_gradients(self) -> Tensor:
        """Move all gradients into one flat buffer, each in the memory layout of its parameter; returns the buffer."""
        parameters = [p for p in self._named_parameters().values() if p.requires_grad]
        lengths = [-(-p.numel() // ALIGNED) * ALIGNED for p in parameters]  # vector instructions want round addresses
        buffer = torch.zeros(sum(lengths), device=self.vae.device)
        start = 0
        for parameter, length in zip(parameters, lengths, strict=True):
            parameter.grad = buffer.as_strided(parameter.shape, parameter.stride(), start)
            start += length
        return buffer

    def find_misfit(self, tensors: Mapping[str, Tensor]) -> str | None:
        """What keeps ``tensors`` from being put back: a name or a shape that is not this state's; None if nothing."""
        own = {f"{m}.{n}": t.shape for m, module in self._modules().items() for n, t in module.state_dict().items()}
        for name, parameter in self._named_parameters().items():
            for key in [key for key in ("step", "exp_avg", "exp_avg_sq") if f"optimizer.{key}.{name}" in tensors]:
                own[f"optimizer.{key}.{name}"] = torch.Size() if key == "step" else parameter.shape
        wrong = sorted(own.keys() ^ tensors.keys()) or [n for n in own if tensors[n].shape != own[n]]
        return f"{wrong[0]} does not fit the model of this run" if wrong else None

    def restore(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Restore a step and its tensors; every tensor keeps the memory layout of its weight.

        Adam's moments in another layout than their weights would make the fused CPU optimizer silently wrong.
        """
        self.step = step
        for prefix, module in self._modules().items():
            own = {n.removeprefix(f"{prefix}."): t for n, t in tensors.items() if n.startswith(f"{prefix}.")}
            module.load_state_dict(own)
        for name, parameter in self._named_parameters().items():
            entries = {
                n.split(".")[1]: t
                for n, t in tensors.items()
                if n.startswith("optimizer.") and n.split(".", 2)[2] == name
            }
            for key, value in entries.items():
                like = (
                    torch.empty_like(parameter)
                    if value.shape == parameter.shape
                    else torch.empty_like(value, device=parameter.device)
                )
                self.optimizer.state[parameter][key] = like.copy_(value)


def begin(vae: VAE, objective: Objective, settings: Training, device: torch.device) -> State:
    """Model and objective on the device, channels-last, with Adam as in the experiments (default betas)."""
    vae.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    objective.to(device)
    groups = [{**group, "params": list(group["params"])} for group in objective.parameter_groups()]
    groups = [{"params": list(vae.parameters())}, *(group for group in groups if group["params"])]
    on_cuda = device.type == "cuda"  # where a graph repeats what was captured, steps must be counted on the device
    adam = torch.optim.Adam(groups, lr=settings.learning_rate, fused=True, capturable=on_cuda)
    return State(vae, objective, adam)
