"""The optimizer and the learning rate that the flags name."""

from collections.abc import Callable

import keras

from models import schedules
from models.flags import OptimizerFlags
from models.optimizers import SGD, Muon
from tfpipeline.system import FlagError

LENGTHLESS_SCHEDULES = ("constant", "restarts", "cyclical")  # Their first epochs do not depend on how many there are.


def build_optimizer(flags: OptimizerFlags, epochs: int, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer, with the learning rate over a training of so many epochs.

    Raises:
        FlagError: the schedule does not fit so short a training.
    """
    rate = _learning_rate(flags, epochs, steps_per_epoch)
    options: dict = {"global_clipnorm": flags.clip_norm}
    if flags.ema:
        options |= {"use_ema": True, "ema_momentum": flags.ema}
    if flags.optimizer == "muon":
        return Muon(rate, flags.bias_factor, momentum=flags.momentum, nesterov=True, **options)
    if flags.optimizer in ("sgd", "momentum"):
        nesterov = flags.optimizer == "sgd" and flags.momentum > 0
        return SGD(rate, flags.bias_factor, momentum=flags.momentum, nesterov=nesterov, **options)
    if flags.optimizer == "rmsprop":
        return keras.optimizers.RMSprop(rate, **options)
    if flags.optimizer == "adam":
        return keras.optimizers.Adam(rate, **options)
    return keras.optimizers.AdamW(rate, weight_decay=flags.weight_decay, **options)


def _learning_rate(flags: OptimizerFlags, epochs: int, steps_per_epoch: int) -> float | Callable:
    """A number, or a function of the step."""
    steps = epochs * steps_per_epoch
    warmup_steps = round(min(flags.warmup_epochs, epochs / 5) * steps_per_epoch)
    if flags.schedule == "cosine":
        return schedules.WarmupCosine(flags.learning_rate, steps, warmup_steps)
    if flags.schedule == "triangular":
        if steps < 2:
            raise FlagError(f"--schedule triangular does not fit a training of {steps} step; give more --epochs")
        return schedules.Triangular(flags.learning_rate, steps, max(warmup_steps, 1))
    if flags.schedule == "restarts":
        return schedules.CosineWithRestarts(flags.learning_rate, steps_per_epoch)
    if flags.schedule == "cyclical":
        return schedules.Cyclical(
            flags.lowest_learning_rate, flags.learning_rate, flags.cycle_steps, flags.cycle_growth
        )
    return flags.learning_rate
