"""How many random inputs a test draws: the same ones each time, or more and others where TFPIPELINE_FUZZ says so."""

import os

from hypothesis import settings

_TIMES = int(os.environ.get("TFPIPELINE_FUZZ", "0"))


def fuzz(examples: int) -> settings:
    """Hypothesis's settings for so many examples; with TFPIPELINE_FUZZ=N for N times as many, drawn anew."""
    return settings(max_examples=examples * (_TIMES or 1), derandomize=not _TIMES, deadline=None)
