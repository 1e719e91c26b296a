"""Checks of a trained run: what looks wrong, what it means, and what to try."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from vaelab.build import beta_equivalents, declared_objective
from vaelab.models.codes import ACTIVE_KL, Codes
from vaelab.models.spec import Spec
from vaelab.recipe import Recipe
from vaelab.run.summary import closing_length
from vaelab.system import registry
from vaelab.system.failures import OnFailure
from vaelab.system.files import DamagedFile
from vaelab.system.messages import count_of
from vaelab.training.objectives import Objective

Level = Literal["problem", "notice", "fine"]
Table = Mapping[str, NDArray[np.float64]]

MIN_GAP, GAP_SHARE = 0.5, 0.05
"""Nats, and share of the KL, by which aggregate posterior and prior may differ."""
IMAGES_PER_LATENT = 4
"""Minimum number of images from which a covariance is estimated."""
GRADIENT_GROWTH, WEIGHT_GROWTH = 10.0, 5.0
"""Factors by which the last gradient norm may exceed the median, and the last weight norm the first."""
SATURATED, SATURATED_SHARE = 1e-3, 0.2
"""Distance from black or white at which a sigmoid hardly learns, and the share of pixels that may wrongly be there."""
OVERFIT_SHARE, RISE_SHARE = 0.05, 0.01
"""Shares of the loss by which held-out images may exceed training images, and the last validation the best one."""
NOISE_RATIO = 2.0
"""Factor by which the decoder's noise may differ from its errors."""
ENOUGH_ACTIVE = 0.5
"""Share of active latents from which the codes are not starved."""
STILL_FALLING = 0.005
"""Fraction of the loss by which the last tenth of training may be lower than the tenth before it."""


@dataclass(frozen=True)
class Finding:
    """Result of one check; ``meaning`` and ``advice`` are empty if it is fine."""

    name: str
    level: Level
    found: str
    meaning: str = ""
    advice: str = ""


@dataclass(frozen=True)
class Evidence:
    """Facts about a run after its training; codes, originals and reconstructions are of held-out images."""

    recipe: Recipe
    spec: Spec
    history: Table
    validation: Table
    codes: Codes
    originals: Float[np.ndarray, "n channel height width"]
    """Some of the images, in [0, 1], as the model sees them."""
    reconstructions: Float[np.ndarray, "n channel height width"]
    """Expected images of their posterior means."""

    @cached_property
    def objective(self) -> Objective:
        """The objective's declarations."""
        return declared_objective(self.recipe)

    @cached_property
    def beta(self) -> Mapping[str, float]:
        """β in the terms of other papers (``beta_equivalents``)."""
        return beta_equivalents(self.recipe, self.spec)


@dataclass(frozen=True)
class Check:
    """A check and what it needs."""

    examine: Callable[[Evidence], Finding]
    history: int
    """Minimum number of batches in the history."""
    validation: Mapping[str, int]
    """Column of validation.csv → minimum number of rows."""
    applies: Callable[[Evidence], bool]

    def can_examine(self, evidence: Evidence) -> bool:
        """Return whether the evidence has everything that the check needs."""
        has_history = len(evidence.history.get("loss", ())) >= self.history
        lengths = [(len(evidence.validation.get(name, ())), least) for name, least in self.validation.items()]
        return has_history and all(length >= least for length, least in lengths) and self.applies(evidence)


CHECKS: dict[str, Check] = {}
"""Name → check, in the order of the report."""


def check(
    *, history: int = 0, applies: Callable[[Evidence], bool] = lambda _: True, **validation: int
) -> Callable[[Callable[[Evidence], Finding]], Callable[[Evidence], Finding]]:
    """Register a check under the name of its function; for the arguments see ``Check``."""

    def register(examine: Callable[[Evidence], Finding]) -> Callable[[Evidence], Finding]:
        CHECKS[examine.__name__] = Check(examine, history, validation, applies)
        return examine

    return register


def examine(evidence: Evidence, on_failure: OnFailure | None = None) -> list[Finding]:
    """Return the findings of all checks that this evidence allows, problems first.

    ``on_failure`` receives the name of a check that fails, and its error; without it the error is raised.
    """
    findings = []
    for name, each in CHECKS.items():
        try:
            if each.can_examine(evidence):
                findings.append(replace(each.examine(evidence), name=name))
        except Exception as error:
            if on_failure is None:
                raise
            on_failure(name, error)
    return sort_findings(findings)


