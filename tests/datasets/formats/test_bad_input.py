"""What people hand over: one sentence with the file and line, and nothing half written."""

import json
import zipfile

import pytest

from mammoscope.datasets import DatasetError, PatientUnknownError, load_dataset
from mammoscope.datasets.formats import READERS, ReadOptions, import_annotations

PATTERN = r"^(?P<patient>p\d+)_(?P<laterality>[LR])_(?P<view>CC|MLO)"
HEAD = "file_name,label,x0,y0,x1,y1\n"
ROW = "p1_L_CC.png,Mass,1,2,3,4\n"


@pytest.fixture
def table(tmp_path, pictures):
    def table(content, kind="csv", **options):
        path = tmp_path / "boxes.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        options = {"patient_pattern": PATTERN} | options
        return import_annotations(kind, path, pictures, tmp_path / "out", **options)

    return table


def test_the_good_one(table, tmp_path):
    done = table(HEAD + ROW)
    assert (done.written.images, done.written.boxes, done.left_out) == (1, 1, 1)
    image = load_dataset(tmp_path / "out")[0]
    assert (image.patient, image.laterality, image.view) == ("p1", "L", "CC")
    assert table((HEAD + ROW).encode("utf-16"), overwrite=True).written.boxes == 1
    assert table("﻿" + HEAD + ROW, overwrite=True).written.boxes == 1
    assert table((HEAD + ROW).replace("\n", "\r\n"), overwrite=True).written.boxes == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("file_name,label,x0,y0,x1\n", "line 1: columns of a box are missing.*there are file_name, label, x0"),
        ("label,x0,y0,x1,y1\n", "line 1: a column 'file_name' is missing"),
        ("file_name,x0,y0,x1,y1\n", "line 1: a column 'label' is missing"),
        ("", "line 1: a column 'file_name' is missing"),
        (HEAD, "has no rows"),
        (HEAD + ROW + 'p1_L_CC.png,Mass,"1,5",2,3,4\n', "line 3: x0 is '1,5': write the decimal point as a point"),
        (HEAD + ROW + "p1_L_CC.png,Mass,1,5,2,3,4\n", "line 3: 7 values for 6 columns; is there a decimal comma"),
        (HEAD + "p1_L_CC.png,Mass,a,2,3,4\n", "line 2: x0 is 'a', which is not a number"),
        (HEAD + "p1_L_CC.png,Mass,nan,2,3,4\n", "line 2: x0 is 'nan', which is not a number"),
        (HEAD + "p1_L_CC.png,Mass,1,,3,4\n", "line 2: y0 is '', which is not a number"),
        (HEAD + "p1_L_CC.png,Mass,3,2,1,4\n", "line 2: the box 3, 2, 1, 4 has no area, or its corners are swapped"),
        (HEAD + "p1_L_CC.png,,1,2,3,4\n", "line 2: the box has no label"),
        (HEAD + "gone.png,Mass,1,2,3,4\n", "line 2: the image gone.png is not in .*; is the download complete"),
        (HEAD + "p1_L_CC.png,Mass,300,2,400,4\n", "lies outside its image of 100 rows and 200 columns"),
        ((HEAD + ROW + "p1_L_CC.png,K\xfc,1,2,3,4\n").encode("latin-1"), "line 3: this is not UTF-8 text"),
        (HEAD + ROW + 'p1_L_CC.png,"Mass,1,2,3,4\n', "line 3: a label, 'Mass,1,2,3,4', but no box"),
        (HEAD + ROW + "p1_L_CC.png,Mass", "line 3: a label, 'Mass', but no box; was the row cut off"),
        (HEAD + ROW + "p1_L_CC.png,Mass,1,2,3", "line 3: y1 is ''"),
    ],
)
def test_a_bad_table(table, tmp_path, content, said):
    with pytest.raises(DatasetError, match=said):
        table(content)
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_a_label_column_that_is_not_there(table):
    with pytest.raises(DatasetError, match="line 1: a column 'kind' is missing"):
        table(HEAD + ROW, options=ReadOptions(label_key="Kind"))


