"""What answers are worth on these images: two vectors that make labels better, found without any truth.

A teacher that sees images of another kind than it was trained on, such as enlarged ones of 64 pixels, favors some
classes whatever it is shown, and does not know which classes occur. With L_ic the log-probability of class c that it
answers to image i, the answers become

    log p_ic = L_ic - b_c + log pi_c - log Z_i

1. The background. Let L_ic = s_ic + b_c, where s is what the image tells and b what the teacher says of every image. Of
   images that are not of class c nothing is told for it, so that the height which L_ic reaches over these by chance is
   b_c, up to a constant: its quantile QUANTILE. It shows in the tail, since that is where classes take images from each
   other. Which images are of class c is not known, but is once b is: the two are found in turn, from b = the median.
2. The prior. Given p(c | i) under equally frequent classes, p(i) is proportional to sum_c pi_c p(c | i). Its likelihood
   is concave in pi; Expectation Maximization climbs it (Saerens et al. 2002):
       R_ic = pi_c p_ic / sum_d pi_d p_id,    pi_c <- mean_i R_ic.
   How far to go from equal frequencies is what images held out say: pi <- (1 - lambda) pi + lambda / C, where lambda
   has the highest mean of log(C sum_c pi_c p_ic) on folds that pi was not estimated on.
3. The guards. Both steps do harm where there is nothing to mend, and the likelihood rises even so.
   - The background is removed where that makes the mean answer more even (EVENER nats of its entropy), where its levels
     differ about as much as a class's log-probability does between images (UNLIKE), and by few nats (WIDEST). Answers
     that are what they should be have a mean answer that is the classes' frequency, and removing a quantile, which is
     noise there, makes it less even; and where classes do not occur, their levels lie far apart.
   - The prior is used where it raises the held-out likelihood by two standard errors, where the classes that it favors
     are those with pure answers (PURER; purity_c = sum_i p_ic^2 / sum_i p_ic), and where it is near to the mean answer
     (NEAR, in nats of KL): a prior that runs away from the answers follows its own errors.

docs/labels.md has the measurements. Only NumPy, in the type of the answers, with sums over images in float64; nothing
here knows the truth. No second array as large as the answers is made: what follows from them is computed in blocks,
again in each step.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from labeling.labels.flags import AdaptMethod

# Teachers of fewer classes lose by the background: a class's tail is then its few neighbors.
LEAST_CLASSES = 100
LEAST_IMAGES = 50
QUANTILE, ROUNDS = 0.97, 5
EVENER, WIDEST, UNLIKE = 0.05, 2.5, 0.4
PURER, NEAR, STANDARD_ERRORS = 1.5, 2.0, 2.0
FOLDS = 5
CLASSES_TOLD = 10
LAMBDAS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
# Of EM; the first suffices to tell whose images are whose.
_STEPS_FOR_BACKGROUND, _STEPS = 30, 60
_DIGITS = 6  # of the vectors that are kept
_NUMBERS = 125_000  # in a block
_TINY = 1e-30  # A class that EM has given up stays possible, far behind all others.


@dataclasses.dataclass(frozen=True)
class Adaptation:
    """The two vectors, and what was found on the way to them.

    Attributes:
        method: what was asked for, an AdaptMethod but "none".
        images: how many images it was found on.
        background: b, for each class of the teachers, in nats; () where it is not removed.
        log_prior: log pi, for each class that is answered over; () where all are taken to be equally frequent.
        found: figures by name, as `fit` gives them.
        refused: why a vector is not used, a line for each.
    """

    method: str
    images: int
    background: tuple[float, ...] = ()
    log_prior: tuple[float, ...] = ()
    found: dict[str, float] = dataclasses.field(default_factory=dict)
    refused: tuple[str, ...] = ()

    @classmethod
    def from_plain(cls, fields: dict[str, Any]) -> "Adaptation":
        """The adaptation whose fields JSON has kept, with lists for tuples."""
        tuples: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
        }
        return cls(**tuples)

    def apply(self, log_p: np.ndarray, subset: tuple[int, ...] = ()) -> np.ndarray:
        """log_softmax(L_c - b_c + log pi_c) over the classes of the subset.

        Args:
            log_p: L, the teachers' log-probabilities over all their classes, (..., classes).
            subset: the classes to answer over; () for all.

        Returns:
            The answers, in the type of `log_p`, (..., classes of the subset).
        """
        chosen = list(subset) or slice(None)
        if not (self.background or self.log_prior or subset):
            return log_p
        offset = np.zeros(log_p.shape[-1])[chosen]
        if self.background:
            offset = offset - np.array(self.background)[chosen]
        if self.log_prior:
            offset = offset + np.array(self.log_prior)
        return log_softmax(log_p[..., chosen] + offset.astype(log_p.dtype))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """log softmax over the last axis, in the type of the logits."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def merge_classes(log_p: np.ndarray, groups: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """log sum_{c in group} p_c - log sum_{d in all groups} p_d over the last axis; log_p itself without groups."""
    if not groups:
        return log_p
    sums = [np.logaddexp.reduce(log_p[..., list(group)], axis=-1) for group in groups]
    return log_softmax(np.stack(sums, axis=-1))


class Softmax:
    """p_ic = exp(L_ic - b_c) / Z_i over some classes, in blocks.

    Args:
        log_p: L, (N, classes of the teachers), of floating numbers.
        background: b, (classes of the teachers,); None for zeros.
        subset: the classes to answer over; () for all.
    """

    def __init__(self, log_p: np.ndarray, background: np.ndarray | None = None, subset: tuple[int, ...] = ()):
        self._log_p = log_p
        self._chosen = np.array(subset or range(log_p.shape[1]))
        self._offset = np.zeros(len(self._chosen), log_p.dtype)
        if background is not None:
            self._offset = background[self._chosen].astype(log_p.dtype)
        self._log_z = np.zeros(len(log_p), log_p.dtype)
        for rows, logits in self.logits():
            top = logits.max(1)
            self._log_z[rows] = top + np.log(np.exp(logits - top[:, None]).sum(1))

    @property
    def shape(self) -> tuple[int, int]:
        """(N, classes)"""
        return len(self._log_p), len(self._chosen)

    def logits(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yields (which images, L - b of these, a new array)."""
        for rows in _blocks(*self.shape):
            logits = self._log_p[rows]
            yield rows, (logits if len(self._chosen) == logits.shape[1] else logits[:, self._chosen]) - self._offset

    def __iter__(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yields (which images, p of these)."""
        for rows, logits in self.logits():
            logits -= self._log_z[rows, None]
            yield rows, np.exp(logits, out=logits)

    def columns(self, classes: slice) -> np.ndarray:
        """p of all images, for some of the classes."""
        return np.exp(self._log_p[:, self._chosen[classes]] - self._offset[classes] - self._log_z[:, None])

    def dot(self, prior: np.ndarray) -> np.ndarray:
        """sum_c p_ic pi_c, (N,)."""
        return np.concatenate([p @ prior.astype(p.dtype) for _, p in self])

    def mean(self) -> np.ndarray:
        """mean_i p_ic, float64 (classes,)."""
        return sum(p.sum(0, dtype=np.float64) for _, p in self) / len(self._log_p)


def _blocks(rows, columns):
    """Which rows are computed at once, of so many with so many columns."""
    step = max(1, _NUMBERS // columns)
    return [slice(first, min(first + step, rows)) for first in range(0, rows, step)]


def fit(log_p: np.ndarray, method: AdaptMethod, subset: tuple[int, ...] = ()) -> Adaptation:
    """The adaptation that the answers to N images call for.

    Args:
        log_p: L, (N, classes), over all classes of the teachers; exp of a row sums to 1.
        method: "auto" lets the guards decide, "background" and "prior" use that vector alone, whatever they say.
        subset: the classes that are to be answered over; () for all. The background is that of all classes.

    Returns:
        The adaptation. `found` has evenness, the gain in the mean answer's entropy by the background, in nats; spread,
        the standard deviation of b; spread_ratio, that in parts of the mean one of a class's L; gain, of the held-out
        log-likelihood by the prior, in nats an image, and gain_error, its standard error; smoothing, lambda;
        purity_ratio; divergence, KL(pi || mean answer); changed, the share of images with another first answer.
    """
    images = len(log_p)
    if method == "auto" and (reason := _objection_to_size(*log_p.shape)):
        return Adaptation(method, images, refused=(reason,))
    found, refused = {}, []
    background: np.ndarray | None = None
    if method != "prior":
        background = estimate_background(log_p)
        found["evenness"] = _entropy(Softmax(log_p, background).mean()) - _entropy(Softmax(log_p).mean())
        found["spread"] = float(background.std())
        found["spread_ratio"] = float(background.std() / max(_deviation_of_classes(log_p), _TINY))
        reason = _objection_to_background(found)
        if method == "auto" and reason:
            background = None
            refused.append(f"the background stays: {reason}")
    log_prior: np.ndarray | None = None
    # Where nothing is shifted as far as is known, a prior would be taken on no more than its likelihood.
    if method == "prior" or (method == "auto" and background is not None):
        prior, figures = estimate_prior(Softmax(log_p, background, subset))
        found |= figures
        reason = _objection_to_prior(figures)
        if method == "auto" and reason:
            refused.append(f"the classes stay equally frequent: {reason}")
        else:
            log_prior = np.log(np.maximum(prior, _TINY))
    found["changed"] = _share_of_others(Softmax(log_p, None, subset), Softmax(log_p, background, subset), log_prior)
    rounded = {name: round(float(value), _DIGITS) for name, value in found.items()}
    return Adaptation(method, images, _plain(background), _plain(log_prior), rounded, tuple(refused))


def _plain(vector):
    return () if vector is None else tuple(np.round(vector, _DIGITS).tolist())


def _deviation_of_classes(log_p):
    """mean_c of the standard deviation over images of L_ic - mean_d L_id."""
    total, squares = np.zeros((2, log_p.shape[1]))
    for rows in _blocks(*log_p.shape):
        centered = log_p[rows] - log_p[rows].mean(1, dtype=np.float64, keepdims=True)
        total += centered.sum(0)
        squares += (centered**2).sum(0)
    return np.sqrt(np.maximum(squares / len(log_p) - (total / len(log_p)) ** 2, 0)).mean()


def _share_of_others(plain, adapted, log_prior):
    """The share of images whose first answer is another with the background and the prior than without."""
    added = 0.0 if log_prior is None else log_prior
    pairs = zip(plain.logits(), adapted.logits(), strict=True)
    others = sum(np.count_nonzero(first.argmax(1) != (then + added).argmax(1)) for (_, first), (_, then) in pairs)
    return others / plain.shape[0]


def estimate_background(log_p: np.ndarray) -> np.ndarray:
    """b, float64 (classes,), of log-probabilities (N, classes).

    b_c is the quantile QUANTILE of L_ic over the images with R_ic <= 1/2, R the posterior under b and the prior that
    EM finds with it, ROUNDS times from b = median_i L_i on. A class of which all images are keeps its last b.
    """
    images, classes = log_p.shape
    some_classes = _blocks(classes, images)
    background = np.concatenate([np.median(log_p[:, some], axis=0) for some in some_classes]).astype(np.float64)
    for _ in range(ROUNDS):
        p = Softmax(log_p, background)
        prior = expectation_maximization(p, _STEPS_FOR_BACKGROUND)
        half = 0.5 * p.dot(prior)
        background = np.concatenate(
            [
                _quantile_of(log_p[:, some].T, (p.columns(some) * prior[some] <= half[:, None]).T, background[some])
                for some in some_classes
            ]
        )
    return background


def _quantile_of(values, mask, default):
    """The quantile QUANTILE of the masked values in each row, between the two nearest; the default without any."""
    counts = mask.sum(1)
    ordered = np.sort(np.where(mask, values, np.inf), axis=1).astype(np.float64)
    place = QUANTILE * np.maximum(counts - 1, 0)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(counts - 1, 0))
    rows = np.arange(len(values))
    below, above = ordered[rows, low], ordered[rows, high]
    with np.errstate(invalid="ignore"):
        return np.where(counts > 0, below + (place - low) * (above - below), default)


def expectation_maximization(p: Softmax, steps: int = _STEPS, weights: np.ndarray | None = None) -> np.ndarray:
    """pi, float64 (classes,), after so many steps of EM from equal frequencies on.

        pi_c <- mean_i pi_c p_ic / sum_d pi_d p_id

    Args:
        p: probabilities under equally frequent classes.
        steps: how many. The likelihood of the images falls in none of them.
        weights: of the images in the mean, (N,); None for equal ones.
    """
    images, classes = p.shape
    weights = np.ones(images) if weights is None else weights
    prior = np.full(classes, 1 / classes)
    for _ in range(steps):
        total = np.zeros(classes)
        for rows, block in p:
            total += (weights[rows] / (block @ prior.astype(block.dtype))).astype(block.dtype) @ block
        prior = prior * total / weights.sum()
    return prior


def estimate_prior(p: Softmax) -> tuple[np.ndarray, dict[str, float]]:
    """(pi, figures): the prior with the smoothing that held-out images prefer.

    Args:
        p: probabilities under equally frequent classes.

    Returns:
        pi, float64 (classes,), and the figures of `fit` about it.
    """
    images, classes = p.shape
    fold = np.arange(images) % FOLDS
    gains = np.zeros((len(LAMBDAS), images))
    for number in range(min(FOLDS, images)):
        held = fold == number
        if held.all():
            continue  # A single image has nothing to be held out from.
        rest = expectation_maximization(p, weights=(~held).astype(np.float64))
        likelihood = classes * p.dot(rest)[held]
        with np.errstate(divide="ignore"):
            for row, smoothing in zip(gains, LAMBDAS, strict=True):
                row[held] = np.log(smoothing + (1 - smoothing) * likelihood)
    best = int(gains.mean(1).argmax())
    smoothing, gain = LAMBDAS[best], gains[best]
    prior = (1 - smoothing) * expectation_maximization(p) + smoothing / classes
    mean = p.mean()
    squares = sum((block**2).sum(0, dtype=np.float64) for _, block in p)
    purity = squares / np.maximum(images * mean, _TINY)
    return prior, {
        "gain": float(gain.mean()),
        "gain_error": float(gain.std() / np.sqrt(images)),
        "smoothing": smoothing,
        "purity_ratio": float(prior @ purity / (mean @ purity)),
        "divergence": float(np.sum(prior * np.log(np.maximum(prior, _TINY) / np.maximum(mean, _TINY)))),
    }


def _entropy(mean):
    """In nats, of a mean answer, (classes,)."""
    return float(-np.sum(mean * np.log(np.maximum(mean, _TINY))))


def _objection_to_size(images, classes):
    """Why answers of this shape are better left, or None."""
    if images < LEAST_IMAGES:
        return f"{images} images are too few; {LEAST_IMAGES} would do"
    if classes < LEAST_CLASSES:
        return f"teachers of {classes} classes lose by it; {LEAST_CLASSES} would do"
    return None


def _objection_to_background(found):
    """Why the background is better left, or None."""
    if not found["evenness"] >= EVENER:
        return f"without it the mean answer is {found['evenness']:+.2f} nats more even, and {EVENER} would do"
    if not found["spread"] <= WIDEST:
        return f"its levels differ by {found['spread']:.1f} nats, and {WIDEST} would do: classes that do not occur"
    if not found["spread_ratio"] >= UNLIKE:
        ratio = found["spread_ratio"]
        return f"its levels differ {ratio:.2f} times as much as a class's answers do, and {UNLIKE} would do"
    return None


def _objection_to_prior(figures):
    """Why equal frequencies are the better prior, or None."""
    if not figures["gain"] > STANDARD_ERRORS * figures["gain_error"]:
        return f"another prior explains held-out images by {figures['gain']:+.2f} nats, within two standard errors"
    if not figures["purity_ratio"] >= PURER:
        return f"its classes' answers are {figures['purity_ratio']:.2f} times as pure, and {PURER} would do"
    if not figures["divergence"] <= NEAR:
        return f"it runs away from the answers, by {figures['divergence']:.1f} nats, and {NEAR} would do"
    return None


def describe(adaptation: Adaptation, names: Sequence[str], subset: tuple[int, ...] = ()) -> dict[str, Any]:
    """What people are told of an adaptation, as plain values.

    Args:
        adaptation: what the answers were changed by.
        names: of the classes that are answered over; of own classes, which are others, they do not count.
        subset: the classes that are answered over; () for all.

    Returns:
        method, images, background, prior (whether each is used), the figures that were found, refused, and where they
        are used: favored, the classes that the teachers say of every image, with how many nats more than of others;
        classes_found, of how many classes the sample has half an image or more; most_found, the largest shares.
    """
    told: dict[str, Any] = {
        "method": adaptation.method,
        "images": adaptation.images,
        "background": bool(adaptation.background),
        "prior": bool(adaptation.log_prior),
        **adaptation.found,
        "refused": list(adaptation.refused),
    }
    if adaptation.background:
        levels = np.array(adaptation.background)[list(subset) or slice(None)]
        told["favored"] = _largest(levels - np.median(levels), names)
    if adaptation.log_prior:
        prior = np.exp(np.array(adaptation.log_prior))
        told["classes_found"] = int(np.count_nonzero(prior * adaptation.images >= 0.5))
        told["most_found"] = _largest(prior, names)
    return told


def _largest(values, names):
    """name -> value of the classes with the largest values."""
    order = np.argsort(-values, kind="stable")[:CLASSES_TOLD].tolist()
    called = names if len(names) == len(values) else [f"class {index}" for index in range(len(values))]
    return {called[index]: round(float(values[index]), 4) for index in order}
