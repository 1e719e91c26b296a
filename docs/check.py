"""Checks the docs: generated parts, links, anchors, pictures, commands, recipe keys and quoted results.

python docs/check.py           list what is wrong, exit 1
python docs/check.py --write   write the generated parts first
"""

import re
import sys
from functools import cache
from pathlib import Path

import blocks
import commands
import measured
import notebooks
import recipe_index

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)|src=\"([^\"]+)\"")
FENCE = re.compile(r"^```.*?^```$", re.S | re.M)


def list_pages() -> list[Path]:
    """Every Markdown page of the project."""
    return sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))


@cache
def anchors_of(page: Path) -> frozenset[str]:
    """The anchors that GitHub makes of a page's headings."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ +(.+?) *$", FENCE.sub("", page.read_text(encoding="utf-8")), re.M):
        words = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
        if found[slug]:
            found[f"{slug}-{found[slug]}"] = 0
    return frozenset(found)


def find_broken_links(page: Path, root: Path = ROOT) -> list[str]:
    """A line for each link of a page that leads nowhere inside the project."""
    found, name = [], page.relative_to(root)
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        path, _, anchor = (target[0] or target[1]).partition("#")
        if path.startswith(("http:", "https:", "mailto:")):
            continue
        goal = page.parent / path if path else page
        if not goal.exists():
            found.append(f"{name}: {path} does not exist")
        elif anchor and goal.suffix == ".md" and anchor not in anchors_of(goal.resolve()):
            found.append(f"{name}: {goal.name} has no heading #{anchor}")
    return found


def find_orphans(pages: list[Path]) -> list[str]:
    """A line for each page of docs/ that no other page links to."""
    linked = set()
    for page in pages:
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            linked.add((page.parent / (target[0] or target[1]).partition("#")[0]).resolve())
    docs = ROOT / "docs"
    return [
        f"{page.relative_to(ROOT)}: no page links to it"
        for page in pages
        if docs in page.parents and page not in linked
    ]


def find_wrong_code(page: Path, known: set[str]) -> list[str]:
    """A line for each command that the parser refuses, and for each key of a recipe that does not exist."""
    text, name = page.read_text(encoding="utf-8"), page.relative_to(ROOT)
    found = [f"{name}: no recipe has the key {key}" for key in commands.find_unknown_keys(text, known)]
    for words in commands.find_commands(text):
        if mistake := commands.find_mistake(words):
            found.append(f"{name}: vaelab {' '.join(words)}: {mistake}")
    return found


def find_false_claims() -> list[str]:
    """A line for each sentence that a page lacks although it follows from the files of results."""
    return [
        f"{page}: docs/results say “{sentence}”"
        for page, sentence in measured.claims()
        if sentence not in " ".join((ROOT / page).read_text(encoding="utf-8").split())
    ]


def main() -> int:
    """Write the generated parts if asked to, and list everything that is wrong."""
    pages, problems, known = list_pages(), list[str](), commands.known_keys()
    if "--write" in sys.argv:
        recipe_index.write()
    problems += recipe_index.find_outdated()
    for page in pages:
        text = page.read_text(encoding="utf-8")
        if (filled := blocks.fill(text)) != text:
            if "--write" in sys.argv:
                page.write_text(filled, encoding="utf-8")
            else:
                problems.append(f"{page.relative_to(ROOT)}: a generated part is out of date; run make docs")
    for page in pages:
        problems += find_broken_links(page) + find_wrong_code(page, known)
    problems += find_orphans(pages) + find_false_claims() + notebooks.find_stale()
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
