"""Which splits and classes vaelab sees in a folder, from the paths of its pictures alone."""

from typing import NamedTuple

import pytest

from vaelab.data.datasets._layout import AUTOMATIC, Choice, Layout, decide, find_hidden_classes
from vaelab.data.datasets._splits import role_of
from vaelab.system.errors import UsageError


def paths_of(*specs: str) -> list[str]:
    """ "cat:3" stands for three pictures in cat/, a name with a dot for itself."""
    paths = []
    for spec in specs:
        folder, colon, count = spec.rpartition(":")
        paths += [f"{folder}/{i:03d}.png".lstrip("/") for i in range(int(count))] if colon else [spec]
    return paths


def layout_of(*specs: str, choice: Choice = AUTOMATIC) -> Layout:
    """The layout of pictures in these folders."""
    return decide(paths_of(*specs), choice)


class Decision(NamedTuple):
    """What is decided about a tree."""

    train: int
    held_out: int | None = None
    name: str = ""
    classes: tuple[str, ...] = ()
    labelled: tuple[bool, bool] = (False, False)
    num_warnings: int = 0


TWO = ("cat", "dog")
TREES = {
    "a stray picture changes nothing": (
        ["cat:20", "dog:20", "preview.png"],
        Decision(40, classes=TWO, labelled=(True, False)),
    ),
    "a flat test folder keeps the labels of train": (
        ["train/cat:20", "train/dog:20", "test:10"],
        Decision(40, 10, "test", TWO, (True, False)),
    ),
    "digits at the end": (["train2017:50", "val2017:10"], Decision(50, 10, "val2017")),
    "words around": (["X_train_HR:40", "X_valid_HR:10"], Decision(40, 10, "X_valid_HR")),
    "dev": (["train:40", "dev:10"], Decision(40, 10, "dev")),
    "upper case": (["Training:40", "Validation:10"], Decision(40, 10, "Validation")),
    "a stray file beside a nested layout": (
        ["data/train/cat:20", "data/train/dog:20", "data/val/cat:5", "data/val/dog:5", "readme.png"],
        Decision(40, 10, "data/val", TWO, (True, True)),
    ),
    "a class without training pictures": (
        ["train/good:30", "test/good:5", "test/broken:5"],
        Decision(30, 10, "test", ("broken", "good"), (True, True), num_warnings=1),
    ),
    "validation comes before test": (
        ["train/a:30", "train/b:30", "val/a:5", "val/b:5", "test/a:6", "test/b:6"],
        Decision(60, 10, "val", ("a", "b"), (True, True), num_warnings=1),
    ),
    "splits within classes": (
        ["cat/train:10", "cat/val:3", "dog/train:10", "dog/val:3"],
        Decision(20, 6, "*/val", TWO, (True, True)),
    ),
    "names that only begin like splits are classes": (
        ["trainer:20", "testudo:20", "valley:20", "development:10"],
        Decision(70, classes=("development", "testudo", "trainer", "valley"), labelled=(True, False)),
    ),
    "two domains": (["trainA:10", "trainB:10", "testA:3", "testB:3"], Decision(10, 3, "testA", num_warnings=1)),
    "years": (["train2014:9", "train2017:9", "val2014:3", "val2017:3"], Decision(9, 3, "val2014", num_warnings=1)),
    "other words on one side": (["train:20", "test_A:5"], Decision(20, 5, "test_A")),
    "class names that hold a split's name": (
        ["steam_train:20", "test_tube:20", "bus:5"],
        Decision(45, classes=("bus", "steam_train", "test_tube"), labelled=(True, False), num_warnings=1),
    ),
    "a class called train": (
        ["train:20", "bus:20", "car:20"],
        Decision(60, classes=("bus", "car", "train"), labelled=(True, False), num_warnings=1),
    ),
    "a test folder beside classes": (["cat:20", "dog:20", "test:10"], Decision(40, 10, "test", TWO, (True, False))),
    "a validation folder beside loose pictures": ([":90", "validation:10"], Decision(90, 10, "validation")),
    "a test folder with most of the pictures": (
        ["cat:5", "dog:5", "test:40"],
        Decision(50, classes=("cat", "dog", "test"), labelled=(True, False), num_warnings=1),
    ),
    "other folders beside the splits": (["unlabelled:90", "train:9", "test:9"], Decision(9, 9, "test", num_warnings=1)),
    "one kind of picture below the splits": (["train/images:20", "val/images:5"], Decision(20, 5, "val")),
    "splits below a kind of picture": (["images/train:20", "images/val:5"], Decision(20, 5, "images/val")),
    "a large class and a small one": (["cat:95", "dog:5"], Decision(100, classes=TWO, labelled=(True, False))),
    "one picture in each folder": (["a:1", "b:1", "c:1"], Decision(3)),
    "one folder in a zip": (
        ["pets/cat:9", "pets/dog:9", "notice.png"],
        Decision(18, classes=TWO, labelled=(True, False)),
    ),
    "no folders": ([":30"], Decision(30)),
    "too many strays": ([":20", "cat:10", "dog:10"], Decision(40)),
}


