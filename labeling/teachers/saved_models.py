"""Teachers from SavedModels: a directory, a TF-Hub handle or a Kaggle handle."""

import functools
import hashlib
import pathlib
import re

import tensorflow as tf

from labeling.teachers import graphs, hub, registry
from labeling.teachers.network import Network, as_type, check_images
from tfpipeline.system import UserError, message_of, path_without_pattern, sha256_of_file

_FEATURES = re.compile(r"feature[-_]?vectors?")


def load(spec: str, trust: bool = False) -> Network:
    """The network of a SavedModel, read in the TF-Hub convention: pixels in 0..1, or whole numbers in 0..255.

    Args:
        spec: a directory, a URL that tensorflow_hub resolves, "hub:NAME" with a name of the registry, or
            "kaggle:OWNER/MODEL/FRAMEWORK/VARIATION[/VERSION]".
        trust: whether its graph may do more than compute.

    Raises:
        UserError: there is none, it cannot be fetched, it takes and gives other things than a classifier, or its graph
            may do more than compute.
    """
    if registry.is_handle(spec) and _FEATURES.search(spec):
        raise UserError(f"teacher {spec} answers a feature vector, no classes; give the handle of its classification")
    directory = _resolve(spec)
    if not trust:
        graphs.check(spec, directory)
    try:
        with path_without_pattern(directory) as path:
            loaded = tf.saved_model.load(str(path))
    except Exception as error:  # What damage makes TensorFlow raise is anything.
        raise UserError(f"teacher {spec}: {directory} does not load as a SavedModel ({message_of(error)})") from error
    function, signature = _callable(spec, loaded)
    shape, dtype = signature.shape, signature.dtype
    check_images(spec, shape, dtype)
    return Network(
        call=lambda images: function(as_type(images, dtype)),
        size=(shape[1] or shape[2] if shape.rank else None) or registry.size_of(spec),
        range="0..255" if dtype.is_integer else registry.RANGE,
        range_reason=f"its input is {dtype.name}" if dtype.is_integer else "the TF-Hub convention",
        range_is_certain=dtype.is_integer,
        weights_sha256=_sha256(directory),
        # Keeps the variables alive: a restored function refers to them weakly.
        owner=loaded,
        batch=shape[0] if shape.rank else None,
        whole_numbers=dtype.is_integer,
    )


def _resolve(spec):
    """The local directory of a SavedModel, downloaded into the cache of its host's client where it must be."""
    if spec.startswith(registry.KAGGLE):
        return _fetch_from_kaggle(spec)
    if registry.is_handle(spec):
        known = registry.find_classifier(spec)
        try:
            return hub.fetch(known.handle if known else spec)
        except Exception as error:  # What a server's answer makes the libraries raise is anything.
            kaggle = known.kaggle if known and known.kaggle else "OWNER/MODEL/tensorFlow2/VARIATION/VERSION"
            raise UserError(
                f"teacher {spec} could not be fetched ({message_of(error)}); download its SavedModel by other means "
                f"and give the directory, or give --teacher {registry.KAGGLE}{kaggle}"
            ) from error
    directory = pathlib.Path(spec)
    if not any((directory / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
        what = "has no saved_model.pb" if directory.is_dir() else "does not exist"
        raise UserError(
            f"teacher {spec} {what}; give a SavedModel directory, hub:NAME, a TF-Hub URL, kaggle:..., keras:NAME, a "
            ".keras or .h5 file, or bundled"
        )
    return directory


def _fetch_from_kaggle(spec):
    try:
        import kagglehub
    except ImportError as error:
        raise UserError(f"teacher {spec} needs the package kagglehub: pip install kagglehub") from error
    try:
        return pathlib.Path(kagglehub.model_download(spec.removeprefix(registry.KAGGLE)))
    except Exception as error:  # What a server's answer makes the client raise is anything.
        raise UserError(f"teacher {spec} could not be fetched from Kaggle ({message_of(error)})") from error


def _callable(spec, loaded):
    """(images -> answers, TensorSpec of the images): the object itself, else its serving signature, else `serve`."""
    signature = getattr(loaded, "signatures", {}).get("serving_default")
    found = (
        _restored_function(loaded, "__call__")
        or (signature and _signature_function(signature))
        or _restored_function(loaded, "serve")
    )
    if not found:
        raise UserError(
            f"teacher {spec} is a SavedModel that cannot be called on images alone: neither the object, nor its "
            "signature serving_default, nor its function serve takes one batch of images"
        )
    return found


def _restored_function(loaded, name):
    """A restored tf.function that takes the images and, at most, switches such as `training`, which are left off."""
    for concrete in getattr(getattr(loaded, name, None), "concrete_functions", ()):
        positional, named = concrete.structured_input_signature
        if positional and isinstance(positional[0], tf.TensorSpec) and not any([*positional[1:], *named.values()]):
            first, *switches = positional
            return functools.partial(_call_with, getattr(loaded, name), switches, named), first
    return None


def _call_with(function, switches, named, images):
    return function(images, *switches, **named)


def _signature_function(signature):
    """A signature with one input."""
    inputs = signature.structured_input_signature[1]
    if len(inputs) != 1:
        return None
    ((key, first),) = inputs.items()
    return lambda images: signature(**{key: images}), first


def _sha256(directory):
    """The hash of what the answers depend on: graph and variables."""
    digest = hashlib.sha256()
    for path in sorted([*directory.glob("saved_model.pb*"), *directory.glob("variables/variables.*")]):
        digest.update(f"{path.name} {sha256_of_file(path)}\n".encode())
    return digest.hexdigest()
