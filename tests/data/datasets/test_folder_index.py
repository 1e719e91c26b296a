"""Pictures held out by their names, without folders that are splits."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vaelab.data.datasets._folder_index import split_by_name
from vaelab.data.scan import Entry, hash_name

file_names = st.lists(st.text("abcdefgh/", min_size=1, max_size=9).map(lambda text: f"{text}.png"), unique=True)


def make_entries(names: Any) -> list[Entry]:
    return [Entry(("root", name), 1, 1) for name in names]


@given(file_names.filter(lambda names: len(names) > 1), file_names)
def test_no_picture_changes_sides_when_others_are_added(names: list[str], more: list[str]) -> None:
    few, _ = split_by_name(make_entries(names))
    many, _ = split_by_name(make_entries(dict.fromkeys([*names, *more])))
    assert few["train"]
    assert few["test"]
    assert len(few["train"]) + len(few["test"]) == len(names)
    sides = {hash_name(name) < (1 << 64) // 10 for name in names}
    if len(sides) == 2:  # otherwise one picture had to fill the empty side
        assert {entry.item[1] for entry in few["test"]} <= {entry.item[1] for entry in many["test"]}
        assert {entry.item[1] for entry in few["train"]} <= {entry.item[1] for entry in many["train"]}


def test_one_in_ten_is_held_out() -> None:
    splits, _ = split_by_name(make_entries(f"IMG_{i:05d}.JPG" for i in range(20_000)))
    assert 0.094 < len(splits["test"]) / 20_000 < 0.106  # three standard deviations
