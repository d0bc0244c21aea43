"""The truth csv: joined by file name, refused where it does not match."""

import csv
import io
import tracemalloc
import unicodedata

import pytest
from hypothesis import given, strategies

from tests.support.fuzz import fuzz
from tfpipeline.images.truth import classes_of_folders, join_csv, short_name
from tfpipeline.system.errors import UserError

FILES = ["1.png", "a/2.png", "b/2.png", "\u753b, \u50cf.png", "caf\u00e9.png", 'say "x".jpg', "a b.webp"]
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
        ("file,file,wnid,class_index\n1.png,2.png,n01,0\n", None, "has two columns file; it needs file, wnid"),
        (ROWS.replace("n02,1", "n01,1"), None, "the classes 0 and 1 are both called n01; give each a wnid"),
        (ROWS.replace("n02,1", "n02,999999"), None, "class_index goes up to 999,999, but only 2 classes have a row"),
        (ROWS.replace("n02,1", "n02,1000000"), None, "line 2: class_index is '1000000', not a number"),
        (ROWS.replace("n01,0", "n01,٣"), None, "line 3: class_index is '٣'"),
        (ROWS, "0,n01,tench\n1,n02,shark\n1,n03,ray\n", "classes.csv, line 4: a second row for class 1; remove one"),
        (ROWS, "0,n01,tench\n1,n02,shark\n2,n02,ray\n", "classes.csv: the classes 1 and 2 are both called n02"),
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


def test_few_rows_may_tell_of_some_of_many_classes_but_never_of_a_million(tmp_path):
    text = ROWS.replace("n02,1", "n02,65535")
    indices, classes = join_csv(NAMES, write(tmp_path, text))
    assert indices == [0, 65535, 65535]
    assert len(classes) == 65536
    assert [classes[i] for i in (0, 7, 65535)] == [("n01", "n01"), ("7", "7"), ("n02", "n02")]
    with pytest.raises(UserError, match="only 2 classes have a row; count the classes from 0 on, or name them all"):
        join_csv(NAMES, write(tmp_path, text.replace("65535", "65536")))


def test_more_classes_than_sixteen_bits_count_are_read_where_each_has_a_row(tmp_path):
    names = [f"{i}.png" for i in range(70_000)]
    text = "file,wnid,class_index\n" + "".join(f"{name},n{i},{i}\n" for i, name in enumerate(names))
    indices, classes = join_csv(names, write(tmp_path, text))
    assert indices == list(range(70_000))
    assert classes[69_999] == ("n69999", "n69999")


def test_a_class_index_near_a_million_takes_no_memory(tmp_path):
    tracemalloc.start()
    with pytest.raises(UserError):
        join_csv(NAMES, write(tmp_path, ROWS.replace("n02,1", "n02,999999")))
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_classes_without_a_wnid_are_called_by_their_numbers(tmp_path):
    text = "file,wnid,class_index\n3.png,,1\n1.png,,0\nset/2.png,,1\n"
    assert join_csv(NAMES, write(tmp_path, text)) == ([0, 1, 1], (("0", "0"), ("1", "1")))


@pytest.mark.parametrize(("of_files", "of_rows"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC")])
def test_rows_and_images_match_however_accents_are_composed(tmp_path, of_files, of_rows):
    names = [unicodedata.normalize(of_files, name) for name in ("café/1.png", "thé/2.png")]
    text = unicodedata.normalize(of_rows, "file,wnid,class_index\ncafé/1.png,n01,0\n2.png,n02,1\n")
    assert join_csv(names, write(tmp_path, text))[0] == [0, 1]


def test_rows_written_by_windows_match(tmp_path):
    text = "file,wnid,class_index\nset\\1.png,n01,0\nset\\2.png,n02,1\n3.png,n02,1\n"
    assert join_csv(NAMES, write(tmp_path, text))[0] == [0, 1, 1]


NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([f"{NFC}/1", f"{NFD}/2", "tea/3"], ([0, 0, 1], [NFC, "tea"])),
        ([f"{NFD}/1", f"{NFD}/2", "tea/3"], ([0, 0, 1], [NFD, "tea"])),
        ([f"{NFC}/a/1", f"{NFD}/b/2"], ([0, 1], ["a", "b"])),
        ([f"{NFC}/1", f"{NFD}/2"], (None, [])),
        (["Å/1", "A\u030a/2", "\u212b/3", "B/4"], ([1, 1, 1, 0], ["B", "Å"])),
    ],
    ids=["both", "decomposed alone", "above the classes", "one class", "three spellings"],
)
def test_names_that_differ_only_in_composition_are_one_class(names, expected):
    indices, classes = classes_of_folders(names)
    assert (indices, [name for name, _ in classes]) == expected


