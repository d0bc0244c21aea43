"""How much each sample counts in the loss. Nothing is left out of the data, and the mean weight is 1."""

import numpy as np


def sample_weights(
    classes: np.ndarray, probability: np.ndarray | None = None, threshold: float = 0.0, balance: float = 0.0
) -> np.ndarray:
    """w[i] = s [p[i] >= P] n[c[i]]^-beta, with s such that the mean of w over all samples is 1

    n[c] is the number of samples of class c with p >= P. With beta = 0 all of them count alike, with beta = 1 every
    class has the same share of the loss, with beta = 1/2 the square root of its share (Mahajan et al. 2018, arXiv
    1805.00932); beta = 1 lets single samples of rare classes count for much (Cui et al. 2019, arXiv 1901.05555). A mean
    of 1 keeps the meaning of the learning rate.

    Args:
        classes: c, int (N,), the class that a sample is held to: the teacher's most probable one, or the true one.
        probability: p, (N,), how sure the teacher is of it; None for sure.
        threshold: P, in 0..1.
        balance: beta, in 0..1.

    Returns:
        w, float32 (N,).

    Raises:
        ValueError: no sample has p >= P.
    """
    sure = np.ones(len(classes)) if probability is None else probability
    counted = sure >= threshold
    if not counted.any():
        raise ValueError(f"no sample has a probability of {threshold:g} or more, the highest is {sure.max():.4g}")
    of_class = np.bincount(classes[counted]).astype(np.float64)
    weights = np.zeros(len(classes))
    weights[counted] = of_class[classes[counted]] ** -balance
    return (weights / weights.mean()).astype(np.float32)
