"""A classifier of classes that are only named, out of a pair of encoders such as CLIP's: one for images, one for texts.

    logits_c(x) = s <u(x), t_c>,  t_c = u(mean over prompts of u(text encoder(prompt of class c))),  u(v) = v / |v|

with s = 100, where the scale that CLIP learns is held. The texts are encoded once; what is left is the encoder of
images with one more product, an ONNX file like any other.
"""

import pathlib
import typing
from collections.abc import Sequence

import numpy as np

from labeling.teachers.onnx_files import read_stated
from tfpipeline.system import UserError, message_of, write_file

SCALE = 100.0
LONGEST = 77  # tokens of a text
_IMAGES, _TEXTS, _TOKENS = "vision_model.onnx", "text_model.onnx", "tokenizer.json"
_EMBEDDINGS = ("image_embeds", "text_embeds")


def write_classifier(pair: pathlib.Path, names: Sequence[str], prompts: Sequence[str], path: pathlib.Path) -> int:
    """Writes the classifier as an ONNX file, with its class names and its normalization in its metadata.

    Args:
        pair: a folder with vision_model.onnx and text_model.onnx, perhaps in a folder onnx, tokenizer.json and
            preprocessor_config.json, as transformers' models are exported.
        names: of the classes.
        prompts: texts, each with {} in the place of the name.
        path: of the file.

    Returns:
        The length of an embedding.

    Raises:
        UserError: a package is not installed, or a file is missing, damaged or no such encoder.
    """
    try:
        import onnx
        import onnxruntime
        import tokenizers
    except ImportError as error:
        raise UserError(f"a zero-shot teacher needs {error.name}: pip install onnx onnxruntime tokenizers") from error
    files = {name: _find(pair, name) for name in (_IMAGES, _TEXTS, _TOKENS)}
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(files[_TOKENS]))
        tokenizer.no_padding()
        tokenizer.enable_truncation(LONGEST)
        session = onnxruntime.InferenceSession(str(files[_TEXTS]), providers=["CPUExecutionProvider"])
        texts = np.stack([_embed(session, tokenizer, [prompt.format(name) for prompt in prompts]) for name in names])
        model = onnx.load(files[_IMAGES])
        _add_product(model, SCALE * texts.T)
    except UserError:
        raise
    except Exception as error:  # What damage makes the libraries raise is anything.
        raise UserError(
            f"{pair} holds no whole pair of encoders of images and texts ({message_of(error)}); export it again"
        ) from error
    stated = read_stated(pair, model)
    metadata: dict[str, typing.Any] = {"names": dict(enumerate(names))}
    if stated.normalization is not None:
        metadata |= {"mean": stated.normalization[0], "std": stated.normalization[1]}
    if stated.size is not None:
        metadata["imgsz"] = [stated.size, stated.size]
    onnx.helper.set_model_props(model, {key: repr(value) for key, value in metadata.items()})
    write_file(path, model.SerializeToString())
    return texts.shape[1]


def _find(pair, name):
    for path in (pair / name, pair / "onnx" / name):
        if path.is_file():
            return path
    raise UserError(f"{pair} has no {name}; give the folder of a pair of encoders, exported by transformers' tools")


def _embed(session, tokenizer, texts):
    """The unit embedding of a class, float32 (D,)."""
    embeddings = []
    wanted = {each.name for each in session.get_inputs()}
    answers = [each.name for each in session.get_outputs()]
    name = _EMBEDDINGS[1] if _EMBEDDINGS[1] in answers else answers[0]
    for text in texts:
        # One at a time, because encoders are trained with paddings of their own.
        encoding = tokenizer.encode(text)
        tokens = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask}
        fed = {key: np.array([value], np.int64) for key, value in tokens.items() if key in wanted}
        (embedding,) = session.run([name], fed)
        embeddings.append(_unit(embedding.reshape(-1).astype(np.float64)))
    return _unit(np.mean(embeddings, axis=0)).astype(np.float32)


def _unit(vector):
    return vector / np.linalg.norm(vector)


def _add_product(model, texts):
    """Makes logits the only output of an encoder of images, in place.

    Args:
        model: its embedding is called image_embeds, or is its only output.
        texts: float32 (D, classes).
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    outputs = {each.name: each for each in graph.output}
    name = _EMBEDDINGS[0] if _EMBEDDINGS[0] in outputs else next(iter(outputs))
    batch = outputs[name].type.tensor_type.shape.dim[0]
    shape = (batch.dim_param or batch.dim_value or None, texts.shape[1])
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(texts), "zero_shot_texts"))
    graph.node.append(helper.make_node("LpNormalization", [name], ["zero_shot_image"], axis=-1, p=2))
    graph.node.append(helper.make_node("MatMul", ["zero_shot_image", "zero_shot_texts"], ["logits"]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape))
