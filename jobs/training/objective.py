"""What the loss reads of the labels: targets, the weights of samples, and a word about the tail of tempered answers."""

import numpy as np

from jobs.training.data import LabeledImages
from models.flags import ObjectiveFlags
from models.losses import tempered_answer
from models.sample_weights import sample_weights
from tfpipeline.system import Console, FlagError

SAMPLE = 4096  # answers of which the tail is measured


def build_targets(data: LabeledImages, flags: ObjectiveFlags, console: Console) -> dict[str, np.ndarray]:
    """The arrays that `models.objective.Objective` reads, a row for each image, or for each of its replayed views.

    Args:
        data: what is learned.
        flags: how.
        console: where it is told what counts.

    Raises:
        FlagError: the truth has a weight and is not known, or the teacher is nowhere as sure as the threshold asks.
    """
    targets = _targets(data, flags.truth_weight)
    _note_tail(targets, data.classes, flags.temperature, console)
    return targets | _weights(targets, flags, console)


def _targets(data, truth_weight):
    if data.answers is None:
        return {"truth": data.truth}
    if truth_weight and not data.has_truth:
        raise FlagError(f"--truth-weight {truth_weight}: no truth is known; give --truth CSV or leave it out")
    answers = data.answers if data.answers_to_views is None else data.answers_to_views.as_rows()
    truth = {"truth": np.repeat(data.truth, max(len(data.views), 1))} if truth_weight else {}
    return answers.arrays() | truth


def _weights(targets, flags, console):
    """{"weight": float32, one for each row of the targets}, or {} where all count alike."""
    threshold = flags.confidence_threshold
    if not threshold and not flags.class_balance:
        return {}
    if "top_k" in targets:
        classes, probability = targets["top_k"][:, 0], np.exp(targets["log_probs"][:, 0])
    else:
        classes, probability = targets["truth"], None
    try:
        weights = sample_weights(classes, probability, threshold, flags.class_balance)
    except ValueError as error:
        raise FlagError(f"--confidence-threshold {threshold}: {error}; give a lower one") from error
    counted = weights[weights > 0]
    console.say(
        f"{len(counted):,} of {len(weights):,} labels count in the loss, with weights from {counted.min():.3g} to "
        f"{counted.max():.3g}, 1 in the mean"
    )
    return {"weight": weights}


def _note_tail(targets, classes, temperature, console):
    """Says how much of the tempered answers lies in the classes that the labels do not tell apart, by a sample of them.

    A temperature up to 1 gives them no more than they have, and needs no word.
    """
    others = classes - targets["top_k"].shape[-1] if "top_k" in targets else 0
    if temperature <= 1 or others == 0:
        return
    some = slice(None, None, -(-len(targets["log_tail"]) // SAMPLE))
    log_probs, log_tail = targets["log_probs"][some], targets["log_tail"][some]
    before, after = (
        others * float(np.mean(np.exp(tempered_answer(log_probs, log_tail, classes, t)[1]))) for t in (1, temperature)
    )
    console.say(
        f"--temperature {temperature:g} gives {100 * after:.1f} % of the teacher's answers, instead of "
        f"{100 * before:.1f} %, to the classes that the labels do not tell apart ({others:,} of {classes:,}); label "
        "with a higher --top-k to tell more of them apart"
    )
