"""The command line as a person types it: every verb, its files, its errors and exit codes."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyarrow import csv, parquet
from typed import TINY_WORDS, Typed

import vaelab
from vaelab.data import idx
from vaelab.run import Run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run on digits."""
    path = tmp_path_factory.mktemp("runs") / "digits"
    overrides = {"network.name": "mlp", "network.hidden": [16], "training.steps": 60, "training.threads": 1}
    vaelab.train("digits", overrides, run=path)
    return path


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def write_idx_set(folder: Path, count: int = 40, labels: int | None = None) -> Path:
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for prefix in ("train", "t10k"):
        pixels = random.integers(0, 256, (count, 12, 10), dtype=np.uint8)
        names = random.integers(0, 10, count if labels is None else labels).astype(np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx.write_idx(pixels))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx.write_idx(names))
    return folder


# -- training ---------------------------------------------------------------------------------------------------------


def test_train_makes_the_files_of_a_run_and_a_second_time_says_done(
    cli: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runs, "update_figures", figures.update_figures)  # all of them
    code, out, err = cli("train", "digits", *TINY_WORDS, "--run", "out")
    assert (code, err) == (0, "")
    assert "report: out/report.html" in out
    assert re.search(r"epoch +2 +held-out images: loss \d+\.\d\d", out)
    run = tmp_path / "out"
    expected = {
        "recipe.toml", "machine.json", "run.log", "history.csv", "timing.csv", "validation.csv", "checkpoints",
        "model.safetensors", "figures", "evaluation.json", "doctor.json", "report.html", "cache", ".lock",
    }  # fmt: skip
    assert {path.name for path in run.iterdir()} <= expected
    assert expected - {path.name for path in run.iterdir()} <= {"cache", ".lock"}
    history = (run / "history.csv").read_text().splitlines()
    assert history[0] == "step,epoch,loss,reconstruction,kl"
    assert len(history) == 61
    assert {path.stem for path in (run / "figures").glob("*.png")} >= {
        "data", "elbo", "latent", "losses", "manifold", "reconstructions", "samples",
    }  # fmt: skip
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    code, out, _ = cli("train", "digits", *TINY_WORDS, "--run", "out")
    assert code == 0
    assert "out is done already" in out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_the_default_directory_carries_the_overrides(cli: Typed, tmp_path: Path):
    code, out, _ = cli("train", "digits", "--set", "objective.beta=4", "--seed", 3, "--dry-run")
    assert code == 0
    assert "# run: runs/digits-objective.beta=4-training.seed=3 (new)" in out
    assert "# parameters: 133,381 (encoder 68,292, decoder 65,089" in out
    assert "# in other papers' terms: beta 4, sigma 1.414, beta_normalised 0.0102" in out
    assert list(tmp_path.iterdir()) == [] or not (tmp_path / "runs").exists()


def test_the_resolved_recipe_is_accepted_again_and_gives_the_same_run(cli: Typed, trained: Path, tmp_path: Path):
    code, _, _ = cli("train", trained / "recipe.toml", "--run", "again")
    assert code == 0
    for name in ("history.csv", "recipe.toml"):
        assert (tmp_path / "again" / name).read_bytes() == (trained / name).read_bytes()


def test_another_recipe_in_the_same_directory_is_refused(cli: Typed, trained: Path):
    code, _, err = cli("train", "digits", *TINY_WORDS, "--set", "objective.beta=2", "--run", trained)
    assert code == 1
    assert "objective.beta: 1.0 there, 2" in err
    assert err.count("\n") == 1


