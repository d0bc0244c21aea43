"""Labels that are adapted to their images: by the command, however it is interrupted, shared or gone on with."""

import dataclasses
import functools
import json

import numpy as np
import pytest

from jobs import command, label_imagenet64
from jobs.labeling import modes
from labeling.labels import adaptation
from labeling.labels.store import open_labels
from labeling.work import sample
from tests.support.disk import contents
from tests.support.processes import Child
from tests.support.tiny_teachers import save_hub_module
from tfpipeline.system.errors import FlagError, UserError

pytestmark = pytest.mark.slow

IMAGES, CLASSES = 90, 120


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tiny teacher of enough classes and the cache of the images."""
    directory = tmp_path_factory.mktemp("place")
    save_hub_module(directory / "teacher", classes=CLASSES, size=64)
    return directory


def flags(place, out, *more):
    images = ["--images", "shapes", "--limit", IMAGES, "--cache", place / "cache", "--teacher", place / "teacher"]
    shards = ["--shard-size", 8, "--batch-size", 4, "--top-k", 6, "--views", "identity,flip"]
    return [*map(str, [*images, *shards, "--out", out, *more]), "--no-gate", "--quiet"]


def label(place, out, *more):
    return label_imagenet64.run(command.parse(label_imagenet64.Config, flags(place, out, *more), "label", ""))


@pytest.fixture
def small_sample(monkeypatch):
    """A sample of some of the images only, in several pieces."""
    monkeypatch.setattr(sample, "MOST_IMAGES", 60)
    monkeypatch.setattr(sample, "_PIECE", 16)


@pytest.fixture(scope="module")
def whole(place):
    """The directory of adapted labels that nothing happened to: every vector is used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "MOST_IMAGES", 60)
        patch.setattr(sample, "_PIECE", 16)
        label(place, place / "whole", "--adapt", "background")
    return place / "whole"


def by_class(answers, classes):
    """float64 (n, classes): the stored log-probabilities of the first view, NaN where they are not stored."""
    found = np.full((len(answers), classes), np.nan)
    np.put_along_axis(found, answers.top_k[:, 0].astype(np.int64), answers.log_probs[:, 0].astype(np.float64), 1)
    return found


def test_the_stored_answers_are_the_formula_of_the_plain_ones(tmp_path, place, whole):
    label(place, tmp_path / "plain", "--adapt", "none", "--top-k", str(CLASSES))
    plain = by_class(open_labels(tmp_path / "plain").read_all(), CLASSES)
    store = open_labels(whole)
    expected = plain - np.array(store.spec.adaptation.background)
    expected -= np.log(np.exp(expected).sum(1, keepdims=True))
    found = by_class(store.read_all(), CLASSES)
    np.testing.assert_allclose(found[~np.isnan(found)], expected[~np.isnan(found)], atol=0.02)
    assert (np.nanargmax(found, 1) != plain.argmax(1)).any()


def test_the_vectors_are_those_of_the_sample(tmp_path, place, whole, monkeypatch, small_sample):
    kept = []
    monkeypatch.setattr(sample, "remove_sample", kept.append)
    label(place, tmp_path / "again", "--adapt", "background")
    store = open_labels(tmp_path / "again")
    known = sample.read_sample(tmp_path / "again", store.spec)
    assert len(known.indices) == store.spec.adaptation.images == 60
    assert adaptation.fit(known.combined, "background") == store.spec.adaptation
    assert store.spec == open_labels(whole).spec


def test_by_default_teachers_of_many_classes_are_adapted_and_others_are_not(tmp_path, place):
    told = label(place, tmp_path / "many")["adapt"]
    assert told["method"] == "auto" and told["images"] == IMAGES
    save_hub_module(tmp_path / "teacher", classes=12, size=64)
    assert label(tmp_path, tmp_path / "few")["adapt"] is None
    assert open_labels(tmp_path / "few").spec.adaptation is None


@pytest.mark.parametrize("calls", [1, 5, 9])
def test_interrupted_at_any_call_then_again_equals_the_whole_run(
    tmp_path, place, whole, monkeypatch, small_sample, calls
):
    from labeling.work import Answerer

    left, log_probs = iter(range(calls)), Answerer.log_probs

    def dies(self, images):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return log_probs(self, images)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Answerer, "log_probs", dies)
        label(place, tmp_path / "out", "--adapt", "background")
    label(place, tmp_path / "out", "--adapt", "background")
    assert contents(tmp_path / "out") == contents(whole)


