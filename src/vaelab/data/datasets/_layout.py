"""Decides from the paths of pictures alone: training pictures, held-out pictures and classes. Reads no file."""

import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from vaelab.data.containers import printable
from vaelab.data.datasets._splits import (
    TEST,
    TRAIN,
    VALID,
    Found,
    Parts,
    affix,
    find_split,
    parts_of,
    role_of,
    tolerated,
)
from vaelab.data.scan import is_program_folder
from vaelab.system.errors import UsageError

MOST_NAMED = 10
"""Classes or folders that one sentence names."""


@dataclass(frozen=True)
class Choice:
    """Folders that the user names for the splits, relative to the data folder; an empty tuple: find them."""

    train: tuple[str, ...] = ()
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    set_aside: int = 0
    """Training pictures that will be held out at random, instead of a folder."""

    @property
    def names_folders(self) -> bool:
        """Whether any folder is named."""
        return bool(self.train or self.valid or self.test)


AUTOMATIC = Choice()


@dataclass(frozen=True)
class Layout:
    """Training pictures, held-out pictures, their classes, and sentences that say so."""

    train: list[int]
    """Rows of the training pictures; if no folder is held out, rows of all pictures."""
    held_out: list[int] | None
    """Rows of the held-out pictures; None if no folder is held out."""
    held_out_name: str
    """The held-out folder, such as "val2017"; empty if there is none."""
    classes: tuple[str, ...]
    labels: dict[Parts, int]
    """Folder → number of its class."""
    is_labelled: tuple[bool, bool]
    """Whether the training pictures and the held-out pictures have labels."""
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]
    resolved: dict[str, str]
    """The folders that were found, as values of ``data.train``, ``data.valid`` and ``data.test``."""
    class_parents: frozenset[Parts]
    """Folders in which the class folders lie."""


def decide(paths: Sequence[str], choice: Choice = AUTOMATIC) -> Layout:
    """The layout of pictures with these paths, which are relative to the data folder and separated by "/".

    UsageError if ``choice`` names a folder without pictures, or leaves no pictures for a split.
    """
    rows = _group(paths)
    counts = {parts: len(members) for parts, members in rows.items()}
    found = find_split(counts)
    places = _place(counts, found, choice)
    sides = (_Side(places.train.shown if places.train else ""), _Side(places.held_out_shown))
    outside = []
    for parts, members in rows.items():
        role = places.role(parts)
        if role is None:
            outside += members
        else:
            sides[role].add(parts, places.class_depth(parts, role), members)
    if not sides[0].count:
        raise UsageError(
            f"no pictures are left to train on, outside {places.held_out_shown}; name a folder: data.train"
        )
    if places.held_out is not None and not sides[1].count:
        raise UsageError(f"no pictures are left in {places.held_out_shown} to validate on; name another: data.test")
    names, sentences = _find_classes(sides, paths)
    more, warnings = _describe_splits(sides, places, found, choice, [paths[row] for row in sorted(outside)])
    numbers = {name: i for i, name in enumerate(names)}
    placed = [item for side in sides if side.is_labelled for item in side.depths.items()]
    return Layout(
        train=sides[0].rows(),
        held_out=None if places.held_out is None else sides[1].rows(),
        held_out_name=places.held_out.name if places.held_out else "",
        classes=tuple(names),
        labels={parts: numbers[parts[depth]] for parts, depth in placed if depth is not None},
        is_labelled=(sides[0].is_labelled, sides[1].is_labelled),
        sentences=(*sentences, *more),
        warnings=(*warnings, *_warn_of_unseen_classes(sides, places)),
        resolved=places.resolved,
        class_parents=frozenset(parts[:depth] for parts, depth in placed if depth is not None),
    )


def _group(paths: Sequence[str]) -> dict[Parts, list[int]]:
    """Folder → rows of the pictures in it."""
    by_folder: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        by_folder.setdefault(path.rpartition("/")[0], []).append(row)
    rows: dict[Parts, list[int]] = {}
    for folder, members in by_folder.items():
        rows.setdefault(parts_of(folder), []).extend(members)
    return rows


# -- the folders of both splits ---------------------------------------------------------------------------------------