def test_dynamic_binarisation_with_bernoulli_trains_and_says_so(cli: Typed, tmp_path: Path):
    code, out, err = cli("train", "digits", *TINY_WORDS, "--set", "likelihood.name=bernoulli", "--set",
                          "data.binarize=dynamic", "--set", "data.valid=100", "--run", "b")  # fmt: skip
    assert (code, err) == (0, "")
    assert "ELBO of 100 images set aside from train: -" in out
    evaluated = json.loads((tmp_path / "b" / "evaluation.json").read_text())["elbo"]
    assert evaluated["elbo"] == pytest.approx(-evaluated["reconstruction"] - evaluated["kl"], rel=1e-6)
    assert evaluated["measured_on"]["split"] == "100 images set aside from train"
    assert evaluated["measured_on"]["binarize"] == "dynamic"
    assert evaluated["measured_on"]["binarize_seed"] == 0
    assert evaluated["protocol"]["images"] == 100


def test_fashion_trains_on_files_in_its_format(cli: Typed, tmp_path: Path):
    write_idx_set(tmp_path / "data" / "FashionMNIST" / "raw")
    code, _, err = cli("train", "fashion", *TINY_WORDS, "--data", "data", "--run", "f")
    assert (code, err) == (0, "")
    code, out, _ = cli("evaluate", "f", "--json")  # finds the data where it lay
    assert code == 0
    assert json.loads(out)["elbo"]["protocol"]["images"] == 40


def test_divergence_is_one_line_with_step_and_advice(cli: Typed):
    code, _, err = cli("train", "digits", *TINY_WORDS, "--set", "training.learning_rate=1e30", "--run", "d")
    assert code == 1
    assert re.search(r"step \d+: .* lower training\.learning_rate .*There is no checkpoint before it", err)
    assert err.count("\n") == 1


def test_a_warmup_longer_than_the_run_is_said_on_screen_in_the_log_and_in_the_report(cli: Typed, tmp_path: Path):
    code, out, _ = cli("train", "digits", *TINY_WORDS, "--set", "objective.warmup_steps=500", "--run", "w")
    assert code == 0
    sentence = "the warm-up (500 steps) is longer than the run (60 steps)"
    assert sentence in out
    assert sentence in (tmp_path / "w" / "run.log").read_text()
    assert sentence in (tmp_path / "w" / "report.html").read_text()


def test_data_that_changed_is_refused_on_resume(cli: Typed, tmp_path: Path):
    write_idx_set(tmp_path / "mnist")
    assert cli("train", "mnist", *TINY_WORDS, "--data", "mnist", "--run", "r")[0] == 0
    (tmp_path / "r" / "model.safetensors").unlink()
    write_idx_set(tmp_path / "mnist", count=50)
    code, _, err = cli("train", "mnist", *TINY_WORDS, "--data", "mnist", "--run", "r")
    assert code == 1
    assert "are not those that r was trained on" in err
    shutil.rmtree(tmp_path / "mnist")
    code, _, err = cli("train", "mnist", *TINY_WORDS, "--run", "r")
    assert code == 1
    assert "the images of r lay here and do no more; name their place with --data" in err


