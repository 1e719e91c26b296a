"""The section ``[training]`` of a recipe."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from vaelab.system.errors import RecipeError
from vaelab.system.machine import Precision

Decay = Literal["none", "cosine"]
Optimizer = Literal["adam", "adamw"]
Augment = Literal["none", "flip", "shift", "crop", "flip+shift", "flip+crop"]
WEIGHT_DECAY = 0.01
"""Automatic weight decay of AdamW, the default of torch."""
LENGTHS = {"auto": (8, 3_000), "long": (25, 10_000)}
"""Least number of epochs and of steps of an automatic length."""
MAX_EPOCHS = 1_000
"""Largest number of epochs of an automatic length."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """The ``[training]`` section."""

    epochs: Annotated[int, Ge(1)] | Literal["auto", "long"] = 20
    """Passes over the training set. auto: 8, or more to reach 3,000 steps. long: 25, or more to reach 10,000 steps.
    Both: at most 1,000."""
    steps: Annotated[int, Ge(0)] = 0
    """Number of steps, instead of ``epochs``. 0: use ``epochs``."""
    batch_size: Annotated[int, Ge(1)] = 32
    """Images per step, over all processes."""
    learning_rate: Annotated[float, Gt(0)] = 0.001
    """Learning rate of the optimizer."""
    warmup_steps: Annotated[int, Ge(0)] = 0
    """Number of steps of a linear learning-rate warm-up at the start."""
    decay: Decay = "none"
    """Learning-rate schedule. cosine: decrease to 0 along half a cosine over all steps."""
    optimizer: Optimizer = "adam"
    """Optimizer. adamw: Adam with decoupled weight decay (1711.05101)."""
    weight_decay: Annotated[float, Ge(0)] | Literal["auto"] = "auto"
    """Weight decay for adamw, of the encoder and decoder without biases and norms. auto: 0.01 for adamw, else 0."""
    clip: Annotated[float, Ge(0)] = 0.0
    """Gradient clipping: largest norm of the gradient over all weights. 0: no limit."""
    ema: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Decay of an exponential moving average of the weights, which is validated and saved. 0: no average."""
    augment: Augment | Literal["auto"] = "none"
    """Augmentation of training images: horizontal flips, shifts by up to 1/16 of a side, crops of at least 0.9.
    auto: flip if mirrored images resemble the others."""
    patience: Annotated[int, Ge(0)] = 0
    """Early stopping: validations without a lower held-out loss until training stops; the best weights are kept.
    0: off."""
    precision: Literal["auto", Precision] = "auto"
    """Floating-point format of the networks. auto: the fastest on this machine that does not change results."""
    start_from: str = ""
    """Run or model file from which weights with matching names and shapes are copied before training."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of the weights, the data order and the noise."""
    validate_every: Annotated[int, Ge(0)] | Literal["auto"] = "auto"
    """Steps between validations. 0: never. auto: once per epoch, at most 100 times in total."""
    checkpoint_every: Annotated[int, Ge(1)] = 1000
    """Steps between checkpoints."""
    threads: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    """CPU threads. auto: all CPUs available to the process."""
    shuffle_buffer: Annotated[int, Ge(0)] | Literal["auto"] = "auto"
    """Images in the shuffle buffer. 0: all. auto: all if they fit into memory."""
    figures: list[str] | Literal["all"] = "all"
    """Names of the figures to draw after training."""

    def check(self) -> None:
        """Raise RecipeError for values that contradict each other."""
        if self.optimizer == "adam" and self.weight_decay not in ("auto", 0):
            message = f"training.weight_decay = {self.weight_decay}: needs training.optimizer=adamw"
            raise RecipeError(message, subject="training.weight_decay", value=self.weight_decay)
        if self.patience and self.validate_every == 0:
            message = f"training.patience = {self.patience}: needs validations; set training.validate_every"
            raise RecipeError(message, subject="training.patience", value=self.patience)

    def resolve(self, num_images: int) -> "tuple[Training, int, int]":
        """Return the section with "auto" epochs and validations resolved, the number of steps, ``validate_every``."""
        epoch = -(-num_images // self.batch_size)
        epochs = self.epochs if isinstance(self.epochs, int) else choose_epochs(self.epochs, epoch)
        num_steps = self.steps or epochs * epoch
        hundredth = epoch * -(-num_steps // (100 * epoch))
        every = hundredth if self.validate_every == "auto" else self.validate_every
        decays = self.optimizer == "adamw"
        decay = WEIGHT_DECAY * decays if self.weight_decay == "auto" else self.weight_decay
        return replace(self, epochs=epochs, validate_every=every, weight_decay=decay), num_steps, every


def choose_epochs(length: str, steps_per_epoch: int) -> int:
    """Return the epochs of an automatic length, "auto" or "long"."""
    least_epochs, least_steps = LENGTHS[length]
    return min(max(least_epochs, -(-least_steps // steps_per_epoch)), MAX_EPOCHS)
