"""Settings and fixtures of all tests: shapes checked at run time, one thread, repeatable hypothesis, small models."""

import atexit
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import checker

os.environ.setdefault("OMP_NUM_THREADS", "1")  # also for commands that tests start: two workers share two cores
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # every worker and command would compile the package again
sys.dont_write_bytecode = False
os.fsync = lambda _handle: None  # power does not fail during tests; those that count the calls replace it
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers inherit it: tests leave the user's cache alone
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="vaelab-tests-")
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
    os.environ.setdefault("MPLCONFIGDIR", f"{os.environ['XDG_CACHE_HOME']}/matplotlib")  # fonts are listed only once

checker.install()  # before the first import of vaelab

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402
from mirrors import Answer, Server  # noqa: E402
from typed import Typed, train_small, type_command  # noqa: E402
from wording import Wording, add_option  # noqa: E402

from vaelab import recipe  # noqa: E402
from vaelab.build import build  # noqa: E402
from vaelab.models.vae import VAE  # noqa: E402
from vaelab.training.objectives import Objective  # noqa: E402

torch.set_num_threads(1)
settings.register_profile("vaelab", derandomize=True, database=None, deadline=None, max_examples=25)
settings.load_profile("vaelab")


pytest_addoption = add_option


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that have slow tests, so that no worker is left with one while the other is idle."""
    slow = {item.path for item in items for mark in ("slow", "browser", "long") if item.get_closest_marker(mark)}
    items.sort(key=lambda item: item.path not in slow)


def pytest_runtest_setup() -> None:
    checker.start_test()


@pytest.fixture
def wording(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Wording]:
    """``wording(message)`` compares a message with tests/messages.json; test types and fields, too."""
    name = request.node.nodeid.removeprefix("tests/")
    seen = Wording(name, tmp_path, request.config.getoption("--update-messages"))
    yield seen
    seen.finish()


@pytest.fixture(scope="session")
def make_model() -> Callable[..., tuple[VAE, Objective]]:
    """Return a function that builds a small model and its objective from overrides, with weights of seed 0."""

    def make(
        image_shape: tuple[int, int, int] = (1, 9, 8), overrides: dict[str, Any] | None = None
    ) -> tuple[VAE, Objective]:
        tables = {"data": {"name": "digits"}, "network": {"name": "mlp", "hidden": [16], "latent_dim": 3}}
        resolved = recipe.validate(recipe.merge(tables, overrides or {}), "small")
        return build(resolved.resolve(image_shape, 100))

    return make


@pytest.fixture(scope="session")
def shared_features(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder in which the tests of all workers keep trained feature classifiers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "features"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run on digits with one figure; tests that damage it make a copy."""
    return train_small(tmp_path_factory.mktemp("runs") / "digits", {"training.figures": ["losses"]}).path


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    shared_features: Path,
) -> Typed:
    """Type a command in an empty folder, with a cache of its own: (exit code, stdout, stderr)."""
    cache = tmp_path_factory.mktemp("cache") / "vaelab"
    cache.mkdir()
    (cache / "features").symlink_to(shared_features)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent))
    monkeypatch.setenv("VAELAB_PROGRESS_SECONDS", "inf")  # output must not depend on the speed of the machine
    monkeypatch.delenv("VAELAB_DATA", raising=False)
    return type_command(monkeypatch, capsys)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """Starts servers on this machine that give the answers listed for ``/file``; downloads do not pause."""
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ExitStack() as stack:

        def start(*answers: Answer) -> Server:
            server = Server()
            stack.callback(server.close)
            if answers:
                server.answers["/file"] = list(answers)
            return server

        yield start


@pytest.fixture
def closed_port() -> str:
    """The address of a server that does not exist."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"
