"""Reading pictures and arrays for the commands, reading ahead, grids and PNG."""

import io
import struct
import threading
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from vaelab.data.containers import UnreadablePicture
from vaelab.data.images import Images
from vaelab.data.pictures import Numbered, encode_png, read_ahead, read_pictures, tile
from vaelab.system.errors import InputError
from vaelab.system.files import DamagedFile

GREY, RGB = (1, 9, 8), (3, 9, 8)


def some_pixels(count: int = 5, channels: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 9, 8, channels), dtype=np.uint8)


channels_last = some_pixels(4, 3)
channels_first = channels_last.transpose(0, 3, 1, 2)


def put_picture(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(pixels))


@pytest.mark.parametrize("channels", [1, 3])
def test_one_picture(tmp_path: Path, channels: int) -> None:
    pixels = some_pixels(1, channels)
    put_picture(tmp_path / "a.png", pixels[0])
    images, names = read_pictures(tmp_path / "a.png", (channels, 9, 8))
    np.testing.assert_array_equal(images.pixels, pixels, strict=True)
    assert names == ["a.png"]
    assert images.source == str(tmp_path / "a.png")


def test_grey_picture_for_a_colour_model(tmp_path: Path) -> None:
    pixels = some_pixels(1)
    put_picture(tmp_path / "a.png", pixels[0])
    images, _ = read_pictures(tmp_path / "a.png", RGB)
    np.testing.assert_array_equal(images.pixels, np.repeat(pixels, 3, axis=3))


def test_colour_picture_for_a_grey_model(tmp_path: Path) -> None:
    put_picture(tmp_path / "a.png", np.full((9, 8, 3), 77, np.uint8))
    images, _ = read_pictures(tmp_path / "a.png", GREY)
    np.testing.assert_array_equal(images.pixels, np.full((1, 9, 8, 1), 77))


def test_folders_are_searched_recursively(tmp_path: Path) -> None:
    pixels = some_pixels(4)
    for name, picture in zip(("b.png", "a.PNG", "inner/c.png", "inner/deep/a.png"), pixels, strict=True):
        put_picture(tmp_path / name, picture)
    (tmp_path / "notes.txt").write_text("not a picture")
    images, names = read_pictures(tmp_path, GREY)
    assert names == ["a.PNG", "b.png", str(Path("inner/c.png")), str(Path("inner/deep/a.png"))]
    np.testing.assert_array_equal(images.pixels, pixels[[1, 0, 2, 3]])


def test_pictures_of_other_sizes_are_cropped_and_shrunk(tmp_path: Path) -> None:
    wide = np.zeros((18, 40, 1), np.uint8)
    wide[:, 12:28] = some_pixels(1)[0].repeat(2, 0).repeat(2, 1)
    put_picture(tmp_path / "wide.png", wide)
    images, _ = read_pictures(tmp_path / "wide.png", GREY)
    np.testing.assert_array_equal(images.pixels, some_pixels(1))


def test_a_zip_of_pictures(tmp_path: Path) -> None:
    pixels = some_pixels(2)
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        for name, picture in zip(("b/2.png", "a 1.png"), pixels, strict=True):
            archive.writestr(name, encode_png(picture))
        archive.writestr("../outside.txt", "no picture")
    images, names = read_pictures(tmp_path / "own.zip", GREY)
    assert names == ["a 1.png", "b/2.png"]
    np.testing.assert_array_equal(images.pixels, pixels[::-1])


def read_or_error(path: Path) -> Images | UnreadablePicture:
    """Return the picture, or the only error that may be raised."""
    try:
        return Images(read_pictures(path, RGB)[0].pixels[:])
    except UnreadablePicture as error:
        return error


