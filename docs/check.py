"""Docs that stay true: what is written from the code is up to date, and every link inside the project leads somewhere.

docs/commands.md is written from --help, the table of docs/metrics.md from what metrics declare.

python docs/check.py           say what is not true, exit 1
python docs/check.py --write   write them
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMANDS, METRICS = ROOT / "docs" / "commands.md", ROOT / "docs" / "metrics.md"
TABLE = re.compile(r"(<!-- metrics: .*? -->\n).*?(<!-- end -->)", re.S)


def verbs() -> list[str]:
    """Every verb of the command line, the whole itself first."""
    from vaelab.cli import app, data_app

    own = [command.name or command.callback.__name__ for command in app.registered_commands]
    return ["", *own, "data", *(f"data {command.name}" for command in data_app.registered_commands)]


def help_of(verb: str) -> str:
    """What ``vaelab VERB --help`` prints, plain and 100 columns wide."""
    environment = {**os.environ, "TYPER_USE_RICH": "0", "COLUMNS": "100", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "vaelab", *verb.split(), "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines = [line.rstrip() for line in done.stdout.replace("python -m vaelab", "vaelab").strip().splitlines()]
    return "\n".join(lines)


def commands_page() -> str:
    """The text of docs/commands.md."""
    parts = ["# Commands\n\nWritten from `--help` by `make docs`; `make check` compares.\n"]
    for verb in verbs():
        parts.append(f"## vaelab {verb}".rstrip() + f"\n\n```text\n{help_of(verb)}\n```\n")
    return "\n".join(parts)


def metrics_table() -> str:
    """Every metric with its rows, as a Markdown table."""
    from vaelab.evaluation.evaluation import NEEDS
    from vaelab.evaluation.metrics import Metric, load_metrics

    arrows = {"higher": " ↑", "lower": " ↓", "": ""}
    lines = ["| metric | rows | needs | measured by |", "|---|---|---|---|"]
    for name, metric in load_metrics().items():
        rows = [f"{q.title}{f', {q.unit}' if q.unit else ''}{arrows[q.better]}" for q in metric.quantities]
        needs = " and ".join(words for need, words in NEEDS.items() if need in metric.needs)
        verbs = (
            [verb for verb in ("train", "evaluate", "compare") if verb in metric.by_default]
            if isinstance(metric, Metric)
            else ["compare, of several seeds"]
        )
        lines.append(f"| `{name}` | {'; '.join(rows)} | {needs} | {', '.join(verbs) or f'`--metrics {name}`'} |")
    return "\n".join(lines) + "\n"


def broken_links() -> list[str]:
    """Links and pictures in Markdown files that lead nowhere inside the project."""
    found = []
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)|src=\"([^\"]+)\"", page.read_text(encoding="utf-8")):
            link = target[0] or target[1]
            if not link.startswith(("http", "mailto:")) and not (page.parent / link).exists():
                found.append(f"{page.relative_to(ROOT)}: {link} leads nowhere")
    return found


def main() -> int:
    metrics = METRICS.read_text(encoding="utf-8")
    pages = {
        COMMANDS: commands_page(),
        METRICS: TABLE.sub(lambda found: found[1] + metrics_table() + found[2], metrics),
    }
    problems = broken_links()
    for path, page in pages.items():
        if "--write" in sys.argv:
            path.write_text(page, encoding="utf-8")
        if not path.is_file() or path.read_text(encoding="utf-8") != page:
            problems.append(f"{path.relative_to(ROOT)} is not what the code says: make docs")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
