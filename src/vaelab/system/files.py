"""Atomic writes and checked reads of regular files, JSON and tensors."""

import hashlib
import json
import os
import re
import shutil
import stat
import threading
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from vaelab.system.errors import InputError
from vaelab.system.partials import PARTIAL_ENDING, partial_file

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
NAME_BYTES = 255
"""Longest file name of common file systems, in bytes of UTF-8."""
EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,8}")
MAX_JSON_BYTES = 1 << 28
"""Size above which JSON files are refused; vaelab writes none so large."""
READ_BYTES = 1 << 20
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class DamagedFile(InputError):
    """A file whose content differs from what was written; ``remedy`` says what to do."""

    def __init__(self, path: Path, reason: str, remedy: str = "") -> None:
        super().__init__(f"{path} is damaged: {reason}{f'; {remedy}' if remedy else ''}", subject=path)
        self.path, self.reason, self.remedy = path, reason, remedy

    def __reduce__(self) -> tuple[type["DamagedFile"], tuple[Path, str, str]]:
        return type(self), (self.path, self.reason, self.remedy)


class NotAFile(InputError):
    """A path of a folder, pipe, socket or device where a file is needed."""


def check_file(path: Path) -> os.stat_result:
    """Return the ``stat`` of a regular file; NotAFile for anything else, FileNotFoundError if nothing exists.

    Call this before opening a path given by the user: opening a named pipe waits for a writer forever.
    """
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        kind = KINDS.get(stat.S_IFMT(state.st_mode), "something else")
        raise NotAFile(f"{path} is {kind}, not a file", subject=path)
    return state


def check_parents(path: Path) -> None:
    """Raise FileNotFoundError if the folder of ``path`` does not exist, NotADirectoryError if a parent is a file."""
    for parent in path.parents:
        if parent.is_dir():
            break
        if os.path.lexists(parent):
            raise NotADirectoryError(f"{parent} is a file, so it cannot contain {path}; choose another --out")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder; make it first, or choose another --out")


class DiskFull(OSError):
    """The disk of ``folder`` has ``free`` bytes, fewer than the ``needed`` ones."""

    def __init__(self, folder: Path, needed: int, free: int, purpose: str, remedy: str) -> None:
        super().__init__(
            f"{folder}: {purpose} needs {needed / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free; free some space, or "
            f"{remedy}"
        )
        self.folder, self.needed, self.free = folder, needed, free


def check_free_space(folder: Path, needed: int, purpose: str, remedy: str) -> None:
    """Raise DiskFull if the disk that holds ``folder`` has fewer than ``needed`` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFull(folder, needed, free, purpose, remedy)


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file; InputError for more than ``max_bytes``, NotAFile as ``check_file``."""
    check_file(path)
    content = bytearray()
    with path.open("rb") as file:
        while part := file.read(READ_BYTES):
            content += part
            if len(content) > max_bytes:
                raise InputError(f"{path} has more than {max_bytes:,} bytes", subject=path)
    return bytes(content)


def read_json(path: Path, model: type[T], *, remedy: str = "remove it") -> T:
    """Return the content of a JSON file as ``model``, a type that pydantic validates (BaseModel, dataclass, ``dict``).

    Raises DamagedFile with ``remedy`` if it is not UTF-8, not JSON, of another shape, larger than ``MAX_JSON_BYTES`` or
    no regular file, and OSError if it cannot be read.
    """
    try:
        content = json.loads(read_bytes(path, MAX_JSON_BYTES))
    except RecursionError:
        raise DamagedFile(path, "its values are nested too deeply", remedy) from None
    except ValueError as error:  # not UTF-8, not JSON, or a number with thousands of digits
        raise DamagedFile(path, str(error), remedy) from None
    return check_shape(path, content, model, remedy)


def check_shape(path: Path, content: object, model: type[T], remedy: str = "") -> T:
    """Return the content of ``path`` as ``model``, validated by pydantic; DamagedFile with ``remedy`` if it differs."""
    from pydantic import ValidationError

    try:
        found: T = _adapter(cast("Hashable", model)).validate_python(content)
        return found
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DamagedFile(path, f"{where}: {first['msg']}" if where else first["msg"], remedy) from None
    except RecursionError:
        raise DamagedFile(path, "its values are nested too deeply", remedy) from None


def to_json(content: object) -> str:
    """Return ``content`` as the text of a JSON file; names that are not UTF-8 are escaped and read back unchanged."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    is_utf8 = text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)
    return f"{text if is_utf8 else json.dumps(content, indent=2)}\n"


@lru_cache(64)
def _adapter(model: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(model)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write ``content`` so that ``path`` holds the old or the new content, even if the process dies meanwhile.

    Text is written as UTF-8. Surrogates, which stand for bytes of file names that are not UTF-8, are escaped
    (``\\udcff``), and JSON reads them back unchanged.
    """
    with writing_atomic(path) as file:
        file.write(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)


