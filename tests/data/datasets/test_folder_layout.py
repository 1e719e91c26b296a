"""Splits and classes of pictures, from their paths alone."""

from typing import NamedTuple

import pytest
from wording import Wording

from vaelab.data.datasets._folder_layout import AUTOMATIC, Layout, SplitOptions, find_hidden_classes, find_layout
from vaelab.data.datasets._folder_splits import role_of
from vaelab.system.errors import UsageError


def paths_of(*specs: str) -> list[str]:
    """Paths of pictures: "cat:3" means three in cat/, a name with a dot means itself."""
    paths = []
    for spec in specs:
        folder, colon, count = spec.rpartition(":")
        paths += [f"{folder}/{i:03d}.png".lstrip("/") for i in range(int(count))] if colon else [spec]
    return paths


def layout_of(*specs: str, options: SplitOptions = AUTOMATIC) -> Layout:
    """The layout of pictures in these folders."""
    return find_layout(paths_of(*specs), options)


class Summary(NamedTuple):
    """Facts about a layout."""

    train: int
    held_out: int | None = None
    name: str = ""
    classes: tuple[str, ...] = ()
    labelled: tuple[bool, bool] = (False, False)
    num_warnings: int = 0


def summarise(found: Layout) -> Summary:
    train, *held_out = found.splits
    return Summary(
        train=len(train.rows()),
        held_out=len(held_out[0].rows()) if held_out else None,
        name=held_out[0].name if held_out else "",
        classes=tuple(found.classes),
        labelled=(train.is_labelled, bool(held_out) and held_out[0].is_labelled),
        num_warnings=len(found.warnings),
    )


TWO = ("cat", "dog")
TREES = {
    "a stray picture changes nothing": (
        ["cat:20", "dog:20", "preview.png"],
        Summary(40, classes=TWO, labelled=(True, False)),
    ),
    "a flat test folder keeps the labels of train": (
        ["train/cat:20", "train/dog:20", "test:10"],
        Summary(40, 10, "test", TWO, (True, False)),
    ),
    "digits at the end": (["train2017:50", "val2017:10"], Summary(50, 10, "val2017")),
    "words around": (["X_train_HR:40", "X_valid_HR:10"], Summary(40, 10, "X_valid_HR")),
    "dev": (["train:40", "dev:10"], Summary(40, 10, "dev")),
    "upper case": (["Training:40", "Validation:10"], Summary(40, 10, "Validation")),
    "a stray file beside a nested layout": (
        ["data/train/cat:20", "data/train/dog:20", "data/val/cat:5", "data/val/dog:5", "readme.png"],
        Summary(40, 10, "data/val", TWO, (True, True)),
    ),
    "a class without training pictures": (
        ["train/good:30", "test/good:5", "test/broken:5"],
        Summary(30, 10, "test", ("broken", "good"), (True, True), num_warnings=1),
    ),
    "validation comes before test": (
        ["train/a:30", "train/b:30", "val/a:5", "val/b:5", "test/a:6", "test/b:6"],
        Summary(60, 10, "val", ("a", "b"), (True, True), num_warnings=1),
    ),
    "splits within classes": (
        ["cat/train:10", "cat/val:3", "dog/train:10", "dog/val:3"],
        Summary(20, 6, "*/val", TWO, (True, True)),
    ),
    "names that only begin like splits are classes": (
        ["trainer:20", "testudo:20", "valley:20", "development:10"],
        Summary(70, classes=("development", "testudo", "trainer", "valley"), labelled=(True, False)),
    ),
    "two domains": (["trainA:10", "trainB:10", "testA:3", "testB:3"], Summary(10, 3, "testA", num_warnings=1)),
    "years": (["train2014:9", "train2017:9", "val2014:3", "val2017:3"], Summary(9, 3, "val2014", num_warnings=1)),
    "other words on one side": (["train:20", "test_A:5"], Summary(20, 5, "test_A")),
    "class names that hold a split's name": (
        ["steam_train:20", "test_tube:20", "bus:5"],
        Summary(45, classes=("bus", "steam_train", "test_tube"), labelled=(True, False), num_warnings=1),
    ),
    "a class called train": (
        ["train:20", "bus:20", "car:20"],
        Summary(60, classes=("bus", "car", "train"), labelled=(True, False), num_warnings=1),
    ),
    "a test folder beside classes": (["cat:20", "dog:20", "test:10"], Summary(40, 10, "test", TWO, (True, False))),
    "a validation folder beside loose pictures": ([":90", "validation:10"], Summary(90, 10, "validation")),
    "a test folder with most of the pictures": (
        ["cat:5", "dog:5", "test:40"],
        Summary(50, classes=("cat", "dog", "test"), labelled=(True, False), num_warnings=1),
    ),
    "other folders beside the splits": (["unlabelled:90", "train:9", "test:9"], Summary(9, 9, "test", num_warnings=1)),
    "one kind of picture below the splits": (["train/images:20", "val/images:5"], Summary(20, 5, "val")),
    "splits below a kind of picture": (["images/train:20", "images/val:5"], Summary(20, 5, "images/val")),
    "a large class and a small one": (["cat:95", "dog:5"], Summary(100, classes=TWO, labelled=(True, False))),
    "one picture in each folder": (["a:1", "b:1", "c:1"], Summary(3)),
    "one folder in a zip": (
        ["pets/cat:9", "pets/dog:9", "notice.png"],
        Summary(18, classes=TWO, labelled=(True, False)),
    ),
    "no folders": ([":30"], Summary(30)),
    "too many strays": ([":20", "cat:10", "dog:10"], Summary(40)),
}


