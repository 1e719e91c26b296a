"""The usual PyTorch script for a VAE, as tutorials have it: the first of the rivals that vaelab is timed against.

python benchmarks/rivals/plain.py mnist --data MNIST [--what train|encode|decode] [--seconds 8 | --steps N]

A Dataset that makes one PIL image a tensor at a time, a DataLoader with two workers, nn.Sequential, Adam, three .item()
a batch. Knows nothing of vaelab: what `WORKS` says is held against vaelab's recipes by tests/benchmarks. Prints
one line of JSON at its end.
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
"""When the process was started, as time.time() has it; whoever starts it knows best."""
LARGE_BATCH = 512
"""Images or codes that go through the network at once where nothing is trained."""


@dataclass(frozen=True)
class Work:
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
    """Units of the one hidden layer of a fully connected network; 0: convolutions."""

    @property
    def bottleneck(self) -> tuple[int, int, int]:
        """Channels, height and width after the last convolution."""
        shrink = int(np.prod(self.strides))
        return self.channels[-1], self.image_shape[1] // shrink, self.image_shape[2] // shrink


WORKS = {
    "mnist": Work((1, 28, 28), 2, 0.0005, channels=(32, 64, 64, 64), strides=(1, 2, 2, 1)),
    "celeba": Work((3, 128, 128), 200, 0.0001, channels=(32, 64, 64, 64), strides=(2, 2, 2, 2)),
    "celeba-beta": Work(
        (3, 128, 128),
        400,
        0.0001,
        beta=5.0,
        channels=(32, 64, 128, 256, 256),
        strides=(2, 2, 2, 2, 2),
        activate_last=True,
    ),
    "mlp": Work((1, 28, 28), 20, 0.001, batch_size=128, hidden=400),
}


# -- data -------------------------------------------------------------------------------------------------------------


def to_tensor(image: Image.Image) -> Tensor:
    """A PIL image as float [C, H, W] in [0, 1], by the same steps as torchvision's function of this name."""
    pixels = torch.from_numpy(np.array(image)).view(image.height, image.width, -1)
    return pixels.permute(2, 0, 1).contiguous().float().div(255)


def read_idx(folder: Path) -> np.ndarray:
    """MNIST's training images, uint8 [60000, 28, 28], from the idx file, gzipped or not."""
    path = next(folder.rglob("train-images*idx3-ubyte*"))
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    shape = np.frombuffer(content, ">u4", 3, 4)
    return np.frombuffer(content, np.uint8, offset=16).reshape(shape)


class Digits(Dataset):
    """MNIST, an image at a time through PIL, as torchvision's class does it."""

    def __init__(self, folder: Path) -> None:
        self.images = read_idx(folder)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return to_tensor(Image.fromarray(self.images[index]))


class Faces(Dataset):
    """The training partition of CelebA, the middle 128×128 pixels of the JPEG of each face."""

    def __init__(self, folder: Path) -> None:
        lines = (line.split() for line in (folder / "list_eval_partition.txt").read_text().splitlines())
        self.paths = [folder / "img_align_celeba" / name for name, part in lines if part == "0"]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        image = Image.open(self.paths[index]).convert("RGB")
        left, top = (image.width - 128) // 2, (image.height - 128) // 2
        return to_tensor(image.crop((left, top, left + 128, top + 128)))


def open_data(name: str, folder: Path) -> Digits | Faces:
    """The training images of a work."""
    return Faces(folder) if name.startswith("celeba") else Digits(folder)


# -- the model --------------------------------------------------------------------------------------------------------


def encoder_layers(work: Work) -> nn.Sequential:
    """From images to features [B, F]."""
    if work.hidden:
        return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(work.image_shape)), work.hidden), nn.ReLU())
    layers: list[nn.Module] = []
    widths = [work.image_shape[0], *work.channels]
    for i, stride in enumerate(work.strides):
        layers += [nn.Conv2d(widths[i], widths[i + 1], 3, stride, 1), nn.ReLU()]
    return nn.Sequential(*(layers if work.activate_last else layers[:-1]), nn.Flatten())