def test_no_patient(table):
    with pytest.raises(PatientUnknownError, match=r"no patient is known for image p1_L_CC\.png"):
        table(HEAD + ROW, patient_pattern=None)


def test_archives_are_named(tmp_path, pictures):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a.csv", HEAD)
    for kind in READERS:
        with pytest.raises(DatasetError, match=r"set\.zip is an archive: unpack it"):
            import_annotations(kind, tmp_path / "set.zip", pictures, tmp_path / "out")
    with pytest.raises(DatasetError, match=r"set\.zip is an archive: unpack it"):
        import_annotations("csv", tmp_path / "a.csv", tmp_path / "set.zip", tmp_path / "out")
    with pytest.raises(DatasetError, match="does not exist"):
        import_annotations("csv", tmp_path / "a.csv", tmp_path / "none", tmp_path / "out")


@pytest.mark.parametrize("kind", sorted(READERS))
@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "[1]", "[[]]", '{"a": 1}', "null", "<a/>", "<annotation>", "\x00\xff", "0 0 0 0 0", "[" * 2000],
)
def test_nonsense_is_one_sentence(kind, content, tmp_path, pictures):
    for name in ("x.json", "x.xml", "p1_L_CC.txt", "x.csv"):
        folder = tmp_path / "sources"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(content)
        for source in (folder / name, folder):
            with pytest.raises(DatasetError):
                import_annotations(
                    kind, source, pictures, tmp_path / "out", options=ReadOptions(), patient_pattern=PATTERN
                )
        (folder / name).unlink()
    assert not (tmp_path / "out").exists()


def test_an_image_of_another_size(tmp_path, pictures):
    (tmp_path / "a.json").write_text(
        json.dumps({"imagePath": "p1_L_CC.png", "imageHeight": 100, "imageWidth": 100, "shapes": []})
    )
    with pytest.raises(DatasetError, match="has 100 rows and 100 columns there but 100 and 200"):
        import_annotations("labelme", tmp_path / "a.json", pictures, tmp_path / "out", patient_pattern=PATTERN)


def test_a_table_of_facts(table, tmp_path):
    facts = tmp_path / "facts.csv"
    facts.write_text("file_name,patient,side,breast_density,spacing_mm,split\np1_L_CC.png,anna,left,C,0.07,val\n")
    table(HEAD + ROW, table=facts, patient_pattern=None)
    image = load_dataset(tmp_path / "out")[0]
    assert (image.patient, image.laterality, image.split) == ("anna", "L", "val")
    assert (image.facts["density"], image.facts["spacing_mm"]) == (3, 0.07)
    for wrong, said in (
        ("file_name,patient\np1_L_CC.png,a\np1_L_CC.png,b\n", "line 3: a row for p1_L_CC.png was there before"),
        ("patient\na\n", "line 1: a column 'file_name' is missing"),
        ("file_name,weight\np1_L_CC.png,1\n", "line 1: none of the columns"),
        ("file_name,density\np1_L_CC.png,9\n", "density '9' is none of 1 to 4"),
    ):
        facts.write_text(wrong)
        with pytest.raises(DatasetError, match=said):
            table(HEAD + ROW, table=facts, overwrite=True)


def test_names_that_several_images_have(tmp_path, pictures, table):
    for folder in ("a", "b"):
        (pictures / folder).mkdir()
        (pictures / folder / "p3_L_CC.png").write_bytes((pictures / "p1_L_CC.png").read_bytes())
    with pytest.raises(DatasetError, match=r"line 2: 2 images in .* are called p3_L_CC\.png: give their folders"):
        table(HEAD + "p3_L_CC.png,Mass,1,2,3,4\n")
    pattern = r"(?P<patient>p\d+)_"
    table(HEAD + "D:\\old\\b\\p3_L_CC.png,Mass,1,2,3,4\n", patient_pattern=pattern)
    assert load_dataset(tmp_path / "out")[0].facts["file_name"] == "b/p3_L_CC.png"
