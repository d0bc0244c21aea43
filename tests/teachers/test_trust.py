"""A teacher's file runs no code and touches no other file, unless it is trusted; a damaged one is named."""

import json
import pathlib
import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from labeling.teachers import architectures, graphs
from labeling.teachers.teacher import BUNDLED, load_teacher
from tests.support.tiny_teachers import save_hub_module
from tfpipeline.system.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5", "ignore:__array__")


def classifier(library, function=lambda x: x):
    """Mean colors -> 4 logits, after a function of tensors."""
    inputs = library.Input((8, 8, 3))
    x = library.layers.GlobalAveragePooling2D()(function(library.layers.Rescaling(1 / 255.0)(inputs)))
    return library.Model(inputs, library.layers.Dense(4)(x))


def layer(kind, module=None, **config):
    return {"class_name": kind, "module": module, "name": "stranger", "config": {"name": "stranger", **config}}


def tampered(path, change):
    """The .h5 or .keras file at `path` after its architecture was changed."""
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = json.dumps(change(json.loads(file.attrs["model_config"])))
        return str(path)
    content = zip_members(path)
    write_members(path, content | {"config.json": json.dumps(change(json.loads(content["config.json"])))})
    return str(path)


def zip_members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, member in members.items():
            archive.writestr(name, member)


def with_layer(added):
    def change(architecture):
        architecture["config"]["layers"].append(added)
        return architecture

    return change


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("library", [keras, tf_keras])
def test_a_layer_that_calls_any_function_of_tensorflow_is_refused_before_it_is_called(tmp_path, library, suffix):
    secret, stolen = tmp_path / "secret", tmp_path / "stolen"
    secret.write_text("private")
    path = tmp_path / f"t{suffix}"
    classifier(library).save(path)
    copy = {
        **layer("TFOpLambda", "tf_keras.src.layers.core.tf_op_layer", function="io.gfile.copy"),
        "inbound_nodes": [["_CONSTANT_VALUE", -1, str(secret), {"dst": str(stolen), "overwrite": True}]],
    }
    with pytest.raises(UserError, match=r"its layer stranger would call 'io\.gfile\.copy', .*--trust-teacher"):
        load_teacher(tampered(path, with_layer(copy)))
    assert not stolen.exists()


@pytest.mark.parametrize(
    ("added", "message"),
    [
        (layer("Lambda", "keras.layers"), "has a Lambda layer, whose code would be run"),
        (layer("TFSMLayer", "keras.layers", filepath="/x"), "has a TFSMLayer layer, which may run code or read other"),
        (layer("StringLookup", "keras.layers", vocabulary="/etc/passwd"), "has a StringLookup layer, which may"),
        (layer("SlicingOpLambda", function="load_op_library"), "would call 'load_op_library'"),
        (layer("TFOpLambda", function="math.__builtins__"), "would call 'math.__builtins__'"),
        (layer("TFOpLambda", function=["math.abs"]), r"would call \['math.abs'\]"),
        (layer("TensorFlowOpLayer", node_def={"op": "WriteFile"}), "would run 'WriteFile'"),
        (layer("TensorFlowOpLayer", node_def="\n\x01x\x12\x08ReadFile"), "would run 'ReadFile'"),
        (layer("get_file", "keras.utils"), "is of the class get_file, which keras does not have; register the class"),
        (layer("Map", "keras.src.ops.core"), "is of the class Map, which"),
        (layer("Vectorize", "keras.src.ops.numpy"), "is of the class Vectorize, which"),
        (layer("Dense", "os.path"), "is of the class Dense, which"),
        ({"class_name": "__lambda__", "config": {"value": "x"}}, "has a lambda layer, whose code would be run"),
        ({"class_name": "function", "module": "os", "config": "system"}, "names the function 'system'"),
        ({"class_name": "function", "module": "builtins", "config": "eval"}, "names the function 'eval'"),
        ({"class_name": "function", "module": "this", "config": "relu"}, "function names the module 'this'; register"),
        (layer("TFOpLambda", "this", function="math.abs"), "stranger names the module 'this'"),
        (layer("TensorFlowOpLayer", "this", node_def={"op": "Abs"}), "stranger names the module 'this'"),
        (layer("__tensor__", "this"), "stranger names the module 'this'"),
        (layer("tests_of_trust>Doubled", "this"), "is of the class tests_of_trust>Doubled, which"),
        (layer("TextVectorization", "keras.layers", vocabulary="/etc/passwd"), "has a TextVectorization layer, which"),
        (layer("Sequential", "keras", layers=[layer("Lambda", "keras.layers")]), "has a Lambda layer, whose code"),
        (layer("TimeDistributed", "keras.layers", layer=layer("TFSMLayer")), "has a TFSMLayer layer, which may run"),
        (layer("Dense", "keras.layers", kernel_initializer=layer("load_img", "keras.utils")), "of the class load_img"),
        (layer("Dense", "keras.layers", kernel_initializer=layer("Zeros", "mine")), "of the class Zeros, which keras"),
        (
            layer(
                "Activation", "keras.layers", activation={"class_name": "function", "module": "os", "config": "remove"}
            ),
            "names the function 'remove'",
        ),
        (layer("Dense", "keras.layers", activation="system"), "activation 'system' is no activation of keras"),
        (
            {"class_name": "Mine", "module": "mine", "registered_name": "Custom>Mine", "config": {"name": "own"}},
            r"its layer own is of the class Custom>Mine, .* @keras\.saving\.register_keras_serializable\(PACKAGE\)",
        ),
    ],
)
def test_what_an_architecture_may_not_name(added, message):
    with pytest.raises(UserError, match=message):
        architectures.check("t", {"class_name": "Functional", "config": {"layers": [added]}}, keras)


