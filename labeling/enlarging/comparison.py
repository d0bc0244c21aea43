"""Which way of enlarging suits a teacher, found without the truth.

A teacher that sees images as it is used to is decided about each of them, and answers different ones differently. Both
are in the mutual information of image and answer (labeling/enlarging/information.py).

An enlargement that the teacher was not trained for makes its answers flat, which raises the doubt in each, or draws
them to the few classes that look like its artifacts, which lowers their diversity; the mean top probability alone would
not see that collapse. It is what classifiers are trained with where no label is known (Bridle et al. 1991,
"Unsupervised classifiers, mutual information and phantom targets"; Krause et al. 2010, "Discriminative clustering by
regularized information maximization").

Agreement, with the other interpolations or with the mirrored image, is reported but not followed: the smooth kernels
resemble each other, so that a vote among the eight is won by the average of them, whichever the teacher prefers.
docs/results.md has the figures of both kinds.

Where teachers answer together, the same holds for what they answer together: of each one's two best ways, those are
taken whose combined answers tell most, for views of the images that are to be combined, too.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from labeling.enlarging import interpolation
from labeling.enlarging.expert import Expert, answer_batch, freeze, most_probable
from labeling.enlarging.information import information_by_image, mutual_information
from labeling.teachers import Teacher
from tfpipeline.batches import Answers, concatenate
from tfpipeline.images import IDENTITY, Pixels, View, spread_evenly
from tfpipeline.system import SILENT, Console
from tfpipeline.training import TOP, agreement, share_in_top

# In 60 draws of 256 ImageNet images up to 2 % missed the best by more than a point of top-1; in 60 of 512, none.
SAMPLE = 512
# Two ways that are nearly as good are harder to tell apart than the eight.
SAMPLE_TOGETHER = 1000
FINALISTS = 2  # ways of each teacher that are tried together with those of the others
AUTO, DEFAULT = "auto", "bilinear"


@dataclasses.dataclass(frozen=True, eq=False)
class Response:
    """What a teacher answers to N images, enlarged in one way.

    Attributes:
        answers: its min(5, classes) most probable classes, leading axes (N,).
        first_mirrored: int (N,), the most probable class of the mirrored image; None when it was not asked.
        entropy: float32 (N,), of all classes, in nats.
        mean: float64 (classes,), the mean of the probabilities over images.
    """

    answers: Answers
    first_mirrored: np.ndarray | None
    entropy: np.ndarray
    mean: np.ndarray

    @property
    def information(self) -> float:
        """The mutual information of image and answer, in nats."""
        return mutual_information(self.mean, self.entropy)


@dataclasses.dataclass(frozen=True)
class Figures:
    """How the answers to one enlargement are; shares and probabilities in 0..1.

    Attributes:
        information: of image and answer, in nats; at most the logarithm of the number of images and of classes.
        top_probability: mean probability of the first answer.
        entropy: mean entropy of the answers, in nats.
        flip_agreement: share of images whose mirror image has the same first answer.
        agreement: share of images with the first answer of another interpolation, mean over the others; None without
            any.
        teacher_agreement: share of images with the first answer of another teacher, mean over the others and over their
            interpolations; None where there is no other teacher, or it counts other classes.
        top1: share of images with the true class first; None without truth.
        top5: share of images with the true class among the first five; None without truth.
    """

    information: float
    top_probability: float
    entropy: float
    flip_agreement: float
    agreement: float | None
    teacher_agreement: float | None
    top1: float | None
    top5: float | None


def recommend(responses: Mapping[str, Response]) -> str:
    """The method whose answers have the highest mutual information with the images; of equals, DEFAULT."""
    return rank(responses)[0]


def rank(responses: Mapping[str, Response]) -> list[str]:
    """The methods, the most informative first; of equals, DEFAULT."""
    return sorted(responses, key=lambda method: (responses[method].information, method == DEFAULT), reverse=True)


def recommend_together(
    experts: Sequence[Expert],
    images: Pixels,
    views: Sequence[View] = (IDENTITY,),
    batch_size: int = 64,
    console: Console = SILENT,
) -> list[str]:
    """The interpolations with which teachers answer best together, found without the truth.

    Args:
        experts: the teachers with their weights; an interpolation AUTO is to be found, any other is kept.
        images: uint8 (N, H, W, 3), all of them; the teachers answer samples.
        views: those whose answers are one mean.
        batch_size: images at a time.
        console: where progress goes.

    Returns:
        One of interpolation.METHODS for each teacher.
    """
    few, more = (images[spread_evenly(len(images), size)] for size in (SAMPLE, SAMPLE_TOGETHER))
    choices = []
    for expert in experts:
        if expert.interpolation != AUTO:
            choices.append([expert.interpolation])
        elif images.shape[1:3] == (expert.teacher.size, expert.teacher.size):
            choices.append([DEFAULT])
        else:
            choices.append(rank(answer_all(expert.teacher, few, batch_size, console, mirrored=False)))
    if len(experts) == 1:
        return choices[0][:1]
    finalists = [methods[:FINALISTS] for methods in choices]
    if all(len(methods) == 1 for methods in finalists):
        return [methods[0] for methods in finalists]
    return _choose_together(experts, finalists, more, views, batch_size, console)


def _choose_together(experts, finalists, images, views, batch_size, console):
    """The finalist of each teacher: together, those with the highest mutual information of image and answer."""
    answers = []
    total = len(images) * sum(map(len, finalists))
    with console.bar("comparing them together", total, "image") as advance:
        for expert, methods in zip(experts, finalists, strict=True):
            candidates = [dataclasses.replace(expert, interpolation=method) for method in methods]
            answers.append([_log_probs(each, images, views, batch_size, advance) for each in candidates])
    weights = [expert.weight / sum(other.weight for other in experts) for expert in experts]

    def information(places):
        chosen = (log_p[place] for log_p, place in zip(answers, places, strict=True))
        log_p = sum(weight * part for weight, part in zip(weights, chosen, strict=True))
        log_p -= np.logaddexp.reduce(log_p, axis=1, keepdims=True)
        return information_by_image(log_p).mean()

    places = max(itertools.product(*(range(len(methods)) for methods in finalists)), key=information)
    return [methods[place] for methods, place in zip(finalists, places, strict=True)]


def _log_probs(expert, images, views, batch_size, advance):
    """float64 (N, classes): one teacher's answers, combined over the views."""
    frozen = freeze([expert], [views], images.shape[1:])
    parts = []
    for first in range(0, len(images), batch_size):
        batch = images[first : first + batch_size]
        log_p = answer_batch(lambda filled: frozen(tf.constant(filled))[0], batch, batch_size)
        parts.append(log_p.numpy()[:, 0].astype(np.float64))
        advance(len(batch))
    return np.concatenate(parts)


