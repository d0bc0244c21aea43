"""jobs.predict: names and probabilities for files and folders, at the size that a run learned from."""

import csv
import json
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

from jobs import command, predict, train
from tests.support.images_on_disk import encoded, write_folder
from tests.support.repository import ROOT
from tfpipeline.images.decoding import decode
from tfpipeline.system import FlagError, UserError
from tfpipeline.system.flags import from_flat

CLASSES = ("bow_tie", "Goldfish", "other, or none")


def photo(number, channel, height=9, width=14):
    pixels = np.random.default_rng(number).integers(0, 90, (height, width, 3), dtype=np.uint8)
    pixels[..., channel] += 150
    return encoded(pixels)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(place, run) of a network that learned the true classes of three folders, from squares of 8 pixels."""
    place = tmp_path_factory.mktemp("predict")
    files = {f"{CLASSES[i % 3]}/{i:02d}.png": photo(i, i % 3) for i in range(24)}
    flags = {
        "images": f"folder:{write_folder(place / 'photos', files)}",
        "size": 8,
        "labels": "truth",
        "hold_out": "none",
        "cache": str(place / "cache"),
        "network": "patchify_net",
        "network_options": ("patch_size=4", "filters=4", "hidden=8"),
        "run": str(place / "run"),
        "epochs": 1,
        "batch_size": 8,
        "quiet": True,
    }
    train.run(from_flat(train.Config, flags))
    return place, place / "run"


def predicted(run, *images, **flags):
    return predict.run(from_flat(predict.Config, {"run": str(run), "images": images, "quiet": True, **flags}))


def rows_of(directory):
    with open(directory / "predictions.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_files_of_any_size_are_named_in_order_as_keras_answers(finished, tmp_path, capsys):
    _, run = finished
    contents = {"big.png": photo(100, 2, 50, 31), "small.jpg": photo(101, 0, 5, 6), "ü =1.png": photo(102, 1)}
    write_folder(tmp_path, contents)
    figures = predicted(run, *(str(tmp_path / name) for name in contents), out=str(tmp_path / "out"))
    pixels = np.stack([decode(content, 8) for content in contents.values()]).astype(np.float32)
    expected = keras.ops.softmax(keras.models.load_model(run / "model.keras")(pixels)).numpy()
    rows = rows_of(tmp_path / "out")
    assert [row["file"] for row in rows] == [str(tmp_path / name) for name in contents]
    names = ["Goldfish", "bow_tie", "other"]  # Sorted as the folders are; names end at a comma.
    for row, p in zip(rows, expected, strict=True):
        assert [row[f"class_{rank}"] for rank in (1, 2, 3)] == [names[index] for index in np.argsort(-p)]
        np.testing.assert_allclose([float(row[f"probability_{rank}"]) for rank in (1, 2, 3)], -np.sort(-p), atol=2e-6)
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == [row["file"] for row in rows]
    assert [line["answers"][0]["class"] for line in lines] == [row["class_1"] for row in rows]
    assert lines[0]["answers"][0]["class_index"] == expected[0].argmax()
    assert (tmp_path / "out" / "predictions.png").read_bytes().startswith(b"\x89PNG")
    assert figures["images"] == 3 and figures["skipped"] == 0
    assert f"{names[expected[0].argmax()]} {expected[0].max():6.1%}" in capsys.readouterr().out


@pytest.mark.slow
def test_files_and_folders_come_in_the_order_in_which_they_are_named(finished, tmp_path):
    place, run = finished
    write_folder(tmp_path, {"a.png": photo(7, 0)})
    spec = f"folder:{place / 'photos'}"
    figures = predicted(run, str(tmp_path / "a.png"), spec, limit=23, cache=str(place / "cache"))
    assert (figures["images"], figures["out"]) == (24, str(run / "predictions"))
    files = [row["file"] for row in rows_of(run / "predictions")]
    assert files[0] == str(tmp_path / "a.png") and files[1].startswith("Goldfish/")


def test_what_cannot_be_read_is_named_or_left_out(finished, tmp_path):
    _, run = finished
    write_folder(tmp_path, {"a.png": photo(7, 0), "torn.png": photo(8, 1)[:60]})
    both = [str(tmp_path / name) for name in ("a.png", "torn.png")]
    with pytest.raises(UserError, match=r"image .*torn.png is truncated.*--skip-broken leaves"):
        predicted(run, *both, out=str(tmp_path / "out"))
    with pytest.raises(UserError, match=r"no such image file: .*gone.jpg; check the path after --images"):
        predicted(run, str(tmp_path / "gone.jpg"), out=str(tmp_path / "out"))
    with pytest.raises(FlagError, match=r"--size 9: the network of .* takes images of 8 pixels a side"):
        predicted(run, both[0], size=9, out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    figures = predicted(run, *both, skip_broken=True, out=str(tmp_path / "out"))
    assert (figures["images"], figures["skipped"]) == (1, 1)


def test_flags_that_must_be_given(capsys):
    for argv, message in (
        (["--run", "r"], "--images is missing; give it once or several times"),
        (["--images", "a"], "--run"),
    ):
        with pytest.raises(FlagError, match=message):
            command.parse(predict.Config, argv, "predict", predict.EXAMPLE)


def test_the_network_carries_what_it_needs_and_a_card(finished):
    _, run = finished
    with zipfile.ZipFile(run / "model.keras") as archive:
        said = json.loads(archive.read("metadata.json"))["description"]
    assert said["class_names"] == ["Goldfish", "bow_tie", "other"] and said["input_size"] == [8, 8]
    card = (run / "model_card.md").read_text(encoding="utf-8")
    assert "tells 3 classes apart: Goldfish, bow_tie, other." in card
    assert f"python -m jobs.train --images folder:{run.parent / 'photos'} --size 8 --labels truth" in card
    assert "--hold-out none" in card and "--quiet" not in card


@pytest.mark.long
def test_keras_says_what_is_missing_where_the_layers_are_not_registered(finished):
    load = "import sys, keras; keras.models.load_model(sys.argv[1])"
    for code, is_missing in ((load, True), (f"import models.networks; {load}", False)):
        argv = [sys.executable, "-c", code, str(finished[1] / "model.keras")]
        child = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        assert bool(child.returncode) == is_missing, child.stderr
        assert ("pip install it, then import models.networks" in child.stderr) == is_missing
