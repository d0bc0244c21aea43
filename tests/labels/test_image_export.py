"""Labels with their images, read back by others: Hugging Face's layout by our own source of it, folders by Keras."""

import json

import keras
import numpy as np
import pyarrow.parquet
import pytest

from jobs import command, export
from labeling.labels import image_export
from labeling.labels.span import Span
from labeling.labels.spec import LabelSpec
from labeling.labels.store import create_labels
from tests.support.images import source_of, store_of
from tests.support.images_on_disk import encoded, pixels_of, write_folder
from tfpipeline.batches import Answers
from tfpipeline.system.errors import FlagError, UserError

COUNT, K = 11, 3
NAMES = ("crane", "eel, or/and snake", "crane", ".dog", "cat")


def random_answers(n, seed):
    p = np.random.default_rng(seed).dirichlet(np.full(len(NAMES), 0.4), n)
    top_k = np.argsort(-p, axis=-1)[:, :K]
    top = np.take_along_axis(p, top_k, -1)
    answers = Answers(top_k[:, None], np.log(top)[:, None], np.log(1 - top.sum(-1))[:, None])
    return Answers(
        *(array.astype(kind) for array, kind in zip(answers.arrays().values(), ("u2", "f2", "f2"), strict=True))
    )


@pytest.fixture
def place(tmp_path):
    """A folder with photos and a label store of them."""
    names = [f"{'ab'[i % 2]}/{i:02d} ü.png" for i in range(COUNT)]
    write_folder(tmp_path / "photos", {name: encoded(pixels_of(i, 6, 6)) for i, name in enumerate(names)})
    images = store_of(f"folder:{tmp_path / 'photos'}", cache=tmp_path / "cache")
    files = images.description["files"]
    teachers = ({"name": "t", "fingerprint": "f" * 64, "interpolation": "bilinear", "weight": 1.0},)
    spec = LabelSpec(
        images.fingerprint, files["images.npy"], files["names.txt"], COUNT, 4, teachers, len(NAMES), NAMES, K
    )
    store = create_labels(tmp_path / "labels", spec)
    for span in store.spans:
        store.write_shard(span, random_answers(span.images, span.first))
    return tmp_path


def run(place, form, *more):
    argv = ["--labels", place / "labels", "--images", f"folder:{place / 'photos'}", "--cache", place / "cache"]
    argv += ["--to", form, "--out", place / "out", "--quiet", *more]
    return export.run(command.parse(export.Config, list(map(str, argv)), "export", ""))


def stored(place):
    """(image store, answers, probability of the first of each)"""
    from labeling.labels.store import open_labels

    answers = open_labels(place / "labels").read_all().view(0)
    images = store_of(f"folder:{place / 'photos'}", cache=place / "cache")
    return images, answers, np.exp(answers.log_probs[:, 0].astype(float))


@pytest.mark.parametrize("above", [0.0, 0.7])
def test_hugging_faces_layout_is_read_back(place, monkeypatch, above):
    monkeypatch.setattr(image_export, "IMAGES_PER_FILE", 8)
    images, answers, confidence = stored(place)
    kept = np.flatnonzero(confidence >= above)
    assert len(kept) > 0 and (above == 0 or len(kept) < COUNT)
    assert run(place, "huggingface", "--above", above)["rows"] == len(kept)
    source = source_of(f"parquet:{place / 'out'}")
    assert source.classes[0][0] == "crane (0)" and source.classes[2][0] == "crane (2)"
    found = list(source)
    assert [truth for _, _, truth in found] == answers.first[kept].tolist()
    np.testing.assert_array_equal([pixels for _, pixels, _ in found], images.images[kept])
    table = pyarrow.parquet.read_table(place / "out" / "data")
    assert [image["path"] for image in table["image"].to_pylist()] == [images.names[i] for i in kept]
    p = np.array(table["probabilities"].to_pylist())
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-6)
    top = np.exp(answers.log_probs[kept].astype(float))
    np.testing.assert_allclose(np.take_along_axis(p, answers.top_k[kept].astype(int), 1), top, atol=2e-3)
    assert json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]["probabilities"]["length"] == 5


