"""What the verbs do, as functions that print nothing.

Each is imported when it is first used, so that a training need not wait for what draws and compares.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaelab.lab.comparison import QUANTITIES, Comparison, compare
    from vaelab.lab.data import check_data, data_terms, describe_data, get_data, list_data, pack_data
    from vaelab.lab.edits import edit
    from vaelab.lab.exports import Exported, export_run
    from vaelab.lab.outputs import encode, reconstruct, sample
    from vaelab.lab.plans import plan
    from vaelab.lab.results import diagnose, evaluate, figures, is_writable, list_recipes, load, report
    from vaelab.lab.runs import Event, Finished, Note, Started, train
    from vaelab.lab.scenes import explore
    from vaelab.lab.scores import Scored, score
    from vaelab.lab.sweeps import MemberEnded, Sweep, SweepEvent, SweepPlan, parse_over, plan_sweep, sweep

_HOMES = {
    "Comparison": "comparison",
    "Event": "runs",
    "Exported": "exports",
    "Finished": "runs",
    "MemberEnded": "sweeps",
    "Note": "runs",
    "QUANTITIES": "comparison",
    "Scored": "scores",
    "Started": "runs",
    "Sweep": "sweeps",
    "SweepEvent": "sweeps",
    "SweepPlan": "sweeps",
    "check_data": "data",
    "compare": "comparison",
    "data_terms": "data",
    "describe_data": "data",
    "diagnose": "results",
    "edit": "edits",
    "encode": "outputs",
    "evaluate": "results",
    "explore": "scenes",
    "export_run": "exports",
    "figures": "results",
    "get_data": "data",
    "is_writable": "results",
    "list_data": "data",
    "list_recipes": "results",
    "load": "results",
    "pack_data": "data",
    "parse_over": "sweeps",
    "plan": "plans",
    "plan_sweep": "sweeps",
    "reconstruct": "outputs",
    "report": "results",
    "sample": "outputs",
    "score": "scores",
    "sweep": "sweeps",
    "train": "runs",
}

__all__ = [
    "QUANTITIES",
    "Comparison",
    "Event",
    "Exported",
    "Finished",
    "MemberEnded",
    "Note",
    "Scored",
    "Started",
    "Sweep",
    "SweepEvent",
    "SweepPlan",
    "check_data",
    "compare",
    "data_terms",
    "describe_data",
    "diagnose",
    "edit",
    "encode",
    "evaluate",
    "explore",
    "export_run",
    "figures",
    "get_data",
    "is_writable",
    "list_data",
    "list_recipes",
    "load",
    "pack_data",
    "parse_over",
    "plan",
    "plan_sweep",
    "reconstruct",
    "report",
    "sample",
    "score",
    "sweep",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import a function from its module when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vaelab.lab' has no attribute {name!r}")
    return getattr(import_module(f"vaelab.lab.{_HOMES[name]}"), name)
