"""``vaelab figures``, ``report``, ``evaluate`` and ``doctor``: results of a trained run."""

from functools import cache
from typing import Annotated, Any

import typer

from vaelab.cli import options
from vaelab.cli.terminal import print_json, print_note, print_table
from vaelab.system.terminal import print_text

SIGNS = {"problem": "✗", "notice": "!", "fine": "✓"}


@options.app.command()
def figures(
    run: options.Run,
    only: Annotated[str | None, typer.Option("--only", help="Names, separated by commas (default: all).")] = None,
    data: options.Data = None,
    out: options.Results = None,
) -> None:
    """Draw the figures of a run again.

    Example:
      vaelab figures runs/mnist --only losses,latent
    """
    import vaelab

    for path in vaelab.draw_figures(run, data=data, names=options.split_names(only), out=out):
        print(path)


@options.app.command()
def report(run: options.Run, out: options.Results = None) -> None:
    """Write the report of a run again, as one page.

    Example:
      vaelab report runs/mnist
    """
    import vaelab

    print(vaelab.report(run, out=out))


@options.app.command()
def evaluate(
    run: options.Run,
    metrics: Annotated[
        str | None, typer.Option("--metrics", help="Names, separated by commas (default: all fast metrics).")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="METRIC.KEY=VALUE", help="Set an option of a metric or of the sampler; repeatable."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="Another split, such as test or train (default: the one the run validates on)."),
    ] = None,
    data: options.Data = None,
    out: options.Results = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Measure a run on its held-out images.

    Writes evaluation.json and updates the report. With --split, the images of another split are measured,
    and the numbers go to evaluation-SPLIT.json. With --json, a read-only run can also be measured; its
    numbers are only printed.

    Examples:
      vaelab evaluate runs/mnist --json
      vaelab evaluate runs/mnist --metrics nll --set nll.samples=1000
      vaelab evaluate runs/celeba --split test
      vaelab evaluate runs/mnist --metrics fid --set sampler.name=gmm --set sampler.components=20
    """
    from vaelab.api.answers import answer
    from vaelab.run import Run

    asked = options.split_names(metrics) or []
    store = not as_json or out is not None or Run(run).is_writable
    if not store:
        print_note(f"vaelab: {run} cannot be written to, so the numbers are not stored; --out DIR stores them")
    values = options.parse_overrides(overrides)

    @cache  # each once: before the work, or with an answer from the cache
    def explain(word: str, name: str) -> None:
        print_note(f"vaelab: {word} is called {name} here")

    def measure() -> dict[str, Any]:
        import vaelab
        from vaelab.evaluation.evaluate import resolve_metrics

        synonyms = {word: name for word in asked if (name := resolve_metrics([word])[0]) != word}
        for word, name in synonyms.items():
            explain(word, name)
        found = vaelab.evaluate(
            run, data=data, metrics=asked or None, set=values, out=out, split=split, store=store, device=device
        )
        return {"synonyms": synonyms, **vars(found)}

    question = {"metrics": asked, "set": values, "store": store, "device": device}
    evaluated = measure() if out or split else answer(Run(run), "evaluate", question, measure, data)
    for word, name in evaluated["synonyms"].items():
        explain(word, name)
    for reason in dict.fromkeys(evaluated["skipped"].values()):
        skipped = ", ".join(name for name, why in evaluated["skipped"].items() if why == reason)
        print_note(f"vaelab: not measured: {skipped} ({reason})")
    if as_json:
        print_json(evaluated["results"])
    elif evaluated["results"]:
        _print_results(evaluated["results"])
    if not evaluated["results"]:
        raise typer.Exit(options.FAILED)


def _print_results(results: dict[str, dict[str, Any]]) -> None:
    """Print the numbers of all metrics and their protocols."""
    rows = [
        (metric, name.replace("_", " "), f"{value:.4f}")
        for metric, result in results.items()
        for name, value in result.items()
        if isinstance(value, int | float)
    ]
    print_table(("metric", "number", "value"), rows)
    print_text("(nats per image, except for counts, shares and scores; PSNR in dB)")
    for metric, result in results.items():
        protocol = {**result["protocol"], **result["measured_on"]}
        print_text(f"{metric}: {', '.join(f'{key} {v}' for key, v in protocol.items() if not key.endswith('sha256'))}")


@options.app.command()
def doctor(
    run: options.Run, data: options.Data = None, out: options.Results = None, as_json: options.Json = False
) -> None:
    """Look for problems in a run.

    Each finding states what was found, what it means and what to try. The findings are also in the report.

    Example:
      vaelab doctor runs/mnist
    """
    from vaelab.api.answers import answer
    from vaelab.run import Run

    def examine() -> dict[str, Any]:
        import vaelab

        return {"findings": [vars(finding) for finding in vaelab.doctor(run, data=data, out=out)]}

    findings = (examine() if out else answer(Run(run), "doctor", {}, examine, data))["findings"]
    if as_json:
        print_json(findings)
        return
    for finding in findings:
        print_text(f"{SIGNS[finding['level']]} {finding['name'].replace('_', ' ')}: {finding['found']}")
        if finding["meaning"]:
            print_text(f"    {finding['meaning']}")
            print_text(f"    try {finding['advice']}")
