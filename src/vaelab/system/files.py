"""Files that are whole or not there: atomic writes, digests, and tensor files that notice a flipped bit."""

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from torch import Tensor

_ASKING = threading.Lock()


class DamagedFile(ValueError):
    """A file whose content is not what was written."""


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write ``content`` so that ``path`` holds either the old or the new content, whenever the process dies."""
    with writing_atomic(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def writing_atomic(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, hidden beside ``path``, that takes its name when the context ends well, else goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    partial = Path(name)
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


def free_path(path: Path) -> Path:
    """``path``, or the first of ``path-2``, ``path-3`` … that does not exist yet."""
    count, candidate = 1, path
    while candidate.exists():
        count += 1
        candidate = path.with_name(f"{path.stem}-{count}{path.suffix}")
    return candidate


def save_tensors(path: Path, tensors: "Mapping[str, Tensor]", facts: Mapping[str, object]) -> None:
    """Write tensors and JSON-able facts as one safetensors file with a SHA-256 of both in its header."""
    from safetensors.torch import save

    arrays = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    text = json.dumps(dict(facts), sort_keys=True, ensure_ascii=False)
    # One entry alone: safetensors writes several in an order that differs from process to process.
    header = json.dumps({"sha256": _digest(arrays, text), "facts": text}, ensure_ascii=False)
    write_atomic(path, save(arrays, {"vaelab": header}))


def load_tensors(path: Path) -> "tuple[dict[str, Tensor], dict[str, object]]":
    """Tensors and facts of a file that ``save_tensors`` wrote; DamagedFile when a single bit differs.

    Nothing in the file is executed.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such run or file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (SafetensorError, UnicodeDecodeError, MemoryError, OverflowError, ValueError, KeyError) as error:
        raise DamagedFile(f"{path} is damaged, or none of vaelab's files ({error})") from None
    try:
        header = json.loads(metadata["vaelab"])
        digest, text = str(header["sha256"]), str(header["facts"])
    except (KeyError, TypeError, ValueError):
        raise DamagedFile(f"{path} was not written by vaelab, or its header is damaged") from None
    if digest != _digest(arrays, text):
        raise DamagedFile(f"{path} is damaged: its SHA-256 does not match its content")
    facts: dict[str, object] = json.loads(text)
    return arrays, facts


def _digest(arrays: "Mapping[str, Tensor]", text: str) -> str:
    import torch

    digest = hashlib.sha256(text.encode())
    for name, tensor in arrays.items():
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _umask() -> int:
    with _ASKING:  # it can only be read by setting it
        mask = os.umask(0)
        os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; Windows has no way to open a folder and needs none."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
