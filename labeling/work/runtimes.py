"""What computes the teachers' answers: TensorFlow, or OpenVINO where it is installed.

Both run the same frozen graph. In float32 their probabilities differ by rounding alone, far less than TOLERANCE; the
batch size changes them no more than that. bfloat16 takes little more than half the time on processors that have its
arithmetic, and changes the first answer of some images that a teacher is in doubt about; benchmarks/labeling.py counts
them. OpenVINO, which keeps a network's first layers in float32 then, changes fewer than TensorFlow. Runtime and
precision belong to the labels' spec, so that they never mix.
"""

import dataclasses
import functools
import pathlib
import queue
import tempfile
import types
import typing
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig
from tensorflow.types.experimental import ConcreteFunction

from labeling.work.flags import Precision, Runtime
from tfpipeline.system import UserError

RUNTIMES: tuple[Runtime, ...] = typing.get_args(Runtime)
PRECISIONS: tuple[Precision, ...] = typing.get_args(Precision)
# The mean over images of the mass that moves from one class to another, at most, against TensorFlow in float32: of
# rounding, and for bfloat16 of a teacher that is still the same. MobileNets on ImageNet at 64x64: 1e-6 and 0.1.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.25}


@dataclasses.dataclass(frozen=True)
class Way:
    """How answers are computed; the same way gives the same bits.

    Attributes:
        runtime: one of RUNTIMES, what computes them.
        batch_size: images at a time.
        precision: one of PRECISIONS, the arithmetic.
    """

    runtime: str
    batch_size: int
    precision: str = "float32"


class Program(typing.Protocol):
    """What a runtime makes of a frozen graph: uint8 images (batch_size, H, W, 3) -> float32 (batch_size, ...).

    Attributes:
        parallel: how many threads may usefully call at the same time.
    """

    parallel: int

    def __call__(self, images: np.ndarray) -> np.ndarray: ...


class TensorFlowProgram:
    """A frozen graph, run by TensorFlow.

    Args:
        frozen: a frozen concrete function, uint8 images (any, H, W, 3) -> one float32 tensor (any, ...).
        batch_size: images per call; TensorFlow takes any.
        precision: one of PRECISIONS. "bfloat16" has an effect on processors with its arithmetic.

    Attributes:
        parallel: how many threads may usefully call at the same time.
    """

    parallel = 1

    def __init__(self, frozen: ConcreteFunction, batch_size: int, precision: str):
        del batch_size
        self._run = (
            _in_bfloat16(frozen) if precision == "bfloat16" else lambda images: frozen(tf.constant(images))[0].numpy()
        )

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The answers to uint8 images (batch_size, H, W, 3), float32 (batch_size, ...)."""
        return self._run(images)


class OpenVinoProgram:
    """A frozen graph, run by OpenVINO on the processor, several batches at a time.

    Args:
        frozen: as for TensorFlowProgram.
        batch_size: images per call.
        precision: one of PRECISIONS. "bfloat16" has an effect on processors with its arithmetic.

    Attributes:
        parallel: how many threads may usefully call at the same time: two per stream, so that each has its next batch
            while the answers to the last one are sorted.

    Raises:
        UserError: OpenVINO is not installed, or cannot run this graph.
    """

    def __init__(self, frozen: ConcreteFunction, batch_size: int, precision: str):
        openvino = import_openvino()
        try:
            model = _read(frozen).clone()
            model.reshape({0: [batch_size, *frozen.inputs[0].shape[1:]]})
            stages = _with_float32_stem(model) if precision == "bfloat16" else [(model, openvino.Type.f32)]
            compiled = [_compile(openvino, *stage) for stage in stages]
        except RuntimeError as error:
            raise UserError(
                f"OpenVINO cannot run this teacher ({str(error).strip().splitlines()[-1][:200]}); "
                "give --runtime tensorflow"
            ) from error
        self.parallel = 2 * compiled[-1].get_property(openvino.properties.optimal_number_of_infer_requests)
        self._idle: queue.SimpleQueue[list] = queue.SimpleQueue()
        for _ in range(self.parallel):
            self._idle.put([stage.create_infer_request() for stage in compiled])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The answers to uint8 images (batch_size, H, W, 3), float32 (batch_size, ...)."""
        requests = self._idle.get()
        try:
            values = [images]
            for request in requests:
                values = list(request.infer(values, share_inputs=True, share_outputs=True).values())
            return values[0].copy()
        finally:
            self._idle.put(requests)


def _with_float32_stem(model):
    """(model, type of its arithmetic) of the first layers and of the rest."""
    from openvino import Type

    from labeling.work import openvino_stem

    stem, rest = openvino_stem.split(model)
    return [(stem, Type.f32), (rest, Type.bf16)]


def _compile(openvino, model, precision):
    hint = openvino.properties.hint
    options = {hint.performance_mode: hint.PerformanceMode.THROUGHPUT, hint.inference_precision: precision}
    return openvino.Core().compile_model(model, "CPU", options)


PROGRAMS: dict[str, Callable[[ConcreteFunction, int, str], Program]] = {
    "tensorflow": TensorFlowProgram,
    "openvino": OpenVinoProgram,
}


def import_openvino() -> types.ModuleType:
    """The package openvino.

    Raises:
        UserError: it is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise UserError(
            f"--runtime openvino needs the package openvino ({error}): pip install openvino, or give --runtime "
            "tensorflow or auto"
        ) from error
    return openvino


def available_runtimes() -> tuple[Runtime, ...]:
    """Those of RUNTIMES that are installed."""
    try:
        import_openvino()
    except UserError:
        return RUNTIMES[:1]
    return RUNTIMES


@functools.lru_cache(maxsize=1)
def _read(frozen):
    """The graph as OpenVINO's model.

    From a file: OpenVINO reads that ten times faster than the graph in memory, and reports nothing to its makers.
    """
    from labeling.work import openvino_onnx  # needs OpenVINO

    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "frozen.pb"
        path.write_bytes(frozen.graph.as_graph_def().SerializeToString())
        return openvino_onnx.core_for(frozen).read_model(path)


def _in_bfloat16(frozen):
    """images -> answers, with large operations in bfloat16."""
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = RewriterConfig.ON
    # A session has options of its own; those of functions are the whole process's.
    session = tf.compat.v1.Session(graph=frozen.graph, config=config)
    images_name, answers_name = frozen.inputs[0].name, frozen.outputs[0].name
    return lambda images: session.run(answers_name, {images_name: images})