def test_no_image_is_asked_for_twice(tmp_path, place, monkeypatch, small_sample):
    from labeling.work import Answerer

    asked, log_probs = [], Answerer.log_probs

    def counts(self, images):
        asked.append(len(images))
        return log_probs(self, images)

    monkeypatch.setattr(Answerer, "log_probs", counts)
    label(place, tmp_path / "out", "--adapt", "background")
    assert sum(asked) == IMAGES


def test_a_removed_and_repaired_shard_is_the_same(tmp_path, place, whole):
    for path in whole.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    shard = sorted(tmp_path.glob("labels-*"))[3]
    shard.write_bytes(b"damaged")
    assert label(place, tmp_path, "--repair")["labeled"] == 8
    assert contents(tmp_path).items() >= contents(whole).items()
    assert label(place, tmp_path, "--verify")["recomputed_same_top1"] == 1.0


def run_quietly(place, out):
    label(place, out, "--adapt", "auto")


def test_two_that_begin_at_once_end_with_one_store(tmp_path, place):
    label(place, tmp_path / "alone")
    children = [Child(tmp_path / f"said-{n}", functools.partial(run_quietly, place), tmp_path / "out") for n in (0, 1)]
    for child in children:
        child.ended()
        assert child.exit_code == 0, child.said()
    assert label(place, tmp_path / "out")["labeled"] == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


@pytest.mark.parametrize("step", ["label", "begin_labels"])
def test_one_that_begins_while_another_ends_takes_what_that_one_found(tmp_path, place, monkeypatch, step):
    plain, others = getattr(modes, step), {}

    def after_another(task, *more):
        monkeypatch.setattr(modes, step, plain)
        label(place, tmp_path, "--adapt", "auto")
        others.update(contents(tmp_path))
        return plain(task, *more)

    monkeypatch.setattr(modes, step, after_another)
    assert label(place, tmp_path)["labeled"] == 0
    assert contents(tmp_path) == others != {}


def test_labels_that_began_without_go_on_without(tmp_path, place):
    label(place, tmp_path / "old", "--adapt", "none")
    before = contents(tmp_path / "old")
    sorted((tmp_path / "old").glob("labels-*"))[0].unlink()
    assert label(place, tmp_path / "old")["adapt"] is None
    assert contents(tmp_path / "old") == before
    with pytest.raises(UserError, match=r"made otherwise \(adaptation: none there, auto asked for\)"):
        label(place, tmp_path / "old", "--adapt", "auto")


def test_an_adaptation_is_taken_from_other_labels(tmp_path, place, whole):
    more = ["--split", "valid", "--adapt-from", str(whole)]
    told = label(place, tmp_path / "valid", *more)["adapt"]
    assert told["method"] == "background"
    assert open_labels(tmp_path / "valid").spec.adaptation == open_labels(whole).spec.adaptation
    assert label(place, tmp_path / "valid", "--split", "valid")["labeled"] == 0
    other = save_hub_module(tmp_path / "other", classes=CLASSES, size=64, seed=1)
    with pytest.raises(UserError, match=r"these labels are by other teachers.*teacher fingerprint"):
        label(place, tmp_path / "no", *more, "--teacher", str(other))
    label(place, tmp_path / "plain", "--adapt", "none")
    with pytest.raises(UserError, match="these labels are not adapted"):
        label(place, tmp_path / "no", "--adapt-from", str(tmp_path / "plain"))
    with pytest.raises(FlagError, match="--adapt auto and --adapt-from x do not go together"):
        label(place, tmp_path / "no", "--adapt", "auto", "--adapt-from", "x")
    assert not (tmp_path / "no").exists()


def test_the_background_is_taken_before_the_restriction_to_some_classes(tmp_path, place, whole):
    (tmp_path / "classes").write_text("\n".join(map(str, range(0, CLASSES, 3))))
    more = ["--adapt", "background", "--classes", str(tmp_path / "classes"), "--top-k", "40"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "MOST_IMAGES", 60)
        label(place, tmp_path / "some", *more)
    store, every = open_labels(tmp_path / "some"), open_labels(whole)
    np.testing.assert_allclose(store.spec.adaptation.background, every.spec.adaptation.background, atol=1e-5)
    assert store.spec.classes == 40


