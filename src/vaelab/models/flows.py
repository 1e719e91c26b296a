"""Autoregressive normalising flows of codes, by zuko."""

import importlib
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.system.device import disable_tf32, no_autocast
from vaelab.system.errors import InputError

Univariate = Literal["affine", "spline"]
"""How one latent is transformed, given those before it."""
BINS = 8
"""Bins of a rational-quadratic spline (Durkan et al. 2019, 1906.04032)."""


class AutoregressiveFlow(nn.Module):
    """A composition of masked autoregressive transforms, which starts as the identity.

    y_i = f(x_i; g(x_1 … x_{i−1}, context)) with a masked network g (Papamakarios et al. 2017, 1705.07057), the order of
    the latents reversed from one transform to the next. ``forward`` takes one pass and ``inverse`` one for each latent.
    Raises InputError if zuko is missing.
    """

    def __init__(
        self, latent_dim: int, context_dim: int = 0, *, transforms: int, hidden: list[int], univariate: Univariate
    ) -> None:
        super().__init__()
        zuko = _import_zuko()
        kinds = {
            "affine": (zuko.transforms.MonotonicAffineTransform, ((), ())),
            "spline": (zuko.transforms.MonotonicRQSTransform, ((BINS,), (BINS,), (BINS - 1,))),
        }
        function, shapes = kinds[univariate]
        options = {"univariate": function, "shapes": shapes, "hidden_features": hidden, "activation": nn.Tanh}
        with torch.device("cpu"):  # zuko reads its masks, which the meta device does not have
            order = torch.arange(latent_dim)
            self.transforms = nn.ModuleList(
                zuko.flows.MaskedAutoregressiveTransform(
                    latent_dim, context_dim, order=order.flip(0) if i % 2 else order, **options
                )
                for i in range(transforms)
            )

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Set every transform to the identity: the last layers are 0."""
        for transform in self.transforms:
            *_, last = (part for part in transform.modules() if list(part.parameters(recurse=False)))
            for parameter in last.parameters():
                parameter.zero_()

    def forward(
        self, x: Float[Tensor, "*batch latent"], context: Float[Tensor, "*rows context"] | None = None
    ) -> tuple[Float[Tensor, "*batch latent"], Float[Tensor, "*batch"]]:
        """Return y = f(x) and ln |det dy/dx|; the leading axes of ``context`` broadcast.

        Computed in the type of the weights.
        """
        y, context = self._as_weights(x), self._as_weights(context)
        log_determinant: Tensor = 0 * y[..., 0]
        context = context if context is None else context + 0 * y[..., :1]  # an export cannot expand to a batch
        with no_autocast(x.device), disable_tf32():
            for transform in self._transforms(y):
                y, part = transform(context).call_and_ladj(y)
                log_determinant = log_determinant + part
        return y.to(x.dtype), log_determinant.to(x.dtype)

    def inverse(
        self, y: Float[Tensor, "*batch latent"], context: Float[Tensor, "*rows context"] | None = None
    ) -> Float[Tensor, "*batch latent"]:
        """Return the x with f(x) = y."""
        x, context = self._as_weights(y), self._as_weights(context)
        context = context if context is None else context + 0 * x[..., :1]
        with no_autocast(y.device), disable_tf32():
            for transform in reversed(self._transforms(y)):
                x = _invert(transform, context, x)
        inverse: Tensor = x.to(y.dtype)
        return inverse

    def _transforms(self, x: Tensor) -> list[nn.Module]:
        return list(self.transforms) if x.numel() else []  # zuko cannot reshape an empty batch

    def _as_weights(self, x: Any) -> Any:
        return None if x is None else x.to(next(self.parameters()).dtype)


def _invert(transform: Any, context: Tensor | None, y: Tensor) -> Tensor:
    """Invert an autoregressive transform latent by latent, as zuko does, without sizes of the batch for exports."""
    if not hasattr(transform, "passes"):  # a single latent
        inverse: Tensor = transform(context).inv(y)
        return inverse
    x = 0 * y
    for _ in range(transform.passes):
        x = transform.meta(context, x).inv(y)
    return x


def _import_zuko() -> Any:
    try:
        importlib.import_module("zuko.flows")
        return importlib.import_module("zuko")
    except ImportError as error:
        raise InputError(f"flows need the extra flows: pip install 'vaelab[flows]' ({error})") from None
