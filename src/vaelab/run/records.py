"""The JSON files of a run: what each must hold, read and validated."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from vaelab.system.files import check_shape, read_json


class _Shape(BaseModel):
    """A JSON object whose known keys have these types; others may follow."""

    model_config = ConfigDict(extra="allow", strict=True)


class Machine(_Shape):
    """machine.json: where the data lay and its fingerprint, device, threads, versions; ``finished`` comes last."""

    recipe: str = ""
    command: str = ""
    torch_device: str = ""
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "auto"
    threads: int = Field(1, ge=1)
    ranks: int = Field(1, ge=1)
    data_dir: str | None = None
    data: str = ""
    data_sha256: str = ""
    validated_on: str = ""
    notes: list[str] = []
    finished: str = ""
    figures: list[str] = []
    """Names of those that were drawn when the run was finished."""


class Measured(_Shape):
    """One metric in evaluation.json."""

    measured_on: dict[str, Any]
    protocol: dict[str, Any]


class Evaluation(RootModel[dict[str, Measured]]):
    """evaluation.json: metric → numbers and protocol."""


class Pictures(RootModel[dict[str, dict[str, Any]]]):
    """pictures.json: split → what finds its pictures again (``datasets._selection.Selection``)."""


class FoundByDoctor(_Shape):
    """One finding in doctor.json."""

    name: str
    level: Literal["problem", "notice", "fine"]
    found: str
    meaning: str = ""
    advice: str = ""


class Findings(_Shape):
    """doctor.json."""

    findings: list[FoundByDoctor] = []


class ResultsOrigin(_Shape):
    """source.json, in a directory of results that is not the run's own: which run they are of."""

    run: str
    weights_sha256: str


class ModelFacts(_Shape):
    """What ``model.safetensors`` says of itself."""

    recipe: dict[str, Any]
    name: str
    image_shape: list[int] = Field(min_length=3, max_length=3)
    num_images: int = Field(ge=1)
    condition_names: list[str] = []
    data_sha256: str | None = None


REMEDIES = {
    "recipe.toml": "put a copy back, or train into another --run",
    "machine.json": "put a copy back, or remove it: the run then no longer knows its data, threads and precision",
    "pictures.json": "remove it, and the pictures are loaded as for a new run",
    "evaluation.json": "remove it, and vaelab evaluate measures again",
    "doctor.json": "remove it, and vaelab doctor looks again",
    "source.json": "remove it if the directory holds results of this run, or choose another --out",
    "model.safetensors": "the same vaelab train command sets it aside and makes it again from the last checkpoint",
}
"""What to do about a damaged file."""


def read_record(path: Path, shape: type[BaseModel]) -> dict[str, Any]:
    """The content of a JSON file, its keys in their order; empty if there is no file. Raises DamagedFile.

    What is written again must be the same bytes, so the shape is checked and what was read is returned.
    """
    if not path.exists():
        return {}
    found: dict[str, Any] = read_json(path, dict, remedy=REMEDIES[path.name])
    check_shape(path, found, shape, REMEDIES[path.name])
    return found
