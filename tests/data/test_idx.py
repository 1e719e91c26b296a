"""IDX files: round trips, known bytes, damage."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from vaelab.data.idx import parse_idx, read_idx, write_idx
from vaelab.system.files import DamagedFile

uint8_arrays = arrays(np.uint8, array_shapes(min_dims=1, max_dims=4, max_side=5))


def parse(content: bytes) -> NDArray[np.uint8]:
    return parse_idx(io.BytesIO(content))


def refused(content: bytes) -> str:
    with pytest.raises(ValueError) as raised:
        parse(content)
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


@given(uint8_arrays)
def test_round_trip(array: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(parse(write_idx(array)), array, strict=True)
    assert write_idx(array.T) == write_idx(array.T.copy(order="C"))


def test_known_bytes() -> None:
    content = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6])
    assert parse(content).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert write_idx(np.array([[1, 2, 3], [4, 5, 6]], np.uint8)) == content


@given(uint8_arrays, st.data())
def test_truncated(array: NDArray[np.uint8], data: st.DataObject) -> None:
    content = write_idx(array)
    refused(content[: data.draw(st.integers(0, len(content) - 1))])


@given(uint8_arrays, st.binary(min_size=1, max_size=9))
def test_extended(array: NDArray[np.uint8], more: bytes) -> None:
    refused(write_idx(array) + more)


@given(st.integers(0, 255), st.binary(max_size=40))
def test_any_bytes_are_an_array_or_refused(num_dimensions: int, rest: bytes) -> None:
    content = bytes([0, 0, 8, num_dimensions]) + rest
    try:
        array = parse(content)
    except ValueError:
        refused(content)
    else:
        assert write_idx(array) == content


def test_the_reason_has_the_sizes() -> None:
    reason = refused(write_idx(np.zeros((2, 3), np.uint8))[:-1])
    assert "2×3 = 6" in reason
    assert "5 of 6" in reason
    assert "9 of 12" in refused(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0]))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\1\0\x08\1\0\0\0\1a",
        b"\0\1\x08\1\0\0\0\1a",
        b"\0\0\x0d\1\0\0\0\1aaaa",
        b"\0\0\x08\0a",
        b"<html>not here</html>",
        bytes([0, 0, 8, 70]) + bytes([0, 0, 0, 1]) * 70 + b"a",
        bytes([0, 0, 8, 4]) + b"\xff" * 16,
        bytes([0, 0, 8, 4]) + bytes(4) + b"\xff" * 12,
    ],
    ids=["empty", "magic", "magic-2", "float32", "no-dimensions", "page", "70-dimensions", "huge", "huge-and-empty"],
)
def test_not_idx(content: bytes) -> None:
    refused(content)


@given(uint8_arrays)
@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_gzip_is_recognised_by_content(tmp_path_factory: pytest.TempPathFactory, name: str, array: NDArray[np.uint8]):
    path = tmp_path_factory.getbasetemp() / name
    for content in (write_idx(array), gzip.compress(write_idx(array), 1)):
        path.write_bytes(content)
        np.testing.assert_array_equal(read_idx(path), array, strict=True)


def test_gzip_damaged_anywhere(tmp_path: Path) -> None:
    compressed = gzip.compress(write_idx(np.arange(60, dtype=np.uint8).reshape(3, 4, 5)))
    middle = len(compressed) // 2
    flipped = compressed[:middle] + bytes([compressed[middle] ^ 16]) + compressed[middle + 1 :]
    for content in [*(compressed[:length] for length in range(2, len(compressed))), flipped]:
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(DamagedFile) as raised:
            read_idx(tmp_path / "a")
        assert raised.value.path == tmp_path / "a"
        assert "gzip" in raised.value.reason


def test_another_number_of_axes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(write_idx(np.zeros(5, np.uint8)))
    with pytest.raises(DamagedFile) as raised:
        read_idx(tmp_path / "a", 3)
    assert "[5]" in raised.value.reason
