"""What a run holds out, and what jobs.evaluate takes when nothing is named."""

import json
import pathlib
import re
import unicodedata

import numpy as np
import pytest

from jobs import evaluate, report, train
from labeling.labels.spec import LabelSpec
from labeling.labels.store import create_labels
from tests.support.images import store_of
from tests.support.images_on_disk import encoded, pixels_of, write_folder
from tests.support.processes import finished as run_in_process
from tfpipeline.batches import Answers
from tfpipeline.images import hold_out_mask
from tfpipeline.system import FlagError, UserError
from tfpipeline.system.flags import from_flat
from tfpipeline.training import checkpoint, run_directory

pytestmark = pytest.mark.slow

COUNT, CLASSES = 60, ("ant", "bee", "cow")
NAMES = [f"{CLASSES[i % 3]}/{i:02d}.png" for i in range(COUNT)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with a folder of pictures for each class, and nothing that tells splits apart."""
    directory = tmp_path_factory.mktemp("photos") / "photos"
    return write_folder(directory, {name: encoded(pixels_of(i, 6, 6)) for i, name in enumerate(NAMES)})


def trained(photos, run, **changes):
    values = {"images": f"folder:{photos}", "labels": "truth", "run": str(run), "cache": str(photos.parent / "cache")}
    values |= {"network": "mlp", "network_options": ("hidden_dims=4",), "epochs": 1, "batch_size": 9, "quiet": True}
    return train.run(from_flat(train.Config, values | changes))


def evaluated(run, **flags):
    return evaluate.run(from_flat(evaluate.Config, {"run": str(run), "quiet": True, **flags}))


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    """(run directory, figures) of a training that nobody told what to validate on."""
    run = tmp_path_factory.mktemp("run") / "run"
    return run, trained(photos, run)


def test_a_new_run_that_is_told_nothing_holds_a_tenth_out(photos, finished):
    run, figures = finished
    held_out = int(hold_out_mask(sorted(NAMES), 0.1, 0).sum())
    assert 0 < held_out < COUNT / 4 and figures["validation_top1"] is not None
    assert figures["steps"] == (COUNT - held_out) // 9
    assert figures["parameters"] == 6 * 6 * 3 * 4 + 4 + 4 * 3 + 3
    saved = json.loads((run / "config.json").read_text())
    assert saved["flags"]["hold_out"] == saved["experiment"]["hold_out"] == "10%"
    assert saved["class_names"] == list(CLASSES)
    assert evaluated(run)["images"] == held_out


def test_an_evaluation_that_is_told_nothing_repeats_the_figures_of_the_training(finished):
    run, figures = finished
    again = evaluated(run)
    assert (again["top1"], again["top5"]) == (figures["validation_top1"], figures["validation_top5"])
    assert again["out"] == str(run / "evaluation")
    assert json.loads((run / "evaluation" / "evaluation.json").read_text())["top1"] == again["top1"]


def test_a_run_that_began_without_holding_out_goes_on_so(photos, tmp_path):
    first = trained(photos, tmp_path / "run", hold_out="none", schedule="constant")
    assert first["validation_top1"] is None and first["steps"] == COUNT // 9
    more = trained(photos, tmp_path / "run", resume=True, epochs=2, schedule="constant")
    assert more["validation_top1"] is None and more["steps"] == 2 * (COUNT // 9)
    assert more["seconds"] > first["seconds"], "the seconds of both count"
    with pytest.raises(UserError, match=r"hold_out was None and is 10%"):
        trained(photos, tmp_path / "run", resume=True, epochs=2, schedule="constant", hold_out="10%")


def test_the_labels_of_held_out_images_are_not_learned_but_agreed_with(photos, tmp_path):
    store = store_of(f"folder:{photos}", cache=photos.parent / "cache")
    files = store.description["files"]
    teacher = ({"name": "t", "fingerprint": "f" * 64, "interpolation": "bilinear", "weight": 1.0},)
    spec = LabelSpec(store.fingerprint, files["images.npy"], files["names.txt"], COUNT, COUNT, teacher, 3, CLASSES, 3)
    labels = create_labels(tmp_path / "labels", spec)
    top = np.stack([(store.truth + i) % 3 for i in range(3)], -1)[:, None].astype(np.uint16)
    log_probs = np.log(np.tile([0.7, 0.2, 0.1], (COUNT, 1, 1))).astype(np.float16)
    labels.write_shard(labels.spans[0], Answers(top, log_probs, np.full((COUNT, 1), -np.inf, np.float16)))
    figures = trained(photos, tmp_path / "run", labels=str(tmp_path / "labels"))
    assert figures["teacher_top1"] == 1.0, "its answers to the held-out images are theirs, not their neighbors'"
    assert evaluated(tmp_path / "run")["agreement_top1"] == figures["agreement_top1"] is not None


@pytest.mark.parametrize(
    ("flags", "error", "text"),
    [
        ({"hold_out": "0%"}, FlagError, "--hold-out 0% is no share of the images"),
        (
            {"hold_out": "10%", "validation_split": "train"},
            FlagError,
            "--hold-out 10% and --validation-split both",
        ),
        ({"validation_split": "valid"}, FlagError, "has no split 'valid'; give --split train"),
        (
            {"validation_split": "train"},
            UserError,
            "60 of 60 validation images have the pixels of images that",
        ),
        ({"validation_split": "train[:50%]"}, UserError, "30 of 30 validation images have the pixels"),
    ],
)
def test_figures_that_would_be_too_good_are_refused(photos, tmp_path, flags, error, text):
    with pytest.raises(error, match=re.escape(text)):
        trained(photos, tmp_path / "run", **flags)
    assert not (tmp_path / "run").exists()


def test_slices_that_share_nothing_are_taken_and_an_overlap_where_it_is_allowed(photos, tmp_path):
    parted = trained(photos, tmp_path / "parted", split="train[:90%]", validation_split="train[90%:]")
    assert parted["validation_top1"] is not None
    allowed = trained(photos, tmp_path / "allowed", validation_split="train", allow_overlap=True)
    assert allowed["validation_top1"] is not None


def test_fewer_images_than_a_batch_are_a_batch(photos, tmp_path):
    assert trained(photos, tmp_path / "run", batch_size=1000, epochs=3)["steps"] == 3


def test_validation_images_that_are_the_images_themselves_hold_a_share_out(photos, finished, tmp_path):
    spec, (_, as_told_nothing) = f"folder:{photos}", finished
    figures = trained(photos, tmp_path / "run", validation_images=spec)
    assert figures["weights_sha256"] == as_told_nothing["weights_sha256"]
    assert figures["validation_top1"] == as_told_nothing["validation_top1"]
    again = trained(photos, tmp_path / "run", validation_images=spec, resume=True)
    assert again["weights_sha256"] == figures["weights_sha256"]
    named = evaluated(tmp_path / "run", images=spec)
    assert named == evaluated(tmp_path / "run"), "not the images that it was trained on"
    assert evaluated(tmp_path / "run", limit=2)["images"] == 2
    assert evaluated(tmp_path / "run", split="train")["images"] == COUNT
    allowed = trained(photos, tmp_path / "all", validation_images=spec, allow_overlap=True)
    assert evaluated(tmp_path / "all")["images"] == COUNT == allowed["steps"] * 9 + COUNT % 9


def test_other_images_have_an_evaluation_of_their_own_and_classes_are_matched_by_name(photos, finished, tmp_path):
    run, _ = finished
    before = evaluated(run)
    files = {path.name: path.read_bytes() for path in (run / "evaluation").iterdir()}
    more = {f"{name}/{i}.png": encoded(pixels_of(100 + i, 6, 6)) for i, name in enumerate(("cow", "ant", "yak"))}
    spec = f"folder:{write_folder(tmp_path / 'more', more)}"
    figures = evaluated(run, images=spec, cache=str(tmp_path / "cache"))
    assert figures["images"] == 3 and figures["out"] == str(run / "evaluation-more-train")
    assert {path.name: path.read_bytes() for path in (run / "evaluation").iterdir()} == files
    others = {f"{name}/{i}.png": encoded(pixels_of(200 + i, 6, 6)) for i, name in enumerate(("dog", "eel", "fox"))}
    with pytest.raises(UserError, match="of other classes than the network learned: class 0 is dog there and ant here"):
        evaluated(run, images=f"folder:{write_folder(tmp_path / 'others', others)}", cache=str(tmp_path / "cache"))
    assert evaluated(run) == before


def test_a_class_is_the_same_however_its_accents_are_composed(tmp_path):
    forms = {form: [unicodedata.normalize(form, name) for name in ("café", "thé")] for form in ("NFC", "NFD")}
    folders = {}
    for number, (form, names) in enumerate(forms.items()):
        files = {f"{names[i % 2]}/{i}.png": encoded(pixels_of(40 * number + i, 6, 6)) for i in range(12)}
        folders[form] = write_folder(tmp_path / form, files)
    there = {"validation_images": f"folder:{folders['NFD']}"}
    assert trained(folders["NFC"], tmp_path / "run", **there)["validation_top1"] is not None
    assert evaluated(tmp_path / "run")["images"] == 12
    rows = (tmp_path / "run" / "evaluation" / "per_class.csv").read_text().splitlines()[1:]
    assert [row.split(",")[2] for row in rows] == ["6", "6"], "no image counts as unknown"


def test_an_evaluation_at_another_size_than_the_networks_is_refused(finished):
    with pytest.raises(UserError, match=r"--size 9: the network of .* takes images of 6 pixels a side"):
        evaluated(finished[0], size=9)


def test_a_network_that_the_run_has_left_behind_is_refused(photos, tmp_path):
    trained(photos, tmp_path / "run", hold_out="none", schedule="constant")
    model = (tmp_path / "run" / "model.keras").read_bytes()
    figures = (tmp_path / "run" / "figures.json").read_bytes()
    trained(photos, tmp_path / "run", hold_out="none", schedule="constant", epochs=2, resume=True)
    assert (tmp_path / "run" / "model.keras").read_bytes() != model
    (tmp_path / "run" / "model.keras").write_bytes(model)  # As a kill before the end of the second session leaves it.
    (tmp_path / "run" / "figures.json").write_bytes(figures)
    for job in (evaluate, report):
        with pytest.raises(UserError, match=r"is the network after step 6, and the run has gone on to step 12 since"):
            job.run(from_flat(job.Config, {"run": str(tmp_path / "run"), "quiet": True}))


def test_equal_weights_are_equal_files(photos, tmp_path):
    for name in ("one", "two"):  # In processes of their own: within one, Keras numbers the layers on.
        run_in_process(tmp_path / f"{name} said", trained, photos, tmp_path / name)
    files = [(tmp_path / name / "model.keras").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]


def test_a_loss_that_is_not_finite_is_on_record(photos, tmp_path):
    with pytest.raises(UserError, match=r"the loss of step 1 is nan"):
        trained(photos, tmp_path / "run", optimizer="sgd", learning_rate=1e30)
    assert run_directory.read_figures(tmp_path / "run")["diverged_at_step"] == 1
    assert not checkpoint.newest_first(pathlib.Path(tmp_path / "run" / "checkpoints"))
