"""Values of every depth → 8 bits: known answers for integers, signed numbers and floats of TIFF, PNG and PNM."""

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from encoded import saved
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from vaelab.data.containers import UnreadablePicture
from vaelab.data.contents import PictureFacts, Tally
from vaelab.data.decode import ResizePolicy, decode, decode_with_facts, look
from vaelab.data.depths import robust_range
from vaelab.data.opening import page_numbers

TYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]


def tiff(values: NDArray[Any], *, subfile: int = 0, **options: Any) -> bytes:
    """Return a TIFF or BigTIFF with one page, written from the specification."""
    return tiff_pages([values], subfiles=[subfile], **options)


def tiff_pages(pages: list[NDArray[Any]], *, order: str = "<", big: bool = False, **options: Any) -> bytes:
    address, size = ("Q", 8) if big else ("I", 4)
    header = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    header += struct.pack(f"{order}HHQ", 8, 0, 16) if big else struct.pack(f"{order}I", 8)
    content = bytearray(header)
    subfiles = options.pop("subfiles", [0] * len(pages))
    for number, values in enumerate(pages):
        entries, blocks = describe(values, order, subfile=subfiles[number], **options)
        num, entry = (8, 20) if big else (2, 12)
        start = len(content)
        data = start + num + entry * len(entries) + size
        body = bytearray()
        for tag in (324, 273):
            if tag in entries:
                places = []
                for block in blocks:
                    places.append(data + len(body))
                    body += block
                entries[tag] = ("Q" if big else "I", places)
        packed = bytearray()
        for tag, (code, numbers) in sorted(entries.items()):
            stored = struct.pack(f"{order}{len(numbers)}{code}", *numbers)
            packed += struct.pack(f"{order}HH{address}", tag, {"H": 3, "I": 4, "Q": 16}[code], len(numbers))
            if len(stored) > size:
                packed += struct.pack(order + address, data + len(body))
                body += stored
            else:
                packed += stored.ljust(size, b"\0")
        content += struct.pack(f"{order}{'Q' if big else 'H'}", len(entries)) + packed
        after = data + len(body) if number + 1 < len(pages) else 0
        content += struct.pack(order + address, after) + body
    return bytes(content)


def describe(
    values: NDArray[Any],
    order: str,
    *,
    deflate: bool = False,
    predictor: int = 1,
    planar: bool = False,
    tile: int = 0,
    rows: int = 0,
    photometric: int | None = None,
    extra: int | None = None,
    orientation: int = 1,
    subfile: int = 0,
) -> tuple[dict[int, tuple[str, list[int]]], list[bytes]]:
    """Return the tags of a page without addresses, and its strips or tiles."""
    values = values.reshape(*values.shape[:2], -1)
    height, width, samples = values.shape
    high, wide = (tile, tile) if tile else (rows or height, width)
    blocks = []
    for plane in np.split(values, samples, axis=2) if planar else [values]:
        for top in range(0, height, high):
            for left in range(0, width, wide):
                block = plane[top : top + high, left : left + wide]
                if tile:
                    block = np.pad(block, [(0, high - block.shape[0]), (0, wide - block.shape[1]), (0, 0)])
                if predictor == 2:
                    block = np.diff(block, axis=1, prepend=block[:, :1] * 0)
                stored = block.astype(block.dtype.newbyteorder(order)).tobytes()
                blocks.append(zlib.compress(stored) if deflate else stored)
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    photometric = photometric if photometric is not None else (2 if samples >= 3 else 1)
    tags = {
        254: [subfile],
        256: [width],
        257: [height],
        258: [8 * values.itemsize] * samples,
        259: [8 if deflate else 1],
    }
    tags |= {262: [photometric], 274: [orientation], 277: [samples], 284: [2 if planar else 1], 339: [kind] * samples}
    if predictor != 1:
        tags[317] = [predictor]
    if extra is not None:
        tags[338] = [extra]
    if tile:
        tags |= {322: [tile], 323: [tile], 324: [0], 325: [len(block) for block in blocks]}
    else:
        tags |= {273: [0], 278: [high], 279: [len(block) for block in blocks]}
    return {tag: ("I" if tag in (279, 325) else "H", numbers) for tag, numbers in tags.items()}, blocks


def ramp(kind: str, height: int = 12, width: int = 10) -> tuple[NDArray[Any], float, float]:
    """Return values from low to high that a type represents exactly, and low and high."""
    low, high = {"u1": (0, 119), "i1": (-60, 59), "f2": (-2.0, 2.0)}.get(
        kind, (100, 1290) if kind[0] == "u" else (-595, 595)
    )
    return np.linspace(low, high, height * width).astype(kind).reshape(height, width), low, high


