"""``vaelab doctor``: look for problems in a run."""

from pathlib import Path

from vaelab.api.load import load
from vaelab.api.report import update_report
from vaelab.api.run_images import load_run_images
from vaelab.data.images import Images, spread_rows
from vaelab.data.tensors import as_tensor, to_float
from vaelab.evaluation.doctor import Evidence, Finding, examine, find_damage, sort_findings
from vaelab.evaluation.evaluate import load_codes
from vaelab.models.vae import VAE
from vaelab.run import FINDINGS, HISTORY, VALIDATION, Run
from vaelab.system.arguments import AnyPath
from vaelab.system.failures import Failures, OnFailure

NUM_INSPECTED = 512
"""Number of images whose pixels are inspected: enough to tell how the images are distributed."""


def doctor(run_path: AnyPath, *, data: str | Path | None = None, out: str | Path | None = None) -> list[Finding]:
    """Check a run for problems, store the findings in doctor.json and the report, and return them, problems first.

    ``out``: a directory for both (default: the run). Raises PartialFailure after the other findings are stored.
    """
    run, failures = Run(run_path, results=out), Failures()
    model = load(run)
    run.check_writable()
    before = [] if any(error.path.name == FINDINGS for error in run.find_damage()) else run.findings
    findings = update_findings(run, model, load_run_images(run, data).valid, failures)
    if run.findings != before or run.is_report_stale:
        update_report(run, model)
    failures.raise_any("checks that failed")
    return findings


def update_findings(run: Run, model: VAE, held_out: Images, on_failure: OnFailure) -> list[Finding]:
    """Examine a trained run and its held-out images, write doctor.json and return the findings.

    A check that fails is passed to ``on_failure``; the others go on.
    """
    inspected = held_out.take(spread_rows(len(held_out), NUM_INSPECTED))
    damage = [error for error in run.find_damage() if error.path.name != FINDINGS]
    damaged = {error.path.name for error in damage}
    evidence = Evidence(
        recipe=run.recipe,
        spec=model.spec,
        history={} if HISTORY in damaged else run.history,
        validation={} if VALIDATION in damaged else run.validation,
        codes=load_codes(run, model, held_out),
        originals=to_float(as_tensor(inspected.pixels[:])).numpy(),
        reconstructions=model.reconstruct(inspected),
    )
    findings = sort_findings([*find_damage(damage), *examine(evidence, on_failure)])
    run.write_json(FINDINGS, {"findings": [vars(finding) for finding in findings]})
    return findings
