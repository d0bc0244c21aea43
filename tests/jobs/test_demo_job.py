"""The demo replaces what a demo made, and nothing else."""

import pytest

from jobs import demo
from tfpipeline.system.errors import UserError


def test_a_directory_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match=r"--out .* holds thesis.txt, which no demo made; give a directory of its own"):
        demo.run(demo.Config(out=str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("part", demo.PARTS)
def test_a_directory_without_the_mark_is_no_demos_whatever_its_parts_are_called(tmp_path, part):
    (tmp_path / part).mkdir()
    (tmp_path / part / "mine").write_text("precious")
    with pytest.raises(UserError, match=f"holds {part}, which no demo made"):
        demo.clear(tmp_path)
    assert (tmp_path / part / "mine").read_text() == "precious"


def test_what_lies_beside_an_earlier_demo_is_refused_before_anything_is_removed(tmp_path):
    demo.clear(tmp_path / "demo")
    (tmp_path / "demo" / "run").mkdir()
    (tmp_path / "demo" / "notes").touch()
    with pytest.raises(UserError, match="holds notes"):
        demo.clear(tmp_path / "demo")
    assert (tmp_path / "demo" / "run").is_dir()


def test_what_an_earlier_demo_made_is_removed(tmp_path):
    demo.clear(tmp_path / "demo")
    (tmp_path / "demo" / "run" / "checkpoints").mkdir(parents=True)
    demo.clear(tmp_path / "demo")
    assert [path.name for path in (tmp_path / "demo").iterdir()] == [demo.MARK]


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / "demo").write_text("precious")
    with pytest.raises(UserError, match=r"--out .*demo is no directory; give another one"):
        demo.clear(tmp_path / "demo")
    assert (tmp_path / "demo").read_text() == "precious"
