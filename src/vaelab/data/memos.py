"""Memoises facts about pictures on the disk."""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from pydantic import BaseModel

from vaelab.data.decode import decoder_version
from vaelab.system.files import read_json, write_atomic
from vaelab.system.paths import cache_dir

Facts = TypeVar("Facts", bound=BaseModel)


def memoise(key: Mapping[str, Any], model: type[Facts], find: Callable[[], tuple[Facts, bool]]) -> Facts:
    """Return facts about pictures, found once for a key and a version of the decoder and kept in the cache.

    ``find`` returns the facts and whether they are final: not if the operating system did not return a picture.
    """
    text = json.dumps({**key, "decoder": decoder_version()}, sort_keys=True)
    path = cache_dir() / "images" / f"facts-{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"
    with suppress(OSError, ValueError):  # missing or damaged
        memo = read_json(path, _Memo)
        if memo.check == _check_memo(memo.facts):
            return model.model_validate(memo.facts)
    facts, is_final = find()
    if is_final:
        content = facts.model_dump(mode="json")
        with suppress(OSError):  # a read-only cache: found again the next time
            write_atomic(path, _Memo(check=_check_memo(content), facts=content).model_dump_json())
    return facts


class _Memo(BaseModel):
    """The content of a file of facts."""

    check: str
    facts: dict[str, Any]


def _check_memo(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
