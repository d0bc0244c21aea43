"""What a loader of teachers hands over: a function of images and what is known about it, and how it is called."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from labeling.teachers.flags import InputRange
from tfpipeline.system import UserError


@dataclasses.dataclass(frozen=True)
class Network:
    """A pretrained classifier before it is known how it is to be fed and read.

    Attributes:
        call: images in the network's own range, float32 (B, size, size, 3) -> its answers, a tensor or a list or dict
            of them; traceable by tf.function. In a Teacher, one tensor (B, n).
        size: height and width of its input in pixels, or None when it takes any.
        range: the range of its input, one of conventions.RANGES, or None when nothing tells it.
        range_reason: what tells it, for the person at the terminal.
        range_is_certain: whether that is evidence from the network itself, not a convention.
        weights_sha256: hash of its weights, in hexadecimal.
        owner: the object that keeps the weights alive.
        batch: how many images it takes at a time, no more and no fewer; None for any number.
        whole_numbers: whether its input is an integer type: then it takes 0..255 and no other range.
        operation: what computes its answers last, of `last_operation`; "" before it is known which are read, but where
            the loader tells it because TensorFlow's graph does not.
        ends_in: its last layer, where that gives features unless it was made to give logits; "" otherwise.
        class_names: where it names its classes, or what lies beside it does; else None.
        is_size_fixed: whether it takes no other size than its own: it is none of TensorFlow, or resizes itself.
    """

    call: Callable[[tf.Tensor], Any]
    size: int | None
    range: InputRange | None
    range_reason: str
    range_is_certain: bool
    weights_sha256: str
    owner: object
    batch: int | None = None
    whole_numbers: bool = False
    operation: str = ""
    ends_in: str = ""
    class_names: tuple[str, ...] | None = None
    is_size_fixed: bool = False


def check_images(spec: str, shape: tf.TensorShape, dtype: tf.DType) -> None:
    """Checks that an input is a batch of square RGB images, as far as it says.

    Args:
        spec: the teacher's, for the message.
        shape: of the input; an unknown rank may be anything.
        dtype: of the input.

    Raises:
        UserError: it is something else; the message says what.
    """
    if not (dtype.is_floating or dtype.is_integer) or dtype == tf.int8:
        raise UserError(
            f"teacher {spec} takes {dtype.name} {shape}, not pixels as floating or whole numbers in 0..255; export it "
            "with an input of float32 or uint8"
        )
    if shape.rank is None:
        return
    _, height, width, channels = shape if shape.rank == 4 else (None, None, None, 0)
    if channels not in (3, None) or (height == 3 and channels is None):
        raise UserError(f"teacher {spec} takes {shape}, not a batch of RGB images (B, H, W, 3)")
    if None not in (height, width) and height != width:
        raise UserError(f"teacher {spec} takes images of {height}x{width} pixels; only square ones are made for it")


def as_type(images: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """The images in the type of a network's input: for an integer type, the nearest whole numbers.

    Args:
        images: float32 (B, H, W, 3).
        dtype: of the network's input.
    """
    return tf.cast(tf.round(images) if dtype.is_integer else images, dtype)


def call_in_steps(call: Callable[[tf.Tensor], tf.Tensor], batch: int, outputs: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """A call for any number of images, though the network takes `batch` at a time: black ones fill the last step up.

    Args:
        call: images (batch, H, W, 3) -> answers (batch, outputs).
        batch: images at a time.
        outputs: length of a row of answers.
    """
    kind = tf.TensorSpec((batch, outputs), tf.float32)

    def call_any(images):
        count = tf.shape(images)[0]
        whole = tf.pad(images, ((0, -count % batch), (0, 0), (0, 0), (0, 0)))
        steps = tf.reshape(whole, (-1, batch, *images.shape[1:]))
        answers = tf.map_fn(lambda step: tf.cast(call(step), tf.float32), steps, fn_output_signature=kind)
        return tf.reshape(answers, (-1, outputs))[:count]

    return call_any


def resize(network: Network, size: int) -> Network:
    """The network for images of another size: its operations, given what they infer their shapes from.

    Whether they make sense of that size shows when it is called: convolutions and means over all places do, a product
    of flattened pixels does not.

    Args:
        network: of a size of its own.
        size: height and width of the images, in pixels.
    """
    signature = tf.TensorSpec((network.batch, network.size, network.size, 3), tf.float32)
    frozen = convert_variables_to_constants_v2(tf.function(network.call).get_concrete_function(signature))
    graph, pixels = frozen.graph.as_graph_def(), frozen.inputs[0].name
    names = [tensor.name for tensor in frozen.outputs]

    @tf.function
    def call(images):
        answers = tf.graph_util.import_graph_def(graph, {pixels: images}, names)
        return tf.nest.pack_sequence_as(frozen.structured_outputs, answers, expand_composites=True)

    return dataclasses.replace(network, call=call, size=size)
