"""jobs.evaluate and jobs.report on the run of a small network."""

import csv
import json
import pathlib
from types import SimpleNamespace

import numpy as np
import pytest

from jobs import evaluate, report, train
from tfpipeline.errors import UserError
from tfpipeline.progress import SILENT


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(config of a finished run on 48 shapes with the truth as labels, the figures of its training)."""
    directory = tmp_path_factory.mktemp("evaluate")
    config = train.Config(
        images="shapes",
        limit=48,
        size=16,
        labels="truth",
        run=str(directory / "run"),
        cache=str(directory / "cache"),
        network="conv_classifier",
        network_options=("filters_per_layer=4", "hidden_dims=8"),
        epochs=2,
        batch_size=16,
        validation_limit=30,
        quiet=True,
    )
    return config, train.run(config)


def evaluation_of(trained, **changes):
    config, _ = trained
    flags = {"images": "shapes", "split": "valid", "size": 16, "limit": 30, "cache": config.cache, "quiet": True}
    return evaluate.run(evaluate.Config(run=config.run, **{**flags, **changes}))


def test_evaluation_repeats_the_figures_of_the_last_epoch(trained, capsys):
    figures = evaluation_of(trained)
    assert figures["images"] == 30
    assert figures["top1"] == trained[1]["validation_top1"]
    assert figures["top5"] == trained[1]["validation_top5"]
    assert f"top1  {100 * figures['top1']:5.1f} %" in capsys.readouterr().out


def test_tables_and_pictures_are_written(trained, tmp_path):
    figures = evaluation_of(trained, out=str(tmp_path))
    pictures = {"confusion.png", "reliability.png", "mistakes.png"}
    assert {path.name for path in tmp_path.iterdir()} == pictures | {"per_class.csv"}
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    with open(tmp_path / "per_class.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows[:2]] == ["arrow", "bolt"]
    assert sum(int(row["images"]) for row in rows) == 30
    assert sum(int(row["right"]) for row in rows) == round(30 * figures["top1"])


def test_the_confusion_matrix_counts_pairs():
    from tfpipeline.evaluation import Answers

    answers = Answers(np.array([[1, 0], [1, 0], [0, 1], [2, 0]]), np.ones(4))
    counted = evaluate.confusion(answers, np.array([0, 1, 1, -1]), 3)
    np.testing.assert_array_equal(counted, [[0, 1, 0], [1, 1, 0], [0, 0, 0]])


def test_the_report_is_one_page_with_its_pictures_inside(trained):
    config, _ = trained
    evaluation_of(trained)
    figures = report.run(report.Config(run=config.run, quiet=True))
    page = pathlib.Path(figures["html"]).read_text()
    assert page.count('src="data:image/png;base64,') == 4
    assert "http" not in page
    assert "<th>--network</th><td>conv_classifier</td>" in page
    assert pathlib.Path(figures["png"]).read_bytes().startswith(b"\x89PNG")
    assert json.loads(json.dumps(figures))["epochs"] == 2


@pytest.mark.parametrize(
    ("broken", "message"),
    [("missing", "model.keras is not there: finish the training"), ("damaged", "model.keras does not load")],
)
def test_a_run_without_a_whole_network_is_refused(tmp_path, broken, message):
    if broken == "damaged":
        (tmp_path / "model.keras").write_bytes(b"PK no archive")
    with pytest.raises(UserError, match=message):
        evaluate.load_model(tmp_path)


def test_a_report_needs_a_finished_epoch(tmp_path):
    with pytest.raises(UserError, match="holds no finished epoch"):
        report.run(report.Config(run=str(tmp_path), quiet=True))


def test_labels_of_another_number_of_classes_are_refused(tmp_path, monkeypatch):
    from labeling import label_store

    stored = SimpleNamespace(spec=SimpleNamespace(classes=1000))
    monkeypatch.setattr(label_store, "open_labels", lambda _directory: stored)
    with pytest.raises(UserError, match="--labels theirs count 1,000 classes, the network 12; give labels"):
        evaluate.teacher_answers("theirs", None, 12, None)


def test_a_truth_that_counts_other_classes_is_refused_unless_names_tell_how_they_belong_together():
    store = SimpleNamespace(classes=[("b", "bolt"), ("a", "arrow")], truth=np.array([0, 1, -1], np.int32))
    with pytest.raises(UserError, match="the truth counts 2 classes, the network 3; give the --labels"):
        evaluate.truth_of(store, None, 3, SILENT)
    spec = SimpleNamespace(class_names=("arrow", "circle", "bolt"), classes=3)
    np.testing.assert_array_equal(evaluate.truth_of(store, spec, 3, SILENT), [2, 0, -1])
    assert evaluate.class_names(store, 3, spec) == ["arrow", "circle", "bolt"]
