"""Names of members: vaelab's own, and those of other packages."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from plugins import install
from wording import Wording

import vaelab
from vaelab.system import registry
from vaelab.system.errors import InputError, UnknownName
from vaelab.system.registry import KINDS, PACKAGES, unknown

Offer = Callable[..., None]


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Offer]:
    """Installs a package that offers members of a folder: ``offer(name="module")``."""
    before = set(sys.modules)
    count = 0

    def add(*, folder: str = "datasets", **modules: str) -> None:
        nonlocal count
        place = tmp_path / f"site-{count}"
        place.mkdir()
        sources = {module: f"WHO = {module!r}\n" for module in modules.values()}
        install(place, f"other{count}", sources, {f"vaelab.{folder}": modules})
        monkeypatch.syspath_prepend(place)
        count += 1

    yield add
    for name in set(sys.modules) - before:
        if name.startswith("vaelab_test"):
            del sys.modules[name]


every_folder = pytest.mark.parametrize("folder", PACKAGES)


@every_folder
def test_names_are_those_of_the_files(folder: str) -> None:
    files = Path(vaelab.__file__).parent.glob(f"{PACKAGES[folder].removeprefix('vaelab.').replace('.', '/')}/[!_]*.py")
    names = tuple(sorted(file.stem for file in files))
    assert registry.names(folder) == names
    assert names


@every_folder
def test_every_name_loads(folder: str) -> None:
    for name in registry.names(folder):
        module = registry.load(folder, name)
        assert isinstance(module, ModuleType)
        assert module.__name__ == f"{PACKAGES[folder]}.{name}"


def test_words_are_for_folders_that_exist() -> None:
    assert KINDS.keys() <= PACKAGES.keys()


# -- wrong names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["minst", "", "Mnist", "mnist.py", "..mnist", "__init__", "os", "xyzzy"])
def test_unknown_names_are_refused_with_the_valid_ones(name: str) -> None:
    with pytest.raises(UnknownName) as error:
        registry.load("datasets", name)
    assert (error.value.subject, error.value.value) == ("data set", name)
    assert error.value.choices == registry.names("datasets")


@pytest.mark.parametrize(
    ("given", "names", "expected"),
    [
        ("minst", ["digits", "mnist"], "mnist"),
        ("MNIST", ["digits", "mnist"], "mnist"),
        ("lr", ["learning_rate", "seed"], "learning_rate"),
        ("xyzzy", ["digits", "mnist"], ""),
        ("", ["digits"], ""),
        ("a", [], ""),
    ],
)
def test_the_nearest_name_is_found(given: str, names: list[str], expected: str) -> None:
    assert registry.nearest(given, names) == expected


def test_wording_of_unknown_names(wording: Wording) -> None:
    for error in (
        unknown("data set", "minst", ["mnist", "digits"]),
        unknown("key", 3, iter(["b", "a"])),
        unknown("key", "x", []),
    ):
        wording(error)


# -- other packages ---------------------------------------------------------------------------------------------------


def test_members_of_other_packages_are_listed_and_loaded(offer: Offer) -> None:
    offer(rings="vaelab_test_rings", anchors="vaelab_test_anchors")
    names = registry.names("datasets")
    assert {"anchors", "digits", "mnist", "rings"} <= set(names)
    assert list(names) == sorted(names)
    assert "vaelab_test_rings" not in sys.modules, "listing imports nothing"
    assert registry.load("datasets", "rings").WHO == "vaelab_test_rings"
    assert registry.load("datasets", "mnist").__name__ == "vaelab.data.datasets.mnist"
    assert "rings" not in registry.names("objectives")
    with pytest.raises(UnknownName):
        registry.load("objectives", "rings")


def test_a_name_of_vaelab_is_refused(offer: Offer) -> None:
    offer(mnist="vaelab_test_mnist")
    assert registry.names("datasets").count("mnist") == 1
    with pytest.raises(InputError) as error:
        registry.load("datasets", "mnist")
    assert (error.value.value, error.value.choices) == ("mnist", ("vaelab", "vaelab_test_mnist"))


def test_a_name_of_two_packages_is_refused(offer: Offer, wording: Wording) -> None:
    offer(rings="vaelab_test_one")
    offer(rings="vaelab_test_two", others="vaelab_test_two")
    assert registry.names("datasets").count("rings") == 1
    with pytest.raises(InputError) as error:
        registry.load("datasets", "rings")
    assert set(error.value.choices) == {"vaelab_test_one", "vaelab_test_two"}
    wording(error.value)
    assert registry.load("datasets", "others").WHO == "vaelab_test_two"


def test_a_package_that_is_found_twice_is_one(offer: Offer) -> None:
    """For example a package that is installed and also checked out."""
    offer(rings="vaelab_test_rings")
    offer(rings="vaelab_test_rings")
    assert registry.load("datasets", "rings").WHO == "vaelab_test_rings"
