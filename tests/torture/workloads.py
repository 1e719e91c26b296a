"""The commands that are disturbed, the files they start from, and the files an undisturbed command leaves."""

import hashlib
import json
import os
import shutil
import stat
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from PIL import Image

from .campaign import Campaign, Failed
from .children import Ended, Limits, Strace, run_command

TINY = tuple(
    word
    for value in ("network.name=mlp", "network.hidden=[8]", "training.steps=40", "training.checkpoint_every=15",
                  "training.threads=1", 'training.figures=["losses"]')
    for word in ("--set", value)
)  # fmt: skip
GROWING = ("*/history.csv", "*/timing.csv", "*/validation.csv", "*/run.log", "*.part/*", "*.part", "*.lock")
"""Files that may be half written, because each line counts for itself or a journal lists their contents."""

DATED = ("*/run.log", "*/timing.csv", "*/machine.json", "*/images/*/manifest.json", "*/.onnxruntime/*")
"""Files with dates or a history in them, which may be equal by accident, and those of ONNX Runtime."""
KEPT = ("*.lock", "*/.onnxruntime/*", "*.csv.before", "*.csv.before-*")
"""Files that may be left: the rows of a run that was stopped before its first checkpoint are kept."""


@dataclass(frozen=True)
class Workload:
    """One command."""

    words: tuple[str, ...]
    again: tuple[str, ...] = ()
    """Words added when the command is repeated."""
    clear: str = ""
    """A folder that the user must remove before repeating the command."""


WORKLOADS = {
    "train": Workload(("train", "digits", *TINY, "--run", "new")),
    "train-folder": Workload(("train", "folder", "--data", "pictures", "--set", "data.size=8", *TINY, "--run", "new")),
    "cache": Workload(("data", "cache", "pictures", "--set", "data.size=16")),
    "encode": Workload(("encode", "run", "images.npy", "--out", "codes.csv"), ("--overwrite",)),
    "encode-parquet": Workload(("encode", "run", "pictures", "--out", "codes.parquet"), ("--overwrite",)),
    "encode-npz": Workload(("encode", "run", "--out", "codes.npz"), ("--overwrite",)),
    "score": Workload(("score", "run", "images.npy", "--out", "scores.csv"), ("--overwrite",)),
    "sample": Workload(("sample", "run", "-n", "9", "--out", "samples.png"), ("--overwrite",)),
    "sample-folder": Workload(("sample", "run", "-n", "9", "--out", "samples"), clear="samples"),
    "reconstruct": Workload(("reconstruct", "run", "images.npy", "--out", "rebuilt.png"), ("--overwrite",)),
    "evaluate": Workload(("evaluate", "run", "--metrics", "elbo,active_units,nll", "--set", "nll.samples=10")),
    "figures": Workload(("figures", "run", "--only", "losses,samples")),
    "report": Workload(("report", "run")),
    "doctor": Workload(("doctor", "run")),
    "compare": Workload(("compare", "run", "other", "--out", "compared"), ("--overwrite",)),
    "export-web": Workload(("export", "run", "site", "--to", "web", "--points", "50"), ("--overwrite",)),
    "sweep": Workload(("sweep", "digits", "--over", "objective.beta=1,2", *TINY, "--out", "swept")),
}


