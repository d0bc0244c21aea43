"""--resume through the real job: whatever would change the experiment is refused by name, and nothing is touched."""

import json
import pathlib
import shutil

import pytest

from jobs import command, train
from tests.support.worlds import World
from tfpipeline.training import checkpoint, run_directory

pytestmark = pytest.mark.slow

FLAGS = {
    "augment": "replay,translate:1",
    "targets": "soft",
    "temperature": 2,
    "truth-weight": 0.25,
    "confidence-threshold": 0.3,
    "class-balance": 0.5,
    "network": "conv_classifier",
    "network-options": "filters_per_layer=2",
    "epochs": 2,
    "batch-size": 8,
}


def argv_of(world, run, *switches, **flags):
    """The argument list of jobs.train in a world, with changed flags."""
    values = {**FLAGS, **world, "cache": pathlib.Path(world["labels"]).parent / "cache", "run": run}
    values |= {name.replace("_", "-"): value for name, value in flags.items()}
    return [*(text for name, value in values.items() for text in (f"--{name}", str(value))), *switches]


def resumed(capsys, world, run, **flags):
    """(exit code, standard output, standard error) of jobs.train --resume."""
    with pytest.raises(SystemExit) as end:
        command.main(train.Config, train.run, train.EXAMPLE, argv_of(world, run, "--resume", **flags))
    said = capsys.readouterr()
    return end.value.code, said.out, said.err


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(flags of an unchanged world, the directory of a finished run in it)"""
    directory = tmp_path_factory.mktemp("whole")
    flags, run = World().build(directory), directory / "run"
    figures = train.run(command.parse(train.Config, argv_of(flags, run, "--quiet"), "train", ""))
    assert figures["kl_nats"] > 0
    (directory / "weights").write_text(figures["weights_sha256"])
    return flags, run


def contents(run):
    """Every file of a run directory but the lock, by its path."""
    files = (path for path in sorted(run.rglob("*")) if path.is_file() and path.name != run_directory.LOCK)
    return {path: path.read_bytes() for path in files}


def test_the_same_world_elsewhere_goes_on(whole, capsys, tmp_path):
    code, out, error = resumed(capsys, World().build(tmp_path), whole[1])
    assert code == 0, error
    assert json.loads(out.splitlines()[-1])["weights_sha256"] == whole[1].with_name("weights").read_text()
    share = 100 * 0.25**0.5 / (0.5**0.5 + 2 * 0.25**0.5)
    assert f"--temperature 2 gives {share:.1f} % of the teacher's answers, instead of 25.0 %, to the classes" in error


def assert_refused(result, text, run, before):
    code, out, error = result
    assert code == 1 and out == ""
    assert text in error.splitlines()[-1]
    assert contents(run) == before


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"confidence_threshold": 0.25}, "confidence_threshold was 0.3 and is 0.25"),
        ({"class_balance": 1}, "class_balance was 0.5 and is 1.0"),
        ({"targets": "hard", "temperature": 1}, "targets was soft and is hard, temperature was 2.0 and is 1.0"),
        ({"truth_weight": 0.5}, "truth_weight was 0.25 and is 0.5"),
        ({"augment": "replay,translate:2"}, "augment was replay,translate:1 and is replay,translate:2"),
        ({"augment": "translate:1"}, "views was ['identity', 'flip'] and is ['identity']"),
        ({"mix": "mixup:0.2"}, "mix was none and is mixup:0.2"),
    ],
)
def test_a_changed_flag_is_refused_by_name(whole, capsys, flags, text):
    before = contents(whole[1])
    result = resumed(capsys, *whole, **flags)
    assert_refused(result, text, whole[1], before)
    assert "train: --resume refuses a changed experiment: " in result[2]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"pixel": 1}, ["images"]),
        ({"truth": 1}, ["truth"]),
        ({"answer": 1}, ["labels"]),
        ({"names": ("b", "a", "c")}, ["class_order", "truth", "validation_truth"]),
        ({"views": ("identity", "crop:0:1:6")}, ["views"]),
        ({"held_out_pixel": 1}, ["validation_images"]),
        ({"held_out_truth": 1}, ["validation_truth"]),
        ({"held_out_answer": 1}, ["validation_labels"]),
    ],
)
def test_what_is_read_is_refused_by_name_when_a_single_value_changed(whole, capsys, tmp_path, change, names):
    before = contents(whole[1])
    result = resumed(capsys, World(**change).build(tmp_path), whole[1])
    assert_refused(result, "--resume refuses a changed experiment: ", whole[1], before)
    changes = result[2].split("a changed experiment: ")[1].split("; undo")[0]
    assert sorted(part.split(" was ")[0] for part in changes.split(", ") if " was " in part) == sorted(names)


def test_labels_of_other_pixels_are_refused_before_they_are_read(whole, capsys, tmp_path):
    before = contents(whole[1])
    changed = World(pixel=1).build(tmp_path)
    result = resumed(capsys, {**changed, "labels": whole[0]["labels"]}, whole[1], cache=tmp_path / "cache")
    assert_refused(result, f"labels {whole[0]['labels']} belong to other images", whole[1], before)


def test_when_every_checkpoint_is_damaged_all_are_listed_and_nothing_begins_anew(whole, capsys, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole[1], run)
    damaged = checkpoint.newest_first(run / run_directory.CHECKPOINTS)
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-1])
    before = contents(run)
    result = resumed(capsys, whole[0], run)
    assert_refused(result, "train: every checkpoint in ", run, before)
    assert len(damaged) > 1 and all(path.name in result[2].splitlines()[-1] for path in damaged)
