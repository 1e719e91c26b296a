"""Commands killed by strace at each system call that changes a file, one call at a time.

Only calls of the main thread are counted; the random kills cover threads and worker processes. A killed process leaves
the state of the kernel, which differs from that of a disk after a power cut.
"""

import re
from functools import partial
from pathlib import Path

from .campaign import Campaign, Unavailable
from .children import Strace, has_strace
from .workloads import WORKLOADS, Stage

CHANGING = (
    "openat", "creat", "write", "pwrite64", "writev", "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir",
    "mkdirat", "rmdir", "fsync", "fdatasync", "ftruncate", "truncate", "chmod", "fchmod", "link", "symlink",
    "copy_file_range", "sendfile",
)  # fmt: skip
"""System calls that can change files."""


def run(campaign: Campaign, stage: Stage) -> None:
    """Kill each command at the beginning of each of its calls, in a random order."""
    if reason := has_strace():
        raise Unavailable(reason)
    stage.prepare()
    calls: dict[str, list[tuple[str, int]]] = {}

    def count(name: str) -> int:
        calls[name] = list_calls(stage, name, CHANGING) if stage.can_play(campaign, name) else []
        return len(calls[name])

    for label, name, number in campaign.cases([name for name in WORKLOADS if campaign.allows(name)], count):
        call, ordinal = calls[name][number]
        campaign.run(label, partial(_play, campaign, stage, name, call, ordinal), stage.folder)
    campaign.facts["calls that change files"] = sum(map(len, calls.values()))


def list_calls(stage: Stage, name: str, calls: tuple[str, ...]) -> list[tuple[str, int]]:
    """Return (system call, its number among all of that name) of each that concerns a file in the stage's folder.

    Files opened for reading count only if ``calls`` includes ``read``.
    """
    stage.refill()
    log = stage.log
    stage.expect(stage.run(WORKLOADS[name].words, strace=Strace(",".join(calls), log)), (0,))
    counts: dict[str, int] = {}
    found = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if not (match := re.match(r"(\w+)\((.*)\)\s+= ", line)):
            continue
        call, arguments = match.groups()
        counts[call] = counts.get(call, 0) + 1
        only_read = call == "openat" and "O_RDONLY" in arguments and "O_CREAT" not in arguments
        if concerns(arguments, stage.folder) and (not only_read or "read" in calls):
            found.append((call, counts[call]))
    return found


def concerns(arguments: str, folder: Path) -> bool:
    """Return whether the arguments of a system call name a file in a folder, which is the working directory."""
    if f"{folder}/" in arguments or f"<{folder}>" in arguments:
        return True
    return any(not path.startswith("/") for path in re.findall(r'"([^"]*)"', arguments) if path)


def _play(campaign: Campaign, stage: Stage, name: str, call: str, ordinal: int) -> None:
    stage.whole(name)
    stage.refill()
    log = stage.log
    strace = Strace(call, log, f"{call}:signal=KILL:when={ordinal}")
    ended = stage.run(WORKLOADS[name].words, strace=strace)
    if ended.was_killed:
        campaign.counts["kills"] += 1
        campaign.counts[f"kills at {call}"] += 1
    else:
        campaign.counts["was done before the kill"] += 1
        stage.expect(ended, (0,))
    stage.check_untouched_or_whole(name)
    stage.check_finishes(name)
