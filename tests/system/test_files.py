"""Atomic writes, and reads that detect every flipped bit."""

import os
import pickle
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from pydantic import BaseModel
from torch import Tensor

from vaelab.system.errors import InputError
from vaelab.system.files import (
    DamagedFile,
    NotAFile,
    check_file,
    load_tensors,
    read_bytes,
    read_json,
    save_tensors,
    unique_path,
    write_atomic,
    writing_atomic,
)

DATA_BITS = 200
"""Number of bits of the data that are flipped; all bits of the header are."""


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Equal names, dtypes, shapes and bits."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert (tensor.dtype, tensor.shape) == (other[name].dtype, other[name].shape), name
        assert bits_of(tensor) == bits_of(other[name]), name


def bits_of(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


WRITER = """
import sys
from pathlib import Path
from vaelab.system.files import writing_atomic
with writing_atomic(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


def begin_writing(path: Path) -> subprocess.Popen[str]:
    """Another process in the middle of a write."""
    command = [sys.executable, "-c", WRITER, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


# -- write_atomic -----------------------------------------------------------------------------------------------------


def test_bytes_and_text_are_written(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"\0\xff")
    write_atomic(tmp_path / "b", "β = 4\n")
    assert (tmp_path / "a").read_bytes() == b"\0\xff"
    assert (tmp_path / "b").read_bytes() == "β = 4\n".encode()


@pytest.mark.skipif(sys.platform == "win32", reason="no locks that end with their process")
def test_only_partial_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    killed, living = begin_writing(tmp_path / "a"), begin_writing(tmp_path / "a")
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert len(names_in(tmp_path)) == 2
    (tmp_path / ".b.12345678.part").write_bytes(b"of another file")
    write_atomic(tmp_path / "a", "whole")
    assert (tmp_path / "a").read_text() == "whole"
    assert len(names_in(tmp_path)) == 3  # with those of the living process and of b
    living.communicate("")
    assert living.returncode == 0
    assert names_in(tmp_path) == [".b.12345678.part", "a"]
    assert (tmp_path / "a").read_bytes() == b"half"


def test_writing_makes_folders_and_replaces_files(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a"
    for content in (b"a long first content", b"second", b""):
        write_atomic(path, content)
        assert path.read_bytes() == content
        assert names_in(path.parent) == ["a"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_atomic(tmp_path / "a", b"")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()], ids=["disk-full", "interrupted"])
@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace"])
def test_a_failed_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException
) -> None:
    def die(*_args: object) -> NoReturn:
        raise error

    path = tmp_path / "a"
    path.write_bytes(b"old")
    monkeypatch.setattr(call, die)
    with pytest.raises(type(error)):
        write_atomic(path, b"new")
    with pytest.raises(type(error)):
        write_atomic(tmp_path / "b", b"new")
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["a"]


def test_content_is_synced_before_the_name_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def record_fsync(handle: int) -> None:
        calls.append("fsync of the folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "fsync of the file")
        fsync(handle)

    def record_replace(path: Path, target: Path) -> Path:
        assert path.read_bytes() == b"new"
        calls.append("replace")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "replace", record_replace)
    write_atomic(tmp_path / "a", b"new")
    assert calls[:2] == ["fsync of the file", "replace"]
    assert calls[2:] == (["fsync of the folder"] if os.name == "posix" else [])


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomic(tmp_path / "a", b"new")
    assert names_in(tmp_path) == ["a"]


def test_a_file_gets_its_name_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a"
    with writing_atomic(path) as file:
        for piece in (b"one ", b"two"):
            file.write(piece)
        assert not path.exists()
        assert [name[:3] for name in names_in(path.parent)] == [".a."]
    assert path.read_bytes() == b"one two"
    assert names_in(path.parent) == ["a"]


@pytest.mark.parametrize("error", [ValueError("what is written is wrong"), KeyboardInterrupt()])
def test_an_error_while_writing_keeps_the_old_file(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "a").write_bytes(b"old")
    for name in ("a", "b"):
        with pytest.raises(type(error)), writing_atomic(tmp_path / name) as file:
            file.write(b"one")
            raise error
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names_in(tmp_path) == ["a"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_threads_write_with_the_usual_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mask of permissions can only be read by setting it, for the whole process."""

    def ask_slowly(mask: int) -> int:
        before = umask(mask)
        time.sleep(0.002)
        return before

    umask = os.umask
    (tmp_path / "usual").touch()
    usual = stat.S_IMODE((tmp_path / "usual").stat().st_mode)
    monkeypatch.setattr(os, "umask", ask_slowly)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: write_atomic(tmp_path / f"{i}", b""), range(50)))
    (tmp_path / "after").touch()
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {usual}


