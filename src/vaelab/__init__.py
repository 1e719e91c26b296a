"""vaelab: variational autoencoders of images, trained, measured and looked at, one command for each step.

>>> import vaelab
>>> run = vaelab.train("digits")                      # doctest: +SKIP
>>> model = vaelab.load(run.path)                     # doctest: +SKIP
>>> model.encode(images).mean, model.sample(16)       # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaelab.api.results import evaluate as evaluate
    from vaelab.api.results import load as load
    from vaelab.api.train import train as train
    from vaelab.data.images import Images as Images
    from vaelab.models.vae import VAE as VAE
    from vaelab.run import Run as Run

_HOMES = {
    "train": "vaelab.api",
    "load": "vaelab.api",
    "evaluate": "vaelab.api",
    "Run": "vaelab.run",
    "VAE": "vaelab.models.vae",
    "Images": "vaelab.data.images",
}

__all__ = ["VAE", "Images", "Run", "evaluate", "load", "train"]


def __getattr__(name: str) -> Any:
    """Import a name of the public API when it is first used, so that ``import vaelab`` costs nothing (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vaelab' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
