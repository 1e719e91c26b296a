"""What looks wrong with a run, what it means, and what to try."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from vaelab.build import beta_equivalents, declared_objective
from vaelab.models.codes import ACTIVE_KL, Codes
from vaelab.models.spec import Spec
from vaelab.recipe import Recipe
from vaelab.system import registry
from vaelab.system.failures import OnFailure
from vaelab.system.files import DamagedFile

Level = Literal["problem", "notice", "fine"]
Table = Mapping[str, NDArray[np.float64]]

LEAST_GAP, GAP_SHARE = 0.5, 0.05
"""Nats, and share of the KL, that may lie between aggregate posterior and prior without remark."""
IMAGES_PER_LATENT = 4
"""Fewer tell nothing of a covariance."""
GROWTH_OF_GRADIENTS, GROWTH_OF_WEIGHTS = 10.0, 5.0
"""Times the median gradient norm, and the first weight norm, from which they are remarked on."""
SATURATED, SATURATED_SHARE = 1e-3, 0.2
"""Distance from black or white at which a sigmoid hardly learns, and the share of pixels that may be there wrongly."""
OVERFIT_SHARE, RISE_SHARE = 0.05, 0.01
"""Of the loss: how far held-out images may lie above training images, and the end above the best validation."""
NOISE_RATIO = 2.0
"""Times by which the noise that the decoder is told of may miss the errors it makes."""
STILL_FALLING = 0.005
"""Share of the loss by which the last tenth of a training may lie below the tenth before it."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was found, and for all but "fine" what it means and what to try."""

    name: str
    level: Level
    found: str
    meaning: str = ""
    advice: str = ""


@dataclass(frozen=True)
class Evidence:
    """What is known of a run; everything measured on held-out images, at the end of the training."""

    recipe: Recipe
    spec: Spec
    history: Table
    validation: Table
    codes: Codes
    originals: Float[np.ndarray, "n channel height width"]
    """Some of the images, in [0, 1], as the model sees them."""
    reconstructions: Float[np.ndarray, "n channel height width"]
    """Expected images of their posterior means."""


def examine(evidence: Evidence, on_failure: OnFailure | None = None) -> list[Finding]:
    """Every finding that this evidence allows, problems first; checks that have nothing to look at are left out.

    ``on_failure`` is called with the name of a check that fails, and its error; without it the error is raised.
    """
    found = []
    for check in CHECKS:
        try:
            finding = check(evidence)
        except Exception as error:
            if on_failure is None:
                raise
            on_failure(check.__name__, error)
            continue
        if finding is not None:
            found.append(finding)
    return sort_findings(found)


def find_damage(errors: Sequence[DamagedFile]) -> list[Finding]:
    """A finding for each damaged file of a run."""
    meaning = "the numbers in it are not used: report, figures and comparisons do without them"
    return [
        Finding(f"file {error.path.name}", "problem", f"{error.path.name}: {error.reason}", meaning, error.remedy)
        for error in errors
    ]


def sort_findings(found: Sequence[Finding]) -> list[Finding]:
    """Problems first, then notices."""
    order: list[Level] = ["problem", "notice", "fine"]
    return sorted(found, key=lambda finding: order.index(finding.level))


def latents(evidence: Evidence) -> Finding:
    """Latents that carry something: mean KL to the prior above 0.01 nats."""
    kl = evidence.codes.latent_kl
    used, count = int(evidence.codes.is_active.sum()), len(kl)
    larger_kl = declared_objective(evidence.recipe).advise_kl(larger=True)
    top = ", ".join(f"z{j + 1} {kl[j]:.2f}" for j in np.argsort(kl)[::-1][:5])
    found = f"{used} of {count} latents carry more than {ACTIVE_KL:g} nats (most: {top}; {kl.sum():.2f} in all)"
    if used == 0:
        return Finding(
            "latents",
            "problem",
            found,
            "posterior collapse: the code says nothing about the image, so every sample looks like the average",
            f"{larger_kl}, or a smaller decoder",
        )
    if used < count / 2:
        return Finding(
            "latents",
            "notice",
            found,
            "most latents follow the prior and carry nothing; this harms neither samples nor reconstructions",
            f"network.latent_dim={max(used, 2)} is as good and simpler; {larger_kl} uses more",
        )
    return Finding("latents", "fine", found)


def prior_gap(evidence: Evidence) -> Finding | None:
    """How far the aggregate posterior is from the prior: at least KL(N(m, C) ‖ N(0, I)), m and C its moments.

    Of all distributions with these moments the normal one is nearest to the prior, so the gap is no smaller. With the
    mutual information it makes up the KL (Hoffman & Johnson 2016). Moments of N images exaggerate it, by d(d + 3)/4N
    nats where posteriors are narrow and by less where they are wide; that is taken off.
    """
    count, d = evidence.codes.mean.shape
    if count < IMAGES_PER_LATENT * d or evidence.recipe.prior["name"] != "normal":
        return None
    gap = max(gap_of_moments(*aggregate_moments(evidence.codes)) - d * (d + 3) / (4 * count), 0.0)
    total = float(evidence.codes.kl.sum())
    found = f"aggregate posterior and prior are at least {gap:.2f} nats apart, of {total:.2f} nats of KL"
    if gap > max(LEAST_GAP, GAP_SHARE * total):
        smaller_kl = declared_objective(evidence.recipe).advise_kl(larger=False)
        return Finding(
            "prior_gap",
            "notice",
            found,
            "codes drawn from the prior fall where no image's code lies: samples look worse than reconstructions",
            f"train longer, {smaller_kl}, or fewer latents; see the figure “aggregate posterior”",
        )
    return Finding("prior_gap", "fine", found)


