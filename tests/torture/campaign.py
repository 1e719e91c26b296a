"""A campaign: cases that follow from a seed, a time budget, counts, failures that can be repeated."""

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path


class Failed(AssertionError):
    """A promise is broken."""


class Unavailable(RuntimeError):
    """This system cannot run a campaign."""


@dataclass
class Campaign:
    """The cases of one campaign: which are run, where, for how long, and with which results."""

    name: str
    seed: int
    scratch: Path
    """A folder of this campaign only."""
    keep: Path
    """Folder in which the folders of failed cases are kept."""
    seconds: float = 60.0
    most_cases: int | None = None
    kinds: tuple[str, ...] = ()
    """Commands or kinds of files to choose from; empty: all."""
    wants_disks: bool = True
    """Whether to fill real disks, which takes a while to set up."""
    only: str = ""
    """Label of the one case to run."""
    counts: Counter[str] = field(default_factory=Counter)
    """Event → number of times, besides the cases."""
    facts: dict[str, float] = field(default_factory=dict)
    """Other numbers to print, such as the largest memory."""
    num_cases: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    """(label, what went wrong)."""
    skipped: list[str] = field(default_factory=list)
    """Parts that cannot run here, with the reason."""
    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0

    @property
    def seconds_taken(self) -> float:
        """Duration of the campaign."""
        return self.ended - self.began

    @property
    def is_over(self) -> bool:
        """Whether no other case should begin."""
        return self.is_over_with(self.num_cases)

    def is_over_with(self, num_cases: int) -> bool:
        """Return whether this number of cases is enough, or the time is up."""
        enough = self.most_cases is not None and num_cases >= self.most_cases
        return enough or time.monotonic() - self.began > self.seconds

    def random(self, label: str) -> random.Random:
        """Return the random numbers of one case."""
        return random.Random(f"{self.seed}/{self.name}/{label}")

    def cases(self, kinds: list[str], count_of: Callable[[str], int | None]) -> Iterator[tuple[str, str, int]]:
        """Yield (label, kind, number) of each case, the kinds in turn, until the time is up or no case is left.

        ``count_of`` returns the number of cases of a kind, which then come in a random order, or None for any number.
        It is called at the first turn of the kind.
        """
        if self.only:
            kind, _, number = self.only.rpartition("-")
            if kind in kinds and count_of(kind) != 0:
                yield self.only, kind, int(number)
            return
        orders: dict[str, list[int] | None] = {}
        turn, left = 0, kinds
        while left and not self.is_over:
            for kind in left:
                if self.is_over:
                    return
                if kind not in orders:
                    count = count_of(kind)
                    orders[kind] = None if count is None else list(range(count))
                    self.random(f"order of {kind}").shuffle(orders[kind] or [])
                order = orders[kind]
                if order is None or turn < len(order):
                    number = turn if order is None else order[turn]
                    yield f"{kind}-{number}", kind, number
            turn += 1
            left = [kind for kind in left if (order := orders[kind]) is None or turn < len(order)]

    def allows(self, kind: str) -> bool:
        """Return whether cases of a kind are wanted."""
        if self.only:
            return self.only.rpartition("-")[0].removeprefix("disk-") == kind
        return not self.kinds or kind in self.kinds

    def run(self, label: str, case: Callable[[], None], folder: Path) -> None:
        """Run one case; record a failure and keep its folder."""
        self.num_cases += 1
        try:
            case()
        except Failed as error:
            self.fail(label, str(error), folder)

    def fail(self, label: str, what: str, folder: Path) -> None:
        """Record a failure and keep its folder."""
        self.failures.append((label, what))
        kept = self.keep / f"{self.name}-{label}"
        shutil.rmtree(kept, ignore_errors=True)
        if folder.is_dir():
            shutil.copytree(folder, kept, symlinks=True, ignore=_only_plain)
        print(f"FAILED {self.name}/{label}: {what}", flush=True)

    def note_largest(self, name: str, value: float) -> None:
        """Record a number if it is the largest of its name."""
        self.facts[name] = max(value, self.facts.get(name, value))


def _only_plain(folder: str, names: list[str]) -> set[str]:
    """Return the names that are not copied: pipes and devices."""
    paths = {name: Path(folder) / name for name in names}
    return {name for name, path in paths.items() if not (path.is_symlink() or path.is_dir() or path.is_file())}