def test_own_classes_are_as_probable_as_their_members_without_the_background(tmp_path, place, whole, small_sample):
    (tmp_path / "map.csv").write_text("low,0\nlow,1\nmiddle,7\nrest,*\n")
    label(place, tmp_path / "own", "--adapt", "background", "--class-map", str(tmp_path / "map.csv"))
    label(place, tmp_path / "plain", "--adapt", "none", "--top-k", str(CLASSES))
    store = open_labels(tmp_path / "own")
    np.testing.assert_allclose(
        store.spec.adaptation.background, open_labels(whole).spec.adaptation.background, atol=1e-5
    )
    p = np.exp(by_class(open_labels(tmp_path / "plain").read_all(), CLASSES) - store.spec.adaptation.background)
    p /= p.sum(1, keepdims=True)
    low, middle = p[:, 0] + p[:, 1], p[:, 7]
    found = np.exp(by_class(store.read_all(), 3))
    np.testing.assert_allclose(found, np.stack([low, middle, 1 - low - middle], 1), rtol=0.02, atol=1e-6)
    assert label(place, tmp_path / "own", "--verify", "--class-map", str(tmp_path / "map.csv"))["recomputed"] == IMAGES


def test_a_dry_run_finds_no_adaptation_and_writes_nothing(tmp_path, place, whole, monkeypatch):
    monkeypatch.setattr(sample, "answer_sample", None)
    assert label(place, tmp_path / "new", "--dry-run", "--adapt", "background")["to_label"] == IMAGES
    assert not (tmp_path / "new").exists()
    before = contents(whole)
    assert label(place, whole, "--dry-run")["to_label"] == 0
    assert contents(whole) == before


def test_sizes_of_a_teacher_answer_as_so_many_teachers_do(tmp_path, place):
    label(place, tmp_path / "sizes", "--teacher-size", "64,20")
    teacher = ["--teacher", str(place / "teacher"), "--teacher-size", "64", "--teacher-size", "20"]
    label(place, tmp_path / "teachers", *teacher)
    sizes, teachers = open_labels(tmp_path / "sizes"), open_labels(tmp_path / "teachers")
    assert [(each["size"], each["weight"]) for each in sizes.spec.teachers] == [(64, 0.5), (20, 0.5)]
    for one, other in zip(sizes.read_all(), teachers.read_all(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert sizes.spec.adaptation == teachers.spec.adaptation
    assert label(place, tmp_path / "sizes", "--teacher-size", "64,20", "--verify")["recomputed_same_top1"] == 1.0
    with pytest.raises(UserError, match=r"made otherwise .*teacher fingerprint"):
        label(place, tmp_path / "sizes", "--teacher-size", "64")


def test_what_it_did_is_told(tmp_path, place, capsys, whole):
    told = label(place, whole)["adapt"]
    assert json.loads(json.dumps(told)) == told
    assert told["background"] and not told["prior"] and len(told["favored"]) == adaptation.CLASSES_TOLD
    assert "sample_top1" not in told  # The sample is gone: nothing is left but the labels.
    out = capsys.readouterr().out
    assert "adapt: evenness" in out


def test_the_answers_to_a_sample_that_are_no_numbers_name_the_image(tmp_path, place, monkeypatch):
    from labeling.work import Answerer

    monkeypatch.setattr(Answerer, "log_probs", lambda self, images: np.full((len(images), 1, CLASSES), np.nan))
    with pytest.raises(UserError, match=r"the teachers answer NaN to image 0 \(.*\), and to 90 of a sample of 90"):
        label(place, tmp_path / "out", "--adapt", "auto")
    assert not (tmp_path / "out" / "spec.json").exists()


def test_damaged_pieces_of_a_sample_and_those_of_other_labels_count_for_nothing(tmp_path):
    from tests.support.label_stores import SPEC

    piece = sample.Sample(np.arange(3), np.zeros((3, 1, 4), np.float32))
    sample._write_piece(tmp_path, SPEC, 0, piece)
    assert len(sample.read_sample(tmp_path, SPEC).indices) == 3
    assert sample.read_sample(tmp_path, dataclasses.replace(SPEC, precision="bfloat16")) is None
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert sample.read_sample(tmp_path, SPEC) is None
    sample.remove_sample(tmp_path)
    assert not list(tmp_path.iterdir())
