"""What the verbs do, as functions that print nothing."""

import io
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaelab import catalog, evaluation, training
from vaelab import recipe as recipes
from vaelab.files import free_path, load_tensors, save_tensors, write_atomic
from vaelab.images import Images, binarize, encode_png, read_pictures, split_off, tile, to_uint8
from vaelab.latent import encode_images
from vaelab.model import VAE
from vaelab.recipe import Recipe
from vaelab.report import write_report
from vaelab.run import HISTORY, REPORT, TIMING, VALIDATION, Run
from vaelab.runtime import (
    Interrupted,
    default_threads,
    derive_seed,
    describe_machine,
    generator,
    progress,
    resolve_device,
    resolve_precision,
    settled,
    stop_signals,
)

MODEL_FORMAT = 1


# -- events that ``train`` reports while it works ---------------------------------------------------------------------


@dataclass(frozen=True)
class Started:
    """Training begins or goes on."""

    run: Run
    recipe: Recipe
    first_step: int
    num_steps: int
    num_images: int
    steps_per_epoch: int
    num_parameters: dict[str, int]
    machine: Mapping[str, Any]


@dataclass(frozen=True)
class Note:
    """One sentence for the person; ``warning`` if it should worry them."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Finished:
    """The run is complete; ``already`` if it was before."""

    run: Run
    already: bool = False


Event = Started | training.Tick | Note | Finished
Watch = Callable[[Event], None]


def _unwatched(_event: Event) -> None:
    pass


# -- data -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataOfRun:
    """Training images, images to validate on, and which those are."""

    train: Images
    valid: Images
    valid_split: str


def load_data(recipe: Recipe, data_dir: Path | None) -> DataOfRun:
    """The images of a recipe: ``data.valid`` images set aside, else the published valid split, else test.

    ``threshold`` is applied to all; ``dynamic`` to the validation images alone, once, by a fixed seed.
    """
    module = catalog.load("datasets", recipe.data["name"])
    options, mode = recipes.load_options(recipe), recipe.data["binarize"]
    train: Images = module.load(data_dir, "train", **options)
    if recipe.data["valid"]:
        train, valid = split_off(train, recipe.data["valid"])
        split = f"{recipe.data['valid']} images set aside from train"
    else:
        split = "valid" if "valid" in module.ABOUT.splits else "test"
        valid = module.load(data_dir, split, **options)
    return DataOfRun(train if mode == "dynamic" else binarize(train, mode), binarize(valid, mode), split)


def list_data(data_dir: Path | None = None) -> list[dict[str, Any]]:
    """Name, facts and whereabouts of every data set."""
    rows = []
    for name in catalog.names("datasets"):
        module = catalog.load("datasets", name)
        about = module.ABOUT
        rows.append(
            {
                "name": name,
                "title": about.title,
                "images": dict(about.splits),
                "shape": list(about.image_shape),
                "licence": about.licence,
                "source": about.source,
                "place": _place(module, data_dir),
            }
        )
    return rows


def _place(module: Any, data_dir: Path | None) -> str:
    """Where the files of a data set lie."""
    if not module.ABOUT.files:
        return "comes with vaelab"
    found = module.find(data_dir) if hasattr(module, "find") else None
    return str(found) if found else "not here yet"


def get_data(name: str, target: Path | None = None) -> Path | None:
    """Download a data set to ``target`` or the cache; None for one that needs no files."""
    module = catalog.load("datasets", name)
    if not module.ABOUT.files:
        return None
    folder: Path = module.get(target)
    return folder


def check_data(path: Path) -> tuple[str, list[tuple[str, str]]]:
    """(data set, [(file, "ok" or what is wrong)]) for the data set whose files lie in or below ``path``."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    checkable = {name: catalog.load("datasets", name) for name in catalog.names("datasets")}
    results = []
    for name, module in checkable.items():
        if hasattr(module, "check"):
            try:
                results.append((name, list(module.check(path))))
            except FileNotFoundError:
                continue
    if not results:
        kinds = ", ".join(name for name, module in checkable.items() if hasattr(module, "check"))
        raise FileNotFoundError(f"{path}: no data set that vaelab can check here (it knows {kinds})")
    return min(results, key=lambda result: sum(verdict != "ok" for _, verdict in result[1]))


