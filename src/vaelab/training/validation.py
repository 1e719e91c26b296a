"""Validation: what a model is worth on images that it is not trained on, while it trains."""

from typing import Any

import torch
from torch import Tensor

from vaelab.data.images import Images
from vaelab.models.vae import Pass
from vaelab.recipe import Training
from vaelab.system.device import Noise, derive_seed, disable_tf32
from vaelab.system.distributed import ranks
from vaelab.training.state import State


@torch.no_grad()
def validate(state: State, images: Images, settings: Training) -> dict[str, float]:
    """The objective's terms, the normalised ELBO and the KL of each latent on held-out images, in float32.

    One sample of each posterior, the same noise every time. Gradient and weight norms are those of the last batch.
    Of several ranks each measures its share of every batch; all get the result.
    """
    vae, training_noise, was_training = state.vae, state.vae.noise, state.vae.training
    vae.noise = noise = Noise(derive_seed(settings.seed, "validation"), vae.device)
    vae.eval()
    captured: list[Pass] = []
    hook = vae.register_forward_hook(lambda _module, _inputs, passed: captured.append(passed))
    sums: dict[str, Tensor] = {}
    step = torch.full((), max(state.step - 1, 0), device=vae.device, dtype=torch.int64)
    try:
        with disable_tf32():
            for i, start in enumerate(range(0, len(images), settings.batch_size)):
                share = ranks().share(min(settings.batch_size, len(images) - start))
                first, count = start + min(share.start, share.total - 1), len(share)
                x = images.floats(first, first + max(count, 1), vae.device)
                noise.seek(i, share)
                captured.clear()
                terms = {name: value.double() * count for name, value in state.objective(vae, x, step).items()}
                passed = captured[0] if captured else vae(x)
                kl = passed.kl.double()[:count]
                terms["elbo"] = (passed.pixels.log_prob(x).double()[:count] - kl.sum(1)).sum()
                terms["kl_per_latent"] = kl.sum(0)
                sums = {name: sums[name] + value if name in sums else value for name, value in terms.items()}
        sums = {name: ranks().sum_(value) for name, value in sums.items()}
    finally:
        hook.remove()
        vae.noise = training_noise
        vae.train(was_training)
    kl_per_latent = sums.pop("kl_per_latent").tolist()
    return {
        **{name: float(value) / len(images) for name, value in sums.items()},
        "gradient_norm": _norm([p.grad for p in vae.parameters() if p.grad is not None]),
        "weight_norm": _norm(list(vae.parameters())),
        **{f"kl_{j + 1}": value / len(images) for j, value in enumerate(kl_per_latent)},
    }


def _norm(tensors: list[Any]) -> float:
    return float(torch.stack([t.detach().double().square().sum() for t in tensors]).sum().sqrt()) if tensors else 0.0
