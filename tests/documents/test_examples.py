"""The examples that --help shows are executed as they stand, one after another in one directory.

What is smaller than they say stands in FEWER and in SMALL_RECIPE.
"""

import importlib
import shlex
import shutil

import pytest

from jobs import command, demo, experiment
from jobs.__main__ import list_commands
from jobs.training import sweep
from tests.support.images_on_disk import encoded, pixels_of, write_folder
from tests.support.repository import ROOT
from tests.support.timm_wheel import write_timm_wheel
from tfpipeline.images.imagenet import imagenet_names
from tfpipeline.system import flags

# Values of flags in the place of the defaults. In this order, and then the other jobs by name: what comes later reads
# what came before.
FEWER = {
    "label_imagenet64": {"limit": 60},
    "label_quality": {"limit": 60},
    "compare_interpolations": {"limit": 60, "sample": 20, "rows": 2},
    "show_augmentation": {"limit": 10},
    "train": {"limit": 60, "validation_limit": 30, "epochs": 1, "batch_size": 20},
    "evaluate": {},
    "experiment": {},
    "report": {},
    "export": {"check": 20, "limit": 60},
    "train_bundled_teacher": {"images": 300, "validation_images": 20, "epochs": 1},
    "demo": {"images": 100, "validation_images": 20, "epochs": 2},
}
NEEDS_OPTIONAL_PACKAGES = {"make_zero_shot_teacher"}
# In the place of recipes/exp1_1.toml.
SMALL_RECIPE = """
about = "one run"
[flags]
labels = "truth"
[small]
images = "shapes"
validation_split = "valid"
validation_limit = 20
limit = 40
size = 16
batch_size = 20
epochs = 1
[runs]
exp1_1_L2_K32 = { network = "mlp", network_options = ["hidden_dims=4"] }
"""


def run_here(name, words):
    """What `run_job` does in a process of its own."""
    job = importlib.import_module(f"jobs.{name}")
    return job.run(command.parse(job.Config, words, name, job.EXAMPLE))


def run_examples(name):
    """Runs each example of a job in the current directory."""
    job = importlib.import_module(f"jobs.{name}")
    for line in job.EXAMPLE.splitlines():
        words = shlex.split(line)[3:]
        config = command.parse(job.Config, words, name, job.EXAMPLE, getattr(job, "recall", None))
        assert job.run(flags.change(config, **FEWER.get(name, {}))), f"{line.strip()} printed no figures"


def label_photos(directory):
    """Makes what the second example of jobs.label_quality reads."""
    write_folder(directory / "photos", {f"{number}.png": encoded(pixels_of(number, 64, 64)) for number in range(8)})
    for out in ("labels/a", "labels/b"):
        words = ["--images", "folder:photos", "--teacher", "bundled", "--no-gate", "--out", out]
        run_here("label_imagenet64", words)


def write_new_photos(directory):
    """Makes what the examples of jobs.predict read, but for the run of the example of jobs.train."""
    shutil.copytree(directory / "runs" / "shapes", directory / "runs" / "photos")
    new = {place: encoded(pixels_of(2, 80, 70), "JPEG") for place in ("photos/new/0.jpg", "a.jpg", "b.png")}
    write_folder(directory, new)


@pytest.mark.slow
@pytest.mark.long
def test_every_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFPIPELINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(sweep, "RECIPES", tmp_path)
    for job in (demo, experiment):
        monkeypatch.setattr(job, "run_job", run_here)
    (tmp_path / "exp1_1.toml").write_text(SMALL_RECIPE)
    label_photos(tmp_path)
    write_timm_wheel(tmp_path / "timm-1.0.31-py3-none-any.whl", imagenet_names(), imagenet_names())
    (tmp_path / "tfpipeline" / "images").mkdir(parents=True)  # Where the list goes in a clone.
    others = list_commands().keys() - FEWER.keys() - NEEDS_OPTIONAL_PACKAGES
    for name in [*FEWER, *sorted(others)]:
        if name == "predict":
            write_new_photos(tmp_path)
        run_examples(name)
    words = experiment.spell_out(shlex.split(experiment.EXAMPLE_OF_ONE)[4:])
    figures = experiment.run_one(command.parse(experiment.OneRun, words, "run-exp", ""))
    assert figures["runs"]["test"]["steps"] == 2
    for path in (
        "runs/exp1_1-small/table.md",
        "runs/test/model.keras",
        "shapes.tflite",
        "quality",
        "demo/run/report.png",
    ):
        assert (tmp_path / path).exists()


@pytest.mark.extras
def test_every_example_of_a_zero_shot_teacher_runs(tmp_path, monkeypatch):
    from tests.support.tiny_pair import save_pair  # needs onnx and tokenizers

    monkeypatch.chdir(tmp_path)
    for folder in ("clip-vit-base-patch32", "clip"):
        save_pair(tmp_path / folder)
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    for name in NEEDS_OPTIONAL_PACKAGES:
        run_examples(name)
    assert (tmp_path / "pets.onnx").is_file()
