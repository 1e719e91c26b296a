"""The sampler that a verb draws codes from, fitted where it has to be."""

from pathlib import Path

from vaelab.api.data import data_of
from vaelab.data.images import Images, binarize
from vaelab.models import samplers
from vaelab.models.samplers import Sampler
from vaelab.models.vae import VAE
from vaelab.run import Run
from vaelab.system.arguments import AnyPath


def make_sampler(name: str, model: VAE, run_path: AnyPath, data: str | Path | None = None) -> Sampler:
    """The sampler ``name`` of a run's model; one that needs codes is fitted to samples of training images' posteriors.

    UnknownName lists the valid names; FileNotFoundError if it needs the training images and they are gone.
    """

    def load_train() -> Images:
        images = data_of(Run.open(run_path), data)
        return binarize(images.train, images.binarize)

    return samplers.make_sampler(name, model, load_train)
