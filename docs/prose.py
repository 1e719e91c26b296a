"""Checks the prose of docs, docstrings and comments: openings, sentence length, private words, spelling.

The rules are in docs/prose.toml. Code, tables of numbers, quotations of commands and links are not prose.

python docs/prose.py [PATH…]   list violations as path:line: rule, exit 1 if there are any
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
RULES = tomllib.loads((ROOT / "docs" / "prose.toml").read_text(encoding="utf-8"))
OPENINGS = [(re.compile(pattern), advice) for pattern, advice in RULES["openings"].items()]
WORDS = [(re.compile(pattern, re.I), advice) for pattern, advice in RULES["words"].items()]
CODE = re.compile(r"``.+?``|`[^`\n]*`|<[^>\n]+>|https?://\S+", re.S)
LINK = re.compile(r"!?\[([^\]]*)\]\([^)\s]*\)")
END = re.compile(r"(?<=[.!?…])[)\"”]?\s+(?=[A-Z«\"“(`*\d])")
GENERATED = {"docs/commands.md"}
EXCUSED = "prose: ignore"
MESSAGE = "“”"
"""Before a string of the code, which may be a part of a sentence: its opening is not checked."""


def list_files(given: list[str]) -> list[Path]:
    """The given files and folders, or every tracked file with prose."""
    patterns = given or ["*.md", "src", "tests", "benchmarks", "docs"]
    command = ["git", "ls-files", "-co", "--exclude-standard", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names = sorted(set(listed.stdout.splitlines()) - GENERATED)
    return [ROOT / name for name in names if name.endswith((".md", ".py", ".js")) and (ROOT / name).is_file()]


def passages_of(path: Path) -> Iterator[tuple[int, str]]:
    """(Line, text) of each paragraph, table cell, docstring paragraph, comment block or message of a file."""
    readers = {".md": _in_markdown, ".py": _in_python, ".js": _in_javascript}
    for line, passage in readers[path.suffix](path.read_text(encoding="utf-8")):
        if passage.startswith(MESSAGE) and "tests" in path.relative_to(ROOT).parts:
            continue  # programs in JavaScript and Python, and names that nobody reads as sentences
        yield line, passage


def _in_markdown(text: str) -> Iterator[tuple[int, str]]:
    blank = re.sub(r"^(```|~~~).*?^\1[^\n]*$|<!--.*?-->", lambda m: "\n" * m[0].count("\n"), text, flags=re.S | re.M)
    start, held = 1, list[str]()
    for number, line in enumerate([*blank.splitlines(), ""], 1):
        row = line.strip()
        new_item = re.match(r"([-*+]|\d+\.)\s+|#+\s|\||>", row)
        if held and (not row or new_item):
            yield start, " ".join(held)
            held = []
        if row.startswith("|"):
            yield from ((number, cell) for cell in re.split(r"\||<br>", row.strip("|")) if cell.strip())
        elif row:
            start = start if held else number
            held.append(re.sub(r"^([-*+]|\d+\.|#+|>)\s+", "", row))


def _in_python(text: str) -> Iterator[tuple[int, str]]:
    docstrings = set[int]()
    for node in ast.walk(ast.parse(text)):
        for statement in getattr(node, "body", []) if not isinstance(node, ast.Lambda | ast.IfExp) else []:
            value = getattr(statement, "value", None)
            if isinstance(statement, ast.Expr) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                docstrings.add(id(value))
                yield from _paragraphs(value.value, value.lineno)
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "x" for part in node.values]
            yield node.lineno, f"{MESSAGE}{''.join(map(str, parts))}"
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.count(" ") > 4
            and id(node) not in docstrings
        ):
            yield node.lineno, f"{MESSAGE}{' '.join(node.value.split())}"
    block, first, last = list[str](), 0, -1
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            words = token.string.lstrip("#").strip()
            alone = not token.line[: token.start[1]].strip()
            if block and alone and token.start[0] == last + 1:
                block.append(words)
            else:
                if block:
                    yield first, " ".join(block)
                block, first = [words], token.start[0]
            last = token.start[0]
    if block:
        yield first, " ".join(block)


def _in_javascript(text: str) -> Iterator[tuple[int, str]]:
    for found in re.finditer(r"/\*\*?(.*?)\*/|((?:^\s*//[^\n]*\n)+)|(?<=\s)//([^\n]*)", text, re.S | re.M):
        words = re.sub(r"^\s*(\*|//)\s?", "", next(filter(None, found.groups()), ""), flags=re.M)
        yield from _paragraphs(re.sub(r"@(param|returns?|type)\b.*", "", words), text.count("\n", 0, found.start()) + 1)


def _paragraphs(docstring: str, line: int) -> Iterator[tuple[int, str]]:
    held, start = list[str](), line
    for number, row in enumerate([*docstring.splitlines(), ""], line):
        if row.strip() and not row.strip().startswith((">>>", "...")):
            start = start if held else number
            held.append(row.strip())
        elif held:
            yield start, " ".join(held)
            held = []


def find_violations(passage: str) -> Iterator[str]:
    """Every rule that a passage breaks."""
    if EXCUSED in passage or re.match(r"(noqa|type:|pragma|fmt:|mypy:|!)|-- ", passage):
        return
    prose = CODE.sub("X", LINK.sub(r"\1", passage))
    for sentence in END.split(prose):
        sentence = sentence.strip(" *_#")
        for pattern, advice in OPENINGS:
            if pattern.match(sentence) and MESSAGE not in passage:
                yield f"opening “{' '.join(sentence.split()[:4])} …”: {advice}"
        if (count := len(re.findall(r"[^\W_]+(?:['’.,/-]\w+)*", sentence))) > RULES["max_words"]:
            yield f"{count} words in one sentence: “{' '.join(sentence.split()[:6])} …”"
        if MESSAGE not in passage and (count := sentence.count(";")) > RULES["max_semicolons"]:
            yield f"{count} semicolons in one sentence: “{' '.join(sentence.split()[:6])} …”"
    for pattern, advice in WORDS:
        if found := pattern.search(prose):
            yield f"“{found[0]}”: {advice}"


def check_spelling(paths: list[Path]) -> int:
    """Run codespell on the files; return its exit status."""
    if not paths:
        return 0
    ignored = ",".join(RULES["spelling"]["ignore"])
    command = [sys.executable, "-m", "codespell_lib", "--ignore-words-list", ignored, *(str(path) for path in paths)]
    return subprocess.run(command, check=False).returncode


def main() -> int:
    """List the violations of the given or of all files."""
    paths, count = list_files(sys.argv[1:]), 0
    for path in paths:
        for line, passage in passages_of(path):
            for violation in find_violations(passage):
                print(f"{path.relative_to(ROOT)}:{line}: {violation}")
                count += 1
    print(f"{count} violations in {len(paths)} files" if count else f"The prose of {len(paths)} files passes.")
    written = [path for path in paths if "tests" not in path.relative_to(ROOT).parts]  # tests misspell on purpose
    return 1 if check_spelling(written) or count else 0


if __name__ == "__main__":
    sys.exit(main())
