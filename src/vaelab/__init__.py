"""vaelab: variational autoencoders of images, from training to sharing, one function per step.

>>> import vaelab
>>> run = vaelab.train("digits")                      # doctest: +SKIP
>>> model = vaelab.load(run.path)                     # doctest: +SKIP
>>> model.encode(images).mean, model.sample(16)       # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaelab.api.compare import Comparison as Comparison
    from vaelab.api.compare import compare as compare
    from vaelab.api.data import cache_data as cache_data
    from vaelab.api.data import check_data as check_data
    from vaelab.api.data import data_terms as data_terms
    from vaelab.api.data import describe_data as describe_data
    from vaelab.api.data import get_data as get_data
    from vaelab.api.data import list_data as list_data
    from vaelab.api.edit import edit as edit
    from vaelab.api.evaluate import evaluate as evaluate
    from vaelab.api.explore import explore as explore
    from vaelab.api.export import Exported as Exported
    from vaelab.api.outputs import encode as encode
    from vaelab.api.outputs import reconstruct as reconstruct
    from vaelab.api.outputs import sample as sample
    from vaelab.api.plan import plan as plan
    from vaelab.api.results import is_writable as is_writable
    from vaelab.api.results import list_recipes as list_recipes
    from vaelab.api.results import load as load
    from vaelab.api.results import report as report
    from vaelab.api.score import Scored as Scored
    from vaelab.api.score import score as score
    from vaelab.api.sweep import MemberEnded as MemberEnded
    from vaelab.api.sweep import Sweep as Sweep
    from vaelab.api.sweep import SweepEvent as SweepEvent
    from vaelab.api.sweep import SweepPlan as SweepPlan
    from vaelab.api.sweep import parse_over as parse_over
    from vaelab.api.sweep import plan_sweep as plan_sweep
    from vaelab.api.sweep import sweep as sweep
    from vaelab.api.train import Event as Event
    from vaelab.api.train import Finished as Finished
    from vaelab.api.train import Note as Note
    from vaelab.api.train import Started as Started
    from vaelab.api.train import train as train
    from vaelab.data.images import Images as Images
    from vaelab.models.vae import VAE as VAE
    from vaelab.recipe import Recipe as Recipe
    from vaelab.run import Run as Run

_HOMES = {
    "check_data": "vaelab.api.data",
    "compare": "vaelab.api.compare",
    "data_terms": "vaelab.api.data",
    "describe_data": "vaelab.api.data",
    "doctor": "vaelab.api.results:diagnose",
    "draw_figures": "vaelab.api.results:figures",
    "edit": "vaelab.api.edit",
    "encode": "vaelab.api.outputs",
    "evaluate": "vaelab.api.evaluate",
    "explore": "vaelab.api.explore",
    "export": "vaelab.api.export:export_run",
    "get_data": "vaelab.api.data",
    "is_writable": "vaelab.api.results",
    "list_data": "vaelab.api.data",
    "list_recipes": "vaelab.api.results",
    "load": "vaelab.api.results",
    "cache_data": "vaelab.api.data",
    "parse_over": "vaelab.api.sweep",
    "plan": "vaelab.api.plan",
    "plan_sweep": "vaelab.api.sweep",
    "reconstruct": "vaelab.api.outputs",
    "report": "vaelab.api.results",
    "sample": "vaelab.api.outputs",
    "score": "vaelab.api.score",
    "sweep": "vaelab.api.sweep",
    "train": "vaelab.api.train",
    "Comparison": "vaelab.api.compare",
    "Event": "vaelab.api.train",
    "Exported": "vaelab.api.export",
    "Finished": "vaelab.api.train",
    "Images": "vaelab.data.images",
    "MemberEnded": "vaelab.api.sweep",
    "Note": "vaelab.api.train",
    "Recipe": "vaelab.recipe",
    "Run": "vaelab.run",
    "Scored": "vaelab.api.score",
    "Started": "vaelab.api.train",
    "Sweep": "vaelab.api.sweep",
    "SweepEvent": "vaelab.api.sweep",
    "SweepPlan": "vaelab.api.sweep",
    "VAE": "vaelab.models.vae",
}
"""Public name → its module, and the name there where it is another one."""

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a name of the public API on first use, so that ``import vaelab`` costs nothing (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vaelab' has no attribute {name!r}")
    module, _, original = _HOMES[name].partition(":")
    return getattr(import_module(module), original or name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
