"""What metrics are given: one model on one set of images, and everything that several metrics compute from them."""

from collections.abc import Mapping
from functools import cached_property, partial
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Int

from vaelab.data.images import Images
from vaelab.evaluation.classifier import extractor_of
from vaelab.evaluation.features import Extractor, FeatureSets, Samples
from vaelab.models.codes import Codes, Encode, encode_images
from vaelab.models.conditions import parse_condition
from vaelab.models.samplers import Sampler, make_sampler
from vaelab.models.vae import REQUIREMENTS, VAE
from vaelab.system.errors import UsageError
from vaelab.system.seeds import generator as generator_for

SEED = 0
NEEDS: Mapping[str, str] = MappingProxyType(
    {
        **REQUIREMENTS,
        "train": "training images",
        "features": "training images, from which features are learned",
        "factors": "images with known factors",
        "attributes": "images with labels or attributes",
    }
)
"""What a metric may need of the model and of the images, in words."""


class NotMeasurable(UsageError):
    """The model or the images lack what a metric needs."""


class Evaluation:
    """One model on one set of images; what metrics share is computed on first use and kept.

    ``train``: the training images, binarised as ``images`` are, for metrics that learn from them. ``encode``: images →
    posteriors; by default the model encodes, a run keeps the result in its cache. ``extractor``: what images are
    compared through, by default ``extractor_of`` the training images.
    """

    def __init__(
        self,
        model: VAE,
        images: Images,
        train: Images | None = None,
        *,
        encode: Encode | None = None,
        extractor: Extractor | None = None,
    ) -> None:
        self.model = model
        self.images = images
        self._train = train
        self._encode = encode or partial(encode_images, model)
        self._extractor = extractor
        self._samplers: dict[str, Sampler] = {}
        self._features: dict[tuple[int, str], FeatureSets] = {}

    @property
    def provides(self) -> frozenset[str]:
        """Which of NEEDS the model and the images meet."""
        there = {
            "train": self._train is not None,
            "features": self._train is not None,
            "factors": self.images.factors is not None,
            "attributes": self.images.labels is not None or bool(self.images.attribute_names),
        }
        return self.model.provides | {need for need, is_met in there.items() if is_met}

    def find_obstacle(self, needs: frozenset[str]) -> str | None:
        """What is lacking, in words: "needs …"; None if nothing is."""
        missing = [words for need, words in NEEDS.items() if need in needs - self.provides]
        return f"needs {' and '.join(missing)}" if missing else None

    def require(self, what: str, *needs: str) -> None:
        """NotMeasurable if the model or the images lack something that ``what`` needs."""
        obstacle = self.find_obstacle(frozenset(needs))
        if obstacle is not None:
            raise NotMeasurable(f"{what} {obstacle}")

    def generator(self, stream: str) -> torch.Generator:
        """A fresh random generator; the same numbers for the same ``stream``."""
        return generator_for(SEED, "evaluation", stream)

    # -- codes --

    @cached_property
    def codes(self) -> Codes:
        """Posteriors of the images."""
        return self._encode(self.images)

    @property
    def train(self) -> Images:
        """The training images; for metrics that need "train"."""
        assert self._train is not None, "the metric does not say that it needs training images"
        return self._train

    def train_codes(self, rows: Int[np.ndarray, " chosen"]) -> Codes:
        """Posteriors of some of the training images."""
        return self._encode(self.train.take(rows))

    # -- samples and features --

    def sampler(self, name: str) -> Sampler:
        """A sampler of codes, fitted to the training images if it needs codes."""
        if name not in self._samplers:
            self._samplers[name] = make_sampler(name, self.model, lambda: self.train)
        return self._samplers[name]

    def samples(self, count: int, generator: torch.Generator, sampler: str = "prior") -> Samples:
        """``count`` codes of a sampler, with conditions drawn from the training set for a conditional model."""
        codes = self.sampler(sampler).sample(count, generator)
        rows = self.model.condition_rows.cpu()
        conditions = parse_condition(self.model.spec, None, count, rows, generator)
        source = "the prior" if sampler == "prior" else f"the sampler {sampler}"
        given = "" if conditions is None else ", under conditions drawn from training images"
        return Samples(self.model, codes, conditions, f"{source}{given}")

    @cached_property
    def extractor(self) -> Extractor:
        """What images are compared through; for metrics that need "features"."""
        return self._extractor or extractor_of(self.train, self.model.device)

    def features(self, most: int, sampler: str = "prior") -> FeatureSets:
        """Features of at most ``most`` of the images and of as many samples, reconstructions and training images."""
        if (most, sampler) not in self._features:
            random = self.generator("frechet")
            images = self.images.subsample(most, random)
            samples = self.samples(len(images), random, sampler)
            train = self.train.subsample(len(images), random)
            self._features[most, sampler] = FeatureSets(self.extractor, images, samples, train, len(self.images))
        return self._features[most, sampler]