def links_to_another_file(file, other):
    file["linked"] = h5py.ExternalLink(str(other), "/secret")


def lies_in_another_file(file, other):
    file.create_dataset("raw", (4,), "u1", external=[(str(other), 0, 4)])


def gathers_another_file(file, other):
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource(str(other), "secret", (4,))
    file.create_virtual_dataset("gathered", layout)


def links_within(file, _):
    file["again"] = h5py.SoftLink("/")


def claims_more_than_it_stores(file, _):
    file.create_dataset("huge", (2**40,), "f4", chunks=True)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize(
    ("point", "message"),
    [
        (links_to_another_file, r"/linked in it is a link \(ExternalLink\)"),
        (lies_in_another_file, "/raw in it lies in another file"),
        (gathers_another_file, "/gathered in it lies in another file"),
        (links_within, r"/again in it is a link \(SoftLink\)"),
        (claims_more_than_it_stores, r"/huge in it claims 4,398,046,511,104 bytes, of 0 stored"),
    ],
)
def test_weights_that_point_to_other_files_or_to_nothing_are_refused(tmp_path, suffix, point, message):
    other, path = tmp_path / "other", tmp_path / f"t{suffix}"
    with h5py.File(other, "w") as file:
        file["secret"] = np.arange(4, dtype="u1")
    classifier(keras if suffix == ".keras" else tf_keras).save(path)
    content = zip_members(path)["model.weights.h5"] if suffix == ".keras" else path.read_bytes()
    weights = tmp_path / "weights"
    weights.write_bytes(content)
    with h5py.File(weights, "r+") as file:
        point(file, other)
    if suffix == ".keras":
        write_members(path, zip_members(path) | {"model.weights.h5": weights.read_bytes()})
    else:
        weights.rename(path)
    with pytest.raises(UserError, match=rf"^teacher {path}: {message}.*--trust-teacher"):
        load_teacher(str(path))


@pytest.mark.parametrize("name", ["../evil", "/evil", "assets/../../evil", "assets/words.txt", "model.weights.npz"])
def test_a_keras_file_with_more_than_a_model_is_refused_before_it_is_unpacked(tmp_path, name):
    path = tmp_path / "in" / "t.keras"
    path.parent.mkdir()
    classifier(keras).save(path)
    write_members(path, zip_members(path) | {name: b"x"})
    with pytest.raises(UserError, match=f"it holds '{name}', which is no part of a model"):
        load_teacher(str(path))
    assert [found.name for found in tmp_path.rglob("*")] == ["in", "t.keras"]


@pytest.mark.slow
def test_a_bomb_in_a_keras_file_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "t.keras"
    classifier(keras).save(path)
    members = zip_members(path)
    write_members(
        path, members | {"model.weights.h5": members["model.weights.h5"] + bytes(2**27)}, zipfile.ZIP_DEFLATED
    )
    with pytest.raises(UserError, match=r"model\.weights\.h5 unpacks to 134,\d+,\d+ bytes, of \d+,\d+ stored"):
        load_teacher(str(path))


def test_an_architecture_that_asks_for_more_memory_than_there_is(tmp_path):
    path = tmp_path / "t.keras"
    classifier(keras).save(path)

    def widen(architecture):
        architecture["config"]["layers"][-1]["config"]["units"] = 10**15
        return architecture

    with pytest.raises(UserError, match=r"does not load in"):
        load_teacher(tampered(path, widen))


