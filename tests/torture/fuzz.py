"""Damaged files of every kind that vaelab reads, as input of the commands that read them.

A command may succeed, or end with exit code 1 or 2 and a line that names the file. It may not show a traceback, be
killed, hang, take more than MEMORY bytes, or write outside its folder. A damaged cache must not change a result.
"""

import shutil
from dataclasses import dataclass
from functools import partial

import numpy as np

from .campaign import Campaign, Failed
from .children import Limits
from .materials import MATERIALS, stop_in_the_middle
from .mutations import mutate
from .workloads import TINY, Stage

MEMORY = 1500 << 20
"""Bytes of address space for a command, in addition to those of Python, torch and other libraries."""
SECONDS = 60.0
VALUES = (".toml", ".json")
OWN = ("train", "folder", "--data", "pictures", "--set", "data.size=8", *TINY)


@dataclass(frozen=True)
class Target:
    """Files that are damaged, and the commands that read them."""

    files: tuple[str, ...]
    """Patterns in the stage's folder."""
    commands: tuple[tuple[str, ...], ...]
    same: str = ""
    """A file that must equal that of an undisturbed command if the command succeeds."""
    is_named: bool = True
    """Whether an error must name the file; in folders of pictures, damaged ones are counted instead."""


TARGETS = {
    "recipe": Target(("recipe.toml",), (("train", "recipe.toml", "--dry-run"),), is_named=False),
    "run": Target(
        ("run/*.toml", "run/*.json", "run/*.csv", "run/*.safetensors", "run/cache/*"),
        (
            ("report", "run"),
            ("doctor", "run"),
            ("evaluate", "run", "--metrics", "elbo,active_units"),
            ("figures", "run", "--only", "losses"),
            ("compare", "run", "other", "--out", "compared"),
            ("sample", "run", "--out", "samples.png"),
            ("encode", "run", "images.npy", "--out", "codes.csv"),
            ("train", "digits", *TINY, "--run", "run"),
            ("export", "run", "site", "--to", "web", "--points", "20"),
        ),
    ),
    "model": Target(("run/model.safetensors",), (("sample", "run/model.safetensors", "--out", "samples.png"),)),
    "resume": Target(
        ("half/*.toml", "half/*.json", "half/*.csv", "half/*.log", "half/checkpoints/*"),
        (("train", "digits", *TINY, "--run", "half"),),
    ),
    "cache": Target(("cache/vaelab/**/*",), ((*OWN, "--run", "again"),), same="again/history.csv"),
    "npy": Target(
        ("images.npy",),
        (
            ("encode", "run", "images.npy", "--out", "codes.csv"),
            ("score", "run", "images.npy", "--out", "scores.csv"),
            ("reconstruct", "run", "images.npy", "--out", "rebuilt.png"),
        ),
    ),
    "npz": Target(("several.npz",), (("encode", "run", "several.npz", "--out", "codes.csv"),)),
    "factors": Target(
        ("factors.npz",),
        (("data", "check", "factors.npz"), ("train", "factors.toml", "--data", "factors.npz", *TINY, "--run", "new")),
    ),
    "zip": Target(
        ("pictures.zip",),
        (
            ("data", "check", "pictures.zip"),
            ("encode", "run", "pictures.zip", "--out", "codes.csv"),
            ("data", "cache", "pictures.zip", "--set", "data.size=16"),
        ),
        is_named=False,
    ),
    "picture": Target(
        ("faces/*/*",),
        (
            ("data", "check", "faces"),
            ("encode", "run", "faces", "--out", "codes.csv"),
            ("data", "cache", "faces", "--set", "data.size=16"),
        ),
        is_named=False,
    ),
    "idx": Target(
        ("mnist/*",), (("data", "check", "mnist"), ("train", "mnist", "--data", "mnist", *TINY, "--run", "new"))
    ),
    "parquet": Target(("hub/*",), (("data", "check", "hub"), ("data", "cache", "hub", "--as", "celeba"))),
    "celeba": Target(("celeba/*.txt",), (("data", "check", "celeba"), ("data", "cache", "celeba"))),
}


def run(campaign: Campaign, stage: Stage) -> None:
    """Damage one file after the other, the kinds in turn."""
    stage = prepare(stage)
    for label, name, _ in campaign.cases([name for name in TARGETS if campaign.allows(name)], lambda _: None):
        campaign.run(label, partial(_play, campaign, stage, label, TARGETS[name]), stage.folder)


def prepare(plain: Stage) -> Stage:
    """A stage with runs, a half-trained one, a cache, and one file of each kind."""
    plain.prepare()
    plain.refill()
    stage = Stage(plain.folder.parent, plain.outputs, "damaged")
    random = np.random.default_rng(1)
    for name, write in MATERIALS.items():
        write(stage.folder / name, random)
    stage.expect(stage.run((*OWN, "--run", "own")), (0,))
    shutil.copytree(stage.folder / "run", stage.folder / "half")
    stop_in_the_middle(stage.folder / "half")
    stage.keep_as_template()
    return stage


def _play(campaign: Campaign, stage: Stage, label: str, target: Target) -> None:
    random = campaign.random(label)
    stage.refill()
    files = sorted(path for pattern in target.files for path in stage.folder.glob(pattern) if path.is_file())
    damaged = random.choice([path for path in files if path.suffix != ".lock"])
    what = mutate(damaged, random)
    if random.random() < 0.2 and damaged.is_file():
        what += f" and {mutate(damaged, random)}"
    words = random.choice(target.commands)
    ended = stage.run(words, limits=Limits(seconds=SECONDS, memory=MEMORY))
    campaign.counts[{0: "succeeded"}.get(ended.code, "refused with one line")] += 1
    campaign.note_largest("most memory of a case, MB", ended.peak / 1e6)
    campaign.note_largest("longest case, s", ended.seconds)
    try:
        stage.expect(ended, (0, 1, 2))
        said = ended.out + ended.err
        # an error about a readable but changed value, or a missing file, may name the folder
        names = {damaged.name, *([damaged.parent.name] if damaged.suffix in VALUES or not damaged.is_file() else [])}
        if ended.code and target.is_named and not any(name in said for name in names):
            raise Failed(f"the error does not name {damaged.name}: {ended.err.strip()[-300:]}")
        if ended.code == 0 and target.same:
            own = (stage.folder / "own" / "history.csv").read_bytes()
            if (stage.folder / target.same).read_bytes() != own:
                raise Failed(f"{target.same} has changed without a message")
        if (stage.folder.parent / "outside.png").exists():
            raise Failed("a file was written outside the folder")
    except Failed as error:
        where = damaged.relative_to(stage.folder)
        raise Failed(f"{where} ({what}), vaelab {' '.join(words[:3])}: {error}") from None
