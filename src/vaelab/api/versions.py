"""``vaelab --version --verbose``: what a bug report needs."""

import os
import re
from importlib.metadata import requires
from pathlib import Path

import torch

from vaelab.system.device import describe_machine, find_devices, resolve_device
from vaelab.system.machine import find_version
from vaelab.system.paths import cache_dir

NAME = re.compile(r"[\w.-]+")


def versions() -> dict[str, str]:
    """Return the versions of vaelab, Python and every package that vaelab uses, and a description of this machine.

    Paths in the home folder begin with ``~``; the result contains no other personal data.
    """
    facts = {key: str(value) for key, value in describe_machine(resolve_device("auto")).items()}
    names = dict.fromkeys(
        NAME.findall(line)[0] for line in requires("vaelab") or [] if "dev" not in line.partition(";")[2]
    )
    packages = {name: find_version(name) for name in names if name not in ("vaelab", *facts)}
    return {
        "vaelab": facts.pop("vaelab"),
        **facts,
        "devices": ", ".join(find_devices()),
        "CUDA of torch": str(torch.version.cuda or "none"),
        "installed in": _shorten(Path(__file__).parents[1]),
        "cache": _shorten(cache_dir()),
        "VAELAB_DATA": _shorten(Path(given)) if (given := os.environ.get("VAELAB_DATA")) else "not set",
        **packages,
    }


def _shorten(path: Path) -> str:
    """Return a path with ``~`` for the home folder."""
    home = Path.home()
    return str(Path("~") / path.relative_to(home)) if path.is_relative_to(home) else str(path)
