"""``vaelab figures``, ``report``, ``evaluate``: what comes after training."""

from typing import TYPE_CHECKING, Annotated

import typer

from vaelab.cli.options import (
    DataOption,
    JsonOption,
    RunArgument,
    app,
    names_of,
)
from vaelab.view import (
    print_json,
    show_progress,
    table,
)

if TYPE_CHECKING:
    pass


@app.command()
def figures(
    run: RunArgument,
    only: Annotated[str | None, typer.Option("--only", help="Names, separated by commas (default: all).")] = None,
    data: DataOption = None,
) -> None:
    """Draw the figures of a run again.

    Example: vaelab figures runs/mnist --only losses,latent
    """
    from vaelab import lab

    show_progress()
    for path in lab.figures(run, data=data, names=names_of(only)):
        print(path)


@app.command()
def report(run: RunArgument) -> None:
    """Write the report of a run again: one page, figures and all, to look at or to send.

    Example: vaelab report runs/mnist
    """
    from vaelab import lab

    print(lab.report(run))


@app.command()
def evaluate(
    run: RunArgument,
    metrics: Annotated[str | None, typer.Option("--metrics", help="Names, separated by commas.")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a run on its held-out images: evaluation.json, a table, the report.

    Example: vaelab evaluate runs/mnist --json
    """
    from vaelab import lab

    show_progress()
    results = lab.evaluate(run, data=data, metrics=names_of(metrics))
    if as_json:
        print_json(results)
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