@pytest.mark.parametrize("text", ['{"class_name": ' * 3000 + "1" + "}" * 3000, "[" * 900 + "]" * 900])
def test_an_architecture_that_is_nested_too_deeply(tmp_path, text):
    path = tmp_path / "t.keras"
    classifier(keras).save(path)
    write_members(path, zip_members(path) | {"config.json": f'{{"class_name": "Functional", "config": {text}}}'})
    with pytest.raises(UserError, match=rf"^teacher {path} .*(is no whole Keras model|does not load)"):
        load_teacher(str(path))


@pytest.mark.parametrize("kind", ["get", "serialize", "deserialize", "tf"])
def test_what_is_in_the_module_of_activations_but_is_none(kind):
    with pytest.raises(UserError, match="is no activation of tf_keras"):
        architectures.check("t", layer("Dense", activation=kind), tf_keras)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV3Small", "EfficientNetB0", "ConvNeXtTiny"])
@pytest.mark.parametrize("library", [keras, tf_keras])
def test_keras_applications_are_allowed(library, name):
    model = getattr(library.applications, name)(weights=None)
    written = json.loads(model.to_json())
    architectures.check(name, written, library)


@pytest.mark.slow
def test_operations_that_compute_are_allowed_and_loaded(tmp_path):
    for library, functions in (
        (tf_keras, (lambda x: tf.nn.relu(x * 2.0 - 1.0)[:, :, :, ::-1] + tf.reduce_mean(x), tf.abs)),
        (keras, (lambda x: keras.ops.relu(x * 2.0 - 1.0)[..., ::-1], keras.ops.abs)),
    ):
        for number, function in enumerate(functions):
            path = tmp_path / f"{library.__name__}{number}.keras"
            classifier(library, function).save(path)
            assert load_teacher(str(path), range="0..255").classes == 4


@keras.saving.register_keras_serializable("tests_of_trust")
class Doubled(keras.layers.Layer):
    """A layer of somebody's own."""

    def call(self, x):
        """The double of it."""
        return 2 * x


def test_a_layer_that_is_registered_is_allowed(tmp_path):
    classifier(keras, Doubled()).save(tmp_path / "t.keras")
    assert load_teacher(str(tmp_path / "t.keras")).classes == 4


def test_a_trusted_file_may_run_code(tmp_path):
    path = tmp_path / "t.h5"
    classifier(tf_keras, tf_keras.layers.Lambda(lambda x: 2 * x)).save(path)
    with pytest.raises(UserError, match="has a Lambda layer, whose code would be run"):
        load_teacher(str(path))
    assert load_teacher(str(path), trust=True).classes == 4


def test_bytes_as_keras_up_to_2_3_wrote_them(tmp_path):
    model = classifier(tf_keras)
    model.save(tmp_path / "t.h5")
    with h5py.File(tmp_path / "t.h5", "r+") as file:
        for name in ("keras_version", "backend", "model_config"):
            file.attrs[name] = np.bytes_(file.attrs.pop(name).encode())
    images = np.random.default_rng(0).uniform(0, 255, (5, 8, 8, 3)).astype(np.float32)
    expected = tf.nn.log_softmax(model(images))
    np.testing.assert_allclose(load_teacher(str(tmp_path / "t.h5")).log_probs(images), expected, atol=1e-5)


def module_with(function, size=8):
    module = tf.Module()
    signature = [tf.TensorSpec((None, size, size, 3), tf.float32)]
    module.__call__ = tf.function(
        lambda x: tf.reduce_mean(x, (1, 2)) + tf.cast(function(), tf.float32), input_signature=signature
    )
    return module


def writes(path):
    def call():
        with tf.control_dependencies([tf.io.write_file(str(path), "x")]):
            return tf.constant(0.0)

    return call


def nested(function):
    return lambda: tf.cond(tf.random.uniform(()) < 2.0, tf.function(function), lambda: 0.0)


@pytest.mark.parametrize(
    ("op", "function"),
    [
        ("WriteFile", writes),
        ("WriteFile", lambda path: nested(writes(path))),
        ("ReadFile", lambda path: lambda: tf.strings.length(tf.io.read_file(str(path)))),
        ("MatchingFiles", lambda path: lambda: tf.size(tf.io.matching_files(f"{path}*"))),
        ("PrintV2", lambda path: lambda: [tf.print("x", output_stream=f"file://{path}"), 0.0][1]),
        ("EagerPyFunc", lambda path: lambda: tf.py_function(lambda: 0.0, (), tf.float32)),
        ("PyFunc", lambda path: nested(nested(lambda: tf.numpy_function(lambda: np.float32(0), (), tf.float32)))),
        (
            "SaveV2",
            lambda path: lambda: [tf.raw_ops.SaveV2(prefix=str(path), tensor_names=["a"], shape_and_slices=[""],
                                                    tensors=[tf.zeros(())]), 0.0][1],
        ),
        (
            "RestoreV2",
            lambda path: lambda: tf.raw_ops.RestoreV2(
                prefix=str(path), tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
            )[0],
        ),
    ],
)  # fmt: skip
def test_a_graph_that_does_more_than_compute_is_refused_before_it_runs(tmp_path, op, function):
    touched = tmp_path / "touched"
    tf.saved_model.save(module_with(function(touched)), str(tmp_path / "m"))
    with pytest.raises(UserError, match=rf"its graph has the operation {op} \(.*\), .*--trust-teacher"):
        load_teacher(str(tmp_path / "m"))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("touched")]


