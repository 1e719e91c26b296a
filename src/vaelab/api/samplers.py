"""The sampler that a verb draws codes from, fitted where it has to be."""

from pathlib import Path

from vaelab.api.data import data_of
from vaelab.data.images import binarize, choose
from vaelab.models.codes import sample_codes
from vaelab.models.samplers import Sampler
from vaelab.models.vae import VAE
from vaelab.run import Run
from vaelab.system import registry
from vaelab.system.arguments import AnyPath
from vaelab.system.device import generator

FITTED_CODES = 20_000
"""Training images whose codes a sampler is fitted to, at most."""


def make_sampler(name: str, model: VAE, run_path: AnyPath, data: str | Path | None = None) -> Sampler:
    """The sampler ``name`` of a run's model; one that needs codes is fitted to samples of training images' posteriors.

    UnknownName lists the valid names; FileNotFoundError if it needs the training images and they are gone.
    """
    module = registry.load("samplers", name)
    sampler: Sampler = module.Sampler(model.spec, model.density(), device=model.device)
    sampler.name = name
    if sampler.needs_codes:
        images = data_of(Run.open(run_path), data)
        train = images.train.take(choose(len(images.train), FITTED_CODES, generator(0, "sampler", "images")))
        codes = sample_codes(model, binarize(train, images.binarize), generator(0, "sampler", "codes"))
        sampler.fit(codes, generator(0, "sampler", "fit"))
    return sampler