def test_the_place_of_the_data_is_remembered_and_may_move(cli: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_idx_set(tmp_path / "a" / "mnist")
    monkeypatch.setenv("VAELAB_DATA", str(tmp_path / "a"))
    assert cli("train", "mnist", *TINY_WORDS, "--run", "r")[0] == 0
    monkeypatch.delenv("VAELAB_DATA")
    assert cli("reconstruct", "r")[0] == 0
    (tmp_path / "a").rename(tmp_path / "b")
    assert cli("evaluate", "r")[0] == 1
    assert cli("evaluate", "r", "--data", "b")[0] == 0


def test_a_dry_run_downloads_nothing_and_knows_the_directory(cli: Typed, trained: Path):
    code, out, _ = cli("train", "mnist", "--dry-run")
    assert code == 0
    assert "# images: 60,000 train, 10,000 test; 37,500 steps" in out
    assert "(done)" in cli("train", "digits", *TINY_WORDS, "--run", trained, "--dry-run")[1]
    out = cli("train", "digits", "--set", "data.valid=100", "--dry-run")[1]
    assert "images: 1,338 train, 100 set aside from train; " in out
    assert cli("train", "digits", "--run", trained, "--dry-run")[0] == 1


def test_a_folder_with_other_things_is_left_alone(cli: Typed, tmp_path: Path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "report.html").write_text("mine")
    code, _, err = cli("train", "digits", *TINY_WORDS, "--run", "thesis")
    assert code == 1
    assert "holds other things (report.html …) and no run" in err
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["report.html"]


def test_numbers_published_for_another_experiment_are_left_out(cli: Typed):
    same = json.loads(cli("train", "mnist", "--seed", 1, "--dry-run", "--json")[1])
    other = json.loads(cli("train", "mnist", "--set", "objective.beta=4", "--dry-run", "--json")[1])
    assert same["recipe"]["expected"]["loss_last_epoch"] == 38.7
    assert other["recipe"]["expected"] == {}


def test_a_weighted_kl_is_no_plain_sum_on_screen(cli: Typed):
    _, out, _ = cli("train", "digits", *TINY_WORDS, "--set", "objective.beta=4", "--run", "b4")
    assert re.search(r"loss [\d.]+ = reconstruction [\d.]+ \+ β·KL [\d.]+ \(KL [\d.]+\), mean of the last epoch", out)


def test_a_bernoulli_likelihood_of_grey_images_is_called_what_it_is(cli: Typed, tmp_path: Path):
    code, out, _ = cli("train", "digits", *TINY_WORDS, "--set", "likelihood.name=bernoulli", "--run", "g")
    assert code == 0
    assert "is a cross entropy, no likelihood" in " ".join(out.split())
    found = json.loads((tmp_path / "g" / "evaluation.json").read_text())["elbo"]
    assert "not a likelihood" in found["protocol"]["log_likelihood"]
    assert found["measured_on"]["binarize"] == "none"


def test_how_to_repeat_it_can_be_typed_as_it_stands(cli: Typed, tmp_path: Path):
    words = [*TINY_WORDS, "--set", "objective.warmup_steps=5", "--set", "data.binarize=threshold", "--run", "one"]
    assert cli("train", "digits", *words)[0] == 0
    typed = json.loads((tmp_path / "one" / "machine.json").read_text())["command"]
    again = shlex.split(typed.replace("--run one", "--run two"))
    assert cli(*again[1:])[0] == 0
    assert (tmp_path / "two" / "history.csv").read_bytes() == (tmp_path / "one" / "history.csv").read_bytes()


def test_a_run_without_its_report_is_completed(cli: Typed, trained: Path, tmp_path: Path):
    shutil.copytree(trained, tmp_path / "half")
    machine = json.loads((tmp_path / "half" / "machine.json").read_text())
    del machine["finished"]
    (tmp_path / "half" / "machine.json").write_text(json.dumps(machine))
    shutil.rmtree(tmp_path / "half" / "figures")
    code, out, _ = cli("train", "digits", *TINY_WORDS, "--run", "half")
    assert code == 0
    assert "is done already" not in out
    assert (tmp_path / "half" / "figures" / "losses.png").read_bytes() == (
        trained / "figures" / "losses.png"
    ).read_bytes()


def test_a_damaged_json_file_is_named(cli: Typed, trained: Path, tmp_path: Path):
    shutil.copytree(trained, tmp_path / "half")
    (tmp_path / "half" / "evaluation.json").write_text("{")
    code, _, err = cli("evaluate", "half")
    assert code == 1
    assert "half/evaluation.json is damaged" in err


# -- wrong usage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["train", "mnits"], 2, "Did you mean 'mnist'? Valid: "),
        (["train", "none.toml"], 2, "no such recipe file"),
        (["train", "digits", "--set", "training.epoch=2"], 2, "Did you mean 'epochs'?"),
        (["train", "digits", "--set", "training.epochs=two"], 2, '"two": input should be a valid integer'),
        (["train", "digits", "--set", "objective.beta=-1"], 2, "greater than or equal to 0"),
        (["train", "digits", "--set", "objective.name=bta"], 2, "Did you mean 'beta'?"),
        (["train", "digits", "--set", "objective.name=elbo", "--set", "objective.beta=2"], 2, "beta, tc have it"),
        (["train", "digits", "--set", "epochs=2"], 2, "unknown recipe key 'epochs'"),
        (["train", "digits", "--set", "training.epochs"], 2, "section.key=value"),
        (["train", "digits", "--device", "cuda:99"], 2, "valid: auto, cpu"),
        (["train", "digits", "--set", "data.valid=2000"], 1, "cannot set 2000 of 1438 images aside"),
        (["train", "digits", "--set", "data.binarize=dynamc"], 2, "Did you mean 'dynamic'?"),
        (["train"], 2, "Missing argument"),
        (["trian"], 2, "Did you mean 'train'?"),
        (["sample", "nowhere"], 1, "nowhere: no run here"),
        (["evaluate", "nowhere"], 1, "make one with vaelab train RECIPE"),
        (["data", "get", "mnits"], 2, "Did you mean 'mnist'?"),
        (["data", "check", "nowhere"], 1, "nowhere: No such file or directory"),
        (["train", "mnist", "--data", "nowhere"], 1, "nowhere: no such folder"),
        (["train", "mnist", "--data", "."], 1, "Put train-images-idx3-ubyte.gz"),
    ],
)  # fmt: skip
def test_wrong_usage_gets_one_line_and_its_exit_code(cli: Typed, words: list[str], code: int, says: str):
    found, out, err = cli(*words)
    assert found == code
    assert says in err
    assert err.startswith("vaelab: ")
    assert err.count("\n") == 1
    assert "Traceback" not in out + err


