"""Formats are recognised by their first bytes, not by the name of the file."""

import io
import struct
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoded import saved
from PIL import Image, PngImagePlugin
from typed import Typed

from vaelab.data.containers import UnreadablePicture
from vaelab.data.datasets import folder
from vaelab.data.decode import ResizePolicy, decode, look
from vaelab.data.formats import PLUGINS, identify, open_picture
from vaelab.data.opening import MAX_PIXELS


def halves(height: int = 48, width: int = 40) -> Image.Image:
    """Return red above blue, which shows whether a picture is upside down or has swapped channels."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2] = (220, 30, 40)
    pixels[height // 2 :] = (20, 40, 200)
    return Image.fromarray(pixels)


def seen(content: bytes, max_pixels: int = MAX_PIXELS) -> tuple[tuple[int, int], bool]:
    found = look(content, max_pixels=max_pixels)
    return found.size, found.is_grey


def heic(picture: Image.Image) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(picture).save(buffer, quality=95)
    return buffer.getvalue()


def tiff(samples: int, bits: int, kind: int, data: bytes, *, width: int = 12, height: int = 10, **tags: int) -> bytes:
    """A little-endian TIFF of one strip; ``kind``: 1 unsigned, 2 signed, 3 floating point."""
    size = len(data)
    entries = [(256, width), (257, height), (258, bits), (259, tags.get("compression", 1)), (262, 1), (273, 0)]
    entries += [(277, samples), (278, height), (279, size), (339, kind)]
    begin = 8 + 2 + 12 * len(entries) + 4
    packed = b"".join(struct.pack("<HHII", tag, 4, 1, begin if tag == 273 else value) for tag, value in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + packed + b"\0\0\0\0" + data


WRITERS: dict[str, Any] = {
    "PNG": lambda: saved(halves(), "PNG"),
    "JPEG": lambda: saved(halves(), "JPEG", quality=95),
    "WebP": lambda: saved(halves(), "WEBP", lossless=True),
    "BMP": lambda: saved(halves(), "BMP"),
    "TIFF": lambda: saved(halves(), "TIFF"),
    "GIF": lambda: saved(halves(), "GIF"),
    "AVIF": lambda: saved(halves(), "AVIF", quality=95),
    "PNM": lambda: saved(halves(), "PPM"),
    "JPEG 2000": lambda: saved(halves(), "JPEG2000"),
    "HEIC": lambda: heic(halves()),
}


@pytest.mark.parametrize("kind", PLUGINS)
def test_every_format_is_told_by_its_bytes_and_read(kind: str) -> None:
    content = WRITERS[kind]()
    assert identify(content) == kind
    found = decode(content, ResizePolicy(48, 40, 3)).astype(int)
    assert np.abs(found[4, 20] - (220, 30, 40)).max() <= 8
    assert np.abs(found[-4, 20] - (20, 40, 200)).max() <= 8
    assert seen(content) == ((48, 40), False)


@pytest.mark.parametrize("kind", ["AVIF", "HEIC", "JPEG 2000", "PNM"])
@pytest.mark.parametrize("name", ["a.jpg", "b.png"])
def test_a_wrong_ending_changes_nothing(tmp_path: Path, cli: Typed, kind: str, name: str) -> None:
    place = tmp_path / "own"
    place.mkdir()
    (place / name).write_bytes(WRITERS[kind]())
    code, out, _ = cli("data", "check", "own")
    assert (code, name in out) == (0, False)


@pytest.mark.parametrize(
    ("mode", "kind", "shade"),
    [("1", "PPM", 255), ("L", "PPM", 90), ("RGB", "PPM", 90), ("L", "AVIF", 90), ("L", "JPEG2000", 90)],
)
def test_grey_and_bilevel_pictures_of_the_newer_formats(mode: str, kind: str, shade: int) -> None:
    content = saved(Image.new("L", (40, 48), 255 if mode == "1" else 90).convert(mode), kind)
    assert np.abs(decode(content, ResizePolicy(48, 40, 1)).astype(int) - shade).max() <= 2
    assert look(content).is_grey


def test_plain_and_deep_netpbm_files() -> None:
    row = " ".join(["0", "7"] * 4)
    assert decode(f"P2 8 9 7\n{' '.join([row] * 9)}\n".encode(), ResizePolicy(9, 8, 1))[0, :2, 0].tolist() == [0, 255]
    values = np.array([0, 1, 2048, 4095], ">u2").repeat(2)
    deep = b"P5 8 9 4095\n" + values.tobytes() * 9  # 12 bits, as the file itself says
    assert decode(deep, ResizePolicy(9, 8, 1))[0, ::2, 0].tolist() == [0, 0, 128, 255]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"%PDF-1.7\n", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"\xef\xbb\xbf <!DOCTYPE html><html>", "web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", "video"),
        (b"\xff\x0a" + bytes(30), "JPEG XL"),
        (bytes(128) + b"DICM" + bytes(30), "DICOM"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"PK\3\4" + bytes(30), "zip"),
        (tiff(8, 8, 1, bytes(12 * 10 * 8)), "8 channels"),
        (tiff(1, 64, 5, bytes(12 * 10 * 8)), "64-bit complex"),
        (tiff(1, 8, 1, bytes(120), compression=777), "compression 777"),
        (b"\xff\xd8\xff" + bytes(40), "a JPEG"),
        (b"II*\0" + bytes(40), "a TIFF"),
    ],
)
def test_what_cannot_be_read_is_named(content: bytes, names: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnreadablePicture) as caught:
        decode(content, ResizePolicy(8, 8, 3))
    assert names in str(caught.value)
    assert capfd.readouterr() == ("", "")  # no library has written anything of its own


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"])
def test_libtiff_writes_nothing_to_stderr(compression: str, capfd: pytest.CaptureFixture[str]) -> None:
    picture = halves().convert("1") if compression == "group4" else halves()
    whole, random = saved(picture, "TIFF", compression=compression), np.random.default_rng(3)
    for _ in range(60):
        content = bytearray(whole)
        for place in random.integers(8, len(whole), 12):
            content[place] = random.integers(256)
        for use in (lambda content: decode(content, ResizePolicy(8, 8, 3)), look):
            with suppress(UnreadablePicture):
                use(bytes(content))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("where", ["before", "after"])
def test_long_texts_do_not_hide_a_picture(zipped: bool, where: str) -> None:
    picture, text = halves(), "ä story " * 1_000_000
    info = PngImagePlugin.PngInfo()
    info.add_itxt("comment", text, zip=zipped)
    content = saved(picture, "PNG", pnginfo=info)
    if where == "after":  # texts may follow the pixels
        plain = saved(picture, "PNG")
        chunk = content[content.index(b"iTXt") - 4 :][
            : struct.unpack_from(">I", content, content.index(b"iTXt") - 4)[0] + 12
        ]
        content = plain[:-12] + chunk + plain[-12:]
    np.testing.assert_array_equal(decode(content, ResizePolicy(48, 40, 3)), np.asarray(picture))
    assert look(content).size == (48, 40)


def test_the_turn_of_a_picture_with_long_texts_is_kept() -> None:
    exif, info = Image.Exif(), PngImagePlugin.PngInfo()
    exif[0x0112] = 3
    info.add_text("comment", "x" * 3_000_000, zip=True)
    content = saved(halves(), "PNG", pnginfo=info, exif=exif)
    np.testing.assert_array_equal(decode(content, ResizePolicy(48, 40, 3)), np.asarray(halves())[::-1, ::-1])


def test_the_limit_of_pixels_can_be_raised() -> None:
    content = saved(Image.new("L", (10_000, 9_000), 77), "PNG")
    for limit in (89_000_000, 89_999_999):
        with pytest.raises(UnreadablePicture):
            decode(content, ResizePolicy(8, 8, 1, max_pixels=limit))
    assert (decode(content, ResizePolicy(8, 8, 1, max_pixels=90_000_000)) == 77).all()
    assert seen(content, 90_000_000) == ((9_000, 10_000), True)


def test_a_folder_takes_larger_pictures_where_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = tmp_path / "own"
    place.mkdir()
    for i in range(3):
        halves().save(place / f"{i}.png")
    Image.new("RGB", (200, 100)).save(place / "large.png")
    counts = []
    for limit in (19_999, 20_000):
        parts = [folder.load(place, split, max_pixels=limit, size=16) for split in ("train", "test")]
        counts.append(sum(len(part) for part in parts))
    assert counts == [3, 4]


@pytest.mark.slow
def test_heic_without_its_extra_names_the_extra(tmp_path: Path) -> None:
    halves().save(tmp_path / "a.png")
    (tmp_path / "b.heic").write_bytes(heic(halves()))
    program = "import sys; sys.modules['pillow_heif'] = None; from vaelab.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "data", "check", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if "b.heic" in line and "vaelab[heic]" in line]
    assert done.stderr == ""


@pytest.mark.parametrize("is_zip", [False, True])
def test_pictures_without_an_ending_are_found_by_their_bytes(tmp_path: Path, cli: Typed, is_zip: bool) -> None:
    files = {"a.png": saved(halves(), "PNG"), "b": saved(halves(), "PNG"), "c.dat": b"numbers"}
    place = tmp_path / ("own.zip" if is_zip else "own")
    if is_zip:
        with zipfile.ZipFile(place, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        place.mkdir()
        for name, content in files.items():
            (place / name).write_bytes(content)
    code, out, _ = cli("data", "check", place.name)
    assert code == 1
    assert [line for line in out.splitlines() if "PNG" in line and ": ok" not in line]
    assert [line for line in out.splitlines() if ".dat" in line and ": ok" in line]


def test_a_picture_opens_no_other_format() -> None:
    with open_picture(WRITERS["JPEG"]()) as picture:
        assert picture.format == "JPEG"
    with pytest.raises(UnreadablePicture):
        open_picture(b"")


@pytest.mark.slow
def test_mutated_heic_files_are_pictures_or_unreadable(capfd: pytest.CaptureFixture[str]) -> None:
    whole, random = heic(halves()), np.random.default_rng(0)
    for number in range(150):
        content = bytearray(whole)
        for place in random.integers(len(whole) if number % 2 else 200, size=3):
            content[place] = random.integers(256)
        for use in (lambda content: decode(content, ResizePolicy(8, 8, 3)), look):
            with suppress(UnreadablePicture):
                use(bytes(content))
    assert capfd.readouterr() == ("", "")
