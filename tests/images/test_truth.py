"""The truth csv: joined by file name, refused where it does not match."""

import pytest

from tfpipeline.images.truth import classes_of_folders, join_csv
from tfpipeline.system.errors import UserError

NAMES = ["set/1.png", "set/2.png", "set/3.png"]
ROWS = "file,wnid,class_index\n3.png,n02,1\n1.png,n01,0\nset/2.png,n02,1\n"


def write(tmp_path, text, classes=None):
    (tmp_path / "truth.csv").write_text(text, encoding="utf-8")
    if classes:
        (tmp_path / "classes.csv").write_text("class_index,wnid,name\n" + classes)
    return tmp_path / "truth.csv"


def test_rows_belong_to_whole_or_base_names_in_any_order(tmp_path):
    assert join_csv(NAMES, write(tmp_path, ROWS)) == ([0, 1, 1], (("n01", "n01"), ("n02", "n02")))


def test_classes_beside_it_give_names(tmp_path):
    path = write(tmp_path, ROWS, '1,n02,"shark, white"\n0,n01,tench\n2,n03,ray\n')
    assert join_csv(NAMES, path)[1] == (("n01", "tench"), ("n02", "shark, white"), ("n03", "ray"))


@pytest.mark.parametrize(
    ("text", "classes", "message"),
    [
        ("file,wnid,class_index\n1.png,n01,0\n", None, "2 images without a row, the first set/2.png"),
        (ROWS + "4.png,n01,0\n5.png,n01,0\n", None, "2 rows without an image, the first 4.png"),
        (ROWS + "1.png,n01,0\n", None, "line 5: a second row for 1.png"),
        (ROWS + "set/1.png,n01,0\n", None, "two rows belong to the image set/1.png"),
        (ROWS.replace("n01,0", "n01,x"), None, "line 3: class_index is 'x'"),
        (ROWS.replace("n01,0", "n01,-1"), None, "line 3: class_index is '-1'"),
        (
            ROWS.replace("n01,0", "n01,1"),
            None,
            "3.png has wnid n02 and class_index 1, but class 1 is n01|1.png has wnid",
        ),
        (ROWS.replace("1.png,n01,0", "1.png"), None, "line 3: fewer columns"),
        (ROWS.replace("class_index", "label"), None, "no column class_index"),
        (ROWS, "0,n01,tench\n2,n02,shark\n", "class_index must run from 0 to 1"),
        (ROWS, "0,n01,tench\n1,n09,shark\n", "wnid n02 and class_index 1, but class 1 is n09"),
        (ROWS, "0,n01,tench\n", "class_index 1, but class 1 is no class"),
    ],
)
def test_what_does_not_match_is_named(tmp_path, text, classes, message):
    with pytest.raises(UserError, match=message):
        join_csv(NAMES, write(tmp_path, text, classes))


def test_a_base_name_that_fits_two_images_is_refused(tmp_path):
    path = write(tmp_path, "file,wnid,class_index\n1.png,n01,0\n")
    with pytest.raises(UserError, match=r"1.png fits 2 images \(a/1.png, b/1.png, ...\)"):
        join_csv(["a/1.png", "b/1.png"], path)


def test_a_missing_or_binary_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        join_csv(NAMES, tmp_path / "truth.csv")
    (tmp_path / "truth.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is no csv file in UTF-8"):
        join_csv(NAMES, tmp_path / "truth.csv")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["b/1", "a/2"], ([1, 0], (("a", "a"), ("b", "b")))),
        (["x/y/b/1", "x/y/a/2"], ([1, 0], (("a", "a"), ("b", "b")))),
        (["a/1", "a/2"], (None, ())),
        (["a/1", "2"], (None, ())),
        (["1", "2"], (None, ())),
    ],
)
def test_folders_tell_classes_where_every_image_lies_in_one_of_several(names, expected):
    assert classes_of_folders(names) == expected