def test_debug_shows_the_traceback(cli: Typed):
    code, _, err = cli("sample", "nowhere", "--debug")
    assert code == 1
    assert "Traceback" in err


def test_help_is_there_for_every_verb_and_imports_no_torch(cli: Typed):
    code, out, _ = cli("--help")
    assert code == 0
    verbs = ("recipes", "data", "train", "figures", "report", "evaluate", "sample", "reconstruct", "encode")
    assert all(verb in out for verb in verbs)
    for verb in verbs:
        code, out, _ = cli(verb, "--help")
        assert code == 0
        assert verb == "data" or "Example" in out
    check = "import sys, vaelab, vaelab.cli; print([m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# -- what comes after training ----------------------------------------------------------------------------------------


def test_recipes_and_data_as_tables_and_as_json(cli: Typed, tmp_path: Path):
    code, out, _ = cli("recipes", "--json")
    assert code == 0
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows["mnist"]["parameters"] == 207_237
    assert rows["mnist"]["expected"]["loss_last_five_epochs"] == 37.4
    assert "mnist\tmnist\t28×28×1\tconv\t2\tbeta\t207,237\t20" in cli("recipes")[1]
    write_idx_set(tmp_path / "d" / "mnist")
    code, out, _ = cli("data", "list", "--data", "d", "--json")
    places = {row["name"]: row["place"] for row in json.loads(out)}
    assert places.items() >= {"digits": "comes with vaelab", "fashion": "not here yet", "mnist": "d/mnist"}.items()


def test_data_check_finds_what_is_wrong(cli: Typed, tmp_path: Path):
    folder = write_idx_set(tmp_path / "mnist")
    fashion = write_idx_set(tmp_path / "fashion")
    code, out, _ = cli("data", "check", "mnist", "--json")
    assert code == 1  # made-up files are readable, but they are not the published ones
    found = json.loads(out)
    assert [(part["data"], part["folder"]) for part in found] == [("mnist", "mnist")]
    assert {row["verdict"].split(",")[0] for row in found[0]["files"]} == {"ok", "readable"}
    (fashion / "t10k-labels-idx1-ubyte").write_bytes(b"")
    code, out, _ = cli("data", "check", ".")
    assert code == 1
    assert "mnist in mnist:" in out
    assert "fashion in fashion:" in out
    assert "not an IDX file" in out
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-7])
    code, out, _ = cli("data", "check", "mnist")
    assert code == 1
    assert "40×12×10 = 4,800 values; truncated: 4,793" in out


