"""docs/tutorial.md: its commands, one after the other, on photos of shapes and the bundled teacher, and its Python."""

import csv
import importlib
import json
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from jobs import command
from tests.support.images_on_disk import encoded, write_folder
from tests.support.repository import ROOT, commands
from tfpipeline.images import shapes

TEXT = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
PHOTOS, NEW = 90, 6
CLASSES = ("circle", "heart", "star")


def photo(index, split):
    """(class, JPEG of another size than the network takes) of a picture of shapes."""
    pixels, number = shapes.draw(0, split, index)
    side = 70 + 7 * (index % 5)
    return shapes.NAMES[number], encoded(
        np.asarray(Image.fromarray(pixels).resize((side, side + 9))), "JPEG", quality=95
    )


def photos_of(split, count):
    """name -> content of so many photos of three classes."""
    drawn = (photo(index, split) for index in range(1000))
    chosen = [(name, content) for name, content in drawn if name in CLASSES][:count]
    return {f"{name}/{number:03d}.jpg": content for number, (name, content) in enumerate(chosen)}


@pytest.mark.slow
@pytest.mark.long
def test_the_commands_of_the_tutorial_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFPIPELINE_CACHE", str(tmp_path / "cache"))
    write_folder(tmp_path / "photos", photos_of("train", PHOTOS))
    write_folder(tmp_path / "new", photos_of("valid", NEW))
    figures = {}
    for name, *argv in commands(TEXT):
        argv = ["bundled" if word == "keras:MobileNetV2" else "4" if word == "30" else word for word in argv]
        if "onnx" in argv and importlib.util.find_spec("tf2onnx") is None:
            continue
        if name == "label_imagenet64":
            argv += ["--no-gate"]  # Drawings of three kinds are too alike to tell how a teacher is fed.
        job = importlib.import_module(f"jobs.{name}")
        figures[name] = job.run(command.parse(job.Config, [*argv, "--quiet"], name, ""))
    assert figures["label_imagenet64"]["top1"] > 0.9  # The bundled teacher knows shapes.
    assert figures["evaluate"]["images"] < PHOTOS / 4 and figures["evaluate"]["relative_top1"] is not None
    with open("predicted/predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    model = tf.saved_model.load("exported/photos")
    contents = [(tmp_path / "new" / row["file"]).read_bytes() for row in rows]
    answer = model.signatures["encoded_images"](image_bytes=tf.constant(contents))
    assert [name.decode() for name in answer["names"][:, 0].numpy()] == [row["class_1"] for row in rows]
    stated = [float(row["probability_1"]) for row in rows]
    np.testing.assert_allclose(answer["probabilities"][:, 0], stated, atol=0.02)
    (tmp_path / "holiday.jpg").write_bytes(contents[0])
    names: dict = {}
    for lines in re.findall(r"```python\n(.*?)```", TEXT, re.S):
        if "onnx" in lines and not (tmp_path / "exported" / "photos.onnx").exists():
            continue
        capsys.readouterr()
        exec(lines, names)
        assert rows[0]["class_1"] in capsys.readouterr().out
    card = (tmp_path / "exported" / "model_card.md").read_text()
    assert "## Limits" in card and "    python -m jobs.label_imagenet64 --images folder:photos --size 64" in card
    assert json.loads((tmp_path / "predicted" / "predictions.jsonl").read_text().splitlines()[0])["answers"]