@pytest.mark.parametrize("above", [0.0, 0.7])
def test_a_folder_for_each_class_holds_links_to_the_originals(place, above):
    images, answers, confidence = stored(place)
    kept = np.flatnonzero(confidence >= above)
    assert run(place, "imagefolder", "--above", above)["rows"] == len(kept)
    folders = ["crane (0)", "eel, or_and snake", "crane (2)", "dog", "cat"]
    assert (place / "out" / "classes.txt").read_text().splitlines() == folders
    found = {}
    for folder in filter(lambda path: path.is_dir(), (place / "out").iterdir()):
        for link in folder.iterdir():
            assert link.is_symlink()
            found[link.resolve().relative_to(place / "photos").as_posix()] = folders.index(folder.name)
    assert found == {images.names[i]: int(answers.first[i]) for i in kept}
    read = keras.utils.image_dataset_from_directory(str(place / "out"), image_size=(6, 6), verbose=False)
    assert read.class_names == sorted({folders[i] for i in answers.first[kept]})


def test_the_same_export_again_ends_well_and_one_of_fewer_images_is_refused(place):
    assert run(place, "imagefolder", "--above", 0.5) == run(place, "imagefolder", "--above", 0.5)
    for above in (0.0, 0.7):
        with pytest.raises(UserError, match="out exists already; remove it or give another directory"):
            run(place, "imagefolder", "--above", above)


def test_images_that_are_no_files_are_written(tmp_path):
    images = store_of("shapes", limit=2, size=8, cache=tmp_path / "cache")
    files = images.description["files"]
    spec = LabelSpec(images.fingerprint, files["images.npy"], files["names.txt"], 2, 2, (), len(NAMES), NAMES, K)
    create_labels(tmp_path / "labels", spec).write_shard(Span(0, 2), random_answers(2, 0))
    argv = ["--labels", tmp_path / "labels", "--images", "shapes", "--limit", 2, "--size", 8, "--to", "imagefolder"]
    argv += ["--cache", tmp_path / "cache", "--out", tmp_path / "out", "--quiet"]
    export.run(command.parse(export.Config, list(map(str, argv)), "export", ""))
    written = {path.name: path for path in (tmp_path / "out").glob("*/*.png")}
    assert sorted(written) == ["00000000-train-0000000.png", "00000001-train-0000001.png"]
    pixels = np.asarray(keras.utils.load_img(written["00000001-train-0000001.png"]))
    np.testing.assert_array_equal(pixels, images.images[1])


@pytest.mark.parametrize("form", export.IMAGE_FORMS)
def test_a_damaged_shard_is_named_and_nothing_is_left(place, form):
    shard = sorted((place / "labels").glob("labels-*.npz"))[1]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"4 of 11 images have no labels"):
        run(place, form)
    assert sorted(path.name for path in place.iterdir()) == ["cache", "labels", "photos"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--to", "imagefolder"], "--to imagefolder needs the labeled images; give --images"),
        (["--to", "csv", "--above", "0.5"], "--above does not go with --to csv"),
        (["--to", "huggingface", "--above", "1.5"], r"--above is 1\.5; it must be in 0\.\.1"),
    ],
)
def test_flags_that_do_not_go_together(argv, message):
    with pytest.raises(FlagError, match=message):
        command.parse(export.Config, ["--labels", "l", "--out", "o", *argv], "export", "")


def test_the_program_writes_the_forms_that_its_flag_offers():
    assert tuple(image_export.IMAGE_FORMS) == export.IMAGE_FORMS


def test_class_names_that_lead_out_or_are_too_long_are_folders_inside(tmp_path):
    images = store_of("shapes", limit=2, size=8, cache=tmp_path / "cache")
    files, names = images.description["files"], ("...", "../../x", "..", "名" * 300, "/etc")
    spec = LabelSpec(images.fingerprint, files["images.npy"], files["names.txt"], 2, 2, (), len(names), names, K)
    create_labels(tmp_path / "labels", spec).write_shard(Span(0, 2), random_answers(2, 0))
    argv = ["--labels", tmp_path / "labels", "--images", "shapes", "--limit", 2, "--size", 8, "--to", "imagefolder"]
    argv += ["--cache", tmp_path / "cache", "--out", tmp_path / "in" / "out", "--quiet"]
    export.run(command.parse(export.Config, list(map(str, argv)), "export", ""))
    folders = (tmp_path / "in" / "out" / "classes.txt").read_text(encoding="utf-8").splitlines()
    assert folders == ["_ (0)", "_.._x", "_ (2)", "名" * 60, "_etc"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["out"]
    assert all(path.parent.parent == tmp_path / "in" / "out" for path in (tmp_path / "in").rglob("*.png"))
