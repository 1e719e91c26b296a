"""Models on the hub, here a server in this process that the hub's own library talks to."""

import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import onnx
import pytest
import torch
from huggingface_hub import ModelCard, constants
from model_hub import READ, WRITE, ModelHub, Repository, point_to
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typed import TINY, Typed, one_line, train_small
from wording import Wording

import vaelab
from vaelab.run import Run
from vaelab.system.files import load_tensors, save_tensors
from vaelab.system.hub import HubError

ADDRESS = "hub:me/digits-vae"
USER, HOST = "alicesecret", "secrethost"


def files_of(hub: ModelHub, name: str = "me/digits-vae") -> dict[str, bytes]:
    return hub.repositories[name].commits[-1][1]


def push(run: Path, **options: Any) -> vaelab.Pushed:
    return vaelab.push(run, "me/digits-vae", onnx=False, **options)


# -- what is pushed ---------------------------------------------------------------------------------------------------


def test_a_pushed_model_is_the_same_one(hub: ModelHub, trained: Path) -> None:
    pushed = push(trained, licence="mit")
    assert (pushed.address, pushed.url, pushed.notes) == (ADDRESS, f"{hub.url}/me/digits-vae", ())
    files = files_of(hub)
    names = {"README.md", "recipe.toml", "model.safetensors", "evaluation.json", "figures/losses.png"}
    assert files.keys() - {".gitattributes"} == names
    assert {name: len(files[name]) for name in names} == pushed.sizes
    z = torch.zeros(1, vaelab.load(trained).spec.latent_dim)
    assert torch.equal(vaelab.load(ADDRESS).decode(z), vaelab.load(trained).decode(z))
    run = vaelab.Run(ADDRESS)
    assert (run.name, run.is_trained, run.recipe.sections()) == (
        "digits-vae",
        True,
        vaelab.Run(trained).recipe.sections(),
    )
    own = vaelab.Run(trained).evaluation["elbo"]
    assert {**run.evaluation["elbo"], "measured_on": None} == {**own, "measured_on": None}
    assert run.evaluation["elbo"]["measured_on"]["weights_sha256"] == run.weights_sha256


