"""``vaelab train`` and ``recipes``: files of a run, resuming, refusals, plans."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from idx_files import write_idx_set
from typed import TINY_WORDS, Typed, one_line

from vaelab.run import Run
from vaelab.system.paths import cache_dir

FILES = {
    "recipe.toml", "machine.json", "run.log", "history.csv", "timing.csv", "validation.csv", "checkpoints",
    "model.safetensors", "figures", "evaluation.json", "doctor.json", "report.html",
}  # fmt: skip


def read_files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def plan(cli: Typed, *words: object) -> dict[str, object]:
    code, out, _ = cli("train", *words, "--dry-run", "--json")
    assert code == 0
    return json.loads(out)


# -- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_train_writes_a_complete_run_once(cli: Typed, tmp_path: Path) -> None:
    words = ("train", "digits", *TINY_WORDS, "--set", "training.figures=all", "--run", "out")
    code, out, err = cli(*words)
    assert (code, err) == (0, "")
    assert re.search(r"epoch +2 +held-out: loss \d+\.\d\d", out)
    run = tmp_path / "out"
    assert FILES <= {path.name for path in run.iterdir()} <= FILES | {"cache", ".lock"}
    history = (run / "history.csv").read_text().splitlines()
    assert history[0].startswith("step,epoch,loss,reconstruction,kl")
    assert len(history) == 61
    assert {path.stem for path in (run / "figures").glob("*.png")} >= {
        "data", "elbo", "latent", "losses", "manifold", "reconstructions", "samples",
    }  # fmt: skip
    before = read_files(run)
    assert cli(*words)[0] == 0
    assert read_files(run) == before


@pytest.mark.parametrize(("figures", "names"), [("[]", set()), ('["losses"]', {"losses"})])
def test_only_the_figures_of_the_recipe_are_drawn(cli: Typed, figures: str, names: set[str]) -> None:
    assert cli("train", "digits", *TINY_WORDS, "--set", f"training.figures={figures}", "--run", "r")[0] == 0
    assert set(Run("r").figures) == names
    assert Run("r").is_finished


@pytest.mark.slow
def test_the_resolved_recipe_gives_the_same_run_again(cli: Typed, trained: Path, tmp_path: Path) -> None:
    assert cli("train", trained / "recipe.toml", "--run", "again")[0] == 0
    for name in ("history.csv", "recipe.toml"):
        assert (tmp_path / "again" / name).read_bytes() == (trained / name).read_bytes()


@pytest.mark.slow
def test_the_stored_command_can_be_typed_again(cli: Typed, tmp_path: Path) -> None:
    words = [*TINY_WORDS, "--set", "objective.warmup_steps=5", "--set", "data.binarize=threshold", "--run", "one"]
    assert cli("train", "digits", *words)[0] == 0
    again = shlex.split(Run("one").machine["command"].replace("--run one", "--run two"))
    assert cli(*again[1:])[0] == 0
    assert (tmp_path / "two" / "history.csv").read_bytes() == (tmp_path / "one" / "history.csv").read_bytes()


def test_dynamic_binarisation_trains_a_likelihood(cli: Typed) -> None:
    words = ("likelihood.name=bernoulli", "data.binarize=dynamic", "data.valid=100")
    options = [option for word in words for option in ("--set", word)]
    code, _, err = cli("train", "digits", *TINY_WORDS, *options, "--run", "b")
    assert (code, err) == (0, "")
    elbo = Run("b").evaluation["elbo"]
    assert elbo["elbo"] == pytest.approx(-elbo["reconstruction"] - elbo["kl"], rel=1e-6)
    expected = {"split": "100 images set aside from train", "binarize": "dynamic", "binarize_seed": 0}
    assert expected.items() <= elbo["measured_on"].items()
    assert elbo["protocol"]["images"] == 100


@pytest.mark.slow
def test_a_bernoulli_likelihood_of_grey_images_is_a_cross_entropy(
    cli: Typed, wording: Callable[[object], None]
) -> None:
    code, out, _ = cli("train", "digits", *TINY_WORDS, "--set", "likelihood.name=bernoulli", "--run", "g")
    elbo = Run("g").evaluation["elbo"]
    assert (code, elbo["measured_on"]["binarize"]) == (0, "none")
    (warning,) = [line for line in out.splitlines() if line.startswith("warning: ")]
    wording(warning)
    wording(elbo["protocol"]["log_likelihood"])


def test_a_weighted_kl_is_printed_as_a_sum(cli: Typed) -> None:
    _, out, _ = cli("train", "digits", *TINY_WORDS, "--set", "objective.beta=4", "--run", "b4")
    numbers = re.search(r"^loss ([\d.]+) = reconstruction ([\d.]+) \+ β·KL ([\d.]+) \(KL ([\d.]+)\)", out, re.M)
    assert numbers is not None
    loss, reconstruction, weighted, kl = map(float, numbers.groups())
    assert loss == pytest.approx(reconstruction + weighted, abs=0.011)
    assert weighted == pytest.approx(4 * kl, abs=0.03)


def test_a_warning_is_printed_logged_and_reported(
    cli: Typed, tmp_path: Path, wording: Callable[[object], None]
) -> None:
    code, out, _ = cli("train", "digits", *TINY_WORDS, "--set", "objective.warmup_steps=500", "--run", "w")
    (warning,) = [line.removeprefix("warning: ") for line in out.splitlines() if line.startswith("warning: ")]
    assert code == 0
    assert warning in (tmp_path / "w" / "run.log").read_text()
    assert warning in (tmp_path / "w" / "report.html").read_text()
    wording(warning)


def test_divergence_is_one_line_with_the_step_and_a_remedy(cli: Typed) -> None:
    code, _, err = cli("train", "digits", *TINY_WORDS, "--set", "training.learning_rate=1e30", "--run", "d")
    assert code == 1
    assert re.search(r"step \d+.*training\.learning_rate", one_line(err))


def test_fashion_trains_on_files_in_its_format(cli: Typed, tmp_path: Path) -> None:
    write_idx_set(tmp_path / "data" / "FashionMNIST" / "raw")
    code, _, err = cli("train", "fashion", *TINY_WORDS, "--data", "data", "--run", "f")
    assert (code, err) == (0, "")
    code, out, _ = cli("evaluate", "f", "--metrics", "elbo", "--json")  # the place of the data is stored
    assert (code, json.loads(out)["elbo"]["protocol"]["images"]) == (0, 40)


# -- resuming ---------------------------------------------------------------------------------------------------------


def test_other_images_are_refused_on_resume(cli: Typed, tmp_path: Path, wording: Callable[[object], None]) -> None:
    write_idx_set(tmp_path / "mnist")
    assert cli("train", "mnist", *TINY_WORDS, "--data", "mnist", "--run", "r")[0] == 0
    (tmp_path / "r" / "model.safetensors").unlink()
    write_idx_set(tmp_path / "mnist", count=50)
    code, _, err = cli("train", "mnist", *TINY_WORDS, "--data", "mnist", "--run", "r")
    assert code == 1
    wording(one_line(err))
    shutil.rmtree(tmp_path / "mnist")
    code, _, err = cli("train", "mnist", *TINY_WORDS, "--run", "r")
    assert code == 1
    wording(one_line(err))


def test_the_place_of_the_images_is_stored_and_may_change(
    cli: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx_set(tmp_path / "a" / "mnist")
    monkeypatch.setenv("VAELAB_DATA", str(tmp_path / "a"))
    assert cli("train", "mnist", *TINY_WORDS, "--run", "r")[0] == 0
    monkeypatch.delenv("VAELAB_DATA")
    assert cli("reconstruct", "r")[0] == 0
    (tmp_path / "a").rename(tmp_path / "b")
    assert cli("evaluate", "r", "--metrics", "elbo")[0] == 1
    assert cli("evaluate", "r", "--metrics", "elbo", "--data", "b")[0] == 0


def test_a_run_without_its_results_is_completed(cli: Typed, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "half")
    machine = Run("half").machine
    (tmp_path / "half" / "machine.json").write_text(json.dumps({k: v for k, v in machine.items() if k != "finished"}))
    shutil.rmtree(tmp_path / "half" / "figures")
    words = (*TINY_WORDS, "--set", 'training.figures=["losses"]', "--run", "half")
    assert cli("train", "digits", *words)[0] == 0
    assert (tmp_path / "half/figures/losses.png").read_bytes() == (trained / "figures/losses.png").read_bytes()
    assert Run("half").is_finished


def test_refused_directories_stay_as_they_are(
    cli: Typed, trained: Path, tmp_path: Path, wording: Callable[[object], None]
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "report.html").write_text("mine")
    shutil.copytree(trained, tmp_path / "other")
    before = read_files(tmp_path)
    for words in (("--run", "thesis"), ("--set", "objective.beta=2", "--run", "other")):
        code, _, err = cli("train", "digits", *TINY_WORDS, *words)
        assert code == 1
        wording(one_line(err))
    assert read_files(tmp_path) == before


def test_a_full_disk_is_noticed_before_training(cli: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10**9, 10**9, 5_000_000))
    code, _, err = cli("train", "digits", *TINY_WORDS, "--run", "full")
    assert (code, "5 MB" in one_line(err)) == (1, True)
    assert not Run.at("full").is_trained


# -- plans and presets ------------------------------------------------------------------------------------------------


def test_a_plan_tells_directory_sizes_and_equivalents(cli: Typed, tmp_path: Path) -> None:
    facts = plan(cli, "digits", "--set", "objective.beta=4", "--seed", 3)
    assert (facts["run"], facts["state"]) == ("runs/digits-beta=4-seed=3", "new")
    assert sum(facts["parameters"].values()) == 133_381
    assert (facts["parameters"]["encoder"], facts["parameters"]["decoder"]) == (68_292, 65_089)
    assert facts["equivalents"] == pytest.approx({"beta": 4, "sigma": 2**0.5, "beta_normalised": 8 / 784})
    assert not (tmp_path / "runs").exists()


def test_a_plan_downloads_nothing(cli: Typed, trained: Path) -> None:
    facts = plan(cli, "mnist")
    assert (facts["images"], facts["steps"]) == ({"train": 60_000, "test": 10_000}, 37_500)
    assert not list(cache_dir().rglob("*ubyte*"))
    assert plan(cli, "digits", *TINY_WORDS, "--run", trained)["state"] == "done"
    images = plan(cli, "digits", "--set", "data.valid=100")["images"]
    assert images == {"train": 1338, "100 images set aside from train": 100}
    assert cli("train", "digits", "--run", trained, "--dry-run")[0] == 1


def test_the_plan_for_people_is_a_recipe(cli: Typed, tmp_path: Path, wording: Callable[[object], None]) -> None:
    code, out, err = cli("train", "digits", "--dry-run")
    assert (code, err) == (0, "")
    first = out.splitlines()[:5]
    assert re.fullmatch(r"# time: about \d+ (s|min) on cpu, then metrics and figures", first.pop(3))
    wording("\n".join(first))
    (tmp_path / "own.toml").write_text(out)
    assert plan(cli, "own.toml")["recipe"] == plan(cli, "digits")["recipe"]


def test_published_numbers_belong_to_their_experiment(cli: Typed) -> None:
    assert plan(cli, "mnist", "--seed", 1)["recipe"]["expected"]["loss_at_end"] == 38.7
    assert plan(cli, "mnist", "--set", "objective.beta=4")["recipe"]["expected"] == {}


def test_a_preset_is_printed_to_start_from(cli: Typed, tmp_path: Path, wording: Callable[[object], None]) -> None:
    (tmp_path / "mine.toml").write_text(cli("recipes", "mnist")[1])
    assert plan(cli, "mine.toml")["recipe"] == plan(cli, "mnist")["recipe"]
    code, _, err = cli("recipes", "mnits")
    assert code == 2
    wording(one_line(err))


def test_presets_are_listed(cli: Typed) -> None:
    code, out, _ = cli("recipes", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert (code, rows["mnist"]["parameters"]) == (0, 207_237)
    assert rows["mnist"]["expected"]["loss_last_five_epochs"] == 37.4
    assert "mnist\t28×28×1\t2\tbeta\t207 k\t20 epochs\t38.7" in cli("recipes")[1]