def test_broken_picture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    put_picture(path, some_pixels(1, 3)[0])
    whole = path.read_bytes()
    rng = np.random.default_rng(2)
    broken = [b"", b"hello", whole[: len(whole) // 2], whole[:20]]
    for position, bit in zip(rng.integers(0, len(whole), 200), rng.integers(0, 8, 200), strict=True):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << bit
        broken.append(bytes(flipped))
    for number, content in enumerate(broken):
        path.write_bytes(content)
        outcome = read_or_error(path)
        if isinstance(outcome, UnreadablePicture):
            assert outcome.subject == path
        else:
            assert number >= 4
            assert len(outcome) == 1


def test_png_with_other_errors_of_pillow(tmp_path: Path) -> None:
    """Pillow raises ValueError for a short header and SyntaxError for a chunk that is none."""
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", b"\0\0"))
    with pytest.raises(UnreadablePicture):
        read_pictures(path, GREY)[0].pixels[:]
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 9, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(81))[:5]) + b"\xff" * 30)
    with pytest.raises(UnreadablePicture):
        read_pictures(path, GREY)[0].pixels[:]


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(
    ("name", "pixels", "grey"),
    [
        ("a.png", np.full((9, 8), 40_000, np.uint16), 156),
        ("a.tiff", np.full((9, 8), 0.5, np.float32), 128),
        ("a.tif", np.full((9, 8), 65_535, np.int32), 255),
    ],
    ids=["uint16", "float32", "int32"],
)
@pytest.mark.parametrize("image_shape", [GREY, RGB])
def test_more_than_eight_bits(
    tmp_path: Path, name: str, pixels: NDArray[Any], grey: int, image_shape: tuple[int, int, int]
) -> None:
    Image.fromarray(pixels).save(tmp_path / name)
    images, _ = read_pictures(tmp_path / name, image_shape)
    assert set(np.unique(images.pixels)) == {grey}


@pytest.mark.parametrize("pixels", [np.full((9, 8), 70_000, np.int32), np.full((9, 8), 2, np.float32)])
def test_pixels_of_an_unknown_range_are_refused(tmp_path: Path, pixels: NDArray[Any]) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with pytest.raises(UnreadablePicture, match=r"data\.range"):
        read_pictures(tmp_path / "a.tif", GREY)[0].pixels[:]


@pytest.mark.parametrize("array", [channels_last, channels_first, channels_last / 255.0], ids=["NHWC", "NCHW", "float"])
def test_arrays_in_files(tmp_path: Path, array: NDArray[Any]) -> None:
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", images=array, other=np.zeros(3))
    for name in ("a.npy", "a.npz"):
        images, names = read_pictures(tmp_path / name, RGB)
        np.testing.assert_array_equal(images.eight_bits[:], channels_last, strict=True)
        assert images.pixels.dtype == (np.uint8 if array.dtype == np.uint8 else np.float32)
        assert list(names) == [f"{name}[{i}]" for i in range(4)]


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_broken_arrays_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    (np.save if name == "a.npy" else np.savez)(path, channels_last)
    whole = path.read_bytes()
    for content in (b"", b"hello", b"PK\x03\x04", whole[:50], whole[:-9]):
        path.write_bytes(content)
        with pytest.raises(DamagedFile) as raised:
            read_pictures(path, RGB)
        assert raised.value.path == path
    (np.save if name == "a.npy" else np.savez)(path, np.array([{}]))
    with pytest.raises(DamagedFile) as raised:
        read_pictures(path, RGB)
    assert "Python objects" in raised.value.reason


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (some_pixels(1)[0, ..., 0], some_pixels(1)),
        (some_pixels(1)[0].transpose(2, 0, 1), some_pixels(1)),
        (some_pixels(4)[..., 0], some_pixels(4)),
        (np.asfortranarray(some_pixels(4)), some_pixels(4)),
        ((some_pixels(4) / 255).astype(">f8"), some_pixels(4)),
    ],
    ids=["HW", "CHW", "NHW", "columns first", "other byte order"],
)
def test_grey_arrays_in_files(tmp_path: Path, array: NDArray[Any], expected: NDArray[np.uint8]) -> None:
    np.save(tmp_path / "a.npy", array)
    images, names = read_pictures(tmp_path / "a.npy", GREY)
    np.testing.assert_array_equal(images.eight_bits[:], expected, strict=True)
    assert len(names) == len(images) == len(expected)
    np.testing.assert_array_equal(images.eight_bits[0], expected[0], strict=True)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 5, 5, 3), np.uint8),
        np.zeros((4, 9, 8, 3), np.int16),
        np.zeros((4, 9, 8, 3), complex),
        np.zeros((0, 9, 8, 3), np.uint8),
        np.array(3.0),
    ],
    ids=["size", "int16", "complex", "empty", "scalar"],
)
def test_arrays_that_are_not_images(
    tmp_path: Path, name: str, array: NDArray[Any], wording: Callable[[object], None]
) -> None:
    (np.save if name == "a.npy" else np.savez)(tmp_path / name, array)
    with pytest.raises(ValueError) as raised:
        read_pictures(tmp_path / name, RGB)
    wording(raised.value)