def decoder_layers(work: Work) -> nn.Sequential:
    """From codes to images before the sigmoid."""
    if work.hidden:
        layers = [nn.Linear(work.latent_dim, work.hidden), nn.ReLU()]
        last = nn.Linear(work.hidden, int(np.prod(work.image_shape)))
        return nn.Sequential(*layers, last, nn.Unflatten(1, work.image_shape))
    layers = [nn.Linear(work.latent_dim, int(np.prod(work.bottleneck))), nn.Unflatten(1, work.bottleneck)]
    widths = [*work.channels[::-1], work.image_shape[0]]
    for i, stride in enumerate(work.strides[::-1]):
        layers += [nn.ConvTranspose2d(widths[i], widths[i + 1], 3, stride, 1, output_padding=stride - 1), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def num_features(work: Work) -> int:
    """Features that the encoder's layers give."""
    return work.hidden or int(np.prod(work.bottleneck))


class VAE(nn.Module):
    """Encoder, reparameterisation, decoder."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work
        self.encoder = encoder_layers(work)
        self.to_mean = nn.Linear(num_features(work), work.latent_dim)
        self.to_log_var = nn.Linear(num_features(work), work.latent_dim)
        self.decoder = decoder_layers(work)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance."""
        features = self.encoder(x)
        return self.to_mean(features), self.to_log_var(features)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction (its logits for the mlp), mean, log-variance."""
        mean, log_var = self.encode(x)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        decoded = self.decoder(z)
        return decoded if self.work.hidden else torch.sigmoid(decoded), mean, log_var

    def loss(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, reconstruction loss, KL divergence."""
        x_hat, mean, log_var = self(x)
        if self.work.hidden:
            reconstruction = F.binary_cross_entropy_with_logits(x_hat, x, reduction="sum") / len(x)
        else:
            reconstruction = ((x_hat - x) ** 2).sum(dim=(1, 2, 3)).mean()
        kl = (-0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(dim=1)).mean()
        return reconstruction + self.work.beta * kl, reconstruction, kl


# -- timing -----------------------------------------------------------------------------------------------------------


class Clock:
    """Times steps: the first by itself, then a warm-up, then the steady part until the budget is spent."""

    def __init__(self, seconds: float, steps: int, warm: float) -> None:
        self.seconds, self.max_steps, self.warm = seconds, steps, warm
        self.total = self.steps = self.images = 0
        self.first_step_at = self.first = self.began = self.ended = 0.0

    def tick(self, batch_size: int) -> bool:
        """Count a step that has just ended; true when it was the last."""
        now = time.perf_counter()
        self.total += 1
        if self.total == 1:
            self.first_step_at, self.first = time.time() - STARTED, now
        if self.began:
            self.steps, self.images, self.ended = self.steps + 1, self.images + batch_size, now
        elif now - self.first >= self.warm:
            self.began = now
        return self.total == self.max_steps or (self.began > 0 and now - self.began >= self.seconds)

    def report(self) -> dict[str, Any]:
        """What the line of JSON says of a training."""
        seconds = self.ended - self.began if self.steps else 0.0
        rate = self.images / seconds if seconds else None
        step = 1000 * seconds / self.steps if seconds else None
        return {
            "steps": self.steps,
            "seconds": seconds,
            "ms_per_step": step,
            "images_per_second": rate,
            "first_step_at": self.first_step_at,
        }


def train(work: Work, data: Dataset, device: torch.device, clock: Clock) -> dict[str, Any]:
    """Train until the clock says stop."""
    loader = DataLoader(data, batch_size=work.batch_size, shuffle=True, num_workers=2)
    model = VAE(work).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=work.learning_rate)
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
def encode(work: Work, data: Dataset, device: torch.device) -> dict[str, Any]:
    """Seconds for the posteriors of all images."""
    model = VAE(work).to(device).eval()
    began = time.perf_counter()
    means, log_vars = [], []
    for x in DataLoader(data, batch_size=LARGE_BATCH, num_workers=2):
        mean, log_var = model.encode(x.to(device))
        means.append(mean.cpu())
        log_vars.append(log_var.cpu())
    codes = torch.cat(means), torch.cat(log_vars)
    return {"seconds": time.perf_counter() - began, "count": len(codes[0])}


@torch.no_grad()
def decode(work: Work, device: torch.device, count: int = 10_000) -> dict[str, Any]:
    """Seconds for ``count`` images of codes from the prior."""
    model = VAE(work).to(device).eval()
    began = time.perf_counter()
    pictures = []
    for start in range(0, count, LARGE_BATCH):
        z = torch.randn(min(LARGE_BATCH, count - start), work.latent_dim, device=device)
        pictures.append(torch.sigmoid(model.decoder(z)).cpu())
    return {"seconds": time.perf_counter() - began, "count": len(torch.cat(pictures))}


def parse(description: str) -> argparse.Namespace:
    """The command line that both rivals have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--what", choices=("train", "encode", "decode"), default="train")
    parser.add_argument("--seconds", type=float, default=8.0, help="of the steady part")
    parser.add_argument("--steps", type=int, default=0, help="end after so many steps, warm or not; 0: by --seconds")
    parser.add_argument("--warm", type=float, default=2.0, help="seconds after the first step that do not count")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return parser.parse_args()


def main() -> None:
    """Train, encode or decode; print one line of JSON."""
    options = parse((__doc__ or "").splitlines()[0])
    work, device = WORKS[options.work], torch.device(options.device)
    if options.what == "train":
        clock = Clock(options.seconds, options.steps, options.warm)
        result = train(work, open_data(options.work, options.data), device, clock)
    elif options.what == "encode":
        result = encode(work, open_data(options.work, options.data), device)
    else:
        result = decode(work, device)
    print(json.dumps({**result, "threads": torch.get_num_threads(), "torch": torch.__version__}))


if __name__ == "__main__":
    main()
