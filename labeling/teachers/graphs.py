"""What the graph of a SavedModel may do: compute. It is looked through before anything of it runs.

An operation without state computes, but for a few that TensorFlow marks so and that touch files or code nevertheless;
of those with state, variables, tables, random numbers and control flow are known to stay inside the graph. All others
are refused: files, Python, datasets, queues, other machines, and whatever a later TensorFlow may bring.
"""

import collections
import functools
import pathlib
import re

from tensorflow.core.framework import op_def_pb2
from tensorflow.core.protobuf import fingerprint_pb2, meta_graph_pb2
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.saved_model import loader_impl
from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

from tfpipeline.system import UserError, message_of

# Operations with state that stay inside the graph, as whole names.
_INNER_STATE = re.compile(
    r"(Stateful)?PartitionedCall|If|While|Case|XlaIf|XlaWhile|RiscWhile|_If|_While|_Arg|_Retval"
    r"|Variable(V2|Shape)?|TemporaryVariable|VarHandleOp|VarIsInitializedOp|(ReadVariable|DisableCopyOnRead)(Op)?"
    r"|Assign(Add|Sub)?VariableOp|DestroyResourceOp|Resource(Gather|GatherNd|Scatter\w+|StridedSliceAssign)|_\w*VarHandlesOp"
    r"|(Anonymous)?(Mutable)?(Dense)?HashTable(OfTensors)?(V2)?|LookupTable(Export|Find|Import|Insert|Remove|Size)V2"
    r"|InitializeTableV2|Random(Crop|Gamma|Poisson|PoissonV2|Shuffle|StandardNormal|Uniform|UniformInt)|Multinomial"
    r"|(Parameterized)?TruncatedNormal|Rng(ReadAndSkip|Skip)|StatelessRandomGetAlg|Stateful(RandomBinomial"
    r"|StandardNormal|StandardNormalV2|TruncatedNormal|Uniform|UniformFullInt|UniformInt)|NonDeterministicInts"
    r"|SampleDistortedBoundingBox(V2)?|Empty|GuaranteeConst|DeepCopy|CheckNumerics(V2)?|Assert|Print"
    r"|Stack(Close|Pop|Push)?(V2)?|TensorArray\w*|CudnnRNN\w*|XlaCallModule|XlaLaunch|XlaDequantize|DeviceIndex"
)
# Operations that TensorFlow marks as stateless, and that touch files or code.
_NOT_PURE = re.compile(
    r"ReadFile|MatchingFiles|PyFuncStateless|(Decode|Encode)Proto(V2)?|InitializeTableFromTextFile|Reader\w+|Restore\w*"
    r"|Save\w*|.*(Dataset|Iterator|Snapshot).*|Debug\w+|CopyHost|_.*Host.*|Barrier\w*|.*TPU.*|.*Tpu.*"
)
# What the functions that save and restore variables do besides; the loader restores by operations of its own.
_SAVING = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints"})
_TRUST = "--trust-teacher runs it all the same"


def is_pure(op: str) -> bool:
    """Whether an operation of TensorFlow computes and does nothing else; unknown ones do not count as such."""
    definition = _definitions().get(op)
    if definition is None or _NOT_PURE.fullmatch(op):
        return False
    return not definition.is_stateful or _INNER_STATE.fullmatch(op) is not None


@functools.cache
def _definitions():
    """name -> OpDef of every operation that TensorFlow has."""
    content = pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())
    return {op.name: op for op in op_def_pb2.OpList.FromString(bytes(content)).op}


def check(spec: str, directory: pathlib.Path) -> None:
    """Checks that a SavedModel is whole, as far as it carries its own checksum, and that its graph only computes.

    Nothing of it is run. Every SavedModel holds functions that save and restore its variables: what these do besides
    is allowed where neither an answer nor the loader comes to it.

    Args:
        spec: the teacher's, for the message.
        directory: of the SavedModel.

    Raises:
        UserError: an operation may do more than compute, the message names it; or the file is damaged.
    """
    try:
        content = loader_impl.parse_saved_model(str(directory))
    except Exception as error:  # Damage shows as any exception.
        raise UserError(
            f"teacher {spec}: {directory} does not load as a SavedModel ({message_of(error)}); copy it anew"
        ) from error
    _check_fingerprint(spec, directory)
    for graph in content.meta_graphs:
        for op, place in _operations(graph):
            if not is_pure(op):
                raise UserError(
                    f"teacher {spec}: its graph has the operation {op} ({place}), which may do more than compute, such "
                    f"as read and write files or run code; where you trust who made it, {_TRUST}"
                )


def _check_fingerprint(spec, directory):
    """Refuses a graph that is not the one whose checksum was written beside it."""
    path = directory / "fingerprint.pb"
    if not path.is_file() or not (directory / "saved_model.pb").is_file():
        return
    try:
        written, found = (
            fingerprint_pb2.FingerprintDef.FromString(read(str(directory)))
            for read in (fingerprinting.ReadSavedModelFingerprint, fingerprinting.CreateFingerprintDef)
        )
    except Exception as error:
        raise UserError(f"teacher {spec}: {path} is damaged ({message_of(error)}); copy it anew") from error
    if written.saved_model_checksum != found.saved_model_checksum:
        raise UserError(
            f"teacher {spec}: {directory / 'saved_model.pb'} or {path} is damaged: the checksum is "
            f"{found.saved_model_checksum}, {written.saved_model_checksum} was written; copy both anew"
        )


def _operations(graph: meta_graph_pb2.MetaGraphDef):
    """(operation, where it is) of all that a graph may do, the saving and restoring of variables left out."""
    functions = {function.signature.name: function.node_def for function in graph.graph_def.library.function}
    nodes = {node.name: node for node in graph.graph_def.node}
    saver = graph.saver_def
    save, restore = (_ancestors(nodes, [name]) for name in (saver.save_tensor_name, saver.restore_op_name))
    answering = _ancestors(nodes, _entries(graph)) | (nodes.keys() - save - restore)
    called = _reachable(
        functions, [*graph.object_graph_def.concrete_functions, *_calls(nodes[name] for name in answering)]
    )
    for name, node in nodes.items():
        if name in answering or node.op not in _SAVING or (name in restore and node.op != "RestoreV2"):
            yield node.op, f"node {name}"
    for name, body in functions.items():
        for node in body:
            if name in called or node.op not in _SAVING:
                yield node.op, f"in function {name}"


def _entries(graph):
    """Names of the tensors and operations that a SavedModel is asked for, or that its loading runs."""
    for signature in graph.signature_def.values():
        yield from (info.name for info in signature.outputs.values())
    for collection in graph.collection_def.values():
        yield from collection.node_list.value


def _ancestors(nodes, names):
    """Names of the nodes that are run for these tensors."""
    waiting, found = collections.deque(names), set()
    while waiting:
        name = waiting.popleft().removeprefix("^").split(":")[0]
        if name in nodes and name not in found:
            found.add(name)
            waiting.extend(nodes[name].input)
    return found


def _reachable(functions, names):
    """Names of the functions that these call, themselves included."""
    waiting, found = collections.deque(names), set()
    while waiting:
        name = waiting.popleft()
        if name in functions and name not in found:
            found.add(name)
            waiting.extend(_calls(functions[name]))
    return found


def _calls(nodes):
    """Names of the functions that nodes call."""
    for node in nodes:
        for value in node.attr.values():
            yield from (function.name for function in (value.func, *value.list.func) if function.name)
