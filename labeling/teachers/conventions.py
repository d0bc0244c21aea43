"""What a teacher wants to be fed and what it answers: the conventions of pretrained classifiers."""

import dataclasses

import numpy as np
import tensorflow as tf

from labeling.teachers.flags import InputRange
from labeling.teachers.last_operation import PRODUCTS, SIGMOID, SOFTMAX

# The range of numbers that a teacher's input takes. "tf", "caffe" and "torch" are the names that Keras Applications
# uses for its ways of preprocessing; the last two subtract the means of ImageNet.
RANGES: dict[InputRange, str] = {
    "0..1": "divided by 255 (TF-Hub)",
    "0..255": "as they are (models that rescale inside)",
    "tf": "x / 127.5 - 1, that is -1..1 (MobileNet, Inception, ResNetV2, NASNet)",
    "caffe": "BGR minus the ImageNet means (VGG, ResNet)",
    "torch": "divided by 255, ImageNet's mean and deviation normalized away (DenseNet)",
}
_BGR_MEANS = (103.939, 116.779, 123.68)
_RGB_MEANS, _RGB_DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

OUTPUTS = ("logits", "probabilities", "sigmoids")
_BELOW_ONE = 1 - 2.0**-24
# Classifiers trained by TF-Slim's recipe know ImageNet's 1000 classes and, at index 0, "background".
BACKGROUND_CLASSES = 1001


@dataclasses.dataclass(frozen=True)
class Conventions:
    """How a network is fed and read. The names of the fields are keys of spec.json and part of the fingerprint.

    Attributes:
        size: height and width of its input, in pixels.
        range: one of RANGES.
        output: one of OUTPUTS.
        outputs: length of a row that it answers.
        background: whether its output 0 is no class and is dropped.
    """

    size: int
    range: InputRange
    output: str
    outputs: int
    background: bool

    @property
    def classes(self) -> int:
        """Number of classes that are left."""
        return self.outputs - self.background

    def describe(self) -> dict[str, int | str | bool]:
        """The attributes as plain values, for spec.json and for the fingerprint."""
        return dataclasses.asdict(self)


def to_range(pixels: tf.Tensor, name: InputRange) -> tf.Tensor:
    """The pixels as a teacher of that range wants them.

    Args:
        pixels: float32 (B, H, W, 3), RGB in 0..255.
        name: one of RANGES.

    Returns:
        float32 (B, H, W, 3).
    """
    if name == "0..1":
        return pixels / 255.0
    if name == "0..255":
        return pixels
    if name == "tf":
        return pixels / 127.5 - 1.0
    if name == "caffe":
        return tf.reverse(pixels, [-1]) - _BGR_MEANS
    if name == "torch":
        return (pixels / 255.0 - _RGB_MEANS) / _RGB_DEVIATIONS
    raise ValueError(f"range {name!r} is none of {', '.join(RANGES)}")


def to_log_probs(answers: tf.Tensor, conventions: Conventions) -> tf.Tensor:
    """log p of the classes: the background is dropped before the softmax, or what is left is renormalized.

    Sigmoids s_c are probabilities of independent classes. An image has one class, and given that exactly one of them is
    true, class c is it with the probability s_c prod_{d != c} (1 - s_d) / Z, so that log p_c is log(s_c / (1 - s_c)) up
    to a constant: the logits that the sigmoids were made of.

    Args:
        answers: logits, probabilities or sigmoids, (B, conventions.outputs).
        conventions: say which, and whether output 0 is the background.

    Returns:
        float32 (B, conventions.classes); exp of a row sums to 1. A probability that was rounded to 0 counts as the
        smallest normal float32, so that its logarithm stays finite, and a sigmoid that was rounded to 1 as the largest
        float32 below.
    """
    answers = tf.cast(answers, tf.float32)
    if conventions.background:
        answers = answers[:, 1:]
    if conventions.output == "probabilities":
        answers = tf.math.log(tf.maximum(answers, answers.dtype.as_numpy_dtype(1.1754944e-38)))
    if conventions.output == "sigmoids":
        answers = tf.clip_by_value(answers, 1.1754944e-38, _BELOW_ONE)
        answers = tf.math.log(answers) - tf.math.log1p(-answers)
    return tf.nn.log_softmax(answers)


def output_kind(answers: tf.Tensor, operation: str = "") -> str:
    """What rows of answers are, one of OUTPUTS.

    Where the operation that computed them last is a softmax or a sigmoid, it says so. Else the numbers do:
    "probabilities" are nonnegative, each row with sum 1; "sigmoids" are all in 0..1 and do not sum to 1, unless a
    product computed them; "logits" are anything else.

    Args:
        answers: (B, n), the answers to B different images.
        operation: of `last_operation`.
    """
    answers = tf.cast(answers, tf.float32)
    if tf.reduce_any(answers < 0.0):
        return "logits"
    if operation in (SOFTMAX, SIGMOID):
        return "probabilities" if operation == SOFTMAX else "sigmoids"
    if tf.reduce_all(tf.abs(tf.reduce_sum(answers, -1) - 1.0) < 1e-2):
        return "probabilities"
    return "sigmoids" if operation not in PRODUCTS and tf.reduce_all(answers <= 1.0) else "logits"


def probe_pictures(size: int, count: int = 16) -> tf.Tensor:
    """Pictures with the brightness, contrast and smoothness of photographs, the same ones each time.

    Args:
        size: height and width.
        count: how many.

    Returns:
        float32 (count, size, size, 3) in 0..255: noise whose octaves have equal power, as in natural images.
    """
    generator = np.random.default_rng(0)
    pictures = np.zeros((count, size, size, 3), np.float32)
    cells = 1
    while cells <= size:
        gray = generator.standard_normal((count, cells, cells, 1))
        color = generator.standard_normal((count, cells, cells, 3))
        octave = (gray + 0.4 * color).astype(np.float32)
        pictures += tf.image.resize(octave, (size, size), "bicubic").numpy()
        cells *= 2
    pictures /= pictures.std()
    return tf.clip_by_value(pictures * 68.0 + 118.0, 0.0, 255.0)
