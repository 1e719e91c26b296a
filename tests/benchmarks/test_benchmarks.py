"""The benchmarks give all rivals the same work, and count and compare correctly. No time is asserted."""

import gzip
import importlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from paths import ROOT
from small import compute_terms
from torch import nn

from vaelab import recipe as recipes
from vaelab.build import build as build_model
from vaelab.data.datasets import celeba
from vaelab.models.vae import VAE
from vaelab.system import registry
from vaelab.system.noise import StepNoise

FOLDER = ROOT / "benchmarks"
RIVALS = FOLDER / "rivals"
PYTHAE = os.environ.get("PYTHAE")
CPU = torch.device("cpu")

sys.path[:0] = [str(FOLDER), str(RIVALS)]  # the scripts are no package
try:
    scripts = (path.stem for folder in (FOLDER, RIVALS) for path in folder.glob("*.py"))
    modules = {name: importlib.import_module(name) for name in sorted(scripts) if name != "with_pythae" or PYTHAE}
finally:
    del sys.path[:2]
growth, gpu_check, image_cache, make_faces, measurements, member_costs = (
    modules[name] for name in ("growth", "gpu_check", "image_cache", "make_faces", "measurements", "member_costs")
)
paired, plain, plots, roofline, speed, timing = (
    modules[name] for name in ("paired", "plain", "plots", "roofline", "speed", "timing")
)


def build(workload: str, batch_size: int = 3) -> tuple[recipes.Recipe, VAE, Any]:
    """vaelab's recipe, model and objective of a workload."""
    recipe = timing.load_recipe(workload, {"training.batch_size": batch_size})
    return recipe, *build_model(recipe.resolve(timing.SHAPES[workload], 1000))


def copy_weights(vae: VAE, network: nn.Module) -> None:
    """Copy vaelab's weights to the plain network. Its two heads are the halves of vaelab's one head."""
    *encoder, head = (part for part in vae.encoder.modules() if hasattr(part, "weight"))
    decoder = [part for part in vae.decoder.modules() if hasattr(part, "weight")]
    pairs = []
    for ours, theirs in ((encoder, network.encoder), (decoder, network.decoder)):
        pairs += zip(ours, (part for part in theirs if hasattr(part, "weight")), strict=True)
    with torch.no_grad():
        for source, target in pairs:
            target.weight.copy_(source.weight)
            target.bias.copy_(source.bias)
        for half, target in enumerate((network.to_mean, network.to_log_var)):
            target.weight.copy_(head.weight.chunk(2)[half])
            target.bias.copy_(head.bias.chunk(2)[half])


