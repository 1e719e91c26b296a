"""Log density of held-out codes under a sampler, beside that of the prior."""

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import Metric, Quantity, Result
from vaelab.models.codes import sample_codes


def measure(evaluation: Evaluation, *, sampler: str = "gmm") -> Result:
    """Mean ln q(z) of a sampler, and mean ln p(z) of the prior over one posterior sample per image, nats.

    The sampler is fitted to codes of training images (Ghosh et al. 2020, 1903.12436). A positive "sampler_gain" means
    that it describes the codes of new images better than the prior. For quantised codes these are probabilities, and
    the sampler has to be chosen.
    """
    fitted = evaluation.sampler(sampler)
    codes = sample_codes(evaluation.model, evaluation.images, evaluation.generator("code density"))
    found = fitted.compare_with_prior(codes.z)
    names = {"log_prob": "sampler_log_prob", "prior_log_prob": "prior_log_prob", "gain": "sampler_gain"}
    return {
        **{name: found[key] for key, name in names.items()},
        **{
            f"{name}_standard_error": found[e] for key, name in names.items() if (e := f"{key}_standard_error") in found
        },
        "protocol": {
            **fitted.protocol,
            "images": len(evaluation.images),
            "codes_of_images": "one posterior sample each",
            "log_prob": "lower bound" if fitted.is_bound else "exact",
        },
    }


METRIC = Metric(
    measure,
    question="generation",
    needs=frozenset({"train_images"}),
    by_default=frozenset({"evaluate"}),
    quantities=(
        Quantity("sampler_log_prob", "ln q(z) of the sampler", "nats", "higher", baseline="prior_log_prob"),
        Quantity("prior_log_prob", "ln p(z) of the prior", "nats", "higher", drawn="never"),
    ),
    order=80,
    synonyms=("sampler", "held_out_log_q"),
)
