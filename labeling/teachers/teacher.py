"""A teacher by its spec: enlarged pixels -> log-probabilities over its classes."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from labeling.teachers import registry
from labeling.teachers.conventions import (
    BACKGROUND_CLASSES,
    RANGES,
    Conventions,
    output_kind,
    probe_pictures,
    to_log_probs,
    to_range,
)
from labeling.teachers.flags import InputRange
from labeling.teachers.last_operation import HIGHEST, last_operation
from labeling.teachers.network import Network, call_in_steps, resize
from tfpipeline.system import FlagError, UserError, message_of

BUNDLED = pathlib.Path(__file__).parent / "bundled"
CLASSES_FILE = "classes.txt"
_ROUNDING = 0.01  # of the largest answer; two runs of one computation differ by less, in bfloat16 too
# Of several rows per image, the one with the first of these names is the classes'.
_ROW_NAMES = ("logits", "probabilities", "predictions", "scores")


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A pretrained classifier, and how it is fed and read.

    Attributes:
        spec: as the person gave it.
        name: a short one, for tables and titles.
        network: its function.
        conventions: what it wants to be fed and what it answers.
        class_names: one per class that it answers over, or None when the teacher does not say.
        note: one line on how it is fed and why.
        subset: the network's class behind each class that it answers over; () when it answers over all.
        class_map: the network's classes behind each class, where these are own ones, many to one; else ().
    """

    spec: str
    name: str
    network: Network
    conventions: Conventions
    class_names: tuple[str, ...] | None
    note: str
    subset: tuple[int, ...] = ()
    class_map: tuple[tuple[int, ...], ...] = ()

    @property
    def size(self) -> int:
        """Height and width of its input, in pixels."""
        return self.conventions.size

    @property
    def classes(self) -> int:
        """Number of classes that it answers over."""
        return len(self.class_map) or len(self.subset) or self.conventions.classes

    @property
    def subset_of(self) -> int:
        """Number of classes of which `subset` is a part; 0 without a subset."""
        return self.conventions.classes if self.subset else 0

    @property
    def fingerprint(self) -> str:
        """Hash of its weights and of how it is fed and read: equal ones, over the same classes, give equal answers."""
        parts = {"weights": self.network.weights_sha256, **self.conventions.describe()}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def describe(self) -> dict:
        """What spec.json says of it, as plain values."""
        described = {"name": self.name, "fingerprint": self.fingerprint, **self.conventions.describe()}
        return described | ({"class_map": [list(group) for group in self.class_map]} if self.class_map else {})

    def in_network(self, truth: np.ndarray | None) -> np.ndarray | None:
        """The truth as the network counts its classes, int (N,), -1 where unknown; None where a map hides it.

        Args:
            truth: as the teacher counts them, or None.
        """
        if self.class_map or truth is None:
            return None
        return np.array([*self.subset, -1])[truth] if self.subset else truth

    def log_probs(self, pixels: tf.Tensor) -> tf.Tensor:
        """Its log-probabilities, over the subset or the groups of the map.

            log p_c - log sum_{d in subset} p_d,  or  log sum_{c in group} p_c - log sum_{d in all groups} p_d

        Args:
            pixels: float32 (B, size, size, 3), RGB in 0..255.

        Returns:
            float32 (B, classes).
        """
        answers = self.network.call(to_range(pixels, self.conventions.range))
        log_p = to_log_probs(answers, self.conventions)
        if self.class_map:
            return tf.nn.log_softmax(_log_sums(log_p, self.class_map))
        return tf.nn.log_softmax(tf.gather(log_p, self.subset, axis=-1)) if self.subset else log_p


def _log_sums(log_p, groups):
    """log sum_{c in group} p_c for each group, (B, groups); log_p is (B, classes)."""
    longest = max(map(len, groups))
    members = np.array([[*group, *[0] * (longest - len(group))] for group in groups], np.int32)
    filled = np.array([[0.0] * len(group) + [-np.inf] * (longest - len(group)) for group in groups], np.float32)
    return tf.reduce_logsumexp(tf.gather(log_p, members, axis=-1) + filled, axis=-1)


