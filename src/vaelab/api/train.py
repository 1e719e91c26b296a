"""``vaelab train``: train a run to its end, or resume it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import torch

from vaelab import recipe as recipes
from vaelab.api.events import Watch, warn_only
from vaelab.api.given import GivenImages
from vaelab.api.plan import choose_run, command
from vaelab.api.run_images import RunImages, load_images
from vaelab.api.session import Session, Setup
from vaelab.api.short_forms import ShortFormsAndSeed, merge_short_forms
from vaelab.api.tracking import tracking
from vaelab.api.training_bar import showing_bar
from vaelab.build import build
from vaelab.data.images import Images
from vaelab.data.loader import Batches
from vaelab.data.memory import is_in_memory
from vaelab.models.conditions import condition_names, training_rows
from vaelab.recipe import ResolvedRecipe
from vaelab.run import IMAGES, Run
from vaelab.system.arguments import describe
from vaelab.system.device import deterministic, resolve_device
from vaelab.system.distributed import current_group, join_group, launched_group
from vaelab.system.errors import UsageError
from vaelab.system.signals import Ask, Interrupted, stop_signals
from vaelab.training import loop
from vaelab.training.checks import Diverged
from vaelab.training.loop import ProgressRecord
from vaelab.training.settings import Settings
from vaelab.training.state import State, create_state
from vaelab.training.step import measure_memory

PYTHON_COMMAND = "vaelab.train({name!r}, images=…)"
"""Stands for the command of a run on images from memory."""


def train(
    name: str | Path,
    set: Mapping[str, Any] | None = None,
    *,
    data: str | Path | None = None,
    images: Any = None,
    labels: Any = None,
    attributes: Any = None,
    valid: Any = None,
    run: str | Path | None = None,
    device: str = "auto",
    track: Sequence[str] = (),
    watch: Watch = warn_only,
    progress: bool = True,
    extend: bool = False,
    **short: Unpack[ShortFormsAndSeed],
) -> Run:
    """Train a recipe into a run directory, or resume the run; evaluate it, draw the figures and write the report.

    ``name`` is a preset or a .toml file, and ``set`` maps dotted keys to values ({"objective.beta": 4}). ``short``:
    epochs, steps, batch_size, learning_rate, latents, beta and seed, short forms of the most common keys. ``data`` is
    the path of the images. ``run`` is the directory (default: runs/RECIPE with the overrides appended). ``watch`` is
    called with each event. ``progress`` shows a bar on a terminal or in a notebook. ``track``: experiment trackers to
    which the run is logged, such as "tensorboard"; their failures do not affect training.

    ``images``, instead of ``data``, are images in memory: an array, a tensor, a list of PIL images, a
    ``torch.utils.data.Dataset``, a Hugging Face ``datasets.Dataset`` or ``Images``. ``labels`` and ``attributes``
    belong to them. ``valid`` is a number of images to set aside, or held-out images, alone or in a tuple with their
    labels and attributes (default: one image in ten is set aside). The run keeps a copy, so that the other functions
    work on it; to resume the run, pass the same images.

    ``extend``: continue a finished run to the given length, which must be the only difference to its recipe. With a
    constant learning rate the result is that of a run of this length from the start. The shorter run is kept below
    ``earlier``.

    Under ``torchrun`` every process trains on its shard of each batch; only rank 0 writes, and completes the run after
    training.

    Raises UsageError, InputError or TypeError for invalid arguments, OtherRecipe or RunInUse if the directory cannot be
    used, and Diverged if a loss is not finite. If it is interrupted, it saves a checkpoint and raises Interrupted.
    """
    overrides = merge_short_forms(set, short)
    given, place = _check_given(images, labels, attributes, valid, data), recipes.check_place(data)
    recipe = recipes.load(name, given.override(overrides) if given else overrides, place)
    target = choose_run(recipe.name, overrides, run, extend=extend)
    place = target.path / IMAGES if given else place
    if device != "auto":
        resolve_device(device)  # also checked if the run is finished and nothing is computed
    typed = PYTHON_COMMAND.format(name=name) if given else command(name, overrides, data, run, device)
    is_main = launched_group().is_main
    with showing_bar(watch, is_wanted=progress) as shown, tracking(track if is_main else (), shown) as told:
        session = Session(target, recipe, place, device, typed, told, extend=extend) if is_main else None
        train_run(target, place, session, keep=partial(given.keep, target, recipe) if given else None)
    return target


def train_run(
    target: Run, place: Path | None, session: Session | None, keep: Callable[[], object] | None = None
) -> None:
    """Train a run to its end and complete it, on every rank; rank 0 alone has a session.

    ``keep`` copies images from memory into the locked run.
    """
    with session.locked() if session else nullcontext():
        if session and keep:
            keep()
        setup = session.prepare() if session else None
        with join_group() as group:
            setup = group.broadcast(setup)
            if setup:
                _train_model(setup, session.images if session else _load_same_images(setup, place), session)
        if session:
            session.complete()


def _check_given(images: Any, labels: Any, attributes: Any, valid: Any, data: object) -> GivenImages | None:
    """Return the images from memory; None if there are none. UsageError for arguments that need or exclude them."""
    if images is None:
        given = {"labels": labels, "attributes": attributes, "valid": valid}
        if alone := [name for name, value in given.items() if value is not None]:
            raise UsageError(f"{alone[0]} needs images=…", subject=alone[0])
        return None
    if data is not None:
        raise UsageError("images and data are both given; give one of them", subject="images")
    if not is_in_memory(images):
        raise TypeError(f"images must be in memory; for {describe(images)} use data=…")
    return GivenImages(images, labels, attributes, valid)


def _load_same_images(setup: Setup, data: Path | None) -> RunImages:
    """Return the images that rank 0 trains on; raise ValueError if there are others in this place."""
    place = data or (Path(setup.data_dir) if setup.data_dir else None)
    images = load_images(setup.recipe, place, setup.selections, verify=True)
    if (images.train.fingerprint(), images.valid.fingerprint()) != setup.fingerprints:
        rank = current_group().rank
        raise ValueError(f"rank {rank}: the images in {images.train.source} are not those that rank 0 trains on")
    return images


def _train_model(setup: Setup, images: RunImages, session: Session | None) -> None:
    """Train to the end on every rank; rank 0 alone has a session, which stores the results."""
    settings, group, device = setup.settings, current_group(), resolve_device(setup.device)
    with deterministic(device, settings.precision, settings.threads):
        state = make_state(setup.recipe, images.train, settings, device)
        batches = Batches(
            images.train,
            settings.batch_size,
            settings.seed,
            device,
            shuffle_buffer=settings.shuffle_buffer,
            group=group,
            reserve=measure_memory(state, settings),
        )
        step, tensors, seconds = session.start(state, batches) if session else (0, {}, 0.0)
        if step := group.broadcast(step):
            state.restore(step, group.broadcast_tensors(tensors))
        elif setup.recipe.training.start_from:  # otherwise the ranks agree already at step 0
            state.start_from(group.broadcast_tensors(tensors))
        with closing(batches), stop_signals() as signals:
            ask: Ask = session.listen(signals) if session else signals

            def train_on(seconds: float, *, finish: bool) -> ProgressRecord | None:
                """Train and store until the training ends or is stopped; return the last record."""
                record = None
                for record in loop.train(
                    state, batches, settings, valid=images.valid, stop=ask, finish=finish, seconds_before=seconds
                ):
                    if session:
                        session.store(record, state, batches)
                return record

            try:
                record = train_on(seconds, finish=setup.finish)
                if record and record.stopped and session and session.offers_finish(signals, record.step):
                    record = train_on(record.seconds, finish=True)
                if record and record.stopped:
                    raise Interrupted(f"stopped at step {record.step} of {settings.num_steps} and saved")
            except (Diverged, Interrupted) as error:
                error.args = (session.explain(error) if session else f"rank {group.rank}: {error}",)
                raise
        if session:
            session.save_model(state)


def make_state(recipe: ResolvedRecipe, images: Images, settings: Settings, device: torch.device) -> State:
    """Return model, objective and optimizer at step 0."""
    vae, objective = build(recipe, condition_names(recipe.network["condition"], images))
    vae.condition_rows = training_rows(vae.spec, images)
    return create_state(vae, objective, settings, device)
