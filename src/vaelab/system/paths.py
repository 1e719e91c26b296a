"""Folders of data and caches, and paths in pages for other people."""

import os
import shlex
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """Return the user's cache of vaelab: ``$XDG_CACHE_HOME/vaelab`` or the equivalent of the system."""
    return Path(platformdirs.user_cache_dir("vaelab"))


def data_roots(data_dir: Path | None) -> list[Path]:
    """Return the folders to search for data: only ``data_dir`` if given, else ``$VAELAB_DATA`` and the user's cache."""
    if data_dir is not None:
        if not data_dir.exists():
            raise FileNotFoundError(f"{data_dir}: no such folder (given as the path of the data)")
        return [data_dir]
    given = os.environ.get("VAELAB_DATA")
    if given and not Path(given).exists():
        raise FileNotFoundError(f"{given}: no such folder (named by $VAELAB_DATA)")
    return ([Path(given)] if given else []) + [cache_dir()]


def name_for_people(path: Path) -> str:
    """Return a path for commands in a page, quoted: relative to the working directory, else the name alone."""
    absolute, here = path.resolve(), Path.cwd()
    return shlex.quote(
        str(absolute.relative_to(here)) if absolute != here and absolute.is_relative_to(here) else absolute.name
    )