# -- training ---------------------------------------------------------------------------------------------------------


def run_directory(recipe_name: str, overrides: Mapping[str, Any]) -> Path:
    """``runs/RECIPE`` with the overrides appended."""
    parts = [recipe_name, *(f"{key}={value}" for key, value in sorted(overrides.items()))]
    name = "-".join(part.replace("/", "_").replace("\\", "_").replace(" ", "") for part in parts)
    return Path("runs") / name


def plan(
    name: str, set: Mapping[str, Any] | None = None, *, data: str | Path | None = None, run: str | Path | None = None
) -> dict[str, Any]:
    """What ``train`` with these arguments would do, without doing it."""
    overrides = dict(set or {})
    recipe = recipes.load(name, overrides)
    images = load_data(recipe, Path(data) if data else None)
    recipe = recipe.settled(len(images.train))
    with torch.device("meta"):
        vae, _ = recipes.build(recipe, images.train.image_shape, len(images.train))
    target = Run(run or run_directory(recipe.name, overrides))
    return {
        "recipe": recipe,
        "run": target,
        "state": "done" if target.is_trained else "resumes" if target.exists else "new",
        "images": {"train": len(images.train), images.valid_split: len(images.valid)},
        "image_shape": images.train.image_shape,
        "steps": recipe.training.num_steps(len(images.train)),
        "parameters": vae.num_parameters,
        "equivalents": recipes.equivalents(recipe, vae.facts),
    }


def train(
    name: str | Path,
    set: Mapping[str, Any] | None = None,
    *,
    data: str | Path | None = None,
    run: str | Path | None = None,
    device: str = "auto",
    watch: Watch = _unwatched,
) -> Run:
    """Train a recipe into a run directory, or go on where it stopped; draw the figures and write the report.

    ``name``: a preset or a .toml. ``set``: dotted keys such as {"objective.beta": 4}. ``data``: where the images lie.
    ``run``: the directory (default runs/RECIPE with the overrides appended). Raises ValueError for what cannot be
    trained, RunInUse, OtherRecipe, Diverged, and Interrupted (a KeyboardInterrupt) after saving.
    """
    overrides = dict(set or {})
    recipe = recipes.load(name, overrides)
    target = Run(run or run_directory(recipe.name, overrides))
    if target.exists:
        target.check_same(recipe)
        if target.is_trained and (target.path / REPORT).is_file():
            watch(Finished(target, already=True))
            return target
    with target.locked():
        _train_locked(target, recipe, data, device, _command(name, overrides, data, run), watch)
    watch(Finished(target))
    return target


def _train_locked(
    target: Run, recipe: Recipe, data: str | Path | None, device_name: str, command: str, watch: Watch
) -> None:
    images = load_data(recipe, Path(data) if data else None)
    recipe = recipe.settled(len(images.train))
    resumed = target.exists
    device = resolve_device(device_name if device_name != "auto" or not resumed else target.machine["torch_device"])
    threads = _threads(recipe, target)
    precision = resolve_precision(recipe.training.precision)

    def tell(text: str, *, warning: bool = False) -> None:
        target.log(f"{'warning: ' if warning else ''}{text}")
        watch(Note(text, warning))

    with settled(device, precision, threads):
        machine = {
            "recipe": recipe.name,
            "command": command,
            **describe_machine(device),
            "torch_device": str(device),
            "precision": precision,
            "data": images.train.source,
            "data_sha256": images.train.fingerprint(),
            "validated_on": images.valid_split,
            "notes": _notes(images),
        }
        if resumed:
            _check_machine(target, machine, tell)
        else:
            target.begin(recipe, machine)
        if not target.is_trained:
            _train_to_end(target, recipe, images, device, machine, tell, watch)
        model = load(target.path)
        model.to(device)
        evaluation.evaluate(target, model, images.valid, images.valid_split)
        draw_figures(target, model, images)
        _report(target, model)