class Stage:
    """The folder in which every case is run: always the same path, refilled from a template."""

    def __init__(self, place: Path, outputs: Path, template: str = "template") -> None:
        self.folder, self.outputs = place / "case", outputs
        self._template = place / template
        outputs.mkdir(parents=True, exist_ok=True)
        self.environment = {"XDG_CACHE_HOME": str(self.folder / "cache"), "PYTHONHASHSEED": "0"}
        self._whole: dict[str, tuple[dict[str, str], set[str], float]] = {}

    def prepare(self) -> None:
        """Fill the template if it is missing: two small runs, pictures, arrays."""
        if self._template.exists():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        random = np.random.default_rng(0)
        for i in range(24):
            path = self.folder / "pictures" / ("cat" if i % 2 else "dog") / f"{i:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (12, 10), dtype=np.uint8)).save(path)
        (self.folder / "pictures" / "cat" / "broken.png").write_bytes(path.read_bytes()[:60])
        np.save(self.folder / "images.npy", random.integers(0, 256, (12, 28, 28), dtype=np.uint8))
        for name, seed in (("run", "0"), ("other", "1")):
            self.expect(self.run(("train", "digits", *TINY, "--run", name, "--seed", seed)), (0,))
        self.keep_as_template()

    def keep_as_template(self) -> None:
        """Make the present content of the folder the start of every case."""
        shutil.rmtree(self._template, ignore_errors=True)
        self.folder.rename(self._template)

    def refill(self) -> None:
        """Restore the folder to the start of a case."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self._template, self.folder, symlinks=True)

    @property
    def log(self) -> Path:
        """The log of strace."""
        return self.outputs / "strace.log"

    def run(self, words: tuple[str, ...], *, limits: Limits | None = None, strace: Strace | None = None) -> Ended:
        """Run a command in the folder."""
        return run_command(words, self.folder, self.outputs, environment=self.environment, limits=limits, strace=strace)

    def whole(self, name: str) -> tuple[dict[str, str], set[str], float]:
        """Run a command undisturbed: path → digest of files that are the same each time, all paths, seconds."""
        if name not in self._whole:
            found = []
            for _ in range(2):
                self.refill()
                ended = self.run(WORKLOADS[name].words)
                self.expect(ended, (0,))
                found.append(manifest(self.folder))
            first, second = found
            if set(first) != set(second):
                raise Failed(f"two undisturbed commands leave other files: {sorted(set(first) ^ set(second))}")
            dated = (*DATED, "*/report.html") if WORKLOADS[name].words[0] in ("train", "sweep") else DATED
            same = {
                path: digest for path, digest in first.items() if second[path] == digest and not matches(path, dated)
            }
            self._whole[name] = same, set(first), ended.seconds
        return self._whole[name]

    def can_play(self, campaign: Campaign, name: str) -> bool:
        """Return whether a command succeeds undisturbed; if not, record a failure."""
        try:
            self.whole(name)
        except Failed as error:
            campaign.fail(f"{name}-0", f"undisturbed: {error}", self.folder)
            return False
        return True

    def expect(self, ended: Ended, codes: tuple[int, ...]) -> None:
        """Raise Failed if a command ended with another exit code, hung, or printed a traceback."""
        last = " / ".join(ended.err.strip().splitlines()[-3:])
        if ended.timed_out:
            raise Failed(f"hangs: not done after {ended.seconds:.0f} s; {last}")
        if "Traceback" in ended.err or "for a traceback:" in ended.err:
            raise Failed(f"an error that nobody foresaw: {last}")
        if ended.code not in codes:
            raise Failed(f"exit code {ended.code}, expected {' or '.join(map(str, codes))}; {last}")
        if ended.code and not (ended.err + ended.out).strip():
            raise Failed("exit code 1 without a word")

    def check_untouched_or_whole(self, name: str) -> None:
        """Raise Failed if a file has its final name but neither its old nor its final content."""
        same, _, _ = self.whole(name)
        before = manifest(self._template)
        for path, digest in manifest(self.folder).items():
            is_other = path in same and digest not in (same[path], before.get(path))
            if is_other and not matches(path, GROWING) and not is_whole(self.folder / path):
                raise Failed(f"{path} is half written under its final name")

    def check_finishes(self, name: str) -> None:
        """Repeat the command undisturbed: it must leave the same files as without any disturbance."""
        workload = WORKLOADS[name]
        same, paths, _ = self.whole(name)
        if workload.clear:
            shutil.rmtree(self.folder / workload.clear, ignore_errors=True)
        self.expect(self.run((*workload.words, *workload.again)), (0,))
        found = manifest(self.folder)
        for path in paths:
            if path not in found and "/cache/" not in f"/{path}":
                raise Failed(f"{path} is missing in the end")
        for path, digest in same.items():
            if found.get(path, digest) != digest:
                raise Failed(f"{path} differs from that of an undisturbed command")
        litter = sorted(path for path in set(found) - paths if not matches(path, KEPT))
        if litter:
            raise Failed(f"left behind: {', '.join(litter[:4])}")


def matches(path: str, patterns: tuple[str, ...]) -> bool:
    """Return whether a path in the folder matches one of the patterns."""
    return any(fnmatch(f"/{path}", pattern) for pattern in patterns)


def is_whole(path: Path) -> bool:
    """Return whether a file that is written more than once is complete in itself."""
    content = path.read_bytes()
    if path.suffix == ".json":
        try:
            return isinstance(json.loads(content), dict)
        except ValueError:
            return False
    if path.suffix == ".png":
        try:
            Image.open(path).load()
        except (OSError, ValueError, SyntaxError):
            return False
        return True
    return path.suffix == ".html" and content.rstrip().endswith(b"</html>")


def manifest(folder: Path) -> dict[str, str]:
    """Return path → SHA-256 of every file in a folder."""
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root) / name
            kind = path.lstat().st_mode
            content = path.read_bytes() if stat.S_ISREG(kind) else str(stat.S_IFMT(kind)).encode()
            found[path.relative_to(folder).as_posix()] = hashlib.sha256(content).hexdigest()
    return found
