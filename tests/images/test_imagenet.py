"""ImageNet's classes by name, and the list of them that comes with the program."""

import pytest

from jobs import list_imagenet_classes
from tests.support.timm_wheel import write_timm_wheel
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


def test_the_list_is_written_from_a_wheel(tmp_path):
    source = tmp_path / "timm.whl"
    write_timm_wheel(source, imagenet_names(), {"n00004475": "organism, being", **imagenet_names()})
    out = tmp_path / "imagenet.csv"
    config = list_imagenet_classes.Config(wheel=str(source), out=str(out))
    assert list_imagenet_classes.run(config)["classes"] == 1000
    assert out.read_bytes() == CLASSES_FILE.read_bytes()


def test_a_wheel_that_lists_otherwise_is_refused(tmp_path):
    write_timm_wheel(tmp_path / "short.whl", list(imagenet_names())[:9], imagenet_names())
    (tmp_path / "torn.whl").write_bytes(b"PK")
    for name, message in (("short.whl", "does not list 1,000 classes"), ("torn.whl", "is no wheel")):
        config = list_imagenet_classes.Config(wheel=str(tmp_path / name), out=str(tmp_path / "out.csv"))
        with pytest.raises(UserError, match=message):
            list_imagenet_classes.run(config)
    assert not (tmp_path / "out.csv").exists()
