"""Facts in the user's cache that can be found again: files of JSON with a checksum."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from vaelab.system.files import read_json, to_json, write_atomic
from vaelab.system.paths import cache_dir

DIGITS = 20
"""Hexadecimal digits of the SHA-256 of a key in the name of its file."""


def memo_path(kind: str, key: Mapping[str, Any], prefix: str = "") -> Path:
    """Return the file in the folder ``kind`` of the cache that holds what is known for a key, which is JSON."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache_dir() / kind / f"{prefix}{digest[:DIGITS]}.json"


def read_memo(path: Path) -> dict[str, Any] | None:
    """Return the facts in a file; None if it is missing or damaged."""
    with suppress(OSError, ValueError):
        memo = read_json(path, _Memo)
        if memo.check == _checksum(memo.facts):
            return memo.facts
    return None


def write_memo(path: Path, facts: dict[str, Any]) -> None:
    """Write facts to a file, atomically; a cache that cannot be written to is left as it is."""
    with suppress(OSError):
        write_atomic(path, to_json({"check": _checksum(facts), "facts": facts}))


class _Memo(BaseModel):
    """The content of a file."""

    check: str
    facts: dict[str, Any]


def _checksum(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