def aggregate_moments(codes: Codes) -> tuple[Float[np.ndarray, " latent"], Float[np.ndarray, "latent latent"]]:
    """Mean and covariance of the mixture of all posteriors, float64."""
    means = codes.mean.astype(np.float64)
    mean = means.mean(0)
    centred = means - mean
    covariance = centred.T @ centred / len(means) + np.diag(np.exp(codes.log_var.astype(np.float64)).mean(0))
    return mean, covariance


def gap_of_moments(mean: Float[np.ndarray, " latent"], covariance: Float[np.ndarray, "latent latent"]) -> float:
    """KL(N(m, C) ‖ N(0, I)) = ½ (tr C + m·m − d − ln |C|), nats."""
    _, log_determinant = np.linalg.slogdet(covariance)
    return float(0.5 * (np.trace(covariance) + mean @ mean - len(mean) - log_determinant))


def gradients(evidence: Evidence) -> Finding | None:
    """Norm of the last gradient beside the median of all that were noted at validations."""
    norms = evidence.validation.get("gradient_norm", np.empty(0))
    if len(norms) < 4:
        return None
    last, median = float(norms[-1]), float(np.median(norms))
    found = f"gradient norm {last:.3g} at the end, median {median:.3g} over {len(norms)} validations"
    if last > GROWTH_OF_GRADIENTS * median:
        return Finding(
            "gradients",
            "problem",
            found,
            "steps have become erratic: the training is about to diverge",
            "a lower training.learning_rate",
        )
    return Finding("gradients", "fine", found)


def weights(evidence: Evidence) -> Finding | None:
    """Norm of all weights at the end beside that of the first validation."""
    norms = evidence.validation.get("weight_norm", np.empty(0))
    if len(norms) < 2:
        return None
    first, last = float(norms[0]), float(norms[-1])
    found = f"weight norm {first:.3g} at the first validation, {last:.3g} at the end"
    if last > GROWTH_OF_WEIGHTS * first:
        return Finding(
            "weights",
            "notice",
            found,
            "weights still grow: nothing holds them, and outputs become ever more certain",
            "a lower training.learning_rate, a shorter training, or a likelihood with a learned variance",
        )
    return Finding("weights", "fine", found)


def saturation(evidence: Evidence) -> Finding | None:
    """Of pixels that are neither black nor white, those that the decoder makes black or white to the last."""
    x, mean = evidence.originals, evidence.reconstructions
    grey = (x > 0.05) & (x < 0.95)
    if not grey.any():
        return None
    share = float(((mean < SATURATED) | (mean > 1 - SATURATED))[grey].mean())
    found = f"{share:.1%} of grey pixels are reconstructed as pure black or white"
    if share > SATURATED_SHARE:
        return Finding(
            "saturation",
            "problem",
            found,
            "the output's sigmoid is saturated there: its gradient is nearly zero, and these pixels no longer learn",
            "a lower training.learning_rate; a gaussian likelihood, where the bernoulli one stands on grey images",
        )
    return Finding("saturation", "fine", found)


def _length(evidence: Evidence, epochs: int) -> str:
    """The override that makes a training so many epochs long, in steps where the recipe counts those."""
    epoch = evidence.history["epoch"]
    if not evidence.recipe.training.steps:
        return f"training.epochs={epochs}"
    return f"training.steps={max(1, round(len(epoch) * epochs / float(epoch[-1])))}"


