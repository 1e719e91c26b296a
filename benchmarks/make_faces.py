#!/usr/bin/env python
"""Write a generated data set in CelebA's layout: drawn faces with known attributes, for tests of edits and probes.

    python benchmarks/make_faces.py OUT --count 20000

Image i is a pure function of (seed, i). face_attributes.py draws its parameters and face_rendering.py renders them.
"""

import argparse
import io
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
from face_attributes import DRAWN, NAMES, attributes_of, draw_parameters
from face_rendering import VERSION, draw_face
from PIL import Image

FOLDER, ATTRIBUTES, PARTITION = "img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt"
SPLIT_ENDS = np.cumsum([162_770, 19_867, 19_962])
"""Cumulative sizes of CelebA's train, valid and test splits."""


def write_set(out: Path, count: int, seed: int, jobs: int, report: Callable[[str], None]) -> dict[str, float]:
    """Draw the images that ``out`` lacks and write the two lists; return attribute → fraction of faces that have it."""
    missing = find_missing(out, count, seed)
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    start = reported = time.monotonic()
    with ProcessPoolExecutor(jobs, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)) as pool:
        write = partial(_write_face, out / FOLDER, seed)
        for number, _ in enumerate(map(write, missing) if jobs == 1 else pool.map(write, missing, chunksize=32), 1):
            now = time.monotonic()
            if now - reported > 5 or number == len(missing):
                reported = now
                report(f"{number:,} of {len(missing):,} images drawn, {number / (now - start):.0f} per second")
    table = np.array([list(attributes_of(draw_parameters(seed, index)).values()) for index in range(1, count + 1)])
    lines = [
        f"{_name(index)} {' '.join(' 1' if value else '-1' for value in row)}" for index, row in enumerate(table, 1)
    ]
    parts = np.searchsorted(SPLIT_ENDS, np.arange(count) * SPLIT_ENDS[-1] // count, side="right")
    _write(out / PARTITION, "".join(f"{_name(index)} {part}\n" for index, part in enumerate(parts, 1)).encode())
    _write(out / ATTRIBUTES, "\n".join([str(count), " ".join(NAMES), *lines, ""]).encode())
    return dict(zip(NAMES, table.mean(0), strict=True))


def find_missing(out: Path, count: int, seed: int) -> list[int]:
    """Numbers of the images that ``out`` lacks; ValueError if it holds anything that is not of this set."""
    for folder, own in ((out, {FOLDER, ATTRIBUTES, PARTITION}), (out / FOLDER, set(map(_name, range(1, count + 1))))):
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is not a folder")
        others = [path.name for path in folder.glob("*") if path.name.removesuffix(".part") not in own]
        if others:
            raise ValueError(
                f"{folder} holds {min(others)}, which is not part of a set of {count:,} images; choose another folder"
            )
    missing = []
    for index in range(1, count + 1):
        path = out / FOLDER / _name(index)
        content = path.read_bytes() if path.exists() else b""
        if content and _comment(seed, index) not in content[:400]:
            raise ValueError(f"{path} was not written by this script with seed {seed}; choose another folder")
        if not content.endswith(b"\xff\xd9"):  # the end of a JPEG file
            missing.append(index)
    if len(missing) == count and ((out / ATTRIBUTES).exists() or (out / PARTITION).exists()):
        raise ValueError(f"{out} holds lists without their images; choose another folder")
    return missing


def _name(index: int) -> str:
    return f"{index:06d}.jpg"


def _comment(seed: int, index: int) -> bytes:
    return f"{VERSION}, seed {seed}, image {index:06d}".encode()


def _write_face(folder: Path, seed: int, index: int) -> None:
    file = io.BytesIO()
    Image.fromarray(draw_face(seed, index)[0]).save(file, "JPEG", quality=90, comment=_comment(seed, index))
    _write(folder / _name(index), file.getvalue())


def _write(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        description="Write a generated data set in CelebA's layout: drawn faces with known attributes. "
        "The same command resumes an interrupted one; a larger --count extends a set.",
        epilog=f"Drawn: {', '.join(sorted(DRAWN))}. CelebA's other attributes are -1 for all faces.",
    )
    parser.add_argument(
        "out", metavar="OUT", type=Path, help="a new or empty folder, or one that this script has written to"
    )
    parser.add_argument("--count", type=int, default=20_000, help="images, 20 to 999,999 (default 20,000)")
    parser.add_argument("--seed", type=int, default=0, help="image i depends only on the seed and i (default 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    options = parser.parse_args(arguments)
    if not 20 <= options.count <= 999_999 or options.seed < 0 or options.jobs < 1:
        parser.error("--count takes 20 to 999,999, --seed 0 or more, --jobs 1 or more")
    try:
        shares = write_set(options.out, options.count, options.seed, options.jobs, partial(print, file=sys.stderr))
    except (OSError, ValueError, BrokenProcessPool) as error:
        print(f"make_faces: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("make_faces: interrupted; the same command resumes", file=sys.stderr)
        return 130
    print(f"{options.count:,} images in {options.out}")
    print(f"drawn: {', '.join(f'{name} {share:.0%}' for name, share in shares.items() if name in DRAWN)}")
    print(f"not drawn, -1 for all faces: {', '.join(name for name in NAMES if name not in DRAWN)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
