"""Names of members: vaelab's own, and those that other packages offer by entry point."""

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

import vaelab
from vaelab.system import registry
from vaelab.system.errors import UnknownName
from vaelab.system.registry import KINDS, PACKAGES, unknown

Offer = Callable[..., None]


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Offer]:
    """Offers data sets as installed packages would: ``offer(name="module")``, or one name from several modules."""
    points: list[EntryPoint] = []

    def find(*, group: str) -> list[EntryPoint]:
        return [point for point in points if point.group == group]

    def add(*, folder: str = "datasets", **modules: str) -> None:
        for name, module in modules.items():
            (tmp_path / f"{module}.py").write_text(f"WHO = {module!r}\n")
            points.append(EntryPoint(name, module, f"vaelab.{folder}"))

    def forget() -> None:
        registry.names.cache_clear()
        registry._offered.cache_clear()

    monkeypatch.setattr(registry, "entry_points", find)
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    yield add
    for point in points:
        sys.modules.pop(point.value, None)
    forget()


# -- names ------------------------------------------------------------------------------------------------------------


every_folder = pytest.mark.parametrize("folder", PACKAGES)


@every_folder
def test_names_are_those_of_the_files(offer: Offer, folder: str) -> None:
    files = Path(vaelab.__file__).parent.glob(f"{PACKAGES[folder].removeprefix('vaelab.').replace('.', '/')}/[!_]*.py")
    names = tuple(sorted(file.stem for file in files))
    assert registry.names(folder) == names
    assert names


@every_folder
def test_every_name_loads(offer: Offer, folder: str) -> None:
    for name in registry.names(folder):
        module = registry.load(folder, name)
        assert isinstance(module, ModuleType)
        assert module.__name__ == f"{PACKAGES[folder]}.{name}"


def test_words_are_for_folders_that_exist() -> None:
    assert KINDS.keys() <= PACKAGES.keys()


# -- wrong names ------------------------------------------------------------------------------------------------------


def test_wrong_name_with_its_nearest_match(offer: Offer) -> None:
    with pytest.raises(UnknownName) as caught:
        registry.load("datasets", "minst")
    valid = ", ".join(registry.names("datasets"))
    assert str(caught.value) == f"unknown data set 'minst'. Did you mean 'mnist'? Valid: {valid}"


def test_wrong_name_like_no_other(offer: Offer) -> None:
    with pytest.raises(UnknownName, match=r"^unknown objective 'xyzzy'\. Valid: .*elbo") as caught:
        registry.load("objectives", "xyzzy")
    assert "mean" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "Mnist", "mnist.py", "..mnist", "__init__", "os"])
def test_names_that_are_none(offer: Offer, name: str) -> None:
    with pytest.raises(UnknownName):
        registry.load("datasets", name)


def test_unknown_sorts_and_takes_anything() -> None:
    assert str(unknown("key", 3, iter(["b", "a"]))) == "unknown key '3'. Valid: a, b"
    assert str(unknown("key", "x", [])) == "unknown key 'x'. Valid: none"
    assert isinstance(unknown("key", "x", []), ValueError)


# -- other packages ---------------------------------------------------------------------------------------------------


def test_offered_name(offer: Offer) -> None:
    offer(rings="vaelab_test_rings", anchors="vaelab_test_anchors")
    names = registry.names("datasets")
    assert {"anchors", "digits", "mnist", "rings"} <= set(names)
    assert list(names) == sorted(names)
    assert registry.load("datasets", "rings").WHO == "vaelab_test_rings"
    assert registry.load("datasets", "mnist").__name__ == "vaelab.data.datasets.mnist"
    with pytest.raises(UnknownName, match="Did you mean 'rings'"):
        registry.load("datasets", "ring")


def test_offered_for_one_folder_only(offer: Offer) -> None:
    offer(rings="vaelab_test_rings")
    assert "rings" not in registry.names("objectives")
    with pytest.raises(UnknownName):
        registry.load("objectives", "rings")


def test_listing_imports_nothing(offer: Offer) -> None:
    offer(rings="vaelab_test_rings")
    registry.names("datasets")
    assert "vaelab_test_rings" not in sys.modules


def test_offered_under_a_name_of_ours(offer: Offer) -> None:
    offer(mnist="vaelab_test_mnist")
    assert registry.names("datasets").count("mnist") == 1
    with pytest.raises(ValueError, match="data set 'mnist' is offered by vaelab_test_mnist but vaelab has one"):
        registry.load("datasets", "mnist")


def test_offered_by_two_packages(offer: Offer) -> None:
    offer(rings="vaelab_test_one")
    offer(rings="vaelab_test_two", others="vaelab_test_two")
    assert registry.names("datasets").count("rings") == 1
    with pytest.raises(ValueError, match="'rings' is offered by vaelab_test_one and vaelab_test_two"):
        registry.load("datasets", "rings")
    assert registry.load("datasets", "others").WHO == "vaelab_test_two"


def test_the_same_offer_twice(offer: Offer) -> None:
    """As when a package lies on the path both installed and as a checkout."""
    offer(rings="vaelab_test_rings")
    offer(rings="vaelab_test_rings")
    assert registry.load("datasets", "rings").WHO == "vaelab_test_rings"