def _train_to_end(
    target: Run,
    recipe: Recipe,
    images: DataOfRun,
    device: torch.device,
    machine: Mapping[str, Any],
    tell: Callable[..., None],
    watch: Watch,
) -> None:
    settings = recipe.training
    vae, objective = recipes.build(recipe, images.train.image_shape, len(images.train))
    state = training.begin(vae, objective, settings, device)
    batches = training.Batches(images.train, settings.batch_size, settings.seed, device)
    step, tensors, notes = target.load_checkpoint()
    for note in notes:
        tell(note, warning=True)
    if step:
        state.restore(step, tensors)
    target.cut(step)
    total = settings.num_steps(len(images.train))
    watch(Started(target, recipe, step, total, len(images.train), batches.steps_per_epoch, vae.num_parameters, machine))
    tell(f"goes on after step {step} of {total}" if step else f"starts: {total} steps")
    if getattr(objective, "warmup_steps", 0) > total:
        tell(f"the warm-up ({objective.warmup_steps} steps) is longer than the run ({total} steps)", warning=True)
    timing = target.table(TIMING)
    with stop_signals() as stop:
        ticks = training.train(
            state,
            batches,
            settings,
            binarize=recipe.data["binarize"],
            precision=resolve_precision(settings.precision),
            valid=images.valid,
            stop=stop,
            seconds_before=float(timing["seconds"][-1]) if timing else 0.0,
        )
        for tick in ticks:
            _store(target, tick, batches)
            if tick.checkpoint_due:
                target.save_checkpoint(tick.step, state.tensors())
            for warning in tick.warnings:
                tell(warning, warning=True)
            watch(tick)
            if tick.stopped:
                tell(f"stopped at step {tick.step} of {total} and saved; the same command goes on from here")
                raise Interrupted(
                    f"stopped at step {tick.step} of {total} and saved; the same command goes on from here"
                )
        facts = {
            "format": MODEL_FORMAT,
            "recipe": {"title": recipe.title, **recipe.sections()},
            "name": recipe.name,
            "image_shape": list(images.train.image_shape),
            "num_images": len(images.train),
            "step": state.step,
        }
        save_tensors(target.path / "model.safetensors", vae.state_dict(), facts)
    tell(f"trained {total} steps")


def _store(target: Run, tick: training.Tick, batches: training.Batches) -> None:
    count = len(tick.terms["loss"])
    columns = list(tick.terms)
    rows = []
    for i in range(count):
        step = tick.step - count + i
        rows.append([step + 1, batches.epoch(step) + 1, *(float(tick.terms[name][i]) for name in columns)])
    if rows:
        target.append(HISTORY, ["step", "epoch", *columns], rows)
        target.append(
            TIMING, ["step", "seconds", "images_per_second"], [[tick.step, tick.seconds, tick.images_per_second]]
        )
    if tick.validation:
        names = list(tick.validation)
        target.append(VALIDATION, ["step", "epoch", *names], [[tick.step, tick.epoch, *tick.validation.values()]])


def _threads(recipe: Recipe, target: Run) -> int:
    """The recipe's number, else that of the run's beginning, else every processor: bits depend on it."""
    if recipe.training.threads != "auto":
        return int(recipe.training.threads)
    return int(target.machine.get("threads", default_threads()))


