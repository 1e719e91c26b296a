"""The sampler of a run: fitted once, when its training is complete, and stored beside the model."""

from collections.abc import Callable
from functools import partial

from vaelab.api.run_images import RunImages
from vaelab.data.images import Images, binarize
from vaelab.models.samplers import Sampler, make_sampler
from vaelab.models.vae import VAE
from vaelab.recipe import Section
from vaelab.run import SAMPLER, Run
from vaelab.run.records import REMEDIES
from vaelab.system import registry
from vaelab.system.files import DamagedFile


def make_run_sampler(run: Run | None, section: Section, model: VAE, load_train: Callable[[], Images]) -> Sampler:
    """Return a sampler for the model of a run: the stored one, or one fitted to the training images if it needs codes.

    ``section`` is the checked section of the sampler, ``run`` None for a model without a run. Raises DamagedFile if the
    stored sampler is damaged, and as ``models.samplers.make_sampler`` does.
    """
    needs_codes = registry.load("samplers", section["name"]).Sampler.needs_codes
    state = run.read_sampler(section) if run and needs_codes else None
    try:
        return make_sampler(**section, model=model, load_train=load_train, state=state)
    except RuntimeError as error:
        if run is None or state is None:
            raise
        reason = f"its tensors do not fit the sampler {section['name']}"
        raise DamagedFile(run.path / SAMPLER, reason, REMEDIES[SAMPLER]) from error


def store_sampler(run: Run, model: VAE, images: RunImages) -> None:
    """Fit the sampler of the recipe and store it, unless it is stored already, needs no codes or keeps them."""
    section = run.recipe.sampler
    kind = registry.load("samplers", section["name"]).Sampler
    if kind.needs_codes and not kind.keeps_codes and run.read_sampler(section) is None:
        seen = partial(binarize, images.train, images.binarize)
        sampler = make_sampler(**section, model=model, load_train=seen)
        run.save_sampler(sampler.state_dict(), section)
