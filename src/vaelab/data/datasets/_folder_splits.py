"""Recognise training, validation and test folders by their names."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

Parts = tuple[str, ...]
"""Names of folders, from the data folder down."""
TRAIN, VALID, TEST = "train", "valid", "test"
ROLES = {
    **dict.fromkeys(("train", "training", "trainset", "trainval"), TRAIN),
    **dict.fromkeys(("valid", "validation", "val", "dev", "eval", "evaluation", "validset", "valset", "devset"), VALID),
    **dict.fromkeys(("test", "testing", "testset", "holdout", "heldout"), TEST),
}
"""Word in the name of a folder → split."""
LIKELY = re.compile("train|val|dev|test|holdout|heldout", re.IGNORECASE)
"""Matches every name with a word of ``ROLES``; a quick test that most names fail."""
NEUTRAL = frozenset({
    "set", "sets", "data", "dataset", "split", "folder", "dir", "files", "image", "images", "img", "imgs", "picture",
    "pictures", "photo", "photos",
})  # fmt: skip
"""Words that do not distinguish splits: ``train_images`` belongs to ``test``."""


def parts_of(folder: str) -> Parts:
    """The names in a path, without "." and ".."."""
    return tuple(part for part in folder.split("/") if part not in ("", ".", ".."))


def tolerated(count: int) -> int:
    """Number of ``count`` pictures that may lie elsewhere without changing the layout."""
    return max(1, count // 10)


def words_of(name: str) -> list[str]:
    """The words in a name, in lower case: ``X_train2_HR`` → x, train, hr; ``trainA`` → train, a."""
    return re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold())


def role_of(name: str) -> str | None:
    """The split that a folder's name stands for: "both" for the names of two splits, None for other names.

    Only whole words count, so ``trainer`` and ``valley`` are no splits. ``train_val`` stands for training.
    """
    if not LIKELY.search(name):
        return None
    found = {ROLES[word] for word in words_of(name) if word in ROLES}
    if found == {TRAIN, VALID}:
        return TRAIN
    return "both" if len(found) > 1 else next(iter(found), None)


def affix(name: str) -> Parts:
    """The words in the name of a split that do not stand for the split: ``X_train_HR`` → x, hr."""
    return tuple(word for word in words_of(name) if word not in ROLES and word not in NEUTRAL)


@dataclass(frozen=True)
class FoundSplits:
    """Names of the folders that are splits."""

    train: str | None = None
    """None, if there is a held-out folder: all other pictures are for training."""
    held_out: str | None = None
    others: tuple[str, ...] = ()
    """Further folders whose names look like splits."""
    base: Parts = ()
    """The folder that contains them."""
    is_nested: bool = False
    """Whether each folder in ``base`` contains them: ``cat/train``, ``cat/val``, ``dog/train`` …"""

    def pattern(self, name: str) -> str:
        """Path of one of these folders, in which a star stands for any name."""
        return "/".join((*self.base, *("*" * self.is_nested), name))


def match_splits(folders: Mapping[str, int], num_loose: int) -> FoundSplits:
    """The splits among folders with these names and numbers of pictures, beside ``num_loose`` pictures.

    A training and a held-out folder belong together if their names have the same affix (``train2017``, ``val2017``).
    They may differ if every folder looks like a split and one affix is empty. Validation comes before test. Without a
    training folder, one called exactly ``val`` or ``test`` is held out if it has at most half of the pictures.
    """
    roles = {name: role for name in sorted(folders) if (role := role_of(name)) is not None}
    if not roles:
        return FoundSplits()
    total = sum(folders.values()) + num_loose
    has_others = len(folders) > len(roles) or num_loose > tolerated(total)
    held_out = [name for name, role in roles.items() if role in (VALID, TEST)]
    pairs = [
        (_mismatch(train, name), train, name)
        for train in (name for name, role in roles.items() if role == TRAIN)
        for name in held_out
        if affix(train) == affix(name) or not (has_others or (affix(train) and affix(name)))
    ]
    chosen: tuple[str | None, str | None] = (None, None)
    if pairs:
        chosen = min(pairs)[1:]
    elif has_others and TRAIN not in roles.values():
        exact = sorted((name for name in held_out if not affix(name)), key=lambda name: roles[name] != VALID)
        chosen = None, next((name for name in exact[:1] if 2 * folders[name] <= total), None)
    return FoundSplits(*chosen, others=tuple(name for name in roles if name not in chosen))


def _mismatch(train: str, held_out: str) -> tuple[bool, ...]:
    """Differences between the names of two splits, the gravest first."""
    return (
        affix(train) != affix(held_out),
        role_of(held_out) != VALID,
        train.casefold() not in ROLES,
        held_out.casefold() not in ROLES,
        re.findall(r"\d+", train) != re.findall(r"\d+", held_out),
    )


def find_splits(counts: Mapping[Parts, int]) -> FoundSplits:
    """The splits among folders with these numbers of pictures, those in subfolders not counted.

    The search descends from the root through folders that hold nearly all pictures.
    """
    total, base = sum(counts.values()), Parts()
    while True:
        folders, below = _count_two_levels(counts, base)
        found = replace(match_splits(folders, counts.get(base, 0)), base=base)
        if found.held_out is not None:
            return found
        with_splits = [name for name in folders if match_splits(below[name], 0).train is not None]
        largest = max(folders, key=folders.__getitem__, default="")
        if folders and total - folders[largest] <= tolerated(total) and (len(folders) == 1 or with_splits == [largest]):
            base = (*base, largest)
            continue
        if len(with_splits) > 1:
            names = sum(below.values(), Counter[str]())
            nested = match_splits(names, 0)
            covered = sum(count for name, count in names.items() if role_of(name))
            if nested.train is not None and total - covered <= tolerated(total):
                return replace(nested, base=base, is_nested=True)
        return found


def _count_two_levels(counts: Mapping[Parts, int], base: Parts) -> tuple[Counter[str], dict[str, Counter[str]]]:
    """Numbers of pictures below each folder in ``base``, and below each folder in those."""
    folders, below, depth = Counter[str](), dict[str, Counter[str]](), len(base)
    for parts, count in counts.items():
        if len(parts) > depth and parts[:depth] == base:
            folders[parts[depth]] += count
            deeper = below.setdefault(parts[depth], Counter())
            if len(parts) > depth + 1:
                deeper[parts[depth + 1]] += count
    return folders, below
