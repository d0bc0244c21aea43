"""Exported labels: read back by their own readers, they are the store's, bit for bit."""

import csv
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from jobs import command, export
from labeling.labels import export as label_export
from labeling.labels.span import Span
from labeling.labels.spec import LabelSpec
from labeling.labels.store import LabelStore, create_labels
from models import export as model_export
from tests.support.disk import contents, small_disk
from tests.support.images import store_of
from tfpipeline.batches import Answers
from tfpipeline.system.errors import FlagError, UserError
from tfpipeline.system.files import MARK, new_directory

COUNT, SHARD, K, VIEWS = 11, 4, 3, ("identity", "flip")


def random_labels(n, views=2, k=K, seed=0):
    """Answers over 50 classes; every third image has nothing outside the top k."""
    p = np.random.default_rng(seed).dirichlet(np.full(50, 0.2), (n, views))
    top_k = np.argsort(-p, axis=-1)[..., :k]
    top = np.take_along_axis(p, top_k, -1)
    top[::3] /= top[::3].sum(-1, keepdims=True)
    tail = 1 - top.sum(-1)
    tail[::3] = 0
    with np.errstate(divide="ignore"):
        return Answers(top_k.astype(np.uint16), np.log(top).astype(np.float16), np.log(tail).astype(np.float16))


def make_store(directory, count=COUNT, shard=SHARD, views=VIEWS, k=K):
    spec = LabelSpec(
        "d",
        "i",
        "n",
        count,
        shard,
        ({"name": "t", "fingerprint": "f" * 64, "interpolation": "bilinear", "weight": 1.0},),
        50,
        (),
        k,
        views,
    )
    store = create_labels(directory, spec)
    for span in store.spans:
        store.write_shard(span, random_labels(span.images, len(views), k, seed=span.first))
    return store


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "labels")


def config_of(store, form, out, *more):
    argv = ["--labels", str(store.directory), "--to", form, "--out", str(out), "--quiet", *map(str, more)]
    return command.parse(export.Config, argv, "export", "")


def assert_rows_are_those_of(store, index, view, top_k, log_probs, log_tail):
    labels, views = store.read_all(), store.spec.views
    expected = [(i, name) for i in range(store.spec.count) for name in views]
    assert list(zip(index, view, strict=True)) == expected
    np.testing.assert_array_equal(top_k, labels.top_k.reshape(-1, store.spec.top_k))
    np.testing.assert_array_equal(np.float16(log_probs), labels.log_probs.reshape(-1, store.spec.top_k))
    np.testing.assert_array_equal(np.float16(log_tail), labels.log_tail.ravel())


def test_tfrecord_loads_with_tfds(tmp_path, store, monkeypatch):
    monkeypatch.setattr(label_export, "EXAMPLES_PER_FILE", 10)
    figures = export.run(config_of(store, "tfrecord", tmp_path / "out"))
    assert figures["images"] == COUNT and figures["rows"] == COUNT * len(VIEWS)

    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(tmp_path / "out")
    assert builder.info.splits["train"].num_examples == COUNT * len(VIEWS)
    assert builder.info.splits["train"].num_shards == 3
    in_order = tfds.ReadConfig(interleave_cycle_length=1)
    rows = list(builder.as_dataset(split="train", read_config=in_order).as_numpy_iterator())
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    columns["view"] = [view.decode() for view in columns["view"]]
    assert_rows_are_those_of(store, **columns)


def test_parquet_loads_with_pyarrow(tmp_path, store):
    import pyarrow.parquet

    export.run(config_of(store, "parquet", tmp_path / "out"))
    file = pyarrow.parquet.ParquetFile(tmp_path / "out" / "labels.parquet")
    assert file.num_row_groups == 3
    assert_rows_are_those_of(store, **file.read().to_pydict())