# -- unique_path ------------------------------------------------------------------------------------------------------


def test_unique_path_counts_up(tmp_path: Path) -> None:
    assert unique_path(tmp_path / "samples.png") == tmp_path / "samples.png"
    (tmp_path / "samples.png").touch()
    (tmp_path / "samples-3.png").touch()
    assert unique_path(tmp_path / "samples.png") == tmp_path / "samples-2.png"
    (tmp_path / "samples-2.png").touch()
    assert unique_path(tmp_path / "samples.png") == tmp_path / "samples-4.png"


def test_unique_path_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert unique_path(tmp_path / "out") == tmp_path / "out-2"


# -- tensors ----------------------------------------------------------------------------------------------------------


def some_tensors() -> dict[str, Tensor]:
    numbers = torch.Generator().manual_seed(0)
    normal = torch.randn(2, 3, 4, 5, generator=numbers)
    return {
        "float32": normal,
        "channels-last": normal.clone(memory_format=torch.channels_last),
        "transposed": normal.permute(3, 0, 2, 1),
        "every second": normal[..., ::2],
        "float64": normal.double(),
        "float16": normal.half(),
        "bfloat16": normal.bfloat16(),
        "int64": torch.arange(-3, 3),
        "int32": torch.arange(5, dtype=torch.int32),
        "uint8": torch.arange(256, dtype=torch.uint8),
        "bool": normal > 0,
        "number": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "special": torch.tensor([np.nan, np.inf, -np.inf, -0.0, 1e-45]),
        "with gradient": torch.ones(3, requires_grad=True),
        'name with β and "quotes"': torch.ones(1),
    }


def test_tensors_and_facts_are_read_back(tmp_path: Path) -> None:
    facts = {
        "step": 7,
        "rate": 0.1,
        "text": 'β\n"x"',
        "none": None,
        "list": [1, [2.5, "a"]],
        "deep": {"a": {"b": True}},
    }
    save_tensors(tmp_path / "a", some_tensors(), facts)
    tensors, facts_again = load_tensors(tmp_path / "a")
    assert_same(tensors, {name: tensor.detach() for name, tensor in some_tensors().items()})
    assert facts_again == facts
    assert names_in(tmp_path) == ["a"]


