"""Tables and sentences of the docs that follow from the files in docs/results.

``run`` shows the results of one run (docs/results/collect.py), ``sweep`` those of a sweep (its comparison.json),
``speed`` and ``roofline`` those of benchmarks/speed.py. ``claims`` are sentences that a page must contain as they
follow from the files.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import fmean, median
from typing import Any

RESULTS = Path(__file__).parent / "results"


def read(name: str) -> Any:
    """The content of a file of results."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def as_number(value: float, digits: int = 2) -> str:
    """A number with a true minus sign and separators of thousands."""
    return f"{value:,.{digits}f}".replace("-", "−")


# -- runs -------------------------------------------------------------------------------------------------------------

QUANTITIES = {
    "loss_epoch_1": "training loss, epoch 1",
    "loss_epoch_5": "epoch 5",
    "loss_epoch_10": "epoch 10",
    "loss_at_end": "at the end",
    "loss_last_five_epochs": "last five epochs",
    "reconstruction_at_end": "reconstruction, at the end",
    "kl_at_end": "KL, at the end",
    "beta_kl_at_end": "β·KL, at the end",
    "nll": "−ln p(x)",
}
"""Number in a run's ``measured`` → its row."""


def run(name: str) -> list[tuple[str, ...]]:
    """Rows of one run: published numbers of its preset, and the measured ones."""
    from vaelab import recipe

    found = read(name)
    expected = recipe.load(found["command"].split()[2]).expected
    measured, elbo = found["measured"], found["evaluation"]["elbo"]
    rows = [
        (words, f"{expected[key]:g}" if key in expected else "–", as_number(measured[key]))
        for key, words in QUANTITIES.items()
        if key in measured
    ]
    loss, reconstruction, kl = (as_number(elbo[key]) for key in ("reconstruction_plus_kl", "reconstruction", "kl"))
    bound = f"{as_number(elbo['elbo'])} ± {as_number(elbo['elbo_standard_error'])}"
    rows.append(("held-out images: loss = reconstruction + KL", "–", f"{loss} = {reconstruction} + {kl}"))
    rows.append(("held-out images: ELBO ± standard error", "–", bound))
    rows.append(("training time, s", "–", as_number(measured["seconds"], 0)))
    return [("quantity", "published", "vaelab"), *rows]


MEASURED = (
    ("decomposition", "mutual_information", "index-code mutual information", 2),
    ("decomposition", "total_correlation", "total correlation", 2),
    ("decomposition", "dimension_wise_kl", "dimension-wise KL", 2),
    ("active_units", "active_units", "active units", 0),
    ("probe", "balanced_accuracy", "probe: balanced accuracy, mean over attributes", 3),
    ("probe", "accuracy", "probe: accuracy, mean over attributes", 3),
    ("reconstruction", "psnr_mean_over_finite", "PSNR of reconstructions, dB", 2),
    ("reconstruction", "ssim", "SSIM of reconstructions", 3),
    ("sliced_wasserstein", "reconstruction_swd", "sliced Wasserstein distance of reconstructions × 1000", 0),
    ("sliced_wasserstein", "swd", "… of samples from the prior", 0),
    ("sliced_wasserstein", "training_swd", "… of training images", 0),
)
"""Metric and its number → row and digits."""


def pair(*names: str) -> list[tuple[str, ...]]:
    """Rows of several runs side by side: losses, and the metrics that all of them have."""
    runs = [read(name) for name in names]
    rows = [
        (words, *(as_number(each["measured"][key]) if key in each["measured"] else "–" for each in runs))
        for key, words in QUANTITIES.items()
        if any(key in each["measured"] for each in runs)
    ]
    rows.append(("held-out images: ELBO", *(_with_error(each["evaluation"]["elbo"], "elbo", 2) for each in runs)))
    for metric, key, words, digits in MEASURED:
        if all(key in each["evaluation"].get(metric, {}) for each in runs):
            rows.append((words, *(_with_error(each["evaluation"][metric], key, digits) for each in runs)))
    rows.append(("training time, s", *(as_number(each["measured"]["seconds"], 0) for each in runs)))
    titles = (f"`{each['command'].split()[2]}`" for each in runs)
    return [("", *titles), *rows]


def _with_error(metric: Mapping[str, float], key: str, digits: int) -> str:
    value, error = as_number(metric[key], digits), metric.get(f"{key}_standard_error")
    return value if error is None else f"{value} ± {as_number(error, digits)}"