def _check_machine(target: Run, machine: Mapping[str, Any], tell: Callable[..., None]) -> None:
    before = target.machine
    if before.get("data_sha256") != machine["data_sha256"]:
        raise ValueError(
            f"{target.path}: the training images are not those that the run began with "
            f"({before.get('data')} then, {machine['data']} now); name the right place with --data or start another --run"
        )
    changed = [key for key in ("device", "threads", "torch", "precision") if before.get(key) != machine[key]]
    if changed and not target.is_trained:
        what = ", ".join(f"{key} {before.get(key)} then, {machine[key]} now" for key in changed)
        tell(f"{what}: the run goes on, but not bit for bit as it would have", warning=True)


def _notes(images: DataOfRun) -> list[str]:
    notes = [*images.train.notes]
    if images.valid_split == "test":
        notes.append("validated on the test split: nothing was selected by it")
    return notes


def _command(name: str | Path, overrides: Mapping[str, Any], data: str | Path | None, run: str | Path | None) -> str:
    words = ["vaelab", "train", str(name)]
    for key, value in overrides.items():
        words += ["--set", f"{key}={value}"]
    words += ["--data", str(data)] if data else []
    words += ["--run", str(run)] if run else []
    return shlex.join(words)


# -- after training ---------------------------------------------------------------------------------------------------


def load(path: str | Path) -> VAE:
    """The model of a run directory or of a ``model.safetensors``, on the CPU; nothing in it is executed."""
    path = Path(path)
    file = Run.open(path).model_path if path.is_dir() else path
    tensors, facts = load_tensors(file)
    if facts.get("format") != MODEL_FORMAT:
        raise ValueError(f"{file}: not a vaelab model, or one of another version (format {facts.get('format')})")
    recipe = recipes.validate(_mapping(facts["recipe"]), str(facts["name"]))
    channels, height, width = (int(str(side)) for side in _sequence(facts["image_shape"]))
    vae, _ = recipes.build(recipe, (channels, height, width), int(str(facts["num_images"])))
    vae.load_state_dict(tensors)
    vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return vae.eval()


def _mapping(value: object) -> Mapping[str, Any]:
    assert isinstance(value, Mapping)
    return value


def _sequence(value: object) -> Sequence[object]:
    assert isinstance(value, Sequence)
    return value


def data_of(run: Run, data: str | Path | None) -> DataOfRun:
    """The images that ``run`` was trained and validated on, from ``data`` or from where they lay then."""
    place = data
    if place is None:
        command = shlex.split(run.machine.get("command", ""))
        place = command[command.index("--data") + 1] if "--data" in command else None
        place = place if place and Path(place).exists() else None
    images = load_data(run.recipe, Path(place) if place else None)
    wanted = run.machine.get("data_sha256")
    if wanted and images.train.fingerprint() != wanted:
        raise ValueError(
            f"the images in {images.train.source} are not those that {run.path} was trained on; see --data"
        )
    return images


def draw_figures(run: Run, model: VAE, images: DataOfRun, names: Sequence[str] | None = None) -> list[str]:
    """Draw figures (default: all that have a meaning here) into the run; the names drawn."""
    modules = {name: catalog.load("figures", name) for name in (names or catalog.names("figures"))}
    drawn = []
    with progress("drawing", len(modules)) as bar:
        for name, module in modules.items():
            arrays = _arrays(run, model, images, name, module)
            if arrays is not None:
                words = {"Software": "vaelab", "Title": module.TITLE, "Description": module.caption(arrays)}
                buffer = io.BytesIO()
                module.draw(arrays).savefig(buffer, format="png", metadata=words)
                run.write_figure(name, buffer.getvalue())
                drawn.append(name)
            bar.advance(1)
    return drawn


def _arrays(run: Run, model: VAE, images: DataOfRun, name: str, module: Any) -> dict[str, Any] | None:
    if hasattr(module, "collect"):
        collected: dict[str, Any] | None = module.collect(run.history, run.validation)
        return collected
    seed = run.recipe.training.seed
    chosen = images.train if module.SPLIT == "train" else images.valid
    computed: dict[str, Any] | None = module.compute(model, chosen, generator(seed, "figure", name))
    return computed


