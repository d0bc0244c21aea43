"""What computes a network's answers last: from the graph, not from the numbers, which can look like others."""

import tensorflow as tf

# Operations of TensorFlow, by whose name it is known what comes out: probabilities, independent ones, weighted sums.
SOFTMAX, SIGMOID = "Softmax", "Sigmoid"
PRODUCTS = ("MatMul", "BatchMatMulV2", "Einsum", "Conv2D", "DepthwiseConv2dNative")

HIGHEST = "TopKV2"

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
# Numbers pass through these, all or some of them, as they are or nearly so.
_PASSING = frozenset(
    {
        *("Cast", "EnsureShape", "ExpandDims", "GatherV2", "Identity", "IdentityN", "Mean", "Reshape", "Slice"),
        *("Squeeze", "StopGradient", "StridedSlice"),
    }
)
_LINEAR = ("Add", "AddV2", "BiasAdd", "Mul", "RealDiv", "Sub")  # A weighted sum, shifted or scaled, is still one.


def last_operation(concrete: tf.types.experimental.ConcreteFunction) -> str:
    """The name of the operation that computes what a function returns first; "" where the graph does not tell it.

    Changes of shape and type, selections, means, and what a product is shifted and scaled by are looked through.
    """
    graph = concrete.graph.as_graph_def()
    bodies = {body.signature.name: body for body in graph.library.function}
    return _behind(concrete.outputs[0].name, {node.name: node for node in graph.node}, bodies)


def _behind(tensor, nodes, bodies):
    """The operation behind a tensor of one graph or body of a function."""
    name, *place = tensor.split(":")
    node = nodes.get(name)
    if node is None:
        return ""  # It is what the function was called with.
    if node.op in _CALLS:
        body = bodies[node.attr["f"].func.name]
        output = body.signature.output_arg[int(place[-1]) if place else 0].name
        return _behind(body.ret[output], {inner.name: inner for inner in body.node_def}, bodies)
    if node.op in _PASSING:
        return _behind(node.input[int(place[-1]) if node.op == "IdentityN" and place else 0], nodes, bodies)
    if node.op in _LINEAR:
        behind = [_behind(term, nodes, bodies) for term in node.input if not term.startswith("^")]
        return next((op for op in behind if op in PRODUCTS), node.op)
    return node.op
