"""Settings of the training loop: a recipe's ``[training]`` section without "auto"."""

from dataclasses import dataclass

from vaelab.data.images import Binarize
from vaelab.recipe import ResolvedRecipe
from vaelab.recipe.training import Augment, Decay
from vaelab.system.machine import Precision


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that the loop needs to know besides the model, the objective and the images."""

    num_steps: int
    batch_size: int
    shuffle_buffer: int
    """Images shuffled at a time; 0: all."""
    learning_rate: float
    warmup_steps: int
    decay: Decay
    weight_decay: float
    """Weight decay of encoder and decoder; 0: plain Adam."""
    clip: float
    """Largest norm of the gradient; 0: no limit."""
    ema: float
    """Decay of the moving average of the weights; 0: no average."""
    augment: Augment
    patience: int
    """Validations without a lower loss after which training stops; 0: never."""
    seed: int
    binarize: Binarize
    precision: Precision
    threads: int
    validate_every: int
    """Steps between validations; 0: never."""
    checkpoint_every: int
    """Steps between checkpoints."""
    checkpoint_seconds: float = 60.0
    """Seconds after which the first checkpoint comes at the latest; later ones come after ten times as many."""

    @property
    def validation_steps(self) -> list[int]:
        """The steps after which the loop validates."""
        if not self.validate_every:
            return []
        return sorted({*range(self.validate_every, self.num_steps + 1, self.validate_every), self.num_steps})


def make_settings(recipe: ResolvedRecipe, *, precision: Precision, threads: int, shuffle_buffer: int) -> Settings:
    """Return the settings of a recipe; the arguments are those that depend on the machine."""
    training = recipe.training
    return Settings(
        num_steps=recipe.num_steps,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        warmup_steps=training.warmup_steps,
        decay=training.decay,
        weight_decay=float(training.weight_decay),
        clip=training.clip,
        ema=training.ema,
        augment="none" if training.augment == "auto" else training.augment,
        patience=training.patience,
        seed=training.seed,
        binarize=recipe.data["binarize"],
        precision=precision,
        threads=threads,
        validate_every=recipe.validate_every,
        checkpoint_every=training.checkpoint_every,
        shuffle_buffer=shuffle_buffer,
    )
