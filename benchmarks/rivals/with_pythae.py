"""Train, encode or decode with Pythae, used as in its documentation, and time it.

PYTHON benchmarks/rivals/with_pythae.py mnist --data MNIST [--task train|encode|decode] [--seconds 8 | --steps N]

PYTHON is an interpreter with Pythae:

    python -m venv .venv-pythae
    .venv-pythae/bin/pip install pythae==0.1.2 torch==2.13.0 numpy pillow

Layers, data and clock are those of plain.py. The script prints one line of JSON.

Pythae's squared error has a factor ½ that vaelab's does not have. With β halved, its loss is half of vaelab's and Adam
sees the same directions. ``embed``, Pythae's way to encode, also decodes and discards the result.
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
    EVAL_BATCH_SIZE,
    WORKLOADS,
    Clock,
    Faces,
    Workload,
    decoder_layers,
    encoder_layers,
    num_features,
    parse,
    read_idx,
)
from torch import Tensor, nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about its optional loggers
    from pythae.data.datasets import DatasetOutput
    from pythae.models import BetaVAE, BetaVAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.pipelines import TrainingPipeline
    from pythae.samplers import NormalSampler
    from pythae.trainers import BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback


class Encoder(BaseEncoder):
    """Encoder with the layers of a workload."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.layers = encoder_layers(workload)
        self.embedding = nn.Linear(num_features(workload), workload.latent_dim)
        self.log_var = nn.Linear(num_features(workload), workload.latent_dim)

    def forward(self, x: Tensor) -> ModelOutput:
        """Posterior mean and log-variance under Pythae's names."""
        features = self.layers(x)
        return ModelOutput(embedding=self.embedding(features), log_covariance=self.log_var(features))


class Decoder(BaseDecoder):
    """Decoder with the layers of a workload and a sigmoid."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.layers = nn.Sequential(decoder_layers(workload), nn.Sigmoid())

    def forward(self, z: Tensor) -> ModelOutput:
        """Images under Pythae's name."""
        return ModelOutput(reconstruction=self.layers(z))


def build(workload: Workload) -> BetaVAE:
    """Pythae's β-VAE with the layers of a workload."""
    is_mlp = bool(workload.hidden)
    config = BetaVAEConfig(
        input_dim=workload.image_shape,
        latent_dim=workload.latent_dim,
        reconstruction_loss="bce" if is_mlp else "mse",
        beta=workload.beta if is_mlp else workload.beta / 2,
    )
    return BetaVAE(config, Encoder(workload), Decoder(workload))


class PythaeFaces(Faces):
    """Faces from JPEGs as Pythae's ``DatasetOutput``."""

    def __getitem__(self, index: int) -> DatasetOutput:
        return DatasetOutput(data=super().__getitem__(index))


class BudgetSpent(Exception):
    """Ends Pythae's loop, which cannot be stopped within an epoch otherwise."""


class Timer(TrainingCallback):
    """Reports every step to the clock."""

    def __init__(self, clock: Clock, batch_size: int) -> None:
        self.clock, self.batch_size = clock, batch_size

    def on_train_step_end(self, training_config: BaseTrainerConfig, **_: Any) -> None:
        """Raise BudgetSpent after the last step."""
        if self.clock.tick(self.batch_size):
            raise BudgetSpent


def read_digits(folder: Path) -> Tensor:
    """MNIST as in Pythae's tutorials: one float tensor [60000, 1, 28, 28]."""
    return torch.from_numpy(np.array(read_idx(folder))).reshape(-1, 1, 28, 28) / 255.0


def train(name: str, workload: Workload, folder: Path, is_cpu: bool, clock: Clock) -> dict[str, Any]:
    """Train with the pipeline until the clock's budget is spent: digits from memory, faces from their files."""
    is_faces = name.startswith("celeba")
    data = PythaeFaces(folder) if is_faces else read_digits(folder)
    with tempfile.TemporaryDirectory() as output:
        settings = BaseTrainerConfig(
            output_dir=output,
            per_device_train_batch_size=workload.batch_size,
            num_epochs=1_000_000,
            train_dataloader_num_workers=2 if is_faces else 0,
            learning_rate=workload.learning_rate,
            no_cuda=is_cpu,
        )
        try:
            TrainingPipeline(build(workload), settings)(data, callbacks=[Timer(clock, workload.batch_size)])
        except BudgetSpent:
            return clock.report()
    raise AssertionError("ended before the budget was spent")


@torch.no_grad()
def encode(workload: Workload, digits: Tensor, device: torch.device) -> dict[str, Any]:
    """Time the codes of all images, in batches, since all at once need many GB."""
    model = build(workload).to(device).eval()
    began = time.perf_counter()
    codes = torch.cat([model.embed(x.to(device)).cpu() for x in digits.split(EVAL_BATCH_SIZE)])
    return {"seconds": time.perf_counter() - began, "count": len(codes)}


@torch.no_grad()
def decode(workload: Workload, device: torch.device, count: int = 10_000) -> dict[str, Any]:
    """Time decoding ``count`` codes from the prior."""
    model = build(workload).to(device).eval()
    model.device = device
    sampler = NormalSampler(model)
    began = time.perf_counter()
    pictures = sampler.sample(num_samples=count, batch_size=EVAL_BATCH_SIZE, return_gen=True).cpu()
    return {"seconds": time.perf_counter() - began, "count": len(pictures)}


def main() -> None:
    """Train, encode or decode, and print one line of JSON."""
    from importlib.metadata import version

    options = parse((__doc__ or "").splitlines()[0])
    logging.disable(logging.WARNING)
    workload, device = WORKLOADS[options.workload], torch.device(options.device)
    if options.task == "train":
        clock = Clock(options.seconds, options.steps, options.warmup)
        result = train(options.workload, workload, options.data, device.type == "cpu", clock)
    elif options.task == "encode":
        result = encode(workload, load_digits(options.workload, options.data), device)
    else:
        result = decode(workload, device)
    versions = {"torch": torch.__version__, "pythae": version("pythae")}
    print(json.dumps({**result, "threads": torch.get_num_threads(), **versions}))


def load_digits(name: str, folder: Path) -> Tensor:
    """Images to encode; only digits fit into memory as floats."""
    if name.startswith("celeba"):
        sys.exit("encoding is measured on mnist")
    return read_digits(folder)


if __name__ == "__main__":
    main()
