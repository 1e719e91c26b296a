"""``vaelab figures``, ``report``, ``evaluate``, ``doctor``: what comes after training."""

from typing import Annotated

import typer

from vaelab.cli.options import FAILED, DataOption, JsonOption, ResultsOption, RunArgument, app, names_of, overrides_of
from vaelab.cli.terminal import print_json, print_note, show_progress, table

SIGNS = {"problem": "✗", "notice": "!", "fine": "✓"}


@app.command()
def figures(
    run: RunArgument,
    only: Annotated[str | None, typer.Option("--only", help="Names, separated by commas (default: all).")] = None,
    data: DataOption = None,
    out: ResultsOption = None,
) -> None:
    """Draw the figures of a run again.

    Example: vaelab figures runs/mnist --only losses,latent
    """
    import vaelab

    show_progress()
    for path in vaelab.draw_figures(run, data=data, names=names_of(only), out=out):
        print(path)


@app.command()
def report(run: RunArgument, out: ResultsOption = None) -> None:
    """Write the report of a run again: one page, figures and all, to look at or to send.

    Example: vaelab report runs/mnist
    """
    import vaelab

    print(vaelab.report(run, out=out))


@app.command()
def evaluate(
    run: RunArgument,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", help="Names, separated by commas (default: all that the images allow in seconds)."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="METRIC.KEY=VALUE", help="An option of a metric; as often as you like."),
    ] = None,
    data: DataOption = None,
    out: ResultsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a run on its held-out images: evaluation.json, a table, the report.

    With --json also a run that cannot be written to: the numbers are printed, and kept nowhere.

    Examples: vaelab evaluate runs/mnist --json · vaelab evaluate runs/mnist --metrics nll --set nll.samples=1000
    """
    import vaelab
    from vaelab.evaluation.evaluate import resolve_metrics

    show_progress()
    asked = names_of(metrics) or []
    for word in asked:
        if (name := resolve_metrics([word])[0]) != word:
            print_note(f"vaelab: {word} is called {name} here")
    store = not as_json or out is not None or vaelab.Run.open(run).is_writable
    if not store:
        print_note(
            f"vaelab: {run} cannot be written to: the numbers are printed, and kept nowhere (--out DIR keeps them)"
        )
    evaluated = vaelab.evaluate(
        run, data=data, metrics=asked or None, set=overrides_of(overrides), out=out, store=store
    )
    results = evaluated.results
    for reason in dict.fromkeys(evaluated.skipped.values()):
        skipped = ", ".join(name for name, why in evaluated.skipped.items() if why == reason)
        print_note(f"vaelab: not measured: {skipped} ({reason})")
    if as_json:
        print_json(results)
    if not results:
        raise typer.Exit(FAILED)
    if as_json:
        return
    rows = [
        (metric, name.replace("_", " "), f"{value:.4f}")
        for metric, entry in results.items()
        for name, value in entry.items()
        if isinstance(value, int | float)
    ]
    table(("metric", "number", "value"), rows)
    print("(nats per image, but for counts, shares and scores; PSNR in dB)")
    for metric, entry in results.items():
        protocol = {**entry["protocol"], **entry["measured_on"]}
        print(f"{metric}: {', '.join(f'{k} {v}' for k, v in protocol.items() if not k.endswith('sha256'))}")


@app.command()
def doctor(run: RunArgument, data: DataOption = None, out: ResultsOption = None, as_json: JsonOption = False) -> None:
    """Look for what is wrong with a run: what was found, what it means, what to try. The report shows it, too.

    Example: vaelab doctor runs/mnist
    """
    import vaelab

    show_progress()
    findings = vaelab.doctor(run, data=data, out=out)
    if as_json:
        print_json([vars(finding) for finding in findings])
        return
    for finding in findings:
        print(f"{SIGNS[finding.level]} {finding.name.replace('_', ' ')}: {finding.found}")
        if finding.meaning:
            print(f"    {finding.meaning}")
            print(f"    try {finding.advice}")
