"""ImageNet's classes by name, and the list of them that comes with the program."""

import zipfile

import pytest

from jobs import list_imagenet_classes
from tfpipeline.images import find_imagenet_class, imagenet_name, imagenet_names, resized_order
from tfpipeline.images.imagenet import CLASSES_FILE
from tfpipeline.system import UserError


def test_the_list_has_the_thousand_ids_that_another_package_ships():
    assert list(imagenet_names()) == sorted(resized_order())
    assert imagenet_name("n02883205") == "bow tie, bow-tie, bowtie"
    assert imagenet_name("my class") == "my class"


@pytest.mark.parametrize(
    ("text", "wnid"),
    [
        ("n01440764", "n01440764"),
        ("bow tie", "n02883205"),
        ("Bow_Tie", "n02883205"),
        ("golden-retriever", "n02099601"),
        ("tench, Tinca tinca", "n01440764"),
        ("Tinca tinca", "n01440764"),
        ("white shark", "n01484850"),
        ("crane", None),  # a bird and a machine
        ("panther", None),  # the leopard's and the cougar's second name
        ("cat", None),
        ("", None),
    ],
)
def test_a_class_is_found_by_any_name_that_is_its_own(text, wnid):
    assert find_imagenet_class(text) == wnid


def wheel(path, ids, names):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("timm/data/_info/imagenet_synsets.txt", "\n".join(ids))
        text = "".join(f"{wnid}\t{name}\n" for wnid, name in names.items())
        archive.writestr("timm/data/_info/imagenet_synset_to_lemma.txt", text)
    return str(path)


def test_the_list_is_written_from_a_wheel(tmp_path):
    source = wheel(tmp_path / "timm.whl", imagenet_names(), {"n00004475": "organism, being", **imagenet_names()})
    out = tmp_path / "imagenet.csv"
    config = list_imagenet_classes.Config(wheel=source, out=str(out))
    assert list_imagenet_classes.run(config)["classes"] == 1000
    assert out.read_bytes() == CLASSES_FILE.read_bytes()


def test_a_wheel_that_lists_otherwise_is_refused(tmp_path):
    short = wheel(tmp_path / "short.whl", list(imagenet_names())[:9], imagenet_names())
    (tmp_path / "torn.whl").write_bytes(b"PK")
    for source, message in ((short, "does not list 1,000 classes"), (str(tmp_path / "torn.whl"), "is no wheel")):
        with pytest.raises(UserError, match=message):
            list_imagenet_classes.run(list_imagenet_classes.Config(wheel=source, out=str(tmp_path / "out.csv")))
    assert not (tmp_path / "out.csv").exists()
