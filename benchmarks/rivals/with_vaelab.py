"""Time vaelab's Python API: encode, decode, and decode CelebA's JPEGs into the cache.

python benchmarks/rivals/with_vaelab.py encode|decode RUN --data MNIST [--device cpu]
python benchmarks/rivals/with_vaelab.py cache FACES

measurements.py times training on the command line instead. The script prints one line of JSON.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

import vaelab
from vaelab.data.datasets.celeba import DATASET as CELEBA
from vaelab.data.datasets.mnist import DATASET as MNIST
from vaelab.models.codes import encode_images


def encode(model: vaelab.VAE, folder: Path) -> dict[str, Any]:
    """Time the posteriors of MNIST's training images."""
    images = MNIST.load(folder, "train")
    began = time.perf_counter()
    codes = encode_images(model, images)
    return {"seconds": time.perf_counter() - began, "count": len(codes.mean)}


def decode(model: vaelab.VAE, count: int = 10_000) -> dict[str, Any]:
    """Time decoding ``count`` codes from the prior."""
    began = time.perf_counter()
    pictures = model.sample(count, 0)
    return {"seconds": time.perf_counter() - began, "count": len(pictures)}


def cache(folder: Path) -> dict[str, Any]:
    """Time decoding the training and validation images into the cache."""
    began = time.perf_counter()
    count = len(CELEBA.load(folder, "train"))
    validation = len(CELEBA.load(folder, "valid"))
    return {"seconds": time.perf_counter() - began, "count": count, "validation": validation}


def main() -> None:
    """Run one task and print one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", choices=("encode", "decode", "cache"))
    parser.add_argument("place", type=Path, help="a run; for the task cache, a folder of CelebA")
    parser.add_argument("--data", type=Path, help="folder of MNIST, for the task encode")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.task == "cache":
        result = cache(options.place)
    else:
        model = vaelab.load(options.place).to(options.device)
        result = encode(model, options.data) if options.task == "encode" else decode(model)
    print(json.dumps({**result, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
