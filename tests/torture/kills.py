"""Commands killed at random moments, some several times; afterwards the same command must end as if undisturbed."""

from functools import partial

from .campaign import Campaign, Failed
from .children import Limits
from .workloads import WORKLOADS, Stage

MOST_KILLS = 3


def run(campaign: Campaign, stage: Stage) -> None:
    """Kill commands with SIGKILL at moments distributed evenly over their duration."""
    stage.prepare()
    names = [name for name in WORKLOADS if campaign.allows(name)]
    for label, name, _ in campaign.cases(names, lambda name: None if stage.can_play(campaign, name) else 0):
        campaign.run(label, partial(_play, campaign, stage, label, name), stage.folder)


def _play(campaign: Campaign, stage: Stage, label: str, name: str) -> None:
    random, workload = campaign.random(label), WORKLOADS[name]
    seconds = stage.whole(name)[2]
    stage.refill()
    for count in range(random.randint(1, MOST_KILLS)):
        words = workload.words if count == 0 else (*workload.words, *workload.again)
        ended = stage.run(words, limits=Limits(kill_after=random.uniform(0, seconds)))
        if not ended.was_killed:
            campaign.counts["was done before the kill"] += 1
            stage.expect(ended, (0, 1) if workload.clear else (0,))
            break
        campaign.counts["kills"] += 1
        if "Traceback" in ended.err:
            raise Failed(f"a traceback before the kill: {ended.err.strip().splitlines()[-1]}")
        stage.check_untouched_or_whole(name)
    stage.check_finishes(name)
