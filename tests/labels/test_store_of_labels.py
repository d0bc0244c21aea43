"""The label store serves what was written, in the order of the images, and never anything damaged."""

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
import types

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies

from labeling.labels.span import Span, images_in
from labeling.labels.spec import LabelSpec
from labeling.labels.store import as_stored, check_may_write, create_labels, open_labels
from tests.support.repository import ROOT
from tfpipeline.batches import Answers
from tfpipeline.system.errors import UserError

SPEC = LabelSpec(
    dataset="d" * 64,
    images_sha256="1" * 64,
    names_sha256="2" * 64,
    count=10,
    shard_size=4,
    teachers=({"name": "t", "fingerprint": "f" * 64, "interpolation": "bilinear", "weight": 1.0},),
    classes=7,
    class_names=(),
    top_k=3,
)


def answers_to(span, seed=0):
    """Answers that differ for each image: random distributions over the classes, the largest of them kept."""
    rng = np.random.default_rng([seed, span.first])
    p = rng.dirichlet(np.ones(SPEC.classes), (span.images, 1))
    order = np.argsort(-p)
    ranked = np.take_along_axis(p, order, -1)
    k = SPEC.top_k
    log_tail = np.log(ranked[..., k:].sum(-1))
    return Answers(
        order[..., :k].astype(np.uint16), np.log(ranked[..., :k]).astype(np.float16), log_tail.astype(np.float16)
    )


@pytest.fixture
def store(tmp_path):
    """A whole store of ten images in three shards."""
    whole = create_labels(tmp_path / "labels", SPEC)
    for span in reversed(whole.spans):
        whole.write_shard(span, answers_to(span))
    return whole


def only_shard(store, first):
    (path,) = store.directory.glob(f"labels-{first:08d}-*.npz")
    return path


def equal(answers, others):
    return all(np.array_equal(array, others.arrays()[name]) for name, array in answers.arrays().items())


def test_all_labels_come_back_in_the_order_of_the_images(store):
    read = open_labels(store.directory).read_all()
    for span in SPANS:
        assert equal(read[span.first : span.last], answers_to(span))
    assert len(read) == SPEC.count


SPANS = [Span(0, 4), Span(4, 8), Span(8, 10)]


def test_the_same_labels_are_the_same_bytes_under_the_same_name(tmp_path, store):
    again = create_labels(tmp_path / "again", SPEC)
    for span in SPANS:
        again.write_shard(span, answers_to(span))
    contents = [{path.name: path.read_bytes() for path in s.directory.iterdir()} for s in (store, again)]
    assert contents[0] == contents[1]
    assert re.fullmatch(r"labels-00000008-00000010-[0-9a-f]{16}\.npz", only_shard(store, 8).name)


def test_missing_spans(store):
    assert (store.spans, images_in(store.spans)) == (SPANS, SPEC.count)
    only_shard(store, 4).unlink()
    assert store.missing_spans() == [(4, 8)]
    with pytest.raises(UserError, match=r"4 of 10 images have no labels \(first: 4\).*again to complete"):
        store.read_all()