def likelihoods(*names: str) -> list[tuple[str, ...]]:
    """Rows of −ln p(x): what the presets of these runs expect, and what was measured on the test images."""
    from vaelab import recipe

    rows = []
    for name in names:
        found = read(name)
        preset = recipe.load(found["command"].split()[2])
        nll, elbo = (found["splits"]["test"][metric] for metric in ("nll", "elbo"))
        kept = found.get("best_step", found["num_steps"])
        epochs = dict(zip(found["validation"]["step"], found["validation"]["epoch"], strict=True))
        rows.append(
            (
                f"`{preset.name}`",
                f"`{preset.prior['name']}`",
                as_number(preset.expected["nll"]),
                f"**{_with_error(nll, 'nll', 2)}**",
                as_number(-elbo["elbo"]),
                as_number(nll["effective_samples"], 0),
                as_number(epochs[kept], 0),
            )
        )
    titles = ("published −ln p(x)", "vaelab", "−ELBO", "effective samples of 5,000", "epochs")
    return [("preset", "prior", *titles), *rows]


def half_size(*names: str) -> list[tuple[str, ...]]:
    """Rows of runs on 64×64 pixels beside what their presets expect on 128×128: losses per image and per pixel."""
    from vaelab import recipe

    columns: list[dict[str, str]] = []
    for name in names:
        found = read(name)
        words = found["command"].split()
        expected, measured, elbo = recipe.load(words[2]).expected, found["measured"], found["evaluation"]["elbo"]
        weighted = "beta_kl_at_end" if "beta_kl_at_end" in expected else "kl_at_end"
        beta = measured["beta_kl_at_end"] / measured["kl_at_end"] if "beta_kl_at_end" in measured else 1.0
        held_out = elbo["reconstruction"] + beta * elbo["kl"]
        epochs = recipe.load(words[2]).training.epochs
        published_steps = epochs * -(-PUBLISHED_IMAGES // 32)
        columns += [
            {
                "title": f"`{words[2]}`, published",
                "pixels": "128×128",
                "training images": as_number(PUBLISHED_IMAGES, 0),
                "steps": as_number(published_steps, 0),
                "training loss at the end": _per_pixel(expected["loss_at_end"], 128),
                "(β·)KL at the end": as_number(expected[weighted], 0),
            },
            {
                "title": f"`{words[2]}`, half size",
                "pixels": "64×64",
                "training images": as_number(found["num_images"], 0),
                "steps": as_number(found["num_steps"], 0),
                "training loss at the end": _per_pixel(measured["loss_at_end"], 64),
                "(β·)KL at the end": as_number(measured.get(weighted, measured["kl_at_end"]), 1),
                "held-out loss": _per_pixel(held_out, 64),
                "held-out reconstruction": _per_pixel(elbo["reconstruction"], 64),
                "held-out KL": as_number(elbo["kl"], 1),
                "PSNR of held-out reconstructions, dB": as_number(
                    found["evaluation"]["reconstruction"]["psnr_mean_over_finite"]
                ),
            },
        ]
    rows = list(dict.fromkeys(row for column in columns for row in column if row != "title"))
    return [
        ("per image (per pixel)", *(column["title"] for column in columns)),
        *((row, *(column.get(row, "–") for column in columns)) for row in rows),
    ]


PUBLISHED_IMAGES = 162_770
"""Training images of CelebA."""


def _per_pixel(loss: float, side: int) -> str:
    return f"{as_number(loss, 1)} ({loss / side**2:.4f})"


def setting(name: str) -> str:
    """The command and the machine of a run in one sentence."""
    found = read(name)
    machine = found["machine"]
    day = datetime.fromisoformat(machine["finished"])
    threads = "one thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    return (
        f"Measured with `{found['command']}` on {day.day} {day:%B %Y}: {machine['precision']}, {threads} of an "
        f"{machine['processor'].replace('(R)', '')}, PyTorch {machine['torch'].partition('+')[0]}."
    )


SWEEP = {
    "reconstruction": ("reconstruction", 2),
    "kl": ("KL", 2),
    "elbo": ("ELBO", 2),
    "mutual_information": ("index-code mutual information", 2),
    "total_correlation": ("total correlation", 3),
    "dimension_wise_kl": ("dimension-wise KL", 3),
    "active_units": ("active units", 1),
    "balanced_accuracy": ("probe balanced accuracy", 3),
    "psnr_mean_over_finite": ("PSNR, dB", 2),
    "udr": ("UDR", 3),
}
"""Column of comparison.json → its row and digits."""


