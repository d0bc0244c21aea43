"""Learning rates as functions of the step, and the weight penalty that goes with them."""

import math
from typing import Any

import keras
import tensorflow as tf

from models.layers import register


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate whose constructor's arguments are its attributes."""

    arguments: tuple[str, ...] = ()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {name: getattr(self, name) for name in self.arguments}


@register
class Cyclical(Schedule):
    """The triangular cycle of Smith 2015: eta rises from eta_min to eta_max in n_s steps and falls back in n_s more

    Cycle c = 0, 1, ... has the half-length n_c = n_s growth^c and the peak eta_min + (eta_max - eta_min) decay^c. With
    tau steps done in the cycle:
        eta = eta_min + (peak - eta_min) (1 - |tau / n_c - 1|)
    With growth = 1 and decay = 1 it is the plain triangular policy; with growth = 2 the steps are doubled after each
    cycle.

    Args:
        eta_min: the rate at the ends of a cycle.
        eta_max: the peak of the first cycle.
        n_s: steps from the first valley to the first peak.
        growth: by what the length of a cycle grows, a whole number from 1 on.
        decay: by what the height of a peak above eta_min falls, in (0, 1].

    Raises:
        ValueError: a value is out of range.
    """

    arguments = ("eta_min", "eta_max", "n_s", "growth", "decay")

    def __init__(self, eta_min: float, eta_max: float, n_s: int, growth: int = 1, decay: float = 1.0):
        _check_rates(eta_min, eta_max)
        _check_cycles("n_s", n_s, growth, decay)
        self.eta_min, self.eta_max, self.n_s, self.growth, self.decay = eta_min, eta_max, n_s, growth, decay

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        """eta at a step, float32."""
        cycle, done = _cycle(step, 2 * self.n_s, self.growth)
        half = self.n_s * float(self.growth) ** cycle
        height = (self.eta_max - self.eta_min) * float(self.decay) ** cycle
        return self.eta_min + height * (1 - tf.abs(done / half - 1))


@register
class CosineWithRestarts(Schedule):
    """Cosine annealing with warm restarts (Loshchilov and Hutter 2016)

    Cycle c = 0, 1, ... has n_c = first_steps growth^c steps and starts at peak eta_min + (eta_max - eta_min) decay^c.
    With tau steps done in the cycle:
        eta = eta_min + (peak - eta_min) (1 + cos(pi tau / n_c)) / 2

    Args:
        eta_max: the rate at the start.
        first_steps: steps of the first cycle.
        eta_min: the rate that a cycle falls to.
        growth: by what the length of a cycle grows, a whole number from 1 on.
        decay: by what the height of a restart above eta_min falls, in (0, 1].

    Raises:
        ValueError: a value is out of range.
    """

    arguments = ("eta_max", "first_steps", "eta_min", "growth", "decay")

    def __init__(self, eta_max: float, first_steps: int, eta_min: float = 0.0, growth: int = 2, decay: float = 1.0):
        _check_rates(eta_min, eta_max)
        _check_cycles("first_steps", first_steps, growth, decay)
        self.eta_max, self.first_steps, self.eta_min = eta_max, first_steps, eta_min
        self.growth, self.decay = growth, decay

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        """eta at a step, float32."""
        cycle, done = _cycle(step, self.first_steps, self.growth)
        length = self.first_steps * float(self.growth) ** cycle
        height = (self.eta_max - self.eta_min) * float(self.decay) ** cycle
        return self.eta_min + height * (1 + tf.cos(math.pi * done / length)) / 2


