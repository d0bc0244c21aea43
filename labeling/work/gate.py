"""The gate before labeling: is the teacher fed as it was trained, and does it answer what the images are asked for?

It looks at all classes of the network, also where the teacher's answers are restricted to some of them: the more
classes, the more they tell.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from labeling.enlarging import Expert, information_by_image, interpolation
from labeling.teachers import InputRange, conventions
from tfpipeline.images import Pixels, spread_evenly
from tfpipeline.system import UserError

SAMPLE = 96
# Fewer images than this are shown to the teacher mirrored, too, and among drawn pictures: SAMPLE together.
LEAST_IMAGES = 24
# Nats that the answers tell about which image was shown; a useful teacher on varied images tells more than one.
_SAME_ANSWERS = 0.02
# How many standard errors another range must be better to be believed.
_CLEARLY = 3.0
# Share of the largest entropy that the answers of a classifier stay below.
_IN_FAVOR = 0.8
# A feature that is above this is no rounding of zero.
_ALIVE = 1e-3
_WAY_OUT = "or --no-gate, which labels all the same"


def check(
    expert: Expert,
    images: Pixels,
    truth: np.ndarray | None,
    classes: int,
    batch_size: int,
    names: Sequence[str] = (),
) -> str:
    """Checks a teacher on a few images of those to be labeled.

    Args:
        expert: the teacher and how images are enlarged for it.
        images: uint8 (N, H, W, 3), all of them; the teacher answers SAMPLE of them, spread evenly.
        truth: int (N,), the class of each in the network's count, -1 where unknown; None without truth.
        classes: number of classes of the images; 0 when unknown.
        batch_size: images that the teacher answers at a time.
        names: of the images, for the message; () where they have none.

    Returns:
        A line that says what was found.

    Raises:
        UserError: the teacher must not be used like that; the message names the likely cause and the way out.
    """
    teacher = expert.teacher
    _check_classes(teacher, classes)
    network, own_range = teacher.network, teacher.conventions.range
    if network.range_is_certain and network.range != own_range:
        raise UserError(
            f"teacher {teacher.spec} is fed the range {own_range} but wants {network.range}: "
            f"{network.range_reason}; leave --teacher-range out, {_WAY_OUT}"
        )
    chosen = spread_evenly(len(images), SAMPLE)
    few = len(chosen) < LEAST_IMAGES
    shown = _among_others(images[chosen]) if few else images[chosen]
    answers = answers_by_range(expert, shown, batch_size)
    own = answers.pop(own_range)
    _check_numbers(teacher, own, chosen, names)
    information = information_by_image(own)
    _check_features(expert, own, shown[:batch_size])
    _check_answers(teacher, own, information)
    for name, others in answers.items():
        gain = information_by_image(others) - information
        if gain.mean() > _CLEARLY * gain.std() / np.sqrt(len(gain)):  # Not where the others are no numbers.
            raise UserError(
                f"teacher {teacher.spec} is fed the range {own_range} but tells the images apart better "
                f"when fed {name} ({information.mean():.2f} and {information.mean() + gain.mean():.2f} nats); give "
                f"--teacher-range {name}, {_WAY_OUT}"
            )
    if truth is not None and not few:
        _check_offset(teacher, own, truth[chosen])
    counts = ""
    if classes and classes != teacher.conventions.classes:
        counts = f"; it has {teacher.conventions.classes:,} classes, the images {classes:,}"
    where = f" (of {len(images)}, their mirror images and drawn pictures)" if few else ""
    told = f"its answers tell {information.mean():.2f} nats about an image{where}, in no other range more"
    return f"teacher {teacher.name}: {told}{counts}"


def _among_others(images):
    """Few images with their mirror images and drawn pictures, uint8 (n, H, W, 3), n = SAMPLE."""
    height, width = images.shape[1:3]
    drawn = conventions.probe_pictures(max(height, width), SAMPLE - 2 * len(images))[:, :height, :width]
    return np.concatenate([images, images[:, :, ::-1], np.rint(drawn).astype(np.uint8)])


def _check_numbers(teacher, log_p, chosen, names):
    """Refuses answers that are no numbers; the first image that has them is named, if it is not a drawn one."""
    wrong = np.flatnonzero(np.isnan(log_p).any(1))
    if not len(wrong):
        return
    # Mirror images follow the images.
    first = chosen[wrong[0] % len(chosen)] if wrong[0] < 2 * len(chosen) else None
    which = "a drawn picture" if first is None else f"image {names[first]}" if len(names) else f"image {first}"
    raise UserError(
        f"teacher {teacher.spec} answers NaN to {which} ({len(wrong)} of {len(log_p)} pictures in all); leave such "
        "images out, or give another teacher or --teacher-range"
    )


def _check_classes(teacher, classes):
    """Refuses a background that is not dropped, or a class dropped as background, where the counts prove it.

    Images of one class fewer than the teacher's may as well lack a class: that alone proves nothing.
    """
    of_network, background = teacher.conventions.outputs, teacher.conventions.background
    kept = of_network == conventions.BACKGROUND_CLASSES and not background
    dropped = background and of_network in (conventions.BACKGROUND_CLASSES - 1, classes)
    if kept or dropped:
        of_images = f", the images {classes:,}" if classes else ""
        raise UserError(
            f"teacher {teacher.spec} answers {of_network:,} numbers and is read as "
            f"{teacher.conventions.classes:,} "
            f"classes{of_images}: every answer would be off by one, by a background class kept or a class dropped; "
            f"correct --teacher-classes, {_WAY_OUT}"
        )


def _check_answers(teacher, log_p, information):
    """Refuses answers that are flat, or the same for every image."""
    entropy = _share_of_entropy(log_p)
    if entropy > 0.99:
        raise UserError(
            f"teacher {teacher.spec} answers every class alike ({entropy:.1%} of the largest entropy); are its weights "
            f"trained, is --teacher-range right? Give another teacher, {_WAY_OUT}"
        )
    if information.mean() < _SAME_ANSWERS:
        sure = np.exp(log_p).max(1).mean()
        raise UserError(
            f"teacher {teacher.spec} answers the same whatever it is shown (with probability {sure:.2f}); is "
            f"--teacher-range right? It is fed {teacher.conventions.range}; give another one, {_WAY_OUT}"
        )


def _check_features(expert, log_p, images):
    """Refuses numbers that are never negative, as rectified features are, and are in favor of no class."""
    teacher = expert.teacher
    if teacher.conventions.output != "logits" or _share_of_entropy(log_p) < _IN_FAVOR:
        return
    pixels = interpolation.enlarge(images, teacher.size, expert.interpolation)
    features = teacher.network.call(conventions.to_range(pixels, teacher.conventions.range))
    # All of them zero are a network that is fed wrongly.
    if tf.reduce_min(features) >= 0.0 and tf.reduce_max(features) > _ALIVE:
        raise UserError(
            f"teacher {teacher.spec} answers {teacher.conventions.outputs:,} numbers that are never negative, do not "
            f"sum to 1 and as logits favor no class ({_share_of_entropy(log_p):.0%} of the largest entropy), as a "
            f"feature vector does; give the model with its classifier, {_WAY_OUT}"
        )


def _share_of_entropy(log_p):
    """The mean entropy of answers, in parts of the largest that there is."""
    return -np.mean(np.sum(np.exp(log_p) * log_p, axis=1)) / np.log(log_p.shape[1])


def _check_offset(teacher, log_p, truth):
    """Refuses class indices that agree with the truth only when shifted by one."""
    first, known = log_p.argmax(1), truth >= 0
    if known.sum() < LEAST_IMAGES:
        return
    share = {offset: np.mean((first == truth + offset)[known]) for offset in (-1, 0, 1)}
    best = max(share, key=lambda offset: share[offset])
    if best and share[best] > 3 * share[0] and share[best] > 0.1:
        raise UserError(
            f"teacher {teacher.spec}: {share[0]:.0%} of its first answers are true, but {share[best]:.0%} when counted "
            f"{best:+d}: its classes are shifted against the truth's; correct --teacher-classes or --truth, {_WAY_OUT}"
        )


def answers_by_range(expert: Expert, images: np.ndarray, batch_size: int) -> dict[InputRange, np.ndarray]:
    """range -> float64 (n, classes), the log-probabilities of the images when fed in that range."""
    teacher = expert.teacher
    answer = tf.function(lambda fed: conventions.to_log_probs(teacher.network.call(fed), teacher.conventions))
    parts: dict[InputRange, list[np.ndarray]] = {name: [] for name in conventions.RANGES}
    for start in range(0, len(images), batch_size):
        pixels = interpolation.enlarge(images[start : start + batch_size], teacher.size, expert.interpolation)
        for name, answers in parts.items():
            answers.append(answer(conventions.to_range(pixels, name)).numpy().astype(np.float64))
    return {name: np.concatenate(answers) for name, answers in parts.items()}
