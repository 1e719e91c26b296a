"""Recognises training, validation and test folders by their names."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

Parts = tuple[str, ...]
"""The folders from the root down to a picture."""
TRAIN, VALID, TEST = "train", "valid", "test"
ROLES = {
    **dict.fromkeys(("train", "training", "trainset", "trainval"), TRAIN),
    **dict.fromkeys(("valid", "validation", "val", "dev", "eval", "evaluation", "validset", "valset", "devset"), VALID),
    **dict.fromkeys(("test", "testing", "testset", "holdout", "heldout"), TEST),
}
"""Word in the name of a folder → the split that it stands for."""
LIKELY = re.compile("train|val|dev|test|holdout|heldout", re.IGNORECASE)
"""Matches every name with one of these words: most names have none, which is quickly seen."""
NEUTRAL = frozenset({
    "set", "sets", "data", "dataset", "split", "folder", "dir", "files", "image", "images", "img", "imgs", "picture",
    "pictures", "photo", "photos",
})  # fmt: skip
"""Words that do not tell splits apart: ``train_images`` belongs to ``test``."""


def parts_of(folder: str) -> Parts:
    """The names in a path without "." and ".."."""
    return tuple(part for part in folder.split("/") if part not in ("", ".", ".."))


def tolerated(count: int) -> int:
    """The number of pictures, out of ``count``, that may lie elsewhere without changing the layout of the others."""
    return max(1, count // 10)


def words_of(name: str) -> list[str]:
    """The words in a name, in lower case: ``X_train2_HR`` → x, train, hr; ``trainA`` → train, a."""
    return re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold())


def role_of(name: str) -> str | None:
    """The split that a folder's name stands for; None for other names, "both" for the names of two splits.

    Only whole words count, so ``trainer`` and ``valley`` are no splits. ``train_val`` stands for training.
    """
    if not LIKELY.search(name):
        return None
    found = {ROLES[word] for word in words_of(name) if word in ROLES}
    if found == {TRAIN, VALID}:
        return TRAIN
    return "both" if len(found) > 1 else next(iter(found), None)


def affix(name: str) -> Parts:
    """The other words in the name of a split: ``X_train_HR`` → x, hr."""
    return tuple(word for word in words_of(name) if word not in ROLES and word not in NEUTRAL)


@dataclass(frozen=True)
class Pair:
    """The splits among the folders of one level."""

    train: str | None = None
    """None with a held-out folder: everything else is for training."""
    held_out: str | None = None
    others: tuple[str, ...] = ()
    """Further folders whose names look like splits."""


def find_pair(kids: Mapping[str, int], loose: int) -> Pair:
    """The splits among folders with these names and numbers of pictures; ``loose`` pictures lie beside the folders.

    A training and a held-out folder belong together if their names have the same affix (``train2017``, ``val2017``). A
    different affix of one of them is accepted if every folder looks like a split. Validation comes before test. Without
    a training folder, one that is called exactly ``val`` or ``test`` is held out if it has no more than half of the
    pictures.
    """
    roles = {name: role for name in sorted(kids) if (role := role_of(name)) is not None}
    total = sum(kids.values()) + loose
    has_plain = len(kids) > len(roles) or loose > tolerated(total)
    held = [name for name, role in roles.items() if role in (VALID, TEST)]
    pairs = [
        (_mismatch(train, name), train, name)
        for train in (name for name, role in roles.items() if role == TRAIN)
        for name in held
        if affix(train) == affix(name) or (not has_plain and not (affix(train) and affix(name)))
    ]
    if pairs:
        _, train, chosen = min(pairs)
        return Pair(train, chosen, tuple(name for name in roles if name not in (train, chosen)))
    exact = sorted((name for name in held if not affix(name)), key=lambda name: (roles[name] != VALID, name))
    if exact and has_plain and TRAIN not in roles.values() and 2 * kids[exact[0]] <= total:
        return Pair(None, exact[0], tuple(name for name in roles if name != exact[0]))
    return Pair(others=tuple(roles))


def _mismatch(train: str, held_out: str) -> tuple[bool, ...]:
    """How badly two names of splits match; the smallest value is the best."""
    return (
        affix(train) != affix(held_out),
        role_of(held_out) != VALID,
        train.casefold() not in ROLES,
        held_out.casefold() not in ROLES,
        re.findall(r"\d+", train) != re.findall(r"\d+", held_out),
    )


@dataclass(frozen=True)
class Found:
    """The splits of a data set."""

    base: Parts
    """The folder in which they lie."""
    pair: Pair
    is_below: bool = False
    """Whether they lie one level deeper, in each folder of ``base``: ``cat/train``, ``cat/val``, ``dog/train`` …"""


def find_split(counts: Mapping[Parts, int]) -> Found:
    """The splits among folders with these numbers of pictures, which lie in them directly.

    Walks down from the root through folders that hold nearly all pictures, to the level of the splits or classes.
    """
    total, base = sum(counts.values()), Parts()
    while True:
        kids, below = _two_levels(counts, base)
        pair = find_pair(kids, counts.get(base, 0))
        if pair.held_out is not None:
            return Found(base, pair)
        with_splits = [kid for kid in kids if find_pair(below[kid], 0).train is not None]
        largest = max(kids, key=lambda kid: kids[kid], default="")
        if kids and total - kids[largest] <= tolerated(total) and (len(kids) == 1 or with_splits == [largest]):
            base = (*base, largest)
            continue
        if len(with_splits) > 1:
            every = sum(below.values(), Counter[str]())
            pair_below = find_pair(every, 0)
            covered = sum(count for name, count in every.items() if role_of(name))
            if pair_below.train is not None and total - covered <= tolerated(total):
                return Found(base, pair_below, is_below=True)
        return Found(base, pair)


def _two_levels(counts: Mapping[Parts, int], base: Parts) -> tuple[Counter[str], dict[str, Counter[str]]]:
    """Folders in ``base`` with their numbers of pictures, and the same for the folders in each of them."""
    kids, below, depth = Counter[str](), dict[str, Counter[str]](), len(base)
    for parts, count in counts.items():
        if len(parts) > depth and parts[:depth] == base:
            kids[parts[depth]] += count
            deeper = below.setdefault(parts[depth], Counter())
            if len(parts) > depth + 1:
                deeper[parts[depth + 1]] += count
    return kids, below
