"""The page of a label store: with the truth, without it, and where its images cannot be opened."""

import shutil

import pytest

from jobs import report
from jobs.reports import page as pages
from jobs.reports.pages import describe_labels
from jobs.training import labeling_command
from labeling.labels import open_labels, read_flags, write_flags
from tests.support import label_stores
from tests.support.console import RecordingConsole
from tests.support.pages import check_page, commands_in
from tests.support.worlds import COUNT, World
from tfpipeline.system.errors import UserError


@pytest.fixture
def world(tmp_path):
    """The flags of labeled images, whose label store knows them."""
    flags = World().build(tmp_path)
    store = open_labels(flags["labels"])
    told = {"images": flags["images"], "truth": flags["truth"], "cache": str(tmp_path / "cache"), "teacher": ["t"]}
    write_flags(store.directory, told)
    return flags


def page_of(directory):
    """(the text of the page, what was said)."""
    said = RecordingConsole()
    pages.write(describe_labels(directory, said), directory / "page")
    return (directory / "page").read_text(), said.lines


def test_with_the_truth_it_tells_where_the_teacher_is_right(world, tmp_path):
    report.run(report.Config(labels=world["labels"], quiet=True))
    page = (tmp_path / "labels" / "report.html").read_text()
    check_page(page)
    command = f"python -m jobs.label_imagenet64 --images {world['images']} --truth {world['truth']} --teacher t --out "
    assert commands_in(page) == [command + world["labels"]]
    assert "<dt>true top-1</dt>" in page and "✓ the teacher is right" in page and ">Calibration<" in page
    assert page.count("<figure>") == 2 * COUNT and "truly of the class" in page
    assert f"<dt>images labeled</dt><dd>{COUNT}</dd>" in page


def test_without_the_truth_it_speaks_of_the_teacher(world, tmp_path):
    (tmp_path / "labels" / "labeling.json").unlink()
    write_flags(tmp_path / "labels", {"images": world["images"], "cache": str(tmp_path / "cache")})
    page, said = page_of(tmp_path / "labels")
    assert "No truth is known. T, the answer of the teacher" in page and "○ nobody says whether" in page
    assert "true top-1" not in page and "✓ the teacher" not in page and ">Calibration<" not in page
    assert page.count('<figcaption class="unknown">○ T ') == 2 * COUNT
    assert said == [
        f"labels {tmp_path / 'labels'} are of the very same images, opened under another split or with other truth"
    ]


def test_without_its_images_it_has_the_classes_alone(world, tmp_path):
    shutil.rmtree(tmp_path / "train")
    page, said = page_of(tmp_path / "labels")
    check_page(page)
    assert page.count("<img") == 1 and "<figure>" not in page and ">Classes<" in page
    assert len(said) == 1 and said[0].startswith("no images are shown: ")


def test_labels_of_an_older_version_do_not_tell_their_images(tmp_path):
    page, said = page_of(open_labels(label_stores.labels(tmp_path)).directory)
    assert "Labels by t (enlarged: bilinear)." in page and commands_in(page) == []
    assert "as an older version made them: none are shown" in said[0]
    assert labeling_command(str(tmp_path)) is labeling_command("truth") is labeling_command(None) is None


def test_who_goes_on_with_labels_does_not_change_what_they_tell(tmp_path):
    write_flags(tmp_path, {"images": "shapes", "teacher": ["bundled"], "cache": "c"})
    write_flags(tmp_path, {"images": "other"})
    assert read_flags(tmp_path)["images"] == "shapes"
    expected = f"python -m jobs.label_imagenet64 --images shapes --teacher bundled --out {tmp_path}"
    assert labeling_command(str(tmp_path)) == expected


@pytest.mark.parametrize("damage", [b"shapes->shape5", b"flags->flagz"])
def test_damage_is_named(tmp_path, damage):
    write_flags(tmp_path, {"images": "shapes"})
    path = tmp_path / "labeling.json"
    path.write_bytes(path.read_bytes().replace(*damage.split(b"->")))
    with pytest.raises(
        UserError, match=r"labeling\.json is damaged \(it does not have the hash that it names\); remove"
    ):
        read_flags(tmp_path)
