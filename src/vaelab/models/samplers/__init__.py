"""Samplers of the latent space, one file each; every file has a class ``Sampler(spec, density, device, *, …)``.

Its keyword arguments are the keys of ``[sampler]`` in a recipe. A sampler is a distribution of codes from which images
are decoded. One that ``needs_codes`` is fitted to the codes of training images (ex-post density estimation; Ghosh et
al. 2020, 1903.12436).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.data.images import Images
from vaelab.models.codes import CodeSamples, as_finite, sample_codes
from vaelab.models.priors import Density
from vaelab.models.spec import Spec
from vaelab.models.vae import REQUIREMENTS, VAE
from vaelab.system import registry
from vaelab.system.errors import UsageError
from vaelab.system.noise import generator as generator_for

CPU = torch.device("cpu")
MAX_CODES = 20_000
"""Most training images whose codes a sampler is fitted to."""


class Sampler(nn.Module, ABC):
    """A distribution of codes for one model; everything that ``fit`` learns is a parameter or a buffer.

    ``density`` is the prior of the model, ``device`` the device of its tensors.
    """

    needs_codes: ClassVar[bool]
    """Whether ``fit`` must be called before any other method."""
    needs: ClassVar[frozenset[str]] = frozenset({"continuous_posterior"})
    """Keys of ``vae.REQUIREMENTS`` that the model must meet."""
    is_bound: ClassVar[bool] = False
    """Whether ``log_prob`` is a lower bound of the log density instead of its value."""
    keeps_codes: ClassVar[bool] = False
    """Whether ``fit`` keeps the codes of single training images, which are private and quickly made again."""
    name: str = ""
    """Name of the file; set by ``make_sampler``."""

    def __init__(self, spec: Spec, density: Density, device: torch.device = CPU) -> None:
        super().__init__()
        self.spec, self.density, self.device = spec, density, device

    @abstractmethod
    def fit(self, codes: CodeSamples, generator: torch.Generator) -> None:
        """Fit to the codes of training images; InputError if they are not finite or too few."""

    @abstractmethod
    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count latent"]:
        """Return ``count`` codes on the CPU, float32, a function of the state of the generator."""

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "n latent"]) -> Float[Tensor, " n"]:
        """Natural logarithm of the density at ``z`` on the CPU, nats."""

    @property
    def protocol(self) -> dict[str, Any]:
        """How the sampler was made, for JSON."""
        return {"sampler": self.name}

    @torch.no_grad()
    def compare_with_prior(self, codes: Float[np.ndarray, "n latent"]) -> dict[str, float]:
        """Return the mean ln q(z) of held-out codes under the sampler and the mean ln p(z) under the prior, nats.

        The larger one describes new images better. Standard errors are over codes.
        """
        z = torch.from_numpy(as_finite(codes, "codes")).float()
        found = {"log_prob": self.log_prob(z).double()}
        found["prior_log_prob"] = self.density.log_prob(z.to(self.device)).cpu().double()
        found["gain"] = found["log_prob"] - found["prior_log_prob"]
        means = {name: float(values.mean()) for name, values in found.items()}
        if len(z) < 2:
            return means
        return means | {f"{name}_standard_error": float(v.std() / math.sqrt(len(z))) for name, v in found.items()}


def make_sampler(
    name: str,
    model: VAE,
    load_train: Callable[[], Images],
    *,
    state: Mapping[str, Tensor] | None = None,
    **options: Any,
) -> Sampler:
    """Return the sampler ``name`` of a model, fitted to posterior samples of training images if it needs codes.

    ``load_train`` is called only in that case. ``state`` is that of a sampler that was fitted before, which is then not
    fitted again. ``options`` are checked keyword arguments of the sampler. Raises UnknownName for a wrong name,
    RuntimeError for the state of another sampler, and UsageError if the model does not meet the needs of the sampler.
    """
    kind: type[Sampler] = registry.load("samplers", name).Sampler
    missing = " and ".join(REQUIREMENTS[need] for need in sorted(kind.needs - model.provides))
    if missing:
        raise UsageError(f"the sampler {name} needs {missing}", subject="sampler", value=name)
    with torch.no_grad():
        sampler = kind(model.spec, model.density(), device=model.device, **options)
    sampler.name = name
    if state is not None:
        sampler.load_state_dict(state)
    elif sampler.needs_codes:
        train = load_train().subsample(MAX_CODES, generator_for(0, "sampler", "images"))
        codes = sample_codes(model, train, generator_for(0, "sampler", "codes"))
        sampler.fit(codes, generator_for(0, "sampler", "fit"))
    return sampler
