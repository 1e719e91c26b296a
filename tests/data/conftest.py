"""Fixtures of the tests of ``vaelab.data``."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cached import ProgressLog

from vaelab.system.progress import show_progress


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache; return the folder of its images."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vaelab" / "images"


@pytest.fixture
def log() -> Iterator[ProgressLog]:
    """Record progress."""
    found = ProgressLog()
    with show_progress(found):
        yield found
