"""Wrong arguments of Python functions: one line, and nothing is written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vaelab
from vaelab.run import Run

CALLS = {
    "TypeError": """  # prose: ignore
        vaelab.train(pixels)
        vaelab.train(vaelab.Images(pixels[..., None]))
        vaelab.train(None)
        vaelab.train("folder", data=pixels)
        vaelab.train("digits", ["training.steps"])
        vaelab.train("digits", "training.steps=1")
        vaelab.train("digits", {1: 2})
        vaelab.train("digits", {"objective.beta": pixels})
        vaelab.train("digits", run=5)
        vaelab.load(None)
        vaelab.load(model)
        vaelab.evaluate(None)
        vaelab.evaluate(run, metrics=[1])
        vaelab.evaluate(run, metrics=3)
        vaelab.evaluate(run, set=["nll.samples"])
        vaelab.evaluate(run, data=pixels)
        vaelab.Run(5)
        vaelab.Images([1, 2])
        vaelab.Images(pixels[..., None], [0, 1])
        model.sample(1.5)
        model.sample(None)
        model.sample("3")
        model.sample(True)
        model.sample(2, np.random.default_rng(0))
        model.sample(2, 1.5)
        model.sample(2, "seed")
        model.decode(None)
        model.decode("codes")
        model.decode({})
        model.decode(np.full((2, latents), None))
        model.decode(model.encode(pixels))
        model.encode(None)
        model.encode("own")
        model.encode(pathlib.Path("own"))
        model.encode(pixels.astype(object))
        model.reconstruct(None)
        vaelab.sample(run, count=1.5)
        vaelab.sample(run, seed="x")
        vaelab.sample(run, out=3)
        vaelab.encode(run, 5)
        vaelab.reconstruct(run, {1})
        vaelab.reconstruct(run, count=1.5)
        vaelab.score(run, 5)
        vaelab.score(run, samples=2.5)
        vaelab.edit(run, attribute=None)
        vaelab.edit(run, attribute=7)
        vaelab.edit(run, attribute="7", by="2")
        vaelab.compare(3)
        vaelab.compare([None])
        vaelab.plan(pixels)
        vaelab.sweep(pixels, {"objective.beta": [1]})
        vaelab.sweep("digits", {"objective.beta": 1})
        vaelab.sweep("digits", {"objective.beta": "12"})
        vaelab.sweep("digits", ["objective.beta"])
        vaelab.sweep("digits", {"objective.beta": [1]}, seeds=1.5)
        vaelab.explore(3)
        vaelab.export(run, to="web", points="many")
        vaelab.draw_figures(run, names=[3])
        vaelab.check_data(3)
        vaelab.cache_data(None)
    """,
    "ValueError": """  # prose: ignore
        vaelab.train("digits", {"objective.name": "beta", "objective.beta": float("nan")})
        vaelab.train("digits", device=None)
        vaelab.train("digits", device="gpu")
        vaelab.train("digits", {"training.steps": 60}, run=run, device="mps")
        vaelab.Images(pixels)
        vaelab.Images(pixels[..., None], np.array([0.0, np.nan]))
        vaelab.Images(pixels[..., None], np.array([0, 5]), ("a", "b"))
        vaelab.Images(pixels[..., None], np.array([0, -1]))
        vaelab.Images(pixels[..., None], attributes=np.array([True, False]), attribute_names=("a",))
        model.sample(-1)
        model.sample(0)
        model.sample(2, 1 << 70)
        model.decode(np.full((2, latents), np.nan))
        model.decode(torch.full((2, latents), torch.inf))
        model.decode(np.full((2, latents), 1e300))
        model.decode(np.zeros((2, latents + 1)))
        model.decode(np.zeros((2, 2, latents)))
        model.decode(3.0)
        model.decode(np.zeros((0, latents)))
        model.decode(np.zeros((2, latents), complex))
        model.decode(torch.zeros((2, latents), dtype=torch.complex64))
        model.decode(np.zeros((2, latents), bool))
        model.encode(np.full((2, 28, 28), np.nan))
        model.encode(torch.full((2, 28, 28), -torch.inf))
        model.encode(np.full((2, 28, 28), 2.0))
        model.encode(pixels.astype(int))
        model.encode(pixels.astype(complex))
        model.encode([pixels[0], pixels[0][:5]])
        model.encode(np.ma.masked_array(pixels, pixels == 0))
        model.encode(pixels[:0])
        model.encode([])
        model.encode(pixels[:, :5, :5])
        model.reconstruct(np.full((2, 28, 28), np.nan))
        model.reconstruct(pixels[:0])
        vaelab.sample(run, count=-1)
        vaelab.sample(run, count=0)
        vaelab.sample(run, seed=-1)
        vaelab.reconstruct(run, count=0)
        vaelab.reconstruct(run, count=-3)
        vaelab.score(run, samples=0)
        vaelab.edit(run, attribute="7", by=float("nan"))
        vaelab.edit(run, attribute=[])
        vaelab.compare([])
        vaelab.explore([run], points=-1)
        vaelab.export(run, to="web", points=-1)
    """,
}
"""Error → calls that raise it or a subclass."""
SCRIPT = """
# prose: ignore
import json, pathlib, sys
import numpy as np, torch
import vaelab
run = sys.argv[1]
model = vaelab.load(run)
latents, pixels = model.spec.latent_dim, np.zeros((2, 28, 28), np.uint8)
found = []
for call in json.loads(sys.argv[2]):
    try:
        eval(call)
        found.append([call, "nothing", ""])
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        found.append([call, " ".join(kinds), str(error)])
print(json.dumps(found))
"""
"""A separate process, in which arguments are not checked at run time before vaelab sees them."""


@pytest.mark.slow
def test_wrong_arguments_raise_one_line_and_write_nothing(trained: Path, tmp_path: Path) -> None:
    calls = {call.strip(): kind for kind, text in CALLS.items() for call in text.strip().splitlines()[1:]}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    (tmp_path / "here").mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(trained), json.dumps(list(calls))],
        cwd=tmp_path / "here",
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    wrong = [
        (call, kinds, message)
        for call, kinds, message in json.loads(done.stdout)
        if calls[call] not in kinds.split() or not 0 < len(message) < 400 or "\n" in message
    ]
    assert wrong == []
    assert list((tmp_path / "here").iterdir()) == []


def test_a_run_is_accepted_as_a_path(trained: Path) -> None:
    opened = Run(trained)
    np.testing.assert_array_equal(vaelab.load(opened).sample(2, 0).numpy(), vaelab.load(trained).sample(2, 0).numpy())
    assert Run(opened).path == opened.path


def test_a_single_name_is_accepted_as_a_list(trained: Path) -> None:
    assert list(vaelab.evaluate(trained, metrics="elbo").results) == ["elbo"]
    assert vaelab.draw_figures(trained, names="losses") == [trained / "figures" / "losses.png"]
