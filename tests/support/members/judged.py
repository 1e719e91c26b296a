"""The ELBO with a perceptual term of a frozen network and an adversarial term (Larsen et al. 2016, 1512.09300)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from vaelab.data.tensors import Batch
from vaelab.models.conditions import condition_columns
from vaelab.models.spec import Spec
from vaelab.models.terms import Term
from vaelab.models.vae import VAEOutput
from vaelab.training import objectives
from vaelab.training.objectives import Context


class Objective(objectives.Objective):
    """One loss for model and discriminator, each with a gradient for its own part only."""

    terms = (
        Term("perceptual", "perceptual distance", unit=""),
        Term("adversarial", "adversarial loss", unit=""),
        Term("discriminator", "loss of the discriminator", unit=""),
    )

    def __init__(self, spec: Spec, *, weight: float = 1.0) -> None:
        super().__init__()
        self.spec, self.weight = spec, weight
        self.discriminator = nn.Sequential(nn.Flatten(), nn.Linear(spec.num_pixels, 8), nn.ReLU(), nn.Linear(8, 1))
        self.extractor = nn.Conv2d(spec.image_shape[0], 4, 3).requires_grad_(False)
        for parameter in self.extractor.parameters():
            nn.init.constant_(parameter, 0.1)  # stands for pretrained weights

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the discriminator's parameters; the extractor is frozen."""
        return [{"params": list(self.discriminator.parameters()), "lr": 1e-4}]

    def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the loss and its terms."""
        reconstruction, kl = out.mean_reconstruction, out.mean_kl
        condition = condition_columns(self.spec, batch.labels, batch.attributes)
        codes = out.prior.sample(len(batch.x), context.noise).to(out.z.dtype)
        images = torch.cat([out.p_x.mean[0], context.vae.decode_batch(codes, condition).mean])
        held = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        perceptual = (self.extractor(out.p_x.mean[0]) - self.extractor(batch.x)).square().sum((1, 2, 3)).mean()
        adversarial = F.softplus(-functional_call(self.discriminator, held, (images,))).mean()
        real, fake = self.discriminator(batch.x), self.discriminator(images.detach())
        discriminator = F.softplus(-real).mean() + F.softplus(fake).mean()
        return {
            "loss": reconstruction + kl + self.weight * (perceptual + adversarial) + discriminator,
            "reconstruction": reconstruction,
            "kl": kl,
            "perceptual": perceptual,
            "adversarial": adversarial,
            "discriminator": discriminator,
        }
