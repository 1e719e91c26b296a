"""Runs of converted models: nothing in a file is executed, images are checked, all commands work."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign import save_pythae, save_pytorch_vae
from typed import Typed
from wording import Wording

import vaelab
from vaelab.system.errors import InputError, UnknownName


class Trap:
    """Creates a folder below ``parent`` when it is unpickled."""

    def __init__(self, parent: Path) -> None:
        self.parent = parent

    def __reduce__(self) -> tuple[Any, ...]:
        return tempfile.mkdtemp, ("", "executed", str(self.parent))


@pytest.mark.parametrize("package", ["pythae", "pytorch_vae"])
def test_nothing_in_a_file_is_executed(package: str, tmp_path: Path, wording: Wording) -> None:
    source, weights = save_pythae(tmp_path) if package == "pythae" else save_pytorch_vae(tmp_path)
    file, key = (source / "model.pt", "model_state_dict") if package == "pythae" else (source, "state_dict")
    torch.save({key: weights, "callbacks": Trap(tmp_path)}, file)
    with pytest.raises(InputError) as error:
        vaelab.convert(source, "digits", package=package, run=tmp_path / "run")
    wording(error.value)
    assert error.value.subject == file
    assert not list(tmp_path.glob("executed*"))
    torch.load(file, weights_only=False)
    assert list(tmp_path.glob("executed*")), "the trap works"


def test_the_command_makes_a_run_that_verbs_take(cli: Typed, tmp_path: Path, wording: Wording) -> None:
    folder, _ = save_pythae(tmp_path)
    code, out, err = cli("convert", folder, "digits", "--from", "pythae")
    assert (code, out) == (0, "runs/pythae\n")
    wording(err)
    assert cli("convert", folder, "digits", "--from", "pythae")[1] == "runs/pythae-2\n"
    assert "vaelab convert" in Path("runs/index").read_text()
    for words in (("doctor", "runs/pythae"), ("sample", "runs/pythae"), ("report", "runs/pythae")):
        code, out, err = cli(*words)
        assert code == 0, words
        assert err == "" or words[0] == "sample", words  # which names its sampler
    code, _, err = cli("convert", folder, "digits", "--from", "pythae", "--run", "runs/pythae")
    assert code == 1
    wording(err)


def test_wrong_arguments_are_refused(tmp_path: Path, wording: Wording) -> None:
    folder, _ = save_pythae(tmp_path)
    with pytest.raises(UnknownName) as unknown:
        vaelab.convert(folder, "digits", package="pythea")
    assert set(unknown.value.choices) >= {"pythae", "pytorch_vae"}
    with pytest.raises(FileNotFoundError) as missing:
        vaelab.convert(tmp_path / "nowhere", "digits", package="pythae")
    with pytest.raises(InputError) as misfit:
        vaelab.convert(folder, "digits", {"network.hidden": [8]}, package="pythae", run=tmp_path / "run")
    other, _ = save_pythae(tmp_path, input_dim=[1, 14, 56])
    with pytest.raises(InputError) as images:
        vaelab.convert(other, "digits", package="pythae", run=tmp_path / "run")
    assert images.value.subject == "data"
    for error in (unknown, missing, misfit, images):
        wording(error.value)
    assert not (tmp_path / "run").exists()
