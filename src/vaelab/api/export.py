"""``vaelab export``: a model as ONNX graphs, as PyTorch programs, or as a page without a server."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import torch

from vaelab.api.explore import open_payload
from vaelab.api.load import load
from vaelab.api.output_paths import default_out, get_extension, is_folder
from vaelab.exporters.markdown import render_markdown
from vaelab.exporters.onnx import compare_graphs, make_graphs
from vaelab.exporters.onnxruntime_web import Runtime, find_runtime
from vaelab.exporters.points import IMAGE_BYTES, NUM_POINTS, choose_count, subsample_points
from vaelab.exporters.single_file import join_files
from vaelab.exporters.target import (
    MANIFEST,
    Kind,
    check_file,
    check_folder,
    make_manifest,
    write_folder,
)
from vaelab.exporters.torch_program import compare_programs, make_programs
from vaelab.exporters.web import MARK, make_folder, sum_parts
from vaelab.models.vae import VAE
from vaelab.run import Run
from vaelab.system.arguments import AnyPath, check_whole
from vaelab.system.device import disable_tf32
from vaelab.system.errors import UsageError
from vaelab.system.files import check_parents, write_atomic
from vaelab.system.noise import generator
from vaelab.system.registry import unknown

TOLERANCE = 1e-3
"""Largest allowed difference between an export and the model, far above rounding and far below any mistake."""
NUM_COMPARED = 4
"""Number of random images on which an export and the model are compared."""
PAGES = (".html", ".htm")


@dataclass(frozen=True)
class Exported:
    """The result of an export."""

    path: Path
    sizes: dict[str, int]
    """Part → bytes."""
    difference: float
    """Largest difference from the model in means and images, and relative one in reconstruction losses."""
    notes: tuple[str, ...] = ()


def export(
    run_path: AnyPath,
    *,
    to: Kind,
    out: str | Path | None = None,
    points: int | None = None,
    runtime: str | Path | None = None,
    single_file: bool = False,
    overwrite: bool = False,
    data: str | Path | None = None,
) -> Exported:
    """Export the model of a run as ONNX graphs ("onnx"), PyTorch programs ("torch") or the explorer's page ("web").

    ``out``: a new folder, or with ``single_file`` a new .html (default: a new name). With ``overwrite`` the files of an
    earlier export are replaced; other files are never replaced. The page contains ``points`` training images (default:
    5,000, or as many as fit in 8 MB) and uses onnxruntime-web from the folder ``runtime``, the cache, npm or a CDN. A
    single file cannot use the CDN.
    """
    if to not in get_args(Kind):
        raise unknown("export", to, get_args(Kind))
    if to != "web" and (points is not None or runtime is not None or single_file):
        raise UsageError("--points, --runtime and --single-file need --to web", subject="to", value=to)
    points = None if points is None else check_whole(points, "points", 2)
    run = Run(run_path)
    path = _choose_path(run, to, out, single_file=single_file, overwrite=overwrite)
    if to != "web":
        return _export_networks(run, path, to)
    found = find_runtime(Path(runtime) if runtime is not None else None)
    if single_file and found.files is None:
        message = f"a single file needs onnxruntime-web, which is not here ({found.origin}); name it: --runtime"
        raise UsageError(message, subject="runtime", value=runtime)
    return _export_web(run, path, found, points, single_file=single_file, data=data)


def _choose_path(run: Run, to: Kind, out: str | Path | None, *, single_file: bool, overwrite: bool) -> Path:
    """Return the folder or page to write; UsageError for the wrong extension, FileExistsError if it is in use."""
    suffix = ".html" if single_file else f"-{to}"
    path = Path(out) if out is not None else default_out(run, suffix)
    check_parents(path)
    into_folder = out is not None and is_folder(out)
    if single_file:
        path = path / f"{run.name}.html" if into_folder else path
        if get_extension(path) not in PAGES:
            raise UsageError(f"{path}: a single file needs a name that ends in .html", subject="out", value=path)
        check_file(path, MARK.encode(), overwrite=overwrite)
    else:
        if get_extension(path) in PAGES and not into_folder:
            message = f"{path}: a page in one file needs --single-file; for a folder of this name end it with /"
            raise UsageError(message, subject="out", value=path)
        check_folder(path, overwrite=overwrite)
    return path


def _export_networks(run: Run, path: Path, to: Kind) -> Exported:
    model = load(run)
    networks, about, difference = convert_networks(run, model, to, run.name)
    values = {
        "name": run.name,
        "likelihood": about["likelihood"],
        "vaelab": about["vaelab"],
        "torch": torch.__version__,
    }
    readme = render_markdown(f"{to}_readme.md.jinja", model, run.recipe, repository="", **values)
    files = {**networks, "README.md": readme.encode()}
    write_folder(path, {**files, MANIFEST: make_manifest(to, run.name, {"about": about}, files)})
    return Exported(path, {name: len(content) for name, content in networks.items()}, difference)


def _export_web(
    run: Run, path: Path, runtime: Runtime, points: int | None, *, single_file: bool, data: str | Path | None
) -> Exported:
    payload, model = open_payload(run, data=data, device="cpu")
    graphs, _, difference = convert_networks(run, model, "onnx", run.name)
    count = min(points or choose_count(payload), len(payload.means))
    files = make_folder(subsample_points(payload, count), graphs, runtime)
    notes = [
        f"it contains {count:,} of {payload.manifest['total']:,} training images, visible to everyone who opens it"
    ]
    if points is None and count < min(NUM_POINTS, len(payload.means)):
        notes.append(f"more do not fit in {IMAGE_BYTES / 1e6:g} MB; --points N includes N of them")
    notes.append(f"onnxruntime-web comes from {runtime.origin}")
    if single_file:
        page = join_files(files)
        write_atomic(path, page)
        sizes = {"page": len(page)}
    else:
        write_folder(path, files)
        sizes = sum_parts(files)
    return Exported(path, sizes, difference, tuple(notes))


def convert_networks(run: Run, model: VAE, to: Kind, name: str) -> tuple[dict[str, bytes], Mapping[str, str], float]:
    """Return the files of a model, their facts, and their difference from it; RuntimeError if that is large.

    ``name`` is the name of the run in the facts.
    """
    channels, height, width = model.spec.image_shape
    about = {
        "vaelab": version("vaelab"),
        "run": name,
        "image_shape": f"{channels} {height} {width}",
        "latent_dim": str(model.spec.latent_dim),
        "likelihood": str(run.recipe.likelihood["name"]),
    }
    make, compare = (make_programs, compare_programs) if to == "torch" else (make_graphs, compare_graphs)
    files = make(model, about)
    levels = torch.randint(256, (NUM_COMPARED, *model.spec.image_shape), generator=generator(0, "export"))
    with disable_tf32():
        difference = compare(model, files, levels.float().div_(255))
    if not difference <= TOLERANCE:
        raise RuntimeError(f"the export of {run.path} differs from its model by {difference:.1g}: nothing was written")
    return files, about, difference