def test_csv_keeps_every_bit(tmp_path, store):
    export.run(config_of(store, "csv", tmp_path / "out"))
    with open(tmp_path / "out" / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = {
        "index": [int(row["index"]) for row in rows],
        "view": [row["view"] for row in rows],
        "top_k": [[int(row[f"class_{rank}"]) for rank in (1, 2, 3)] for row in rows],
        "log_probs": [[np.float16(row[f"log_prob_{rank}"]) for rank in (1, 2, 3)] for row in rows],
        "log_tail": [np.float16(row["log_tail"]) for row in rows],
    }
    assert_rows_are_those_of(store, **numbers)


def test_names_come_from_the_images(tmp_path):

    cache = ("--images", "shapes", "--limit", COUNT, "--cache", tmp_path / "cache")
    images = store_of("shapes", limit=COUNT, cache=tmp_path / "cache")
    files = images.description["files"]
    spec = LabelSpec(images.fingerprint, files["images.npy"], files["names.txt"], COUNT, COUNT, (), 50, (), K)
    store = create_labels(tmp_path / "labels", spec)
    store.write_shard(Span(0, COUNT), random_labels(COUNT, views=1))
    export.run(config_of(store, "csv", tmp_path / "out", *cache))
    with open(tmp_path / "out" / "labels.csv", newline="", encoding="utf-8") as file:
        assert [row["name"] for row in csv.DictReader(file)] == images.names

    export.run(config_of(store, "tfrecord", tmp_path / "tfrecord", *cache))
    import tensorflow_datasets as tfds

    rows = tfds.builder_from_directory(tmp_path / "tfrecord").as_dataset(split="train").as_numpy_iterator()
    assert [row["name"].decode() for row in rows] == images.names
    other = ("--images", "shapes", "--split", "valid", "--limit", COUNT, "--cache", tmp_path / "cache")
    with pytest.raises(UserError, match="belong to other images"):
        export.run(config_of(store, "csv", tmp_path / "other", *other))


def test_the_program_writes_the_forms_that_its_flag_offers():
    assert tuple(label_export.FORMS) == export.LABEL_FORMS
    assert tuple(model_export.WRITERS) == tuple(model_export.OPENERS) == export.NETWORK_FORMS


@pytest.mark.parametrize("form", export.LABEL_FORMS)
def test_a_damaged_shard_is_named_and_nothing_is_left(tmp_path, store, form):
    shard = sorted(store.directory.glob("labels-*.npz"))[1]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(
        UserError, match=f"4 of 11 images have no labels .first: 4.; damaged: {shard.name} does not have"
    ):
        export.run(config_of(store, form, tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["labels"]


@pytest.mark.parametrize("form", export.LABEL_FORMS)
def test_a_failure_in_the_middle_leaves_nothing_and_the_next_export_is_whole(tmp_path, store, monkeypatch, form):
    read = LabelStore.read

    def fails_at_the_second(self, path):
        if "labels-00000004" in path.name:
            raise OSError(28, "No space left on device")
        return read(self, path)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(LabelStore, "read", fails_at_the_second)
        export.run(config_of(store, form, tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["labels"]
    assert export.run(config_of(store, form, tmp_path / "out"))["rows"] == COUNT * len(VIEWS)


def test_what_a_killed_export_left_goes_away(tmp_path, store):
    killed = tmp_path / ".out.00000000.scratch"
    (killed / "content" / "inside").mkdir(parents=True)
    (killed / "content" / "labels.csv").write_text("half")
    (killed / MARK).touch()
    export.run(config_of(store, "csv", tmp_path / "out"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels", "out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["labels.csv", "spec.json"]


def test_two_exports_to_one_place_do_not_mix(tmp_path, store):
    with (
        pytest.raises(UserError, match="out exists already; remove it or give another directory"),
        new_directory(tmp_path / "out") as slower,
    ):
        (slower / "labels.csv").write_text("of the slower one")
        export.run(config_of(store, "csv", tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["labels.csv", "spec.json"]
    assert (tmp_path / "out" / "labels.csv").read_text() != "of the slower one"


def test_the_same_export_again_leaves_what_is_there_and_nothing_is_overwritten(tmp_path, store):
    figures = export.run(config_of(store, "csv", tmp_path / "out"))
    numbers = {path: path.stat().st_ino for path in (tmp_path / "out").iterdir()}
    assert export.run(config_of(store, "csv", tmp_path / "out")) == figures
    others = make_store(tmp_path / "others", shard=SHARD + 1)  # Other answers.
    with pytest.raises(UserError, match="out exists already; remove it or give another directory"):
        export.run(config_of(others, "csv", tmp_path / "out"))
    assert {path: path.stat().st_ino for path in (tmp_path / "out").iterdir()} == numbers


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_shards(tmp_path):
    peaks = []
    for shards in (2, 20):
        store = make_store(tmp_path / f"labels{shards}", count=300 * shards, shard=300, views=("identity",), k=10)
        tracemalloc.start()
        with new_directory(tmp_path / f"out{shards}") as directory:
            label_export.export(store, "csv", directory)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, store, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"--to parquet needs pyarrow .*: pip install pyarrow"):
        export.run(config_of(store, "parquet", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--to", "csv"], "give either --labels"),
        (["--to", "csv", "--labels", "a", "--run", "b"], "give either --labels"),
        (["--to", "onnx", "--labels", "a"], "--to onnx does not go with --labels; choose tfrecord, parquet, csv"),
        (["--to", "csv", "--run", "a"], "--to csv does not go with --run; choose savedmodel, litert, onnx"),
        (["--to", "onnx", "--run", "a", "--check", "0"], "--check is 0; it must be at least 1"),
    ],
)
def test_flags_that_do_not_go_together(argv, message):
    with pytest.raises(FlagError, match=message):
        export.run(command.parse(export.Config, [*argv, "--out", "o"], "export", ""))


def test_the_command_stopped_by_a_signal_leaves_nothing(tmp_path, store):
    code = (
        "import os, signal, sys\n"
        "from jobs import command, export\n"
        "from labeling.labels import LabelStore\n"
        "read = LabelStore.read\n"
        "def stopping(self, path):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return read(self, path)\n"
        "LabelStore.read = stopping\n"
        "command.main(export.Config, export.run, '', sys.argv[1:])\n"
    )
    argv = ["--labels", store.directory, "--to", "csv", "--out", tmp_path / "out"]
    ended = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=False)
    assert ended.returncode == 75
    assert "nothing is left of the unfinished export; run the same command again" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["labels"]


def test_names_that_a_spreadsheet_would_compute_are_text_in_the_csv_and_as_they_are_elsewhere(tmp_path):
    names = ["=cmd()", "-0.5", "a=b"]
    store = create_labels(tmp_path / "labels", LabelSpec("d", "1", "2", 3, 3, (), 50, (), K))
    store.write_shard(Span(0, 3), random_labels(3, views=1))
    written = {}
    for form in ("csv", "tfrecord"):
        (tmp_path / form).mkdir()
        label_export.export(store, form, tmp_path / form, names)
        written[form] = tmp_path / form
    with open(written["csv"] / "labels.csv", newline="", encoding="utf-8") as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["'=cmd()", "-0.5", "a=b"]
    import tensorflow_datasets as tfds

    rows = tfds.builder_from_directory(written["tfrecord"]).as_dataset(split="train").as_numpy_iterator()
    assert [row["name"].decode() for row in rows] == names


def fails(capsys, store, form, out):
    """What the command says, in its one line."""
    argv = ["--labels", str(store.directory), "--to", form, "--out", str(out), "--quiet"]
    with pytest.raises(SystemExit) as end:
        command.main(export.Config, export.run, "", argv)
    said = capsys.readouterr().err
    assert end.value.code == 1 and said.count("\n") == 1
    return said


@pytest.mark.parametrize("form", ["tfrecord", "csv"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, store, capsys, form):
    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk", "4k"):
        said = fails(capsys, store, form, tmp_path / "disk" / "out")
        assert "No space left on device" in said and "check the path, its permissions and the free space" in said
        assert "nobody foresaw" not in said
        assert list((tmp_path / "disk").iterdir()) == []


def test_a_path_that_tensorflow_cannot_write_is_refused(tmp_path, store, capsys):
    out = tmp_path / os.fsdecode(b"\xff")
    assert "is no UTF-8, which TensorFlow needs; give another --out" in fails(capsys, store, "tfrecord", out)
    export.run(config_of(store, "csv", out))
    assert {path.name for path in out.iterdir()} == {"labels.csv", "spec.json"}


@pytest.mark.long
def test_tfrecords_have_the_same_bytes_each_time(tmp_path, store):
    """The order of an example's features differs from process to process, as Python's hashes do."""
    code = "import sys; from jobs import command, export; command.main(export.Config, export.run, '', sys.argv[1:])"
    found = []
    for seed in ("1", "2"):
        argv = ["--labels", store.directory, "--to", "tfrecord", "--out", tmp_path / seed, "--quiet"]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code, *argv], env=environment, check=True, capture_output=True)
        found.append(contents(tmp_path / seed))
    assert found[0] == found[1]
