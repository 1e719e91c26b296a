"""Decoding: closed forms of resizing, an upright reference for EXIF, transparency, and bytes that are not a picture."""

import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoded import noise, saved
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from vaelab.data.containers import ImageRef, UnavailablePicture, UnreadablePicture, shown
from vaelab.data.decode import Problem, ResizePolicy, count_pages, decode, decode_part, look
from vaelab.data.opening import MAX_PIXELS

Pixels = NDArray[np.uint8]
LOSSLESS = {"PNG": {}, "TIFF": {"compression": "tiff_lzw"}, "BMP": {}, "WEBP": {"lossless": True}}
sides = st.integers(1, 300)
targets = st.integers(8, 64)


def seen(content: bytes, max_pixels: int = MAX_PIXELS) -> tuple[tuple[int, int], bool]:
    found = look(content, max_pixels=max_pixels)
    return found.size, found.is_grey


def areas(pixels: Pixels, height: int, width: int) -> Pixels:
    """Area averages by the overlaps of every pixel of the picture with every pixel of the result."""

    def overlaps(length: int, count: int) -> NDArray[np.float64]:
        i, j = np.arange(count)[:, None] * length, np.arange(length) * count
        return np.maximum(np.minimum(i + length, j + count) - np.maximum(i, j), 0).astype(float)

    down, across = overlaps(pixels.shape[0], height), overlaps(pixels.shape[1], width)
    sums = np.einsum("ij,jkc,lk->ilc", down, pixels.astype(float), across, optimize=True).astype(np.int64)
    area = pixels.shape[0] * pixels.shape[1]
    return ((sums + area // 2) // area).astype(np.uint8)


# -- size -------------------------------------------------------------------------------------------------------------


def test_whole_blocks_become_their_means() -> None:
    means = np.clip(noise(9, 8), 3, 252)
    steps = np.tile(np.array([[-3, 3, 1], [-1, 2, -2], [0, 1, -1]]), (9, 8))[
        ..., None
    ]  # zero on average over every 3×3 block
    picture = (means.repeat(3, 0).repeat(3, 1) + steps).astype(np.uint8)
    np.testing.assert_array_equal(decode(saved(picture), ResizePolicy(9, 8, 3)), means)


@given(st.integers(8, 60), st.integers(8, 12), st.sampled_from([1, 3]), st.integers(0, 9))
def test_pixels_on_a_border_count_by_their_share(side: int, target: int, channels: int, seed: int) -> None:
    picture = noise(max(side, target), max(side, target), channels, seed)
    found = decode(saved(picture), ResizePolicy(target, target, channels))
    np.testing.assert_array_equal(found, areas(picture.reshape(*picture.shape[:2], -1), target, target))


def test_large_pictures_shrink_by_area_averages() -> None:
    picture = noise(640, 640)
    found = decode(saved(picture), ResizePolicy(16, 16, 3)).astype(int)
    assert np.abs(found - areas(picture, 16, 16)).max() <= 1  # block means are rounded
    checks = np.indices((1000, 1000)).sum(0) % 2 * 255
    assert set(np.unique(decode(saved(checks.astype(np.uint8)), ResizePolicy(31, 31, 1)))) <= {127, 128}


@given(sides, st.integers(1, 200), targets, targets, st.sampled_from([1, 3]), st.sampled_from(["crop", "pad"]))
def test_any_size_becomes_the_size_of_the_policy(
    height: int, width: int, high: int, wide: int, channels: int, fit: Any
) -> None:
    policy = ResizePolicy(high, wide, channels, fit=fit)
    content = saved(np.full((height, width, 3), (37, 37, 37), np.uint8))
    pixels = decode(content, policy)
    assert pixels.shape == (high, wide, channels)
    assert pixels.dtype == np.uint8
    assert set(np.unique(pixels)) <= {37, 255}
    if fit == "crop":
        assert set(np.unique(pixels)) == {37}
    assert seen(content) == ((height, width), True)


def test_crop_is_centred() -> None:
    picture = noise(20, 33)
    for size, part in {
        (20, 20): picture[:, 6:26],
        (20, 33): picture,
        (20, 10): picture[:, 11:21],
        (8, 33): picture[6:14],
    }.items():
        np.testing.assert_array_equal(decode(saved(picture), ResizePolicy(*size, 3)), part)


@pytest.mark.parametrize(("background", "shade"), [("white", 255), ("black", 0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_padding_is_even_and_has_the_background_colour(background: Any, shade: int, channels: int) -> None:
    wide = np.full((20, 40, 3), 90, np.uint8)
    policy = ResizePolicy(16, 16, channels, "pad", background)
    expected = np.full((16, 16, channels), shade, np.uint8)
    expected[4:12] = 90
    np.testing.assert_array_equal(decode(saved(wide), policy), expected)
    np.testing.assert_array_equal(decode(saved(wide.transpose(1, 0, 2)), policy), expected.transpose(1, 0, 2))
    small = np.full((1, 3, 3), 90, np.uint8)  # enlarged until its longer side fits
    assert (decode(saved(small), ResizePolicy(9, 9, channels, "pad", background))[3:6] == 90).all()


def test_a_box_applies_to_pictures_of_its_size_only() -> None:
    picture, other = noise(218, 178), noise(200, 178)
    policy = ResizePolicy(128, 128, 3, box=(25, 45, 153, 173), boxed=(178, 218))
    np.testing.assert_array_equal(decode(saved(picture), policy), picture[45:173, 25:153])
    np.testing.assert_array_equal(decode(saved(other), policy), areas(other[11:189], 128, 128))
    with pytest.raises(UnreadablePicture):
        decode(saved(other), ResizePolicy(128, 128, 3, box=(25, 45, 153, 173), boxed=(178, 218), boxed_only=True))


def test_jpegs_are_decoded_small_except_for_a_box() -> None:
    ramp = np.linspace(0, 255, 1024).round().astype(np.uint8)[None].repeat(1024, 0)
    found = decode(saved(ramp, "JPEG", quality=95), ResizePolicy(32, 32, 1)).astype(int)
    assert np.abs(found[..., 0] - areas(ramp[..., None], 32, 32)[..., 0]).max() <= 2
    boxed = ResizePolicy(8, 8, 1, box=(0, 0, 8, 8), boxed=(1024, 1024))
    assert decode(saved(ramp, "JPEG", quality=95), boxed).max() <= 4


# -- turned -----------------------------------------------------------------------------------------------------------

UPRIGHT = np.arange(12 * 9 * 3, dtype=np.uint8).reshape(12, 9, 3)
STORED = {  # EXIF: the sides on which the first row and the first column lie
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: np.rot90(UPRIGHT),
    7: UPRIGHT[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_pictures_stand_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(np.ascontiguousarray(STORED[orientation]), kind, exif=exif, **LOSSLESS[kind])
    np.testing.assert_array_equal(decode(content, ResizePolicy(12, 9, 3)), UPRIGHT)
    assert look(content).size == (12, 9)


@pytest.mark.parametrize("orientation", STORED)
def test_jpegs_stand_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = np.zeros((160, 120, 3), np.uint8)
    upright[:40, :30] = 255  # the top left corner
    turned = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1]}
    turned |= {5: upright.transpose(1, 0, 2), 6: np.rot90(upright), 7: turned[3].transpose(1, 0, 2)}
    turned[8] = np.rot90(upright, -1)
    content = saved(np.ascontiguousarray(turned[orientation]), "JPEG", exif=exif, quality=95)
    found = decode(content, ResizePolicy(16, 12, 3)) > 128  # decoded at half its size
    expected = np.zeros((16, 12, 3), bool)
    expected[:4, :3] = True
    np.testing.assert_array_equal(found, expected)
    assert look(content).size == (160, 120)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0"])
def test_damaged_metadata_is_ignored(exif: bytes) -> None:
    content = saved(np.full((9, 8, 3), 70, np.uint8), "JPEG", exif=exif)
    assert set(np.unique(decode(content, ResizePolicy(9, 8, 1)))) == {70}


# -- colour -----------------------------------------------------------------------------------------------------------


def over(colour: int, alpha: int, behind: int) -> int:
    return (colour * alpha + behind * (255 - alpha) + 127) // 255


@pytest.mark.parametrize(("background", "shade"), [("white", 255), ("black", 0)])
@pytest.mark.parametrize("alpha", [0, 1, 64, 128, 200, 254, 255])
def test_transparent_parts_are_put_on_the_background(background: Any, shade: int, alpha: int) -> None:
    policy = ResizePolicy(9, 8, 3, background=background)
    expected = [over(colour, alpha, shade) for colour in (200, 30, 0)]
    content = saved(Image.new("RGBA", (8, 9), (200, 30, 0, alpha)))
    assert decode(content, policy).reshape(-1, 3).tolist() == [expected] * 72
    grey = decode(saved(Image.new("LA", (8, 9), (200, alpha))), policy)
    assert set(np.unique(grey)) == {over(200, alpha, shade)}


def test_transparent_palettes_and_colour_keys() -> None:
    palette = Image.new("P", (8, 9), 1)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((0, 0), 0)
    for content in (saved(palette, transparency=1), saved(palette, transparency=b"\xff\x00")):
        found = decode(content, ResizePolicy(9, 8, 3))
        assert found[0, 0].tolist() == [10, 20, 30]
        assert found[5, 5].tolist() == [255, 255, 255]
    key = saved(np.full((9, 8, 3), (1, 2, 3), np.uint8), transparency=(1, 2, 3))
    assert set(np.unique(decode(key, ResizePolicy(9, 8, 3, background="black")))) == {0}
    assert decode(saved(palette), ResizePolicy(9, 8, 3))[5, 5].tolist() == [40, 50, 60]


def test_transparent_parts_are_refused_without_a_background() -> None:
    policy = ResizePolicy(9, 8, 3, background="none")
    with pytest.raises(UnreadablePicture):
        decode(saved(Image.new("RGBA", (8, 9), (1, 2, 3, 254))), policy)
    opaque = decode(saved(Image.new("RGBA", (8, 9), (1, 2, 3, 255))), policy)
    assert opaque[0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_become_eight_by_a_division_by_257(kind: str, order: str) -> None:
    values = np.array([0, 128, 129, 257, 385, 386, 32767, 32768, 65278, 65406, 65407, 65535], np.uint16)
    picture = Image.fromarray(values.repeat(8).reshape(12, 8))
    if order == ">" and kind == "TIFF":
        header = b"MM\0*\0\0\0\x08" + tiff_directory(8, 12, 16)
        content = header + values.repeat(8).astype(">u2").tobytes()
    else:
        content = saved(picture, kind)
    found = decode(content, ResizePolicy(12, 8, 1))[:, 0, 0]
    assert found.tolist() == [round(int(value) / 257) for value in values]
    assert found.tolist()[-1] == 255
    np.testing.assert_array_equal(
        decode(content, ResizePolicy(12, 8, 3))[..., 2], decode(content, ResizePolicy(12, 8, 1))[..., 0]
    )


def tiff_directory(width: int, height: int, bits: int) -> bytes:
    """The directory of a big-endian grey TIFF whose pixels follow it in one strip."""
    size = width * height * bits // 8
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (277, 1), (278, height), (279, size)]
    begin = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = sorted([*tags, (273, begin)])
    packed = b"".join(
        struct.pack(">HHI", tag, 4, 1) + struct.pack(">I", value)
        if tag in (273, 279)
        else struct.pack(">HHIHH", tag, 3, 1, value, 0)
        for tag, value in entries
    )
    return struct.pack(">H", len(entries)) + packed + b"\0\0\0\0"


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_sixteen_bits_a_channel_and_fewer_than_eight() -> None:
    row = b"\0" + struct.pack(">HHH", 65535, 32896, 257) * 8
    assert decode(png(8, 9, 16, 2, row * 9), ResizePolicy(9, 8, 3))[4, 4].tolist() == [255, 128, 1]
    two_bits = b"\0" + bytes([0b00011011]) * 2  # 0, 1, 2, 3 of 3
    assert decode(png(8, 9, 2, 0, two_bits * 9), ResizePolicy(9, 8, 1))[0, :4, 0].tolist() == [0, 85, 170, 255]
    one_bit = Image.fromarray(np.tile([[False], [True]], (5, 8)))
    assert decode(saved(one_bit), ResizePolicy(10, 8, 3))[:2, 0, 0].tolist() == [0, 255]


def test_colours_of_printing_become_those_of_screens() -> None:
    for ink in ((0, 0, 0, 0), (255, 0, 0, 0), (0, 200, 100, 55), (10, 20, 30, 255)):
        content = saved(Image.new("CMYK", (16, 16), ink), "TIFF")
        expected = [(255 - part) * (255 - ink[3]) / 255 for part in ink[:3]]
        np.testing.assert_allclose(decode(content, ResizePolicy(8, 8, 3))[0, 0], expected, atol=1)
        by_jpeg = decode(saved(Image.new("CMYK", (16, 16), ink), "JPEG", quality=95), ResizePolicy(8, 8, 3))
        np.testing.assert_allclose(by_jpeg[0, 0], expected, atol=4)


def test_grey_is_the_luma_of_a_colour() -> None:
    content = saved(np.full((9, 8, 3), (200, 100, 50), np.uint8))
    assert set(np.unique(decode(content, ResizePolicy(9, 8, 1)))) == {round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)}
    grey = saved(np.full((9, 8), 99, np.uint8))
    assert decode(grey, ResizePolicy(9, 8, 3)).tolist() == [[[99, 99, 99]] * 8] * 9


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_the_first_frame_of_an_animation_counts(kind: str) -> None:
    frames = [Image.new("RGB", (8, 9), colour) for colour in ((200, 0, 0), (0, 0, 200))]
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:], **LOSSLESS.get(kind, {}))
    np.testing.assert_allclose(decode(content, ResizePolicy(9, 8, 3))[0, 0], [200, 0, 0], atol=3 * (kind == "MPO"))


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_files_give_their_pixels(kind: str) -> None:
    picture = noise(9, 8)
    np.testing.assert_array_equal(decode(saved(picture, kind, **LOSSLESS[kind]), ResizePolicy(9, 8, 3)), picture)


def test_grey_is_distinguished_from_colour() -> None:
    ramp = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    grey = np.stack([ramp] * 3, axis=2)
    assert seen(saved(grey, "JPEG", quality=50)) == ((64, 64), True)
    assert seen(saved(ramp)) == ((64, 64), True)
    assert seen(saved(Image.fromarray(grey).quantize(64))) == ((64, 64), True)
    assert seen(saved(Image.fromarray(ramp.astype(np.uint16) * 257))) == ((64, 64), True)
    spotted = grey.copy()
    spotted[:8, :8] = (200, 40, 40)
    assert seen(saved(spotted, "JPEG")) == ((64, 64), False)
    hidden = np.dstack([spotted, np.where(spotted[..., 0] == spotted[..., 1], 255, 0).astype(np.uint8)])
    assert seen(saved(hidden)) == ((64, 64), True)  # the coloured part is transparent


# -- not a picture -----------------------------------------------------------------------------------------------


def test_decompression_bombs_are_not_unpacked() -> None:
    for side in (9_500, 50_000):
        with pytest.raises(UnreadablePicture, match="89,000,000"):
            decode(png(side, side, 8, 0, b"\0" * 1000), ResizePolicy(8, 8, 1))


def long_png(width: int, height: int) -> bytes:
    """Return a grey picture whose upper or left half is 0 and whose other half is 200."""
    halves = [b"\0" * (width // 2) + b"\xc8" * (width - width // 2)] * height
    if height > width:
        halves = [b"\0" * width] * (height // 2) + [b"\xc8" * width] * (height - height // 2)
    return png(width, height, 8, 0, b"".join(b"\0" + row for row in halves))


@pytest.mark.parametrize("size", [(1, 1_000_000), (1_000_000, 1), (3, 999_999), (20, 500_000)])
def test_long_thin_pictures_cost_bounded_memory_and_keep_their_areas(size: tuple[int, int]) -> None:
    content = long_png(*size)
    tracemalloc.start()
    try:
        found = decode(content, ResizePolicy(64, 64, 1, "pad", "black"))
        peak = tracemalloc.get_traced_memory()[1]
        assert peak < 40 << 20
        decode(content, ResizePolicy(1024, 1024, 1, "pad"))
        assert tracemalloc.get_traced_memory()[0] < 4 << 20  # no large table is memoised
    finally:
        tracemalloc.stop()
    line = found[:, 31, 0] if size[1] > size[0] else found[31, :, 0]
    assert np.abs(line.astype(int) - np.repeat([0, 200], 32)).max() <= 1


@pytest.mark.parametrize("size", [(1, 40_000_000), (40_000_000, 1), (1_000_001, 2)])
def test_sides_have_a_limit(size: tuple[int, int]) -> None:
    with pytest.raises(UnreadablePicture, match=f"{size[0]}×{size[1]}"):
        decode(png(*size, 8, 0, b"\0" * 1000), ResizePolicy(64, 64, 1, "pad"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"<!doctype html><html>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",  # Pillow would start a program
        saved(noise(40, 40))[:300],
        saved(noise(40, 40), "JPEG")[:-200],
    ],
    ids=["empty", "text", "web page", "PostScript", "PNG cut off", "JPEG cut off"],
)
def test_the_reason_of_a_broken_file(content: bytes, wording: Callable[[object], None]) -> None:
    for use in (lambda: decode(content, ResizePolicy(8, 8, 1)), lambda: look(content)):
        with pytest.raises(UnreadablePicture) as raised:
            use()
        wording(raised.value)


def test_lack_of_memory_is_reported() -> None:
    with pytest.raises(UnavailablePicture):
        decode(saved(noise(1, 1)), ResizePolicy(1 << 50, 8, 1, fit="pad"))


KINDS: dict[str, bytes] = {
    "png": saved(noise(12, 10)),
    "palette": saved(Image.fromarray(noise(12, 10)).convert("P"), transparency=3),
    "jpeg": saved(noise(40, 30), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
    "progressive": saved(noise(40, 30), "JPEG", progressive=True),
    "gif": saved(noise(12, 10), "GIF"),
    "webp": saved(noise(12, 10), "WEBP"),
    "lossless": saved(noise(12, 10), "WEBP", lossless=True),
    "tiff": saved(noise(12, 10), "TIFF"),
    "lzw": saved(noise(12, 10), "TIFF", compression="tiff_lzw"),
    "float": saved(np.full((12, 10), 0.5, np.float32), "TIFF"),
    "bmp": saved(noise(12, 10), "BMP"),
    "avif": saved(noise(40, 30), "AVIF"),
    "jpeg 2000": saved(noise(40, 30), "JPEG2000"),
    "pnm": saved(noise(12, 10), "PPM"),
    "animation": saved(noise(12, 10), "GIF", save_all=True, append_images=[Image.fromarray(noise(12, 10, seed=1))]),
}


def outcome(use: Any, content: bytes) -> str:
    """Return the reason why a file is unreadable; empty for a picture. Every other error is passed on."""
    try:
        use(content)
    except UnreadablePicture as error:
        return str(error) or "no reason"
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_flipped_and_cut_files_are_unreadable_or_pictures(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    whole, random, reasons = KINDS[kind], np.random.default_rng(len(kind)), set()
    for number in range(250):
        content = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            content[random.integers(len(whole) if number % 2 else min(len(whole), 64))] = random.integers(256)
        if number % 5 == 0:
            content = content[: random.integers(len(whole))]
        reasons.add(outcome(look, bytes(content)))
        reasons.add(outcome(lambda content: decode(content, ResizePolicy(8, 8, 3)), bytes(content)))
    assert "no reason" not in reasons
    assert capfd.readouterr() == ("", "")
    assert not any("\n" in reason for reason in reasons)
    assert len(reasons) >= 3


@settings(max_examples=60)
@given(
    st.binary(max_size=60), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0"])
)
def test_bytes_that_begin_like_a_picture(content: bytes, beginning: bytes) -> None:
    with pytest.raises(UnreadablePicture):
        decode(beginning + content, ResizePolicy(8, 8, 3))


# -- work of a worker process -----------------------------------------------------------------------------------------


def test_a_part_is_written_to_its_place(tmp_path: Path) -> None:
    pictures = [noise(9, 8, seed=i) for i in range(4)]
    pictures[3][:] = 77
    for i, picture in enumerate(pictures):
        (tmp_path / f"{i}.png").write_bytes(saved(picture))
    (tmp_path / "2.png").write_bytes(b"broken")
    items: list[ImageRef] = [(str(tmp_path), f"{i}.png") for i in range(4)]
    target = tmp_path / "pixels"
    target.write_bytes(b"\x07" * (10 + 4 * 216 + 5))
    policy = ResizePolicy(9, 8, 3)
    start, problems, tally = decode_part(8, items, policy, (str(target), 10))
    assert (start, problems) == (8, {10: Problem("not an image, or damaged at its beginning")})
    assert (tally.count, tally.num_flat, tally.first_flat) == (3, 1, 11)
    pictures[2] = np.zeros((9, 8, 3), np.uint8)
    assert target.read_bytes() == b"\x07" * 10 + np.stack(pictures).tobytes() + b"\x07" * 5
    assert decode_part(8, items, policy) == (start, problems, tally)


def test_pages_are_separate_items(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 9), 40 * (i + 1)) for i in range(4)]
    frames[0].save(tmp_path / "stack.tif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "one.png")
    (tmp_path / "broken.tif").write_bytes(b"II*\0")
    names = ["stack.tif", "one.png", "broken.tif", "missing.gif"]
    assert count_pages(5, [(str(tmp_path), name) for name in names]) == (5, [[0, 1, 2, 3], [0], [0], [0]])
    pages: list[ImageRef] = [(str(tmp_path), "stack.tif", page) for page in (0, 2, 3)]
    assert [shown(page) for page in pages] == ["stack.tif[0]", "stack.tif[2]", "stack.tif[3]"]
    _, problems, tally = decode_part(0, pages, ResizePolicy(9, 8, 1))
    assert not problems
    assert (tally.count, tally.low, tally.high, tally.num_stacks) == (3, 40, 160, 3)


def test_workers_load_no_torch() -> None:
    heavy = "('torch', 'pyarrow', 'vaelab.data.images')"
    check = f"import sys, vaelab.data.decode; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