def find_damage(errors: Sequence[DamagedFile]) -> list[Finding]:
    """Return a finding for each damaged file of a run."""
    meaning = "its content is not used by the report, the figures and comparisons"
    return [
        Finding(f"file {error.path.name}", "problem", f"{error.path.name}: {error.reason}", meaning, error.remedy)
        for error in errors
    ]


def sort_findings(findings: Sequence[Finding]) -> list[Finding]:
    """Return problems first, then notices."""
    order: list[Level] = ["problem", "notice", "fine"]
    return sorted(findings, key=lambda finding: order.index(finding.level))


def _problem(found: str, meaning: str, advice: str) -> Finding:
    return Finding("", "problem", found, meaning, advice)


def _notice(found: str, meaning: str, advice: str) -> Finding:
    return Finding("", "notice", found, meaning, advice)


def _fine(found: str) -> Finding:
    return Finding("", "fine", found)


# -- checks -----------------------------------------------------------------------------------------------------------


@check()
def latents(evidence: Evidence) -> Finding:
    """Count the active latents."""
    kl = evidence.codes.latent_kl
    active, count = int(evidence.codes.is_active.sum()), len(kl)
    larger_kl = evidence.objective.advise_kl(larger=True)
    has = f"{active} of {count_of(count, 'latent')} {'has' if active == 1 else 'have'}"
    top = ", ".join(f"z{j + 1} {kl[j]:.2f}" for j in np.argsort(kl)[::-1][:5])
    found = f"{has} a KL above {ACTIVE_KL:g} nats (largest: {top}; {kl.sum():.2f} in total)"
    if active == 0:
        return _problem(
            found,
            "posterior collapse: the code carries no information about the image, so all samples are average images",
            f"{larger_kl}, or a smaller decoder",
        )
    if active < ENOUGH_ACTIVE * count:
        return _notice(
            found,
            "most latents follow the prior and carry no information, which harms neither samples nor reconstructions",
            f"network.latent_dim={max(active, 2)}, which is equally good; {larger_kl} for more active latents",
        )
    return _fine(found)


def _has_prior_moments(evidence: Evidence) -> bool:
    count, d = evidence.codes.mean.shape
    return count >= IMAGES_PER_LATENT * d and bool(evidence.recipe.prior["name"] == "normal")


@check(applies=_has_prior_moments)
def prior_gap(evidence: Evidence) -> Finding:
    """Bound the KL from the aggregate posterior to the prior from below by KL(N(m, C) ‖ N(0, I)) with its moments.

    Among all distributions with these moments the normal one is closest to the prior. The KL is this gap plus the
    mutual information (Hoffman & Johnson 2016). Moments of N images exaggerate the gap by d(d + 3)/4N nats if the
    posteriors are narrow, and by less if they are wide; this is subtracted.
    """
    count, d = evidence.codes.mean.shape
    gap = max(gap_of_moments(*aggregate_moments(evidence.codes)) - d * (d + 3) / (4 * count), 0.0)
    total = float(evidence.codes.kl.sum())
    found = f"the KL from aggregate posterior to prior is at least {gap:.2f} nats, of {total:.2f} nats in total"
    if gap > max(MIN_GAP, GAP_SHARE * total):
        return _notice(
            found,
            "codes drawn from the prior lie in regions without training codes: samples look worse than reconstructions",
            f"a fitted sampler such as gmm, longer training, {evidence.objective.advise_kl(larger=False)}, or "
            "fewer latents; see the figure “aggregate posterior”",
        )
    return _fine(found)


def aggregate_moments(codes: Codes) -> tuple[Float[np.ndarray, " latent"], Float[np.ndarray, "latent latent"]]:
    """Return mean and covariance of the mixture of all posteriors, float64."""
    means = codes.mean.astype(np.float64)
    covariance = np.cov(means.T, ddof=0).reshape(means.shape[1], -1)
    return means.mean(0), covariance + np.diag(np.exp(codes.log_var.astype(np.float64)).mean(0))


