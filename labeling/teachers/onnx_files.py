"""Teachers from ONNX files, as PyTorch, timm, transformers and others export them.

ONNX Runtime computes their answers wherever TensorFlow runs the others; OpenVINO takes the file into its own graph
(labeling/work/openvino_onnx.py), and only there `--precision bfloat16` has an effect on them.

What the file does not tell is read beside it, where exporters leave it: `preprocessor_config.json` (transformers),
`config.json` (transformers, timm) and `classes.txt`.
"""

import ast
import dataclasses
import hashlib
import json
import pathlib
import re
import typing
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from labeling.teachers.flags import InputRange
from labeling.teachers.last_operation import PRODUCTS
from labeling.teachers.network import Network, as_type, check_images
from tfpipeline.system import UserError, message_of, sha256_of_file

KIND, SUFFIX = "onnx:", ".onnx"
# What is subtracted from pixels in 0..1, and what they are divided by, in the ranges that have names.
_NORMALIZATIONS: dict[InputRange, tuple[Sequence[float], Sequence[float]]] = {
    "0..1": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "tf": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "torch": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
_TYPES = {"float": "float32", "double": "float64"}  # what ONNX calls otherwise than TensorFlow
_PRODUCTS = ("Gemm", "MatMul", "Conv", "Einsum")
_UNNAMED = re.compile(r"LABEL_\d+")  # how transformers calls classes without names


class OnnxProgram:
    """An ONNX file in ONNX Runtime: images in the file's own layout -> its answers, a list of arrays.

    Attributes:
        path: of the file.
        name: of the operation that calls it in a graph.
        outputs: the names of the answers.
    """

    def __init__(self, path: pathlib.Path, sha256: str, session: typing.Any):
        self.path, self.name, self._session = path, f"onnx_{sha256[:16]}", session
        self._input = session.get_inputs()[0].name
        self._answers = {each.name: each for each in session.get_outputs() if each.type.startswith("tensor(")}
        self.outputs = tuple(self._answers)

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """The answers to a batch."""
        return self._session.run(self.outputs, {self._input: images})

    def as_tensors(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """The same, where TensorFlow asks; name -> answers."""
        types = [_type_of(each) for each in self._answers.values()]
        answers = tf.nest.flatten(tf.numpy_function(self, [images], types, stateful=False, name=self.name))
        shapes = (_shape_of(each) for each in self._answers.values())
        return {
            name: tf.ensure_shape(answer, shape)
            for name, answer, shape in zip(self.outputs, answers, shapes, strict=True)
        }


# A graph refers to what it calls weakly, and to its file by the name of the operation alone.
_PROGRAMS: dict[str, OnnxProgram] = {}


def find_onnx_program(operation: str) -> OnnxProgram:
    """What an operation of this name calls in a graph that holds a teacher from an ONNX file."""
    return next(program for name, program in _PROGRAMS.items() if name in operation)


def load(spec: str) -> Network:
    """The network of an ONNX file with one input of images, channels first or last.

    Args:
        spec: the path of the file, perhaps after "onnx:".

    Raises:
        UserError: onnxruntime is not installed, there is no such file, or it is no whole model of RGB images.
    """
    path = pathlib.Path(spec.removeprefix(KIND))
    if not path.is_file():
        raise UserError(f"teacher {spec} does not exist; give the path of an {SUFFIX} file")
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise UserError(f"teacher {spec} needs onnxruntime and onnx ({error}): pip install onnxruntime onnx") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        model = onnx.load(path, load_external_data=False)
        digest = _sha256(spec, path, model)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except UserError:
        raise
    except Exception as error:  # What damage makes the libraries raise is anything.
        raise UserError(
            f"teacher {spec} is no whole ONNX model that ONNX Runtime runs ({message_of(error)}); export it again"
        ) from error
    stated = read_stated(path.parent, model)
    network = _network(spec, OnnxProgram(path, digest, session), session, stated, digest)
    return dataclasses.replace(network, operation=_last_operation(model.graph))


def _network(spec, program, session, stated, digest) -> Network:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs)
        raise UserError(f"teacher {spec} takes {len(inputs)} inputs ({names}), not a batch of RGB images alone")
    if not program.outputs:
        raise UserError(f"teacher {spec} answers no tensor; export it with its logits")
    program = _PROGRAMS.setdefault(program.name, program)
    shape, dtype = _shape_of(inputs[0]), _type_of(inputs[0])
    channels_first = shape.rank == 4 and shape[3] != 3 and shape[1] in (3, None)
    if channels_first:
        batch, channels, height, width = shape
        # Channels that nobody counts are those of RGB.
        shape = tf.TensorShape((batch, height, width, channels or 3))
    check_images(spec, shape, dtype)
    mean, deviation = stated.normalization or ((0.0,) * 3, (1.0,) * 3)
    named = _range_of(stated.normalization)
    range, reason, certain = named, f"its {stated.place} says so", True
    if dtype.is_integer:
        range, reason = "0..255", f"its input is {dtype.name}"
    elif stated.normalization is None:
        range, certain = ("torch" if channels_first else None), False
        reason = "the convention of PyTorch" if channels_first else "nothing in the file or beside it tells"
    elif named is None:
        range, reason = "0..1", f"then normalized as its {stated.place} says"
        digest = hashlib.sha256(f"{digest} {mean} {deviation}".encode()).hexdigest()
    if stated.is_bgr:
        reason = f"{reason}, with blue first"
        digest = hashlib.sha256(f"{digest} BGR".encode()).hexdigest()

    def call(images):
        if named is None and stated.normalization is not None:
            images = (images - tf.constant(mean)) / tf.constant(deviation)
        if stated.is_bgr:
            images = tf.reverse(images, (-1,))
        return program.as_tensors(as_type(tf.transpose(images, (0, 3, 1, 2)) if channels_first else images, dtype))

    return Network(
        call=call,
        size=(shape[1] or shape[2] or stated.size) if shape.rank else stated.size,
        range=range,
        range_reason=reason,
        range_is_certain=certain,
        weights_sha256=digest,
        owner=program,
        batch=shape[0] if shape.rank else None,
        whole_numbers=dtype.is_integer,
        class_names=stated.class_names,
        is_size_fixed=True,
    )


def _last_operation(graph) -> str:
    """What computes the only answer, in the words of `last_operation`; "" where there are several."""
    if len(graph.output) != 1:
        return ""
    last = next((node.op_type for node in graph.node if graph.output[0].name in node.output), "")
    return PRODUCTS[0] if last in _PRODUCTS else last


def _type_of(tensor) -> tf.DType:
    """Of an input or answer as ONNX Runtime tells it: `tensor(float)`."""
    name = tensor.type.removeprefix("tensor(").removesuffix(")")
    try:
        return tf.as_dtype(_TYPES.get(name, name))
    except TypeError:
        return tf.string  # Whatever it is, it is no pixels and no answers.


def _shape_of(tensor) -> tf.TensorShape:
    """Likewise; lengths that the file leaves open are None, and no lengths at all are any shape."""
    dims = [length if isinstance(length, int) and length > 0 else None for length in tensor.shape]
    return tf.TensorShape(dims or None)


def _sha256(spec, path, model) -> str:
    """The hash of the file, and of those that hold weights for it.

    Raises:
        UserError: such a file is missing, or lies elsewhere than beside it.
    """
    digest = hashlib.sha256(sha256_of_file(path).encode())
    locations = {
        entry.value for tensor in _tensors(model.graph) for entry in tensor.external_data if entry.key == "location"
    }
    for location in sorted(locations):
        file = path.parent / location
        if pathlib.PurePath(location).is_absolute() or ".." in pathlib.PurePath(location).parts:
            raise UserError(f"teacher {spec} refers to {location} for its weights, outside of its own folder")
        if not file.is_file():
            raise UserError(f"teacher {spec} lacks the file {file}, which holds weights; put it beside the other")
        digest.update(f"{location} {sha256_of_file(file)}".encode())
    return digest.hexdigest()


def _tensors(graph) -> Iterator[typing.Any]:
    """All tensors of a graph, and of those in its operations."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


class Stated(typing.NamedTuple):
    """What a file, or files beside it, say of a network.

    Attributes:
        normalization: (mean, deviation) of the channels of pixels in 0..1, or None.
        size: of its input, or None.
        class_names: or None.
        place: what says how it normalizes.
        is_bgr: whether its channels come in the order blue, green, red.
    """

    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    size: int | None = None
    class_names: tuple[str, ...] | None = None
    place: str = ""
    is_bgr: bool = False


def read_stated(folder: pathlib.Path, model: typing.Any) -> Stated:
    """What a model's metadata, and the files in a folder, say of it."""
    own = {entry.key: _literal(entry.value) for entry in model.metadata_props}
    config = _read_json(folder / "config.json")
    pretrained = config.get("pretrained_cfg")
    processor = _read_json(folder / "preprocessor_config.json")
    stated = Stated(is_bgr=processor.get("do_flip_channel_order") is True)
    for place, values in (
        ("metadata", own),
        ("preprocessor_config.json", _of_processor(processor)),
        ("config.json", pretrained if isinstance(pretrained, dict) else {}),
    ):
        normalization = stated.normalization or _pair(values.get("mean"), values.get("std"))
        if normalization and not stated.normalization:
            stated = stated._replace(normalization=normalization, place=place)
        stated = stated._replace(size=stated.size or _last_number(values.get("input_size") or values.get("imgsz")))
    file = folder / "classes.txt"
    listed = file.read_text(encoding="utf-8").splitlines() if file.is_file() else None
    named = (listed, own.get("names"), config.get("id2label"), config.get("label_names"))
    return stated._replace(class_names=next(filter(None, map(_names, named)), None))


def _of_processor(processor: Mapping[str, typing.Any]) -> dict[str, typing.Any]:
    """What transformers says of pixels, in the words of timm, which are about pixels in 0..1.

    It makes (f v - o - mean) / deviation of a pixel v in 0..255.
    """
    size = (processor.get("do_center_crop", True) and processor.get("crop_size")) or processor.get("size")
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    values: dict[str, typing.Any] = {"input_size": size}
    normalizes = processor.get("do_normalize", "image_mean" in processor)
    rescales = processor.get("do_rescale", normalizes)
    factor = processor.get("rescale_factor", 1 / 255) if rescales else 1.0
    if not (normalizes or "do_rescale" in processor) or not isinstance(factor, (int, float)) or factor <= 0:
        return values
    stated = _pair(processor.get("image_mean"), processor.get("image_std")) if normalizes else ((0.0,) * 3, (1.0,) * 3)
    if stated is None:
        return values
    scale = 1.0 if np.isclose(255 * factor, 1) else 255 * factor
    offset = 1.0 if rescales and processor.get("rescale_offset") else 0.0
    values["mean"] = tuple((mean + offset) / scale for mean in stated[0])
    values["std"] = tuple(deviation / scale for deviation in stated[1])
    return values


def _read_json(path) -> dict[str, typing.Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _literal(text):
    """The numbers, list or dict that a text writes; else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _pair(mean, deviation):
    """Both as three numbers each, or None where they are anything else."""
    try:
        pair = tuple(tuple(float(value) for value in values) for values in (mean, deviation))
    except (TypeError, ValueError):
        return None
    return pair if all(len(values) == 3 for values in pair) and min(pair[1]) > 0 else None


def _range_of(normalization) -> InputRange | None:
    """The range whose name stands for a normalization."""
    if normalization is None:
        return None
    matches = (name for name, known in _NORMALIZATIONS.items() if np.allclose(normalization, known, atol=1e-4))
    return next(matches, None)


def _last_number(value) -> int | None:
    value = value[-1] if isinstance(value, (list, tuple)) and value else value
    return value if isinstance(value, int) and value > 0 else None


def _names(values) -> tuple[str, ...] | None:
    """Class names out of a list, or a dict by their numbers."""
    if isinstance(values, dict):
        try:
            by_number = {int(number): name for number, name in values.items()}
        except (TypeError, ValueError):
            return None
        values = [by_number.get(i) for i in range(len(by_number))]
    if not isinstance(values, (list, tuple)) or not all(isinstance(name, str) for name in values):
        return None
    return None if all(map(_UNNAMED.fullmatch, values)) else tuple(values)