def overfitting(evidence: Evidence) -> Finding | None:
    """Loss of held-out images beside that of the last batches, an epoch or a tenth of all, and the best validation.

    While an objective warms up its loss may rise for that alone, so validations before do not count.
    """
    losses = evidence.validation.get("loss", np.empty(0))
    if not len(losses) or not len(evidence.history.get("loss", ())):
        return None
    epoch = evidence.history["epoch"]
    warm = declared_objective(evidence.recipe).warmup_steps
    counts = evidence.validation["epoch"] > (epoch[min(warm, len(epoch)) - 1] if warm else 0)
    counts[-1] = True
    last = max(1, min(int((epoch == epoch[-1]).sum()), len(epoch) // 10))
    train, held_out = float(evidence.history["loss"][-last:].mean()), float(losses[-1])
    best = int(np.argmin(np.where(counts, losses, np.inf)))
    size = max(abs(train), 1.0)
    found = f"loss {train:.2f} on the last {last:,} batches, {held_out:.2f} on held-out images"
    if held_out - losses[best] > RISE_SHARE * size and held_out - train > OVERFIT_SHARE * size:
        epochs = max(1, int(evidence.validation["epoch"][best]))
        return Finding(
            "overfitting",
            "problem",
            f"{found}; the best was {losses[best]:.2f}, after epoch {evidence.validation['epoch'][best]:.0f}",
            "the model has begun to learn the training images by heart",
            f"{_length(evidence, epochs)}, more images, or a smaller network",
        )
    if held_out - train > OVERFIT_SHARE * size:
        return Finding(
            "overfitting",
            "notice",
            found,
            "training images are described better than new ones; quote numbers of held-out images",
            f"more images, a smaller network, or {declared_objective(evidence.recipe).advise_kl(larger=False)}",
        )
    return Finding("overfitting", "fine", found)


def noise(evidence: Evidence) -> Finding | None:
    """The σ that the gaussian decoder is told of (with β in it) beside the errors that it makes."""
    sigma = beta_equivalents(evidence.recipe, evidence.spec).get("sigma")
    if sigma is None:
        return None
    error = float(np.sqrt(((evidence.originals - evidence.reconstructions) ** 2).mean()))
    change_kl = declared_objective(evidence.recipe).advise_kl
    found = f"the loss counts errors as if pixels scattered by σ = {sigma:.3g}; they miss by {error:.3g}"
    if sigma > NOISE_RATIO * error:
        return Finding(
            "noise",
            "notice",
            found,
            "the KL weighs more than these images' likelihood would give it: codes hold less, pictures are smoother",
            f"likelihood.name=optimal_gaussian (measures σ), {change_kl(larger=True)}, a smaller likelihood.variance",
        )
    if sigma * NOISE_RATIO < error:
        return Finding(
            "noise",
            "notice",
            found,
            "errors count more than these images' likelihood would have it: samples may suffer for reconstructions",
            f"likelihood.name=optimal_gaussian (measures σ), {change_kl(larger=False)}, a larger likelihood.variance",
        )
    return Finding("noise", "fine", found)


def bound(evidence: Evidence) -> Finding:
    """Whether the loss is −ELBO, which bounds −ln p(x), and the weight of the KL in the terms of other papers."""
    name, other = evidence.recipe.objective["name"], beta_equivalents(evidence.recipe, evidence.spec)
    sigma = f", equivalent σ {other['sigma']:.3g}" if "sigma" in other else ""
    weight = f": β = {other['beta']:g} (normalised, β·d/D: {other['beta_normalised']:.3g}{sigma})" if other else ""
    found = f"objective {name}{weight}"
    likelihood = registry.load("likelihoods", evidence.recipe.likelihood["name"]).Likelihood
    if likelihood.wants_binary and not np.isin(evidence.originals, (0, 1)).all():
        return Finding(
            "bound",
            "notice",
            f"{found}; a likelihood of black-or-white pixels, and grey images",
            "the loss counts a cross entropy, which is no likelihood: there is nothing that it bounds",
            "data.binarize=dynamic, or another likelihood",
        )
    if other.get("beta") != 1:
        return Finding(
            "bound",
            "notice",
            found,
            "the loss is not −ELBO",
            "comparing runs by the ELBO, which weighs the KL by 1, and by what the objective is for",
        )
    return Finding("bound", "fine", found)


def warmup(evidence: Evidence) -> Finding | None:
    """Steps in which the objective warms up (the KL's weight, a capacity) beside those of the whole training."""
    steps, total = declared_objective(evidence.recipe).warmup_steps, len(evidence.history.get("loss", ()))
    if not steps or not total:
        return None
    found = f"the objective warms up over {steps:,} of {total:,} steps"
    if steps > total:
        return Finding(
            "warmup",
            "problem",
            found,
            "it never reached its full weight: the run is one of another objective",
            f"objective.warmup_steps={total // 10}, or a longer training",
        )
    if steps > total / 2:
        return Finding(
            "warmup",
            "notice",
            found,
            "less than half of the training was at full weight",
            f"objective.warmup_steps={total // 10}, or a longer training",
        )
    return Finding("warmup", "fine", found)


def learning(evidence: Evidence) -> Finding | None:
    """Mean loss of the last tenth of the batches beside that of the tenth before, against what chance would make."""
    losses = evidence.history.get("loss", np.empty(0))
    tenth = len(losses) // 10
    if tenth < 20:
        return None
    before, last = losses[-2 * tenth : -tenth], losses[-tenth:]
    fall = float(before.mean() - last.mean())
    chance = 3 * float(np.sqrt((before.var() + last.var()) / tenth))
    found = f"loss {last.mean():.2f} over the last tenth of the batches, {before.mean():.2f} over the tenth before"
    if fall > max(chance, STILL_FALLING * abs(float(before.mean()))):
        return Finding(
            "learning",
            "notice",
            found,
            "the loss still falls: the model has not learnt what it can",
            f"a longer training, such as {_length(evidence, 2 * int(evidence.history['epoch'][-1]))}",
        )
    return Finding("learning", "fine", found)


CHECKS: tuple[Callable[[Evidence], Finding | None], ...] = (
    latents,
    prior_gap,
    overfitting,
    learning,
    noise,
    bound,
    warmup,
    saturation,
    gradients,
    weights,
)