def gap_of_moments(mean: Float[np.ndarray, " latent"], covariance: Float[np.ndarray, "latent latent"]) -> float:
    """Return KL(N(m, C) ‖ N(0, I)) = ½ (tr C + m·m − d − ln |C|), in nats."""
    _, log_determinant = np.linalg.slogdet(covariance)
    return float(0.5 * (np.trace(covariance) + mean @ mean - len(mean) - log_determinant))


@check(history=1, loss=1)
def overfitting(evidence: Evidence) -> Finding:
    """Compare the loss of held-out images with that of the last batches, an epoch or a tenth, and the best validation.

    The loss may rise while an objective warms up, so earlier validations do not count.
    """
    losses, epochs, epoch = evidence.validation["loss"], evidence.validation["epoch"], evidence.history["epoch"]
    warmup_steps = evidence.objective.warmup_steps
    counts = epochs > (epoch[min(warmup_steps, len(epoch)) - 1] if warmup_steps else 0)
    counts[-1] = True
    last = closing_length(epoch)
    best = int(np.argmin(np.where(counts, losses, np.inf)))
    of_model = best if evidence.recipe.training.patience else -1
    train, held_out = float(evidence.history["loss"][-last:].mean()), float(losses[of_model])
    size = max(abs(train), 1.0)
    batches = "batch" if last == 1 else f"{last:,} batches"
    found = f"loss {train:.2f} on the last {batches}, {held_out:.2f} on held-out images"
    if held_out - train <= OVERFIT_SHARE * size:
        return _fine(found)
    if held_out - losses[best] > RISE_SHARE * size:
        return _problem(
            f"{found}; the best was {losses[best]:.2f}, after epoch {epochs[best]:.0f}",
            "the model has begun to memorise the training images",
            f"{_length(evidence, max(1, int(epochs[best])))}, training.patience, more images, or a smaller network",
        )
    return _notice(
        found,
        "the model fits training images better than new ones; report metrics of held-out images",
        f"more images, a smaller network, or {evidence.objective.advise_kl(larger=False)}",
    )


@check(history=200)
def learning(evidence: Evidence) -> Finding:
    """Compare the mean loss of the last tenth of the batches with that of the tenth before, relative to chance."""
    losses = evidence.history["loss"]
    tenth = len(losses) // 10
    before, last = losses[-2 * tenth : -tenth], losses[-tenth:]
    fall = float(before.mean() - last.mean())
    chance = 3 * float(np.sqrt((before.var() + last.var()) / tenth))
    found = f"loss {last.mean():.2f} over the last tenth of the batches, {before.mean():.2f} over the tenth before"
    if fall > max(chance, STILL_FALLING * abs(float(before.mean()))):
        return _notice(
            found,
            "the loss is still decreasing: training has not converged",
            f"longer training, such as {_length(evidence, 2 * int(evidence.history['epoch'][-1]))}",
        )
    return _fine(found)


def _length(evidence: Evidence, epochs: int) -> str:
    """Return the override for training of ``epochs`` epochs, in steps if the recipe counts those."""
    epoch = evidence.history["epoch"]
    if not evidence.recipe.training.steps:
        return f"training.epochs={epochs}"
    return f"training.steps={max(1, round(len(epoch) * epochs / float(epoch[-1])))}"


@check(applies=lambda evidence: "sigma" in evidence.beta)
def noise(evidence: Evidence) -> Finding:
    """Compare the σ of the Gaussian decoder, including the effect of β, with its errors."""
    sigma, advise_kl = evidence.beta["sigma"], evidence.objective.advise_kl
    error = float(np.sqrt(((evidence.originals - evidence.reconstructions) ** 2).mean()))
    found = f"the loss assumes pixel noise of σ = {sigma:.3g}; the root mean squared error is {error:.3g}"
    if sigma > NOISE_RATIO * error:
        # a larger σ is a choice: it costs details of reconstructions, and makes samples better (docs/log.md)
        if evidence.codes.is_active.mean() >= ENOUGH_ACTIVE:
            return _fine(f"{found}: reconstructions are smoother, and codes closer to the prior")
        return _notice(
            found,
            "the KL has more weight than the errors imply, and most latents carry no information",
            f"{advise_kl(larger=True)} or a smaller likelihood.variance for more detail; samples may become worse",
        )
    if sigma * NOISE_RATIO < error:
        return _notice(
            found,
            "the reconstruction has more weight than the errors imply: samples may be worse",
            f"likelihood.name=optimal_gaussian, {advise_kl(larger=False)}, or a larger likelihood.variance",
        )
    return _fine(found)


