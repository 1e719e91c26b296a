"""Drawn faces in CelebA's layout: attributes match the pictures, and a set does not depend on how it was written."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from PIL import Image
from wording import Wording

SCRIPT = ROOT / "benchmarks" / "make_faces.py"
COUNT = 40

sys.path.insert(0, str(SCRIPT.parent))  # the scripts are no package
try:
    face_attributes, face_rendering, make_faces = map(
        importlib.import_module, ("face_attributes", "face_rendering", "make_faces")
    )
finally:
    sys.path.remove(str(SCRIPT.parent))

ROWS = {  # first and last row that a trait changes, with a margin of a few pixels for the pose
    "Wearing_Hat": (25, 90),
    "Bangs": (35, 112),
    "Receding_Hairline": (35, 105),
    "Mustache": (135, 165),
    "Goatee": (145, 190),
    "5_o_Clock_Shadow": (125, 190),
    "Smiling": (105, 180),
    "Mouth_Slightly_Open": (140, 175),
    "Big_Lips": (140, 175),
    "Big_Nose": (90, 150),
    "Narrow_Eyes": (85, 130),
    "Bags_Under_Eyes": (100, 135),
    "Arched_Eyebrows": (75, 115),
    "Bushy_Eyebrows": (75, 115),
    "Rosy_Cheeks": (105, 165),
    "Wearing_Lipstick": (140, 175),
    "Heavy_Makeup": (85, 125),
    "Eyeglasses": (90, 135),
    "Wearing_Earrings": (125, 160),
}


def run(folder: Path, *more: str) -> tuple[int, dict[str, bytes]]:
    """Write a set; return the exit code and the content of every file by name."""
    code = make_faces.main([str(folder), "--count", str(COUNT), "--jobs", "1", *more])
    return code, read_all(folder)


def read_all(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 40 faces, written by two processes."""
    folder: Path = tmp_path_factory.mktemp("faces") / "new" / "set"
    subprocess.run([sys.executable, SCRIPT, folder, "--count", str(COUNT), "--jobs", "2"], check=True, timeout=60)
    return folder


# -- faces ------------------------------------------------------------------------------------------------------------


def test_face_is_a_function_of_seed_and_index() -> None:
    picture, attributes = face_rendering.draw_face(3, 7)
    again, same = face_rendering.draw_face(3, 7)
    assert (picture.dtype, picture.shape) == (np.uint8, (218, 178, 3))
    assert np.array_equal(picture, again)
    assert attributes == same
    assert list(attributes) == list(face_attributes.NAMES)
    for other in ((4, 7), (3, 8)):
        assert not np.array_equal(picture, face_rendering.draw_face(*other)[0])


def test_attributes_are_consistent_and_balanced() -> None:
    faces = [face_attributes.attributes_of(face_attributes.draw_parameters(0, index)) for index in range(1, 1501)]
    for face in faces:
        assert sum(face[f"{colour}_Hair"] for colour in ("Black", "Blond", "Brown", "Gray")) <= 1 - face["Bald"]
        assert face["No_Beard"] != (face["Mustache"] or face["Goatee"] or face["5_o_Clock_Shadow"])
        assert face["Straight_Hair"] + face["Wavy_Hair"] + face["Bald"] == 1
        assert face["Male"] or face["No_Beard"]
        assert not (face["Young"] and face["Gray_Hair"])
    for name in face_attributes.NAMES:
        fraction = np.mean([face[name] for face in faces])
        assert 0.08 < fraction < 0.65 if name in face_attributes.DRAWN else fraction == 0, name


@pytest.mark.parametrize("name", face_attributes.TRAITS)
def test_trait_changes_the_right_rows(name: str) -> None:
    with_it = face_attributes.edit_parameters(face_attributes.draw_parameters(0, 5), name, True)
    without = face_attributes.edit_parameters(with_it, name, False)
    shown, hidden = face_attributes.attributes_of(with_it), face_attributes.attributes_of(without)
    assert (shown[name], hidden[name]) == (True, False)
    dependent = {other for other, trait in face_attributes.TRAITS.items() if name in trait.requires.split()}
    assert {key for key in shown if shown[key] != hidden[key]} <= {name, "No_Beard", "Straight_Hair", *dependent}

    change = face_rendering.render(with_it).astype(float) - face_rendering.render(without)
    in_crop = np.square(change[45:173, 25:153]).sum()
    assert in_crop > 3e4  # within the crop center128; equals 10 levels in 100 pixels
    if name in ROWS:
        top, bottom = ROWS[name]
        assert np.square(change[top:bottom]).sum() > 0.97 * np.square(change).sum()


def test_edit_meets_the_requirements() -> None:
    woman = face_attributes.edit_parameters(face_attributes.draw_parameters(0, 1), "Male", False)
    bearded = face_attributes.attributes_of(face_attributes.edit_parameters(woman, "Goatee", True))
    assert bearded["Male"]
    blond = face_attributes.edit_parameters(
        face_attributes.edit_parameters(woman, "Blond_Hair", True), "Black_Hair", True
    )
    assert not face_attributes.attributes_of(blond)["Blond_Hair"]
    with pytest.raises(KeyError):
        face_attributes.edit_parameters(woman, "Attractive", True)


# -- a set ------------------------------------------------------------------------------------------------------------


def test_set_has_the_layout_of_celeba(written: Path) -> None:
    names = [f"{index:06d}.jpg" for index in range(1, COUNT + 1)]
    assert sorted(read_all(written)) == [*names, "list_attr_celeba.txt", "list_eval_partition.txt"]
    count, header, *rows = (written / "list_attr_celeba.txt").read_text().splitlines()
    assert (int(count), header.split()) == (COUNT, list(face_attributes.NAMES))
    for index, row in enumerate(rows, 1):
        name, *values = row.split()
        picture, attributes = face_rendering.draw_face(0, index)
        assert name == names[index - 1]
        assert [int(value) for value in values] == [1 if value else -1 for value in attributes.values()]
        with Image.open(written / "img_align_celeba" / name) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (178, 218))
            assert np.abs(np.asarray(image, float) - picture).mean() < 4
    partition = [line.split() for line in (written / "list_eval_partition.txt").read_text().splitlines()]
    assert [name for name, _ in partition] == names
    assert "".join(part for _, part in partition) == "0" * 33 + "1" * 4 + "2" * 3


def test_set_depends_on_neither_processes_nor_interruptions(written: Path, tmp_path: Path) -> None:
    whole = read_all(written)
    assert run(tmp_path) == (0, whole)
    kept, cut, lost = (tmp_path / "img_align_celeba" / f"{index:06d}.jpg" for index in (1, 2, 3))
    os.utime(kept, (1, 1))
    cut.write_bytes(cut.read_bytes()[:-100])
    lost.rename(lost.with_name(lost.name + ".part"))
    assert run(tmp_path) == (0, whole)
    assert kept.stat().st_mtime == 1  # not written again


@pytest.mark.parametrize(
    "name", ["notes.txt", "img_align_celeba/000001.jpg", "img_align_celeba/000041.jpg", "list_attr_celeba.txt"]
)
def test_folder_with_other_files_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], wording: Wording
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"somebody's")
    assert run(tmp_path) == (1, {path.name: b"somebody's"})
    wording(capsys.readouterr().err)


def test_set_with_another_seed_is_refused(written: Path) -> None:
    before = read_all(written)
    assert run(written, "--seed", "1") == (1, before)
    with pytest.raises(SystemExit) as stopped:
        run(written, "--count", "0")
    assert stopped.value.code == 2