def _report(run: Run, model: VAE) -> None:
    order = {name: getattr(catalog.load("figures", name), "ORDER", 99) for name in catalog.names("figures")}
    write_report(run, sorted(order, key=lambda name: (order[name], name)), describe_model(run.recipe, model))


def describe_model(recipe: Recipe, model: VAE) -> dict[str, str]:
    """Lines about a model for people: sizes, parameters, β in other papers' terms."""
    facts, counts = model.facts, model.num_parameters
    channels, height, width = facts.image_shape
    other = recipes.equivalents(recipe, facts)
    lines = {
        "images": f"{height}×{width}, {'grey' if channels == 1 else 'RGB'}; {facts.num_images:,} to train on",
        "latents": str(facts.latent_dim),
        "parameters": f"{sum(counts.values()):,} (encoder {counts['encoder']:,}, decoder {counts['decoder']:,})",
        "β": f"{other['beta']:g} (normalised, β·d/D: {other['beta_normalised']:.4g})",
    }
    if "sigma" in other:
        lines["equivalent decoder σ"] = f"{other['sigma']:.4g}"
    return lines


def figures(run_path: str | Path, *, data: str | Path | None = None, names: Sequence[str] | None = None) -> list[Path]:
    """Draw the figures of a run again and update its report; the files drawn."""
    run = Run.open(run_path)
    for name in names or ():
        catalog.load("figures", name)
    model = load(run.path)
    drawn = draw_figures(run, model, data_of(run, data), names)
    _report(run, model)
    return [run.figures[name] for name in drawn]


def report(run_path: str | Path) -> Path:
    """Write the report of a run again from what lies in its directory."""
    run = Run.open(run_path)
    _report(run, load(run.path))
    return run.path / REPORT


def evaluate(
    run_path: str | Path, *, data: str | Path | None = None, metrics: Sequence[str] | None = None
) -> dict[str, Any]:
    """Measure a run on its held-out images, write evaluation.json, update the report; metric → numbers and protocol."""
    run = Run.open(run_path)
    chosen = tuple(metrics) if metrics else evaluation.DEFAULT_METRICS
    for name in chosen:
        catalog.load("metrics", name)
    model, images = load(run.path), data_of(run, data)
    results = evaluation.evaluate(run, model, images.valid, images.valid_split, chosen)
    _report(run, model)
    return results


# -- pictures and codes -----------------------------------------------------------------------------------------------


def output_path(given: str | Path | None, default: str, *, overwrite: bool) -> Path:
    """Where to write: the path given, which must be free unless ``overwrite``, else a free one like ``default``."""
    if given is None:
        return free_path(Path(default))
    path = Path(given)
    if path.exists() and not overwrite and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"{path} exists; choose another --out, or say --overwrite")
    return path


def _write_pictures(path: Path, pixels: np.ndarray[Any, np.dtype[np.uint8]], columns: int) -> None:
    """One sheet if ``path`` ends in .png, else a folder of single pictures."""
    if path.suffix.lower() == ".png":
        write_atomic(path, encode_png(tile(pixels, columns)))
        return
    if path.suffix:
        raise ValueError(f"{path}: pictures go to a .png or into a folder (a name without an ending)")
    width = len(str(len(pixels) - 1))
    for i, image in enumerate(pixels):
        write_atomic(path / f"{i:0{width}d}.png", encode_png(image))


def sample(
    run_path: str | Path, *, count: int = 25, seed: int = 0, out: str | Path | None = None, overwrite: bool = False
) -> Path:
    """Images decoded from the prior, to a .png sheet or a folder."""
    model = load(run_path)
    path = output_path(out, f"{Path(run_path).resolve().name}-samples.png", overwrite=overwrite)
    pixels = to_uint8(model.sample(count, derive_seed(seed, "sample")))
    _write_pictures(path, pixels, columns=_columns(count))
    return path