def test_data_get_of_what_needs_no_files(cli: Typed):
    code, out, _ = cli("data", "get", "digits")
    assert (code, out) == (0, "digits comes with vaelab; nothing to download\n")


def test_evaluate_is_kept_with_its_protocol_and_not_measured_twice(
    cli: Typed, trained: Path, monkeypatch: pytest.MonkeyPatch
):
    from vaelab.evaluation.metrics import elbo

    def fail(*_: object) -> dict[str, Any]:
        raise AssertionError("measured again")

    monkeypatch.setattr(elbo, "METRIC", replace(elbo.METRIC, measure=fail))
    code, out, _ = cli("evaluate", trained, "--json")
    assert code == 0
    found = json.loads(out)["elbo"]
    assert found["protocol"]["images"] == 359
    assert found["measured_on"]["split"] == "test"
    assert found["elbo"] == pytest.approx(-found["reconstruction_plus_kl"] - 392 * np.log(np.pi), rel=1e-6)
    assert f"{found['elbo']:.4f}" in cli("evaluate", trained)[1]
    assert cli("evaluate", trained, "--metrics", "likelyhood")[0] == 2
    code, out, err = cli("evaluate", trained, "--metrics", "mig,irs")
    assert (code, out, err.count("\n")) == (2, "", 1), "nothing that was asked for"
    assert "mig needs images with known factors" in err


def test_samples_to_a_sheet_or_a_folder_and_nothing_is_overwritten(cli: Typed, trained: Path, tmp_path: Path):
    assert cli("sample", trained, "-n", 9)[1] == "digits-samples.png\n"
    with Image.open(tmp_path / "digits-samples.png") as sheet:
        assert sheet.size == (3 * (3 * 30 + 2), 3 * (3 * 30 + 2))
    assert cli("sample", trained, "-n", 9)[1] == "digits-samples-2.png\n"
    first, second = ((tmp_path / name).read_bytes() for name in ("digits-samples.png", "digits-samples-2.png"))
    assert first == second
    code, _, err = cli("sample", trained, "--out", "digits-samples.png")
    assert code == 1
    assert "exists; choose another --out, or use --overwrite" in err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("mine")
    assert cli("sample", trained, "--out", "mine", "--overwrite")[0] == 1
    assert cli("sample", trained, "--seed", 1, "-n", 9, "--out", "digits-samples.png", "--overwrite")[0] == 0
    assert (tmp_path / "digits-samples.png").read_bytes() != first
    assert cli("sample", trained, "-n", 12, "--out", "many")[0] == 0
    assert len(list((tmp_path / "many").glob("*.png"))) == 12
    assert cli("sample", trained, "--out", "picture.jpeg")[0] == 1


def test_reconstruct_own_pictures_and_held_out_ones(cli: Typed, trained: Path, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (28, 28), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "mine" / f"ä {i}.png")
    assert cli("reconstruct", trained, "mine", "--out", "pairs.png")[0] == 0
    sheet = read(tmp_path / "pairs.png")[::3, ::3]  # small images are enlarged by a whole factor
    assert sheet.shape == (2 * 30 + 2, 3 * 30 + 2)
    original = read(tmp_path / "mine" / "ä 1.png")
    assert np.array_equal(sheet[2:30, 32:60], original)
    rebuilt = vaelab.load(trained).reconstruct(original)
    np.testing.assert_allclose(sheet[32:60, 32:60], rebuilt[0, 0] * 255, atol=0.51)
    assert cli("reconstruct", trained, "-n", 5, "--out", "folder")[0] == 0
    assert len(list((tmp_path / "folder").iterdir())) == 5
    Image.fromarray(np.pad(original, ((0, 0), (5, 5)))).save(tmp_path / "mine" / "ä 1.png")  # cut about its centre
    assert cli("reconstruct", trained, "mine", "--out", "wide.png")[0] == 0
    assert np.array_equal(read(tmp_path / "wide.png"), read(tmp_path / "pairs.png"))
    (tmp_path / "mine" / "ä 1.png").write_bytes(b"")
    code, _, err = cli("reconstruct", trained, "mine", "--out", "no.png", "--strict")
    assert code == 1
    assert err == "vaelab: mine/ä 1.png: empty file\n"


