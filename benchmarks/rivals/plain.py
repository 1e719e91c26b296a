"""Train, encode or decode with a VAE written as in the usual PyTorch tutorials, and time it.

python benchmarks/rivals/plain.py mnist --data MNIST [--task train|encode|decode] [--seconds 8 | --steps N]

A Dataset of PIL images, a DataLoader with two workers, nn.Sequential, Adam, and three ``.item()`` per batch. The script
does not import vaelab; tests/benchmarks compare ``WORKLOADS`` with vaelab's recipes. It prints one line of JSON.
"""

import argparse
import gzip
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

STARTED = float(os.environ.get("BENCHMARK_STARTED", time.time()))
"""Start of the process as ``time.time()``, set by the parent process."""
EVAL_BATCH_SIZE = 512
"""Images or codes per batch without gradients."""


@dataclass(frozen=True)
class Workload:
    """A network and how it is trained."""

    image_shape: tuple[int, int, int]
    latent_dim: int
    learning_rate: float
    batch_size: int = 32
    beta: float = 1.0
    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    activate_last: bool = False
    hidden: int = 0
    """Units of the hidden layer of a fully connected network; 0: a convolutional network."""

    @property
    def bottleneck(self) -> tuple[int, int, int]:
        """Channels, height and width after the last convolution."""
        shrink = int(np.prod(self.strides))
        return self.channels[-1], self.image_shape[1] // shrink, self.image_shape[2] // shrink


WORKLOADS = {
    "mnist": Workload((1, 28, 28), 2, 0.0005, channels=(32, 64, 64, 64), strides=(1, 2, 2, 1)),
    "celeba": Workload((3, 128, 128), 200, 0.0001, channels=(32, 64, 64, 64), strides=(2, 2, 2, 2)),
    "celeba-beta": Workload(
        (3, 128, 128),
        400,
        0.0001,
        beta=5.0,
        channels=(32, 64, 128, 256, 256),
        strides=(2, 2, 2, 2, 2),
        activate_last=True,
    ),
    "mlp": Workload((1, 28, 28), 20, 0.001, batch_size=128, hidden=400),
}


# -- data -------------------------------------------------------------------------------------------------------------


def to_tensor(image: Image.Image) -> Tensor:
    """A PIL image as float [C, H, W] in [0, 1], like torchvision's ``to_tensor``."""
    pixels = torch.from_numpy(np.array(image)).view(image.height, image.width, -1)
    return pixels.permute(2, 0, 1).contiguous().float().div(255)


def read_idx(folder: Path) -> np.ndarray:
    """MNIST's training images, uint8 [60000, 28, 28], from the plain or gzipped IDX file."""
    path = next(folder.rglob("train-images*idx3-ubyte*"))
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    shape = np.frombuffer(content, ">u4", 3, 4)
    return np.frombuffer(content, np.uint8, offset=16).reshape(shape)


class Digits(Dataset):
    """MNIST, one PIL image at a time, like torchvision's ``MNIST``."""

    def __init__(self, folder: Path) -> None:
        self.images = read_idx(folder)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return to_tensor(Image.fromarray(self.images[index]))


class Faces(Dataset):
    """CelebA's training split: the middle 128×128 pixels of each JPEG."""

    def __init__(self, folder: Path) -> None:
        rows = (line.split() for line in (folder / "list_eval_partition.txt").read_text().splitlines())
        self.paths = [folder / "img_align_celeba" / name for name, split in rows if split == "0"]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        image = Image.open(self.paths[index]).convert("RGB")
        left, top = (image.width - 128) // 2, (image.height - 128) // 2
        return to_tensor(image.crop((left, top, left + 128, top + 128)))


def open_data(name: str, folder: Path) -> Digits | Faces:
    """Training images of a workload."""
    return Faces(folder) if name.startswith("celeba") else Digits(folder)


# -- the model --------------------------------------------------------------------------------------------------------


def encoder_layers(workload: Workload) -> nn.Sequential:
    """Layers from images to features [B, F]."""
    if workload.hidden:
        return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(workload.image_shape)), workload.hidden), nn.ReLU())
    layers: list[nn.Module] = []
    widths = [workload.image_shape[0], *workload.channels]
    for i, stride in enumerate(workload.strides):
        layers += [nn.Conv2d(widths[i], widths[i + 1], 3, stride, 1), nn.ReLU()]
    return nn.Sequential(*(layers if workload.activate_last else layers[:-1]), nn.Flatten())