@pytest.mark.parametrize("name", TREES)
def test_splits_and_classes_of_a_tree(name: str, wording: Wording) -> None:
    specs, expected = TREES[name]
    found = layout_of(*specs)
    assert summarise(found) == expected
    used = [row for split in found.splits for row in split.rows()]
    assert len(set(used)) == len(used) <= len(paths_of(*specs))
    for message in (*found.notes, *found.warnings):
        wording(message)


@pytest.mark.parametrize("name", TREES)
def test_naming_the_folders_found_gives_the_same_layout(name: str) -> None:
    found = layout_of(*TREES[name][0])
    options = SplitOptions(**{key: (folder,) for key, folder in found.resolved.items()})
    again = layout_of(*TREES[name][0], options=options)
    assert summarise(again)._replace(num_warnings=0) == summarise(found)._replace(num_warnings=0)
    for split, other in zip(found.splits, again.splits, strict=True):
        assert split.rows() == other.rows()
        assert not split.is_labelled or split.class_folders == other.class_folders


def test_class_folders() -> None:
    paths = paths_of("data/train/dog:3", "data/train/cat/deep:3", "data/val/cat:2", "data/val/dog:2")
    train, held_out = find_layout(paths).splits
    assert {folder[-1] for folder in train.class_folders.values()} == {"cat", "dog"}
    assert all(parts[:3] == folder for parts, folder in train.class_folders.items())
    assert {paths[row].split("/")[1] for row in train.rows()} == {"train"}
    assert {paths[row].split("/")[1] for row in held_out.rows()} == {"val"}


MVTEC = ["train/good:30", "test/good:5", "test/broken:5"]
NAMED: list[tuple[list[str], SplitOptions, Summary]] = [
    (MVTEC, SplitOptions(test=("test/good",)), Summary(30, 5, "test/good")),
    (
        ["a:10", "b:4", "c:3"],
        SplitOptions(train=("a",), valid=("b", "c")),
        Summary(10, 7, "b, c", ("b", "c"), (False, True)),
    ),
    (["train:10", "val:4"], SplitOptions(num_set_aside=3), Summary(10, num_warnings=1)),
    (["all/a:10", "all/b:10"], SplitOptions(train=("all",), test=("all/b",)), Summary(10, 10, "all/b")),
    (["train/a:10", "val/a:10"], SplitOptions(train=(".",)), Summary(20)),
    (["train:10", "odd:4"], SplitOptions(test=("odd",)), Summary(10, 4, "odd")),
    (
        ["cat/a:5", "cat/b:5", "dog/a:5", "dog/b:5"],
        SplitOptions(train=("*/a",), test=("*/b",)),
        Summary(10, 10, "*/b", TWO, (True, True)),
    ),
    (["data/in:30", "data/out:4"], SplitOptions(test=("data/out",)), Summary(30, 4, "data/out")),
]


@pytest.mark.parametrize(("specs", "options", "expected"), NAMED)
def test_folders_can_be_named(specs: list[str], options: SplitOptions, expected: Summary) -> None:
    assert summarise(layout_of(*specs, options=options)) == expected


@pytest.mark.parametrize(
    ("options", "subject", "choices"),
    [
        (SplitOptions(test=("tst",)), "data.test", ("train", "val")),
        (SplitOptions(train=("nope",)), "data.train", ("train", "val")),
        (SplitOptions(train=("train",), test=("train",)), None, ()),
        (SplitOptions(valid=("train", "val")), "data.train", ()),
    ],
)
def test_unusable_folders_are_refused(
    options: SplitOptions, subject: str | None, choices: tuple[str, ...], wording: Wording
) -> None:
    with pytest.raises(UsageError) as caught:
        layout_of("train:10", "val:5", options=options)
    assert (caught.value.subject, caught.value.choices) == (subject, choices)
    wording(caught.value)


def test_hidden_folders_beside_classes_are_classes() -> None:
    hidden = [".net/1.png", ".thumbnails/1.png", ".git/x/1.png", "java/.cached/1.png", ".a/b/1.png"]
    assert find_hidden_classes(layout_of("java:5", "c:5"), hidden) == [(".net",)]
    assert find_hidden_classes(layout_of(":5"), hidden) == []
    found = layout_of("train/java:5", "train/c:5", "test/java:5", "test/c:5")
    assert find_hidden_classes(found, ["train/.net/1.png", ".net/1.png"]) == [("train", ".net")]


def test_many_folders() -> None:
    paths = [f"{i % 2000}/{'val' if i % 9 == 0 else 'train'}/{i}.png" for i in range(20_000)]
    assert find_layout(paths).splits[1].name == "*/val"
    assert find_layout([f"{i}/x/1.png" for i in range(20_000)]).classes == []


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
