"""Folders of data and caches."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """The user's cache for vaelab: ``$XDG_CACHE_HOME/vaelab`` or what the system uses instead."""
    import pooch

    return Path(pooch.os_cache("vaelab"))


def data_roots(data_dir: Path | None) -> list[Path]:
    """The folders to search, in order: the one given and it alone; else ``$VAELAB_DATA``, then the user's cache."""
    if data_dir is not None:
        if not data_dir.exists():
            raise FileNotFoundError(f"{data_dir}: no such folder (given as the place of the data)")
        return [data_dir]
    given = os.environ.get("VAELAB_DATA")
    if given and not Path(given).exists():
        raise FileNotFoundError(f"{given}: no such folder (named by $VAELAB_DATA)")
    return ([Path(given)] if given else []) + [cache_dir()]