def decoder_layers(workload: Workload) -> nn.Sequential:
    """Layers from codes to images before the sigmoid."""
    if workload.hidden:
        layers = [nn.Linear(workload.latent_dim, workload.hidden), nn.ReLU()]
        last = nn.Linear(workload.hidden, int(np.prod(workload.image_shape)))
        return nn.Sequential(*layers, last, nn.Unflatten(1, workload.image_shape))
    layers = [nn.Linear(workload.latent_dim, int(np.prod(workload.bottleneck))), nn.Unflatten(1, workload.bottleneck)]
    widths = [*workload.channels[::-1], workload.image_shape[0]]
    for i, stride in enumerate(workload.strides[::-1]):
        layers += [nn.ConvTranspose2d(widths[i], widths[i + 1], 3, stride, 1, output_padding=stride - 1), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def num_features(workload: Workload) -> int:
    """Number of features of the encoder."""
    return workload.hidden or int(np.prod(workload.bottleneck))


class VAE(nn.Module):
    """Gaussian encoder, reparameterised sample, decoder."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.workload = workload
        self.encoder = encoder_layers(workload)
        self.to_mean = nn.Linear(num_features(workload), workload.latent_dim)
        self.to_log_var = nn.Linear(num_features(workload), workload.latent_dim)
        self.decoder = decoder_layers(workload)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and log-variance."""
        features = self.encoder(x)
        return self.to_mean(features), self.to_log_var(features)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction (logits for the mlp), posterior mean and log-variance."""
        mean, log_var = self.encode(x)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        decoded = self.decoder(z)
        return decoded if self.workload.hidden else torch.sigmoid(decoded), mean, log_var

    def loss(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, reconstruction loss and KL divergence, in nats per image."""
        x_hat, mean, log_var = self(x)
        if self.workload.hidden:
            reconstruction = F.binary_cross_entropy_with_logits(x_hat, x, reduction="sum") / len(x)
        else:
            reconstruction = ((x_hat - x) ** 2).sum(dim=(1, 2, 3)).mean()
        kl = (-0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(dim=1)).mean()
        return reconstruction + self.workload.beta * kl, reconstruction, kl


# -- timing -----------------------------------------------------------------------------------------------------------


class Clock:
    """Times the first step and, after a warm-up, the steady part of training."""

    def __init__(self, seconds: float, steps: int, warmup: float) -> None:
        self.seconds, self.max_steps, self.warmup = seconds, steps, warmup
        self.total = self.steps = self.images = 0
        self.first_step_at = self.first = self.began = self.ended = 0.0

    def tick(self, batch_size: int) -> bool:
        """Record the end of a step; return whether it was the last."""
        now = time.perf_counter()
        self.total += 1
        if self.total == 1:
            self.first_step_at, self.first = time.time() - STARTED, now
        if self.began:
            self.steps, self.images, self.ended = self.steps + 1, self.images + batch_size, now
        elif now - self.first >= self.warmup:
            self.began = now
        return self.total == self.max_steps or (self.began > 0 and now - self.began >= self.seconds)

    def report(self) -> dict[str, Any]:
        """Results of a training run."""
        seconds = self.ended - self.began if self.steps else 0.0
        return {
            "steps": self.steps,
            "seconds": seconds,
            "ms_per_step": 1000 * seconds / self.steps if seconds else None,
            "images_per_second": self.images / seconds if seconds else None,
            "first_step_at": self.first_step_at,
        }


def train(workload: Workload, data: Dataset, device: torch.device, clock: Clock) -> dict[str, Any]:
    """Train until the clock's budget is spent."""
    loader = DataLoader(data, batch_size=workload.batch_size, shuffle=True, num_workers=2)
    model = VAE(workload).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=workload.learning_rate)
    losses, reconstructions, kls = [], [], []
    while True:
        for x in loader:
            x = x.to(device)
            loss, reconstruction, kl = model.loss(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            reconstructions.append(reconstruction.item())
            kls.append(kl.item())
            if clock.tick(len(x)):
                return clock.report()


@torch.no_grad()
def encode(workload: Workload, data: Dataset, device: torch.device) -> dict[str, Any]:
    """Time the posteriors of all images."""
    model = VAE(workload).to(device).eval()
    began = time.perf_counter()
    means, log_vars = [], []
    for x in DataLoader(data, batch_size=EVAL_BATCH_SIZE, num_workers=2):
        mean, log_var = model.encode(x.to(device))
        means.append(mean.cpu())
        log_vars.append(log_var.cpu())
    codes = torch.cat(means), torch.cat(log_vars)
    return {"seconds": time.perf_counter() - began, "count": len(codes[0])}


@torch.no_grad()
def decode(workload: Workload, device: torch.device, count: int = 10_000) -> dict[str, Any]:
    """Time decoding ``count`` codes from the prior."""
    model = VAE(workload).to(device).eval()
    began = time.perf_counter()
    pictures = []
    for start in range(0, count, EVAL_BATCH_SIZE):
        z = torch.randn(min(EVAL_BATCH_SIZE, count - start), workload.latent_dim, device=device)
        pictures.append(torch.sigmoid(model.decoder(z)).cpu())
    return {"seconds": time.perf_counter() - began, "count": len(torch.cat(pictures))}


def parse(description: str) -> argparse.Namespace:
    """Parse the command line, which is the same for both rivals."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--task", choices=("train", "encode", "decode"), default="train")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of the steady part")
    parser.add_argument("--steps", type=int, default=0, help="stop after this many steps; 0: after --seconds")
    parser.add_argument("--warmup", type=float, default=2.0, help="seconds after the first step that are not timed")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return parser.parse_args()


def main() -> None:
    """Train, encode or decode, and print one line of JSON."""
    options = parse((__doc__ or "").splitlines()[0])
    workload, device = WORKLOADS[options.workload], torch.device(options.device)
    if options.task == "train":
        clock = Clock(options.seconds, options.steps, options.warmup)
        result = train(workload, open_data(options.workload, options.data), device, clock)
    elif options.task == "encode":
        result = encode(workload, open_data(options.workload, options.data), device)
    else:
        result = decode(workload, device)
    print(json.dumps({**result, "threads": torch.get_num_threads(), "torch": torch.__version__}))


if __name__ == "__main__":
    main()