class _Folders:
    """Folders that make one split."""

    def __init__(self, paths: Iterable[Parts], pattern: str = "") -> None:
        self.paths = dict.fromkeys(paths)
        names = [pattern] if pattern else ["/".join(path) or "." for path in self.paths]
        self.name = _list_names(names)
        self.shown = _list_names([f"{name}/" for name in names])

    def depth_of(self, parts: Parts) -> int:
        """The depth of the innermost of these folders that ``parts`` lies in; -1 if it lies in none."""
        return next((depth for depth in range(len(parts), -1, -1) if parts[:depth] in self.paths), -1)

    @cached_property
    def shared(self) -> int:
        """The number of names with which all of the paths begin."""
        low, high = min(self.paths), max(self.paths)
        pairs = enumerate(zip(low, high, strict=False))
        return next((i for i, (a, b) in pairs if a != b), min(len(low), len(high)))


@dataclass(frozen=True)
class _Places:
    base: Parts
    train: _Folders | None
    """None: everything that is neither held out nor excluded."""
    held_out: _Folders | None
    excluded: _Folders
    resolved: dict[str, str]

    @property
    def held_out_shown(self) -> str:
        return self.held_out.shown if self.held_out else ""

    def role(self, parts: Parts) -> int | None:
        """0 for training, 1 for held out, None for neither; the innermost folder decides."""
        train = 0 if self.train is None else self.train.depth_of(parts)
        held = -1 if self.held_out is None else self.held_out.depth_of(parts)
        if held >= 0 and held >= train:
            return 1
        return None if train < 0 or self.excluded.depth_of(parts) >= 0 else 0

    def class_depth(self, parts: Parts, role: int) -> int | None:
        """The position of the class in a path, the first name below the split's; None if there is none.

        Below several folders it is the first name that is no split: ``cat/train`` and ``dog/train`` are cat and dog.
        """
        folders = (self.train, self.held_out)[role]
        if folders is None:
            depth = len(self.base)
            return depth if len(parts) > depth and parts[:depth] == self.base else None
        if len(folders.paths) == 1:
            return folders.shared if len(parts) > folders.shared else None
        return next((i for i in range(folders.shared, len(parts)) if role_of(parts[i]) is None), None)


def _place(counts: Mapping[Parts, int], found: Found, choice: Choice) -> _Places:
    """The folders of the splits: those that the user names, else those that were found."""
    base, pair = found.base, found.pair
    every = {parts[:depth] for parts in counts for depth in range(len(parts) + 1)}
    kids = sorted({parts[len(base)] for parts in every if len(parts) > len(base) and parts[: len(base)] == base})

    def at(name: str | None) -> list[Parts]:
        if name is None:
            return []
        folders = [(*base, kid, name) for kid in kids] if found.is_below else [(*base, name)]
        return [folder for folder in folders if folder in every]

    prefix = "".join(f"{part}/" for part in base)
    patterns = {name: f"{prefix}*/{name}" if found.is_below else "" for name in (pair.train, pair.held_out)}
    train, held, resolved = at(pair.train), at(pair.held_out), dict[str, str]()
    evaluated = [name for name in (*pair.others, pair.held_out) if name and role_of(name) in (VALID, TEST)]
    if choice.train:
        train = _resolve(TRAIN, choice.train, every, base)
        if all(_Folders(train).depth_of(folder) >= 0 for folder in held):
            held = []  # inside of what the user calls training
    elif not train and (choice.valid or choice.test) and not found.is_below:
        train = at(next((kid for kid in kids if role_of(kid) == TRAIN and not affix(kid)), None))
    elif train and not found.is_below:
        resolved[TRAIN] = "/".join(train[0])
    key = VALID if choice.valid else TEST
    if choice.set_aside:
        held = []
    elif choice.valid or choice.test:
        held = _resolve(key, choice.valid or choice.test, every, base)
        if set(train) == set(held):
            raise UsageError(f"data.train and data.{key} name the same folder, {_Folders(held).name}")
    elif held and not found.is_below:
        resolved[role_of(pair.held_out or "") or TEST] = "/".join(held[0])
    excluded = [folder for name in evaluated for folder in at(name) if folder not in held and not train]
    return _Places(
        base,
        _Folders(train, "" if choice.train else patterns[pair.train]) if train else None,
        _Folders(held, "" if choice.valid or choice.test else patterns[pair.held_out]) if held else None,
        _Folders(excluded if held or pair.held_out else []),
        resolved,
    )