@pytest.mark.parametrize("part", range(8))
def test_a_flipped_bit_anywhere_is_found_and_named(store, part):
    path = only_shard(store, 4)
    content = bytearray(path.read_bytes())
    content[len(content) * part // 8] ^= 1 << part
    path.write_bytes(content)
    assert store.missing_spans() == [(4, 8)]
    with pytest.raises(UserError, match=f"{path.name} does not have the content"):
        store.read_all()


@pytest.mark.parametrize("cut", [0, 1, 200, -1])
def test_a_cut_shard_is_found(store, cut):
    path = only_shard(store, 0)
    path.write_bytes(path.read_bytes()[:cut])
    assert store.missing_spans() == [(0, 4)]


def test_a_shard_renamed_to_another_range_is_found(store):
    path = only_shard(store, 0)
    only_shard(store, 4).unlink()
    path.rename(path.with_name(path.name.replace("00000000-00000004", "00000004-00000008")))
    assert store.missing_spans() == [(0, 4), (4, 8)]
    assert list(store.shards()[1].values()) == ["holds the images 0 to 4, not those that its name says"]


def test_a_shard_of_another_store_is_found(tmp_path, store):
    other = create_labels(tmp_path / "other", dataclasses.replace(SPEC, images_sha256="3" * 64))
    other.write_shard(Span(0, 4), answers_to(Span(0, 4), seed=1))
    stranger = only_shard(other, 0)
    only_shard(store, 0).unlink()
    stranger.rename(store.directory / stranger.name)
    assert store.missing_spans() == [(0, 4)]
    assert list(store.shards()[1].values()) == ["belongs to a store with another spec.json"]


def test_two_shards_of_a_range_count_once(store):
    store.write_shard(Span(4, 8), answers_to(Span(4, 8), seed=1))
    assert store.missing_spans() == []
    read = store.read_all()
    assert len(read) == SPEC.count
    chosen = store.read(sorted(store.directory.glob("labels-00000004-*.npz"))[0])
    np.testing.assert_array_equal(read.top_k[4:8], chosen.top_k)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top_k": answers_to(Span(0, 4)).top_k.astype(np.int32)}, "top_k is int32"),
        ({"top_k": np.full((4, 1, 3), 7, np.uint16)}, "has class 7; there are 7"),
        ({"log_probs": np.full((4, 1, 3), np.nan, np.float16)}, "no numbers"),
        ({"log_tail": np.zeros((4, 2), np.float16)}, "log_tail is float16"),
        ({"log_tail": np.zeros((4, 1), np.float16)}, "probabilities that sum to 1"),
        ({"log_probs": answers_to(Span(0, 4)).log_probs[..., ::-1]}, "not in the order of their probability"),
        ({"top_k": np.ones((4, 1, 3), np.uint16)}, "a class twice"),
    ],
)
def test_labels_that_are_none_are_not_written(store, change, message):
    with pytest.raises(ValueError, match=message):
        store.write_shard(Span(0, 4), dataclasses.replace(answers_to(Span(0, 4)), **change))


@pytest.mark.parametrize("span", [(0, 5), (1, 4), (8, 12), (12, 10), (10, 10), (-4, 0)])
def test_answers_to_other_spans_are_not_written(store, span):
    with pytest.raises(ValueError, match="not a range of the grid of 10 images in shards of 4"):
        store.write_shard(Span(*span), answers_to(Span(0, 4)))


def test_an_answer_over_all_classes_has_no_tail(tmp_path):
    spec = dataclasses.replace(SPEC, top_k=7)
    full = create_labels(tmp_path / "full", spec)
    answers = Answers(
        np.tile(np.arange(7, dtype=np.uint16), (4, 1, 1)),
        np.full((4, 1, 7), np.log(1 / 7), np.float16),
        np.full((4, 1), -np.inf, np.float16),
    )
    full.write_shard(Span(0, 4), answers)
    assert full.missing_spans() == [(4, 8), (8, 10)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top_k": 2}, "top_k: 3 there, 2 asked for"),
        ({"shard_size": 5}, "shard_size: 4 there, 5 asked for"),
        ({"images_sha256": "9" * 64}, "images_sha256: 1{64} there, 9{64}"),
        ({"teachers": ({**SPEC.teachers[0], "interpolation": "area"},)}, "teacher interpolation: bilinear there, area"),
        ({"teachers": ({**SPEC.teachers[0], "fingerprint": "0"},)}, "teacher fingerprint: f{64} there, 0 asked"),
    ],
)
def test_another_spec_refuses_to_mix_and_names_the_field(store, change, message):
    before = sorted(store.directory.iterdir())
    with pytest.raises(UserError, match=message):
        create_labels(store.directory, dataclasses.replace(SPEC, **change))
    assert sorted(store.directory.iterdir()) == before


def test_another_truth_or_path_is_no_other_spec(store):
    renamed = ({**SPEC.teachers[0], "name": "elsewhere"},)
    same = create_labels(store.directory, dataclasses.replace(SPEC, dataset="e" * 64, teachers=renamed))
    assert same.spec == SPEC
    assert same.missing_spans() == []