def test_a_file_may_hold_only_facts(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a", {}, {"step": 7})
    assert load_tensors(tmp_path / "a") == ({}, {"step": 7})


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    tensors = some_tensors()
    save_tensors(tmp_path / "a", tensors, {"x": 1, "y": 2})
    save_tensors(tmp_path / "b", dict(reversed(tensors.items())), {"y": 2, "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_loaded_tensors_outlive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    save_tensors(path, {"x": torch.arange(1000)}, {})
    tensors, _ = load_tensors(path)
    save_tensors(path, {"x": torch.zeros(2000)}, {})
    path.unlink()
    tensors["x"] += 1
    assert tensors["x"].tolist() == list(range(1, 1001))


def test_files_are_plain_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    save_tensors(tmp_path / "a", {"x": torch.arange(3)}, {"step": 7})
    assert load_file(tmp_path / "a")["x"].tolist() == [0, 1, 2]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A small file of two tensors and two facts."""
    x = torch.linspace(-1, 1, 24).reshape(2, 3, 2, 2).to(memory_format=torch.channels_last)
    save_tensors(tmp_path / "small", {"a": x, "b": torch.arange(4)}, {"step": 7, "é": "x"})
    return tmp_path / "small"


def test_every_flipped_bit_is_detected(small: Path) -> None:
    whole = small.read_bytes()
    header = 8 * (8 + int.from_bytes(whole[:8], "little"))
    data = header + np.random.default_rng(0).choice(8 * len(whole) - header, DATA_BITS, replace=False)
    for bit in [*range(header), *data.tolist()]:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        small.write_bytes(flipped)
        with pytest.raises(DamagedFile) as error:
            load_tensors(small)
        assert error.value.path == small
    small.write_bytes(whole)
    assert load_tensors(small)[1] == {"step": 7, "é": "x"}


def test_every_truncation_is_detected(small: Path) -> None:
    whole = small.read_bytes()
    for length in range(0, len(whole), 5):
        small.write_bytes(whole[:length])
        with pytest.raises(DamagedFile) as error:
            load_tensors(small)
        assert error.value.path == small


def test_added_bytes_are_detected(small: Path) -> None:
    small.write_bytes(small.read_bytes() + b"\0")
    with pytest.raises(DamagedFile):
        load_tensors(small)


def test_an_empty_file_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(DamagedFile):
        load_tensors(tmp_path / "a")


def test_swapped_tensors_are_detected(tmp_path: Path) -> None:
    """Two tensors of one shape that changed places."""
    save_tensors(tmp_path / "a", {"x": torch.zeros(8), "y": torch.ones(8)}, {})
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content[:-64] + content[-32:] + content[-64:-32])
    with pytest.raises(DamagedFile):
        load_tensors(tmp_path / "a")


@pytest.mark.parametrize(("old", "new"), [(b'"F32"', b'"I32"'), (b"[2,3]", b"[3,2]")], ids=["dtype", "shape"])
def test_a_changed_header_is_detected(tmp_path: Path, old: bytes, new: bytes) -> None:
    save_tensors(tmp_path / "a", {"x": torch.ones(2, 3)}, {})
    content = (tmp_path / "a").read_bytes()
    assert content.count(old) == 1
    (tmp_path / "a").write_bytes(content.replace(old, new))
    with pytest.raises(DamagedFile):
        load_tensors(tmp_path / "a")


def test_files_of_other_programs_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.ones(3)}, tmp_path / "a")
    with pytest.raises(DamagedFile):
        load_tensors(tmp_path / "a")


class Trap:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_pickles_are_refused_and_not_executed(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    (tmp_path / "a").write_bytes(pickle.dumps(Trap(sprung)))
    torch.save({"x": torch.ones(3), "trap": Trap(sprung)}, tmp_path / "b")
    for name in ("a", "b"):
        with pytest.raises(DamagedFile):
            load_tensors(tmp_path / name)
    assert not sprung.exists()
    pickle.loads((tmp_path / "a").read_bytes())
    assert sprung.exists()  # the trap does work


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_tensors(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        load_tensors(tmp_path)


# -- reading ----------------------------------------------------------------------------------------------------------


class Size(BaseModel):
    """A shape to validate."""

    height: int
    names: list[tuple[str, str]] = []


def test_json_is_read_as_a_model(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"height": 3, "names": [["β", "b"]]}', encoding="utf-8")
    found = read_json(path, Size)
    assert (found.height, found.names) == (3, [("β", "b")])
    assert read_json(path, dict)["height"] == 3


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"3",
        b"{}",
        b'{"height": "many"}',
        b'{"height": null}',
        b'{"height": 3, "names": [["a"]]}',
        b'{"height": 3',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"height": ' + b"9" * 5000 + b"}",
        bytes(64),
    ],
)
def test_json_of_another_shape_is_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DamagedFile) as raised:
        read_json(path, Size, remedy="make it again")
    assert (raised.value.path, raised.value.remedy) == (path, "make it again")
    assert "\n" not in str(raised.value)
    again = pickle.loads(pickle.dumps(raised.value))  # a worker process may raise it
    assert (str(again), again.path, again.reason) == (str(raised.value), path, raised.value.reason)


def test_missing_json_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "a.json", Size)


def test_larger_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(10))
    assert read_bytes(tmp_path / "a", 10) == bytes(10)
    with pytest.raises(InputError) as error:
        read_bytes(tmp_path / "a", 9)
    assert error.value.subject == tmp_path / "a"


@pytest.mark.skipif(os.name != "posix", reason="POSIX has these")
def test_folders_pipes_and_devices_are_not_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "link", tmp_path, Path("/dev/zero")):
        with pytest.raises(NotAFile):
            check_file(path)
        with pytest.raises(NotAFile):
            read_bytes(path, 1)
        with pytest.raises(DamagedFile):
            read_json(path, Size)
    (tmp_path / "a").write_bytes(b"abc")
    assert check_file(tmp_path / "a").st_size == 3
