"""System calls that fail for lack of space, permission or files, or because of the disk; by strace and on a full disk.

A command may continue without the part that failed (a cache, a figure) or end with exit code 1 and one line that says
why. Without the fault it must then finish as usual.
"""

import os
import shutil
import subprocess
from functools import partial

from .campaign import Campaign, Failed, Unavailable
from .children import Strace, has_strace
from .syscalls import CHANGING, concerns, list_calls
from .workloads import WORKLOADS, Stage

ERRORS = {
    "openat": ("EACCES", "ENOSPC", "EMFILE", "EIO", "EROFS"),
    "write": ("ENOSPC", "EIO", "EDQUOT"),
    "pwrite64": ("ENOSPC", "EIO"),
    "fsync": ("EIO", "ENOSPC"),
    "rename": ("EACCES", "ENOSPC", "EROFS"),
    "mkdir": ("EACCES", "ENOSPC", "EROFS"),
    "ftruncate": ("ENOSPC", "EFBIG"),
    "chmod": ("EPERM",),
    "unlink": ("EACCES", "EIO"),
    "read": ("EIO",),
}
"""System call → errors to inject; EIO for other calls."""
FREE = (None, 4 << 10, 100 << 10, 400 << 10, 1 << 20, 4 << 20)
"""Free bytes on the disk; None: read-only."""
DISK_SHARE = 0.3
"""Share of the campaign's time for real disks."""


def run(campaign: Campaign, stage: Stage) -> None:
    """Let calls fail one at a time or from one call on, in a random order."""
    seconds, most_cases = campaign.seconds, campaign.most_cases
    campaign.seconds *= DISK_SHARE
    _fill_disks(campaign)
    if reason := has_strace():
        campaign.skipped.append(f"failing system calls: {reason}")
        if not campaign.num_cases:
            raise Unavailable(reason)
        return
    stage.prepare()
    campaign.seconds, campaign.most_cases = seconds, most_cases
    calls: dict[str, list[tuple[str, int]]] = {}

    def count(name: str) -> int:
        calls[name] = list_calls(stage, name, (*CHANGING, "read")) if stage.can_play(campaign, name) else []
        return len(calls[name])

    for label, name, number in campaign.cases([name for name in WORKLOADS if campaign.allows(name)], count):
        call, ordinal = calls[name][number]
        random = campaign.random(label)
        error = random.choice(ERRORS.get(call, ("EIO",)))
        # not for openat, because Python reads its own modules with it
        lasting = call != "openat" and error in ("ENOSPC", "EROFS", "EDQUOT") and random.random() < 0.5
        inject = f"{call}:error={error}:when={ordinal}{'+' if lasting else ''}"
        campaign.run(label, partial(_play, campaign, stage, name, inject), stage.folder)
    campaign.facts["calls that can fail"] = sum(map(len, calls.values()))


def _play(campaign: Campaign, stage: Stage, name: str, inject: str) -> None:
    stage.whole(name)
    stage.refill()
    log = stage.log
    ended = stage.run(WORKLOADS[name].words, strace=Strace(inject.partition(":")[0], log, inject))
    injected = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if "(INJECTED)" in line]
    if not injected:
        campaign.counts["was done before the fault"] += 1
    elif not all(concerns(line.partition("(")[2], stage.folder) for line in injected):
        campaign.counts["hit a file of the system"] += 1  # threads make the number of a call vary
        return
    campaign.counts[inject.split("=")[1].split(":")[0]] += 1
    try:
        stage.expect(ended, (0, 1))
        stage.check_untouched_or_whole(name)
        campaign.counts["went on without it" if ended.code == 0 else "ended with one line"] += 1
        if ended.code or not any("pictures/" in line for line in injected):
            stage.check_finishes(name)  # else a picture that could not be read was left out, which is correct
    except Failed as error:
        raise Failed(f"{inject}: {error}") from None


# -- real disks -------------------------------------------------------------------------------------------------------


def _fill_disks(campaign: Campaign) -> None:
    """Run commands on a nearly full disk and on a read-only one: a small tmpfs that is remounted."""
    if (campaign.only and not campaign.only.startswith("disk-")) or not campaign.wants_disks:
        return
    disk = campaign.scratch / "disk"
    disk.mkdir(parents=True, exist_ok=True)
    if not _mount(disk, "size=256m"):
        campaign.skipped.append("full and read-only disks: a tmpfs cannot be mounted here (root can)")
        return
    try:
        stage = Stage(disk, campaign.scratch)
        stage.prepare()
        names = [f"disk-{name}" for name in WORKLOADS if campaign.allows(name)]
        for label, kind, number in campaign.cases(
            names, lambda kind: len(FREE) if stage.can_play(campaign, kind[5:]) else 0
        ):
            case = partial(_play_disk, campaign, stage, kind.removeprefix("disk-"), number)
            campaign.run(label, case, stage.folder)
    finally:
        _unmount(disk)


def _play_disk(campaign: Campaign, stage: Stage, name: str, number: int) -> None:
    """Run a command on a disk that is full or read-only, then on the same disk with free space."""
    stage.whole(name)
    stage.refill()
    disk, free = stage.folder.parent, FREE[number]
    what = "read-only disk" if free is None else f"disk with {free >> 10} KiB left"
    size = f"size={shutil.disk_usage(disk).used + (free or 0)}"
    if not _mount(disk, "remount,ro" if free is None else f"remount,{size}"):
        raise Failed(f"{what}: the tmpfs cannot be mounted again")
    try:
        ended = stage.run(WORKLOADS[name].words)
    finally:
        _mount(disk, "remount,rw,size=256m")
    campaign.counts["full disks" if free is not None else "read-only disks"] += 1
    try:
        stage.expect(ended, (0, 1))
        stage.check_untouched_or_whole(name)
        stage.check_finishes(name)
    except Failed as error:
        raise Failed(f"{what}: {error}") from None


def _mount(folder: os.PathLike[str], options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", os.fspath(folder)]
    return subprocess.run(command, capture_output=True).returncode == 0


def _unmount(folder: os.PathLike[str]) -> None:
    subprocess.run(["umount", os.fspath(folder)], capture_output=True)
