"""The training state: model, objective and optimizer as named tensors."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vaelab.data.tensors import Batch
from vaelab.models.vae import VAE
from vaelab.training.adam import Adam
from vaelab.training.ema import WeightAverage
from vaelab.training.objectives import Objective
from vaelab.training.patience import FACTS, BestWeights
from vaelab.training.settings import Settings

ALIGNMENT = 64
"""Alignment (elements) of each slice of the flat gradient buffer, for vector instructions."""

ADAM_STATE = ("step", "exp_avg", "exp_avg_sq")


@dataclass
class State:
    """Everything that changes during training; together with the recipe and the data it determines all later steps."""

    vae: VAE
    objective: Objective
    optimizer: Adam | torch.optim.Optimizer
    average: WeightAverage | None = None
    best: BestWeights | None = None
    step: int = 0
    has_collapsed: bool = False
    """Whether the user was warned of a posterior collapse that is not over yet."""

    def _modules(self) -> dict[str, nn.Module]:
        return {"vae": self.vae, "objective": self.objective}

    def _named_parameters(self) -> dict[str, nn.Parameter]:
        return {f"{m}.{n}": p for m, module in self._modules().items() for n, p in module.named_parameters()}

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor of the state by name."""
        found = {f"{m}.{n}": t for m, module in self._modules().items() for n, t in module.state_dict().items()}
        for name, parameter in self._named_parameters().items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                found[f"optimizer.{key}.{name}"] = value
        best = self.best.tensors() if self.best else {}
        return found | self._average_tensors() | {f"best.{name}": tensor for name, tensor in best.items()}

    def _average_tensors(self) -> dict[str, Tensor]:
        return {f"average.{name}": tensor for name, tensor in self.average.tensors.items()} if self.average else {}

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Set some of the model's weights before the first step."""
        self.vae.load_state_dict(weights, strict=False)
        if self.average:
            self.average.restart()

    def keep_final_weights(self) -> None:
        """Give the model the weights that the training is for: the best or the averaged ones, if there are such."""
        if self.best and self.best.weights:
            self.vae.load_state_dict(self.best.weights)
        elif self.average:
            self.vae.load_state_dict(self.average.tensors, strict=False)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the model have the average of its weights inside this context, if there is one."""
        if not self.average:
            yield
            return
        own = {name: parameter.detach().clone() for name, parameter in self.vae.named_parameters()}
        try:
            self.vae.load_state_dict(self.average.tensors, strict=False)
            yield
        finally:
            self.vae.load_state_dict(own, strict=False)

    def example_batch(self, count: int) -> Batch:
        """Return ``count`` black images on the model's device, with labels or attributes if the model needs them."""
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
        """Move all gradients into one flat buffer, each in the memory layout of its parameter; return the buffer."""
        parameters = [p for p in self._named_parameters().values() if p.requires_grad]
        lengths = [-(-p.numel() // ALIGNMENT) * ALIGNMENT for p in parameters]
        buffer = torch.zeros(sum(lengths), device=self.vae.device)
        start = 0
        for parameter, length in zip(parameters, lengths, strict=True):
            parameter.grad = buffer.as_strided(parameter.shape, parameter.stride(), start)
            start += length
        return buffer

    def find_misfit(self, tensors: Mapping[str, Tensor]) -> str | None:
        """Return which name or shape of ``tensors`` is not this state's; None if ``restore`` can use them."""
        own = {f"{m}.{n}": t.shape for m, module in self._modules().items() for n, t in module.state_dict().items()}
        for name, parameter in self._named_parameters().items():
            for key in [key for key in ADAM_STATE if f"optimizer.{key}.{name}" in tensors]:
                own[f"optimizer.{key}.{name}"] = torch.Size() if key == "step" else parameter.shape
        own |= {name: tensor.shape for name, tensor in self._average_tensors().items()}
        if self.best and any(name.startswith("best.") for name in tensors):
            own |= {f"best.{name}": torch.Size() for name in FACTS}
            own |= {f"best.weights.{name}": tensor.shape for name, tensor in self.vae.state_dict().items()}
        wrong = sorted(own.keys() ^ tensors.keys()) or [n for n in own if tensors[n].shape != own[n]]
        return f"{wrong[0]} does not fit the model of this run" if wrong else None

    def restore(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Set the step and all tensors; every tensor keeps the memory layout of its weight.

        If Adam's moments had another layout than their weights, the fused CPU optimizer would silently be wrong.
        """
        self.step = step
        for prefix, module in self._modules().items():
            own = {n.removeprefix(f"{prefix}."): t for n, t in tensors.items() if n.startswith(f"{prefix}.")}
            module.load_state_dict(own)
        for name, parameter in self._named_parameters().items():
            for key in ADAM_STATE:
                if (value := tensors.get(f"optimizer.{key}.{name}")) is not None:
                    like = parameter if value.shape == parameter.shape else value
                    own_value = torch.empty_like(like, device=parameter.device, requires_grad=False)
                    self.optimizer.state[parameter][key] = own_value.copy_(value)
        for name, tensor in self._average_tensors().items():
            tensor.copy_(tensors[name])
        if best := {name.removeprefix("best."): t for name, t in tensors.items() if name.startswith("best.")}:
            assert self.best is not None
            self.best.restore(best, self.vae.device)


def create_state(vae: VAE, objective: Objective, settings: Settings, device: torch.device) -> State:
    """Move model and objective to the device, channels-last, and return them with Adam (default betas) at step 0.

    Weight decay is that of the kernels and matrices of encoder and decoder.
    """
    vae.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    objective.to(device)
    groups = [{**group, "params": list(group["params"])} for group in objective.parameter_groups()]
    networks = (*vae.encoder.parameters(), *vae.decoder.parameters())
    decayed = [p for p in networks if p.ndim > 1] if settings.weight_decay else []
    others = [p for p in vae.parameters() if all(p is not other for other in decayed)]
    groups = [{"params": others}, {"params": decayed, "weight_decay": settings.weight_decay}, *groups]
    # capturable: a replayed graph must count the steps on the device
    adam = Adam(
        [group for group in groups if group["params"]], settings.learning_rate, capturable=device.type == "cuda"
    )
    average = WeightAverage(vae, settings.ema) if settings.ema else None
    return State(vae, objective, adam, average, BestWeights(settings.patience) if settings.patience else None)