def _resolve(key: str, names: Iterable[str], every: Collection[Parts], base: Parts) -> list[Parts]:
    """Folders by name, relative to the data folder or to the folder in it that holds nearly all pictures."""
    found = []
    for name in names:
        parts = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
        place = next((folder for folder in (parts, base + parts) if folder in every), None)
        if place is None:
            there = sorted("/".join(folder) for folder in every if folder)
            near = difflib.get_close_matches("/".join(parts), there, n=1)
            guess = f" Did you mean {printable(near[0])!r}?" if near else ""
            has = f"There are {_list_names(there)}" if there else "All pictures lie in one folder"
            raise UsageError(f"data.{key} = {printable(name)!r}: no folder of that name has pictures.{guess} {has}")
        found.append(place)
    return found


# -- classes ----------------------------------------------------------------------------------------------------------


@dataclass
class _Side:
    """The pictures of one split."""

    name: str
    depths: dict[Parts, int | None] = field(default_factory=dict)
    """Folder → position of the class in its path."""
    members: dict[Parts, list[int]] = field(default_factory=dict)
    """Folder → rows."""
    is_labelled: bool = False
    count: int = 0

    def add(self, parts: Parts, depth: int | None, rows: list[int]) -> None:
        """Add the pictures of one folder."""
        self.depths[parts], self.members[parts] = depth, rows
        self.count += len(rows)

    @cached_property
    def classes(self) -> Counter[str]:
        """Class → number of its pictures."""
        names = Counter[str]()
        for parts, depth in self.depths.items():
            if depth is not None:
                names[parts[depth]] += len(self.members[parts])
        return names

    @cached_property
    def strays(self) -> list[int]:
        """Rows of the pictures that lie in no class folder."""
        return sorted(row for parts, depth in self.depths.items() if depth is None for row in self.members[parts])

    def rows(self) -> list[int]:
        """Rows of the pictures that are used: all, or, if they have labels, those in a class folder."""
        used = (rows for p, rows in self.members.items() if not self.is_labelled or self.depths[p] is not None)
        return sorted(row for rows in used for row in rows)


