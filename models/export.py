"""A trained network in the forms that other programs run: SavedModel, LiteRT and ONNX.

Each takes float32 images (B, H, W, 3) in 0..255 under the name "images" and answers logits (B, K). The operations
of this package are functions with gradients of their own; only their forward graphs are exported.
"""

import dataclasses
import pathlib
import tempfile
import warnings
import zipfile
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from models.description import Description
from models.encoded_images import decode_images
from tfpipeline.system import UserError, path_without_pattern
from tfpipeline.training import TOP

MAX_DIFFERENCE = 0.01
"""Of a log-probability, between an exported network and Keras: 1 % of a probability.

Rounding gives 1e-6 to 1e-3; a network that is fed or folded wrongly is off by more than 0.1.
"""
_CHECK_BATCH = 32
_NO_DATE = (1980, 1, 1, 0, 0, 0)
DESCRIPTION_FILE = "description.json"
DESCRIPTION_IN_SAVEDMODEL = f"assets.extra/{DESCRIPTION_FILE}"
OTHER_BYTES = ("saved_model.pb", "fingerprint.pb")
"""Files of a SavedModel whose bytes TensorFlow makes others each time."""


@dataclasses.dataclass(frozen=True)
class Check:
    """How an exported network answers beside Keras.

    Attributes:
        images: how many images were asked about.
        same_top1: on how many both have the same first answer.
        max_difference: the largest difference of two log-probabilities.
    """

    images: int
    same_top1: int
    max_difference: float

    @property
    def passed(self) -> bool:
        """Whether all first answers are the same and no log-probability is further off than MAX_DIFFERENCE."""
        return self.same_top1 == self.images and self.max_difference <= MAX_DIFFERENCE


def check(model: keras.Model, answer: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> Check:
    """Asks Keras and an exported network about the same images, in batches of which the last one is smaller.

    Args:
        model: the keras.Model.
        answer: images float32 (b, H, W, 3) -> logits (b, K).
        images: uint8 (N, H, W, 3).
    """
    same, difference = 0, 0.0
    for first in range(0, len(images), _CHECK_BATCH):
        batch = np.asarray(images[first : first + _CHECK_BATCH], np.float32)
        expected = tf.nn.log_softmax(model(batch, training=False)).numpy()
        found = tf.nn.log_softmax(answer(batch)).numpy()
        same += int(np.sum(expected.argmax(1) == found.argmax(1)))
        # NaN must not pass: np.maximum keeps it, max() would not.
        difference = float(np.maximum(difference, np.abs(expected - found).max()))
    return Check(len(images), same, difference)


def in_float32(model: keras.Model) -> keras.Model:
    """The same network with all arithmetic in float32, for a model that was trained in mixed precision."""
    if all(layer.compute_dtype in ("float32", "uint8") for layer in model.layers):
        return model

    def as_float32(layer):
        config = layer.get_config()
        if layer.compute_dtype != "uint8":
            config["dtype"] = "float32"
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=as_float32)
    copy.set_weights(model.get_weights())
    return copy


def write_savedmodel(model: keras.Model, directory: pathlib.Path, description: Description) -> None:
    """Writes a SavedModel: callable after `tf.saved_model.load`, and with signature "serving_default".

    Where the network takes squares, signature "encoded_images" takes the bytes of image files of any size, string (B,)
    under the name "image_bytes", and answers "names" and "probabilities" of the most probable classes, (B, min(5, K)).
    The description is in assets.extra/, where SavedModels have what nobody but people and programs of theirs read.

    Args:
        model: a keras.Model, (B, H, W, 3) -> (B, K).
        directory: an empty directory.
        description: of the network.
    """
    module = _served(model)
    signatures = {"serving_default": module.serve}
    if description.side:
        module.class_names = tf.constant(description.class_names)
        signatures["encoded_images"] = _serve_files(module, description)
    tf.saved_model.save(module, str(directory), signatures=signatures)
    path = directory / DESCRIPTION_IN_SAVEDMODEL
    path.parent.mkdir()
    path.write_text(description.to_json(), encoding="utf-8")


