"""Published classifiers by their short names, from a server that speaks TF-Hub's protocol and from its cache."""

import hashlib
import shutil

import pytest

from labeling.teachers import conventions, registry
from labeling.teachers.teacher import load_teacher
from tests.support.local_hub import serving
from tests.support.tiny_teachers import save_hub_module
from tfpipeline.system.errors import FlagError, UserError


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    """A SavedModel in the TF-Hub convention that takes images of any size."""
    return save_hub_module(tmp_path_factory.mktemp("hub") / "m", classes=1001, size=None)


@pytest.mark.parametrize("name", ["mobilenet_v2", "inception_v3", "efficientnet_v2_s"])
def test_a_short_name_is_fetched_fed_and_read_as_its_page_says(tmp_path, monkeypatch, module, name):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    known = registry.CLASSIFIERS[name]
    with serving({f"/{known.path}": module}) as address:
        monkeypatch.setattr(registry, "HOST", f"{address}/")
        teacher = load_teacher(f"hub:{name}")
        by_handle = load_teacher(known.handle)
    assert (teacher.name, teacher.size, teacher.classes) == (name, known.size, 1000)
    assert teacher.conventions == conventions.Conventions(known.size, "0..1", "logits", 1001, background=True)
    assert (by_handle.name, by_handle.fingerprint) == (name, teacher.fingerprint)


def test_a_short_name_is_found_in_the_cache_without_a_network(tmp_path, monkeypatch, module):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    handle = "https://tfhub.dev/google/tf2-preview/mobilenet_v2/classification/4"
    shutil.copytree(module, tmp_path / hashlib.sha1(handle.encode()).hexdigest())
    assert load_teacher("hub:mobilenet_v2").size == 224


def test_what_is_not_what_the_page_states_is_refused(tmp_path, monkeypatch, module):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    with serving({f"/{registry.CLASSIFIERS['bit_m_r50x1'].path}": module}) as address:
        monkeypatch.setattr(registry, "HOST", f"{address}/")
        with pytest.raises(FlagError, match="takes images of any size; give --teacher-size"):
            load_teacher("hub:bit_m_r50x1")
        with pytest.raises(
            UserError, match="answers 1,001 numbers, not the 1,000 that its page states; empty the cache"
        ):
            load_teacher("hub:bit_m_r50x1", size=64)


def test_a_host_that_does_not_answer_leaves_ways_out(tmp_path, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    with serving({}) as address:
        monkeypatch.setattr(registry, "HOST", f"{address}/")
        way = "kaggle:google/mobilenet-v2/tensorFlow2/tf2-preview-classification/4"
        with pytest.raises(UserError, match=f"hub:mobilenet_v2 could not be fetched .*403.* give --teacher {way}"):
            load_teacher("hub:mobilenet_v2")
        with pytest.raises(UserError, match="give --teacher kaggle:OWNER/MODEL/tensorFlow2/VARIATION/VERSION"):
            load_teacher("hub:nasnet_large")


def test_an_unknown_short_name_lists_the_known_ones():
    with pytest.raises(
        UserError, match=r"teacher hub:mobilenet_v9 is not known; hub:NAME knows mobilenet_v2, .*, bit_m"
    ):
        load_teacher("hub:mobilenet_v9")


@pytest.mark.parametrize("known", registry.CLASSIFIERS.values(), ids=registry.CLASSIFIERS)
def test_every_entry_is_known_by_each_of_its_handles(known):
    specs = [f"hub:{known.name}", known.handle, *([f"kaggle:{known.kaggle}"] if known.kaggle else [])]
    assert [registry.find_classifier(spec) for spec in specs] == [known] * len(specs)
    assert {registry.name_of(spec) for spec in specs} == {known.name}
    assert {registry.size_of(spec) for spec in specs} == {known.size}
    assert known.kaggle is None or known.kaggle.count("/") == 4


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("models/mine/", "mine"),
        ("models/classification", "classification"),
        ("bundled", "bundled"),
        ("https://tfhub.dev/google/imagenet/mobilenet_v2_035_128/classification/5", "mobilenet_v2_035_128"),
        ("kaggle:google/mobilenet-v2/tensorFlow2/100-224-classification/2", "100-224-classification"),
        ("keras:MobileNetV2", "keras:MobileNetV2"),
    ],
)
def test_names_for_tables(spec, name):
    assert registry.name_of(spec) == name