@pytest.mark.parametrize(("name", "short"), [("great white shark, man-eater", "great white shark"), ("owl", "owl")])
def test_a_class_is_shown_by_the_first_of_its_names(name, short):
    assert short_name(name) == short


@fuzz(100)
@given(strategies.binary(max_size=200), strategies.booleans())
def test_any_bytes_after_the_header_are_read_or_refused_in_one_line(tmp_path_factory, content, with_header):
    path = tmp_path_factory.mktemp("csv") / "truth.csv"
    path.write_bytes(b"file,wnid,class_index\n" * with_header + content)
    try:
        join_csv(NAMES, path)
    except UserError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)


# What may stand in a row, and the class that it gives; None where it is refused.
INDICES = {"0": 0, "1": 1, "2": 2, "00": 0, "": None, "-1": None, "+1": None, "1.0": None, " 1": None, "\u0661": None}
DEFECTS = ("a row twice", "a row less", "a row more", "a cell less", "a cell more", "a class of two names")


@fuzz(150)
@given(strategies.data())
def test_a_random_truth_is_joined_as_it_was_meant_or_refused_in_one_line(tmp_path_factory, data):
    draw = data.draw
    names = draw(strategies.lists(strategies.sampled_from(FILES), min_size=1, max_size=6, unique=True))
    indices = [draw(strategies.sampled_from([*INDICES, "0", "1", "2", "0", "1", "2"])) for _ in names]
    meant = [INDICES[index] for index in indices]
    defect = draw(strategies.sampled_from([None] * 8 + list(DEFECTS)))
    separator = draw(strategies.sampled_from(",,,,,;\t"))
    encoding = draw(strategies.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    header = draw(strategies.permutations(["file", "wnid", "class_index"]))
    rows = [{"file": n, "wnid": f"n{m}", "class_index": i} for n, m, i in zip(names, meant, indices, strict=True)]
    lines = [[row[column] for column in header] for row in draw(strategies.permutations(rows))]
    if defect == "a row twice":
        lines.append(lines[0])
    elif defect == "a row less":
        lines.pop()
    elif defect == "a row more":
        lines.append([{"file": "none.png", "wnid": "n0", "class_index": "0"}[column] for column in header])
    elif defect == "a cell less":
        lines[-1].pop()
    elif defect == "a cell more":
        lines[-1].append("more")
    elif defect == "a class of two names":
        lines[0][header.index("wnid")] = "n9"
    text = io.StringIO(newline="")
    quoting, end = draw(strategies.sampled_from([(csv.QUOTE_ALL, "\r\n"), (csv.QUOTE_MINIMAL, "\n"), (0, "\n\n")]))
    csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=end).writerows([list(header), *lines])
    path = tmp_path_factory.mktemp("truth") / "truth.csv"
    path.write_bytes(text.getvalue().encode(encoding, "replace"))

    # A wrong name of the only image of a class is a name like any other.
    alone = defect == "a class of two names" and meant.count(INDICES[lines[0][header.index("class_index")]]) == 1
    is_text = encoding != "utf-16" and (encoding != "latin-1" or text.getvalue().isascii())
    if is_text and separator == "," and None not in meant and (defect is None or alone):
        found, classes = join_csv(names, path)
        assert found == meant
        assert len(classes) == max(meant) + 1
        assert alone or all(classes[index][0] == f"n{index}" for index in meant)
        return
    with pytest.raises(UserError) as refusal:
        join_csv(names, path)
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


def test_names_that_a_table_wrote_as_text_for_spreadsheets_are_found(tmp_path):
    names = ["=1.png", "+a/2.png", "'=3.png"]
    rows = "".join(f"'{name},n,0\n" for name in names)
    assert join_csv(names, write(tmp_path, f"file,wnid,class_index\n{rows}"))[0] == [0, 0, 0]
    assert join_csv(["'=3.png"], write(tmp_path, "file,wnid,class_index\n'=3.png,n,0\n"))[0] == [0]
