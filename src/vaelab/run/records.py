"""The JSON files of a run: their schemas, and reading with validation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from vaelab.run.layout import TRACKERS
from vaelab.system.files import check_shape, read_json
from vaelab.system.machine import Precision


class _Record(BaseModel):
    """A JSON object whose known keys have these types; it may have other keys."""

    model_config = ConfigDict(extra="allow", strict=True)


class Machine(_Record):
    """machine.json: place and fingerprint of the data, device, threads, versions; ``finished`` comes last."""

    recipe: str = ""
    command: str = ""
    torch_device: str = ""
    precision: Precision | None = None
    threads: int = Field(1, ge=1)
    ranks: int = Field(1, ge=1)
    steps: int = Field(0, ge=0)
    """Length of the training that was asked for."""
    steps_per_epoch: int = Field(0, ge=0)
    data_dir: str | None = None
    data: str = ""
    data_sha256: str = ""
    validated_on: str = ""
    notes: list[str] = []
    ended_at: int | None = Field(None, ge=1)
    """Step at which the training was finished before its end (``vaelab finish``)."""
    ended_by: str = ""
    """"patience" if the training stopped because the held-out loss did not fall."""
    best_step: int | None = Field(None, ge=1)
    """Step of the weights that were kept because their held-out loss is the lowest (``training.patience``)."""
    finished: str = ""
    figures: list[str] = []
    """Names of the figures that the finished run had."""


class Measured(_Record):
    """One metric in evaluation.json."""

    measured_on: dict[str, Any]
    protocol: dict[str, Any]


class Evaluation(RootModel[dict[str, Measured]]):
    """evaluation.json: metric → numbers and protocol."""


class Pictures(RootModel[dict[str, dict[str, Any]]]):
    """pictures.json: split → arguments that find its pictures again (``datasets._folder_selection.Selection``)."""


class FoundByDoctor(_Record):
    """One finding in doctor.json."""

    name: str
    level: Literal["problem", "notice", "fine"]
    found: str
    meaning: str = ""
    advice: str = ""


class Findings(_Record):
    """doctor.json."""

    findings: list[FoundByDoctor] = []


class ResultsOrigin(_Record):
    """source.json, in a directory of results outside of the run: which run they belong to."""

    run: str
    weights_sha256: str


class TrackerState(_Record):
    """trackers/NAME.json: how far the mirror of a run in a tracker is."""

    id: str
    """Identifies the mirror; the same whenever the run is resumed."""
    step: int = Field(ge=0)
    """The last step that was sent."""
    complete: bool
    """Whether everything was sent, results included."""


def sampler_facts(section: Mapping[str, Any], weights_sha256: str) -> dict[str, Any]:
    """Return the facts in the header of ``sampler.safetensors``: its section, and the weights that it was fitted to."""
    return {"sampler": dict(section), "weights_sha256": weights_sha256}


class ModelFacts(_Record):
    """Facts in the header of ``model.safetensors``."""

    recipe: dict[str, Any]
    name: str
    image_shape: list[int] = Field(min_length=3, max_length=3)
    num_images: int = Field(ge=1)
    condition_names: list[str] = []
    data_sha256: str | None = None


REMEDIES = {
    "recipe.toml": "restore a copy, or train into another --run",
    "machine.json": "restore a copy, or remove it: the run then no longer knows its data, threads and precision",
    "pictures.json": "remove it, and the images are loaded as for a new run",
    "evaluation.json": "remove it, and vaelab evaluate measures again",
    "doctor.json": "remove it, and vaelab doctor looks again",
    "source.json": "remove it if the directory holds results of this run, or choose another --out",
    "model.safetensors": "the same vaelab train command sets it aside and makes it again from the last checkpoint",
    "sampler.safetensors": "remove it, and the sampler is fitted again to the training images",
}
"""Damaged file → what the user can do."""
TRACKER_REMEDY = "remove it, and the tracker gets a new mirror of the run"


def read_tracker_state(run_path: Path, name: str) -> dict[str, Any]:
    """Return how far the mirror of a run in a tracker is; empty if there is none. Raises DamagedFile."""
    return read_record(run_path / TRACKERS / f"{name}.json", TrackerState, TRACKER_REMEDY)


def read_record(path: Path, model: type[BaseModel], remedy: str = "") -> dict[str, Any]:
    """Return the content of a JSON file, keys in their order; empty if there is no file. Raises DamagedFile.

    The content is validated but returned as it was read, so that writing it again gives the same bytes.
    """
    if not path.exists():
        return {}
    remedy = remedy or REMEDIES[path.name]
    found: dict[str, Any] = read_json(path, dict, remedy=remedy)
    check_shape(path, found, model, remedy)
    return found