def load_teacher(
    spec: str,
    range: InputRange | None = None,
    size: int | None = None,
    classes: int | None = None,
    trust: bool = False,
) -> Teacher:
    """The teacher that a spec names.

    Args:
        spec: "bundled"; a SavedModel directory, "hub:NAME", a TF-Hub URL, "kaggle:..."; "keras:NAME"; a .keras or .h5
            file; an .onnx file, perhaps after "onnx:"; a folder of Keras Hub, or "preset:NAME".
        range: one of conventions.RANGES, when the person knows better than the conventions.
        size: height and width of its input, for a network that takes any, or for one that is to take another.
        classes: number of classes; one less than the network answers means that output 0 is the background.
        trust: whether it may do more than compute, such as run code of its own; it is refused otherwise.

    Raises:
        UserError: it does not load, is no classifier of RGB images, or may do more than compute.
        FlagError: its size or range must be given, or contradicts the network.
    """
    network = _network(spec, trust)
    network, size = _take_size(spec, network, size)
    range, reason = (range, "as told") if range else (network.range, network.range_reason)
    if range is None:
        raise FlagError(
            f"teacher {spec}: which numbers does it want? {network.range_reason}; give --teacher-range, one of "
            + "; ".join(f"{name}: {meaning}" for name, meaning in RANGES.items())
        )
    if network.whole_numbers and range != network.range:
        raise FlagError(
            f"teacher {spec} takes whole numbers in {network.range} ({network.range_reason}), not --teacher-range "
            f"{range}; leave it out"
        )
    network = _choose_output(spec, network, range, size)
    answers = _probe(spec, network, range, size)
    outputs = answers.shape[-1]
    known = registry.find_classifier(spec)
    if known and outputs != known.outputs:
        raise UserError(
            f"teacher {spec} answers {outputs:,} numbers, not the {known.outputs:,} that its page states; empty the "
            "cache that it came from (TFHUB_CACHE_DIR), or give the directory of its SavedModel"
        )
    background = _has_background(spec, outputs, classes)
    conventions = Conventions(size, range, output_kind(answers, network.operation), outputs, background)
    names = _class_names(spec, network, conventions.classes)
    dropped = ", output 0 (background) dropped" if background else ""
    independent = " (independent, they do not sum to 1)" if conventions.output == "sigmoids" else ""
    note = (
        f"teacher {spec}: {size}x{size} pixels in the range {range} ({reason}), {conventions.output}{independent} over "
        f"{conventions.classes:,} classes{dropped}"
    )
    return Teacher(spec, registry.name_of(spec), network, conventions, names, note)


def _network(spec, trust):
    # Keras and h5py are loaded for the teachers that need them.
    if spec == "bundled":
        from labeling.teachers import saved_models

        return saved_models.load(str(BUNDLED), trust)
    from labeling.teachers import keras_models, onnx_files, presets, saved_models

    if spec.startswith(presets.KIND) or presets.is_folder(spec):
        return presets.load(spec, trust)
    if spec.startswith(onnx_files.KIND) or spec.lower().endswith(onnx_files.SUFFIX):
        return onnx_files.load(spec)
    if spec.startswith(keras_models.APPLICATION):
        return keras_models.application(spec)
    if spec.lower().endswith(keras_models.FILE_SUFFIXES):
        return keras_models.file(spec, trust)
    return saved_models.load(spec, trust)


def _take_size(spec, network, size):
    """(the network, its input size): its own, or the one that the person gives."""
    if network.size is None and size is None:
        raise FlagError(f"teacher {spec} takes images of any size; give --teacher-size, such as 224")
    if None in (network.size, size) or network.size == size:
        return network, network.size or size
    if network.is_size_fixed:
        raise FlagError(f"teacher {spec} takes images of {network.size} pixels, not --teacher-size {size}")
    return resize(network, size), size


def _choose_output(spec, network, range, size):
    """The network, of its answers only the one that is a row per image: called for any number of images."""
    pictures = to_range(probe_pictures(size, network.batch or 2), range)
    try:
        answers = network.call(pictures)
    except Exception as error:  # What a network's own operations raise is anything.
        at_a_time = f", {network.batch} in a batch" if network.batch else ""
        raise UserError(
            f"teacher {spec} does not take images of {size}x{size} pixels{at_a_time} "
            f"({message_of(error)}); give another --teacher-size"
        ) from error
    index, outputs = _find_row(spec, answers)
    rows = len(tf.nest.flatten(answers)[index])
    if rows != len(pictures):
        raise UserError(
            f"teacher {spec} answers {rows} rows to {len(pictures)} images of {size}x{size} pixels; give another "
            "--teacher-size"
        )

    def call(images):
        return tf.ensure_shape(tf.nest.flatten(network.call(images))[index], (network.batch, outputs))

    signature = tf.TensorSpec((network.batch, size, size, 3), tf.float32)
    operation = network.operation or last_operation(tf.function(call).get_concrete_function(signature))
    if operation == HIGHEST:
        raise UserError(
            f"teacher {spec} answers the {outputs:,} highest of its numbers, in the order of their size, not one for "
            "each class; export it without that"
        )
    if network.batch:
        call = call_in_steps(call, network.batch, outputs)
    return dataclasses.replace(network, call=call, operation=operation)


