"""The same images in every layout are labeled, trained on and evaluated to the same figures and weights."""

import functools
import json

import pytest
import tensorflow_datasets as tfds

from jobs import command, evaluate, label_imagenet64, train
from tests.support.images_on_disk import encoded, pixels_of, write_folder, write_tar
from tests.support.local_hugging_face import MAIN, serving
from tests.support.parquet import write_parquet
from tests.support.tiny_teachers import save_hub_module

NAMES = ("circle", "square", "star")
OF_THE_RUN = ("seconds", "images_per_second", "out", "run")  # figures that say when and where
SIZES = {"train": 8, "valid": 4}  # images of each class


def samples(split):
    """(pixels, class index) of each image of a split, those of a class together: four tinted squares."""
    first = 0 if split == "train" else 1000
    small = [pixels_of(first + i, 2, 2) for i in range(len(NAMES) * SIZES[split])]
    return [(pixels.repeat(8, 0).repeat(8, 1), i // SIZES[split]) for i, pixels in enumerate(small)]


def make_folder(root):
    for split in SIZES:
        paths = {f"{split}/{NAMES[c]}/{i:03d}.png": encoded(pixels) for i, (pixels, c) in enumerate(samples(split))}
        write_folder(root, paths)
    return f"folder:{root}"


def make_parquet(root):
    for split in SIZES:
        pixels, labels = zip(*samples(split), strict=True)
        contents = [encoded(each) for each in pixels]
        half = len(contents) // 2
        for i, part in enumerate((slice(None, half), slice(half, None))):
            path = root / "data" / f"{split}-{i:05d}-of-00002.parquet"
            write_parquet(path, contents[part], labels[part], list(NAMES), rows=5)
    return f"parquet:{root}"


def make_webdataset(root):
    root.mkdir()
    (root / "classnames.txt").write_text("\n".join(NAMES))
    for split in SIZES:
        files = {}
        for i, (pixels, class_index) in enumerate(samples(split)):
            files |= {f"{i:06d}.png": encoded(pixels), f"{i:06d}.json": json.dumps({"label": class_index}).encode()}
        write_tar(root / f"{split}-000000.tar", files)
    return f"webdataset:{root}"


def make_tfds(root, file_format):
    """A data set as TFDS prepares it, in its files of records."""
    features = {"image": tfds.features.Image(shape=(16, 16, 3)), "label": tfds.features.ClassLabel(names=NAMES)}
    identity = tfds.core.dataset_info.DatasetIdentity(
        name="drawn", version=tfds.core.Version("1.0.0"), data_dir=str(root / "drawn" / "1.0.0"), module_name=""
    )
    info = tfds.core.DatasetInfo(builder=identity, features=tfds.features.FeaturesDict(features))
    (root / "drawn" / "1.0.0").mkdir(parents=True)
    writer = tfds.core.SequentialWriter(info, 100, file_format=file_format)
    writer.initialize_splits(list(SIZES))
    for split in SIZES:
        writer.add_examples({split: [{"image": pixels, "label": c} for pixels, c in samples(split)]})
    writer.close_all()
    return "drawn"


MAKERS = {
    "parquet": make_parquet,
    "webdataset": make_webdataset,
    "array_record": functools.partial(make_tfds, file_format="array_record"),
    "tfrecord": functools.partial(make_tfds, file_format="tfrecord"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    directory = tmp_path_factory.mktemp("place")
    save_hub_module(directory / "teacher", classes=len(NAMES))
    return directory


def run(job, *argv):
    return job.run(command.parse(job.Config, [*map(str, argv), "--quiet"], "job", ""))


def figures_of(root, spec):
    """What labeling, training and evaluating the images of a spec give, without places and times."""
    images = ["--images", spec, "--cache", root / "cache"]
    if ":" not in spec:
        images += ["--data-dir", root]
    labels = ["--teacher", root.parent / "teacher", "--no-gate", "--out", root / "labels"]
    labeled = run(label_imagenet64, *images, *labels)
    trained = run(
        train,
        *(*images, "--labels", root / "labels", "--validation-split", "valid", "--run", root / "run"),
        *(
            "--network",
            "patchify_net",
            "--network-options",
            "patch_size=4",
            "--network-options",
            "hidden=8",
            "--epochs",
            1,
            "--batch-size",
            8,
        ),
    )
    evaluated = run(evaluate, "--run", root / "run", *images, "--split", "valid")
    return [
        {name: value for name, value in each.items() if name not in OF_THE_RUN}
        for each in (labeled, trained, evaluated)
    ]


@pytest.fixture(scope="module")
def of_folder(place):
    return figures_of(place / "folder", make_folder(place / "folder"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
def test_a_layout_gives_what_the_folder_gives(place, of_folder, kind):
    assert figures_of(place / kind, MAKERS[kind](place / kind)) == of_folder


@pytest.mark.extras
def test_a_data_set_of_the_hub_gives_what_the_folder_gives(place, of_folder, monkeypatch):
    from huggingface_hub import constants

    root = place / "hub"
    make_parquet(root)
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.parquet")}
    with serving("people/pets", {MAIN: files}) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        template = f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root / "fetched"))
        assert figures_of(root, "hf:people/pets") == of_folder
        assert sum("resolve" in path for path in hub.fetched) == len(files)