def answer_all(
    teacher: Teacher, images: np.ndarray, batch_size: int = 64, console: Console = SILENT, mirrored: bool = True
) -> dict[str, Response]:
    """The teacher's answers to the images in every way of enlarging, by method.

    Args:
        teacher: the teacher.
        images: uint8 (N, H, W, 3).
        batch_size: images at a time.
        console: where progress goes.
        mirrored: whether to ask about the mirrored images, too.
    """
    signature = tf.TensorSpec((batch_size, teacher.size, teacher.size, 3), tf.float32)
    frozen = convert_variables_to_constants_v2(tf.function(teacher.log_probs).get_concrete_function(signature))
    total = len(images) * len(interpolation.METHODS)
    with console.bar(f"comparing interpolations for {teacher.name}", total, "image") as advance:
        responses: dict[str, Response] = {}
        for method in interpolation.METHODS:

            def log_probs(batch, method=method):
                def enlarge_and_answer(filled):
                    return frozen(interpolation.enlarge(tf.constant(filled), teacher.size, method))[0]

                return answer_batch(enlarge_and_answer, batch, batch_size)

            responses[method] = _answer(log_probs, images, batch_size, mirrored, advance)
    return responses


def _answer(log_probs, images, batch_size, mirrored, advance):
    """The Response to all images, where log_probs answers one batch."""
    answers, entropies, first_mirrored, total = [], [], [], np.zeros(())
    for first in range(0, len(images), batch_size):
        batch = np.asarray(images[first : first + batch_size])
        log_p = log_probs(batch)
        probabilities = tf.exp(log_p)
        answers.append(most_probable(log_p.numpy(), min(TOP, log_p.shape[-1])))
        entropies.append(-tf.reduce_sum(probabilities * log_p, -1).numpy())
        total = total + probabilities.numpy().sum(0, dtype=np.float64)
        if mirrored:
            first_mirrored.append(tf.argmax(log_probs(batch[:, :, ::-1]), -1, tf.int32).numpy())
        advance(len(batch))
    return Response(
        concatenate(answers),
        np.concatenate(first_mirrored) if mirrored else None,
        np.concatenate(entropies),
        total / len(images),
    )


def figures(
    responses: Mapping[str, Response],
    others: Sequence[Mapping[str, Response]] = (),
    truth: np.ndarray | None = None,
) -> dict[str, Figures]:
    """The figures of one teacher's answers, by method.

    Args:
        responses: of the teacher, by method, with those to the mirrored images.
        others: those of other teachers to the same images.
        truth: int (N,) in the teacher's classes, -1 where unknown; None without truth.
    """
    comparable = [other for other in others if _classes(other) == _classes(responses)]
    result = {}
    for method, response in responses.items():
        answers = response.answers
        rest = [other.answers.first for name, other in responses.items() if name != method]
        foreign = [other.answers.first for teacher in comparable for other in teacher.values()]
        result[method] = Figures(
            information=response.information,
            top_probability=float(answers.confidence.mean()),
            entropy=float(response.entropy.mean()),
            flip_agreement=float(np.mean(answers.first == response.first_mirrored)),
            agreement=agreement(answers.first, rest),
            teacher_agreement=agreement(answers.first, foreign),
            top1=None if truth is None else share_in_top(answers.top_k, truth, 1),
            top5=None if truth is None else share_in_top(answers.top_k, truth, TOP),
        )
    return result


def _classes(responses):
    return len(next(iter(responses.values())).mean)
