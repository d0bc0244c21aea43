"""Teachers from ONNX files in OpenVINO: where TensorFlow calls ONNX Runtime, the graph of the file takes its place."""

import functools

import openvino
from openvino.frontend.tensorflow import ConversionExtension
from tensorflow.types.experimental import ConcreteFunction

from labeling.teachers import find_onnx_program

_CALL = "PyFuncStateless"


def core_for(frozen: ConcreteFunction) -> openvino.Core:
    """What reads a frozen graph, with the calls that it makes."""
    calls = [operation for operation in frozen.graph.get_operations() if operation.type == _CALL]
    programs = {operation.get_attr("token").decode(): find_onnx_program(operation.name) for operation in calls}
    core = openvino.Core()
    if programs:
        core.add_extension(ConversionExtension(_CALL, functools.partial(_outputs_of, programs)))
    return core


def _outputs_of(programs, node):
    """The answers of an ONNX file to what goes into a call."""
    program = programs[node.get_attribute("token")]
    model = openvino.Core().read_model(program.path)
    (images,) = model.get_parameters()
    answers = [model.output(name).get_node().input_value(0) for name in program.outputs]
    images.output(0).replace(node.get_input(0))
    return answers
