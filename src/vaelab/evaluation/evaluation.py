"""A model and the images it is measured on, with the quantities that several metrics need, computed once."""

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from vaelab.data.images import Images
from vaelab.evaluation.classifier import load_extractor
from vaelab.evaluation.features import Extractor, FeatureSets
from vaelab.evaluation.image_sets import ImageSets
from vaelab.models.codes import Codes, Encode, encode_images
from vaelab.models.conditions import parse_condition
from vaelab.models.samplers import Sampler, make_sampler
from vaelab.models.vae import REQUIREMENTS, VAE
from vaelab.recipe import Section
from vaelab.system import registry
from vaelab.system.errors import UsageError
from vaelab.system.noise import generator as generator_for

NEEDS: Mapping[str, str] = MappingProxyType(
    {
        **REQUIREMENTS,
        "train_images": "training images",
        "features": "training images, to learn features from",
        "train_labels": "training images with labels or attributes",
        "labels": "held-out images with labels or attributes",
        "factors": "held-out images with known factors",
    }
)
"""Requirements of metrics on the model and the images, in words."""


MakeSampler = Callable[[Section, VAE, Callable[[], Images]], Sampler]

OWN_SAMPLER = "recipe"
"""Stands for the sampler of the recipe in options of metrics."""


class NotMeasurable(UsageError):
    """The model or the images lack what a metric needs; the message begins with "needs"."""


class Evaluation:
    """A model and the images it is measured on; what metrics share is computed on first use.

    ``train``: the training images, binarised as ``images`` are. ``encode``: images → posteriors, by default with the
    model. ``extractor``: features that images are compared by, by default ``load_extractor`` of the training images.
    ``sampler``: section of the sampler of metrics that are given none, by default the prior.
    ``make_sampler``: section, model and a function that returns the training images → sampler, by default a new one.
    ``seed``: seed of all random numbers.
    """

    def __init__(
        self,
        model: VAE,
        images: Images,
        train: Images | None = None,
        *,
        encode: Encode | None = None,
        extractor: Extractor | None = None,
        sampler: Section | None = None,
        make_sampler: MakeSampler | None = None,
        seed: int = 0,
    ) -> None:
        self.own_sampler = sampler or {"name": "prior"}
        self.model, self.images, self.seed = model, images, seed
        self._train, self._extractor = train, extractor
        self._encode = encode or partial(encode_images, model)
        self._make_sampler = make_sampler or _make_sampler
        self._samplers: dict[str, Sampler] = {}
        self._image_sets: dict[tuple[int, str], ImageSets] = {}
        self._features: dict[tuple[int, str], FeatureSets] = {}

    def check_needs(self, needs: frozenset[str], who: str = "") -> None:
        """Raise NotMeasurable if a need of ``who`` is not met; its ``choices`` are those needs."""
        has_train = self._train is not None
        met = {
            "train_images": has_train,
            "features": has_train,
            "train_labels": _has_labels(self._train),
            "labels": _has_labels(self.images),
            "factors": self.images.factors is not None,
        }
        missing = [need for need in NEEDS if need in needs and not met.get(need, need in self.model.provides)]
        if missing:
            words = f"{who} needs {' and '.join(NEEDS[need] for need in missing)}".strip()
            raise NotMeasurable(words, subject=who or None, choices=missing)

    def generator(self, stream: str) -> torch.Generator:
        """Return a new random generator; equal streams give equal numbers, so renaming a stream changes results."""
        return generator_for(self.seed, "evaluation", stream)

    @cached_property
    def codes(self) -> Codes:
        """Posteriors of the images."""
        return self._encode(self.images)

    @property
    def train(self) -> Images:
        """The training images, for metrics that declare the need for them."""
        assert self._train is not None, "the metric does not declare that it needs training images"
        return self._train

    def train_codes(self, rows: Int[np.ndarray, " chosen"]) -> Codes:
        """Return the posteriors of the training images in ``rows``."""
        return self._encode(self.train.take(rows))

    @cached_property
    def extractor(self) -> Extractor:
        """Extractor of the features that images are compared by, for metrics that need "features"."""
        return self._extractor or load_extractor(self.train, self.model.device)

    def sampler(self, name: str = OWN_SAMPLER) -> Sampler:
        """Return a sampler of codes, fitted to the training images if it needs codes.

        OWN_SAMPLER, or its name, stands for ``own_sampler``; others have their default options. Raises NotMeasurable if
        the model does not meet the needs of the sampler.
        """
        own = self.own_sampler["name"]
        name = own if name == OWN_SAMPLER else name
        if name not in self._samplers:
            self.check_needs(registry.load("samplers", name).Sampler.needs)
            section = self.own_sampler if name == own else {"name": name}
            self._samplers[name] = self._make_sampler(section, self.model, lambda: self.train)
        return self._samplers[name]

    def image_sets(self, count: int, sampler: str = OWN_SAMPLER, least: int = 2) -> ImageSets:
        """Return at most ``count`` images and as many samples, reconstructions and training images.

        Raises NotMeasurable for fewer than ``least`` images.
        """
        if min(count, len(self.images)) < least:
            raise NotMeasurable(f"needs at least {least} images; there are {min(count, len(self.images))}")
        if (count, sampler) not in self._image_sets:
            random = self.generator("frechet")
            images = self.images.subsample(count, random)
            codes, conditions, source = self.draw_codes(len(images), random, sampler)
            train = self.train.subsample(len(images), random)
            self._image_sets[count, sampler] = ImageSets(
                self.model, images, codes, conditions, source, train, len(self.images)
            )
        return self._image_sets[count, sampler]

    def features(self, count: int, sampler: str = OWN_SAMPLER, least: int = 2) -> FeatureSets:
        """Return the features of ``image_sets``; raises NotMeasurable as it does, and if no feature varies."""
        sets = self.image_sets(count, sampler, least)
        if (count, sampler) not in self._features:
            self._features[count, sampler] = FeatureSets(self.extractor, sets)
        features = self._features[count, sampler]
        if not features.images.shape[1]:
            raise NotMeasurable("needs training images that differ from one another")
        return features

    def draw_codes(
        self, count: int, generator: torch.Generator, sampler: str = OWN_SAMPLER
    ) -> tuple[Tensor, Tensor | None, str]:
        """Return codes from a sampler, conditions drawn from the training set (or None), and a description of both."""
        fitted = self.sampler(sampler)
        codes = fitted.sample(count, generator)
        rows = self.model.condition_rows.cpu()
        conditions = parse_condition(self.model.spec, None, count, rows, generator)
        suffix = "" if conditions is None else ", with conditions drawn from training images"
        return codes, conditions, f"{'the prior' if fitted.name == 'prior' else f'the sampler {fitted.name}'}{suffix}"


def _make_sampler(section: Section, model: VAE, load_train: Callable[[], Images]) -> Sampler:
    return make_sampler(**section, model=model, load_train=load_train)


def _has_labels(images: Images | None) -> bool:
    return images is not None and (images.labels is not None or bool(images.attribute_names))