def expected(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "layout", [{}, {"rows": 5}, {"deflate": True}, {"big": True, "rows": 4}], ids=["plain", "strips", "deflate", "big"]
)
def test_a_range_stretches_values_of_every_type(kind: str, order: str, layout: dict[str, Any]) -> None:
    values, low, high = ramp(kind)
    if kind == "u1":  # 8-bit pictures stay as they are
        low, high = 0, 255
    content = tiff(values, order=order, **layout)
    policy = ResizePolicy(12, 10, 1, values=(float(ramp(kind)[1]), float(ramp(kind)[2])))
    found, source = decode_with_facts(content, policy)
    np.testing.assert_array_equal(found[..., 0], expected(values, low, high))
    if kind != "u1":
        assert (source.low, source.high) == (float(values.min()), float(values.max()))


@pytest.mark.parametrize("kind", ["u2", "i2", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "layout",
    [{}, {"planar": True}, {"tile": 16}, {"deflate": True, "rows": 7}, {"tile": 16, "planar": True, "deflate": True}],
    ids=lambda layout: "-".join(layout) or "plain",
)
def test_colours_of_every_depth(kind: str, order: str, layout: dict[str, Any]) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (24, 20, 3)).astype(kind)
    found = decode(tiff(values, order=order, **layout), ResizePolicy(24, 20, 3, values=(0.0, 4095.0)))
    np.testing.assert_array_equal(found, expected(values, 0, 4095))


@pytest.mark.parametrize("kind", ["u2", "u4", "i2", "i8"])
def test_a_predictor_is_undone(kind: str) -> None:
    values = np.random.default_rng(1).integers(0, 4096, (24, 20, 3)).astype(kind)
    found = decode(tiff(values, deflate=True, predictor=2, rows=9), ResizePolicy(24, 20, 3, values=(0.0, 4095.0)))
    np.testing.assert_array_equal(found, expected(values, 0, 4095))


