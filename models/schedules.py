"""Learning-rate schedules by name, pure functions of the step."""

from keras.optimizers import schedules

from tfpipeline.errors import FlagError

SCHEDULES = ("cosine", "linear", "constant")
DEPENDS_ON_LENGTH = ("cosine", "linear")


def build(name: str, learning_rate: float, steps: int, warmup_steps: int = 0) -> schedules.LearningRateSchedule:
    """The learning rate at step t of T, with a linear rise over the first w steps.

        t < w      rate * t / w
        cosine     rate * (1 + cos(pi * (t - w) / (T - w))) / 2
        linear     rate * (T - t) / (T - w)
        constant   rate

    Args:
        name: one of `SCHEDULES`.
        learning_rate: the highest rate.
        steps: T, of the whole training; a constant rate does not depend on it.
        warmup_steps: w, 0 <= w < T.

    Raises:
        FlagError: the name is unknown, or the rise takes as long as the training.
    """
    if not 0 <= warmup_steps < steps:
        raise FlagError(f"--warmup-epochs {warmup_steps} steps do not fit a training of {steps} steps")
    if name == "constant":
        after = schedules.PolynomialDecay(learning_rate, 1, learning_rate)
    elif name == "linear":
        after = schedules.PolynomialDecay(learning_rate, steps - warmup_steps, 0.0)
    elif name == "cosine":
        after = schedules.CosineDecay(learning_rate, steps - warmup_steps)
    else:
        raise FlagError(f"--schedule {name}: choose one of {', '.join(SCHEDULES)}")
    return Warmup(after, learning_rate, warmup_steps) if warmup_steps else after


class Warmup(schedules.LearningRateSchedule):
    """A linear rise from 0, then another schedule from its beginning.

    Args:
        after: the schedule that follows.
        learning_rate: the rate at the end of the rise.
        steps: length of the rise.
    """

    def __init__(self, after, learning_rate, steps):
        self.after, self.learning_rate, self.steps = after, learning_rate, steps

    def __call__(self, step):
        from keras import ops

        step = ops.cast(step, "float32")
        rising = self.learning_rate * step / self.steps
        return ops.where(step < self.steps, rising, self.after(ops.maximum(step - self.steps, 0.0)))

    def get_config(self):
        """The constructor's arguments."""
        return {"after": self.after, "learning_rate": self.learning_rate, "steps": self.steps}