@pytest.mark.slow
def test_what_runs_at_loading_is_refused_before(tmp_path):
    module = tf.Module()
    (tmp_path / "words").write_text("a\t0\nb\t1\n")
    module.table = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(str(tmp_path / "words"), tf.string, 0, tf.int64, 1), -1
    )
    module.__call__ = tf.function(
        lambda x: tf.reduce_mean(x, (1, 2)) + tf.cast(module.table.lookup(tf.constant("a")), tf.float32),
        input_signature=[tf.TensorSpec((None, 8, 8, 3))],
    )
    tf.saved_model.save(module, str(tmp_path / "m"))
    with pytest.raises(UserError, match="has the operation InitializeTableFromTextFileV2"):
        load_teacher(str(tmp_path / "m"))
    assert load_teacher(str(tmp_path / "m"), trust=True).classes == 3


def test_graphs_with_tables_loops_and_random_numbers_are_allowed(tmp_path):
    module = tf.Module()
    keys = tf.lookup.KeyValueTensorInitializer(["a"], [0.0])
    module.table = tf.lookup.StaticHashTable(keys, 0.0)
    module.generator = tf.random.Generator.from_seed(1)

    def call(x):
        for _ in tf.range(2):
            x += 0.0 * module.generator.uniform(()) + module.table.lookup(tf.constant("a"))
        return tf.reduce_mean(x, (1, 2))

    module.__call__ = tf.function(call, input_signature=[tf.TensorSpec((None, 8, 8, 3))])
    tf.saved_model.save(module, str(tmp_path / "m"))
    assert load_teacher(str(tmp_path / "m")).classes == 3


def test_an_operation_that_tensorflow_does_not_have_is_not_pure():
    assert [graphs.is_pure(op) for op in ("Add", "VarHandleOp", "NoSuchOp", "")] == [True, True, False, False]


def flips(content, count, seed):
    """The content with one bit flipped, `count` times, evenly spread."""
    rng = np.random.default_rng(seed)
    for place in np.linspace(0, len(content) - 1, count).astype(int):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        yield bytes(flipped)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["t.keras", "t.h5"])
def test_a_flipped_bit_in_a_keras_file_is_one_line_or_nothing(tmp_path, file):
    whole, damaged = tmp_path / file, tmp_path / f"damaged{pathlib.Path(file).suffix}"
    classifier(tf_keras if file == "t.h5" else keras).save(whole)
    expected = load_teacher(str(whole)).log_probs(tf.ones((2, 8, 8, 3))).numpy()
    for content in flips(whole.read_bytes(), 25, seed=1):
        damaged.write_bytes(content)
        try:
            teacher = load_teacher(str(damaged))
        except UserError as error:
            assert str(damaged) in str(error) and "\n" not in str(error)
        else:
            assert file == "t.h5" or np.array_equal(teacher.log_probs(tf.ones((2, 8, 8, 3))), expected)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["saved_model.pb", "fingerprint.pb", "variables/variables.index",
                                  "variables/variables.data-00000-of-00001"])  # fmt: skip
def test_a_flipped_bit_in_a_savedmodel_is_one_line_or_nothing(tmp_path, file):
    save_hub_module(tmp_path / "m", classes=5)
    expected = load_teacher(str(tmp_path / "m")).log_probs(tf.ones((2, 16, 16, 3))).numpy()
    whole = (tmp_path / "m" / file).read_bytes()
    for content in flips(whole, 10, seed=2):
        (tmp_path / "m" / file).write_bytes(content)
        try:
            teacher = load_teacher(str(tmp_path / "m"))
        except UserError as error:
            assert str(tmp_path / "m") in str(error) and "\n" not in str(error)
        else:
            assert np.array_equal(teacher.log_probs(tf.ones((2, 16, 16, 3))), expected)


def test_the_bundled_teacher_is_allowed(tmp_path):
    shutil.copytree(BUNDLED, tmp_path / "m")
    graphs.check("m", tmp_path / "m")
