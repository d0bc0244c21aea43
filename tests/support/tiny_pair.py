"""A pair of encoders, of images and of texts, in the layout of an exported CLIP."""

import json

import numpy as np
import onnx
import tokenizers
from onnx import TensorProto, helper, numpy_helper

WORDS = ("a", "photo", "sketch", "of", "cat", "dog", "eel")
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def save_pair(folder):
    """Saves the pair; returns (kernel (3, 4) of mean colors, embedding (words, 4)): both encoders are means."""
    generator = np.random.default_rng(0)
    kernel = generator.normal(size=(3, 4)).astype(np.float32)
    embedding = generator.normal(size=(len(WORDS), 4)).astype(np.float32)
    (folder / "onnx").mkdir(parents=True)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="a"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.enable_padding(length=77)  # As CLIP's own file has it.
    words.save(str(folder / "tokenizer.json"))
    processor = {"image_mean": MEAN, "image_std": DEVIATION, "do_normalize": True, "crop_size": {"height": 16}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    _save(
        folder / "onnx" / "vision_model.onnx",
        ("pixel_values", TensorProto.FLOAT, ("batch", 3, "height", "width")),
        [
            helper.make_node("GlobalAveragePool", ["pixel_values"], ["means"]),
            helper.make_node("Flatten", ["means"], ["colors"]),
            helper.make_node("MatMul", ["colors", "weights"], ["image_embeds"]),
        ],
        kernel,
    )
    _save(
        folder / "onnx" / "text_model.onnx",
        ("input_ids", TensorProto.INT64, ("batch", "length")),
        [
            helper.make_node("Gather", ["weights", "input_ids"], ["words"]),
            helper.make_node("ReduceMean", ["words"], ["text_embeds"], axes=[1], keepdims=0),
        ],
        embedding,
    )
    return kernel, embedding


def _save(path, taken, nodes, weights):
    name, kind, shape = taken
    answer = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, ("batch", 4))
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info(name, kind, shape)],
        [answer],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