def test_results_on_another_split_are_pushed_too(hub: ModelHub, trained: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(trained, tmp_path / "digits")
    ours = vaelab.evaluate(mine, metrics=["elbo"], split="train").results["elbo"]["elbo"]
    card = ModelCard(push(mine).card)
    run = vaelab.Run(ADDRESS)
    assert run.measured_splits == ["train"]
    assert run.split_evaluation("train")["elbo"]["elbo"] == ours
    assert {each.dataset_split: each.metric_value for each in card.data.eval_results if each.metric_type == "elbo"} == {
        "test": run.evaluation["elbo"]["elbo"],
        "train": ours,
    }


def test_the_card_states_data_metrics_limits_and_licence(hub: ModelHub, trained: Path) -> None:
    card = ModelCard(push(trained, licence="cc-by-4.0").card)
    facts = card.data.to_dict()
    assert (facts["license"], facts["library_name"]) == ("cc-by-4.0", "vaelab")
    results = {result.metric_type: result for result in card.data.eval_results}
    measured = vaelab.Run(trained).evaluation["elbo"]
    assert results["elbo"].metric_value == measured["elbo"]
    assert (results["elbo"].dataset_type, results["elbo"].dataset_split) == ("digits", "test")
    titles = re.findall(r"^## (.*)$", card.text, re.M)
    wanted = ["Model", "Use with vaelab", "Use without vaelab", "Data", "Metrics", "Limits", "Figures", "Licence"]
    assert titles == wanted
    assert f"{measured['elbo']:.2f}".replace("-", "−") in card.text
    assert "doi:10.24432/C50P49" in card.text
    assert "![Losses](figures/losses.png)" in card.text


def test_a_dry_run_shows_files_and_card_and_makes_no_connection(
    hub: ModelHub, trained: Path, cli: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    code, out, err = cli("push", trained, "me/digits-vae", "--dry-run", "--no-onnx", "--license", "mit")
    assert (code, err, hub.asked) == (0, "nothing was uploaded\n", [])
    pushed = push(trained, licence="mit", dry_run=True)
    assert pushed.url is None
    table, _, card = out.partition("\n\n")
    assert card == f"{pushed.card}\n"
    assert table.splitlines()[1:-1] == [f"{name}\t{size:,}" for name, size in pushed.sizes.items()]


def test_files_of_an_earlier_push_are_removed_and_others_kept(hub: ModelHub, trained: Path) -> None:
    push(trained)
    hub.repositories["me/digits-vae"].add({**files_of(hub), "notes.txt": b"mine", "figures/old.png": b""})
    others = {"evaluation-mine.json": b"mine", "evaluation-train.json": b"{}"}
    hub.repositories["me/digits-vae"].add({**files_of(hub), **others})
    push(trained, figures="none")
    assert not [name for name in files_of(hub) if name.startswith("figures/")]
    assert files_of(hub)["notes.txt"] == files_of(hub)["evaluation-mine.json"] == b"mine"
    assert "evaluation-train.json" not in files_of(hub)


def test_other_peoples_files_are_not_replaced(hub: ModelHub, trained: Path, wording: Wording) -> None:
    hub.repositories["me/digits-vae"] = Repository(False)
    hub.repositories["me/digits-vae"].add({"config.json": b"{}", "model.safetensors": b"a language model"})
    with pytest.raises(FileExistsError) as caught:
        push(trained)
    wording(caught.value)
    assert files_of(hub)["model.safetensors"] == b"a language model"


def test_a_repository_that_was_made_on_the_page_is_used(hub: ModelHub, trained: Path) -> None:
    hub.repositories["me/digits-vae"] = Repository(True)
    hub.repositories["me/digits-vae"].add({".gitattributes": b"", "README.md": b"# empty"})
    push(trained, private=True)
    assert b"Metrics" in files_of(hub)["README.md"]


# -- private words ----------------------------------------------------------------------------------------------------


def plant(run: Path) -> None:
    """Put a path, a user and a host into every file of a run."""
    paths = f"/home/{USER}/lab/x.png, C:\\Users\\{USER}\\x and '/scratch/{USER}/my faces/', {run.parent}/patients.csv"
    secret = f"by {USER} on {HOST}: {paths}"
    recipe = tomllib.loads((run / "recipe.toml").read_text())
    recipe["title"] = secret
    recipe["expected"] = {"source": secret, "loss_at_end": 1.0}
    (run / "recipe.toml").write_text(vaelab.Recipe.to_toml(make_recipe(recipe)))
    tensors, facts = load_tensors(run / "model.safetensors")
    save_tensors(run / "model.safetensors", tensors, {**facts, "recipe": recipe, "name": USER, "host": HOST})
    evaluation = json.loads((run / "evaluation.json").read_text())
    evaluation["elbo"]["protocol"][USER] = secret
    evaluation["elbo"]["measured_on"] |= {"place": f"/scratch/{USER}", "weights_sha256": Run(run).weights_sha256}
    evaluation["stale"] = {"value": 1.0, "protocol": {}, "measured_on": {"weights_sha256": "0"}}
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    for split in ("train", USER):
        (run / f"evaluation-{split}.json").write_text(json.dumps(evaluation))
    machine = json.loads((run / "machine.json").read_text())
    machine |= {"data_dir": "/data/clinic7/scans", "command": secret, "validated_on": secret, "notes": [secret]}
    (run / "machine.json").write_text(json.dumps(machine))
    found = {"name": "x", "level": "problem", "found": f"{secret} /data/clinic7/scans", "meaning": secret, "advice": ""}
    (run / "doctor.json").write_text(json.dumps({"findings": [found]}))
    texts, exif = PngInfo(), Image.Exif()
    exif[0x013B] = secret
    for key in ("Title", "Description", "Author"):
        texts.add_itxt(key, secret)
        texts.add_text(f"{key}2", secret, zip=True)
    with Image.open(run / "figures" / "losses.png") as picture:
        picture.save(run / "figures" / "losses.png", pnginfo=texts, exif=exif, icc_profile=secret.encode())
    shutil.copy(run / "figures" / "losses.png", run / "figures" / f"{USER}.png")
    for name in ("run.log", "report.html", "notes.txt"):
        (run / name).write_text(secret)


def make_recipe(tables: dict[str, Any]) -> vaelab.Recipe:
    from vaelab import recipe

    return recipe.validate(tables, "x")


def unpack(content: bytes) -> Iterator[bytes]:
    """Yield a file and what it holds compressed."""
    yield content
    if content.startswith(b"\x89PNG"):
        position = 8
        while position < len(content):
            length, kind = int.from_bytes(content[position : position + 4]), content[position + 4 : position + 8]
            chunk = content[position + 8 : position + 8 + length]
            position += length + 12
            if kind in (b"zTXt", b"iTXt", b"iCCP") and b"\x78" in chunk:
                for begin in [place for place, byte in enumerate(chunk) if byte == 0x78]:
                    try:
                        yield zlib.decompress(chunk[begin:])
                    except zlib.error:
                        continue


@pytest.fixture
def secret_run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with private words everywhere, of a user and on a machine with names."""
    monkeypatch.setenv("LOGNAME", USER)
    monkeypatch.setenv("HOME", f"/home/{USER}")
    monkeypatch.setattr(platform, "node", lambda: f"{HOST}.example.org")
    run = tmp_path / f"run-of-{USER}"
    shutil.copytree(trained, run)
    plant(run)
    return run


def find_private(hub: ModelHub, run: Path) -> list[tuple[str, str]]:
    """Return private words in what the hub received, and where they are."""
    sent = [(f"request {number}", body) for number, body in enumerate(hub.received)]
    stored = [
        (name, content) for _, files in hub.repositories["me/digits-vae"].commits for name, content in files.items()
    ]
    words = [USER, HOST, "/home/", "/scratch", "clinic7", "patients", "C:\\", str(run), str(run.parent), "machine.json"]
    found = []
    for name, content in (*sent, *stored, *((name, name.encode()) for name, _ in stored)):
        for part in unpack(content):
            found += [(word, name) for word in words if word.encode().lower() in part.lower()]
    return found


def test_the_planted_words_are_found_in_the_run_itself(secret_run: Path) -> None:
    kept = [part for path in secret_run.rglob("*.png") for part in unpack(path.read_bytes())]
    assert sum(USER.encode() in part for part in kept) > 3, "also compressed, so that the search is known to find them"


def test_nothing_private_is_uploaded(hub: ModelHub, secret_run: Path) -> None:
    push(secret_run)
    assert find_private(hub, secret_run) == []
    files = files_of(hub)
    assert json.loads(files["evaluation.json"]).keys() == {"elbo"}, "not the results of other weights"
    assert "figures/losses.png" in files
    with (
        Image.open(io.BytesIO(files["figures/losses.png"])) as sent,
        Image.open(secret_run / "figures/losses.png") as own,
    ):
        assert np.array_equal(np.asarray(sent.convert("RGB")), np.asarray(own.convert("RGB")))
    vaelab.load(ADDRESS)


def test_the_path_of_the_first_weights_is_not_uploaded(hub: ModelHub, trained: Path, tmp_path: Path) -> None:
    secret = tmp_path / "clinic of dr who" / "first"
    shutil.copytree(trained, secret)
    run = train_small(tmp_path / "second", {"training.steps": 2, "training.start_from": str(secret)})
    shutil.move(secret.parent, tmp_path / "elsewhere")
    assert run.recipe.training.start_from == str(secret)
    push(run.path)
    assert all(b"clinic" not in content for content in files_of(hub).values())
    assert vaelab.load(ADDRESS).spec == vaelab.load(run).spec


@pytest.mark.slow
def test_nothing_private_is_in_onnx_graphs_and_the_card_runs(
    hub: ModelHub, secret_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would fix the size of a traced batch
    pushed = vaelab.push(secret_run, "me/digits-vae")
    assert {"onnx/encoder.onnx", "onnx/decoder.onnx", "onnx/likelihood.onnx"} <= files_of(hub).keys()
    assert find_private(hub, secret_run) == []
    facts = {p.key: p.value for p in onnx.load_from_string(files_of(hub)["onnx/encoder.onnx"]).metadata_props}
    assert facts["run"] == "digits-vae"
    found: dict[str, Any] = {}
    for snippet in re.findall(r"```python\n(.*?)```", pushed.card, re.S):
        exec(snippet, found)
    assert found["samples"].shape == (16, 1, 28, 28)
    assert found["weights"].keys() >= {"encoder.head.weight"}
    mean = found["model"].encode(np.zeros((16, 28, 28), np.uint8)).mean.numpy()
    assert np.allclose(found["mean"], mean, atol=1e-4)


def test_the_name_of_the_user_on_the_hub_may_be_that_of_this_machine(
    hub: ModelHub, secret_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "me")
    monkeypatch.setenv("USER", "me")
    assert "hub:me/digits-vae" in push(secret_run).card


def test_figures_that_show_own_images_are_left_out(hub: ModelHub, tmp_path: Path, cli: Typed, wording: Wording) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    figures = ["losses", "data", "samples"]
    run = vaelab.train(
        "folder", {**TINY, "training.steps": 4, "training.figures": figures}, run=tmp_path / "own", images=images
    )
    pushed = push(run.path)
    wording(pushed.notes[0])
    assert [name for name in pushed.sizes if "figures/" in name] == ["figures/losses.png", "figures/samples.png"]
    assert "author's own images" in pushed.card
    assert "figures/data.png" in push(run.path, figures="all").sizes
    code, _, err = cli("encode", ADDRESS)
    assert code == 1
    wording(one_line(err))
    np.save(tmp_path / "mine.npy", images[:3])
    assert cli("encode", ADDRESS, "mine.npy", "--out", "codes.csv")[0] == 0
    assert cli("sample", ADDRESS, "--sampler", "two_stage")[0] == 1


# -- models on the hub as runs ----------------------------------------------------------------------------------------


def test_verbs_take_a_model_on_the_hub(hub: ModelHub, trained: Path, cli: Typed, tmp_path: Path) -> None:
    push(trained)
    Image.fromarray(np.zeros((28, 28), np.uint8)).save("mine.png")
    assert cli("sample", ADDRESS)[:2] == (0, "digits-vae-samples.png\n")
    assert cli("reconstruct", ADDRESS, "mine.png")[:2] == (0, "digits-vae-reconstructions.png\n")
    assert cli("encode", ADDRESS, "mine.png")[:2] == (0, "digits-vae-codes.parquet\n")
    assert cli("score", ADDRESS, "mine.png")[1].splitlines()[0] == "digits-vae-scores.csv"
    assert cli("edit", ADDRESS, "--attribute", "7")[:2] == (0, "digits-vae-edits.png\n")
    served = vaelab.explore([ADDRESS, trained], points=50).runs
    assert [one.payload.manifest["run"] for one in served] == ["digits-vae", trained.name]
    assert np.array_equal(served[0].payload.means, served[1].payload.means)
    folder = Run(ADDRESS).path
    assert {path.name for path in folder.iterdir()} == {"recipe.toml", "model.safetensors", "evaluation.json"}


def test_results_of_a_model_on_the_hub_go_to_the_cache(hub: ModelHub, trained: Path, tmp_path: Path) -> None:
    push(trained)
    run = Run(ADDRESS)
    vaelab.evaluate(ADDRESS, metrics=["reconstruction"])
    assert "reconstruction" in Run(ADDRESS).evaluation
    assert run.results.is_relative_to(tmp_path / "cache" / "vaelab" / "hub" / "me" / "digits-vae")
    assert Run(run.path).name == "digits-vae", "also by the folder in the cache of the library"


def test_a_model_on_the_hub_cannot_be_trained(hub: ModelHub, trained: Path, cli: Typed, wording: Wording) -> None:
    push(trained)
    code, _, err = cli("train", "digits", "--run", ADDRESS, "--steps", "60", "--set", "network.name=mlp")
    assert code == 2
    wording(one_line(err))
    code, _, err = cli("finish", ADDRESS)
    assert code == 2
    wording(one_line(err))


def test_revisions(hub: ModelHub, trained: Path) -> None:
    push(trained)
    repository = hub.repositories["me/digits-vae"]
    first = repository.commits[-1][0]
    push(trained, figures="none", licence="mit")
    repository.tags["v1"] = first
    newest = repository.commits[-1][0]
    assert [Run(f"{ADDRESS}{at}").path.name for at in ("", "@v1", f"@{first}")] == [newest, first, first]
    vaelab.load(f"{ADDRESS}@v1")


@pytest.mark.parametrize("way", ["offline", "down", "closed"])
def test_a_downloaded_model_works_without_the_hub(
    hub: ModelHub, trained: Path, monkeypatch: pytest.MonkeyPatch, way: str, closed_port: str
) -> None:
    push(trained)
    vaelab.load(ADDRESS)
    if way == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.status = 503 if way == "down" else None
    if way == "closed":
        point_to(monkeypatch, closed_port.rstrip("/"))
    assert vaelab.load(ADDRESS).spec.image_shape == (1, 28, 28)


def test_private_repositories(
    hub: ModelHub, trained: Path, cli: Typed, monkeypatch: pytest.MonkeyPatch, wording: Wording
) -> None:
    push(trained, private=True)
    assert hub.repositories["me/digits-vae"].private
    monkeypatch.setenv("HF_TOKEN", READ)
    vaelab.load(ADDRESS)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", f"{constants.HF_HUB_CACHE}-other")
    wording(failure(ADDRESS))
    monkeypatch.setenv("HF_TOKEN", WRITE)
    hub.repositories["me/digits-vae"].private = False
    with pytest.raises(HubError) as caught:
        push(trained, private=True)
    wording(caught.value)


# -- what goes wrong --------------------------------------------------------------------------------------------------


def failure(address: str) -> HubError:
    with pytest.raises(HubError) as caught:
        vaelab.load(address)
    assert caught.value.subject == address
    return caught.value


def test_models_that_cannot_be_had(
    hub: ModelHub, wording: Wording, monkeypatch: pytest.MonkeyPatch, closed_port: str, trained: Path
) -> None:
    hub.repositories["me/other"] = Repository(False)
    hub.repositories["me/other"].add({"config.json": b"{}", "model.safetensors": b"a language model"})
    push(trained)
    for address in ("hub:me/nothing", "hub:me/other", f"{ADDRESS}@v9"):
        wording(failure(address))
    assert not any("model.safetensors" in asked for asked in hub.asked if "me/other" in asked)
    hub.status = 503
    wording(str(failure("hub:me/nothing")).replace(hub.url, "URL"))
    hub.status = None
    monkeypatch.setenv("HF_TOKEN", "hf_wrongtoken")
    wording(str(failure("hub:me/nothing")).replace(hub.url, "URL"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    wording(failure("hub:me/nothing"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    point_to(monkeypatch, closed_port.rstrip("/"))
    wording(str(failure("hub:me/nothing")).replace(closed_port.rstrip("/"), "URL"))


@pytest.mark.parametrize("address", ["hub:digits", "hub:", "hub:me/a/b", "hub:../etc@x"])
def test_wrong_addresses(address: str, cli: Typed, wording: Wording) -> None:
    code, _, err = cli("sample", address)
    assert code == 2
    wording(one_line(err))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["me"], 2),
        (["me/a--b"], 2),
        (["me/x", "--licence", "My Licence"], 2),
        (["me/x", "--licence", "gpl-0"], 1),
        (["you/x"], 1),
        (["me/x", "--figures", "nothing"], 2),
    ],
)
def test_pushes_that_cannot_be_made(
    hub: ModelHub, trained: Path, cli: Typed, wording: Wording, words: list[str], expected: int
) -> None:
    code, out, err = cli("push", trained, *words, "--no-onnx")
    assert (code, out) == (expected, "")
    wording(one_line(err).replace(hub.url, "URL"))
    assert "me/x" not in hub.repositories or len(hub.repositories["me/x"].commits) == 1


@pytest.mark.parametrize(
    "token", [None, READ, "hf_wrongtoken", "hf_wrong\ntoken", "hf_wröngtoken", "not a token at all: \x01"]
)
def test_tokens_are_never_printed(
    hub: ModelHub, trained: Path, cli: Typed, monkeypatch: pytest.MonkeyPatch, wording: Wording, token: str | None
) -> None:
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "nowhere")
    monkeypatch.delenv("HF_TOKEN")
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    code, out, err = cli("push", trained, "me/digits-vae", "--no-onnx", "--debug")
    assert (code, out) == (1, "")
    assert not re.search(r"hf_w|hf_r|token at all|Bearer", err)
    wording(err.splitlines()[-1].replace(hub.url, "URL"))


@pytest.mark.parametrize("status", [429, 500])
def test_a_hub_that_fails(hub: ModelHub, trained: Path, cli: Typed, wording: Wording, status: int) -> None:
    hub.status = status
    code, _, err = cli("push", trained, "me/digits-vae", "--no-onnx")
    assert code == 1
    wording(one_line(err).replace(hub.url, "URL"))


def test_without_the_package(trained: Path, cli: Typed, monkeypatch: pytest.MonkeyPatch, wording: Wording) -> None:
    for name in [name for name in sys.modules if name.startswith("huggingface_hub")]:
        monkeypatch.setitem(sys.modules, name, None)
    for words in (["push", trained, "me/x"], ["push", trained, "me/x", "--dry-run"], ["sample", ADDRESS]):
        code, _, err = cli(*words)
        assert code == 1
        wording(one_line(err))


def test_an_unfinished_run_is_not_pushed(hub: ModelHub, trained: Path, tmp_path: Path, cli: Typed) -> None:
    shutil.copytree(trained, tmp_path / "begun")
    (tmp_path / "begun" / "model.safetensors").unlink()
    code, _, err = cli("push", "begun", "me/x")
    assert code == 1
    assert "not trained to the end yet" in one_line(err)
    assert hub.asked == []


@pytest.mark.long
def test_another_process_with_settings_of_the_environment(hub: ModelHub, trained: Path, tmp_path: Path) -> None:
    environment = {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": WRITE,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        **{key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ},
    }

    def type_words(*words: object) -> str:
        command = [sys.executable, "-m", "vaelab", *map(str, words)]
        ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert WRITE not in ended.stdout + ended.stderr
        return ended.stdout

    assert type_words("push", trained, "me/x", "--no-onnx").splitlines()[-1] == f"{hub.url}/me/x"
    assert type_words("sample", "hub:me/x") == "x-samples.png\n"
    environment |= {"HF_HUB_OFFLINE": "1"}
    assert type_words("sample", "hub:me/x") == "x-samples-2.png\n"