def sweep(name: str) -> list[tuple[str, ...]]:
    """Rows of a comparison: mean ± standard error over the seeds of each setting."""
    runs = read(name)["runs"]
    labels = list(dict.fromkeys(each["label"] for each in runs))
    groups = [[each for each in runs if each["label"] == label] for label in labels]
    rows = [
        (words, *(_mean_and_error([each[column] for each in group], digits) for group in groups))
        for column, (words, digits) in SWEEP.items()
        if all(column in each for each in runs)
    ]
    return [("", *labels), *rows]


def _mean_and_error(values: Sequence[float], digits: int) -> str:
    count = len(values)
    mean = sum(values) / count
    error = (sum((value - mean) ** 2 for value in values) / (count - 1) / count) ** 0.5
    return f"{as_number(mean, digits)} ± {as_number(error, digits)}"


# -- speed ------------------------------------------------------------------------------------------------------------

WORKLOADS = {
    "mnist": "`mnist`, ms per step",
    "mlp": "`mlp` 784–400–20, batch 128, ms per step",
    "celeba": "`celeba` from JPEGs, ms per step",
    "celeba-beta": "`celeba-beta` from JPEGs, ms per step",
    "encode": "encode 60,000 MNIST images, s (fp32)",
    "decode": "decode 10,000 samples, s (fp32)",
    "first-step": "start to first step, `mnist`, s",
    "memory": "peak memory, `mnist`, MiB",
}


def workloads() -> Mapping[str, Any]:
    """Name → what was measured of a workload."""
    return {each["name"]: each for name in ("training", "other") for each in read(f"speed-{name}")["workloads"]}


def speed() -> list[tuple[str, ...]]:
    """Costs of each workload in vaelab and elsewhere, and the ratios."""
    found = workloads()
    rows = []
    for name, title in WORKLOADS.items():
        costs, ratios = found[name]["costs"], found[name]["ratios"]
        cells = [_with_range(costs[who], 3) for who in ("vaelab", "plain", "pythae")]
        cells += [_with_range(ratios[who], 3, is_ratio=True) for who in ("plain", "pythae")]
        rows.append((title, *cells))
    return [("", "vaelab (bf16)", "plain", "Pythae", "plain ÷ vaelab", "Pythae ÷ vaelab"), *rows]


def _with_range(found: Mapping[str, float], digits: int, is_ratio: bool = False) -> str:
    def word(value: float) -> str:
        return f"{value:.2f}" if is_ratio else f"{value:#.{digits}g}".removesuffix(".")

    return f"{word(found['median'])} ({word(found['lowest'])} to {word(found['highest'])})"


def costs() -> list[tuple[str, ...]]:
    """Time of a step with each member, relative to the plain VAE's: median and range of paired ratios."""
    rows = []
    for name, each in read("member-costs")["members"].items():
        if "skipped" in each:
            continue
        partner = ", ".join(f"`{value}`" for value in list(each["overrides"].values())[1:])
        pairs = zip(each["seconds"], each["plain"], strict=True)
        ratios = sorted(seconds / plain for seconds, plain in pairs)
        found = f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        rows.append((median(ratios), (f"`{name}`", partner, found, f"{1000 * median(each['seconds']):.1f}")))
    return [("member", "with", "time of a step, plain VAE = 1", "ms"), *(row for _, row in sorted(rows))]


def generation(images: str) -> list[tuple[str, ...]]:
    """Rows of benchmarks/generation.py for one set of images: means over seeds, with the range if there are several."""
    entries: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for each in read("generation").values():
        if each["set"] == images:
            entries.setdefault((each["row"], each["steps"]), []).append(each)
    titles = ("PSNR", "SSIM", "ELBO", "FD", "P, R", "s")
    return [
        ("model", "steps", "seeds", "SWD: prior", "`gmm`", "others", "rebuilt", *titles),
        *(_generation_row(*key, entries[key]) for key in sorted(entries, key=lambda key: _best_distance(entries[key]))),
    ]


SETS = {"portraits": "portraits", "faces": "real faces", "mnist": "MNIST", "fashion": "Fashion-MNIST"}
"""Set of benchmarks/generation.py → its title."""
COMPARED_STEPS = 1500


def generation_summary() -> list[tuple[str, ...]]:
    """Rows that were measured after the same steps: SWD of the best sampler, PSNR and distance by a classifier.

    The order is that of the mean ratio of SWD to the plain VAE's, over the sets where a row was measured.
    """
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for each in read("generation").values():
        if each["steps"] == COMPARED_STEPS:
            found.setdefault(each["row"], {}).setdefault(each["set"], []).append(each)
    plain = found["plain"]

    def ratio(name: str) -> float:
        return fmean(_mean_distance(entries) / _mean_distance(plain[images]) for images, entries in found[name].items())

    rows = []
    for name in sorted(found, key=ratio):
        cells = [_summarise(entries) if (entries := found[name].get(images)) else "–" for images in SETS]
        rows.append((f"`{name}`", *cells, f"{ratio(name):.2f}"))
    return [("model", *SETS.values(), "SWD, `plain` = 1"), *rows]


