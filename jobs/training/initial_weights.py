"""The weights of another run as those that a training begins with."""

import pathlib
from collections.abc import Sequence

import keras

from jobs.training.model_file import load_model
from tfpipeline.system import Console, UserError
from tfpipeline.training import checkpoint, run_directory

HEAD = "head"


def start_from(source: str, model: keras.Model, class_names: Sequence[str], console: Console) -> str:
    """Gives a network the weights of a finished run, but for a head of other classes; returns their hash.

    Args:
        source: the directory of the run.
        model: freshly built.
        class_names: of its classes; () where nobody says.
        console: where notes go.

    Raises:
        UserError: the run has no whole model.keras, or its network is another.
    """
    directory = pathlib.Path(source)
    other = load_model(directory)
    theirs, ours = _layers(other), _layers(model)
    names = tuple((run_directory.read_config(directory) or {}).get("class_names", ()))
    reason = _difference(names, tuple(class_names), other.output_shape[-1], model.output_shape[-1])
    if reason:
        theirs, ours = ([layer for layer in layers if layer.name != HEAD] for layers in (theirs, ours))
    shapes = [[weight.shape for layer in layers for weight in layer.weights] for layers in (theirs, ours)]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"--init {source}: its network, {other.name} with {len(shapes[0])} weights, is not this one, {model.name} "
            f"with {len(shapes[1])}, or has other widths; give its --network, --network-options and size of images"
        )
    for layer, twin in zip(theirs, ours, strict=True):
        for weight, mine in zip(layer.weights, twin.weights, strict=True):
            mine.assign(weight.numpy())
    console.say(f"--init {source}: begins with its weights" + (f", but for a new head: {reason}" if reason else ""))
    arrays = {
        f"{number}/{place}": weight.numpy()
        for number, layer in enumerate(theirs)
        for place, weight in enumerate(layer.weights)
    }
    return checkpoint.sha256_of_arrays(arrays)


def _layers(model):
    """The layers with weights, in their order."""
    return [layer for layer in model.layers if layer.weights]


def _difference(theirs, ours, their_count, our_count):
    """How the classes of two networks differ; "" where they are the same, as far as both say."""
    if their_count != our_count:
        return f"it has {their_count:,} classes, this one {our_count:,}"
    if theirs and ours and theirs != ours:
        differing = sum(one != other for one, other in zip(theirs, ours, strict=True))
        return f"{differing:,} of its {their_count:,} classes are others"
    return ""