def test_the_full_range_of_every_type() -> None:
    policy = ResizePolicy(12, 10, 1)
    for kind, values in {
        "u2": np.linspace(0, 65535, 120),
        "u4": np.linspace(0, 65535, 120),
        "i4": np.linspace(0, 65535, 120),
        "u8": np.linspace(0, 65535, 120),
    }.items():
        whole = values.astype(kind).reshape(12, 10)
        np.testing.assert_array_equal(decode(tiff(whole), policy)[..., 0], (whole.astype(np.int64) + 128) // 257)
    for kind in ("f2", "f4", "f8"):
        shares = np.linspace(0, 1, 120).astype(kind).reshape(12, 10)
        wanted = (shares * np.asarray(255, kind)).round().astype(np.uint8)
        np.testing.assert_array_equal(decode(tiff(shares), policy)[..., 0], wanted)
    small = np.arange(120, dtype=np.int8).reshape(12, 10)
    np.testing.assert_array_equal(decode(tiff(small), policy)[..., 0], small)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_signed_bytes_are_signed_in_every_compression(compression: str | None) -> None:
    values = np.arange(-60, 60, dtype=np.int8).reshape(12, 10)
    unsigned = saved(values.view(np.uint8), "TIFF", compression=compression, tiffinfo={339: 2})
    np.testing.assert_array_equal(
        decode(unsigned, ResizePolicy(12, 10, 1, values=(-60.0, 59.0)))[..., 0], expected(values, -60, 59)
    )
    with pytest.raises(UnreadablePicture, match=r"data\.range"):
        decode(unsigned, ResizePolicy(12, 10, 1))


@pytest.mark.parametrize("values", [[-1.0, 0.5], [0.0, 1.01], [-3000.0, 3000.0]])
@pytest.mark.parametrize("kind", ["f4", "f8", "i2", "i4"])
def test_values_outside_the_full_range_name_the_remedy(values: list[float], kind: str) -> None:
    array = np.array(values * 60).astype(kind).reshape(12, 10)
    if kind[0] == "i" and array.min() >= 0:
        return
    with pytest.raises(UnreadablePicture, match=r"data\.range"):
        decode(tiff(array), ResizePolicy(12, 10, 1))
    assert look(tiff(array), values="own").size == (12, 10)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("wanted", ["full", "own", (0.0, 1.0)])
def test_values_that_are_not_finite_are_refused(bad: float, wanted: Any) -> None:
    for kind in ("f4", "f8"):
        values = np.full((12, 10), 0.5, kind)
        values[3, 4] = bad
        with pytest.raises(UnreadablePicture):
            decode(tiff(values), ResizePolicy(12, 10, 1, values=wanted))


def test_opacity_of_deep_pictures() -> None:
    values = np.zeros((12, 10, 4), np.uint16)
    values[..., 0], values[:6, :, 3] = 4095, 65535
    found = decode(tiff(values, extra=2), ResizePolicy(12, 10, 3, background="black", values=(0.0, 4095.0)))
    assert found[0, 0].tolist() == [255, 0, 0]
    assert found[11, 0].tolist() == [0, 0, 0]
    assert decode(tiff(values, extra=0), ResizePolicy(12, 10, 3, values=(0.0, 4095.0)))[11, 0].tolist() == [255, 0, 0]


def test_white_is_zero_and_turned_pages() -> None:
    values, low, high = ramp("f8")
    policy = ResizePolicy(12, 10, 1, values=(low, high))
    np.testing.assert_array_equal(
        decode(tiff(values, photometric=0), policy)[..., 0], 255 - expected(values, low, high)
    )
    np.testing.assert_array_equal(
        decode(tiff(values, orientation=3), policy)[..., 0], expected(values, low, high)[::-1, ::-1]
    )
    sideways = look(tiff(values, orientation=6), values="own")
    assert sideways.size == (10, 12)


def test_eight_bits_with_an_unnamed_second_channel() -> None:
    values = np.dstack([np.arange(120).reshape(12, 10), np.zeros((12, 10))]).astype(np.uint8)
    np.testing.assert_array_equal(decode(tiff(values), ResizePolicy(12, 10, 1))[..., 0], values[..., 0])


def test_sixteen_bit_colours_in_their_full_range() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (12, 10, 3)).astype(np.uint16)
    np.testing.assert_array_equal(decode(tiff(values), ResizePolicy(12, 10, 3)), (values.astype(int) + 128) // 257)
    found = decode(tiff(values), ResizePolicy(12, 10, 3, values=(0.0, 65535.0)))
    np.testing.assert_array_equal(found, (values.astype(int) + 128) // 257)


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.sampled_from(TYPES), st.booleans(), st.booleans(), st.booleans())
def test_mutated_tiffs_are_pictures_or_unreadable(seed: int, kind: str, deflate: bool, tiled: bool, cut: bool) -> None:
    random = np.random.default_rng(seed)
    whole = tiff(ramp(kind)[0], deflate=deflate, tile=16 if tiled else 0, big=bool(seed % 2))
    for _ in range(20):
        content = bytearray(whole)
        for place in random.integers(0, min(len(whole), 400), 3):
            content[place] = random.integers(256)
        if cut:
            content = content[: random.integers(8, len(whole))]
        for use in (
            lambda content: decode(content, ResizePolicy(8, 8, 3, values=(0.0, 9.0))),
            lambda content: look(content, values="own"),
        ):
            try:
                use(bytes(content))
            except UnreadablePicture as error:
                assert str(error)  # noqa: PT017
        assert page_numbers(bytes(content))


def test_false_tags_cost_no_memory() -> None:
    """The size is larger than the file, and a chain of pages is circular."""
    honest = tiff(np.zeros((12, 10), np.float64))
    lying = honest.replace(
        struct.pack("<HHI", 256, 3, 1) + struct.pack("<I", 10), struct.pack("<HHII", 256, 4, 1, 8_000)
    )
    lying = lying.replace(
        struct.pack("<HHI", 257, 3, 1) + struct.pack("<I", 12), struct.pack("<HHII", 257, 4, 1, 8_000)
    )
    with pytest.raises(UnreadablePicture):
        decode(lying, ResizePolicy(8, 8, 1))
    circular = bytearray(tiff(np.zeros((12, 10), np.uint8)))
    (count,) = struct.unpack_from("<H", circular, 8)
    struct.pack_into("<I", circular, 10 + 12 * count, 8)
    assert page_numbers(bytes(circular)) == [0]
    assert decode(bytes(circular), ResizePolicy(12, 10, 1)).max() == 0


# -- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["u1", "u2", "i2", "f4", "f8"])
@pytest.mark.parametrize("big", [False, True])
def test_each_page_of_a_tiff(kind: str, big: bool) -> None:
    pages = [np.full((12, 10), 20 * (i + 1)).astype(kind) for i in range(5)]
    content = tiff_pages(pages, big=big, rows=12)
    assert page_numbers(content) == [0, 1, 2, 3, 4]
    for i in range(5):
        found, source = decode_with_facts(content, ResizePolicy(12, 10, 1, values=(0.0, 255.0)), i)
        assert set(np.unique(found)) == {20 * (i + 1)}
        assert source.num_pages == 5


def test_thumbnails_and_masks_are_not_pages() -> None:
    pages = [np.full((12, 10), 20 * (i + 1), np.uint8) for i in range(4)]
    content = tiff_pages(pages, subfiles=[0, 1, 4, 2])
    assert page_numbers(content) == [0, 3]
    assert set(np.unique(decode(content, ResizePolicy(12, 10, 1), 3))) == {80}


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_each_frame_of_an_animation(kind: str) -> None:
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    frames = [Image.new("RGB", (16, 16), colour) for colour in colours]
    options = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100}}.get(kind, {})
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert page_numbers(content) == [0, 1, 2]
    for i, colour in enumerate(colours):
        found = decode(content, ResizePolicy(16, 16, 3), i)[8, 8].astype(int)
        assert np.abs(found - colour).max() <= 12
    with pytest.raises(UnreadablePicture):
        decode(content, ResizePolicy(16, 16, 3), 3)


