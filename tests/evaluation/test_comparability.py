"""Groups of runs, their labels, and reasons not to compare them."""

from pathlib import Path
from typing import Any

import pytest
from typed import TINY

from vaelab import recipe
from vaelab.evaluation.comparability import find_obstacles, group_runs
from vaelab.run import Run


def begin_run(path: Path, overrides: dict[str, Any], sha: str = "x") -> Run:
    """A run that has just begun."""
    run = Run.at(path)
    run.begin(recipe.load("digits", {**TINY, **overrides}), {"data_sha256": sha, "recipe": "digits"})
    return run


@pytest.mark.parametrize(
    ("overrides", "labels"),
    [
        ([{"objective.beta": 0.5}, {"objective.beta": 4.0}], ["β = 0.5", "β = 4"]),
        ([{}, {"network.name": "conv", "network.channels": [8], "network.strides": [2]}], ["mlp", "conv"]),
        ([{}, {"objective.name": "elbo"}], ["beta", "elbo"]),
        ([{}, {"objective.beta": 4.0}, {"objective.name": "dip"}], ["beta, β = 1", "beta, β = 4", "dip"]),
        ([{"network.latent_dim": 2}, {"network.latent_dim": 9}], ["latents = 2", "latents = 9"]),
        ([{}, {"network.hidden": [8, 8]}], ["hidden = [16]", "hidden = [8, 8]"]),
        ([{"training.steps": 4}, {"training.steps": 0, "training.epochs": 2}], ["steps = 4", "epochs = 2"]),
        ([{}, {"training.seed": 3, "training.threads": 2}], ["digits"]),
        (
            [{}, {"objective.beta": 2.0, "network.hidden": [8, 8, 8, 8, 8, 8, 8, 8], "training.learning_rate": 0.1}],
            ["run-0", "run-1"],
        ),
    ],
)
def test_labels_describe_differences(tmp_path: Path, overrides: list[dict[str, Any]], labels: list[str]) -> None:
    made = [begin_run(tmp_path / f"run-{i}", values) for i, values in enumerate(overrides)]
    groups = group_runs(made)
    assert list(groups) == labels
    assert [run for members in groups.values() for run in members] == made


def test_runs_on_different_images_are_not_seeds_of_one_recipe(tmp_path: Path) -> None:
    made = [begin_run(tmp_path / name, {}, sha=name) for name in "ab"]
    assert list(group_runs(made)) == ["a", "b"]


class Data:
    """The facts about the images of a run that are compared."""

    def __init__(self, name: str = "digits", split: str = "test", side: int = 28, binarize: str = "none") -> None:
        self.dataset, self.valid_split, self.binarize = {"data": name, "crop": side}, split, binarize
        self.train = type("Train", (), {"image_shape": (1, side, side)})


def result(digest: str = "aaaaaaaaaa", **options: Any) -> dict[str, Any]:
    return {"elbo": {"measured_on": {"images_sha256": digest, "options": options}}}


SAME = (Data(), result(), {})


@pytest.mark.parametrize(
    ("data", "of_run", "overrides", "count"),
    [
        (*SAME, 0),
        (Data("mnist", "valid", 32, "threshold"), result("b"), {}, 1),  # everything else follows
        (Data(side=32, binarize="threshold"), result(), {}, 2),
        (Data(split="100 images set aside from train"), result("b"), {}, 1),
        (Data(), result("b"), {}, 1),
        (Data(), result(samples=3), {}, 1),
        (Data(), result(), {"likelihood.variance": 0.1}, 1),
        (Data(), result(), {"likelihood.name": "bernoulli"}, 1),
        (Data(), result(), {"network.latent_dim": 3, "objective.name": "elbo"}, 0),
    ],
)
def test_obstacles(
    tmp_path: Path, data: Data, of_run: dict[str, Any], overrides: dict[str, Any], count: int, wording: Any
) -> None:
    runs = [begin_run(tmp_path / "one", {}), begin_run(tmp_path / "other", overrides)]
    found = find_obstacles.__wrapped__(runs, [Data(), data], [result(), of_run])  # past the checker of the tests
    assert len(found) == count
    for sentence in found:
        wording(sentence)


def test_runs_trained_on_different_images(tmp_path: Path) -> None:
    runs = [begin_run(tmp_path / name, {}, sha=name * 9) for name in "ab"]
    (found,) = find_obstacles.__wrapped__(runs, [Data(), Data()], [result(), result()])
    assert "aaaaaaaa (a)" in found
    assert "bbbbbbbb (b)" in found
