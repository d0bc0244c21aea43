"""The labeling command as people run it: figures, going on after kills, and one line for wrong input."""

import dataclasses
import functools
import json
import random
import signal
import subprocess
import sys
import typing

import numpy as np
import pytest
from PIL import Image

from jobs import command, label_imagenet64
from labeling.labels.store import open_labels
from labeling.teachers import InputRange, conventions
from labeling.work import runtime_choice, runtimes
from tests.support.disk import contents
from tests.support.processes import Child
from tests.support.repository import ROOT
from tests.support.tiny_teachers import save_hub_module
from tfpipeline.system.errors import FlagError, UserError
from tfpipeline.system.flags import from_flat

IMAGES = SHARDS = 120


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tiny teacher of 64-pixel images and the cache of the images."""
    directory = tmp_path_factory.mktemp("place")
    save_hub_module(directory / "teacher", classes=12, size=64)
    return directory


def flags(place, out, **changed):
    """The command's arguments; `None` leaves a flag out. The gate would turn the random teacher away."""
    values = {
        "images": "shapes",
        "limit": IMAGES,
        "cache": place / "cache",
        "teacher": place / "teacher",
        "out": out,
        "shard-size": IMAGES // SHARDS,
        "batch-size": 2,
        **changed,
    }
    given = [str(part) for name, value in values.items() if value is not None for part in (f"--{name}", value)]
    return [*given, "--no-gate"]


def config_of(place, out, **changed):
    return command.parse(label_imagenet64.Config, flags(place, out, **changed), "label", "")


@pytest.fixture(scope="module")
def whole(place):
    """The store of an undisturbed run, and its figures."""
    figures = label_imagenet64.run(config_of(place, place / "whole"))
    return contents(place / "whole"), figures


def wait_for_shards(has_ended, out, shards):
    """Waits until there are so many shards, or the process that makes them has ended."""
    while not has_ended() and sum(1 for _ in out.glob("labels-*.npz")) < shards:
        pass