@check()
def bound(evidence: Evidence) -> Finding:
    """Check whether the loss is −ELBO, which bounds −ln p(x), and give the weight of the KL in other papers' terms."""
    beta = evidence.beta
    sigma = f", equivalent σ {beta['sigma']:.3g}" if "sigma" in beta else ""
    weight = f": β = {beta['beta']:g} (normalised, β·d/D: {beta['beta_normalised']:.3g}{sigma})" if beta else ""
    found = f"objective {evidence.recipe.objective['name']}{weight}"
    likelihood = registry.load("likelihoods", evidence.recipe.likelihood["name"]).Likelihood
    if likelihood.wants_binary and not np.isin(evidence.originals, (0, 1)).all():
        return _notice(
            f"{found}; a likelihood of binary pixels for grey images",
            "the loss contains a cross-entropy, which is not a likelihood, so it is not a bound",
            "data.binarize=dynamic, or another likelihood",
        )
    if beta.get("beta") != 1:
        return _fine(f"{found}; the loss is not −ELBO, so compare runs by the ELBO and by metrics")
    return _fine(found)


@check(history=1, applies=lambda evidence: evidence.objective.warmup_steps > 0)
def warmup(evidence: Evidence) -> Finding:
    """Compare the steps in which the objective warms up (the weight of the KL, a capacity) with all steps."""
    steps, total = evidence.objective.warmup_steps, len(evidence.history["loss"])
    found = f"the objective warms up over {steps:,} of {total:,} steps"
    has_cycles = "cycle_steps" in evidence.recipe.objective
    shorter = f"cycle_steps={max(total // 8, 2)}" if has_cycles else f"warmup_steps={total // 10}"
    advice = f"objective.{shorter}, or longer training"
    if steps > total:
        return _problem(found, "the full weight was never reached: the run minimised a different objective", advice)
    if steps > total / 2 and not has_cycles:
        return _notice(found, "less than half of the steps were trained at full weight", advice)
    return _fine(found)


def _is_grey(evidence: Evidence) -> NDArray[np.bool_]:
    return (evidence.originals > 0.05) & (evidence.originals < 0.95)


@check(applies=lambda evidence: bool(_is_grey(evidence).any()))
def saturation(evidence: Evidence) -> Finding:
    """Compute the share of grey pixels that the decoder makes pure black or white."""
    mean = evidence.reconstructions[_is_grey(evidence)]
    share = float(((mean < SATURATED) | (mean > 1 - SATURATED)).mean())
    found = f"{share:.1%} of grey pixels are reconstructed as pure black or white"
    if share > SATURATED_SHARE:
        return _problem(
            found,
            "the output sigmoid is saturated: its gradient is nearly zero, so these pixels are no longer trained",
            "a lower training.learning_rate, or for grey images a Gaussian likelihood instead of Bernoulli",
        )
    return _fine(found)


@check(gradient_norm=4)
def gradients(evidence: Evidence) -> Finding:
    """Compare the last gradient norm with the median over all validations."""
    norms = evidence.validation["gradient_norm"]
    last, median = float(norms[-1]), float(np.median(norms))
    found = f"gradient norm {last:.3g} at the end, median {median:.3g} over {count_of(len(norms), 'validation')}"
    if last > GRADIENT_GROWTH * median:
        return _problem(found, "training has become unstable and may diverge", "a lower training.learning_rate")
    return _fine(found)


@check(weight_norm=2)
def weights(evidence: Evidence) -> Finding:
    """Compare the norm of all weights at the end with that at the first validation."""
    norms = evidence.validation["weight_norm"]
    first, last = float(norms[0]), float(norms[-1])
    found = f"weight norm {first:.3g} at the first validation, {last:.3g} at the end"
    if last > WEIGHT_GROWTH * first:
        return _notice(
            found,
            "the weights keep growing, and outputs become more and more certain",
            "a lower training.learning_rate, shorter training, or a likelihood with a learned variance",
        )
    return _fine(found)
