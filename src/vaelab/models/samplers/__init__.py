"""Samplers of the latent space, one file each; every file has a class ``Sampler(spec, density, *, …)``.

A sampler is a density over codes from which new images are decoded. One that ``needs_codes`` is fitted after training
to samples of the posteriors of training images (ex-post density estimation; Ghosh et al. 2020, 1903.12436).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.data.images import Images
from vaelab.models.codes import sample_codes
from vaelab.models.priors import Density
from vaelab.models.spec import Spec
from vaelab.models.vae import VAE
from vaelab.system import registry
from vaelab.system.seeds import generator as generator_for

CPU = torch.device("cpu")
FITTED_CODES = 20_000
"""Training images whose codes a sampler is fitted to, at most."""


class Sampler(ABC):
    """A density over codes, made for one model; ``density`` is the model's prior, ``device`` where its tensors are."""

    needs_codes: ClassVar[bool]
    """Whether ``fit`` must be called before anything else."""
    name: str = ""
    """The file's name; the registry sets it."""

    def __init__(self, spec: Spec, density: Density, device: torch.device = CPU) -> None:
        self.spec, self.density, self.device = spec, density, device

    @abstractmethod
    def fit(self, codes: Float[np.ndarray, "n latent"], generator: torch.Generator) -> None:
        """Fit to samples of the posteriors of training images; ValueError if they are not finite or too few."""

    @abstractmethod
    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count latent"]:
        """``count`` codes on the CPU, float32; the same for a generator in the same state."""

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "n latent"]) -> Float[Tensor, " n"]:
        """ln of the density at codes, nats."""


def make_sampler(name: str, model: VAE, load_train: Callable[[], Images]) -> Sampler:
    """The sampler ``name`` for a model; one that needs codes is fitted to samples of training images' posteriors.

    ``load_train`` is called only then. UnknownName lists the valid names.
    """
    sampler: Sampler = registry.load("samplers", name).Sampler(model.spec, model.density(), device=model.device)
    sampler.name = name
    if sampler.needs_codes:
        train = load_train().subsample(FITTED_CODES, generator_for(0, "sampler", "images"))
        sampler.fit(
            sample_codes(model, train, generator_for(0, "sampler", "codes")), generator_for(0, "sampler", "fit")
        )
    return sampler