@pytest.mark.parametrize("name", TREES)
def test_a_tree_of_folders_is_understood(name: str) -> None:
    specs, wanted = TREES[name]
    found = layout_of(*specs)
    held_out = None if found.held_out is None else len(found.held_out)
    decision = Decision(
        len(found.train), held_out, found.held_out_name, found.classes, found.is_labelled, len(found.warnings)
    )
    assert decision == wanted
    assert found.sentences
    used = [*found.train, *(found.held_out or [])]
    assert len(set(used)) == len(used) <= len(paths_of(*specs))


@pytest.mark.parametrize("name", TREES)
def test_what_was_found_can_be_named(name: str) -> None:
    paths = paths_of(*TREES[name][0])
    found = decide(paths)
    named = {key: (folder,) for key, folder in found.resolved.items()}
    again = decide(paths, Choice(**named))
    for key in ("train", "held_out", "held_out_name", "classes", "labels", "is_labelled"):
        assert getattr(again, key) == getattr(found, key), key


def test_labels_are_the_folders() -> None:
    paths = paths_of("data/train/dog:3", "data/train/cat:3", "data/val/cat:2", "data/val/dog:2")
    found = decide(paths)
    for parts, label in found.labels.items():
        assert found.classes[label] == parts[-1]
    assert {paths[row].split("/")[1] for row in found.train} == {"train"}
    assert {paths[row].split("/")[1] for row in found.held_out or ()} == {"val"}


def test_named_training_pictures_contain_no_held_out_ones() -> None:
    found = layout_of("all/a:10", "all/b:10", choice=Choice(train=("all",), test=("all/b",)))
    assert (len(found.train), len(found.held_out or ())) == (10, 10)
    pooled = layout_of("train/a:10", "val/a:10", choice=Choice(train=(".",)))
    assert (len(pooled.train), pooled.held_out, pooled.classes) == (20, None, ())


def test_hidden_folders_beside_classes_are_classes() -> None:
    found = layout_of("java:5", "c:5")
    hidden = [".net/1.png", ".thumbnails/1.png", ".git/x/1.png", "java/.cached/1.png", ".a/b/1.png"]
    assert find_hidden_classes(found.class_parents, hidden) == [(".net",)]
    assert find_hidden_classes(layout_of(":5").class_parents, hidden) == []
    found = layout_of("train/java:5", "train/c:5", "test/java:5", "test/c:5")
    assert find_hidden_classes(found.class_parents, ["train/.net/1.png", ".net/1.png"]) == [("train", ".net")]


def test_many_folders_take_no_long() -> None:
    paths = [f"{i % 2000}/{'val' if i % 9 == 0 else 'train'}/{i}.png" for i in range(20_000)]
    assert decide(paths).held_out_name == "*/val"
    assert decide([f"{i}/x/1.png" for i in range(20_000)]).classes == ()


def test_pictures_that_are_left_out_are_named() -> None:
    assert any("preview.png" in sentence for sentence in layout_of("cat:20", "dog:20", "preview.png").sentences)
    assert any("a.png" in s for s in layout_of("train:20", "val:5", "a.png").sentences)
    assert any("000.png" in sentence for sentence in layout_of(":20", "cat:10", "dog:10").sentences)


def test_folders_can_be_named() -> None:
    tree = ["train/good:30", "test/good:5", "test/broken:5"]
    good = layout_of(*tree, choice=Choice(test=("test/good",)))
    assert (len(good.train), len(good.held_out or []), good.held_out_name) == (30, 5, "test/good")
    both = layout_of("a:10", "b:4", "c:3", choice=Choice(train=("a",), valid=("b", "c")))
    assert (len(both.train), len(both.held_out or [])) == (10, 7)
    aside = layout_of("train:10", "val:4", choice=Choice(set_aside=3))
    assert aside.held_out is None


@pytest.mark.parametrize(
    "choice",
    [Choice(test=("tst",)), Choice(train=("nope",)), Choice(train=("train",), test=("train",))],
    ids=["test", "train", "the same"],
)
def test_a_folder_that_is_not_there_is_refused(choice: Choice) -> None:
    with pytest.raises(UsageError, match="train"):
        layout_of("train:10", "val:5", choice=choice)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("train2017", "train"), ("images_train", "train"), ("Train-Set", "train"), ("trainval", "train"),
        ("val", "valid"), ("DIV2K_valid_HR", "valid"), ("dev", "valid"), ("test-set", "test"), ("hold_out", None),
        ("trainer", None), ("contest", None), ("devices", None), ("evaluate", None), ("validity", None),
    ],
)  # fmt: skip
def test_only_whole_words_name_a_split(name: str, role: str | None) -> None:
    assert role_of(name) == role
