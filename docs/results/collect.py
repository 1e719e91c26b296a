"""Print the results of a run as JSON for the docs: python docs/results/collect.py RUN > docs/results/NAME.json

The file holds the command, the machine, the means that the report shows, the ELBO of every validation, and
the evaluations. Paths and digests of a
single machine are left out.
"""

import json
import re
import sys
from typing import Any

import vaelab

FACTS = ("processor", "torch_device", "threads", "precision", "ranks", "python", "torch", "vaelab", "finished")


def clean(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Results without the digests of what they were measured on."""
    return {
        name: {key: value for key, value in entry.items() if key != "measured_on"} for name, entry in evaluation.items()
    }


def collect(run: vaelab.Run) -> dict[str, object]:
    """The results of a finished run."""
    machine = run.machine
    command = re.sub(r" --(data|run) \S+", "", machine["command"])
    evaluation, splits = (
        clean(run.evaluation),
        {split: clean(run.split_evaluation(split)) for split in run.measured_splits},
    )
    facts = {key: machine[key] for key in FACTS}
    sizes = {"num_images": vaelab.load(run).spec.num_images, "num_steps": int(run.history["step"][-1])}
    kept = {key: machine[key] for key in ("best_step", "ended_at") if key in machine}
    curve = {key: run.validation[key].tolist() for key in ("step", "epoch", "elbo") if key in run.validation}
    found = {"command": command, **sizes, **kept, "machine": facts, "validation": curve}
    found |= {"measured": run.measured(), "evaluation": evaluation}
    return {**found, "splits": splits} if splits else found


if __name__ == "__main__":
    print(json.dumps(collect(vaelab.Run(sys.argv[1])), indent=1, ensure_ascii=False))