def _served(model: keras.Model) -> tf.Module:
    """The network as a module that can be saved: from pixels to logits."""

    def serve(images):
        return {"logits": model(images, training=False)}

    signature = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="images")
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    module.serve = tf.function(serve, input_signature=[signature])
    module.__call__ = tf.function(lambda images: serve(images)["logits"], input_signature=[signature])
    return module


def _serve_files(module: tf.Module, description: Description) -> Callable:
    """The function from image files to the names and probabilities of the most probable classes."""

    def serve(image_bytes):
        logits = module.serve(decode_images(image_bytes, description.side))["logits"]
        probabilities, classes = tf.math.top_k(tf.nn.softmax(logits), min(TOP, len(description.class_names)))
        return {"names": tf.gather(module.class_names, classes), "probabilities": probabilities}

    return tf.function(serve, input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")])


def open_savedmodel(directory: pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
    """The function images float32 (b, H, W, 3) -> logits (b, K) of a SavedModel."""
    with path_without_pattern(directory) as path:
        loaded = tf.saved_model.load(str(path))
    return lambda images: loaded.signatures["serving_default"](images=tf.constant(images))["logits"].numpy()


def write_litert(model: keras.Model, path: pathlib.Path, description: Description) -> None:
    """Writes a LiteRT (TensorFlow Lite) file of any batch size.

    Its associated files are in a zip archive at its end, as LiteRT has them: labels.txt, a name per line, and
    description.json. `unzip FILE` shows them, and zipfile reads them.
    """
    with tempfile.TemporaryDirectory() as directory:
        module = _served(model)
        tf.saved_model.save(module, directory, signatures={"serving_default": module.serve})
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(directory).convert())
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in (
            ("labels.txt", "\n".join(description.class_names)),
            (DESCRIPTION_FILE, description.to_json()),
        ):
            archive.writestr(zipfile.ZipInfo(name, _NO_DATE), text)


def open_litert(path: pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
    """The function images float32 (b, H, W, 3) -> logits (b, K) of a LiteRT file."""
    with warnings.catch_warnings():
        # TensorFlow announces that its interpreter moves to the package ai_edge_litert; every TensorFlow that the
        # requirements allow still has it.
        warnings.filterwarnings("ignore", message=".*tf.lite.Interpreter is deprecated", category=UserWarning)
        interpreter = tf.lite.Interpreter(model_path=str(path))
    place, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def answer(images):
        interpreter.resize_tensor_input(place, images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(place, images)
        interpreter.invoke()
        return interpreter.get_tensor(result)

    return answer


def write_onnx(model: keras.Model, path: pathlib.Path, description: Description) -> None:
    """Writes an ONNX file of any batch size, through Keras and tf2onnx; the description is its metadata_props.

    Raises:
        UserError: tf2onnx or onnx is not installed.
    """
    _require_onnx("tf2onnx", "onnx")
    signature = [keras.InputSpec(shape=(None, *model.input_shape[1:]), dtype="float32", name="images")]
    with warnings.catch_warnings():
        # Keras asks NumPy for np.object to mend tf2onnx (keras/src/export/tf2onnx_lib.py), and NumPy warns of it.
        warnings.filterwarnings("ignore", message=".*np.object", category=FutureWarning)
        model.export(path, format="onnx", input_signature=signature, verbose=False)
    import onnx

    exported = onnx.load(path)
    onnx.helper.set_model_props(exported, description.as_texts())
    onnx.save(exported, path)


def open_onnx(path: pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
    """The function images float32 (b, H, W, 3) -> logits (b, K) of an ONNX file.

    Raises:
        UserError: onnxruntime is not installed.
    """
    _require_onnx("onnxruntime")
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def _require_onnx(*packages: str) -> None:
    for package in packages:
        try:
            __import__(package)
        except ImportError as error:
            raise UserError(
                f"--to onnx needs {package} ({error}): pip install tf2onnx onnx onnxruntime, or choose --to litert"
            ) from error


WRITERS = {"savedmodel": write_savedmodel, "litert": write_litert, "onnx": write_onnx}
OPENERS = {"savedmodel": open_savedmodel, "litert": open_litert, "onnx": open_onnx}
