"""Random numbers that are asked for by counter: what is drawn for a sample depends on nothing but seed and counter."""

import zlib

import numpy as np

_WORD = 2**64 - 1
_GAMMA = 0x9E3779B97F4A7C15


def uniform(seed: int, counters: np.ndarray, stream: str) -> np.ndarray:
    """A number in [0, 1) for every counter.

    SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) at position `counters` of the sequence that starts at a hash of seed
    and stream; NumPy's own generators are sequential and cannot be asked for scattered positions at once.

    Args:
        seed: the run's seed.
        counters: int64 (B,).
        stream: a name for what is drawn; different names draw independently.

    Returns:
        float64 (B,).
    """
    start = _mix(np.array([(seed + _GAMMA * zlib.crc32(stream.encode())) & _WORD], np.uint64))
    bits = _mix(start + counters.astype(np.uint64) * np.uint64(_GAMMA))
    return (bits >> np.uint64(11)) * 2.0**-53


def integers(seed: int, counters: np.ndarray, stream: str, count: int) -> np.ndarray:
    """A number in 0..count-1 for every counter, int64 (B,); the arguments are those of `uniform`."""
    return (uniform(seed, counters, stream) * count).astype(np.int64)


def _mix(words):
    """SplitMix64's finalizer: every bit of the 64 depends on every other."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