def _find_row(spec, answers):
    """(index among the flattened answers, length) of the floating row per image: the only one, or the one so called."""
    tensors = tf.nest.flatten(answers)
    integers = {tuple(tensor.shape) for tensor in tensors if tensor.dtype.is_integer}
    names = [""] * len(tensors)
    if isinstance(answers, Mapping) and len(answers) == len(tensors):
        names = sorted(answers)  # As they are flattened.
    rows = {
        index: name
        for index, (name, tensor) in enumerate(zip(names, tensors, strict=True))
        if isinstance(tensor, tf.Tensor)
        and tensor.dtype.is_floating
        and tensor.shape.rank == 2
        and tensor.shape[-1] > 1
        if tuple(tensor.shape) not in integers  # which say the classes of the highest few
    }
    called = [index for known in _ROW_NAMES for index, name in rows.items() if name == known]
    if len(rows) != 1 and not called:
        shapes = ", ".join(
            f"{name and name + ' '}{tensor.dtype.name} {_shape_of(tensor)}"
            for name, tensor in zip(names, tensors, strict=True)
        )
        raise UserError(
            f"teacher {spec} answers {shapes}; a classifier answers one row per image, (B, classes), of two or more "
            f"floating numbers: choose another one, or export it with one answer, or one called {_ROW_NAMES[0]}"
        )
    index = called[0] if called else next(iter(rows))
    return index, tensors[index].shape[-1]


def _shape_of(tensor):
    return f"({', '.join(['B', *map(str, tensor.shape[1:])])})" if tensor.shape.rank else "()"


def _probe(spec, network, range, size):
    """The answers to a few pictures, (B, n)."""
    pictures = to_range(probe_pictures(size), range)
    answers = network.call(pictures)
    if not tf.reduce_all(tf.math.is_finite(answers)):
        raise UserError(
            f"teacher {spec} answers NaN or infinity to pictures in the range {range}; check --teacher-range"
        )
    moved = tf.reduce_max(tf.abs(network.call(pictures) - answers)) / tf.reduce_max(tf.abs(answers))
    if moved > _ROUNDING:
        raise UserError(
            f"teacher {spec} answers the same pictures otherwise each time (by up to {moved:.1%}): it draws random "
            "numbers, such as those of dropout or augmentation; export it for inference"
        )
    if network.ends_in and output_kind(answers, network.operation) == "logits" and tf.reduce_min(answers) >= 0.0:
        raise UserError(
            f"teacher {spec} answers {answers.shape[-1]:,} numbers that are never negative and do not sum to 1, out of "
            f"its layer {network.ends_in}: a feature vector, no classes; give the model with its classifier"
        )
    return answers


def _has_background(spec, outputs, classes):
    """Whether output 0 is no class."""
    if classes in (None, outputs):
        return classes is None and outputs == BACKGROUND_CLASSES
    if classes == outputs - 1:
        return True
    raise FlagError(f"teacher {spec} answers {outputs:,} numbers, which cannot be --teacher-classes {classes:,}")


def _class_names(spec, network, classes):
    """Those that the network brings, else the lines of classes.txt in a SavedModel directory, where there is one."""
    if network.class_names is not None:
        if len(network.class_names) != classes:
            raise UserError(
                f"teacher {spec} has {classes:,} classes, but it, or a file beside it, names "
                f"{len(network.class_names):,}: correct that, or name them in a {CLASSES_FILE} beside it"
            )
        return network.class_names
    path = (BUNDLED if spec == "bundled" else pathlib.Path(spec)) / CLASSES_FILE
    if not path.is_file():
        return None
    try:
        names = tuple(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no text in UTF-8 ({error}); correct or remove the file") from error
    if len(names) != classes:
        raise UserError(f"{path} names {len(names):,} classes; the teacher has {classes:,}: correct or remove the file")
    return names
