"""Teachers from Keras: an architecture of Keras Applications by its name, or a .keras or .h5 file."""

import hashlib
import json
import pathlib
import re
import zipfile

import h5py
import keras
import numpy as np

from labeling.teachers import conventions
from labeling.teachers.network import Network
from tfpipeline.system import UserError, sha256_of_file

APPLICATION = "keras:"
FILE_SUFFIXES = (".keras", ".h5", ".hdf5")

# How many layers after the input may do the rescaling of a model that rescales inside.
_FIRST_LAYERS = 6
# The second best range must be this many times as far from a batch normalization's statistics as the best.
_CLEAR = 2.0
# The range of each family of Keras Applications that does not rescale inside, by how its models are named.
_FAMILIES = {
    r"mobilenet": "tf",
    r"xception": "tf",
    r"inception": "tf",
    r"nasnet": "tf",
    r"resnet\d+v2": "tf",
    r"resnet\d+": "caffe",
    r"vgg\d+": "caffe",
    r"densenet": "torch",
}


def application(spec: str) -> Network:
    """The network "keras:NAME" with the weights that Keras offers for ImageNet.

    Raises:
        UserError: Keras has no such name, or its weights cannot be fetched.
    """
    name = spec.removeprefix(APPLICATION)
    names = [known for known in dir(keras.applications) if known[0].isupper()]
    if name not in names:
        raise UserError(f"teacher {spec}: Keras Applications has no {name}; it has {', '.join(names)}")
    try:
        model = getattr(keras.applications, name)(weights="imagenet")
    except Exception as error:
        # keras.utils.get_file raises a bare Exception when the download fails.
        raise UserError(
            f"teacher {spec}: its weights could not be fetched ({str(error)[:200]}); give a .keras file or a SavedModel"
        ) from error
    digest = hashlib.sha256(name.encode())
    for weight in model.weights:
        digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return _network(model, digest.hexdigest(), _range_by_structure(model), _range_by_name(model))


def file(spec: str) -> Network:
    """The network of a .keras or .h5 file, read by the Keras that wrote it: 2 (tf_keras) or 3.

    Raises:
        UserError: there is no such file, it holds no model, or a model with code of its own.
    """
    path = pathlib.Path(spec)
    if not path.is_file():
        raise UserError(f"teacher {spec} does not exist; give the path of a .keras or .h5 file")
    try:
        version, architecture = _read_architecture(path)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(
            f"teacher {spec} is no whole Keras model ({error}); weights alone are not enough: save the model with "
            "model.save"
        ) from error
    if "Lambda" in _layer_kinds(json.loads(architecture)):
        raise UserError(
            f"teacher {spec} has a Lambda layer, whose code would be run; export it as a SavedModel instead"
        )
    library = _keras_of(version)
    try:
        model = library.models.load_model(str(path), compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"teacher {spec} was written by Keras {version} and does not load in {library.__version__} "
            f"({str(error).strip().splitlines()[0][:200]}); load it with its own version, or export it as a SavedModel"
        ) from error
    evidence = _range_by_structure(model) or _range_by_statistics(model, library)
    return _network(model, sha256_of_file(path), evidence, _range_by_name(model))


def _read_architecture(path):
    """(version of the Keras that wrote the file, its model's architecture as json)."""
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("metadata.json"))["keras_version"], archive.read("config.json")
    with h5py.File(path, "r") as content:
        return content.attrs["keras_version"], content.attrs["model_config"]


def _keras_of(version):
    if version.startswith("3"):
        return keras
    import tf_keras

    return tf_keras


def _layer_kinds(config):
    """The kinds of layers anywhere in a model's architecture."""
    if isinstance(config, dict):
        own = {config["class_name"]} if isinstance(config.get("class_name"), str) else set()
        return own.union(*map(_layer_kinds, config.values()))
    return set().union(*map(_layer_kinds, config)) if isinstance(config, list) else set()


def _network(model, weights_sha256, evidence, convention):
    """The Network of a model.

    Args:
        model: a keras.Model or a tf_keras.Model.
        weights_sha256: hash of its weights.
        evidence: (range, reason) as its weights and layers tell it, or None.
        convention: (range, reason) as its name tells it, or None.
    """
    known_range, reason = evidence or convention or (None, "nothing in the model tells")
    shape = model.input_shape
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[-1] not in (3, None):
        raise UserError(f"teacher {model.name} takes {shape}, not a batch of RGB images (B, H, W, 3)")
    return Network(
        call=lambda images: model(images, training=False),
        size=shape[1],
        range=known_range,
        range_reason=reason,
        range_is_certain=evidence is not None,
        weights_sha256=weights_sha256,
        owner=model,
    )


def _range_by_structure(model):
    """(range, reason) of a model whose first layers divide by 100 or more, or subtract means of such numbers."""
    for layer in _flat_layers(model)[:_FIRST_LAYERS]:
        kind = type(layer).__name__
        rescales = kind == "Rescaling" and np.max(layer.scale) < 0.01
        normalizes = kind == "Normalization" and layer.mean is not None and np.max(layer.mean) > 2
        if rescales or normalizes:
            return "0..255", f"its layer {layer.name} rescales"
    return None


def _range_by_name(model):
    """(range, reason) of a model that is named like one of Keras Applications."""
    for name in (model.name, *(layer.name for layer in model.layers[:_FIRST_LAYERS])):
        for family, known in _FAMILIES.items():
            if re.match(family, name.lower()):
                return known, f"{name} is a name of Keras Applications"
    return None


def _range_by_statistics(model, library):
    """(range, reason): the range in which the first batch normalization sees what it saw in training.

    Its moving mean m and deviation s are those of its input over the training images. Of the ranges that a picture can
    be given in, the right one comes nearest to them: with the mean m' and deviation s' of the pictures, the least mean
    over the channels of

        log(s' / s)^2 + ((m' - m) / s)^2

    Ranges differ there by factors of 2 to 255, pictures by tens of percent. A choice that is not clear is none.
    """
    norm = next((layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"), None)
    if norm is None or not model.inputs or model.input_shape[1] is None:
        return None
    before = library.Model(model.inputs, norm.input)
    mean, deviation = np.asarray(norm.moving_mean), np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)
    pictures = conventions.probe_pictures(model.input_shape[1])
    distances = {}
    for name in conventions.RANGES:
        seen = np.asarray(before(conventions.to_range(pictures, name), training=False)).reshape(-1, len(mean))
        stretch = np.log(np.sqrt(seen.var(0) + norm.epsilon) / deviation)
        distances[name] = np.mean(stretch**2 + ((seen.mean(0) - mean) / deviation) ** 2)
    best, second = sorted(distances, key=lambda name: distances[name])[:2]
    if distances[second] < _CLEAR * distances[best]:
        return None
    return best, "its first batch normalization saw such numbers in training"


def _flat_layers(model):
    """The layers in order, those of a model inside the model in its place."""
    return [inner for layer in model.layers for inner in (_flat_layers(layer) if hasattr(layer, "layers") else [layer])]