def test_other_pictures_in_a_jpeg_are_no_pages() -> None:
    """Telephones keep a second, smaller picture there."""
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    content = saved(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert page_numbers(content) == [0]
    assert decode_with_facts(content, ResizePolicy(8, 8, 3))[1].num_pages == 1
    assert page_numbers(b"") == page_numbers(b"no picture") == [0]


# -- transparency -----------------------------------------------------------------------------------------------------


def bmp(alpha: int) -> bytes:
    """A BMP of 32 bits with masks for colours and alpha."""
    header = struct.pack("<IiiHHIIiiII", 108, 10, -12, 1, 32, 3, 480, 0, 0, 0, 0)
    header += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    pixels = bytes([40, 30, 200, alpha]) * 120
    begin = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", begin + len(pixels), 0, 0, begin) + header + pixels


def test_an_alpha_that_nobody_has_set_is_ignored() -> None:
    found, source = decode_with_facts(bmp(0), ResizePolicy(12, 10, 3))
    assert found[0, 0].tolist() == [200, 30, 40]
    assert source.is_alpha_ignored
    half = decode_with_facts(bmp(128), ResizePolicy(12, 10, 3, background="black"))
    assert half[0][0, 0].tolist() == [100, 15, 20]
    assert not half[1].is_alpha_ignored
    empty = saved(Image.new("RGBA", (10, 12), (200, 30, 40, 0)))  # of a PNG the same is meant
    assert decode(empty, ResizePolicy(12, 10, 3)).min() == 255


@pytest.mark.parametrize(("shade", "flat"), [(255, ("white",)), (0, ("black",)), (128, ())])
def test_backgrounds_on_which_an_icon_disappears(shade: int, flat: tuple[str, ...]) -> None:
    icon = np.zeros((32, 32, 4), np.uint8)
    icon[8:24, 8:24] = (shade, shade, shade, 255)
    assert look(saved(icon)).flat_on == flat
    assert look(saved(np.full((32, 32), shade, np.uint8))).flat_on == ()


# -- a set ------------------------------------------------------------------------------------------------------------


def test_a_robust_range_excludes_a_thousandth() -> None:
    values = np.arange(10_001)
    assert robust_range([values]) == (10, 9_990)
    assert robust_range([np.r_[values, [10**9]]]) == (10, 9_991)
    assert robust_range([np.r_[np.zeros(100_000), [7.0]]]) == (0.0, 7.0)
    assert robust_range([np.full(9, 5.0)]) is None
    assert robust_range([]) is None


def test_a_tally_sums_facts() -> None:
    pictures = np.random.default_rng(0).integers(3, 200, (6, 9, 8, 3), np.uint8)
    pictures[2] = (7, 8, 9)
    sources = [
        PictureFacts(numbers="16-bit", low=i, high=100 * i) if i < 3 else PictureFacts(num_pages=i) for i in range(6)
    ]
    rows = np.arange(6)
    parts = [Tally(), Tally()]
    for i in range(2):
        parts[i].add(rows[i::2], pictures[i::2], sources[i::2])
    parts[1].merge(parts[0])
    whole = parts[1]
    assert (whole.count, whole.low, whole.high) == (6, pictures.min(), pictures.max())
    assert whole.mean == pytest.approx(pictures.mean())
    assert (whole.num_flat, whole.first_flat) == (1, 2)
    assert whole.deep == {"16-bit": (3, 0, 200)}
    assert (whole.num_stacks, whole.num_more_pages) == (3, 2 + 3 + 4)


@pytest.mark.parametrize("kind", ["i2", "i4", "f4"])
def test_what_pillow_reads_wrongly_is_refused(kind: str) -> None:
    """Pillow swaps the bytes of compressed big-endian values once too often."""
    content = bytearray(tiff(ramp(kind)[0], order=">"))
    place = content.index(struct.pack(">HHI", 259, 3, 1)) + 8
    struct.pack_into(">H", content, place, 5)  # LZW
    with pytest.raises(UnreadablePicture):
        decode(bytes(content), ResizePolicy(12, 10, 1, values=(-595.0, 595.0)))
