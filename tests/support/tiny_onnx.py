"""The classifier of mean colors as an ONNX file, in the layouts that exporters write."""

import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support.tiny_teachers import weights


def save_onnx(path, classes=5, shape=("batch", 3, 16, 16), kind=TensorProto.FLOAT, ends_in=(), seed=0, metadata=None):
    """Writes a file whose answers are logits unless `ends_in` names further operations. It has seven parameters,
    each of which is a way in which files differ.

    Args:
        path: of the file.
        classes: their number.
        shape: of its input; channels last where its last length is 3.
        kind: type of its input.
        ends_in: operations after the logits, such as "Softmax".
        seed: of the weights.
        metadata: key -> text, or None.
    """
    kernel, bias = weights(classes, seed)
    nodes = [helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT)]
    if shape[-1] == 3:
        nodes.append(helper.make_node("Transpose", ["floats"], ["pixels"], perm=(0, 3, 1, 2)))
    else:
        nodes.append(helper.make_node("Identity", ["floats"], ["pixels"]))
    nodes += [
        helper.make_node("GlobalAveragePool", ["pixels"], ["means"]),
        helper.make_node("Flatten", ["means"], ["colors"]),
        helper.make_node("Gemm", ["colors", "kernel", "bias"], ["logits"]),
    ]
    last = "logits"
    for operation in ends_in:
        nodes.append(helper.make_node(operation, [last], [operation.lower()]))
        last = operation.lower()
    graph = helper.make_graph(
        nodes,
        "mean_colors",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, (shape[0], classes))],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path
