"""Assign pictures to splits and classes by their paths alone; no file is read."""

import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

from vaelab.data.containers import printable
from vaelab.data.datasets._folder_splits import (
    TEST,
    TRAIN,
    VALID,
    FoundSplits,
    Parts,
    affix,
    find_splits,
    parts_of,
    role_of,
    tolerated,
)
from vaelab.data.scan import is_program_folder
from vaelab.system.errors import UnknownName, UsageError
from vaelab.system.messages import count_of

MAX_NAMES = 10
"""Classes or folders listed in one message."""


@dataclass(frozen=True)
class SplitOptions:
    """Folders that the user names for the splits, relative to the data folder; an empty tuple: find them by name."""

    train: tuple[str, ...] = ()
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    num_set_aside: int = 0
    """Training pictures that are set aside at random for validation, instead of a folder."""

    @property
    def held_out(self) -> tuple[str, ...]:
        """The folders to validate on."""
        return self.valid or self.test

    @property
    def held_out_key(self) -> str:
        """The option that names them."""
        return VALID if self.valid else TEST


AUTOMATIC = SplitOptions()


class Split:
    """Folders that make one split, and the pictures in them."""

    is_labelled = False

    def __init__(
        self,
        folders: Iterable[Parts] = (),
        names: Sequence[str] = (),
        base: Parts = (),
        excluded: Sequence[Parts] = (),
    ) -> None:
        """Without ``folders``, all pictures outside of ``excluded``, with class folders in ``base``."""
        self.folders, self._excluded = dict.fromkeys(folders), excluded
        self.name = list_names(names)
        self.shown = list_names([f"{name}/" for name in names])
        self.members: dict[Parts, list[int]] = {}
        """Folder → rows of the pictures in it."""
        columns = zip(*(self.folders or [base]), strict=False)
        self._prefix = tuple(names[0] for names in takewhile(lambda names: len(set(names)) == 1, columns))

    def depth_of(self, parts: Parts) -> int:
        """Depth of the innermost folder of this split that contains ``parts``; -1 if none does."""
        if not self.folders:
            return -1 if any(parts[: len(folder)] == folder for folder in self._excluded) else 0
        return next((depth for depth in range(len(parts), -1, -1) if parts[:depth] in self.folders), -1)

    def _class_depth(self, parts: Parts) -> int | None:
        """Position of the class in a path: the first name below the split's folder; None if there is none.

        Below several folders it is the first name that is no split: ``cat/train`` and ``dog/train`` are cat and dog.
        """
        below = range(len(self._prefix), len(parts)) if parts[: len(self._prefix)] == self._prefix else ()
        return next((i for i in below if len(self.folders) < 2 or role_of(parts[i]) is None), None)

    @cached_property
    def class_folders(self) -> dict[Parts, Parts]:
        """Folder with pictures → the class folder that contains it or is it."""
        depths = {parts: self._class_depth(parts) for parts in self.members}
        return {parts: parts[: depth + 1] for parts, depth in depths.items() if depth is not None}

    @cached_property
    def classes(self) -> Counter[str]:
        """Class → number of its pictures."""
        counts = Counter[str]()
        for parts, folder in self.class_folders.items():
            counts[folder[-1]] += len(self.members[parts])
        return counts

    @cached_property
    def count(self) -> int:
        """Number of pictures."""
        return sum(map(len, self.members.values()))

    @cached_property
    def strays(self) -> list[int]:
        """Rows of the pictures that are in no class folder."""
        return sorted(row for parts, rows in self.members.items() if parts not in self.class_folders for row in rows)

    def rows(self) -> list[int]:
        """Rows of the pictures to use: all, or those in a class folder if the split is labelled."""
        used = self.class_folders if self.is_labelled else self.members
        return sorted(row for parts in used for row in self.members[parts])


@dataclass(frozen=True)
class Layout:
    """Pictures in splits and classes, and messages about both."""

    splits: list[Split]
    """The training split and, if a folder is held out, that split."""
    classes: list[str]
    resolved: dict[str, str]
    """The folders that were found, as values of ``data.train``, ``data.valid`` and ``data.test``."""
    notes: list[str]
    warnings: list[str]