@contextmanager
def writing_atomic(path: Path) -> Iterator[BinaryIO]:
    """Yield a hidden file beside ``path``; it gets its name when the context ends and is removed after an error.

    Partial files that killed processes left for the same path are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial_file(path.parent, _cut(path.name, NAME_BYTES - len(PARTIAL_ENDING))) as (handle, partial):
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.chmod(0o666 & ~_umask())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    _sync_folder(path.parent)


def unique_path(path: Path) -> Path:
    """Return ``path`` or the first of ``path-2``, ``path-3`` … that does not exist; long names are shortened."""
    stem, extension = split_extension(path.name)
    count, candidate = 1, path.with_name(fit_name(path.name))
    while os.path.lexists(candidate):
        count += 1
        candidate = path.with_name(fit_name(f"{stem}-{count}{extension}"))
    return candidate


def fit_name(name: str, most: int = NAME_BYTES) -> str:
    """Return ``name``, shortened to ``most`` bytes of UTF-8 if it is longer.

    A shortened name consists of the beginning, a digest of the whole name, and the extension, so that different names
    stay different.
    """
    if _size(name) <= most:
        return name
    stem, extension = split_extension(name)
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    tail = f"-{digest}{extension}"
    return _cut(stem, most - _size(tail)).rstrip(" .-") + tail


def split_extension(name: str) -> tuple[str, str]:
    """Return a file name without its extension, and the extension with its dot; ``.steps=60`` is no extension."""
    stem, dot, extension = name.rpartition(".")
    return (stem, dot + extension) if stem and EXTENSION.fullmatch(dot + extension) else (name, "")


def _size(name: str) -> int:
    return len(name.encode("utf-8", "surrogatepass"))


def _cut(name: str, most: int) -> str:
    """Return the longest beginning of a name that has at most ``most`` bytes."""
    while _size(name) > most:
        name = name[:-1]
    return name


def save_tensors(path: Path, tensors: "Mapping[str, Tensor]", facts: Mapping[str, object]) -> None:
    """Write tensors and facts as the file that ``pack_tensors`` describes."""
    write_atomic(path, pack_tensors(tensors, facts))


def pack_tensors(tensors: "Mapping[str, Tensor]", facts: Mapping[str, object]) -> bytes:
    """Return tensors and facts (values of JSON) as a safetensors file with a SHA-256 of both in its header."""
    from safetensors.torch import save

    arrays = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    text = json.dumps(dict(facts), sort_keys=True, ensure_ascii=False)
    # a single entry, since safetensors writes several in an order that differs between processes
    header = json.dumps({"sha256": _digest(arrays, text), "facts": text}, ensure_ascii=False)
    packed: bytes = save(arrays, {"vaelab": header})
    return packed


def load_tensors(path: Path, *, remedy: str = "") -> "tuple[dict[str, Tensor], dict[str, object]]":
    """Return the tensors and facts of a file that ``save_tensors`` wrote. Nothing in the file is executed.

    Raises DamagedFile with ``remedy`` if any bit differs, and FileNotFoundError if there is no file.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such run or file")
    try:
        with _utf8_name(path) as name, safe_open(name, framework="pt") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (SafetensorError, UnicodeDecodeError, MemoryError, OverflowError, ValueError, KeyError) as error:
        raise DamagedFile(path, f"not a safetensors file, or incomplete ({error})", remedy) from None
    try:
        header = json.loads(metadata["vaelab"])
        digest, text = str(header["sha256"]), str(header["facts"])
    except (KeyError, TypeError, ValueError, RecursionError):
        raise DamagedFile(path, "its header cannot be read; it may not be a file of vaelab", remedy) from None
    if digest != _digest(arrays, text):
        raise DamagedFile(path, "its SHA-256 does not match its content", remedy)
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise DamagedFile(path, "the facts in its header are not a JSON object", remedy)
    return arrays, facts


@contextmanager
def _utf8_name(path: Path) -> Iterator[Path]:
    """Yield a name of the file in UTF-8, for libraries that accept no other: its own, or that of a descriptor."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as file:
            yield Path(f"/dev/fd/{file.fileno()}")
    else:
        yield path


def _digest(arrays: "Mapping[str, Tensor]", text: str) -> str:
    import torch

    digest = hashlib.sha256(text.encode())
    for name, tensor in arrays.items():
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


_umask_lock = threading.Lock()


def _umask() -> int:
    with _umask_lock:  # the mask can only be read by setting it
        mask = os.umask(0)
        os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; Windows cannot open folders and does not need this."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
