"""The first layers of a network apart from the rest, as two of OpenVINO's models, so that they may stay in float32.

bfloat16 keeps 8 binary digits. All later layers build upon what the first ones make of an image, and depthwise
convolutions, which add up few numbers, average no rounding out. With the first three layers in float32
benchmarks/labeling.py counts less than half as many changed first answers of MobileNetV2 as wholly in bfloat16.
"""

import openvino
from openvino import opset13, passes

STEM_LAYERS = 3
_CONVOLUTIONS = ("Convolution", "GroupConvolution")
_CHANNELS_LAST, _CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def split(model: openvino.Model) -> tuple[openvino.Model, openvino.Model]:
    """(stem, rest): the outputs of the first are the inputs of the second, which gives what the model gives.

    The stem is all that depends on the input with at most STEM_LAYERS layers on any way to it.

    Args:
        model: one input of static shape; it is taken apart.
    """
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())  # Otherwise shapes would cross, too.
    manager.run_passes(model)
    depth = _depths(model)
    crossing = [
        output
        for op in model.get_ordered_ops()
        if depth.get(op.get_friendly_name(), STEM_LAYERS + 1) <= STEM_LAYERS
        for output in op.outputs()
        if any(_is_beyond(depth, target) for target in output.get_target_inputs())
    ]
    results, parameters = [], []
    for output in crossing:
        results.append(opset13.result(_transpose(output, _CHANNELS_LAST)))
        end = results[-1].output(0)
        parameters.append(opset13.parameter(end.get_partial_shape(), end.get_element_type()))
        again = _transpose(parameters[-1].output(0), _CHANNELS_FIRST)
        for target in output.get_target_inputs():
            if _is_beyond(depth, target):
                target.replace_source_output(again)
    stem = openvino.Model(results, model.get_parameters(), "stem")
    return stem, openvino.Model(model.get_results(), parameters, "rest")


def _transpose(output, axes):
    """An image's axes as the convolutions keep them in memory, so that nothing is moved from one model to the other."""
    return opset13.transpose(output, axes).output(0) if len(output.get_partial_shape()) == len(axes) else output


def _is_beyond(depth, target):
    return depth.get(target.get_node().get_friendly_name(), 0) > STEM_LAYERS


def _depths(model):
    """Name of each operation that depends on the input -> the most layers on a way to it, itself included."""
    depth: dict[str, int] = {}
    for op in model.get_ordered_ops():
        sources = [value.get_node() for value in op.input_values()]
        before = [depth[source.get_friendly_name()] for source in sources if source.get_friendly_name() in depth]
        if before or op.get_type_name() == "Parameter":
            depth[op.get_friendly_name()] = max(before, default=0) + _begins_layer(op, sources)
    for result in model.get_results():
        depth[result.get_friendly_name()] = STEM_LAYERS + 1
    return depth


def _begins_layer(op, sources):
    """Whether a convolution, with its padding, or a dense layer begins; products on four axes enlarge images."""
    kind = op.get_type_name()
    if kind in _CONVOLUTIONS:
        return sources[0].get_type_name() != "Pad"
    return kind == "Pad" or (kind == "MatMul" and len(op.get_input_partial_shape(0)) < 4)
