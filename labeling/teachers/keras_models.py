"""Teachers from Keras: an architecture of Keras Applications by its name, or a .keras or .h5 file."""

import hashlib
import itertools
import pathlib
import re

import keras
import numpy as np
import tensorflow as tf

from labeling.teachers import architectures, conventions, keras_files
from labeling.teachers.network import Network, as_type, check_images
from tfpipeline.system import UserError, message_of, sha256_of_file

APPLICATION = "keras:"
FILE_SUFFIXES = (".keras", ".h5", ".hdf5")

# How many layers after the input may do the rescaling of a model that rescales inside.
_FIRST_LAYERS = 6
# The second best range must be this many times as far from a batch normalization's statistics as the best.
_CLEAR = 2.0
# Of the ranges that operations inside a model may make others of, the likeliest first.
_RANGES_TO_TRY = ("0..255", "0..1", "tf")
# A division by more than the deviation of pixels in 0..255, which makes them numbers of the size of 1.
_DIVIDES = 1 / 30
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


def file(spec: str, trust: bool = False) -> Network:
    """The network of a .keras or .h5 file, read by the Keras that wrote it: 2 (tf_keras) or 3.

    Args:
        spec: the path of the file.
        trust: whether it may hold what labeling/teachers/keras_files.py and architectures.py do not allow.

    Raises:
        UserError: there is no such file, it holds no whole model, or its architecture names what is not allowed.
    """
    path = pathlib.Path(spec)
    if not path.is_file():
        raise UserError(f"teacher {spec} does not exist; give the path of a .keras or .h5 file")
    try:
        if not trust:
            keras_files.check(path)
        version, architecture = keras_files.read_architecture(path)
        library = _keras_of(version)
        if not trust:
            architectures.check(spec, architecture, library)
    except UserError:
        raise
    except keras_files.Refused as error:
        raise UserError(
            f"teacher {spec}: {error}; where you trust who made it, --trust-teacher loads it all the same"
        ) from error
    except Exception as error:  # What damage makes zip, HDF5 and JSON raise is anything.
        raise UserError(
            f"teacher {spec} is no whole Keras model ({message_of(error)}); weights alone are not enough: save the "
            "model with model.save"
        ) from error
    try:
        model = library.models.load_model(str(path), compile=False, safe_mode=not trust)
        evidence = _range_by_structure(model) or _range_by_first_operations(model, library)
        evidence = evidence or _range_by_statistics(model, library)
        return _network(model, sha256_of_file(path), evidence, _range_by_name(model))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"teacher {spec} was written by Keras {version} and does not load in {library.__version__} "
            f"({message_of(error)}); load it with its own version, or export it as a SavedModel"
        ) from error


def _keras_of(version):
    if version.startswith("3"):
        return keras
    if not re.match(r"[12]\.", version):
        raise ValueError(f"it was written by Keras {version!r:.20}, which is not known")
    import tf_keras

    return tf_keras


def _network(model, weights_sha256, evidence, convention):
    """The Network of a model.

    Args:
        model: a keras.Model or a tf_keras.Model.
        weights_sha256: hash of its weights.
        evidence: (range, reason) as its weights and layers tell it, or None.
        convention: (range, reason) as its name tells it, or None.
    """
    known_range, reason = evidence or convention or (None, "nothing in the model tells")
    inputs = tf.nest.flatten(model.inputs)
    if len(inputs) != 1:
        raise UserError(f"teacher {model.name} takes {len(inputs)} inputs, not a batch of RGB images (B, H, W, 3)")
    shape, dtype = tf.TensorShape(inputs[0].shape), tf.as_dtype(inputs[0].dtype)
    check_images(model.name, shape, dtype)
    if dtype.is_integer:
        evidence, known_range, reason = True, "0..255", f"its input is {dtype.name}"
    return Network(
        call=lambda images: model(_in_structure_of(model, as_type(images, dtype)), training=False),
        size=shape[1] or shape[2],
        range=known_range,
        range_reason=reason,
        range_is_certain=evidence is not None,
        weights_sha256=weights_sha256,
        owner=model,
        batch=shape[0],
        whole_numbers=dtype.is_integer,
        ends_in=_feature_layer(model),
    )


def _in_structure_of(model, images):
    """The images as a model with one input, perhaps in a list or dict, takes them."""
    structure = getattr(model, "input", images)
    return tf.nest.map_structure(lambda _: images, structure) if isinstance(structure, (dict, list)) else images


def _feature_layer(model):
    """The last layer's name where it pools, flattens or rectifies; "" where it is one that gives classes."""
    layers = _flat_layers(model)
    last = layers[-1] if layers else None
    rectifies = getattr(getattr(last, "activation", None), "__name__", "") in ("relu", "relu6")
    if rectifies or re.match(r"Global\w+Pooling|Flatten|ReLU", type(last).__name__):
        return last.name
    return ""


def _range_by_structure(model):
    """(range, reason) of a model whose first layers divide by 100 or more, or subtract means of such numbers."""
    for layer in _flat_layers(model)[:_FIRST_LAYERS]:
        kind = type(layer).__name__
        rescales = kind == "Rescaling" and np.max(layer.scale) < 0.01
        normalizes = kind == "Normalization" and layer.mean is not None and np.max(layer.mean) > 2
        if rescales or normalizes:
            return "0..255", f"its layer {layer.name} rescales"
    return None


def _range_by_first_operations(model, library):
    """(range, reason) of a model that computes with the pixels before its first layer with weights.

    What arrives there tells which pixels were meant: those out of which the operations make numbers of another known
    range; else, as means and deviations may be a model's own, those that become numbers of the size of 1.
    """
    if model.input_shape[1] is None:
        return None
    pictures = conventions.probe_pictures(model.input_shape[1])
    arrived = {name: _before_weights(model, library, conventions.to_range(pictures, name)) for name in _RANGES_TO_TRY}
    at_255 = arrived["0..255"]
    if any(seen is None for seen in arrived.values()) or (
        at_255.shape == pictures.shape and np.allclose(at_255, pictures, atol=1e-3)
    ):
        return None
    for (fed, seen), made in itertools.product(arrived.items(), conventions.RANGES):
        expected = conventions.to_range(pictures, made)
        if fed != made and seen.shape == expected.shape and np.allclose(seen, expected, atol=1e-3):
            return fed, f"its first operations make {made} of it"
    # How much wider or narrower, and whether the mean is taken away.
    stretch = at_255.std() / np.std(pictures)
    if stretch < _DIVIDES or (stretch < _CLEAR and abs(at_255.mean()) < np.std(pictures) / _CLEAR):
        return "0..255", "its first operations rescale"
    return ("0..1", "its first operations normalize") if stretch > _CLEAR else None


def _before_weights(model, library, images):
    """What arrives at a model's first layer with weights of its own, as NumPy; None where that cannot be computed."""
    for layer in getattr(model, "operations", None) or model.layers:
        if type(layer).__name__ in ("InputLayer", "Normalization") or not getattr(layer, "weights", ()):
            continue
        arrived = _input_to(layer, model, library, images)
        if arrived is None or not hasattr(layer, "layers"):
            return arrived
        inside = _before_weights(layer, library, arrived)
        if inside is not None:
            return inside
    return None


def _input_to(layer, model, library, images):
    """What arrives at a layer of a model, as NumPy; None where that cannot be computed."""
    for node in reversed(layer._inbound_nodes):
        tensors = tf.nest.flatten(node.input_tensors)
        try:
            return np.asarray(library.Model(model.inputs, tensors[0])(images, training=False))
        except (ValueError, IndexError, TypeError):
            continue  # The layer is called in another model, too, and this is that call.
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
