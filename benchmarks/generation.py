"""Measure what improves reconstructions and samples: a plain VAE, one change at a time, and the preset folder.

python benchmarks/generation.py JSON --set-name portraits --data PATH [--name folder] [--rows plain vamp …] [--seeds 0]
    [--steps 1500] [--threads 1] [--runs build/generation]

Every row is trained for the same number of steps, or with --steps 0 as long as its preset, then measured on the
held-out images. Each of its samplers gets the sliced Wasserstein distance, the Fréchet distance of features, precision
and recall. JSON has one entry for each set, row, length and seed. Only samplers that an entry lacks are measured, so
the same command continues an interrupted one. Time nothing else beside it if the seconds matter.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import vaelab
from vaelab.system.files import to_json, write_atomic
from vaelab.system.machine import now

PLAIN = {
    "objective.name": "beta",
    "objective.beta": "auto",
    "likelihood.variance": 0.5,
    "network.kernel": 3,
    "sampler.name": "prior",
}
"""The preset folder as it was before it compared edges."""
PERCEPTUAL = {"objective.name": "perceptual", "objective.weight": 1.0}
SMOOTH = {"network.kernel": 4}
"""A kernel that is a multiple of the stride, so that transposed convolutions leave less of a checkerboard."""
GRID = {
    "network.name": "residual",
    "network.latents": "spatial",
    "network.channels": [32, 64],
    "network.strides": [2, 2],
}
"""A grid with a quarter of the image's sides, as in VQ-VAE (1711.00937)."""
SIDES = {"mnist": 28, "fashion": 28}
"""Side length of the images of a set, if it is not 64."""
ALL = ("prior", "gmm", "two_stage", "aggregate", "flow")


@dataclass(frozen=True)
class Row:
    """Overrides of the plain VAE or of a preset, and the samplers that fit its codes."""

    overrides: Mapping[str, Any] = field(default_factory=dict)
    samplers: Sequence[str] = ("prior", "gmm")
    preset: str = ""
    latents_per_position: int = 0
    """Latents at each position of the grid of ``GRID`` (0: those of the preset)."""


ROWS = {
    "folder": Row(preset="folder"),
    "folder-best": Row(preset="folder-best"),
    "folder-vamp": Row({"prior.name": "vamp", "prior.components": 100}, preset="folder"),
    "folder-iaf": Row({"posterior.name": "iaf"}, preset="folder"),
    "folder-residual": Row({"network.name": "residual"}, preset="folder"),
    "folder-optimal": Row({"likelihood.name": "optimal_gaussian"}, preset="folder"),
    "plain": Row(samplers=ALL),
    "mlp": Row({"network.name": "mlp"}),
    "residual": Row({"network.name": "residual"}),
    "kernel4": Row(SMOOTH),
    "variance": Row({"likelihood.variance": 0.05}),
    "optimal": Row({"likelihood.name": "optimal_gaussian"}),
    "logistic": Row({"likelihood.name": "discretised_logistic"}),
    "bernoulli": Row({"likelihood.name": "bernoulli"}),
    "vamp": Row({"prior.name": "vamp", "prior.components": 100}),
    "mixture": Row({"prior.name": "mixture"}),
    "iaf": Row({"posterior.name": "iaf"}),
    "vq": Row(
        {
            **GRID,
            "posterior.name": "vq",
            "posterior.code_dim": 4,
            "prior.name": "uniform",
            "sampler.name": "autoregressive",
        },
        samplers=("autoregressive",),
        latents_per_position=4,
    ),
    "wae": Row({"objective.name": "wae", "posterior.name": "constant_variance"}),
    "msssim": Row({"objective.name": "msssim"}),
    "adversarial": Row({"objective.name": "adversarial"}),
    "perceptual": Row(PERCEPTUAL),
    "perceptual-kernel4": Row(PERCEPTUAL | SMOOTH),
    "perceptual3-kernel4": Row(PERCEPTUAL | SMOOTH | {"objective.weight": 3.0}, ALL),
    "perceptual3-residual": Row({**PERCEPTUAL, "network.name": "residual", "objective.weight": 3.0}),
    "perceptual10-kernel4": Row(PERCEPTUAL | SMOOTH | {"objective.weight": 10.0}),
}
METRICS = ("elbo", "reconstruction", "sliced_wasserstein", "fid", "precision_recall")
ONCE = {"elbo": ("elbo", "kl"), "reconstruction": ("psnr_mean_over_finite", "ssim")}
"""Metric → its numbers that do not depend on the sampler."""


