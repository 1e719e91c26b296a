"""Encoding and decoding by vaelab's Python API, and the caching that precedes a first training on CelebA.

python benchmarks/rivals/with_vaelab.py encode|decode RUN --data MNIST [--device cpu]
python benchmarks/rivals/with_vaelab.py cache FACES

Training is timed on the command line instead (measures.py). Prints one line of JSON.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

import vaelab
from vaelab.data.datasets import celeba, mnist
from vaelab.models.codes import encode_images


def encode(model: vaelab.VAE, folder: Path) -> dict[str, Any]:
    """Seconds for the posteriors of MNIST's training images."""
    images = mnist.load(folder, "train")
    began = time.perf_counter()
    codes = encode_images(model, images)
    return {"seconds": time.perf_counter() - began, "count": len(codes.mean)}


def decode(model: vaelab.VAE, count: int = 10_000) -> dict[str, Any]:
    """Seconds for ``count`` images of codes from the prior."""
    began = time.perf_counter()
    pictures = model.sample(count, 0)
    return {"seconds": time.perf_counter() - began, "count": len(pictures)}


def cache(folder: Path) -> dict[str, Any]:
    """Seconds until the images that a training needs, training and validation, lie decoded in the cache."""
    began = time.perf_counter()
    count = len(celeba.load(folder, "train"))
    validation = len(celeba.load(folder, "valid"))
    return {"seconds": time.perf_counter() - began, "count": count, "validation": validation}


def main() -> None:
    """One of the three."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("encode", "decode", "cache"))
    parser.add_argument("place", type=Path, help="a run; to cache, a folder of CelebA")
    parser.add_argument("--data", type=Path, help="MNIST, to encode it")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.what == "cache":
        result = cache(options.place)
    else:
        model = vaelab.load(options.place).to(options.device)
        result = encode(model, options.data) if options.what == "encode" else decode(model)
    print(json.dumps({**result, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
