"""What the verbs do, as functions that print nothing."""

from vaelab.lab.comparison import QUANTITIES, Comparison, compare
from vaelab.lab.data import check_data, data_terms, get_data, list_data, pack_data
from vaelab.lab.edits import edit
from vaelab.lab.outputs import encode, reconstruct, sample
from vaelab.lab.plans import plan
from vaelab.lab.results import evaluate, figures, list_recipes, load, report
from vaelab.lab.runs import Event, Finished, Note, Started, train
from vaelab.lab.sweeps import MemberEnded, Sweep, SweepEvent, SweepPlan, parse_over, plan_sweep, sweep

__all__ = [
    "QUANTITIES",
    "Comparison",
    "Event",
    "Finished",
    "MemberEnded",
    "Note",
    "Started",
    "Sweep",
    "SweepEvent",
    "SweepPlan",
    "check_data",
    "compare",
    "data_terms",
    "edit",
    "encode",
    "evaluate",
    "figures",
    "get_data",
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
    "sweep",
    "train",
]