def test_codes_are_the_same_in_every_format(cli: Typed, trained: Path, tmp_path: Path):
    for ending in ("parquet", "csv", "npz"):
        assert cli("encode", trained, "--out", f"codes.{ending}")[0] == 0
    archive = np.load(tmp_path / "codes.npz")
    tables = [parquet.read_table(tmp_path / "codes.parquet"), csv.read_csv(tmp_path / "codes.csv")]
    for table in tables:
        assert table.column_names == ["image", "label", "mean_1", "mean_2", "log_var_1", "log_var_2"]
        columns = np.stack([table["mean_1"].to_numpy(), table["mean_2"].to_numpy()], axis=1)
        np.testing.assert_allclose(columns, archive["mean"], rtol=1e-6)
        assert table["label"].to_numpy().tolist() == archive["labels"].tolist()
    assert archive["mean"].shape == (359, 2)
    assert str(archive["names"][3]) == "test[3]"
    code, _, err = cli("encode", trained, "--out", "codes.txt")
    assert code == 2
    assert ".parquet" in err


def test_figures_and_report_can_be_made_again(cli: Typed, trained: Path):
    before = (trained / "figures" / "losses.png").read_bytes()
    (trained / "figures" / "losses.png").unlink()
    code, out, _ = cli("figures", trained, "--only", "losses")
    assert code == 0
    assert out.strip().endswith("losses.png")
    assert (trained / "figures" / "losses.png").read_bytes() == before
    assert cli("report", trained)[1].strip().endswith("report.html")
    assert cli("figures", trained, "--only", "loses")[0] == 2


def test_the_report_is_one_page_that_needs_nothing_else(trained: Path):
    page = (trained / "report.html").read_text()
    assert re.findall(r"(?:src|href)=\"(?!data:)", page) == []
    assert "http" not in re.sub(r"data:image/[a-z]+;base64,[^\"]+", "", page).replace("http-equiv", "")
    assert page.count("<img ") == len(list((trained / "figures").glob("*.png")))
    assert "viewport" in page
    assert "@media print" in page
    measured = vaelab.report(trained).parent
    assert f"{Run(measured).measured()['loss_last_epoch']:.2f}" in page
    assert "vaelab train digits" in page
    assert "hidden = [" in page


def test_a_report_escapes_what_people_write(cli: Typed, tmp_path: Path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text('title = "<script>alert(1)</script>"\n[data]\nname = "digits"\n')
    assert cli("train", recipe, *TINY_WORDS, "--run", "x")[0] == 0
    page = (tmp_path / "x" / "report.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_help_keeps_its_defaults_in_colour_and_without(cli: Typed):
    for verb in ("train", "reconstruct"):
        assert "(default:" in cli(verb, "--help")[1]
    assert "$VAELAB_DATA, then the cache" in " ".join(cli("train", "--help")[1].replace("│", " ").split())
    code, out, _ = cli("--version")
    assert (code, out) == (0, "0.1.0\n")


def test_a_disk_without_room_is_noticed_before_training(cli: Typed, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10**9, 10**9, 5_000_000))
    code, _, err = cli("train", "digits", *TINY_WORDS, "--run", "full")
    assert code == 1
    assert "5 MB free" in err
    assert "free some space" in err


def test_transparent_pictures_are_not_guessed_at(cli: Typed, trained: Path, tmp_path: Path):
    Image.new("RGBA", (28, 28), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    code, _, err = cli("reconstruct", trained, "clear.png", "--out", "x.png")
    assert code == 1
    assert "clear.png: has transparent parts" in err