def find_layout(paths: Sequence[str], options: SplitOptions = AUTOMATIC) -> Layout:
    """The layout of pictures with these paths, which are relative to the data folder and separated by "/".

    Raises UsageError if ``options`` names a folder without pictures or leaves a split empty.
    """
    folders = _group(paths)
    known = {parts[:depth] for parts in folders for depth in range(len(parts) + 1)}
    found = find_splits({parts: len(rows) for parts, rows in folders.items()})
    splits, resolved = _choose_splits(known, found, options)
    outside: dict[Parts, list[int]] = {}
    for parts, rows in folders.items():
        split = max(reversed(splits), key=lambda split: split.depth_of(parts))  # on a tie the held-out split
        (outside if split.depth_of(parts) < 0 else split.members)[parts] = rows
    for key, split in zip((TRAIN, options.held_out_key), splits, strict=False):
        if not split.count:
            message = f"no images are left for the split {split.shown or TRAIN}; name another folder: data.{key}"
            raise UsageError(message, subject=f"data.{key}")
    classes, notes = _find_classes(splits, paths)
    split_notes, warnings = _describe_splits(splits, outside, found, options, paths)
    return Layout(splits, classes, resolved, notes + split_notes, warnings + _warn_of_unseen_classes(splits))


def _group(paths: Sequence[str]) -> dict[Parts, list[int]]:
    """Folder → rows of the pictures in it."""
    by_folder: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        by_folder.setdefault(path.rpartition("/")[0], []).append(row)
    rows: dict[Parts, list[int]] = {}
    for folder, members in by_folder.items():
        rows.setdefault(parts_of(folder), []).extend(members)
    return rows


# -- folders of the splits --------------------------------------------------------------------------------------------


def _choose_splits(
    known: Collection[Parts], found: FoundSplits, options: SplitOptions
) -> tuple[list[Split], dict[str, str]]:
    """The training split and, if there is one, the held-out split; folders that were found by their names."""

    def match(key: str, names: Iterable[str]) -> list[Parts]:
        return [folder for name in names for folder in _match_folders(key, name, known, found.base)]

    train, held_out, resolved = options.train, options.held_out, dict[str, str]()
    if not train:
        plain = (name for name in found.others if held_out and role_of(name) == TRAIN and not affix(name))
        if name := found.train or next(plain, None):
            train, resolved[TRAIN] = (found.pattern(name),), found.pattern(name)
    train_folders = match(TRAIN, train)
    if options.num_set_aside:
        held_out = ()
    elif not held_out and found.held_out:
        pattern = found.pattern(found.held_out)
        is_inside = options.train and all(Split(train_folders).depth_of(f) >= 0 for f in match(TEST, [pattern]))
        if not is_inside:
            held_out, resolved[role_of(found.held_out) or TEST] = (pattern,), pattern
    held_out_folders = match(options.held_out_key, held_out)
    if held_out and set(train_folders) == set(held_out_folders):
        raise UsageError(f"data.train and data.{options.held_out_key} name the same folder, {held_out[0]}")
    excluded: list[Parts] = []
    if not train and (held_out or found.held_out):
        evaluated = (name for name in (*found.others, found.held_out) if name and role_of(name) in (VALID, TEST))
        excluded = [folder for folder in match(TEST, map(found.pattern, evaluated)) if folder not in held_out_folders]
    splits = [Split(train_folders, train, found.base, excluded), Split(held_out_folders, held_out)]
    return splits[: 1 + bool(held_out)], resolved


def _match_folders(key: str, name: str, known: Collection[Parts], base: Parts) -> list[Parts]:
    """Folders with this path, in which a star stands for any name, relative to the data folder or to ``base``."""
    given = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
    for pattern in (given, base + given):
        if pattern in known:
            return [pattern]
        same_depth = sorted(folder for folder in known if "*" in pattern and len(folder) == len(pattern))
        found = [f for f in same_depth if all(p in ("*", part) for p, part in zip(pattern, f, strict=True))]
        if found:
            return found
    choices = sorted("/".join(folder) for folder in known if folder)
    near = difflib.get_close_matches("/".join(given), choices, n=1)
    guess = f" Did you mean {printable(near[0])!r}?" if near else ""
    valid = f"Valid: {list_names(choices)}" if choices else "All images are in one folder"
    message = f"data.{key} = {printable(name)!r}: no images in a folder of that name.{guess} {valid}"
    raise UnknownName(message, subject=f"data.{key}", value=name, choices=choices)


# -- classes ----------------------------------------------------------------------------------------------------------


