"""After training: evaluate, draw figures, run the doctor and write the report."""

from collections.abc import Callable

import torch

from vaelab.api.answers import keep_answer
from vaelab.api.doctor import update_findings
from vaelab.api.evaluate import load_evaluation
from vaelab.api.figures import update_figures
from vaelab.api.load import load
from vaelab.api.report import update_report
from vaelab.api.run_images import RunImages
from vaelab.api.run_sampler import store_sampler
from vaelab.evaluation.evaluate import default_metrics, measure_run
from vaelab.run import EVALUATION, FINDINGS, MACHINE, SAMPLER, Run
from vaelab.system.failures import Failures, OnFailure, describe_error, is_of_system
from vaelab.system.machine import now


def complete_run(
    run: Run, images: RunImages, device: torch.device, data_dir: str | None, tell: Callable[..., None]
) -> None:
    """Evaluate, draw, examine and report what a trained run lacks, then mark it as finished.

    A metric, a figure or a check that fails is reported by ``tell`` and left out. Damaged files are set aside and made
    again.
    """
    for name in (error.path.name for error in run.find_damage() if error.path.name in (EVALUATION, FINDINGS, SAMPLER)):
        tell(f"{run.path / name} is damaged: it is set aside as {run.set_aside(name).name}", warning=True)
    model = load(run.path)
    model.to(device)

    def report_failure(kind: str) -> OnFailure:
        return lambda name, error: tell(f"{kind} {name} is left out: {describe_error(error)}", warning=True)

    try:
        store_sampler(run, model, images)
    except Exception as error:
        if is_of_system(error):
            raise
        report_failure("sampler")(run.recipe.sampler["name"], error)
    metrics = default_metrics("train")
    evaluation = load_evaluation(run, model, images, metrics)
    measure_run(run, evaluation, images.protocol, metrics, on_failure=report_failure("metric"))
    if EVALUATION in run.missing:
        run.write_json(EVALUATION, {})  # every metric failed
    if "finished" in run.machine:
        figures = run.machine.get("figures", [])
        if missing := [name for name in figures if name not in run.figures]:
            update_figures(run, model, images, report_failure("figure"), missing)
    else:
        figures = update_figures(run, model, images, report_failure("figure"), run.recipe.training.figures)
    failures = Failures()

    def report_check(name: str, error: Exception) -> None:
        failures(name, error)
        report_failure("check")(name, error)

    findings = update_findings(run, model, images.valid, report_check)
    finished = now()
    for problem in update_report(run, model, finished):
        tell(problem, warning=True)
    run.write_json(MACHINE, {**run.machine, "data_dir": data_dir, "figures": list(figures), "finished": finished})
    if not (failures.reasons or run.selections):  # pictures may have changed since they were read
        keep_answer(run, "doctor", {}, {"findings": [vars(finding) for finding in findings]})