def choose_overrides(row: Row) -> dict[str, Any]:
    """Return the overrides of the preset that give a row."""
    if row.preset:
        return dict(row.overrides)
    replaced = {key.split(".")[0] for key in row.overrides if key.endswith(".name")}
    plain = {key: value for key, value in PLAIN.items() if key.split(".")[0] not in replaced}
    return {**plain, **row.overrides}


def train(name: str, args: argparse.Namespace, seed: int) -> tuple[vaelab.Run, float]:
    """Train one row and return its run and the seconds of its steps."""
    target, row = args.runs / f"{args.set_name}-{name}-{args.steps}-{seed}", ROWS[name]
    settings = {"training.threads": args.threads, "training.figures": ["losses"], **choose_overrides(row)}
    settings |= {"data.name": args.name} if args.name else {}
    if row.latents_per_position:
        positions = (SIDES.get(args.set_name, 64) // 4) ** 2
        settings["network.latent_dim"] = row.latents_per_position * positions
    settings |= {"training.steps": args.steps} if args.steps else {}
    preset = row.preset or "folder"
    run = vaelab.train(preset, settings, data=args.data, run=target, seed=seed, progress=False)
    return run, run.measured()["seconds"]


def measure(run: vaelab.Run, samplers: Sequence[str], data: Path, samples: int) -> dict[str, Any]:
    """Return the numbers of a run, those of samples for each sampler."""
    found: dict[str, Any] = {"samplers": {}}
    limits = {f"{name}.samples": samples for name in ("sliced_wasserstein", "fid", "precision_recall")}
    for sampler in samplers:
        begun = time.perf_counter()
        every = vaelab.evaluate(run, data=data, metrics=METRICS, set={"sampler.name": sampler, **limits}).results
        for metric, keys in ONCE.items():
            found |= {key: every[metric][key] for key in keys}
        distance, features = every["sliced_wasserstein"], every["fid"]
        found |= {key: distance[key] for key in ("reconstruction_swd", "training_swd")}
        extracted = next(key for key in features if key in ("fid", "fd_classifier", "fd_pca"))
        found["samplers"][sampler] = {
            "swd": distance["swd"],
            "levels": [value for key, value in sorted(distance.items()) if key.startswith("swd_level_")],
            extracted: features[extracted],
            **{key: every["precision_recall"][key] for key in ("precision", "recall")},
            "seconds": time.perf_counter() - begun,
        }
    return found


def main() -> None:
    """Measure the rows that are asked for and write each as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path)
    parser.add_argument("--set-name", required=True, help="name of the images in the table")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--name", default="", help="data.name, if it is not that of the preset")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=ROWS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=1500, help="0: as many as the preset has")
    parser.add_argument("--samples", type=int, default=2000, help="most samples for a distance")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("build/generation"))
    args = parser.parse_args()
    for seed in args.seeds:
        for name in args.rows:
            key = f"{args.set_name}/{name}/{args.steps}/{seed}"
            known = read(args.json).get(key, {"samplers": {}})
            if not (missing := [sampler for sampler in ROWS[name].samplers if sampler not in known["samplers"]]):
                continue
            run, seconds = train(name, args, seed)
            facts = {
                "set": args.set_name,
                "row": name,
                "steps": int(run.history["step"][-1]),
                "seed": seed,
                "finished": now(),
            }
            found = {**facts, "seconds": seconds, **measure(run, missing, args.data, args.samples)}
            found["samplers"] = known["samplers"] | found["samplers"]
            write_atomic(args.json, to_json(read(args.json) | {key: found}))
            best = {sampler: round(each["swd"]) for sampler, each in found["samplers"].items()}
            print(f"{key}: SWD {best}, PSNR {found['psnr_mean_over_finite']:.2f}, {seconds:.0f} s", flush=True)


def read(path: Path) -> dict[str, Any]:
    """Entries measured so far."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


if __name__ == "__main__":
    main()
