"""Docs that stay true: docs/commands.md is written from --help, and every link inside the project must lead somewhere.

python docs/check.py           say what is not true, exit 1
python docs/check.py --write   write docs/commands.md
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMANDS = ROOT / "docs" / "commands.md"


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
    page = commands_page()
    if "--write" in sys.argv:
        COMMANDS.write_text(page, encoding="utf-8")
    problems = broken_links()
    if not COMMANDS.is_file() or COMMANDS.read_text(encoding="utf-8") != page:
        problems.append("docs/commands.md is not what --help says: make docs")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
