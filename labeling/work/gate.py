"""The gate before labeling: is the teacher fed as it was trained, and does it answer what the images are asked for?

It looks at all classes of the network, also where the teacher's answers are restricted to some of them: the more
classes, the more they tell.
"""

import numpy as np
import tensorflow as tf

from labeling.enlarging import Expert, information_by_image, interpolation
from labeling.teachers import InputRange, conventions
from tfpipeline.images import Pixels
from tfpipeline.system import UserError

SAMPLE = 96
# Fewer images than this cannot tell the ranges apart.
LEAST_IMAGES = 24
# Nats that the answers tell about which image was shown; a useful teacher on varied images tells more than one.
_SAME_ANSWERS = 0.02
# How many standard errors another range must be better to be believed.
_CLEARLY = 3.0
_WAY_OUT = "or --no-gate, which labels all the same"


def check(expert: Expert, images: Pixels, truth: np.ndarray | None, classes: int, batch_size: int) -> str:
    """Checks a teacher on a few images of those to be labeled.

    Args:
        expert: the teacher and how images are enlarged for it.
        images: uint8 (N, H, W, 3), all of them; the teacher answers SAMPLE of them, spread evenly.
        truth: int (N,), the class of each in the network's count, -1 where unknown; None without truth.
        classes: number of classes of the images; 0 when unknown.
        batch_size: images that the teacher answers at a time.

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
    chosen = sample_of(len(images))
    if len(chosen) < LEAST_IMAGES:
        return f"teacher {teacher.name}: {len(chosen)} images are too few to tell whether it is fed right"
    answers = answers_by_range(expert, images[chosen], batch_size)
    own = answers.pop(own_range)
    information = information_by_image(own)
    _check_answers(teacher, own, information)
    for name, others in answers.items():
        gain = information_by_image(others) - information
        if gain.mean() > _CLEARLY * gain.std() / np.sqrt(len(gain)):
            raise UserError(
                f"teacher {teacher.spec} is fed the range {own_range} but tells the images apart better "
                f"when fed {name} ({information.mean():.2f} and {information.mean() + gain.mean():.2f} nats); give "
                f"--teacher-range {name}, {_WAY_OUT}"
            )
    if truth is not None:
        _check_offset(teacher, own, truth[chosen])
    nats = information.mean()
    return f"teacher {teacher.name}: its answers tell {nats:.2f} nats about an image, in no other range more"


def _check_classes(teacher, classes):
    """Refuses a class too many or too few: a background that is not dropped, or a class dropped as background."""
    off_by_one = classes and abs(teacher.conventions.classes - classes) == 1
    kept = teacher.conventions.outputs == conventions.BACKGROUND_CLASSES and not teacher.conventions.background
    dropped = teacher.conventions.outputs == conventions.BACKGROUND_CLASSES - 1 and teacher.conventions.background
    if off_by_one or kept or dropped:
        of_images = f", the images {classes:,}" if classes else ""
        raise UserError(
            f"teacher {teacher.spec} answers {teacher.conventions.outputs:,} numbers and is read as "
            f"{teacher.conventions.classes:,} "
            f"classes{of_images}: every answer would be off by one, by a background class kept or a class dropped; "
            f"correct --teacher-classes, {_WAY_OUT}"
        )


def _check_answers(teacher, log_p, information):
    """Refuses answers that are flat, or the same for every image."""
    entropy = -np.mean(np.sum(np.exp(log_p) * log_p, axis=1)) / np.log(teacher.conventions.classes)
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


def sample_of(count: int) -> np.ndarray:
    """Indices of up to SAMPLE of `count` images, spread evenly, int64."""
    return np.unique(np.linspace(0, count - 1, SAMPLE).astype(np.int64))


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
