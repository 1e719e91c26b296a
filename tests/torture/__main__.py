"""``python -m tests.torture``: run campaigns, print what was counted, exit 1 if any case failed."""

import argparse
import os
import shutil
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

from .campaign import Campaign, Failed, Unavailable
from .children import preload
from .workloads import Stage

CAMPAIGNS = {"kills": 0.25, "syscalls": 0.25, "faults": 0.2, "fuzz": 0.2, "load": 0.1}
"""Campaign → share of the time."""
KEEP = Path("build/torture")


SHORT = {
    "kills": (5, "train-folder,encode-npz"),
    "syscalls": (6, "encode,train-folder"),
    "faults": (10, "encode,train-folder"),
    "fuzz": (39, ""),
    "load": (300, ""),
}
"""Campaign → number of cases and kinds of the short form."""


def main() -> int:
    """Run the campaigns that the command line names."""
    asked = _parse()
    if sys.platform != "linux":
        print("the campaigns need Linux: fork, /proc and strace")
        return 2
    os.environ["OMP_NUM_THREADS"] = "1"
    preload()
    names = asked.campaigns or ([asked.case.partition("/")[0]] if asked.case else list(CAMPAIGNS))
    shares = sum(CAMPAIGNS[name] for name in names)
    done = []
    with tempfile.TemporaryDirectory(prefix="vaelab-torture-") as place:
        scratch = Path(place).resolve()
        stage = Stage(scratch / "stage", scratch / "outputs")
        for name in names:
            most, kinds = SHORT[name] if asked.short else (asked.cases, asked.kinds)
            campaign = Campaign(
                name,
                asked.seed,
                scratch / name,
                KEEP.resolve(),
                seconds=60 * asked.minutes * CAMPAIGNS[name] / shares,
                most_cases=most,
                kinds=tuple(filter(None, kinds.split(","))),
                wants_disks=not asked.short,
                only=asked.case.partition("/")[2],
            )
            done.append((campaign, _run(campaign, stage)))
            shutil.rmtree(campaign.scratch, ignore_errors=True)
    _tell(done, asked.seed)
    return 1 if any(campaign.failures for campaign, _ in done) else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("campaigns", nargs="*", metavar="campaign", help=f"{', '.join(CAMPAIGNS)} (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all cases (default: 0)")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all campaigns together (default: 10)")
    parser.add_argument("--cases", type=int, help="most cases of each campaign")
    parser.add_argument("--short", action="store_true", help="few cases, the same each time, as in make test-all")
    parser.add_argument("--kinds", default="", help="commands or kinds of files, separated by commas (default: all)")
    parser.add_argument(
        "--case", default="", metavar="CAMPAIGN/LABEL", help="run only this case, as a failure prints it"
    )
    asked = parser.parse_args()
    unknown = set(asked.campaigns) - set(CAMPAIGNS)
    if unknown:
        parser.error(f"no campaign {', '.join(sorted(unknown))}; there are {', '.join(CAMPAIGNS)}")
    return asked


def _run(campaign: Campaign, stage: Stage) -> str:
    """Run a campaign; return why it cannot be run here, or an empty string."""
    campaign.scratch.mkdir(parents=True)
    campaign.began = time.monotonic()
    try:
        import_module(f".{campaign.name}", __package__).run(campaign, stage)
    except Unavailable as error:
        return str(error)
    except Failed as error:
        campaign.failures.append(("preparation", str(error)))
    finally:
        campaign.ended = time.monotonic()
    return ""


def _tell(done: list[tuple[Campaign, str]], seed: int) -> None:
    """Print a table, the numbers, and for every failure a command that repeats it."""
    print(f"\n{'campaign':10}  {'cases':>7}  {'failures':>8}  {'seconds':>7}")
    for campaign, missing in done:
        seconds = campaign.seconds_taken
        print(f"{campaign.name:10}  {campaign.num_cases:7,}  {len(campaign.failures):8,}  {seconds:7.0f}  {missing}")
    for campaign, _ in done:
        counted = [f"{name} {count:,}" for name, count in sorted(campaign.counts.items())]
        counted += [f"{name} {value:,.0f}" for name, value in sorted(campaign.facts.items())]
        if counted:
            print(f"\n{campaign.name}: {'; '.join(counted)}")
        for reason in campaign.skipped:
            print(f"{campaign.name}: skipped: {reason}")
    failures = [(campaign, label, what) for campaign, _ in done for label, what in campaign.failures]
    if failures:
        print(f"\n{len(failures)} failures; the folders of the cases are kept in {KEEP}:")
    for campaign, label, what in failures:
        print(f"  {what}\n    python -m tests.torture --seed {seed} --case {campaign.name}/{label}")


if __name__ == "__main__":
    sys.exit(main())
