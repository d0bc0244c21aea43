"""Teachers from Keras Hub: an image classifier by the name of its preset, or a preset's folder.

A preset brings its own preprocessing: the teacher takes pixels in 0..255 and does the rest itself. Keras Hub publishes
the presets behind the names; a folder is a file of a stranger, and its architecture is checked like that of a .keras
file.
"""

import hashlib
import json
import pathlib

import keras
import numpy as np

from labeling.teachers import architectures
from labeling.teachers.network import Network
from tfpipeline.system import UserError, message_of, sha256_of_file

KIND = "preset:"
_CONFIG = "config.json"
_TASK = "task.json"
_NAMES = "classes.txt"
_NO_PART = ("metadata.json", "README.md", _NAMES)  # what does not decide about the answers


def is_folder(spec: str) -> bool:
    """Whether a spec is the path of a preset's folder."""
    return (pathlib.Path(spec) / _TASK).is_file() and (pathlib.Path(spec) / _CONFIG).is_file()


def load(spec: str, trust: bool = False) -> Network:
    """The network of a preset, with its preprocessing.

    Args:
        spec: a folder, or "preset:" before a folder or before a name that Keras Hub publishes.
        trust: whether its architecture may name what labeling/teachers/architectures.py does not allow.

    Raises:
        UserError: keras-hub is not installed, there is no such preset, it is damaged, no classifier of images, or names
            what is not allowed.
    """
    try:
        import keras_hub
    except ImportError as error:
        raise UserError(f"teacher {spec} needs the package keras-hub ({error}): pip install keras-hub") from error
    place = spec.removeprefix(KIND)
    folder = pathlib.Path(place) if pathlib.Path(place).is_dir() else None
    known = keras_hub.models.ImageClassifier.presets
    if folder is None and place not in known and not trust:
        raise UserError(
            f"teacher {spec} is no folder, and no preset that Keras Hub publishes, such as {', '.join(list(known)[:3])}"
            "; download it and give its folder"
        )
    try:
        if folder is not None and not trust:
            for path in sorted(folder.glob("*.json")):
                architectures.check(spec, json.loads(path.read_text(encoding="utf-8")), keras)
        model = keras_hub.models.ImageClassifier.from_preset(str(folder or place))
        return _network(spec, model, place if folder is None else folder)
    except UserError:
        raise
    except Exception as error:  # What damage, or a server's answer, makes the libraries raise is anything.
        raise UserError(
            f"teacher {spec} does not load as an image classifier of Keras Hub ({message_of(error)}); get it again, or "
            "save it with save_to_preset"
        ) from error


def _network(spec, model, place) -> Network:
    converter = getattr(model.preprocessor, "image_converter", None)
    if converter is None:
        raise UserError(f"teacher {spec} has no preprocessor, which tells how it is fed; save it with one")
    size = converter.image_size
    if size is not None and size[0] != size[1]:
        raise UserError(f"teacher {spec} takes images of {size[0]}x{size[1]} pixels; only square ones are made for it")
    return Network(
        call=lambda images: model(converter(images), training=False),
        size=size and size[0],
        range="0..255",
        range_reason="its preset preprocesses them",
        range_is_certain=True,
        weights_sha256=_sha256(model, place),
        owner=model,
        class_names=_class_names(place),
        is_size_fixed=True,
    )


def _sha256(model, place) -> str:
    """The hash of a preset's files; of one that has only a name, of the name and the weights."""
    digest = hashlib.sha256()
    if isinstance(place, pathlib.Path):
        for path in sorted(path for path in place.rglob("*") if path.is_file() and path.name not in _NO_PART):
            digest.update(f"{path.relative_to(place).as_posix()} {sha256_of_file(path)}\n".encode())
    else:
        digest.update(place.encode())
        for weight in model.weights:
            digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()


def _class_names(place) -> tuple[str, ...] | None:
    file = place / _NAMES if isinstance(place, pathlib.Path) else None
    return tuple(file.read_text(encoding="utf-8").splitlines()) if file and file.is_file() else None