@register
class WarmupCosine(Schedule):
    """A linear warm-up, then half a cosine down to the end

        eta = eta_max (t + 1) / warmup_steps                                            for t < warmup_steps
        eta = eta_min + (eta_max - eta_min) (1 + cos(pi (t - warmup) / (total - warmup))) / 2     up to t = total_steps
        eta = eta_min                                                                   from then on

    Args:
        eta_max: the peak.
        total_steps: steps of the whole training.
        warmup_steps: of them, those of the warm-up; 0 for none.
        eta_min: the rate at the end.

    Raises:
        ValueError: a value is out of range.
    """

    arguments = ("eta_max", "total_steps", "warmup_steps", "eta_min")

    def __init__(self, eta_max: float, total_steps: int, warmup_steps: int = 0, eta_min: float = 0.0):
        _check_rates(eta_min, eta_max)
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(
                f"the steps must be 0 <= warmup_steps < total_steps, got {warmup_steps!r} and {total_steps!r}"
            )
        self.eta_max, self.total_steps, self.warmup_steps, self.eta_min = eta_max, total_steps, warmup_steps, eta_min

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        """eta at a step, float32."""
        step = tf.cast(step, tf.float32)
        part = tf.clip_by_value((step - self.warmup_steps) / (self.total_steps - self.warmup_steps), 0.0, 1.0)
        falling = self.eta_min + (self.eta_max - self.eta_min) * (1 + tf.cos(math.pi * part)) / 2
        rising = self.eta_max * (step + 1) / max(self.warmup_steps, 1)
        return tf.where(step < self.warmup_steps, rising, falling)


@register
class Triangular(Schedule):
    """One triangle: linear up from eta_start to eta_max, then linear down to eta_end

    Args:
        eta_max: the peak.
        total_steps: steps of the whole training; from then on the rate is eta_end.
        peak_step: the step of the peak, between 0 and total_steps.
        eta_start: the rate at step 0.
        eta_end: the rate at the end.

    Raises:
        ValueError: the peak does not lie within the training.
    """

    arguments = ("eta_max", "total_steps", "peak_step", "eta_start", "eta_end")

    def __init__(self, eta_max: float, total_steps: int, peak_step: int, eta_start: float = 0.0, eta_end: float = 0.0):
        if not 0 < peak_step < total_steps:
            raise ValueError(f"the steps must be 0 < peak_step < total_steps, got {peak_step!r} and {total_steps!r}")
        self.eta_max, self.total_steps, self.peak_step = eta_max, total_steps, peak_step
        self.eta_start, self.eta_end = eta_start, eta_end

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        """eta at a step, float32."""
        step = tf.cast(step, tf.float32)
        rising = self.eta_start + (self.eta_max - self.eta_start) * step / self.peak_step
        part = tf.minimum((step - self.peak_step) / (self.total_steps - self.peak_step), 1.0)
        return tf.where(step < self.peak_step, rising, self.eta_max + (self.eta_end - self.eta_max) * part)


def _check_rates(eta_min: float, eta_max: float) -> None:
    if not 0 <= eta_min <= eta_max:
        raise ValueError(f"the rates must be 0 <= eta_min <= eta_max, got {eta_min!r} and {eta_max!r}")


def _check_cycles(name: str, steps: int, growth: int, decay: float) -> None:
    if steps < 1:
        raise ValueError(f"{name} must be at least 1, got {steps!r}")
    if growth < 1 or growth != int(growth):
        raise ValueError(f"growth must be a whole number from 1 on, got {growth!r}")
    if not 0 < decay <= 1:
        raise ValueError(f"decay must be in (0, 1], got {decay!r}")


def _cycle(step: int | tf.Tensor, length: int, growth: int) -> tuple[tf.Tensor, tf.Tensor]:
    """(c, tau): the number of the cycle, and the steps done in it, float32; cycle c has length growth^c steps.

    The first steps of the cycles are length (growth^c - 1) / (growth - 1): integers, compared as such, so that no
    rounding of a logarithm moves a step into a neighboring cycle.
    """
    step = tf.cast(step, tf.int64)
    if growth == 1:
        cycle, done = step // length, step % length
        return tf.cast(cycle, tf.float32), tf.cast(done, tf.float32)
    starts = [0]
    while starts[-1] < 2**40:
        starts.append(starts[-1] + length * growth ** (len(starts) - 1))
    starts = tf.constant(starts, tf.int64)
    cycle = tf.reduce_sum(tf.cast(step >= starts, tf.int64)) - 1
    return tf.cast(cycle, tf.float32), tf.cast(step - tf.gather(starts, cycle), tf.float32)
