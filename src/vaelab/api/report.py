"""``vaelab report``: write the report of a run."""

from pathlib import Path

from vaelab.api.load import load
from vaelab.build import beta_equivalents
from vaelab.data.images import name_channels
from vaelab.exporters.report import write_report
from vaelab.models.vae import VAE
from vaelab.recipe import Recipe
from vaelab.run import REPORT, Run
from vaelab.system import registry
from vaelab.system.arguments import AnyPath
from vaelab.system.messages import warn


def report(run_path: AnyPath, *, out: str | Path | None = None) -> Path:
    """Write the report of a run again from the files in its directory, and return its path.

    ``out``: a directory for the report (default: the run). A file that cannot be read is left out, with a note in the
    report and a VaelabWarning.
    """
    run = Run(run_path, results=out)
    model = load(run)
    run.check_writable()
    for problem in update_report(run, model):
        warn(problem)
    return run.results / REPORT


def update_report(run: Run, model: VAE, finished: str | None = None) -> list[str]:
    """Write the report of ``run`` from the files in its directory; return a sentence for each that cannot be read."""
    drawn = [name for name in registry.names("figures") if name in run.figures]
    order = {name: getattr(registry.load("figures", name), "ORDER", 99) for name in drawn}
    figures = sorted(order, key=lambda name: (order[name], name))
    return write_report(run, figures, describe_model(run.recipe, model), finished)


def describe_model(recipe: Recipe, model: VAE) -> dict[str, str]:
    """Return label → text about a model: sizes, parameters, β in the conventions of other papers."""
    spec, counts = model.spec, model.num_parameters
    channels, height, width = spec.image_shape
    equivalents = beta_equivalents(recipe, spec)
    lines = {
        "images": f"{spec.num_images:,} for training, {height}×{width}, {name_channels(channels)}",
        "latents": str(spec.latent_dim),
        "parameters": f"{sum(counts.values()):,} (encoder {counts['encoder']:,}, decoder {counts['decoder']:,})",
    }
    if "beta" in equivalents:
        lines["β"] = f"{equivalents['beta']:g} (normalised, β·d/D: {equivalents['beta_normalised']:.4g})"
    if "sigma" in equivalents:
        lines["equivalent decoder σ"] = f"{equivalents['sigma']:.4g}"
    return lines
