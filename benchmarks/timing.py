"""Times of functions that are to be compared."""

import random
import statistics
import time


def medians(functions, repeats):
    """{name: median seconds of a call}, the functions taking turns, so that a busy moment of the machine meets all.

    Their order changes from turn to turn: threads of one library that still spin would slow down whoever comes next.

    Args:
        functions: {name: function without arguments}; each call does all its work before it returns.
        repeats: how many turns are timed, after two that are not.
    """
    order, times = list(functions), {name: [] for name in functions}
    shuffle = random.Random(0).shuffle
    for turn in range(-2, repeats):
        shuffle(order)
        for name in order:
            start = time.perf_counter()
            functions[name]()
            if turn >= 0:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}
