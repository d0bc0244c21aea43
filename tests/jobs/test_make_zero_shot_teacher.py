"""A teacher of named classes: what a pair of encoders says of images and names, computed here with NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from jobs import command, make_zero_shot_teacher
from labeling.enlarging import Expert
from labeling.teachers.teacher import load_teacher
from labeling.work.answerer import Answerer
from labeling.work.runtimes import Way
from tests.support.tiny_teachers import log_softmax, pictures
from tfpipeline.images import IDENTITY
from tfpipeline.system import FlagError, UserError

NAMES = ("cat", "dog", "eel")


@pytest.fixture
def pair(tmp_path):
    """(folder of the pair, kernel, embedding)"""
    from tests.support.tiny_pair import save_pair  # needs onnx and tokenizers

    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n\n")
    return tmp_path / "pair", *save_pair(tmp_path / "pair")


def make(place, *more):
    argv = ["--pair", place / "pair", "--classes", place / "names.txt", "--out", place / "pets.onnx", *more]
    return make_zero_shot_teacher.run(command.parse(make_zero_shot_teacher.Config, list(map(str, argv)), "make", ""))


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.extras
@pytest.mark.parametrize("kinds", [("photo",), ("photo", "sketch")])
def test_it_answers_by_the_angle_between_image_and_name(pair, tmp_path, kinds):
    from tests.support.tiny_pair import DEVIATION, MEAN, WORDS

    _, kernel, embedding = pair
    prompts = [part for kind in kinds for part in ("--prompt", f"a {kind} of a {{}}")]
    figures = make(tmp_path, *(prompts if len(kinds) > 1 else ()))
    assert (figures["classes"], figures["dimensions"]) == (3, 4)
    teacher = load_teacher(str(tmp_path / "pets.onnx"))
    assert teacher.class_names == NAMES and teacher.size == 16
    shown = pictures(size=16)
    texts = [
        [np.mean([embedding[WORDS.index(word)] for word in f"a {kind} of a {name}".split()], axis=0) for kind in kinds]
        for name in NAMES
    ]
    normalized = (shown / 255 - MEAN) / DEVIATION
    angles = unit(normalized.mean((1, 2)) @ kernel) @ unit(unit(np.array(texts)).mean(1)).T
    expected = log_softmax(100 * angles)
    np.testing.assert_allclose(teacher.log_probs(tf.cast(shown, tf.float32)), expected, atol=2e-3)
    answer = Answerer([Expert(teacher, "bilinear")], [(IDENTITY,)], 3, shown.shape[1:], Way("openvino", 4))
    np.testing.assert_allclose(answer.log_probs(shown)[:, 0], expected, atol=2e-3)


@pytest.mark.extras
@pytest.mark.parametrize("name", ["onnx/vision_model.onnx", "onnx/text_model.onnx", "tokenizer.json"])
def test_damaged_and_missing_files_are_named_and_nothing_is_written(pair, tmp_path, name):
    path = pair[0] / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"pair holds no whole pair of encoders .*; export it again"):
        make(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=f"pair has no {path.name}; give the folder"):
        make(tmp_path)
    assert not (tmp_path / "pets.onnx").exists()


@pytest.mark.parametrize("text", ["cat\n", "cat\ndog\ncat\n"])
def test_names_are_two_or_more_and_differ(tmp_path, text):
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(UserError, match=r"names\.txt names \d classes in \d lines; name two or more, each once"):
        make(tmp_path)


def test_a_prompt_has_a_place_for_the_name(tmp_path):
    with pytest.raises(FlagError, match=r"--prompt 'a photo' must have \{\} where the name of the class goes"):
        make(tmp_path, "--prompt", "a photo")
