"""Names of the files in a run's directory."""

RECIPE, MACHINE, LOG, LOCK = "recipe.toml", "machine.json", "run.log", ".lock"
PICTURES, IMAGES = "pictures.json", "images"
HISTORY, TIMING, VALIDATION = "history.csv", "timing.csv", "validation.csv"
CHECKPOINTS, MODEL, FIGURES, CACHE = "checkpoints", "model.safetensors", "figures", "cache"
SAMPLER = "sampler.safetensors"
"""The fitted sampler of the recipe."""
EVALUATION, FINDINGS, REPORT = "evaluation.json", "doctor.json", "report.html"
TRACKERS = "trackers"
"""Folder of the state and the files of experiment trackers."""
UNFINISHED = "unfinished"
"""Folder of results that were measured or drawn before the training was complete, one folder for each step."""
EARLIER = "earlier"
"""Folder of the complete runs that a run was before it was extended, one folder for each length."""
INDEX = "index"
"""File beside the runs in the default folder: date, name and command of each."""
FINISH = ".finish"
"""File that asks the process that trains a run to finish it."""
SOURCE = "source.json"
"""In a directory of results outside of the run: which run they belong to."""


def evaluation_file(split: str) -> str:
    """Name of the file of results on another split than the one that the run validates on."""
    return f"evaluation-{split}.json"


TABLES = {
    HISTORY: ("step", "epoch", "loss", "reconstruction", "kl"),
    TIMING: ("step", "seconds", "images_per_second"),
    VALIDATION: ("step", "epoch", "loss", "reconstruction", "kl", "elbo"),
}
"""Table → columns that every run has."""
BEGUN_WITH = (MACHINE, PICTURES, IMAGES, LOG)
"""Files and folders written before recipe.toml, which makes a directory a run."""
PATTERNS = (
    RECIPE,
    *BEGUN_WITH,
    *TABLES,
    MODEL,
    SAMPLER,
    EVALUATION,
    evaluation_file("*"),
    FINDINGS,
    REPORT,
    f"{CHECKPOINTS}/step-*",
    f"{FIGURES}/*",
    f"{CACHE}/*",
    f"{TRACKERS}/*",
)
"""Glob patterns of all files of a run."""
