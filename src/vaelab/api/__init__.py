"""What the verbs do, as functions that print nothing.

Each is imported when it is first used, so that a training need not wait for what draws and compares.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaelab.api.compare import QUANTITIES, Comparison, compare
    from vaelab.api.data import check_data, data_terms, describe_data, get_data, list_data, pack_data
    from vaelab.api.edit import edit
    from vaelab.api.explore import explore
    from vaelab.api.export import Exported, export_run
    from vaelab.api.outputs import encode, reconstruct, sample
    from vaelab.api.plan import plan
    from vaelab.api.results import diagnose, evaluate, figures, is_writable, list_recipes, load, report
    from vaelab.api.score import Scored, score
    from vaelab.api.sweep import MemberEnded, Sweep, SweepEvent, SweepPlan, parse_over, plan_sweep, sweep
    from vaelab.api.train import Event, Finished, Note, Started, train

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
        raise AttributeError(f"module 'vaelab.api' has no attribute {name!r}")
    return getattr(import_module(f"vaelab.api.{_HOMES[name]}"), name)
