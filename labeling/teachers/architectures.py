"""What the architecture of a Keras model may name: the allow-list by which .keras and .h5 files are loaded.

An architecture is a tree of {"class_name": ..., "config": ...}. Keras makes an object of each of them, and some can do
anything: layers with code of their own, and those that call any function of TensorFlow by its name. Allowed are the
layers, initializers and the like that Keras publishes, what is registered in this process, and operations that compute.
"""

import functools
import re
import types
from collections.abc import Iterator
from typing import Any

from labeling.teachers import graphs
from tfpipeline.system import UserError

# Published, but they run code or read other files.
_NOT_ALLOWED = frozenset(
    {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "StringLookup", "IntegerLookup"}
    | {"IndexLookup", "TextVectorization", "DenseFeatures", "Hashing"}
)
_NAMESPACES = (
    *("layers", "models", "initializers", "regularizers", "constraints", "losses", "metrics", "optimizers"),
    *("dtype_policies", "mixed_precision", "quantizers", "random"),
)
# How Keras writes what is no object of a class, and classes that it does not publish, or not any more.
_VALUES = frozenset(
    {"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__tuple__"}
)
_OTHERS = frozenset(
    {"Functional", "Model", "BatchNormalizationV1", "BatchNormalizationV2", "TensorShape", "LayerScale"}
)
# Operations of Keras 3, which stand in an architecture like layers: modules of those that compute, and single ones.
_OPERATION_MODULES = ("keras.src.ops.numpy", "keras.src.ops.nn", "keras.src.ops.math", "keras.src.ops.image")
_OPERATIONS = frozenset({"Cast", "Slice", "Shape", "ConvertToTensor", "StopGradient", "Unstack", "Identity"})
_NOT_OPERATIONS = frozenset({"Vectorize", "ApplyAlongAxis", "Piecewise"})  # They take functions.
# Layers that call a function of TensorFlow by its name, and the functions that only compute.
_FUNCTION_LAYERS = frozenset({"TFOpLambda", "SlicingOpLambda"})
_FUNCTION = re.compile(
    r"(compat\.v[12]\.)?((math|nn|linalg|image|__operators__)\.[a-z]\w*"
    r"|abs|add|argmax|argmin|argsort|batch_to_space|bitcast|boolean_mask|broadcast_to|cast|clip_by_value|concat|constant"
    r"|convert_to_tensor|cos|cumsum|dtypes\.(cast|saturate_cast)|einsum|ensure_shape|equal|exp|expand_dims|eye|fill"
    r"|floor|gather|gather_nd|greater|greater_equal|identity|less|less_equal|linspace|matmul|maximum|meshgrid|minimum"
    r"|multiply|negative|norm|not_equal|one_hot|ones|ones_like|pad|pow|range|rank|realdiv|reduce_(max|mean|min|prod|sum)"
    r"|repeat|reshape|reverse|roll|round|saturate_cast|shape|sigmoid|sign|sin|size|slice|sort|space_to_batch|split|sqrt"
    r"|square|squeeze|stack|stop_gradient|strided_slice|subtract|tanh|tensordot|tile|transpose|truediv|unique|unstack"
    r"|where|zeros|zeros_like|keras\.activations\.\w+|keras\.backend\.(cast|clip|concatenate|sum|mean|reshape|softmax))"
)
# Modules that Keras may import for a class or function.
_MODULE = re.compile(r"(tf_)?keras(\.\w+)*|builtins")
# Modules of activations.
_ACTIVATIONS = re.compile(r"(tf_)?keras\.src\.(activations|layers\.activation)|tensorflow\.python\.ops\.(nn|math)_ops$")
_TRUST = "where you trust who made it, --trust-teacher runs it all the same; or export the model as a SavedModel"


def check(spec: str, architecture: Any, library: types.ModuleType) -> None:
    """Checks that an architecture names nothing but what is allowed.

    Args:
        spec: the teacher's, for the message.
        architecture: as it is read from JSON.
        library: the Keras that is to make a model of it, keras or tf_keras.

    Raises:
        UserError: it names something else; the message says what, and how a layer is registered.
    """
    for entry in _entries(architecture):
        kind, config = entry["class_name"], entry.get("config")
        name = _name_of(entry)
        if kind in _FUNCTION_LAYERS:
            function = config.get("function") if isinstance(config, dict) else None
            if not isinstance(function, str) or not _FUNCTION.fullmatch(function):
                raise UserError(
                    f"teacher {spec}: its layer {name} would call {function!r:.60}, which is not known to only "
                    f"compute; {_TRUST}"
                )
        elif kind == "TensorFlowOpLayer":
            op = _op_of(config)
            if not graphs.is_pure(op):
                raise UserError(f"teacher {spec}: its layer {name} would run {op!r:.60}; {_TRUST}")
        elif kind == "function":
            if not _is_activation(config, library) and not _is_registered(entry, library):
                raise UserError(f"teacher {spec}: {name} names the function {config!r:.60}; {_TRUST}")
        elif kind in _NOT_ALLOWED or kind in ("__lambda__", "__typespec__"):
            does = "whose code would be run" if "ambda" in kind else "which may run code or read other files"
            raise UserError(f"teacher {spec} has a {kind.strip('_')} layer, {does} ({name}); {_TRUST}")
        elif not _is_known(entry, library):
            raise UserError(
                f"teacher {spec}: its layer {name} is of the class {entry.get('registered_name') or kind}, which "
                f"{library.__name__} does not have; {_register(library)}"
            )
        if not _may_import(entry, library):
            raise UserError(f"teacher {spec}: {name} names the module {entry['module']!r:.60}; {_register(library)}")
    for key, value in _strings(architecture):
        if key.endswith("activation") and not _is_activation(value, library):
            raise UserError(
                f"teacher {spec}: {key} {value!r:.60} is no activation of {library.__name__}; {_register(library)}"
            )


