"""Damage to files: bytes, tokens of text, JSON trees, headers of formats, and non-files in their place."""

import gzip
import io
import json
import os
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

Mutate = Callable[[bytes, random.Random], bytes]
EXTREMES = (0, 1, -1, 127, 255, 256, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**40, 2**63 - 1)
VALUES = (
    None, True, False, 0, -1, 1e308, float("nan"), 10**30, "", "x", "\0", "𝕏" * 50, "../../etc/passwd", [], {}, [[]],
    [None], {"": None}, "9" * 5000,
)  # fmt: skip
"""Replacements of a value in a JSON tree."""
TOKENS = (
    "nan", "inf", "-1", "1e400", "99999999999999999999", "", "\0", "true", "[]", "{}", '"', "\n\n", ",", "=", "\ufeff",
    "é", "0x10", "1_000", "[[", "'", "\r", "0.5", "1e-400",
)  # fmt: skip


def mutate(path: Path, generator: random.Random) -> str:
    """Damage a file in place, most often in a way that suits its format; return the kind of damage."""
    if generator.random() < 0.08:
        return _replace(path, generator)
    content = path.read_bytes()
    kinds: list[Mutate] = [flip, overwrite, truncate, extend, repeat, blank, put_number, empty]
    own = OWN.get(path.suffix.lower(), [])
    chosen = generator.choice([*kinds, *own * max(1, 8 // max(1, len(own)))])
    try:
        damaged = chosen(content, generator)
    except Exception:  # the file is damaged already
        chosen, damaged = flip, flip(content, generator)
    path.write_bytes(damaged)
    return chosen.__name__


def _replace(path: Path, generator: random.Random) -> str:
    """Replace a file by a folder, a pipe, a circular link, an endless device or a dangling link."""
    kind = generator.choice(["folder", "pipe", "circle", "endless", "nowhere"])
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"circle": path.name, "endless": "/dev/zero", "nowhere": "not-there"}[kind])
    return kind


# -- bytes ------------------------------------------------------------------------------------------------------------


def flip(content: bytes, generator: random.Random) -> bytes:
    """Flip some bits."""
    damaged = bytearray(content)
    for _ in range(generator.choice([1, 1, 1, 4, 50])):
        if damaged:
            damaged[_near(len(damaged), generator)] ^= 1 << generator.randrange(8)
    return bytes(damaged)


def overwrite(content: bytes, generator: random.Random) -> bytes:
    """Overwrite a range with noise."""
    at, length = _near(len(content) + 1, generator), generator.choice([1, 4, 64, 1000])
    return content[:at] + generator.randbytes(min(length, len(content) - at)) + content[at + length :]


def truncate(content: bytes, generator: random.Random) -> bytes:
    """Cut the file off."""
    return content[: generator.randrange(len(content) + 1)]


def extend(content: bytes, generator: random.Random) -> bytes:
    """Append something."""
    return content + generator.choice([b"\0" * 100, generator.randbytes(50), content, b"\n", b"x"])


def repeat(content: bytes, generator: random.Random) -> bytes:
    """Repeat a range or leave it out."""
    start, stop = sorted(generator.randrange(len(content) + 1) for _ in range(2))
    return content[:stop] + content[start:] if generator.random() < 0.5 else content[:start] + content[stop:]


def blank(content: bytes, generator: random.Random) -> bytes:
    """Overwrite a range with zeros, as after a system crash."""
    start, stop = sorted(generator.randrange(len(content) + 1) for _ in range(2))
    return content[:start] + b"\0" * (stop - start) + content[stop:]


def put_number(content: bytes, generator: random.Random) -> bytes:
    """Write an extreme number, often near the beginning."""
    value, size = generator.choice(EXTREMES), generator.choice([1, 2, 4, 8])
    number = (value % 2 ** (8 * size)).to_bytes(size, generator.choice(["little", "big"]))
    at = _near(len(content) + 1, generator)
    return content[:at] + number + content[at + size :]


def empty(content: bytes, generator: random.Random) -> bytes:
    """Return an empty file or a single character."""
    return generator.choice([b"", b" ", b"\n", b"\0"])


def _near(length: int, generator: random.Random) -> int:
    """Return a position, half of the time among the first bytes, where headers are."""
    return generator.randrange(max(1, min(length, 200) if generator.random() < 0.5 else length))


# -- text -------------------------------------------------------------------------------------------------------------


def change_token(content: bytes, generator: random.Random) -> bytes:
    """Replace a word or a number."""
    words = list(re.finditer(rb"[\w.+-]+|[\[\]{}\",=:]", content))
    if not words:
        return content
    found = generator.choice(words)
    return content[: found.start()] + generator.choice(TOKENS).encode() + content[found.end() :]


def change_lines(content: bytes, generator: random.Random) -> bytes:
    """Remove, repeat, blank, overwrite or move a line."""
    lines = content.splitlines(keepends=True)
    if not lines:
        return content
    i, j = generator.randrange(len(lines)), generator.randrange(len(lines))
    what = generator.randrange(6)
    if what == 0:
        del lines[i]
    elif what == 1:
        lines.insert(j, lines[i])
    elif what == 2:
        lines[i] = b"\n"
    elif what == 3:
        lines[i] = b"\xff\xfe\n"
    elif what == 4:
        lines[i], lines[j] = lines[j], lines[i]
    else:
        lines = lines[:1]
    return b"".join(lines)


def change_tree(content: bytes, generator: random.Random) -> bytes:
    """Remove or replace a node of a JSON tree."""
    try:
        tree = json.loads(content)
    except ValueError:
        return flip(content, generator)
    places: list[tuple[Any, Any]] = [({"": tree}, "")]
    for holder, key in places:  # grows while it is walked through
        node = holder[key]
        if isinstance(node, dict):
            places += [(node, name) for name in node]
        elif isinstance(node, list):
            places += [(node, i) for i in range(min(len(node), 20))]
    holder, key = generator.choice(places)
    if generator.random() < 0.2 and holder is not places[0][0]:
        del holder[key]
    else:
        holder[key] = generator.choice(VALUES)
    return json.dumps(places[0][0][""], indent=1).encode()


# -- formats ----------------------------------------------------------------------------------------------------------


def change_npy_header(content: bytes, generator: random.Random) -> bytes:
    """Change shape, type or length in the header of an .npy."""
    size = struct.unpack("<H", content[8:10])[0]
    header, rest = content[10 : 10 + size].decode("latin1"), content[10 + size :]
    shape = generator.choice(
        ["(-1,)", "()", "(10**9,)", "(1000000000000, 28, 28)", "(True, 28, 28)", "(0, 28, 28)", "(2, 28, 28", "None",
         "(12, 28, 28, 1, 1, 1)", "(9223372036854775807, 2)", "('x',)", "(1.5, 28, 28)", "(12, 28, 2800000)"]
    )  # fmt: skip
    kind = generator.choice(["|O", "|u1", "<f8", "|V0", "<U4", "|b1", "|u99", "<m8", "", ">u2", "|S0", "<f2", "x"])
    if generator.random() < 0.6:
        header = re.sub(r"'shape': \([^)]*\)", f"'shape': {shape}", header)
    else:
        header = re.sub(r"'descr': '[^']*'", f"'descr': '{kind}'", header)
    text = generator.choice([header, header.replace("}", ""), f"{header[:-1]}\n", header]).encode("latin1")
    return content[:8] + struct.pack("<H", len(text)) + text + rest


def change_png_chunk(content: bytes, generator: random.Random) -> bytes:
    """Damage a chunk of a PNG and correct its checksum."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        size = struct.unpack(">I", content[at : at + 4])[0]
        chunks.append([content[at + 4 : at + 8], content[at + 8 : at + 8 + size]])
        at += 12 + size
    if not chunks:
        return content
    chosen = generator.choice([chunks[0], *chunks])
    what = generator.randrange(4)
    if what == 0 and chosen[0] == b"IHDR":
        sides = [generator.choice([0, 1, 2, 60000, 2**31 - 1, 40_000_000]) for _ in range(2)]
        chosen[1] = struct.pack(">II", *sides) + chosen[1][8:]
    elif what == 1:
        name = generator.choice([b"tEXt", b"iCCP", b"PLTE", b"tRNS", b"acTL"])
        chunks.insert(generator.randrange(len(chunks)), [name, generator.randbytes(generator.choice([0, 3, 700]))])
    elif what == 2:
        chunks.remove(chosen)
    else:
        chosen[1] = flip(chosen[1], generator)
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return content[:8] + b"".join(parts)


def change_inside_gzip(content: bytes, generator: random.Random) -> bytes:
    """Replace the content of a gzip file that stays valid, sometimes by very many bytes."""
    inside = gzip.decompress(content)
    changed = generator.choice([flip, truncate, put_number, extend, blank])(inside, generator)
    if generator.random() < 0.05:
        changed += b"\0" * (200 << 20)
    return gzip.compress(changed, 1)


def change_member(content: bytes, generator: random.Random) -> bytes:
    """Damage, rename or repeat a member of a zip that stays valid."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    i = generator.randrange(len(members))
    name, data = members[i]
    inside = [flip, truncate, blank, put_number, *([change_npy_header] if name.endswith(".npy") else [])]
    what = generator.randrange(5)
    if what < 3:
        members[i] = name, generator.choice(inside)(data, generator)
    elif what == 3:
        members[i] = (
            generator.choice(["../../outside.png", "/etc/x.png", "a\0b.png", "x/", name.upper(), "é.png"]),
            data,
        )
    else:
        del members[i]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", generator.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def lie_about_sizes(content: bytes, generator: random.Random) -> bytes:
    """Another size in the directory of a zip."""
    places = [found.start() for found in re.finditer(rb"PK\x01\x02", content)]
    if not places:
        return content
    at = generator.choice(places) + generator.choice([10, 16, 20, 24, 28, 42])
    return content[:at] + struct.pack("<I", generator.choice(EXTREMES) % 2**32) + content[at + 4 :]


def change_tensor_header(content: bytes, generator: random.Random) -> bytes:
    """A node of the header of a safetensors file, whose length is set right."""
    size = struct.unpack("<Q", content[:8])[0]
    header = change_tree(content[8 : 8 + size], generator)
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


def change_tiff_entry(content: bytes, generator: random.Random) -> bytes:
    """A number in the first directory of a little-endian TIFF."""
    if len(content) < 8 or content[:2] != b"II":
        return flip(content, generator)
    at = struct.unpack("<I", content[4:8])[0]
    count = struct.unpack("<H", content[at : at + 2])[0] if at + 2 <= len(content) else 0
    if not count:
        return flip(content, generator)
    place = at + 2 + 12 * generator.randrange(count) + generator.choice([0, 2, 4, 8])
    size = 2 if place % 4 else 4
    number = (generator.choice(EXTREMES) % 2 ** (8 * size)).to_bytes(size, "little")
    return content[:place] + number + content[place + size :]


TEXT = [change_token, change_lines]
OWN: dict[str, list[Mutate]] = {
    ".toml": [change_token, change_lines],
    ".csv": TEXT,
    ".txt": TEXT,
    ".log": TEXT,
    ".json": [change_tree, change_tree, change_tree, change_token],
    ".npy": [change_npy_header],
    ".png": [change_png_chunk],
    ".gz": [change_inside_gzip],
    ".zip": [change_member, lie_about_sizes],
    ".npz": [change_member, lie_about_sizes],
    ".safetensors": [change_tensor_header],
    ".tif": [change_tiff_entry],
}
"""Damage that suits a format, by the ending of the file."""
