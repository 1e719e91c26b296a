"""Memoises facts about pictures on the disk."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from pydantic import BaseModel

from vaelab.data.decode import decoder_version
from vaelab.system.memos import memo_path, read_memo, write_memo

Facts = TypeVar("Facts", bound=BaseModel)


def memoise(key: Mapping[str, Any], model: type[Facts], find: Callable[[], tuple[Facts, bool]]) -> Facts:
    """Return facts about pictures, found once for a key and a version of the decoder and kept in the cache.

    ``find`` returns the facts and whether they are final: not if the operating system did not return a picture.
    """
    path = memo_path("images", {**key, "decoder": decoder_version()}, "facts-")
    if (known := read_memo(path)) is not None:
        with suppress(ValueError):
            return model.model_validate(known)
    facts, is_final = find()
    if is_final:
        write_memo(path, facts.model_dump(mode="json"))
    return facts
