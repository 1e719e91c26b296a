"""``vaelab push``: a run as a repository on the Hugging Face hub."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from vaelab.api.export import convert_networks
from vaelab.api.load import load
from vaelab.api.report import describe_model
from vaelab.exporters.hub import (
    CARD,
    EVALUATIONS,
    GRAPHS,
    choose_figures,
    clean_recipe,
    find_obsolete,
    find_strangers,
    make_files,
)
from vaelab.exporters.model_card import make_card
from vaelab.exporters.privacy import Privacy
from vaelab.models.vae import VAE
from vaelab.run import Run
from vaelab.system import hub
from vaelab.system.arguments import AnyPath, check_names
from vaelab.system.errors import InputError, UsageError
from vaelab.system.hub import HubError, matches


@dataclass(frozen=True)
class Pushed:
    """The result of a push, or of a dry run."""

    address: str
    """hub:USER/NAME."""
    url: str | None
    """Page of the repository; None after a dry run."""
    sizes: dict[str, int]
    """File → bytes."""
    card: str
    """Text of README.md."""
    notes: tuple[str, ...] = ()


def push(
    run_path: AnyPath,
    repository: str,
    *,
    private: bool = False,
    licence: str | None = None,
    figures: str | Sequence[str] | None = None,
    onnx: bool = True,
    dry_run: bool = False,
) -> Pushed:
    """Upload a run to the repository USER/NAME of the Hugging Face hub, which is created if it does not exist.

    One commit contains the model, the recipe, the evaluation, figures, ONNX graphs (with ``onnx``, if the extra export
    is installed) and a model card. Paths, names of users and machines, and machine.json are left out. ``figures``:
    names, "all" or "none" (default: all; for your own images, only those that show none of them). ``private``
    creates a private repository. ``licence`` is an identifier of the hub, such as "mit". ``dry_run`` uploads nothing
    and makes no connection.

    Raises HubError if the hub refuses the request or cannot be reached, and FileExistsError if the repository contains
    other files.
    """
    address = hub.parse_repository(repository)
    if licence is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", licence):
        message = f"{licence}: expected a licence identifier of the hub, such as mit, apache-2.0, cc-by-4.0 or other"
        raise UsageError(message, subject="licence", value=licence)
    hub.check_library(address)
    run = Run(run_path)
    run.model_path  # noqa: B018 - raises if the training is not complete
    known = None if dry_run else _look_up(address, private=private)
    files, notes = make_repository(run, address, licence=licence, figures=figures, onnx=onnx)
    url = None
    if not dry_run:
        obsolete = find_obsolete(known.files if known else (), files, run.recipe)
        message = f"vaelab push: {address.name}"
        url = hub.commit(address, files, message, obsolete=obsolete, private=private)
    sizes = {name: len(content) for name, content in files.items()}
    return Pushed(str(address), url, sizes, files[CARD].decode(), tuple(notes))


def _look_up(address: hub.Address, *, private: bool) -> hub.Published | None:
    """Return what the repository holds; raises if that must not be replaced, or is to be private and is not."""
    known = hub.look_up(address)
    if known is not None and (strangers := find_strangers(known.files)):
        message = f"{address} holds other files ({strangers[0]} …) and no model of vaelab; choose another name"
        raise FileExistsError(message)
    if known is not None and private and not known.is_private:
        message = f"{address} exists and is public; make it private on its page first, or choose another name"
        raise HubError(message, subject=str(address))
    return known


def make_repository(
    run: Run, address: hub.Address, *, licence: str | None, figures: str | Sequence[str] | None, onnx: bool
) -> tuple[dict[str, bytes], list[str]]:
    """Return the files of the repository, the card first, and notes for the author."""
    model, notes = load(run), []
    privacy = Privacy(run, public=(address.owner, address.name, *model.spec.condition_names))
    chosen, private = choose_figures(run, _parse_figures(figures))
    if private:
        notes.append(f"left out, because they show your images: {', '.join(private)}; --figures all uploads them too")
    recipe = clean_recipe(run.recipe, privacy)
    files = make_files(run, recipe, chosen, privacy)
    graphs, reason = _make_graphs(run, model, address.name) if onnx else ({}, "")
    files |= {f"{GRAPHS}/{name}": content for name, content in graphs.items()}
    if reason:
        notes.append(f"no ONNX graphs: {reason}")
    if licence is None:
        notes.append("no licence is chosen, so that others must ask before they use the model; --licence names one")
    card = make_card(
        run,
        model,
        recipe,
        address.repository,
        {name: json.loads(content) for name, content in files.items() if matches(name, EVALUATIONS)},
        model_facts=describe_model(recipe, model),
        figures=chosen,
        has_graphs=bool(graphs),
        licence=licence,
        privacy=privacy,
    )
    files = {CARD: card.encode(), **files}
    privacy.check(files)
    return files, notes


def _parse_figures(figures: str | Sequence[str] | None) -> list[str] | None:
    names = None if figures is None else check_names(figures, "figures")
    return [] if names == ["none"] else names


def _make_graphs(run: Run, model: VAE, name: str) -> tuple[dict[str, bytes], str]:
    """Return the ONNX graphs of a model, and why there are none."""
    try:
        return convert_networks(run, model, "onnx", name)[0], ""
    except InputError as error:
        return {}, str(error)
