"""jobs.evaluate and jobs.report on the run of a small network."""

import csv
import dataclasses
import json
import pathlib
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from jobs import evaluate, report, train
from jobs.reports import evaluation as reports
from jobs.reports import page as pages
from jobs.reports import run as run_report
from jobs.reports.pages import describe_evaluation
from jobs.reports.sweep import write_origin
from jobs.training import finished
from jobs.training.data import hash_of_names
from jobs.training.finished import LearnedClasses, config_of
from jobs.training.model_card import card
from jobs.training.model_file import load_model
from tests.support.console import RecordingConsole
from tests.support.images import store_of
from tests.support.pages import check_page, commands_in
from tests.support.worlds import HELD_OUT, World
from tfpipeline import pictures
from tfpipeline.batches import Answers
from tfpipeline.system.console import SILENT
from tfpipeline.system.errors import FlagError, UserError
from tfpipeline.system.flags import from_flat
from tfpipeline.training import Predictions, run_directory

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(config of a finished run on 48 shapes with the truth as labels, the figures of its training)."""
    directory = tmp_path_factory.mktemp("evaluate")
    values = {
        "images": "shapes",
        "limit": 48,
        "size": 16,
        "labels": "truth",
        "run": str(directory / "run"),
        "cache": str(directory / "cache"),
        "network": "conv_classifier",
        "network_options": ("filters_per_layer=4", "hidden_dims=8"),
        "epochs": 2,
        "batch_size": 16,
        "validation_limit": 30,
        "quiet": True,
    }
    return values, train.run(from_flat(train.Config, values))


def evaluation_of(trained, **changes):
    values, _ = trained
    flags = {"images": "shapes", "split": "valid", "size": 16, "limit": 30, "cache": values["cache"], "quiet": True}
    return evaluate.run(from_flat(evaluate.Config, {"run": values["run"], **flags, **changes}))


def test_evaluation_repeats_the_figures_of_the_last_epoch(trained, capsys):
    figures = evaluation_of(trained)
    assert figures["images"] == 30
    assert figures["top1"] == trained[1]["validation_top1"]
    assert figures["top5"] == trained[1]["validation_top5"]
    assert f"top1  {100 * figures['top1']:5.1f} %" in capsys.readouterr().out


def test_tables_and_pictures_are_written(trained, tmp_path):
    figures = evaluation_of(trained, out=str(tmp_path))
    pictures = {"confusion.png", "reliability.png", "mistakes.png"}
    assert {path.name for path in tmp_path.iterdir()} == pictures | {"per_class.csv", "evaluation.json"}
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    with open(tmp_path / "per_class.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows[:2]] == ["arrow", "bolt"]
    assert sum(int(row["images"]) for row in rows) == 30
    assert sum(int(row["right"]) for row in rows) == round(30 * figures["top1"])


def evaluated(top, truth, names, teacher=None):
    probabilities = np.linspace(0.9, 0.5, len(top), dtype=np.float32)[:, None]
    return reports.Evaluated(Predictions(np.array(top)[:, None], probabilities), np.array(truth), teacher, names)


def test_confusions_count_pairs_the_most_frequent_first():
    row, column, images = reports.confusions(evaluated([1, 1, 0, 2, 1], [0, 1, 1, -1, 0], list("abc")))
    assert list(zip(row.tolist(), column.tolist(), images.tolist(), strict=True)) == [(0, 1, 2), (1, 0, 1), (1, 1, 1)]


def test_the_table_counts_each_class_and_names_its_most_frequent_mistake(tmp_path):
    top, truth = [0, 1, 1, 2, 2, 0], np.array([0, 0, 0, 0, 2, -1])
    reports.write_per_class(tmp_path / "table.csv", evaluated(top, truth, list("abc")))
    assert (tmp_path / "table.csv").read_text().splitlines()[1:] == [
        "0,a,4,1,0.2500,b,2",
        "1,b,0,0,,,0",
        "2,c,1,1,1.0000,,0",
    ]


def test_of_many_classes_the_most_frequent_confusions_are_shown(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "save", lambda figure, _path: drawn.append(figure))
    truth = np.repeat([3, 5, 999], [4, 2, 1])
    names = [f"class {index}" for index in range(1000)]
    reports.write_confusion(tmp_path, evaluated([7, 7, 7, 3, 5, 3, 7], truth, names))
    (axis,) = drawn[0].axes
    assert axis.get_title().startswith("28.6% of 7 images are answered as the truth says")
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == ["class 3 → class 7", "class 5 → class 3", "class 999 → class 7"]
    assert [bar.get_width() for bar in axis.patches] == [3, 1, 1]
    assert {"3 (75%)", "1 (50%)", "1 (100%)"} == {text.get_text() for text in axis.texts}


def test_mistakes_are_shown_with_the_truth_the_teacher_and_the_student(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "save", lambda figure, _path: drawn.append(figure))
    images = np.zeros((3, 4, 4, 3), np.uint8)
    teacher = Answers(np.array([[1], [0], [0]]), np.log([[0.75], [0.5], [0.25]]), np.log([0.25, 0.5, 0.75]))
    for truth, expected in (
        ([0, 0, 1], ["ant\nT 75% bee\nS 90% bee", "bee\nT 25% ant\nS 50% ant"]),
        ([-1, -1, -1], ["T 50% ant\nS 70% bee"]),
    ):
        top = [1, 0 if truth[0] == 0 else 1, 0]
        reports.write_mistakes(tmp_path, images, evaluated(top, truth, ["ant", "bee"], teacher))
        assert [axis.texts[0].get_text() for axis in drawn.pop().axes if axis.texts] == expected


def test_the_report_is_one_page_with_its_pictures_inside(trained):
    evaluation_of(trained)
    figures = report.run(report.Config(run=trained[0]["run"], quiet=True))
    page = pathlib.Path(figures["html"]).read_text()
    assert page.count('src="data:image/png;base64,') == run_report.SAMPLES + 6
    check_page(page)
    assert '<th scope="row">--network</th><td>conv_classifier</td>' in page
    assert f"<dt>true top-1</dt><dd>{trained[1]['validation_top1']:.1%}</dd>" in page
    assert commands_in(page)[0].startswith("python -m jobs.train --images shapes --size 16 --limit 48 --labels truth")
    assert "✓ the student is right" in page and re.search("[✓✗] arrow<br>S [0-9]+% ", page)
    assert all(word in page for word in ("prefers-color-scheme: dark", "Worst mistakes", "tensorflow", "aria-sort"))
    texts = re.findall(r'<img[^>]* alt="([^"]+)"', page)
    learning = texts[run_report.SAMPLES : run_report.SAMPLES + 3]
    assert [text.split(" by epoch: ")[0] for text in learning] == list(run_report.PANELS)
    assert re.match(r"loss per image \(nats\) by epoch: in training from \S+ to \S+; held-out images from", learning[0])
    assert re.search(r"<p>The network after step 6, images [0-9a-f]{12}, labels [0-9a-f]{12}, validation images ", page)
    assert pathlib.Path(figures["png"]).read_bytes().startswith(b"\x89PNG")
    assert json.loads(json.dumps(figures))["epochs"] == 2


def test_an_evaluation_has_a_page_of_its_own(trained):
    evaluation_of(trained)
    run = pathlib.Path(trained[0]["run"])
    figures = report.run(report.Config(evaluation=str(run / "evaluation"), quiet=True))
    page = pathlib.Path(figures["html"]).read_text()
    check_page(page)
    assert f"<dt>true top-1</dt><dd>{trained[1]['validation_top1']:.1%}</dd>" in page and "the truth says" in page
    assert commands_in(page)[-1].startswith(f"python -m jobs.evaluate --run {run} --images shapes --split valid")
    assert len(re.findall('<img alt="(Confusion|Worst mistakes|Calibration): ', page)) == 3
    assert "<td>arrow</td>" in page and "mistaken for" in page


def test_a_table_that_is_not_as_it_was_written_is_left_out_by_name(trained, tmp_path):
    evaluation_of(trained, out=str(tmp_path))
    (tmp_path / "per_class.csv").write_text("class_index,name\n0,evil\n")
    said = RecordingConsole()
    page = describe_evaluation(tmp_path, said)
    assert "per_class.csv is not as jobs.evaluate wrote it" in said.lines[0]
    assert [section.title for section in page.sections[:4]][-1] == "Environment"


def test_a_sweep_has_a_page_with_its_runs_and_their_curves(trained, tmp_path):
    for name in ("slow", "fast", "wild"):
        shutil.copytree(trained[0]["run"], tmp_path / name)
    run_directory.write_figures(tmp_path / "wild", {"diverged_at_step": 3, "problem": "the loss is NaN at step 3"})
    (tmp_path / "fast" / "figures.json").unlink()
    runs = {"slow": "--learning-rate 0.001", "fast": "--learning-rate 0.1", "wild": "--learning-rate 10"}
    command = "python -m jobs.experiment --sweep rates"
    write_origin(tmp_path, {"about": "Rates", "scale": "--epochs 2", "command": command, "runs": runs})
    figures = report.run(report.Config(sweep=str(tmp_path), quiet=True))
    page = pathlib.Path(figures["html"]).read_text()
    check_page(page)
    assert commands_in(page) == [command]
    assert f"<dt>highest true top-1: slow</dt><dd>{trained[1]['validation_top1']:.1%}</dd>" in page
    assert "wild diverged: the loss is NaN" in page and "<td>fast</td>" not in page
    assert "<td>--learning-rate 0.001</td>" in page and 'alt="held-out loss (nats) by epoch: slow from ' in page
    (tmp_path / "sweep.json").write_text('{"runs": []}')
    with pytest.raises(UserError, match=r"sweep\.json is damaged \(it is not what it must be\); the same jobs\.exp"):
        report.run(report.Config(sweep=str(tmp_path), quiet=True))


@pytest.mark.parametrize("kind", report.KINDS)
def test_a_directory_of_another_kind_is_refused_with_its_own_flag(tmp_path, kind):
    with pytest.raises(FlagError, match=f"--{kind} {tmp_path} has no .*json, which jobs.* writes; give a directory of"):
        report.run(report.Config(**{kind: str(tmp_path)}))
    other = next(name for name in report.KINDS if name != kind)
    (tmp_path / report.KINDS[other][0]).touch()
    with pytest.raises(FlagError, match=f"; give --{other} {tmp_path}$"):
        report.run(report.Config(**{kind: str(tmp_path)}))


def test_a_report_is_of_one_thing():
    for wrong in ({}, {"run": "a", "labels": "b"}):
        with pytest.raises(FlagError, match="of --run, --labels, --evaluation and --sweep are given; give one"):
            report.Config(**wrong)


def test_pictures_that_are_not_as_they_were_written_are_left_out_by_name(trained, tmp_path):
    evaluation_of(trained, out=str(tmp_path))
    run, said = pathlib.Path(trained[0]["run"]), RecordingConsole()
    names = ["confusion.png", "mistakes.png", "reliability.png"]
    assert [path.name for path in reports.pictures_of_network(tmp_path, run, said)] == names and said.lines == []
    picture = bytearray((tmp_path / names[0]).read_bytes())
    picture[len(picture) // 2] ^= 1
    (tmp_path / names[0]).write_bytes(picture)
    assert [path.name for path in reports.pictures_of_network(tmp_path, run, said)] == names[1:]
    assert f"{tmp_path / names[0]} is not as jobs.evaluate wrote it, and is left out" in said.lines[0]
    origin = json.loads((tmp_path / "evaluation.json").read_text())
    assert (origin["step"], origin["labels"]) == (6, None)
    other = shutil.copytree(run, tmp_path / "other")
    with open(other / "model.keras", "ab") as file:
        file.write(b"0")
    assert reports.pictures_of_network(tmp_path, other, said) == []
    assert (
        f"left out: {tmp_path / 'evaluation.json'} is of another network than {other} has now; jobs.ev" in said.lines[1]
    )
    (tmp_path / "evaluation.json").write_text(json.dumps(origin | {"top1": 1.0}))
    assert reports.pictures_of_network(tmp_path, run, said) == []
    assert f"{tmp_path / 'evaluation.json'} is damaged (it does not have the hash that it names)" in said.lines[2]


def test_the_card_has_no_figures_of_another_network_s_evaluation(trained, tmp_path):
    run = shutil.copytree(trained[0]["run"], tmp_path / "run")
    model = load_model(run)
    (run / "evaluation").mkdir(exist_ok=True)
    run_directory.write_evaluation(run / "evaluation", run, {"top1": 0.98765, "count": 7})
    assert "98.8%" in card(run, model) and "the 7 images" in card(run, model)
    with open(run / "model.keras", "ab") as file:
        file.write(b"0")
    assert "98.8%" not in card(run, model)


@pytest.mark.parametrize("epochs", [2, 3])
def test_an_older_network_of_a_run_that_does_not_say_when_it_ended_is_refused(trained, tmp_path, epochs):
    """A run of version 0.1 that was extended and killed; the checkpoints tell."""
    run = shutil.copytree(trained[0]["run"], tmp_path / "run")
    (run / "figures.json").unlink()
    config = run_directory.read_config(run)
    run_directory.write_config(run, config | {"flags": config["flags"] | {"epochs": epochs}})
    if epochs == 2:
        assert load_model(run).output_shape == (None, 12)
    else:
        with pytest.raises(UserError, match=r"model\.keras is an earlier network, and the run has gone on to step 6"):
            load_model(run)


def test_the_report_names_the_classes_as_the_labels_do(tmp_path):
    world = World(names=("c", "a", "b")).build(tmp_path)
    flags = {name.replace("-", "_"): value for name, value in world.items()}
    flags |= {"run": str(tmp_path), "cache": str(tmp_path / "cache"), "augment": "replay"}
    run_directory.write_config(tmp_path, {"flags": flags})
    sample = run_report.draw_sample(config_of(flags), tmp_path, SILENT)
    assert sample.names == ["c", "a", "b"] and len(sample.images.images) == HELD_OUT
    assert [sample.names[index] for index in dict.fromkeys(sample.images.truth.tolist())] == ["a", "b", "c"]
    unknown = dataclasses.replace(sample.images, truth=np.full(HELD_OUT, -1, np.int32))
    (tmp_path / "model.keras").write_bytes(b"")
    answers = Predictions(sample.images.answers.first[:, None], np.full((HELD_OUT, 1), 0.5))
    history = [{"epoch": 1, "step": 2, "loss": 1.0, "agreement_top1": 0.25}]
    shown = run_report.Sample(unknown, sample.names)
    pages.write(run_report.describe(shown, answers, tmp_path, {"flags": flags}, history, SILENT), tmp_path / "page")
    page = (tmp_path / "page").read_text()
    assert "No truth is known. T, the answer" in page and "✓ the student answers as the teacher" in page
    assert "true top-1" not in page and "<dt>same answer as the teacher</dt><dd>25.0%</dd>" in page
    assert page.count('<figcaption class="right">✓ T ') == HELD_OUT


@pytest.mark.parametrize(
    ("broken", "message"),
    [("missing", "model.keras is not there: finish the training"), ("damaged", "model.keras does not load")],
)
def test_a_run_without_a_whole_network_is_refused(tmp_path, broken, message):
    if broken == "damaged":
        (tmp_path / "model.keras").write_bytes(b"PK no archive")
    with pytest.raises(UserError, match=message):
        load_model(tmp_path)


def test_a_report_needs_a_finished_epoch(tmp_path):
    run_directory.write_config(tmp_path, {"flags": {}})
    with pytest.raises(UserError, match="holds no finished epoch"):
        report.run(report.Config(run=str(tmp_path), quiet=True))


def test_labels_of_another_number_of_classes_are_refused(tmp_path, monkeypatch):
    stored = SimpleNamespace(spec=SimpleNamespace(classes=1000))
    monkeypatch.setattr(finished, "open_joined", lambda *_: stored)
    with pytest.raises(UserError, match="--labels theirs count 1,000 classes, the network 12; give labels"):
        finished.read_answers("theirs", None, 12, None)


def test_a_truth_that_counts_other_classes_is_refused_unless_names_tell_how_they_belong_together():
    store = SimpleNamespace(classes=[("b", "bolt"), ("a", "arrow")], truth=np.array([0, 1, -1], np.int32))
    with pytest.raises(UserError, match="the truth counts 2 classes, the network 3; give the --labels"):
        LearnedClasses(3).truth_of(store, SILENT)
    spec = SimpleNamespace(class_names=("arrow", "circle", "bolt"), classes=3)
    np.testing.assert_array_equal(LearnedClasses(3, spec).truth_of(store, SILENT), [2, 0, -1])
    assert LearnedClasses(3, spec).short_names(store.classes) == ["arrow", "circle", "bolt"]


def test_a_truth_that_counts_the_classes_in_another_order_is_the_same_truth(trained, tmp_path):
    classes = store_of("shapes", limit=48, size=16, cache=trained[0]["cache"]).classes
    paths = pictures_of(tmp_path / "images", 4)

    def evaluated(names):
        rows = [f"{path.name},{classes[i][0]},{names.index(classes[i])}" for i, path in enumerate(paths)]
        (tmp_path / "truth.csv").write_text("\n".join(["file,wnid,class_index", *rows]))
        listed = [f"{i},{wnid},{name}" for i, (wnid, name) in enumerate(names)]
        (tmp_path / "classes.csv").write_text("\n".join(["class_index,wnid,name", *listed]))
        return evaluation_of(
            trained,
            images=f"folder:{tmp_path / 'images'}",
            split="train",
            limit=None,
            truth=str(tmp_path / "truth.csv"),
        )

    assert evaluated(classes) == evaluated(classes[::-1])


def test_where_a_run_does_not_name_its_classes_another_order_is_refused():
    store = SimpleNamespace(classes=[("b", "bolt"), ("a", "arrow")], truth=np.array([0, 1, -1], np.int32))
    learned = LearnedClasses(2, order=hash_of_names([("a", "arrow"), ("b", "bolt")]))
    with pytest.raises(UserError, match="names other classes, or in another order, than the one that the net"):
        learned.truth_of(store, SILENT)
    assert LearnedClasses(2, order=hash_of_names(store.classes)).truth_of(store, SILENT) is store.truth


def pictures_of(directory, count):
    """Paths of new gray pictures."""
    directory.mkdir()
    paths = [directory / f"{number}.png" for number in range(count)]
    for path in paths:
        Image.new("RGB", (16, 16), (128, 128, 128)).save(path)
    return paths