# -- the same work for all rivals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", plain.WORKLOADS)
def test_plain_network_has_the_loss_of_vaelab(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, vae, objective = build(name)
    network = plain.VAE(plain.WORKLOADS[name])
    assert sum(p.numel() for p in network.parameters()) == sum(vae.num_parameters.values())
    copy_weights(vae, network)
    x = torch.rand(3, *timing.SHAPES[name], generator=torch.Generator().manual_seed(0))
    epsilon = StepNoise(0, CPU).normal(3, vae.spec.latent_dim)
    terms = compute_terms(objective, vae, x)
    monkeypatch.setattr(plain.torch, "randn_like", lambda _: epsilon)
    ours = [terms[key] for key in ("loss", "reconstruction", "kl")]
    torch.testing.assert_close(list(network.loss(x)), ours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", plain.WORKLOADS)
def test_plain_script_has_the_hyperparameters_of_the_recipe(name: str) -> None:
    recipe, workload = timing.load_recipe(name), plain.WORKLOADS[name]
    assert workload.image_shape == timing.SHAPES[name]
    settings = recipe.training
    assert (workload.batch_size, workload.learning_rate) == (settings.batch_size, settings.learning_rate)
    assert (workload.beta, workload.latent_dim) == (recipe.objective["beta"], recipe.network["latent_dim"])
    assert speed.WORKLOADS[name].batch_size == settings.batch_size


def test_command_line_sets_the_overrides_of_the_mlp(tmp_path: Path) -> None:
    settings = measurements.Settings(tmp_path, None, None, 1.0, "cpu", tmp_path)
    command = measurements.vaelab_command("mlp", tmp_path / "run", settings, 7)
    overrides = [after for before, after in itertools.pairwise(command) if before == "--set"]
    expected = {**timing.MLP, "training.steps": 7, "training.validate_every": 0}
    assert dict(map(recipes.parse_override, overrides)) == expected


def test_plain_script_reads_the_same_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert make_faces.main([str(tmp_path / "faces"), "--count", "20", "--jobs", "1"]) == 0
    ours, theirs = celeba.load(tmp_path / "faces", "train"), plain.Faces(tmp_path / "faces")
    assert len(ours) == len(theirs)
    for i in range(len(ours)):
        assert torch.equal(theirs[i], ours.floats(i, i + 1)[0].contiguous())


@pytest.mark.slow
def test_image_cache_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # the script sets it for each repetition
    assert make_faces.main([str(tmp_path / "faces"), "--count", "40", "--jobs", "1"]) == 0
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    get_reusable_executor().shutdown(wait=True)  # workers that started earlier do not know the scripts
    found = image_cache.measure(tmp_path / "faces", 1000, 1)
    assert found["images"] == 33
    assert [len(rates) for rates in found["images_per_second"].values()] == [1, 1, 1]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A folder with a small MNIST file, and its pixels."""
    folder = tmp_path_factory.mktemp("mnist")
    pixels = np.random.default_rng(0).integers(0, 256, (70, 28, 28), np.uint8)
    header = np.array([0x803, *pixels.shape], ">u4").tobytes()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + pixels.tobytes()))
    return folder, pixels


def test_plain_script_reads_digits(digits: tuple[Path, np.ndarray]) -> None:
    folder, pixels = digits
    data = plain.Digits(folder)
    assert len(data) == 70
    assert torch.equal(data[7], torch.from_numpy(pixels[7])[None].float() / 255)


@pytest.mark.slow
def test_plain_script_prints_its_results(digits: tuple[Path, np.ndarray]) -> None:
    command = [sys.executable, RIVALS / "plain.py", "mlp", "--data", digits[0], "--steps", "2"]
    printed = subprocess.run(command, capture_output=True, check=True, timeout=120, text=True).stdout
    result = json.loads(printed)
    assert result.keys() >= {"steps", "seconds", "images_per_second", "first_step_at", "threads"}
    assert result["first_step_at"] > 0


@pytest.mark.skipif(not PYTHAE, reason="set PYTHAE to a Python that has Pythae")
def test_loss_of_pythae_is_half_of_the_plain_one() -> None:
    code = """  # prose: ignore
import torch
from plain import VAE, WORKLOADS
from with_pythae import DatasetOutput, build
for workload in WORKLOADS.values():
    theirs, ours = build(workload), VAE(workload)
    theirs.encoder.layers.load_state_dict(ours.encoder.state_dict())
    theirs.encoder.embedding.load_state_dict(ours.to_mean.state_dict())
    theirs.encoder.log_var.load_state_dict(ours.to_log_var.state_dict())
    theirs.decoder.layers[0].load_state_dict(ours.decoder.state_dict())
    x = torch.rand(3, *workload.image_shape)
    torch.manual_seed(0)
    loss = ours.loss(x)[0]
    torch.manual_seed(0)
    factor = 1 if workload.hidden else 2
    torch.testing.assert_close(factor * theirs(DatasetOutput(data=x)).loss, loss, rtol=1e-4, atol=1e-5)
"""
    subprocess.run([str(PYTHAE), "-c", code], check=True, timeout=120, env={**os.environ, "PYTHONPATH": str(RIVALS)})


# -- counting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", plain.WORKLOADS)
def test_flop_equal_the_count_of_torch(name: str) -> None:
    recipe, vae, _ = build(name, 2)
    counted = roofline.count_step(recipe, timing.SHAPES[name], "fp32")
    assert counted["flop"] == roofline.count_flop_by_torch(recipe, timing.SHAPES[name])
    assert counted["parameters"] == sum(vae.num_parameters.values())


def test_flop_of_the_mnist_recipe() -> None:
    recipe = recipes.load("mnist")
    counted = roofline.count_step(recipe, (1, 28, 28), "fp32")
    assert counted["flop"] == roofline.count_flop_by_torch(recipe, (1, 28, 28)) == 2_850_398_208


def test_bytes_of_a_step() -> None:
    recipe, vae, _ = build("mlp", 5)
    weights, outputs = sum(vae.num_parameters.values()), 400 + 40 + 400 + 784
    for precision, size in (("fp32", 4), ("bf16", 2)):
        counted = roofline.count_step(recipe, (1, 28, 28), precision)
        moved = 4 * 4 * weights + 2 * size * 5 * outputs + 4 * 5 * 784
        assert counted["bytes"] == 2 * moved


def test_bound_is_the_slower_resource() -> None:
    peaks = {"fp32": 10.0, "copy": 4.0}
    assert roofline.find_bound({"flop": 20, "bytes": 4}, peaks, "fp32") == {"ms_bound": 2000, "bound_by": "FLOP"}
    assert roofline.find_bound({"flop": 20, "bytes": 40}, peaks, "fp32") == {"ms_bound": 10_000, "bound_by": "bytes"}


# -- comparing --------------------------------------------------------------------------------------------------------


def test_every_rival_is_first_equally_often() -> None:
    orders = [paired.rotate("abc", by) for by in range(6)]
    assert orders[:3] == [list("abc"), list("bca"), list("cab")]
    assert orders[3:] == orders[:3]


def test_ratios_are_taken_within_repetitions() -> None:
    theirs, ours = [2.0, 30.0, None, 5.0], [1.0, 10.0, 3.0, None]
    ratios = paired.paired_ratios(theirs, ours)
    assert ratios == [2, 3]  # a repetition on a machine ten times slower changes nothing
    assert paired.spread([*ratios, 7]) == (3, 2, 7)
    assert paired.spread([None, 4.0]) == (4, 4, 4)
    assert paired.spread([None]) is None


def test_steady_part_of_timing_csv(tmp_path: Path) -> None:
    assert measurements.read_timing(tmp_path) == []
    rows = "8,1.0,1\n16,2.5,1\n32,3.0,1\n112,4.0,1\n120,9"
    (tmp_path / "timing.csv").write_text(f"step,seconds,images_per_second\n{rows}")
    found = measurements.read_timing(tmp_path)
    assert found[-1] == (112, 4)  # an incomplete line is left out
    assert measurements.steady_part(found, 2.0) == {"steps": 80, "seconds": 1, "ms_per_step": 12.5}
    assert measurements.steady_part(found, 3.0) is None
    assert measurements.steady_part([], 2.0) is None


def test_clock_excludes_the_warmup(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 11.0, 12.5, 13.0, 13.5, 14.5])
    monkeypatch.setattr(plain.time, "perf_counter", lambda: next(times))
    clock = plain.Clock(seconds=2, steps=0, warmup=2)
    ends = [clock.tick(32) for _ in range(6)]
    assert ends == [False] * 5 + [True]
    report = clock.report()
    assert (report["steps"], report["seconds"], report["images_per_second"]) == (3, 2, 48)


def test_training_loop_is_timed() -> None:
    recipe = timing.load_recipe("mlp", {"network.hidden": [8], "training.batch_size": 4})
    found = timing.time_steps(
        recipe, timing.random_pixels(10, (1, 28, 28)), 0.0, device="cpu", warmup=0.0, min_steps=20
    )
    assert found["steps"] >= 20
    assert found["ms_per_image"] == pytest.approx(found["ms_per_step"] / (10 / 3), rel=0.2)  # batches of 4, 4, 2


# -- reporting --------------------------------------------------------------------------------------------------------


def test_speed_is_reported_written_and_drawn(tmp_path: Path) -> None:
    runs = {
        "vaelab": [{"cost": 2.0, "precision": "fp32", "torch": "2"}, {"cost": 4.0, "precision": "fp32", "torch": "2"}],
        "plain": [{"cost": 6.0, "torch": "2"}, None],
        "pythae": [{"cost": 1.0, "torch": "2"}, {"cost": 8.0, "pythae": "0.1"}],
    }
    row = speed.summarise("celeba", runs)
    assert (row["ratios"]["plain"], row["ratios"]["pythae"]) == ((3, 3, 3), (1.25, 0.5, 2))
    caching = {"seconds": 10.0, "count": 16_000}
    speed.add_caching(row, caching)
    assert row["with_caching"]["caching_ms_per_step"] == pytest.approx(1.0)  # 20 ms for 32 faces, over 20 epochs
    assert row["with_caching"]["ratios"]["plain"].median == pytest.approx(2)
    result = {"workloads": [row], "caching": caching, "roofline": {}, "versions": speed.find_versions([row])}
    assert "3 (3 to 3)" in speed.format_report(result, list(runs))
    speed.write_json(result, tmp_path / "speed.json")
    written = json.loads((tmp_path / "speed.json").read_text())
    assert written["workloads"][0]["costs"]["vaelab"] == {"median": 3, "lowest": 2, "highest": 4}
    assert written["versions"]["pythae"] == {"torch": "2", "pythae": "0.1"}
    plots.save(plots.draw_ratios([row], "a machine"), tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 1000


def test_growth_is_reported_and_drawn(tmp_path: Path) -> None:
    points = growth.choose_points(tmp_path / "pixels.npy", 1 << 20)
    assert {point.panel for point in points} == set(growth.PANELS)
    memory = {"RssAnon": 1.0, "RssFile": 2.0}
    found = {point.name: [{"ms_per_image": 0.001 * point.x, **memory}, None] for point in points}
    assert len(found) == len(points)  # names are unique
    rows = growth.summarise(points, found)
    latents = next(row for row in rows if row["name"] == "latents 8")
    assert latents["us_per_image"].median == pytest.approx(8)
    assert latents["to_first"].median == pytest.approx(4)
    assert growth.format_table(rows).count("\n") == len(rows) + 1
    plots.save(plots.draw_growth(rows, growth.PANELS), tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 1000


# -- checks of a GPU --------------------------------------------------------------------------------------------------


def test_captured_steps_are_checked_and_a_difference_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [("objective elbo", gpu_check.make_recipe())]
    monkeypatch.setattr(gpu_check, "find_members", lambda: iter(members))
    assert gpu_check.perform("captured-steps", CPU, tmp_path).outcome == "passed"

    class OtherSteps(gpu_check.CapturedSteps):
        """Steps that are off by one bit."""

        def take(self, step: int) -> torch.Tensor:
            """Take one step and spoil its terms."""
            return super().take(step) * (1 + 2**-23)

    monkeypatch.setattr(gpu_check, "CapturedSteps", OtherSteps)
    found = gpu_check.perform("captured-steps", CPU, tmp_path)
    assert found.outcome == "failed"
    assert "objective elbo" in found.detail


def test_every_member_is_among_the_checked_models() -> None:
    labels = [label for label, _ in gpu_check.find_members()]
    assert len(set(labels)) == len(labels)
    for folder in ("objectives", "likelihoods", "networks", "posteriors", "priors"):
        for name in registry.names(folder):
            assert any(name in label.split() for label in labels), name


def test_checks_that_need_cuda_are_skipped_on_the_cpu(tmp_path: Path) -> None:
    outcomes = {name: gpu_check.perform(name, CPU, tmp_path).outcome for name in ("no-synchronisation", "memory")}
    assert outcomes == {"no-synchronisation": "skipped", "memory": "skipped"}


def test_checks_are_written(tmp_path: Path) -> None:
    out = tmp_path / "new" / "checks.json"
    command = [sys.executable, str(FOLDER / "gpu_check.py"), "--device", "cpu", "--only", "memory"]
    subprocess.run([*command, "--json", str(out)], check=True, stdout=subprocess.DEVNULL)
    written = json.loads(out.read_text())
    assert [(check["name"], check["outcome"]) for check in written["checks"]] == [("memory", "skipped")]
    assert written["machine"]["device"] == "cpu"


# -- members ----------------------------------------------------------------------------------------------------------


def test_every_member_has_a_step_that_can_be_timed() -> None:
    candidates = member_costs.list_candidates()
    for section in member_costs.VARIED:
        info = recipes.SECTIONS[section]
        timed = {name.partition("=")[2] for name in candidates if name.startswith(f"{section}=")}
        assert timed == {*registry.names(info.folder)} - {info.default}
    for name, overrides in candidates.items():
        section, _, member = name.partition("=")
        with torch.device("meta"):
            build_model(made := member_costs.make_recipe(overrides))
        assert made.sections()[section]["name"] == member
    assert candidates["posterior=vq"] == {"posterior.name": "vq", "prior.name": "uniform"}
    assert candidates["posterior=iaf"] == {"posterior.name": "iaf"}


def test_steps_of_a_member_are_paired_with_those_of_the_plain_vae() -> None:
    chosen = {name: member_costs.list_candidates()[name] for name in ("posterior=vq", "objective=iwae")}
    found = member_costs.measure(chosen, repeats=2, steps=1, device="cpu", threads=1)
    assert {name: (len(each["plain"]), len(each["seconds"])) for name, each in found.items()} == dict.fromkeys(
        chosen, (2, 2)
    )
    made = {"overrides": {"prior.name": "uniform", "posterior.name": "vq"}}
    given = {"a": {**made, "plain": [2.0, 1.0, 1.0], "seconds": [5.0, 2.0, 4.0]}, "b": {**made, "skipped": "no zuko"}}
    assert member_costs.describe(given)[2:] == [
        "| `b` | vq | not measured: no zuko | |",
        "| `a` | vq | 2.50 (2.00 to 4.00) | 4000.0 |",
    ]