def _find_classes(sides: Sequence[_Side], paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of the classes and sentences about them; sets ``is_labelled`` of the sides.

    The subfolders of a split are classes if nearly all of its pictures lie in one (``tolerated``), and if there are two
    or more, with two pictures or more on average.
    """
    named = [side for side in sides if side.classes]
    crowded = [side for side in named if len(side.strays) > tolerated(side.count)]
    counts = sum((side.classes for side in named if side not in crowded), Counter[str]())
    sentences = []
    for side in crowded:
        where = f" of {side.name}" if side.name else ""
        lost = f"{len(side.strays):,} of {side.count:,} pictures{where} {_verb(side.strays, 'lies', 'lie')}"
        sentences.append(f"no classes: {lost} in no subfolder: {_list_rows(side.strays, paths)}")
    are_splits = len(counts) > 1 and all(map(role_of, counts))
    if len(counts) < 2 or counts.total() < 2 * len(counts) or are_splits:
        if are_splits:
            sentences.append(f"no classes: the subfolders have names of splits, {_list_names(counts)}")
        elif len(counts) == 1:
            sentences.append(f"no classes: there is one subfolder, {_list_names(counts)}")
        elif counts:
            sentences.append(f"no classes: {len(counts):,} subfolders hold {counts.total():,} pictures, too few")
        return [], sentences or ["no classes: there are no subfolders"]
    names = sorted(counts)
    plain = [side.name for side in sides if side.count and not side.classes]
    sentences.insert(
        0, f"{len(names):,} classes: {_list_names(names)}" + "".join(f"; {n} has no classes" for n in plain)
    )
    for side in named:
        side.is_labelled = side not in crowded
        if side.is_labelled and side.strays:
            where = f" of {side.name}" if side.name else ""
            lie, are = _verb(side.strays, "lies", "lie"), _verb(side.strays, "is", "are")
            lost = f"{len(side.strays):,} of {side.count:,} pictures{where}"
            rows = _list_rows(side.strays, paths)
            sentences.append(f"{lost} {lie} in no class folder and {are} left out: {rows}")
    return names, sentences


def _warn_of_unseen_classes(sides: Sequence[_Side], places: _Places) -> list[str]:
    """A sentence about classes of held-out pictures alone, such as the broken ones of MVTec."""
    train, held = sides
    unseen = sorted(held.classes.keys() - train.classes.keys())
    if places.held_out is None or not (train.is_labelled and held.is_labelled and unseen):
        return []
    shared, folder = sorted(held.classes.keys() & train.classes.keys()), next(iter(places.held_out.paths))
    advice = ""
    if shared and len(places.held_out.paths) == 1:
        key = VALID if folder and role_of(folder[-1]) == VALID else TEST
        only = printable("/".join((*folder, shared[0])))
        advice = f"; --set data.{key}={only} validates on {printable(shared[0])} alone"
    what = _verb(unseen, "a class", "classes")
    return [f"{held.name} has {what} without training pictures: {_list_names(unseen)}{advice}"]


# -- sentences --------------------------------------------------------------------------------------------------------


def _describe_splits(
    sides: Sequence[_Side], places: _Places, found: Found, choice: Choice, outside: list[str]
) -> tuple[list[str], list[str]]:
    """Sentences about the splits, and warnings about folders that look like one and are not used as such."""
    sentences, warnings = list[str](), list[str]()
    train, held = sides
    source = f"trained on {train.name or 'everything else'}, {_count(train.count)}"
    if places.held_out is not None:
        sentences.append(f"{source}; validated on {held.name}, {_count(held.count)}")
    elif train.name:
        sentences.append(source)
    unused = [] if choice.names_folders else list(found.pair.others)
    unused += [found.pair.held_out] if choice.set_aside and found.pair.held_out else []
    is_split = places.held_out is not None or places.train is not None or bool(places.excluded.paths)
    depth = len(found.base) + found.is_below
    folders = ((parts_of(path.rpartition("/")[0]), path) for path in outside)
    left = [path for parts, path in folders if len(parts) <= depth or parts[depth] not in unused]
    if left:
        total = len(outside) + train.count + held.count
        names = " and ".join(side.name for side in sides if side.name)
        text = (
            f"{len(left):,} of {total:,} pictures {_verb(left, 'lies', 'lie')} outside {names} and "
            f"{_verb(left, 'is', 'are')} left out: {_list_names(left, 3)}"
        )
        (sentences if choice.names_folders or len(left) <= tolerated(total) else warnings).append(text)
    prefix = "*/" if found.is_below else "".join(f"{part}/" for part in found.base)
    names = _list_names([f"{prefix}{name}/" for name in unused])
    looks = _verb(unused, "looks like a split", "look like splits")
    how = "data.train, data.valid and data.test name the folders to use"
    if unused and is_split:
        warnings.append(f"{names} {looks} and {_verb(unused, 'is', 'are')} not used; {how}")
    elif unused:
        warnings.append(
            f"{names} {looks}, but {_verb(unused, 'its', 'their')} pictures are used like all others; {how}"
        )
    return sentences, warnings


def _count(number: int) -> str:
    return f"{number:,} picture{'' if number == 1 else 's'}"


def _verb(things: Sequence[object], one: str, many: str) -> str:
    return one if len(things) == 1 else many


def _list_rows(rows: Sequence[int], paths: Sequence[str]) -> str:
    return _list_names([paths[row] for row in rows[:4]], 3)


def _list_names(names: Collection[str], most: int = MOST_NAMED) -> str:
    """The first names, and an ellipsis if there are more."""
    shown = [printable(name) for name in list(names)[:most]]
    return ", ".join([*shown, "…"] if len(names) > most else shown)


# -- hidden folders ---------------------------------------------------------------------------------------------------


def find_hidden_classes(class_parents: Collection[Parts], paths: Iterable[str]) -> list[Parts]:
    """The hidden folders to read after all, among those that hold pictures with these paths.

    They lie beside class folders (in ``class_parents``), hold pictures directly, and do not have a name that programs
    give: ``.net`` beside ``java``.
    """
    found = set()
    for parts in {parts_of(path.rpartition("/")[0]) for path in paths}:
        if parts and parts[-1].startswith(".") and parts[:-1] in class_parents and not is_program_folder(parts[-1]):
            found.add(parts)
    return sorted(found)