def test_floats_out_of_range_are_refused_on_access(tmp_path: Path) -> None:
    array = channels_last / 255.0
    array[3, 0, 0, 0] = 1.5
    np.save(tmp_path / "a.npy", array)
    pixels = read_pictures(tmp_path / "a.npy", RGB)[0].eight_bits
    np.testing.assert_array_equal(pixels[:3], channels_last[:3])
    with pytest.raises(InputError) as raised:
        pixels[2:]
    assert raised.value.subject == tmp_path / "a.npy"


def test_arrays_stay_on_the_disk(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", channels_last)
    np.savez_compressed(tmp_path / "a.npz", channels_last)
    for name in ("a.npy", "a.npz"):
        pixels = read_pictures(tmp_path / name, RGB)[0].pixels
        assert isinstance(pixels, np.memmap)
        assert not pixels.flags.writeable


def test_npz_without_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz")
    with pytest.raises(DamagedFile):
        read_pictures(tmp_path / "a.npz", GREY)


def test_no_pictures(tmp_path: Path) -> None:
    for name in ("none.png", "none.npy", "none"):
        with pytest.raises(FileNotFoundError):
            read_pictures(tmp_path / name, GREY)
    with pytest.raises(FileNotFoundError):
        read_pictures(tmp_path, GREY)


# -- lazy pixels ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of seven pictures, the fifth of which is broken."""
    for i, picture in enumerate(some_pixels(7)):
        put_picture(tmp_path / "own" / f"{i}.png", picture)
    (tmp_path / "own" / "4.png").write_bytes(b"")
    return tmp_path / "own"


def test_only_the_pictures_of_an_access_are_read(folder: Path) -> None:
    images, names = read_pictures(folder, GREY)
    assert (len(images), len(names)) == (7, 7)
    for i in (0, 5, 6):
        (folder / f"{i}.png").unlink()
    np.testing.assert_array_equal(images.pixels[1:4], some_pixels(7)[1:4])


def test_lazy_pixels_are_indexed_like_an_array(folder: Path) -> None:
    expected, pixels = some_pixels(7), read_pictures(folder, GREY)[0].pixels
    mask = np.arange(7) != 4
    for key in (slice(5, 99), slice(3, None, -1), np.array([6, 0, 0, 2]), [1], mask, slice(2, 2), 3, -1):
        np.testing.assert_array_equal(pixels[key], expected[key], strict=True)
    np.testing.assert_array_equal(Images(pixels).take(np.array([6, 1])).pixels[:], expected[[6, 1]], strict=True)
    with pytest.raises(IndexError):
        pixels[7]


@pytest.mark.parametrize("num_threads", [1, 4])
def test_the_first_broken_picture_is_named(folder: Path, num_threads: int) -> None:
    (folder / "6.png").write_bytes(b"hello")
    with pytest.raises(UnreadablePicture) as raised:
        read_pictures(folder, GREY, num_threads=num_threads)[0].pixels[:]
    assert raised.value.subject == folder / "4.png"


def test_threads_read_one_zip_and_restore_the_warning_filters(tmp_path: Path) -> None:
    pixels = some_pixels(60, 3)
    for name in ("one.zip", "other.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for i, picture in enumerate(pixels if name == "one.zip" else pixels[::-1]):
                archive.writestr(f"{i:02d}.png", encode_png(picture))
    before = list(warnings.filters)
    one, other = (read_pictures(tmp_path / name, RGB, num_threads=8)[0].pixels for name in ("one.zip", "other.zip"))
    for _ in range(3):
        np.testing.assert_array_equal(one[:], pixels)
        np.testing.assert_array_equal(other[:], pixels[::-1])
    assert warnings.filters == before


def test_the_next_span_is_read_ahead() -> None:
    begun: list[int] = []
    second = threading.Event()

    class Slow:
        shape, dtype = (9, 9, 8, 1), np.dtype(np.uint8)

        def __len__(self) -> int:
            return 9

        def __getitem__(self, key: slice) -> NDArray[np.uint8]:
            begun.append(key.start)
            if key.start == 4:
                second.set()
            return some_pixels(9)[key]

    spans = read_ahead(Slow(), [(0, 4), (4, 8), (8, 9)])
    first = next(spans)
    assert second.wait(10)  # before it is asked for
    assert 8 not in begun
    np.testing.assert_array_equal(np.concatenate([first, *spans]), some_pixels(9), strict=True)
    assert begun == [0, 4, 8]


def test_reading_ahead_stops_at_an_error(folder: Path) -> None:
    pixels, found = read_pictures(folder, GREY)[0].pixels, []
    with pytest.raises(UnreadablePicture):
        for part in read_ahead(pixels, [(0, 2), (2, 4), (4, 6), (6, 7)]):
            found.append(part)
    np.testing.assert_array_equal(np.concatenate(found), some_pixels(7)[:4])


def test_spans_of_a_memory_map_are_copies(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", channels_last)
    parts = list(read_ahead(np.load(tmp_path / "a.npy", mmap_mode="r"), [(0, 3), (3, 4)]))
    assert [type(part) for part in parts] == [np.ndarray] * 2
    assert all(part.flags.owndata and part.flags.writeable for part in parts)
    np.testing.assert_array_equal(np.concatenate(parts), channels_last)


def test_numbered_names() -> None:
    names = Numbered("test", 5)
    assert list(names) == ["test[0]", "test[1]", "test[2]", "test[3]", "test[4]"]
    assert (len(names), names[-1], names[1:3], names[9:]) == (5, "test[4]", ["test[1]", "test[2]"], [])
    with pytest.raises(IndexError):
        names[5]


# -- grids and PNG ----------------------------------------------------------------------------------------------------


def test_tile() -> None:
    pixels = np.stack([np.full((2, 3, 1), i, np.uint8) for i in range(1, 6)])
    sheet = tile(pixels, 3, gap=1, paper=9)
    assert sheet[..., 0].tolist() == [
        [9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9],
        [9, 1, 1, 1, 9, 2, 2, 2, 9, 3, 3, 3, 9],
        [9, 1, 1, 1, 9, 2, 2, 2, 9, 3, 3, 3, 9],
        [9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9],
        [9, 4, 4, 4, 9, 5, 5, 5, 9, 9, 9, 9, 9],
        [9, 4, 4, 4, 9, 5, 5, 5, 9, 9, 9, 9, 9],
        [9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9],
    ]


@given(st.integers(1, 7), st.integers(1, 8), st.integers(0, 3), st.sampled_from([1, 3]))
def test_every_tile_is_found_again(count: int, columns: int, gap: int, channels: int) -> None:
    pixels = some_pixels(count, channels)
    sheet = tile(pixels, columns, gap=gap)
    rows = -(-count // columns)
    assert sheet.shape == (gap + rows * (9 + gap), gap + columns * (8 + gap), channels)
    for i in range(count):
        top, left = gap + i // columns * (9 + gap), gap + i % columns * (8 + gap)
        np.testing.assert_array_equal(sheet[top : top + 9, left : left + 8], pixels[i])


@given(st.sampled_from([1, 3]).flatmap(lambda channels: arrays(np.uint8, (5, 6, channels))))
def test_png_round_trip(pixels: NDArray[np.uint8]) -> None:
    with Image.open(io.BytesIO(encode_png(pixels))) as picture:
        assert picture.format == "PNG"
        np.testing.assert_array_equal(np.asarray(picture).reshape(pixels.shape), pixels)