def _columns(count: int) -> int:
    return int(np.ceil(np.sqrt(count)))


def _inputs(
    run_path: str | Path, model: VAE, images: str | Path | None, data: str | Path | None
) -> tuple[Images, list[str]]:
    """The pictures at ``images``, else the run's held-out images."""
    if images is not None:
        return read_pictures(Path(images), model.facts.image_shape)
    run = Run.open(run_path)
    held_out = data_of(run, data)
    return held_out.valid, [f"{held_out.valid_split}[{i}]" for i in range(len(held_out.valid))]


def reconstruct(
    run_path: str | Path,
    images: str | Path | None = None,
    *,
    count: int = 16,
    data: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Originals above their reconstructions to a .png; or single reconstructions into a folder."""
    model = load(run_path)
    given, _ = _inputs(run_path, model, images, data)
    path = output_path(out, f"{Path(run_path).resolve().name}-reconstructions.png", overwrite=overwrite)
    originals = np.asarray(given.pixels[:count])
    rebuilt = to_uint8(torch.from_numpy(model.reconstruct(originals)))
    if path.suffix.lower() != ".png":
        _write_pictures(path, rebuilt, columns=1)
        return path
    columns = min(8, len(originals))
    rows: list[np.ndarray[Any, Any]] = []
    for start in range(0, len(originals), columns):
        for part in (originals, rebuilt):
            row = part[start : start + columns]
            paper = np.full((columns - len(row), *row.shape[1:]), 255, np.uint8)
            rows.append(np.concatenate([row, paper]))
    _write_pictures(path, np.concatenate(rows), columns)
    return path


def encode(
    run_path: str | Path,
    images: str | Path | None = None,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Posterior means and log-variances of images to .parquet, .csv or .npz, with names and labels where known."""
    model = load(run_path)
    path = output_path(out, f"{Path(run_path).resolve().name}-codes.parquet", overwrite=overwrite)
    if path.suffix not in (".parquet", ".csv", ".npz"):
        raise catalog.unknown("ending of --out", path.suffix or path.name, (".parquet", ".csv", ".npz"))
    given, names = _inputs(run_path, model, images, data)
    codes = encode_images(model, given)
    buffer = io.BytesIO()
    if path.suffix == ".npz":
        labels = {} if given.labels is None else {"labels": given.labels}
        np.savez_compressed(buffer, names=np.array(names), mean=codes.mean, log_var=codes.log_var, **labels)
    else:
        import pyarrow
        from pyarrow import csv, parquet

        columns: dict[str, Any] = {"image": names}
        if given.labels is not None:
            columns["label"] = given.labels
        for word, values in (("mean", codes.mean), ("log_var", codes.log_var)):
            columns.update({f"{word}_{j + 1}": values[:, j] for j in range(values.shape[1])})
        table = pyarrow.table(columns)
        writer = parquet.write_table if path.suffix == ".parquet" else csv.write_csv
        writer(table, buffer)
    write_atomic(path, buffer.getvalue())
    return path


def list_recipes() -> list[dict[str, Any]]:
    """Every preset with data, network, objective, size and the numbers it should reach."""
    rows = []
    for name in recipes.presets():
        recipe = recipes.load(name)
        about = catalog.load("datasets", recipe.data["name"]).ABOUT
        with torch.device("meta"):
            vae, _ = recipes.build(recipe, about.image_shape, about.splits["train"])
        rows.append(
            {
                "name": name,
                "title": recipe.title,
                "data": recipe.data["name"],
                "image_shape": list(about.image_shape),
                "network": recipe.network["name"],
                "objective": recipe.objective["name"],
                "likelihood": recipe.likelihood["name"],
                "latent_dim": recipe.latent_dim,
                "parameters": sum(vae.num_parameters.values()),
                "epochs": recipe.training.epochs,
                "expected": recipe.expected,
            }
        )
    return rows