def test_a_directory_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="is no label store; choose another --out"):
        check_may_write(tmp_path, SPEC)
    with pytest.raises(UserError, match="is no label store: it has no spec"):
        open_labels(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 1}', SPEC.to_json().replace("top_k", "top_q")])
def test_a_damaged_spec_is_named(store, content):
    (store.directory / "spec.json").write_text(content)
    with pytest.raises(UserError, match=r"spec\.json is damaged"):
        open_labels(store.directory)


def images_with(fingerprint, images_sha256="1" * 64, names_sha256="2" * 64):
    files = {"images.npy": images_sha256, "names.txt": names_sha256}
    methods = {"fingerprint": fingerprint, "description": {"files": files}, "__len__": lambda self: 10}
    return types.new_class("Images", exec_body=lambda namespace: namespace.update(methods))()


def test_labels_join_their_images_only(store):
    assert store.check_same_images(images_with(SPEC.dataset)) == ""
    assert "the very same images, opened under another split" in store.check_same_images(images_with("e" * 64))
    with pytest.raises(UserError, match=r"images\.npy 8{12} given, 10 with 1{12} labeled"):
        store.check_same_images(images_with("e" * 64, images_sha256="8" * 64))
    with pytest.raises(UserError, match=r"names\.txt"):
        store.check_same_images(images_with("e" * 64, names_sha256="8" * 64))


def test_importing_the_store_does_not_load_tensorflow():
    program = "import sys, labeling.labels.store; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(("classes", "dtype"), [(65_536, np.uint16), (65_537, np.uint32), (70_000, np.uint32)])
def test_every_class_comes_back_however_many_there_are(tmp_path, classes, dtype):
    labels = create_labels(tmp_path / "labels", dataclasses.replace(SPEC, classes=classes, count=2, top_k=2))
    top_k = np.array([[[classes - 1, 4_463]], [[3, classes - 2]]])
    p = np.broadcast_to([0.5, 0.25], top_k.shape)
    answers = as_stored(Answers(top_k, np.log(p), np.full((2, 1), np.log(0.25))), classes)
    labels.write_shard(Span(0, 2), answers)
    read = open_labels(tmp_path / "labels").read_all()
    assert read.top_k.dtype == dtype
    np.testing.assert_array_equal(read.top_k, top_k)


def test_shards_that_count_classes_in_another_type_are_damaged(tmp_path):
    labels = create_labels(tmp_path / "labels", dataclasses.replace(SPEC, classes=70_000, count=4))
    with pytest.raises(ValueError, match=r"top_k is uint16\(4, 1, 3\), not uint32\(4, 1, 3\)"):
        labels.write_shard(Span(0, 4), answers_to(Span(0, 4)))


def test_hostile_shards_under_a_right_hash_are_passed_over(store):
    (path, *_) = sorted(store.directory.glob("labels-*.npz"))
    content, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        hostile = bytearray(content)
        for place in random.integers(len(content), size=random.integers(1, 6)):
            hostile[place] = random.integers(256)
        digits = hashlib.sha256(hostile).hexdigest()[:16]
        other = path.with_name(re.sub(r"[0-9a-f]{16}\.npz$", f"{digits}.npz", path.name))
        other.write_bytes(hostile)
        problem = store.problem_of(other)
        assert problem is None or "\n" not in problem
        other.unlink()


@given(strategies.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_spec_with_anything_in_it_is_a_spec_or_named(store, data):
    fields = json.loads((store.directory / "spec.json").read_text())
    name = data.draw(strategies.sampled_from([*fields, "subset", "subset_of", "batch_size", "runtime"]))
    leaves = strategies.none() | strategies.booleans() | strategies.integers(-1, 9) | strategies.just("\ud800")
    fields[name] = data.draw(strategies.recursive(leaves, lambda inner: strategies.lists(inner, max_size=2)))
    other = store.directory.parent / "other"
    other.mkdir(exist_ok=True)
    (other / "spec.json").write_text(json.dumps(fields))
    try:
        found = open_labels(other)
    except UserError as error:
        assert str(other / "spec.json") in str(error) and "\n" not in str(error)
    else:
        assert all(isinstance(line, str) for line in found.spec.differences(store.spec))
