"""Exported programs return what the model returns, and need PyTorch alone."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typed import Typed, train_small

import vaelab
from vaelab.exporters.torch_program import compare_programs, make_programs
from vaelab.models.vae import VAE
from vaelab.system import registry

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("network", registry.names("networks"))
def test_programs_equal_the_model_for_any_batch(make_model: Callable[..., tuple[VAE, nn.Module]], network: str) -> None:
    chosen: dict[str, Any] = {"network.name": network}
    if network == "conv":
        chosen |= {"network.channels": [4, 6], "network.strides": [2, 2]}
    model, _ = make_model((3, 11, 8), chosen)
    model.train()
    programs = make_programs(model, {})
    assert model.training
    model.eval()
    for batch in (1, 5):
        x = torch.rand(batch, 3, 11, 8, generator=torch.Generator().manual_seed(batch))
        assert compare_programs(model, programs, x) <= 1e-6


def test_the_readme_runs_where_vaelab_cannot_be_imported(cli: Typed, tmp_path: Path) -> None:
    run = train_small(tmp_path / "digits", {"training.steps": 3}).path
    code, out, err = cli("export", run, "--to", "torch", "programs")
    assert (code, err, out.splitlines()[-1]) == (0, "", "programs")
    folder = Path("programs")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert manifest["kind"] == "torch"
    assert {path.name for path in folder.iterdir()} == {*manifest["files"], "manifest.json"}
    for name in ("encoder.pt2", "decoder.pt2"):
        assert str(Path(vaelab.__file__).parents[1]).encode() not in (folder / name).read_bytes()
    snippet = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert snippet is not None
    program = f"import sys; sys.modules['vaelab'] = None\n{snippet[1]}\nprint(*samples.shape)"
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "16 1 28 28\n"), done.stderr
    assert cli("export", run, "--to", "torch", "programs")[0] == 1
    assert cli("export", run, "--to", "torch", "programs", "--overwrite")[0] == 0
