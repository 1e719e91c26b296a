"""The parts of the docs that are written from the code, from ``--help`` and from files of results.

A page marks such a part with ``<!-- generated: NAME ARGUMENTS -->`` and ``<!-- end -->``. NAME is one of ``BLOCKS``.
"""

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from types import ModuleType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import measured

BLOCK = re.compile(r"(<!-- generated: (.*?) -->\n).*?(<!-- end -->)", re.S)
ARXIV = re.compile(r"(?<![\w./:-])((?:0[7-9]|[12]\d)(?:0[1-9]|1[0-2])\.\d{4,5})(?!\d)")


def fill(page: str) -> str:
    """A page with every generated part as the code gives it now."""

    def write(found: re.Match[str]) -> str:
        name, *arguments = found[2].split()
        return f"{found[1]}{BLOCKS[name](*arguments).strip()}\n{found[3]}"

    return BLOCK.sub(write, page)


# -- text -------------------------------------------------------------------------------------------------------------


def to_markdown(docstring: str) -> str:
    """A docstring as Markdown: code in single backticks, arXiv numbers as links."""
    text = re.sub(r"``(.+?)``", r"`\1`", inspect.cleandoc(docstring))
    return ARXIV.sub(r"[\1](https://arxiv.org/abs/\1)", text)


def first_sentence(docstring: str) -> str:
    """The first paragraph of a docstring on one line, without its full stop."""
    return " ".join(to_markdown(docstring).split("\n\n")[0].split()).removesuffix(".")


def write_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines)


