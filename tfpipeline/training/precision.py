"""Whether this processor has bfloat16 arithmetic, or only imitates it."""

import statistics
import time

import tensorflow as tf

_SIDE, _TURNS = 512, 5
WORTH_SAYING = 1.5


def bfloat16_slowdown() -> float:
    """How many times as long a product of matrices takes in bfloat16 as in float32, measured now, in some 0.1 s."""
    seconds: dict[tf.DType, list[float]] = {tf.float32: [], tf.bfloat16: []}
    factors = {dtype: tf.ones((_SIDE, _SIDE), dtype) for dtype in seconds}
    for _ in range(_TURNS + 1):  # In turns, so that both meet the same other work; the first one warms up.
        for dtype, factor in factors.items():
            start = time.perf_counter()
            tf.matmul(factor, factor).numpy()
            seconds[dtype].append(time.perf_counter() - start)
    return statistics.median(seconds[tf.bfloat16][1:]) / statistics.median(seconds[tf.float32][1:])


def note_on_bfloat16() -> str:
    """A line for the person who asked for bfloat16 where it is slower than float32; "" where it is not."""
    slowdown = bfloat16_slowdown()
    if slowdown < WORTH_SAYING:
        return ""
    return (
        f"bfloat16 takes {slowdown:.1f} times as long as float32 on this machine, whose processor has no arithmetic "
        "for it; --precision float32 is faster"
    )
