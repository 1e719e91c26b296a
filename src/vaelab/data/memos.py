"""Spec about pictures that take a while to find out, kept in the cache."""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from pydantic import BaseModel

from vaelab.data.decode import decoder_version
from vaelab.system.files import read_json, write_atomic
from vaelab.system.paths import cache_dir

Spec = TypeVar("Spec", bound=BaseModel)


def memoise(key: Mapping[str, Any], model: type[Spec], find_out: Callable[[], tuple[Spec, bool]]) -> Spec:
    """A few facts about pictures, found out once for a key and a version of the decoder and kept in the cache.

    ``find_out`` returns the facts, and whether they may be kept: not where the system refused to hand over a picture.
    """
    text = json.dumps({**key, "decoder": decoder_version()}, sort_keys=True)
    path = cache_dir() / "images" / f"facts-{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"
    with suppress(OSError, ValueError):  # not there, damaged
        memo = read_json(path, _Memo)
        if memo.check == _check_memo(memo.facts):
            return model.model_validate(memo.facts)
    facts, may_keep = find_out()
    if may_keep:
        content = facts.model_dump(mode="json")
        with suppress(OSError):  # a read-only cache: found out again the next time
            write_atomic(path, _Memo(check=_check_memo(content), facts=content).model_dump_json())
    return facts


class _Memo(BaseModel):
    """The content of a file of facts."""

    check: str
    facts: dict[str, Any]


def _check_memo(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
