"""Labels and attributes of pictures from a table in their folder or beside it."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet
from typed import Typed, train_small

import vaelab
from vaelab.api.run_images import load_run_images
from vaelab.data.datasets import load_dataset
from vaelab.data.images import Images
from vaelab.system.errors import InputError

NAMES = [f"{number:04d}.png" for number in range(12)]
KINDS = ["cat" if number % 3 else "dog" for number in range(12)]
FED = [number % 2 for number in range(12)]
COLUMNS: dict[str, Sequence[Any]] = {"file_name": NAMES, "age": range(20, 32), "label": KINDS, "fed": FED}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder of twelve pictures whose grey level is their number."""
    folder = tmp_path / "pets"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        Image.fromarray(np.full((9, 8), 20 * number, np.uint8)).save(folder / name)
    return folder


def write(path: Path, columns: Mapping[str, Sequence[Any]] = COLUMNS) -> Path:
    """Write a table in the format of its name."""
    path.parent.mkdir(exist_ok=True)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.table({name: list(column) for name, column in columns.items()}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        comma = "\t" if path.suffix == ".tsv" else ","
        lines = [list(columns), *(row.values() for row in rows)]
        path.write_text("".join(f"{comma.join(map(str, line))}\n" for line in lines))
    return path


def load(place: Path, **options: Any) -> Images:
    return load_dataset("folder").load(place, "train", **{"valid": 1, **options})


def kinds_of(images: Images) -> list[str]:
    """The class of each image in the order of the names."""
    assert images.labels is not None
    assert list(images.names or ()) == NAMES
    return [images.label_names[label] for label in images.labels]


@pytest.mark.parametrize(
    "file", ["metadata.csv", "x.tsv", "metadata.jsonl", "x.parquet", "../pets.csv", "../labels.csv"]
)
def test_a_table_is_found(place: Path, file: str) -> None:
    write(place / file)
    images = load(place)
    assert kinds_of(images) == KINDS
    assert images.attribute_names == ("fed",)
    np.testing.assert_array_equal(images.attributes, np.array(FED, bool)[:, None])
    assert any("2 classes by label" in note for note in images.notes)


def test_the_pictures_of_a_zip_have_a_table_beside_it(place: Path) -> None:
    shutil.make_archive(str(place), "zip", place)
    write(place.with_suffix(".csv"))
    assert kinds_of(load(place.with_suffix(".zip"))) == KINDS


@pytest.mark.parametrize(
    "names",
    [
        [f"pets/{name}" for name in NAMES],
        [name.removesuffix(".png") for name in NAMES],
        list(range(12)),
        [f".\\{name}" for name in NAMES],
    ],
)
def test_pictures_are_named_in_several_ways(place: Path, names: Sequence[Any]) -> None:
    order = np.random.default_rng(0).permutation(12)
    write(place / "a.csv", {"kind": [KINDS[i] for i in order], "picture": [names[i] for i in order]})
    assert kinds_of(load(place)) == KINDS


def test_columns_and_tables_are_named(place: Path) -> None:
    write(place / "tables" / "a.csv", {**COLUMNS, "other": NAMES[::-1]})
    assert load(place).labels is None, "tables in subfolders are not looked for"
    options = {"table": "tables/a.csv", "file_name": "other", "label": "age"}
    assert kinds_of(load(place, **options)) == [str(age) for age in reversed(range(20, 32))]
    assert load(place, table="tables/a.csv", label="").labels is None


def test_a_table_has_precedence_over_subfolders(place: Path) -> None:
    for number, name in enumerate(NAMES):
        (place / f"class{number % 2}").mkdir(exist_ok=True)
        (place / name).rename(place / f"class{number % 2}" / name)
    assert load(place).label_names == ("class0", "class1")
    write(place / "a.csv")
    assert load(place).label_names == ("cat", "dog")
    assert load(place, table="").label_names == ("class0", "class1")


def test_a_run_keeps_its_labels(place: Path, tmp_path: Path) -> None:
    table = write(place / "a.csv")
    overrides = {"network.condition": "attributes", "training.steps": 2, "training.validate_every": 0}
    run = train_small(tmp_path / "run", overrides, name="folder", data=place)
    before = load_run_images(run, None)
    assert [run.recipe.data[key] for key in ("table", "file_name", "label")] == ["a.csv", "file_name", "label"]
    (tmp_path / "run" / "pictures.json").rename(tmp_path / "aside")
    assert load_run_images(run, None).train.annotations_digest() == before.train.annotations_digest()
    (tmp_path / "aside").rename(tmp_path / "run" / "pictures.json")
    write(table, {**COLUMNS, "label": ["emu"] * 12, "fed": [1] * 11 + [0]})
    after = load_run_images(run, None)
    assert before.train.annotations_digest() == after.train.annotations_digest() is not None
    assert vaelab.load(run).spec.condition_names == ("fed",)


def test_a_foreign_table_is_no_concern(place: Path) -> None:
    write(place / "a.csv", {"x": [1.5, 2.5], "y": ["a", "b"]})
    images = load(place)
    assert (images.labels, images.warnings) == (None, ())


FOUND: dict[str, Mapping[str, Sequence[Any]]] = {
    "pictures without a row": {"file_name": NAMES[:9], "label": KINDS[:9]},
    "a missing class": {"file_name": NAMES, "label": [*KINDS[:11], ""]},
    "rows without pictures": {"file_name": [*NAMES, "no.png", "none.png"], "label": [*KINDS, "cat", "cat"]},
}


@pytest.mark.parametrize("case", FOUND)
def test_a_table_that_is_found_and_not_fit_warns(place: Path, case: str, wording: Callable[[object], None]) -> None:
    write(place / "a.csv", FOUND[case])
    images = load(place)
    assert (images.labels is not None) == (case == "rows without pictures")
    (warning,) = images.warnings
    wording(warning)


def test_a_damaged_table_warns(place: Path, wording: Callable[[object], None]) -> None:
    (place / "a.csv").write_text("file_name,label\n0000.png\n0001.png,cat,dog,emu\n")
    (warning,) = load(place).warnings
    wording(warning)


NAMED: dict[str, tuple[Mapping[str, Sequence[Any]], dict[str, str]]] = {
    **{case: (columns, {}) for case, columns in FOUND.items() if case != "rows without pictures"},
    "no table": (COLUMNS, {"table": "b.csv"}),
    "no such column": (COLUMNS, {"label": "kind"}),
    "no names": ({"x": [1.5, 2.5], "y": ["a", "b"]}, {}),
    "no rows": ({"file_name": [], "label": []}, {}),
    "fractions": ({"file_name": NAMES, "label": [0.5] * 12}, {"label": "label"}),
}


@pytest.mark.parametrize("case", NAMED)
def test_a_table_that_is_named_must_fit(place: Path, case: str, wording: Callable[[object], None]) -> None:
    columns, options = NAMED[case]
    write(place / "a.csv", columns)
    with pytest.raises(InputError) as caught:
        load(place, **{"table": "a.csv", **options})
    wording(caught.value)


def test_the_command_line_reports_the_table(cli: Typed, place: Path) -> None:
    write(place / "a.csv")
    _, out, _ = cli("data", "check", place)
    assert "2 classes by label" in out
