"""A variational autoencoder as an estimator of scikit-learn: a transformer and a density of rows or images.

>>> from vaelab.sklearn import VAE                                        # doctest: +SKIP
>>> codes = VAE(latent_dim=2, random_state=0).fit_transform(X)            # doctest: +SKIP
"""

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, no_type_check

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from torch import Tensor

from vaelab import recipe as recipes
from vaelab.api.start import read_start
from vaelab.build import build
from vaelab.data.images import SMALLEST_SIDE, Images
from vaelab.data.loader import Batches
from vaelab.data.memory import arrange, image_axes
from vaelab.models import vae
from vaelab.models.bounds import elbo
from vaelab.models.chunks import chunk_spans
from vaelab.models.likelihoods import Calibrated
from vaelab.recipe import ResolvedRecipe
from vaelab.system.device import deterministic, resolve_device
from vaelab.system.machine import default_threads
from vaelab.system.noise import Noise, generator
from vaelab.training import loop
from vaelab.training.settings import make_settings
from vaelab.training.state import create_state

MAX_SEED = np.iinfo(np.int32).max

Function = TypeVar("Function", bound=Callable[..., Any])


def _unchecked(function: Function) -> Function:
    """Leave a function out of type checks at run time: scikit-learn wants parameters to be checked in ``fit``."""
    return no_type_check(function)


class VAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Variational autoencoder (Kingma & Welling 2014, 1312.6114) of rows of real numbers, or of images.

    ``X`` is an array of rows ``[n, features]``, or of images ``[n, H, W]``, ``[n, H, W, C]`` or ``[n, C, H, W]`` with 1
    or 3 channels and sides of at least 8 pixels. ``fit`` learns a scaling to [0, 1]: of each feature for rows, of all
    pixels together for images. The decoder's likelihood is then a normal distribution around a sigmoid.

    Parameters:

    ``latent_dim``: number of latents.
    ``epochs``: passes over the training set.
    ``beta``: weight of the KL in the loss (Higgins et al., ICLR 2017, equation 4). With 1 it is the negative ELBO.
    ``batch_size``: rows per step.
    ``learning_rate``: that of Adam.
    ``network``: "mlp", or "conv" for images. "auto" is conv for images.
    ``hidden``: width of each hidden layer of an mlp.
    ``likelihood``: one of vaelab's. "optimal_gaussian" has the standard deviation that maximises it (2006.13202).
    ``image_shape``: of images that are given as flat rows, (height, width) or (height, width, channels).
    ``set``: other values of a recipe by dotted key. {"objective.name": "tc"} is one.
    ``num_samples``: codes per row from which ``score_samples`` estimates the ELBO.
    ``device``: "cpu", "cuda" or "auto".
    ``n_jobs``: CPU threads. None is 1, −1 all.
    ``random_state``: seed of weights, order and noise. With an int, ``fit`` is repeatable to the last bit.

    Attributes:

    ``vae_``: the trained ``vaelab.VAE``, for images in [0, 1].
    ``recipe_``: the recipe that it was trained with.
    ``image_shape_``: channels, height and width that the model sees. Rows are images of shape (1, 1, features).
    ``data_min_``, ``data_range_``: the scaling (X − data_min_) / data_range_. Constant features have range 1.
    ``history_``: term of the loss → its value at each step, nats per row in scaled units.
    ``n_features_in_``, ``feature_names_in_``: as in every estimator. Images have H·W·C features.

    ``score_samples`` is the ELBO of each row in nats, for the density of X in its own units. That is the density of the
    scaled row divided by the product of ``data_range_``, the Jacobian of the scaling. For β ≠ 1 the loss is not the
    ELBO, but the score is. Likelihoods of grey levels or binary pixels give probabilities, which the scaling does not
    change. The noise of a row is a function of its values, so its score does not depend on other rows.
    """

    @_unchecked
    def __init__(
        self,
        latent_dim: int = 2,
        *,
        epochs: int = 20,
        beta: float = 1.0,
        batch_size: int = 32,
        learning_rate: float = 0.001,
        network: str = "auto",
        hidden: Sequence[int] = (256,),
        likelihood: str = "optimal_gaussian",
        image_shape: Sequence[int] | None = None,
        set: Mapping[str, Any] | None = None,
        num_samples: int = 16,
        device: str = "cpu",
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.latent_dim = latent_dim
        self.epochs = epochs
        self.beta = beta
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.network = network
        self.hidden = hidden
        self.likelihood = likelihood
        self.image_shape = image_shape
        self.set = set
        self.num_samples = num_samples
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # -- fitting --

    def fit(self, X: Any, y: Any = None) -> "VAE":
        """Learn the scaling and train the model; ``y`` is ignored. Return the estimator."""
        X = self._check(X, reset=True)
        are_rows = self.image_shape_[1] == 1
        low, high = (X.min(0), X.max(0)) if are_rows else (np.full(X.shape[1], f()) for f in (X.min, X.max))
        self.data_min_, self.data_range_ = low, np.where(high > low, high - low, 1.0)
        seed = int(check_random_state(self.random_state).randint(MAX_SEED))
        self.recipe_ = self._make_recipe(len(X), seed)
        channels, height, width = self.image_shape_
        pixels = self._scale(X).astype(np.float32).reshape(len(X), channels, height, width)
        self.vae_, self.history_ = self._train(Images(np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))))
        self._n_features_out = self.recipe_.latent_dim
        return self

    def _make_recipe(self, num_rows: int, seed: int) -> ResolvedRecipe:
        network = self.network
        if network == "auto":
            network = "conv" if min(self.image_shape_[1:]) >= SMALLEST_SIDE else "mlp"
        tables: dict[str, Any] = {
            "data": {"name": "arrays"},
            "network": {"name": network, "latent_dim": self.latent_dim},
            "likelihood": {"name": self.likelihood},
            "objective": {"name": "beta", "beta": float(self.beta)},
            "training": {
                "epochs": self.epochs,
                "batch_size": self.batch_size,
                "learning_rate": float(self.learning_rate),
                "seed": seed,
            },
        }
        if network == "mlp":
            tables["network"]["hidden"] = [int(width) for width in self.hidden]
        overrides = recipes.check_overrides(self.set)
        recipe = recipes.validate(recipes.merge(tables, overrides), "sklearn")
        return recipe.resolve(self.image_shape_, num_rows)

    def _train(self, images: Images) -> tuple[vae.VAE, dict[str, NDArray[np.float32]]]:
        """Return the trained model on the CPU, and each term of the loss at each step."""
        recipe, device = self.recipe_, resolve_device(self.device)
        threads = default_threads() if self.n_jobs == -1 else self.n_jobs or 1
        if recipe.training.patience:
            raise ValueError("training.patience needs held-out images, which an estimator does not have")
        settings = make_settings(recipe, precision="fp32", threads=threads, shuffle_buffer=0)
        with deterministic(device, settings.precision, settings.threads):
            state = create_state(*build(recipe), settings, device)
            if place := recipe.training.start_from:
                state.start_from(read_start(place, state.vae).tensors)
            batches = Batches(images, settings.batch_size, settings.seed, device)
            records = list(loop.train(state, batches, settings, valid=None))
            batches.close()
            state.keep_final_weights()
            if isinstance(state.vae.likelihood, Calibrated):
                state.vae.calibrate_likelihood(images, generator(settings.seed, "likelihood"))
        terms = {name: np.concatenate([record.terms[name] for record in records]) for name in records[0].terms}
        return state.vae.to("cpu").eval(), terms

    # -- using --

    def transform(self, X: Any) -> NDArray[Any]:
        """Return the posterior mean of each row, ``[n, latent_dim]``."""
        X = self._check(X)
        means = [self._double().encode_batch(x).mean for x in self._chunks(X)]
        return np.asarray(torch.cat(means).numpy().astype(self._output_type))

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Return the expected rows or images of codes ``[n, latent_dim]``, in the units and the layout of ``fit``."""
        check_is_fitted(self)
        codes = check_array(X, dtype=[np.float64, np.float32], input_name="X")
        if codes.shape[1] != self._n_features_out:
            raise ValueError(f"codes have {codes.shape[1]} features, but VAE has {self._n_features_out} latents")
        return self._decode(torch.from_numpy(codes.astype(np.float64)), codes.dtype)

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Return the ELBO of each row: a lower bound of ln p(x) in nats, in the units of X (see Notes)."""
        X = self._check(X)
        model, density = self._double(), []
        is_density = not (model.likelihood.is_discrete or model.likelihood.wants_binary)
        jacobian = float(np.log(self.data_range_).sum()) if is_density else 0.0
        with torch.no_grad():
            prior = model.density()
            for x in self._chunks(X):
                q = model.encode_batch(x)
                draw = q.draw(_RowNoise(x.numpy(), self.recipe_.training.seed), self.num_samples)
                log_likelihood = model.decode_batch(draw.z).log_prob(x)
                density.append(elbo(log_likelihood, prior.kl(q, draw).sum(1)))
        return np.asarray(torch.cat(density).numpy() - jacobian)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean ELBO of the rows, in nats, in the units of X; larger is better. ``y`` is ignored."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: Any = None) -> NDArray[Any]:
        """Return the expected rows or images of codes drawn from the prior, in the units and the layout of ``fit``."""
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"n_samples must be 1 or more; got {n_samples}")
        seed = int(check_random_state(random_state).randint(MAX_SEED))
        noise = _RowNoise(np.arange(n_samples, dtype=np.float64)[:, None], seed)
        with torch.no_grad():
            codes = self._double().density().sample(n_samples, noise)
        return self._decode(codes.double(), np.dtype(np.float64))

    # -- between X and the model --

    def _check(self, X: Any, *, reset: bool = False) -> NDArray[np.float64]:
        """Return X as flat rows in float64, channels first; set or compare the number of features."""
        if not reset:
            check_is_fitted(self)
        shape = tuple(X.shape if hasattr(X, "shape") else np.asarray(X).shape)
        axes: Any = "rows"
        if len(shape) > 2 and all(shape):
            array = check_array(X, allow_nd=True, dtype=[np.float64, np.float32])
            array, axes = arrange(array, "auto", None, "X")
            image_shape = (array.shape[3], *array.shape[1:3])
            X = array.transpose(0, 3, 1, 2).reshape(len(array), -1)
        X = validate_data(self, X, reset=reset, dtype=[np.float64, np.float32])
        self._output_type = X.dtype
        if reset:
            self._axes = axes
            self.image_shape_ = self._find_shape(X.shape[1]) if axes == "rows" else image_shape
        elif axes != "rows" and image_shape != self.image_shape_:
            raise ValueError(f"X has images of shape {image_shape}; VAE was fitted on {self.image_shape_}")
        if axes == "rows" and self.image_shape_[0] > 1 and self._axes != "NCHW":  # flat rows are channels last
            channels, height, width = self.image_shape_
            X = X.reshape(-1, height, width, channels).transpose(0, 3, 1, 2).reshape(len(X), -1)
        return np.ascontiguousarray(X, np.float64)

    def _find_shape(self, num_features: int) -> tuple[int, int, int]:
        """Return channels, height and width of flat rows."""
        if self.image_shape is None:
            return 1, 1, num_features
        height, width, channels = (*self.image_shape, 1)[:3]
        if height * width * channels != num_features:
            raise ValueError(f"image_shape = {tuple(self.image_shape)} does not fit rows of {num_features} features")
        return channels, height, width

    def _scale(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return (X - self.data_min_) / self.data_range_

    def _chunks(self, X: NDArray[np.float64]) -> "Sequence[Tensor]":
        scaled = self._scale(X).reshape(len(X), *self.image_shape_)
        return [torch.from_numpy(scaled[start:stop]) for start, stop in chunk_spans(len(X), self.image_shape_)]

    def _double(self) -> vae.VAE:
        """Return the model in float64, so that results do not depend on how rows are divided into batches."""
        return copy.deepcopy(self.vae_).double().requires_grad_(False)

    def _decode(self, codes: Tensor, dtype: np.dtype[Any]) -> NDArray[Any]:
        model, count = self._double(), len(codes)
        spans = chunk_spans(count, self.image_shape_)
        images = torch.cat([model.decode_batch(codes[start:stop]).mean for start, stop in spans])
        rows = images.reshape(count, -1).numpy() * self.data_range_ + self.data_min_
        scaled = rows.reshape(count, *self.image_shape_).astype(dtype).transpose(0, 2, 3, 1)
        return scaled.reshape(count, -1) if self._axes == "rows" else image_axes(scaled, self._axes)


class _RowNoise(Noise):
    """Random numbers of each row that are a function of its scaled values and a seed."""

    def __init__(self, rows: NDArray[np.float64], seed: int) -> None:
        keys = (hashlib.blake2b(row.tobytes(), digest_size=8, key=seed.to_bytes(8, "little")) for row in rows)
        self._generators = [
            np.random.Generator(np.random.Philox(key=int.from_bytes(key.digest(), "little"))) for key in keys
        ]

    def normal(self, count: int, *shape: int) -> Tensor:
        """Return standard normal numbers ``[count, …]``, float64."""
        assert count == len(self._generators)
        return torch.from_numpy(np.stack([random.standard_normal(shape) for random in self._generators]))

    def uniform(self, count: int, *shape: int) -> Tensor:
        """Return numbers in [0, 1) ``[count, …]``, float64."""
        assert count == len(self._generators)
        return torch.from_numpy(np.stack([random.random(shape) for random in self._generators]))
