"""What answers tell about which image was shown: the mutual information of image and answer, in nats.

It is the diversity of all answers less the doubt in each,

    I(image; answer) = H(mean over images of p(. | image)) - mean over images of H(p(. | image)),

and so the mean over images x of what the answers to each of them tell,

    sum_c p(c | x) log(p(c | x) / p(c)),    p(c) = mean over images of p(c | x).

It is at most the logarithm of the number of images, and of classes.
"""

import numpy as np

from tfpipeline.training import entropy


def mutual_information(mean: np.ndarray, entropies: np.ndarray) -> float:
    """I(image; answer) in nats.

    Args:
        mean: mean of the probabilities over images, (classes,).
        entropies: of the answer to each image, in nats, (N,).
    """
    return float(entropy(mean) - entropies.mean())


def information_by_image(log_p: np.ndarray) -> np.ndarray:
    """What the answers tell about each image, in nats, (N,), of log-probabilities (N, classes); the mean of it is I."""
    p = np.exp(log_p)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = p * (log_p - np.log(p.mean(0)))
    return np.where(p > 0, terms, 0.0).sum(1)