def _register(library):
    return (
        f"register the class or function with @{library.__name__}.saving.register_keras_serializable(PACKAGE) and "
        "import it before the teacher is loaded, or export the model as a SavedModel (model.export)"
    )


def _entries(tree) -> Iterator[dict]:
    """Every object in an architecture."""
    if isinstance(tree, dict):
        if isinstance(tree.get("class_name"), str):
            yield tree
        elif "class_name" in tree:
            yield {**tree, "class_name": str(tree["class_name"])}
        tree = list(tree.values())
    if isinstance(tree, list):
        for branch in tree:
            yield from _entries(branch)


def _strings(tree, key="") -> Iterator[tuple[str, str]]:
    """(key, value) of every text in an architecture."""
    if isinstance(tree, dict):
        for name, branch in tree.items():
            yield from _strings(branch, str(name))
    elif isinstance(tree, list):
        for branch in tree:
            yield from _strings(branch)
    elif isinstance(tree, str):
        yield key, tree


def _name_of(entry):
    config = entry.get("config")
    name = entry.get("name") or (config.get("name") if isinstance(config, dict) else None)
    return name if isinstance(name, str) else entry["class_name"]


def _op_of(config):
    """The operation of a TensorFlowOpLayer, "" where it does not say."""
    from tensorflow.core.framework import node_def_pb2

    node = config.get("node_def") if isinstance(config, dict) else None
    if isinstance(node, dict):
        return str(node.get("op", ""))
    try:
        return node_def_pb2.NodeDef.FromString(node.encode()).op
    except Exception:  # Whatever it holds, it is no operation that is known.
        return ""


def _is_known(entry, library):
    """Whether an object is of a class that Keras publishes, an operation that computes, or registered here."""
    kind, module = entry["class_name"], entry.get("module")
    if kind in _VALUES or _is_registered(entry, library):
        return True
    if not _may_import(entry, library):
        return False
    if isinstance(module, str) and module.startswith("keras.src.ops."):
        return (module in _OPERATION_MODULES and kind not in _NOT_OPERATIONS) or kind in _OPERATIONS
    return kind in _OTHERS or kind in _published_names(library)


def _may_import(entry, library):
    """Whether Keras imports no strange module for an object; it would before it looks for the name in it."""
    module = entry.get("module")
    return module is None or _MODULE.fullmatch(str(module)) is not None or _is_registered(entry, library)


def _is_registered(entry, library):
    """Whether Keras takes what is registered in this process, by the names that it looks for."""
    kind, config, name = entry["class_name"], entry.get("config"), entry.get("registered_name")
    if kind == "function":
        names = (config, name)
    else:
        names = (kind,) if entry.get("module") is None else (name,)  # Keras up to 2.12 wrote no modules.
    return any(isinstance(name, str) and library.saving.get_registered_object(name) is not None for name in names)


@functools.cache
def _published_names(library):
    """Names of the classes in the namespaces of a Keras."""
    spaces = [getattr(library, name) for name in _NAMESPACES if hasattr(library, name)]
    experimental = [getattr(library.layers, "experimental", None)]
    spaces += [getattr(space, "preprocessing", None) for space in experimental if space]
    found = {name for space in spaces if space for name in dir(space) if isinstance(getattr(space, name, None), type)}
    return frozenset(found - _NOT_ALLOWED)


def _is_activation(name, library):
    """Whether a Keras knows an activation function, or layer, of that name."""
    try:
        found = library.activations.get(name)
    except Exception:  # Keras raises what it likes for unknown names.
        return False
    if not isinstance(name, str) or name in ("get", "serialize", "deserialize"):
        return False
    module = getattr(found, "__module__", None) or type(found).__module__
    return _ACTIVATIONS.match(module) is not None or library.saving.get_registered_object(name) is not None
