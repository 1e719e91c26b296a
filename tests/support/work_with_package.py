"""Trains, evaluates and compares with the members of another package; started by tests/test_extending.py."""

import json

import blocks

import vaelab
from vaelab.system.errors import UsageError

TINY = {
    "network.name": "mlp", "network.hidden": [16], "training.steps": 60, "training.threads": 1, "training.figures": [],
}  # fmt: skip
FREE = {**TINY, "objective.name": "free", "objective.free_nats": 3.0}


def main() -> None:
    """Print everything that the test checks as JSON."""
    events: list[vaelab.Event] = []
    runs = [vaelab.train("digits", {**FREE, "training.seed": seed}, run=f"run-{seed}") for seed in (0, 1)]
    vaelab.train("digits", {**FREE, "training.seed": 0}, run="run-0", watch=events.append)
    refused = ""
    try:
        vaelab.train("digits", {**FREE, "objective.free_nats": -1.0})
    except UsageError as error:
        refused = str(error)
    found = {
        "already": [event.already for event in events if isinstance(event, vaelab.Finished)],
        "refused": refused,
        "measured": vaelab.evaluate("run-0", metrics=["spread", "active_units"]).results,
        "rows": vaelab.compare(runs, out="both").rows,
        "history": {name: values.tolist() for name, values in runs[0].history.items()},
        "is_in_report": "distance of codes" in (runs[0].path / "report.html").read_text(),
        "table": blocks.metrics(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