def _find_classes(splits: Sequence[Split], paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of the classes, and messages about them; sets ``is_labelled`` of the splits.

    The subfolders of a split are classes if nearly all of its pictures are in one (``tolerated``). There must be two or
    more, with two pictures or more on average.
    """

    def describe_strays(split: Split, where: str) -> str:
        of = f" of {split.shown}" if split.name else ""
        names = list_names([paths[row] for row in split.strays[:4]], 3)
        return f"{len(split.strays):,} of {split.count:,} images{of} {where}: {names}"

    named = [split for split in splits if split.classes]
    crowded = [split for split in named if len(split.strays) > tolerated(split.count)]
    notes = [f"no classes: {describe_strays(split, 'outside subfolders')}" for split in crowded]
    counts = sum((split.classes for split in named if split not in crowded), Counter[str]())
    if len(counts) == 1:
        notes.append(f"no classes: there is one subfolder, {list_names(counts)}")
    elif counts and all(map(role_of, counts)):
        notes.append(f"no classes: the subfolders have names of splits, {list_names(counts)}")
    elif counts.total() < 2 * len(counts):
        notes.append(f"no classes: {len(counts):,} subfolders have only {count_of(counts.total(), 'image')}")
    elif counts:
        plain = "".join(f"; {split.shown} has no classes" for split in splits if split not in named)
        for split in named:
            split.is_labelled = split not in crowded
            if split.is_labelled and split.strays:
                notes.append(f"left out: {describe_strays(split, 'outside class folders')}")
        return sorted(counts), [f"{len(counts):,} classes: {list_names(sorted(counts))}{plain}", *notes]
    return [], notes or ["no classes: there are no subfolders"]


def _warn_of_unseen_classes(splits: Sequence[Split]) -> list[str]:
    """A warning about classes of held-out pictures alone, such as the defects of MVTec."""
    train, held_out = splits[0], splits[-1]
    unseen = sorted(held_out.classes.keys() - train.classes.keys())
    if not (unseen and train.is_labelled and held_out.is_labelled):
        return []
    shared, folders, advice = sorted(held_out.classes.keys() & train.classes.keys()), list(held_out.folders), ""
    if shared and len(folders) == 1:
        key = VALID if role_of("/".join(folders[0][-1:])) == VALID else TEST
        only = printable("/".join((*folders[0], shared[0])))
        advice = f"; --set data.{key}={only} validates on {printable(shared[0])} alone"
    return [f"{held_out.shown} has classes without training images: {list_names(unseen)}{advice}"]


# -- messages ---------------------------------------------------------------------------------------------------------


def _describe_splits(
    splits: Sequence[Split],
    outside: dict[Parts, list[int]],
    found: FoundSplits,
    options: SplitOptions,
    paths: Sequence[str],
) -> tuple[list[str], list[str]]:
    """Notes about the splits, and warnings about folders that look like splits and are not used as such."""
    notes, warnings = list[str](), list[str]()
    used = [split.shown or "everything else" for split in splits]
    if len(splits) > 1 or splits[0].name:
        verbs = ("trained on", "validated on")
        uses = zip(verbs, used, splits, strict=False)
        notes.append(
            "; ".join(f"{verb} {name}, {split.count:,} of {len(paths):,} images" for verb, name, split in uses)
        )
    is_named = bool(options.train or options.held_out)
    unused = [] if is_named else list(found.others)
    unused += [found.held_out] if options.num_set_aside and found.held_out else []
    depth = len(found.base) + found.is_nested
    left_out = (rows for parts, rows in outside.items() if parts[depth : depth + 1] not in [(name,) for name in unused])
    if rows := sorted(row for rows in left_out for row in rows):
        total, names = len(paths), list_names([paths[row] for row in rows[:4]], 3)
        text = f"left out: {len(rows):,} of {total:,} images outside {' and '.join(used)}: {names}"
        (notes if is_named or len(rows) <= tolerated(total) else warnings).append(text)
    if unused:
        names = list_names([f"{found.pattern(name)}/" for name in unused])
        is_split = len(splits) > 1 or splits[0].name or outside
        use = "not used" if is_split else "used like all other folders"
        how = "data.train, data.valid and data.test name the folders to use"
        warnings.append(f"{use}, although named like splits: {names}; {how}")
    return notes, warnings


def list_names(names: Collection[str], most: int = MAX_NAMES) -> str:
    """The first names, and an ellipsis if there are more."""
    shown = [printable(name) for name in list(names)[:most]]
    return ", ".join([*shown, "…"] if len(names) > most else shown)


# -- hidden folders ---------------------------------------------------------------------------------------------------


def find_hidden_classes(layout: Layout, paths: Iterable[str]) -> list[Parts]:
    """Hidden folders that are classes, among those that directly contain pictures with these paths.

    They lie beside class folders, such as ``.net`` beside ``java``, and do not have a name that programs give.
    """
    labelled = (split for split in layout.splits if split.is_labelled)
    parents = {folder[:-1] for split in labelled for folder in split.class_folders.values()}
    folders = {parts_of(path.rpartition("/")[0]) for path in paths}
    hidden = (parts for parts in folders if parts and parts[-1].startswith(".") and not is_program_folder(parts[-1]))
    return sorted(parts for parts in hidden if parts[:-1] in parents)
