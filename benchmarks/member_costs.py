"""Measure the time of a training step with every member of a model beside that of the plain VAE.

python benchmarks/member_costs.py [--repeats 7] [--steps 20] [--device cpu] [--threads 1] [--json OUT] [NAME …]

The plain VAE has the network conv with 16 latents, a diagonal posterior, the prior N(0, I), a Gaussian likelihood and
the objective elbo. The images are random grey pixels of 28×28 in batches of 32. Every candidate changes one of these
and keeps the defaults of the member, with a prior or a posterior that fits. In each repetition the steps of a candidate
follow those of the plain VAE, in another order each time. The ratio of such a pair is the result; the table shows the
median and the range. NAME, such as posterior=vq, measures only these.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from paired import paired_ratios, rotate, spread
from timing import UNLIMITED_STEPS, random_pixels

from vaelab import recipe as recipes
from vaelab.build import build
from vaelab.data.images import Images
from vaelab.data.loader import Batches
from vaelab.recipe import SECTIONS, ResolvedRecipe
from vaelab.system import registry
from vaelab.system.device import describe_machine, deterministic, resolve_device, resolve_precision
from vaelab.system.errors import InputError
from vaelab.system.machine import now
from vaelab.training.settings import make_settings
from vaelab.training.state import create_state
from vaelab.training.step import make_steps

VARIED = ("network", "posterior", "prior", "likelihood", "objective")
IMAGES, SHAPE, LATENTS, BATCH_SIZE, WARMUP_STEPS = 2048, (1, 28, 28), 16, 32, 3
Stepper = Callable[[], float]
"""Takes some steps and returns the seconds of one."""


def list_candidates() -> dict[str, dict[str, str]]:
    """Return "section=member" → overrides of the plain recipe, for every member but those of the plain VAE."""
    found = {}
    for section in VARIED:
        for name in registry.names(SECTIONS[section].folder):
            if name != SECTIONS[section].default:
                found[f"{section}={name}"] = {f"{section}.name": name, **_find_partner(section, name)}
    return found


def _find_partner(section: str, name: str) -> dict[str, str]:
    """Return the prior for a posterior, or the posterior for a prior, if that of the plain VAE does not fit."""
    other = {"posterior": "prior", "prior": "posterior"}.get(section)
    if other is None:
        return {}
    members = [SECTIONS[other].default, *registry.names(SECTIONS[other].folder)]
    for member in members:
        posterior, prior = (name, member) if section == "posterior" else (member, name)
        if _load("prior", prior).needs <= _load("posterior", posterior).provides:
            return {} if member == SECTIONS[other].default else {f"{other}.name": str(member)}
    raise AssertionError(f"no {other} fits the {section} {name}")


def _load(section: str, name: Any) -> Any:
    return getattr(registry.load(SECTIONS[section].folder, name), SECTIONS[section].makers[0])


def make_recipe(overrides: dict[str, str]) -> ResolvedRecipe:
    """The plain recipe with overrides, without validation and without a last step."""
    training = {"batch_size": BATCH_SIZE, "steps": UNLIMITED_STEPS, "validate_every": 0}
    plain = {"data": {"name": "mnist"}, "network": {"latent_dim": LATENTS}, "training": training}
    return recipes.validate(recipes.merge(plain, overrides), "members").resolve(SHAPE, IMAGES)


def make_stepper(overrides: dict[str, str], images: Images, steps: int, device: str, threads: int) -> Stepper:
    """Return what times ``steps`` training steps on ``images``, after the first ones."""
    resolved, place = make_recipe(overrides), resolve_device(device)
    precision = resolve_precision(resolved.training.precision, place)
    settings = make_settings(resolved, precision=precision, threads=threads, shuffle_buffer=0)
    state = create_state(*build(resolved), settings, place)
    state.vae.train()
    stepper = make_steps(state, Batches(images, BATCH_SIZE, 0, place), settings)

    def take(count: int) -> float:
        with deterministic(place, precision, threads):
            start = time.perf_counter()
            for _ in range(count):
                terms = stepper.take(state.step)
                state.step += 1
            float(terms[0])  # waits for the device
            return (time.perf_counter() - start) / count

    take(WARMUP_STEPS)
    return lambda: take(steps)


def measure(
    candidates: dict[str, dict[str, str]], repeats: int, steps: int, device: str, threads: int
) -> dict[str, Any]:
    """Return name → seconds per step of it and of the plain VAE before it, or why it cannot be measured."""
    images, steppers, found = Images(random_pixels(IMAGES, SHAPE)), dict[str, Stepper](), dict[str, Any]()
    plain = make_stepper({}, images, steps, device, threads)
    for name, overrides in candidates.items():
        try:
            steppers[name] = make_stepper(overrides, images, steps, device, threads)
            found[name] = {"overrides": overrides, "plain": [], "seconds": []}
        except InputError as error:  # an extra is not installed
            found[name] = {"overrides": overrides, "skipped": str(error)}
    for repetition in range(repeats):
        for name in rotate(list(steppers), repetition * max(1, len(steppers) // repeats)):
            found[name]["plain"].append(plain())
            found[name]["seconds"].append(steppers[name]())
    return found


def describe(found: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table: median ratio to the plain VAE and range, the slowest last."""
    lines = ["| member | with | time of a step, plain VAE = 1 | ms |", "| --- | --- | --- | --- |"]
    rows = []
    for name, each in found.items():
        partner = ", ".join(value for key, value in list(each["overrides"].items())[1:])
        if "skipped" in each:
            rows.append((0.0, f"| `{name}` | {partner} | not measured: {each['skipped']} | |"))
            continue
        ratios, seconds = spread(paired_ratios(each["seconds"], each["plain"])), spread(each["seconds"])
        assert ratios is not None
        assert seconds is not None
        cell = f"{ratios.median:.2f} ({ratios.lowest:.2f} to {ratios.highest:.2f})"
        rows.append((ratios.median, f"| `{name}` | {partner} | {cell} | {1000 * seconds.median:.1f} |"))
    return [*lines, *(row for _, row in sorted(rows))]


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="section=member (default: all)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(words)
    candidates = list_candidates()
    if unknown := [name for name in given.names if name not in candidates]:
        parser.error(f"unknown {', '.join(unknown)}; valid: {', '.join(candidates)}")
    chosen = {name: candidates[name] for name in given.names or candidates}
    found = measure(chosen, given.repeats, given.steps, given.device, given.threads)
    print("\n".join(describe(found)))
    if given.json:
        facts = {"machine": describe_machine(resolve_device(given.device)), "date": now(), "steps": given.steps}
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps({**facts, "members": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