def run_quietly(arguments):
    label_imagenet64.run(command.parse(label_imagenet64.Config, [*arguments, "--quiet"], "label", ""))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_killed_three_times_then_run_again_equals_the_whole_run(tmp_path, place, whole, seed):
    out = tmp_path / "labels"
    for shards in sorted(random.Random(seed).sample(range(SHARDS // 3), 3)):
        child = Child(tmp_path / "said", run_quietly, flags(place, out))
        wait_for_shards(functools.partial(child.ended, 0), out, shards)
        child.kill()
    label_imagenet64.run(config_of(place, out))
    assert contents(out) == whole[0]


def start(arguments):
    program = [sys.executable, "-m", "jobs.label_imagenet64", *arguments]
    return subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.long
def test_the_command_itself_killed_and_stopped(tmp_path, place, whole):
    out = tmp_path / "labels"
    killed = start(flags(place, out))
    wait_for_shards(lambda: killed.poll() is not None, out, 5)
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    stopped = start(flags(place, out))
    wait_for_shards(lambda: stopped.poll() is not None, out, 20)
    stopped.send_signal(signal.SIGTERM)
    errors = stopped.communicate()[1]
    assert stopped.returncode == 75, errors
    assert "stopped by SIGTERM; the finished shards are saved; run the same command again" in errors
    done = start(flags(place, out))
    output, errors = done.communicate()
    assert done.returncode == 0, errors
    figures = json.loads(output.splitlines()[-1])
    assert figures["images"] == IMAGES
    assert contents(out) == whole[0]


def test_the_figures(whole, place):
    figures = whole[1]
    assert set(figures) >= {"images", "labeled", "skipped", "seconds", "images_per_second", "top1", "top5"}
    assert set(figures) >= {"mean_top_probability", "mean_tail_mass", "out"}
    assert (figures["images"], figures["labeled"], figures["skipped"]) == (IMAGES, IMAGES, 0)
    labels = open_labels(place / "whole").read_all()
    truth = np.arange(IMAGES) % 12
    assert figures["top1"] == np.mean(labels.top_k[:, 0, 0] == truth)
    assert figures["mean_tail_mass"] == 0.0  # All twelve classes are kept.


def test_all_done_says_so_at_once_and_prints_the_figures_again(capsys, place, whole):
    figures = label_imagenet64.run(config_of(place, place / "whole"))
    output, errors = capsys.readouterr()
    assert "all 120 images are labeled" in errors
    assert "images by first answer" in output
    assert figures["labeled"] == 0
    told = ("images", "skipped", "top1", "top5", "mean_top_probability", "mean_tail_mass", "out")
    assert {name: figures[name] for name in told} == {name: whole[1][name] for name in told}
    assert contents(place / "whole") == whole[0]


def test_a_damaged_shard_is_named_and_made_anew(capsys, tmp_path, place, whole):
    out = tmp_path / "labels"
    out.mkdir()
    for name, content in whole[0].items():
        (out / name).write_bytes(content)
    victim = sorted(out.glob("labels-*.npz"))[7]
    victim.write_bytes(victim.read_bytes()[:-9])
    figures = label_imagenet64.run(config_of(place, out))
    assert f"{victim.name} does not have the content that its name says" in capsys.readouterr().err
    assert figures["labeled"] == 1
    assert contents(out) == whole[0]


def fails(capsys, arguments, out):
    """(exit code, the line on standard error) of a run in this process that must fail and leave nothing behind."""
    with pytest.raises(SystemExit) as end:
        arguments = [*arguments, "--quiet"]
        command.main(label_imagenet64.Config, label_imagenet64.run, label_imagenet64.EXAMPLE, arguments)
    errors = capsys.readouterr().err.strip()
    assert "\n" not in errors
    assert not out.exists()
    return end.value.code, errors


@pytest.mark.parametrize(
    ("changed", "code", "message"),
    [
        ({"images": "archive:gone.tar", "limit": None}, 1, "no such file or folder: gone.tar"),
        ({"teacher": "gone"}, 1, "teacher gone does not exist"),
        ({"teacher": None}, 2, "--teacher is missing; give it once or several times"),
        ({"teacher": "keras:MobileNetV9"}, 1, "has no MobileNetV9"),
        ({"teacher-classes": 100}, 2, "cannot be --teacher-classes 100"),
        ({"batch-size": 0}, 2, "--batch-size is 0"),
        ({"weight": -1}, 2, "--weight -1.0 must be above 0"),
        ({"views": "identity,upside"}, 2, "--views upside is none; give identity, flip, crop"),
        ({"views": "crop:4:8:60"}, 2, "reaches over the edge of images of 64 x 64 pixels"),
        ({"split": "summer"}, 2, "no split 'summer'"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(capsys, tmp_path, place, changed, code, message):
    ended, errors = fails(capsys, flags(place, tmp_path / "labels", **changed), tmp_path / "labels")
    assert (ended, message in errors) == (code, True), errors


def test_the_gate_turns_a_useless_teacher_away(capsys, tmp_path, place):
    arguments = [flag for flag in flags(place, tmp_path / "labels") if flag != "--no-gate"]
    code, errors = fails(capsys, arguments, tmp_path / "labels")
    assert (code, "or --no-gate, which labels all the same" in errors) == (1, True), errors


def test_a_broken_image_is_named_or_skipped(capsys, tmp_path, place):
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(3):
        Image.new("RGB", (64, 64), (index * 90, 0, 0)).save(folder / f"{index}.png")
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:60])
    changed = {"images": f"folder:{folder}", "limit": None, "cache": tmp_path / "cache"}
    code, errors = fails(capsys, flags(place, tmp_path / "labels", **changed), tmp_path / "labels")
    assert (code, "1.png" in errors, "--skip-broken" in errors) == (1, True, True), errors
    arguments = [*flags(place, tmp_path / "labels", **changed), "--skip-broken"]
    figures = label_imagenet64.run(command.parse(label_imagenet64.Config, arguments, "label", ""))
    assert (figures["images"], figures["skipped"], figures["top1"], figures["top5"]) == (2, 1, None, None)
    assert figures["found"] == figures["labeled"] + figures["skipped"] == 3
    assert "1.png" in capsys.readouterr().err


@pytest.fixture
def copied(tmp_path, whole):
    """A copy of the whole store, to be damaged."""
    (tmp_path / "labels").mkdir()
    for name, content in whole[0].items():
        (tmp_path / "labels" / name).write_bytes(content)
    return tmp_path / "labels"


def damage(out, number):
    """Cuts the end off one shard."""
    victim = sorted(out.glob("labels-*.npz"))[number]
    victim.write_bytes(victim.read_bytes()[:-9])
    return victim


def run_with(place, out, *switches):
    return label_imagenet64.run(command.parse(label_imagenet64.Config, [*flags(place, out), *switches], "label", ""))


@pytest.mark.slow
def test_verify_asks_the_teacher_again(place, copied):
    figures = run_with(place, copied, "--verify", "--sample", "50")
    assert (figures["recomputed"], figures["recomputed_same_top1"]) == (50, 1.0)
    assert figures["recomputed_difference"] < 1e-3
    victim = damage(copied, 3)
    with pytest.raises(UserError, match=f"1 damaged files \\({victim.name} does not have"):
        run_with(place, copied, "--verify")
    victim.unlink()
    with pytest.raises(UserError, match="no labels yet for 1 ranges of images \\(3 to 3\\)"):
        run_with(place, copied, "--verify")


def test_verify_finds_wrong_labels_that_are_whole(place, copied):
    store = open_labels(copied)
    for span in store.spans[:2]:
        (path,) = copied.glob(f"labels-{span.first:08d}-*.npz")
        labels = store.read(path)
        path.unlink()
        store.write_shard(span, dataclasses.replace(labels, top_k=np.roll(labels.top_k, 1, axis=-1)))
    with pytest.raises(UserError, match=r"recomputed, 9\d\.\d% of 120 images get the stored first answer"):
        run_with(place, copied, "--verify")


@pytest.mark.slow
def test_repair_sets_damaged_shards_aside(place, copied, whole):
    names = {damage(copied, number).name for number in (3, 30)}
    figures = run_with(place, copied, "--repair")
    assert figures["labeled"] == 2
    assert {path.name for path in (copied / "damaged").iterdir()} == names
    assert {path.name: path.read_bytes() for path in copied.glob("*.*")} == whole[0]


def test_status_reads_the_store_alone(capsys, place, copied):
    victim = damage(copied, 3)
    figures = run_with(place, copied, "--status", "--teacher", "gone")
    assert {"images": 120, "labeled": 119, "missing": 1, "damaged_shards": 1}.items() <= figures.items()
    assert f"{victim.name} does not have" in capsys.readouterr().out


@pytest.mark.slow
def test_dry_run_writes_nothing(tmp_path, place, copied):
    figures = run_with(place, tmp_path / "new", "--dry-run")
    assert figures["to_label"] == IMAGES
    assert figures["bytes"] == IMAGES * (12 * 4 + 2)
    assert not (tmp_path / "new").exists()
    damage(copied, 3)
    before = contents(copied)
    assert run_with(place, copied, "--dry-run")["to_label"] == 1
    assert contents(copied) == before


def test_modes_exclude_each_other(place, copied):
    with pytest.raises(FlagError, match="--status and --verify do not go together"):
        run_with(place, copied, "--verify", "--status")


@pytest.mark.slow
def test_two_processes_share_the_work(tmp_path, place, whole):
    out = tmp_path / "labels"
    arguments = flags(place, out, limit=IMAGES)
    other = Child(tmp_path / "said", run_quietly, arguments)
    wait_for_shards(functools.partial(other.ended, 0), out, 1)
    figures = label_imagenet64.run(command.parse(label_imagenet64.Config, arguments, "label", ""))
    other.ended()
    assert other.exit_code == 0, other.said()
    assert figures["labeled"] < IMAGES
    assert contents(out) == whole[0]


@pytest.mark.slow
def test_teachers_and_views_answer_as_their_weighted_geometric_mean(tmp_path, place):
    second = save_hub_module(tmp_path / "second", classes=12, size=16, seed=1)
    alone = {}
    for name, teacher, method in (("first", place / "teacher", "bilinear"), ("second", second, "area")):
        out = tmp_path / f"labels-{name}"
        label_imagenet64.run(config_of(place, out, teacher=teacher, interpolation=method))
        alone[name] = by_class(open_labels(out).read_all())
    together = tmp_path / "together"
    switches = ["--teacher", str(second), "--interpolation", "bilinear", "--interpolation", "area"]
    run_with(place, together, *switches, "--weight", "3", "--weight", "1", "--views", "identity,flip")
    mean = (3 * alone["first"] + alone["second"]) / 4  # Mean colors are the same in a mirror.
    expected = mean - np.log(np.exp(mean).sum(1, keepdims=True))
    np.testing.assert_allclose(by_class(open_labels(together).read_all()), expected, atol=5e-3)
    assert open_labels(together).spec.views == ("identity+flip",)
    with pytest.raises(FlagError, match="--weight is given 3 times for 2 teachers"):
        run_with(place, together, *switches, "--weight", "1", "--weight", "1", "--weight", "1")


def by_class(labels):
    """float64 (n, classes): the stored log-probabilities of the first view, in the order of the classes."""
    ordered = np.zeros((len(labels), labels.top_k.shape[-1]))
    np.put_along_axis(ordered, labels.top_k[:, 0].astype(np.int64), labels.log_probs[:, 0].astype(np.float64), axis=1)
    return ordered


@pytest.mark.slow
def test_views_may_be_kept_apart(tmp_path, place):
    run_with(place, tmp_path / "labels", "--views", "identity,crop:8:0:32:flip", "--keep-views")
    store = open_labels(tmp_path / "labels")
    assert store.spec.views == ("identity", "crop:8:0:32:flip")
    assert store.read_all().top_k.shape == (IMAGES, 2, 12)


def test_teachers_of_other_classes_do_not_answer_together(capsys, tmp_path, place):
    other = save_hub_module(tmp_path / "other", classes=7, size=64)
    with pytest.raises(FlagError, match="teacher 12, other 7"):
        run_with(place, tmp_path / "labels", "--teacher", str(other))


def test_labels_of_another_teacher_refuse_to_mix(capsys, tmp_path, place, whole):
    other = save_hub_module(tmp_path / "other", classes=12, size=64, seed=1)
    with pytest.raises(SystemExit) as end:
        arguments = [*flags(place, place / "whole", teacher=other), "--quiet"]
        command.main(label_imagenet64.Config, label_imagenet64.run, label_imagenet64.EXAMPLE, arguments)
    errors = capsys.readouterr().err
    assert end.value.code == 1
    assert "holds labels made otherwise (teacher fingerprint:" in errors
    assert contents(place / "whole") == whole[0]


def test_the_program_knows_what_its_flags_offer():
    assert tuple(conventions.RANGES) == typing.get_args(InputRange)
    assert tuple(runtimes.PROGRAMS) == tuple(runtime_choice.BATCH_SIZES) == runtimes.RUNTIMES
    assert tuple(runtimes.TOLERANCE) == runtimes.PRECISIONS


@pytest.mark.slow
@pytest.mark.long
def test_the_thousand_real_images(tmp_path, real_data):
    values = {
        "images": f"archive:{real_data}/imagenet64/thousand_64x64.tar",
        "truth": f"{real_data}/imagenet64/thousand_truth.csv",
        "teacher": (f"{real_data}/teachers/mobilenet_v2_100_224",),
        "cache": str(tmp_path / "cache"),
        "out": str(tmp_path / "labels"),
    }
    figures = label_imagenet64.run(from_flat(label_imagenet64.Config, values))
    assert figures["top1"] == pytest.approx(0.579, abs=0.004)
    assert figures["top5"] == pytest.approx(0.821, abs=0.004)
    told = figures["adapt"]
    assert told["background"] and not told["prior"]
    assert told["sample_top1"] == pytest.approx(figures["top1"], abs=0.002)
    assert told["sample_top1_without"] == pytest.approx(0.514, abs=0.003)
    assert told["sample_top5_without"] == pytest.approx(0.774, abs=0.003)


@pytest.mark.slow
def test_auto_takes_the_recommended_interpolation_and_keeps_to_it(place, tmp_path, monkeypatch):
    from labeling.enlarging import comparison

    changed = {"interpolation": "auto", "size": 32, "limit": 20, "shard-size": 20, "batch-size": 10}
    asked = []

    def recommend_together(_experts, images, *_):
        asked.append(len(images))
        return ["lanczos3"]

    monkeypatch.setattr(comparison, "recommend_together", recommend_together)
    for labeled in (20, 0):
        assert label_imagenet64.run(config_of(place, tmp_path / "out", **changed))["labeled"] == labeled
    assert asked == [20]
    assert open_labels(tmp_path / "out").spec.teachers[0]["interpolation"] == "lanczos3"
