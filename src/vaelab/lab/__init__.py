"""What the verbs do, as functions that print nothing."""

from vaelab.lab.data import check_data, get_data, list_data
from vaelab.lab.outputs import encode, reconstruct, sample
from vaelab.lab.plans import plan
from vaelab.lab.results import evaluate, figures, list_recipes, load, report
from vaelab.lab.runs import Event, Finished, Note, Started, train

__all__ = [
    "Event",
    "Finished",
    "Note",
    "Started",
    "check_data",
    "encode",
    "evaluate",
    "figures",
    "get_data",
    "list_data",
    "list_recipes",
    "load",
    "plan",
    "reconstruct",
    "report",
    "sample",
    "train",
]
