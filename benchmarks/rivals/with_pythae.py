"""The same work with Pythae, used as its documentation has it: the second of the rivals that vaelab is timed against.

PYTHON benchmarks/rivals/with_pythae.py mnist --data MNIST [--what train|encode|decode] [--seconds 8 | --steps N]

PYTHON is one that has Pythae, such as that of
    python -m venv .venv-pythae
    .venv-pythae/bin/pip install pythae==0.1.2 torch==2.13.0 numpy pillow
It needs nothing of vaelab. The layers, the images on the disk and the clock are those of plain.py beside it.

Pythae's squared error has a factor ½ that vaelab's has not, so β is halved here: its loss is half of vaelab's, and Adam
sees the same directions. ``embed`` is how it encodes; it decodes as well and throws that away. Prints one line of JSON.
"""

import json
import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain import (
    LARGE_BATCH,
    WORKS,
    Clock,
    Faces,
    Work,
    decoder_layers,
    encoder_layers,
    num_features,
    parse,
    read_idx,
)
from torch import Tensor, nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its optional loggers
    from pythae.data.datasets import DatasetOutput
    from pythae.models import BetaVAE, BetaVAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.pipelines import TrainingPipeline
    from pythae.samplers import NormalSampler
    from pythae.trainers import BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback


class Encoder(BaseEncoder):
    """The layers of the work, then mean and log-variance."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.layers = encoder_layers(work)
        self.embedding = nn.Linear(num_features(work), work.latent_dim)
        self.log_var = nn.Linear(num_features(work), work.latent_dim)

    def forward(self, x: Tensor) -> ModelOutput:
        """Mean and log-variance under Pythae's names."""
        features = self.layers(x)
        return ModelOutput(embedding=self.embedding(features), log_covariance=self.log_var(features))


class Decoder(BaseDecoder):
    """The layers of the work, then a sigmoid."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.layers = nn.Sequential(decoder_layers(work), nn.Sigmoid())

    def forward(self, z: Tensor) -> ModelOutput:
        """Images under Pythae's name."""
        return ModelOutput(reconstruction=self.layers(z))


def build(work: Work) -> BetaVAE:
    """Pythae's β-VAE (at β = 1 its VAE) with the layers of the work."""
    is_mlp = bool(work.hidden)
    config = BetaVAEConfig(
        input_dim=work.image_shape,
        latent_dim=work.latent_dim,
        reconstruction_loss="bce" if is_mlp else "mse",
        beta=work.beta if is_mlp else work.beta / 2,
    )
    return BetaVAE(config, Encoder(work), Decoder(work))


class FaceData(Faces):
    """Faces from their JPEGs, each as Pythae wants a datum."""

    def __getitem__(self, index: int) -> DatasetOutput:
        return DatasetOutput(data=super().__getitem__(index))


class Finished(Exception):
    """The budget is spent; Pythae's loop knows no other end before that of an epoch."""


class Timer(TrainingCallback):
    """Tells the clock of every step."""

    def __init__(self, clock: Clock, batch_size: int) -> None:
        self.clock, self.batch_size = clock, batch_size

    def on_train_step_end(self, training_config: BaseTrainerConfig, **_: Any) -> None:
        """Ends the training when the clock says so."""
        if self.clock.tick(self.batch_size):
            raise Finished


def read_digits(folder: Path) -> Tensor:
    """MNIST as its tutorials hand it over: one float tensor [60000, 1, 28, 28]."""
    return torch.from_numpy(np.array(read_idx(folder))).reshape(-1, 1, 28, 28) / 255.0


def train(name: str, work: Work, folder: Path, is_cpu: bool, clock: Clock) -> dict[str, Any]:
    """Train by the pipeline until the clock says stop; digits from a tensor in memory, faces from their files."""
    is_faces = name.startswith("celeba")
    data = FaceData(folder) if is_faces else read_digits(folder)
    with tempfile.TemporaryDirectory() as output:
        settings = BaseTrainerConfig(
            output_dir=output,
            per_device_train_batch_size=work.batch_size,
            num_epochs=1_000_000,
            train_dataloader_num_workers=2 if is_faces else 0,
            learning_rate=work.learning_rate,
            no_cuda=is_cpu,
        )
        try:
            TrainingPipeline(build(work), settings)(data, callbacks=[Timer(clock, work.batch_size)])
        except Finished:
            return clock.report()
    raise AssertionError("ended before the budget was spent")


@torch.no_grad()
def encode(work: Work, digits: Tensor, device: torch.device) -> dict[str, Any]:
    """Seconds for the codes of all images, in batches: at once they would need many GB."""
    model = build(work).to(device).eval()
    began = time.perf_counter()
    codes = torch.cat([model.embed(x.to(device)).cpu() for x in digits.split(LARGE_BATCH)])
    return {"seconds": time.perf_counter() - began, "count": len(codes)}


@torch.no_grad()
def decode(work: Work, device: torch.device, count: int = 10_000) -> dict[str, Any]:
    """Seconds for ``count`` images of codes from the prior."""
    model = build(work).to(device).eval()
    model.device = device
    sampler = NormalSampler(model)
    began = time.perf_counter()
    pictures = sampler.sample(num_samples=count, batch_size=LARGE_BATCH, return_gen=True).cpu()
    return {"seconds": time.perf_counter() - began, "count": len(pictures)}


def main() -> None:
    """Train, encode or decode; print one line of JSON."""
    from importlib.metadata import version

    options = parse((__doc__ or "").splitlines()[0])
    logging.disable(logging.WARNING)
    work, device = WORKS[options.work], torch.device(options.device)
    if options.what == "train":
        clock = Clock(options.seconds, options.steps, options.warm)
        result = train(options.work, work, options.data, device.type == "cpu", clock)
    elif options.what == "encode":
        result = encode(work, open_digits(options.work, options.data), device)
    else:
        result = decode(work, device)
    versions = {"torch": torch.__version__, "pythae": version("pythae")}
    print(json.dumps({**result, "threads": torch.get_num_threads(), **versions}))


def open_digits(name: str, folder: Path) -> Tensor:
    """The images to encode; only digits fit in memory as floats."""
    if name.startswith("celeba"):
        sys.exit("encoding is measured on mnist")
    return read_digits(folder)


if __name__ == "__main__":
    main()