def _summarise(entries: Sequence[dict[str, Any]]) -> str:
    found = [f"{_mean_distance(entries):.0f}", f"{fmean(each['psnr_mean_over_finite'] for each in entries):.1f}"]
    if by_classifier := [best["fd_classifier"] for each in entries if "fd_classifier" in (best := _best_samples(each))]:
        found.append(f"{fmean(by_classifier):.1f}")
    return ", ".join(found)


def _mean_distance(entries: Sequence[dict[str, Any]]) -> float:
    return fmean(_best_distance([each]) for each in entries)


def _best_distance(entries: Sequence[dict[str, Any]]) -> float:
    return float(_best_samples(entries[0])["swd"])


def _best_samples(entry: dict[str, Any]) -> dict[str, Any]:
    """The best sampler's numbers; its samples are new, unlike those of aggregate, variations of training images."""
    numbers = [found for name, found in entry["samplers"].items() if name != "aggregate"]
    return min(numbers, key=lambda found: float(found["swd"]))


def _generation_row(name: str, steps: int, entries: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    def of(sampler: str, *keys: str, digits: int = 0) -> str:
        found = [each["samplers"][sampler] for each in entries if sampler in each["samplers"]]
        values = [next(each[key] for key in keys if key in each) for each in found]
        return _spread(values, digits) if values else "–"

    samplers = entries[0]["samplers"]
    others = [f"{of(sampler, 'swd')} `{sampler}`" for sampler in samplers if sampler not in ("prior", "gmm")]
    best = min(samplers.keys() - {"aggregate"}, key=lambda sampler: samplers[sampler]["swd"])
    return (
        f"`{name}`",
        as_number(steps, 0),
        str(len(entries)),
        of("prior", "swd"),
        of("gmm", "swd"),
        ", ".join(others) or "–",
        _spread([each["reconstruction_swd"] for each in entries], 0),
        _spread([each["psnr_mean_over_finite"] for each in entries], 2),
        _spread([each["ssim"] for each in entries], 3),
        _spread([each["elbo"] for each in entries], 1),
        of(best, "fid", "fd_classifier", "fd_pca", digits=2),
        f"{of(best, 'precision', digits=2)}, {of(best, 'recall', digits=2)}",
        _spread([each["seconds"] for each in entries], 0),
    )


def _spread(values: Sequence[float], digits: int) -> str:
    """The mean, with half of the range if there are several values."""
    mean = as_number(sum(values) / len(values), digits)
    return mean if len(values) == 1 else f"{mean} ± {as_number((max(values) - min(values)) / 2, digits)}"


def roofline() -> list[tuple[str, ...]]:
    """FLOP, bytes, lower bound and measured time of a step."""
    rows = [
        (
            f"`{name}`",
            f"{each['flop'] / 1e9:.2f}",
            f"{each['bytes'] / 1e6:#.3g}".removesuffix("."),
            f"{each['ms_bound']:#.3g}".removesuffix("."),
            f"{each['ms_per_step']:#.3g}".removesuffix("."),
            f"{100 * each['reached']:.0f} %",
        )
        for name, each in read("speed-training")["roofline"]["workloads"].items()
    ]
    return [("step of", "GFLOP", "MB", "bound, ms", "measured, ms", "reached"), *rows]


# -- sentences --------------------------------------------------------------------------------------------------------


def claims() -> list[tuple[str, str]]:
    """(Page, sentence that it must contain)."""
    from vaelab import recipe

    plain = {name: each["ratios"]["plain"]["median"] for name, each in workloads().items() if "plain" in each["ratios"]}
    mnist, digits = read("mnist")["measured"], read("digits")["measured"]
    probed = read("celeba-drawn")["evaluation"]["probe"]["balanced_accuracy_per_attribute"]
    of_beta = read("celeba-beta-drawn")["evaluation"]["probe"]["balanced_accuracy_per_attribute"]
    real, published = read("celeba-real")["evaluation"], recipe.load("celeba").expected
    real_swd = real["sliced_wasserstein"]
    real_beta_swd = read("celeba-beta-real")["evaluation"]["sliced_wasserstein"]
    total_correlation = {
        name: read(name)["evaluation"]["decomposition"]["total_correlation"]
        for name in ("celeba-drawn", "celeba-beta-drawn")
    }
    performance, results = "docs/explanation/performance.md", "docs/explanation/results.md"
    faces = {key.removeprefix("faces/"): each["samplers"] for key, each in read("generation").items()}
    portraits = [
        f"{read('generation')[f'portraits/{key}']['samplers']['gmm']['swd']:.0f}"
        for key in ("folder/0/0", "folder-best/10000/0")
    ]

    def prior_distance(images: str, name: str) -> float:
        key = f"{images}/{name}/{COMPARED_STEPS}/"
        return fmean(
            each["samplers"]["prior"]["swd"] for found, each in read("generation").items() if found.startswith(key)
        )

    return [
        (
            results,
            f"falls from {faces['plain/5640/0']['prior']['swd']:.0f} (earlier preset, prior) to "
            f"{faces['folder/0/0']['gmm']['swd']:.0f} with `folder`, which takes less time, and to "
            f"{faces['folder-best/0/0']['gmm']['swd']:.0f} with `folder-best`",
        ),
        (results, f"On portraits it falls from 295 to {' and '.join(portraits)}."),
        (
            results,
            f"they have {prior_distance('mnist', 'folder-vamp'):.0f} instead of "
            f"{prior_distance('mnist', 'folder'):.0f} on MNIST and "
            f"{prior_distance('faces', 'folder-vamp'):.0f} instead of {prior_distance('faces', 'folder'):.0f} on the "
            "real faces",
        ),
        (
            results,
            f"eyeglasses {probed['Eyeglasses']:.3f}, grey hair {probed['Gray_Hair']:.3f}, black hair "
            f"{probed['Black_Hair']:.3f}, pale skin {probed['Pale_Skin']:.3f}, hat {probed['Wearing_Hat']:.3f}",
        ),
        (
            results,
            f"wavy hair {probed['Wavy_Hair']:.3f}, straight hair {probed['Straight_Hair']:.3f}, big lips "
            f"{probed['Big_Lips']:.3f}",
        ),
        (
            results,
            f"receding hairline {of_beta['Receding_Hairline']:.3f}, sideburns {of_beta['Sideburns']:.3f}, bald "
            f"{of_beta['Bald']:.3f}. Worse: rosy cheeks {of_beta['Rosy_Cheeks']:.3f}, lipstick "
            f"{of_beta['Wearing_Lipstick']:.3f}, smile {of_beta['Smiling']:.3f}",
        ),
        (
            results,
            f"{real['elbo']['kl']:.1f} instead of about {published['kl_at_end']:.0f} for `celeba`. "
            f"The error per pixel is larger: {real['elbo']['reconstruction'] / 64**2:.4f} instead of about "
            f"{(published['loss_at_end'] - published['kl_at_end']) / 128**2:.4f}",
        ),
        (
            results,
            f"distance × 1000 of {real_swd['swd']:.0f} (`celeba`) and {real_beta_swd['swd']:.0f} (`celeba-beta`). "
            f"Reconstructions have {real_swd['reconstruction_swd']:.0f} and {real_beta_swd['reconstruction_swd']:.0f}, "
            f"and training images {real_swd['training_swd']:.0f}",
        ),
        (results, f"# after {read('celeba-beta-real')['num_steps']:,} steps"),
        (
            results,
            f"falls from {read('celeba-drawn')['measured']['kl_at_end']:.1f} to "
            f"{read('celeba-beta-drawn')['measured']['kl_at_end']:.1f} nats, and nearly all of the difference is total "
            f"correlation: {total_correlation['celeba-beta-drawn']:.0f} nats instead of "
            f"{total_correlation['celeba-drawn']:.0f}",
        ),
        (
            results,
            f"{read('celeba-beta-drawn')['evaluation']['active_units']['active_units_by_kl']} of the 400 latents",
        ),
        (
            "README.md",
            f"the CelebA experiment trains {plain['celeba']:.1f} times as fast as a plain PyTorch script, the CelebA "
            f"β-VAE {plain['celeba-beta']:.1f} times and MNIST {plain['mnist']:.1f} times",
        ),
        ("README.md", f"mean loss of the last five epochs is {mnist['loss_last_five_epochs']:.2f}"),
        (
            "docs/tutorials/first-steps.md",
            f"loss {digits['loss_at_end']:.2f} = reconstruction {digits['reconstruction_at_end']:.2f} "
            f"+ KL {digits['kl_at_end']:.2f}",
        ),
        (performance, f"changes the ratio of {plain['celeba']:.2f} to"),
        (performance, f"`vaelab --help` takes {workloads()['help']['costs']['vaelab']['median']:.2f} s"),
    ]