def describe_type(hint: Any) -> str:
    """A type of a key or an option in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = {sign: value for bound in arguments[1:] for sign, value in _bounds_of(bound)}
        if {"≥", "≤"} <= bounds.keys():
            return f"{describe_type(arguments[0])} from {bounds['≥']} to {bounds['≤']}"
        return f"{describe_type(arguments[0])}{''.join(f' {sign} {value}' for sign, value in bounds.items())}"
    if origin is Literal:
        return ", ".join(f"`{json.dumps(value, ensure_ascii=False)}`" for value in arguments)
    if origin in (UnionType, Union):
        parts = sorted(
            (each for each in arguments if each is not type(None)), key=lambda each: get_origin(each) is Literal
        )
        return ", ".join(map(describe_type, parts))
    if origin in (list, tuple):
        return re.sub(r"^(\w+)", r"list of \1s", describe_type(arguments[0]))
    return {int: "integer", float: "number", bool: "`true`, `false`", str: "string"}.get(hint, "value")


def _bounds_of(bound: Any) -> Iterator[tuple[str, str]]:
    for sign, name in (("≥", "ge"), (">", "gt"), ("≤", "le"), ("<", "lt")):
        if (value := getattr(bound, name, None)) is not None:
            yield sign, f"{value:.3g}" if isinstance(value, float) else f"{value:,}"


def describe_default(value: Any) -> str:
    """A default as a recipe writes it."""
    from vaelab.recipe import toml_value

    if isinstance(value, float):
        value = float(f"{value:.4g}")
    return "" if value is ... or value is None else f"`{toml_value(value)}`"


# -- members of open folders ------------------------------------------------------------------------------------------

DESCRIBED_BY = {
    "objectives": "Objective",
    "likelihoods": "Likelihood",
    "posteriors": "Posterior",
    "priors": "Prior",
    "samplers": "Sampler",
}
"""Open folder → the class whose docstring describes a member; other members have a module docstring."""


def members(folder: str) -> str:
    """A section for every member of a folder: what it is, its keys, and what an objective logs and needs."""
    from vaelab.system import registry

    return "\n\n".join(_member(folder, name, registry.load(folder, name)) for name in registry.names(folder))


def _member(folder: str, name: str, module: ModuleType) -> str:
    described = getattr(module, DESCRIBED_BY.get(folder, ""), module)
    parts = [f"## {name}", to_markdown(described.__doc__ or "")]
    if folder == "networks":
        parts += [f"{word}: {to_markdown(getattr(module, word).__doc__)}" for word in ("Encoder", "Decoder")]
    if folder == "objectives":
        parts += [_notes_on_terms(described.forward.__doc__), _describe_terms(described)]
        if needs := _describe_needs(described.needs):
            parts.append(f"Needs {needs}.")
    if rows := _keys_of(folder, module):
        parts.append(write_table(("key", "values", "default"), rows))
    return "\n\n".join(part for part in parts if part)


def _keys_of(folder: str, module: ModuleType) -> list[tuple[str, ...]]:
    from vaelab.recipe import SECTIONS, signature_schema

    makers = {info.folder: info.makers for info in SECTIONS.values()}.get(folder) or (DESCRIBED_BY[folder],)
    schema = {key: entry for maker in makers for key, entry in signature_schema(attrgetter(maker)(module)).items()}
    return [(f"`{key}`", describe_type(hint), describe_default(value)) for key, (hint, value) in schema.items()]


def _notes_on_terms(docstring: str) -> str:
    """The docstring of ``forward`` without the words that every objective has in common."""
    common = r"^(Return )?(the )?loss and (its )?terms(, nats per image)?[.;:]?\s*"
    notes = re.sub(common, "", to_markdown(docstring), flags=re.I).strip()
    return f"{notes[:1].upper()}{notes[1:]}"


def _describe_terms(objective: Any) -> str:
    """The columns of history.csv that only this objective has."""
    rows = [(f"`{term.name}`", term.title, term.unit) for term in objective.terms]
    return write_table(("column of history.csv", "quantity", "unit"), rows) if rows else ""


def _describe_needs(needs: frozenset[str]) -> str:
    from vaelab.evaluation.evaluation import NEEDS

    return " and ".join(words for need, words in NEEDS.items() if need in needs)


def data_sets() -> str:
    """The data sets: sizes, licences, sources and the keys that ``[data]`` takes."""
    from vaelab.system import registry

    rows, keys = [], list[tuple[str, ...]]()
    for name in registry.names("datasets"):
        module = registry.load("datasets", name)
        info = module.DATASET.info
        sizes = " + ".join(f"{count:,} {split}" for split, count in info.splits.items() if count)
        channels, height, width = info.image_shape or (0, 0, 0)
        shape = f"{height}×{width} {'grey' if channels == 1 else 'RGB'}" if channels else "yours"
        rows.append((f"`{name}`", info.title, sizes or "yours", shape, info.licence, to_markdown(info.source)))
        keys += [(f"`{name}`", *row) for row in _keys_of("datasets", module)]
    table = write_table(("name", "data set", "images", "size", "licence", "source"), rows)
    return f"{table}\n\nKeys of individual data sets:\n\n{write_table(('data set', 'key', 'values', 'default'), keys)}"


def figures() -> str:
    """The figures in the order of the report."""
    from vaelab.system import registry

    found = [(name, registry.load("figures", name)) for name in registry.names("figures")]
    found.sort(key=lambda item: (item[1].ORDER, item[0]))
    rows = [(f"`{name}`", module.TITLE, first_sentence(module.__doc__ or "")) for name, module in found]
    return write_table(("name", "title", "shows"), rows)


def trackers() -> str:
    """The experiment trackers and what they are."""
    from vaelab.system import registry

    found = {name: registry.load("trackers", name) for name in registry.names("trackers")}
    rows = [
        (f"`{name}`", first_sentence(module.__doc__), first_sentence(module.Tracker.__doc__))
        for name, module in found.items()
    ]
    return write_table(("name", "tracker", "a vaelab run becomes"), rows)


def metrics() -> str:
    """Every metric with its rows, as a Markdown table."""
    from vaelab.evaluation.metrics import Metric, load_metrics

    arrows = {"higher": " ↑", "lower": " ↓", "": ""}
    rows = []
    for name, metric in load_metrics().items():
        quantities = [f"{q.title}{f', {q.unit}' if q.unit else ''}{arrows[q.better]}" for q in metric.quantities]
        if isinstance(metric, Metric):
            used_by = ", ".join(name for name in ("train", "evaluate", "compare") if name in metric.by_default)
        else:
            used_by = "compare, for several seeds"
        measured_by = used_by or f"`--metrics {name}`"
        rows.append((f"`{name}`", " <br> ".join(quantities), _describe_needs(metric.needs), measured_by))
    return write_table(("metric", "rows", "needs", "measured by"), rows)


def metric_options() -> str:
    """Every option of a metric with its default."""
    from vaelab.evaluation.metrics import load_metrics
    from vaelab.recipe import signature_schema

    rows = [
        (f"`{name}.{key}`", describe_type(hint), describe_default(value))
        for name, metric in load_metrics().items()
        for key, (hint, value) in signature_schema(metric.measure).items()
    ]
    return write_table(("option", "values", "default"), rows)


# -- recipes ----------------------------------------------------------------------------------------------------------


def presets() -> str:
    """The presets that come with vaelab."""
    import vaelab
    from vaelab import recipe

    rows = []
    for row in vaelab.list_recipes():
        parameters = f"{row['parameters']:,}" if row["parameters"] else "depends on the images"
        epochs = row["epochs"] if isinstance(row["epochs"], str) else f"{row['epochs']} epochs"
        length = f"{row['steps']:,} steps" if row["steps"] else epochs
        rows.append((f"`{row['name']}`", recipe.load(row["name"]).title, str(row["latent_dim"]), parameters, length))
    return write_table(("preset", "title", "latents", "parameters", "length"), rows)


def common_keys() -> str:
    """Keys of a section that are valid for every member."""
    from vaelab.recipe import SECTIONS
    from vaelab.system import registry

    rows = []
    for section, info in SECTIONS.items():
        names = ", ".join(f"`{name}`" for name in registry.names(info.folder))
        rows.append((f"`{section}.name`", names, describe_default(info.default)))
        rows += [
            (f"`{section}.{key}`", describe_type(hint), describe_default(value))
            for key, (hint, value) in info.common.items()
        ]
    return write_table(("key", "values", "default"), rows)


def training_keys() -> str:
    """The keys of ``[training]`` with their docstrings."""
    from vaelab.recipe import Training, signature_schema
    from vaelab.recipe.json_schema import read_field_docs

    meanings = {key: first_sentence(text) for key, text in read_field_docs(Training).items()}
    rows = [
        (f"`{key}`", describe_type(hint), describe_default(value), meanings.get(key, ""))
        for key, (hint, value) in signature_schema(Training).items()
    ]
    return write_table(("key", "values", "default", "meaning"), rows)


# -- commands and functions -------------------------------------------------------------------------------------------


def list_commands() -> list[str]:
    """Every command of the command line, ``""`` for vaelab itself first."""
    from vaelab.cli import app, data_app

    own = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    return ["", *own, "data", *(f"data {command.name}" for command in data_app.registered_commands)]


def help_of(command: str) -> str:
    """The output of ``vaelab COMMAND --help``, plain and 100 columns wide."""
    environment = {**os.environ, "TYPER_USE_RICH": "0", "COLUMNS": "100", "NO_COLOR": "1"}
    words = [sys.executable, "-m", "vaelab", *command.split(), "--help"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    lines = [line.rstrip() for line in done.stdout.replace("python -m vaelab", "vaelab").strip().splitlines()]
    return "\n".join(lines)


def commands() -> str:
    """The help of every command."""
    names = list_commands()
    with ThreadPoolExecutor(2) as pool:
        helps = dict(zip(names, pool.map(help_of, names), strict=True))
    return "\n\n".join(f"## vaelab {name}".rstrip() + f"\n\n```text\n{text}\n```" for name, text in helps.items())


def python_api() -> str:
    """Signature and docstring of every public function and class."""
    import vaelab

    parts = []
    for name in sorted(vaelab.__all__, key=lambda name: (name[0].isupper(), name)):
        value = getattr(vaelab, name)
        parts.append(f"## {name}")
        if isinstance(value, UnionType):
            parts.append(f"Type of an event: {', '.join(f'`{each.__name__}`' for each in get_args(value))}.")
            continue
        if callable(value):
            parts.append(f"```text\n{_signature(f'vaelab.{name}', value)}\n```")
        parts.append(to_markdown(value.__doc__ or ""))
    return "\n\n".join(parts)


def _signature(name: str, value: Any) -> str:
    try:
        parameters = list(inspect.signature(value).parameters.values())
    except (TypeError, ValueError):
        return name
    words = []
    for before, parameter in zip([None, *parameters], parameters, strict=False):
        if parameter.kind is parameter.KEYWORD_ONLY and (before is None or before.kind is not parameter.KEYWORD_ONLY):
            words.append("*")
        default = "" if parameter.default is parameter.empty else f"={_default_word(parameter.default)}"
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        words.append(f"{stars}{parameter.name}{default}")
    return f"{name}({', '.join(words)})"


def _default_word(value: Any) -> str:
    return getattr(value, "__name__", None) or repr(value)


def table_of(rows: Callable[..., list[tuple[str, ...]]]) -> Callable[..., str]:
    """A function that writes the rows as a table, the first as its header."""
    return lambda *arguments: write_table(*(lambda found: (found[0], found[1:]))(rows(*arguments)))


BLOCKS: Mapping[str, Callable[..., str]] = {
    "commands": commands,
    "common-keys": common_keys,
    "costs": table_of(measured.costs),
    "data-sets": data_sets,
    "figures": figures,
    "generation": table_of(measured.generation),
    "generation-summary": table_of(measured.generation_summary),
    "half-size": table_of(measured.half_size),
    "likelihoods": table_of(measured.likelihoods),
    "members": members,
    "metrics": metrics,
    "metric-options": metric_options,
    "pair": table_of(measured.pair),
    "presets": presets,
    "python-api": python_api,
    "roofline": table_of(measured.roofline),
    "run": table_of(measured.run),
    "setting": measured.setting,
    "speed": table_of(measured.speed),
    "sweep": table_of(measured.sweep),
    "trackers": trackers,
    "training-keys": training_keys,
}
"""Name in a page's mark → the function that writes the part; words after the name are its arguments."""
