"""What is wrong with a COCO file is said in one sentence with the file and the id."""

import math

import pytest

from mammoscope.datasets import DatasetError, import_coco, read_coco
from mammoscope.findings import Box


def test_a_sound_file(collection):
    document = read_coco(collection.annotations)
    assert [image.id for image in document.images] == [0, 1, 2, 3, 4, 5]
    first = document.images[0]
    assert (first.rows, first.columns) == (40, 50)
    assert [(a.label, a.box, a.crowd) for a in first.annotations] == [
        ("Mass", Box(5, 10, 25, 18), False),
        ("Calcification", Box(1, 2, 4.5, 6), False),
    ]
    assert document.images[3].annotations[0].crowd
    assert document.category_ids == {"Mass": 0, "Calcification": 3}


def set_bbox(bbox):
    return lambda coco: coco["annotations"][1].update(bbox=bbox)


BAD = {
    "no images": (lambda c: c.update(images=[], annotations=[]), "holds no images"),
    "no lists": (lambda c: c.pop("annotations"), "not a COCO file"),
    "no categories": (lambda c: c.pop("categories"), "needs the list 'categories'"),
    "category without name": (lambda c: c["categories"][0].pop("name"), "category 0 has no name"),
    "double image": (lambda c: c["images"][2].update(id=1), "two entries are called image 1"),
    "double annotation": (lambda c: c["annotations"][2].update(id=1), "two entries are called annotation 1"),
    "double file": (
        lambda c: c["images"][2].update(file_name=c["images"][1]["file_name"]),
        "images 1 and 2 have the same",
    ),
    "image id as text": (lambda c: c["images"][2].update(id="2"), "the image at position 2 has no id"),
    "unknown image": (lambda c: c["annotations"][3].update(image_id=99), "annotation 3 belongs to image 99"),
    "unknown category": (lambda c: c["annotations"][3].update(category_id=9), "annotation 3 has the category 9"),
    "no file name": (lambda c: c["images"][2].pop("file_name"), "image 2 has no file_name"),
    "leaves the folder": (
        lambda c: c["images"][2].update(file_name="../x.png"),
        "image 2 has the file_name '../x.png'",
    ),
    "absolute": (lambda c: c["images"][2].update(file_name="/x.png"), "must be relative"),
    "size as text": (lambda c: c["images"][2].update(height="40"), "image 2 has the height '40'"),
    "size 0": (lambda c: c["images"][2].update(width=0), "image 2 has the width 0"),
    "box as texts": (set_bbox(["1", "2", "3", "4"]), "annotation 1 needs a bbox of four numbers"),
    "box of three": (set_bbox([1, 2, 3]), "annotation 1 needs a bbox of four numbers"),
    "no box": (lambda c: c["annotations"][1].pop("bbox"), "annotation 1 needs a bbox"),
    "box NaN": (set_bbox([1, 2, math.nan, 4]), "in it is not finite"),
    "box infinite": (set_bbox([1, 2, math.inf, 4]), "in it is not finite"),
    "box without width": (set_bbox([1, 2, 0, 4]), "annotation 1 has a box without area"),
    "box of negative height": (set_bbox([1, 2, 3, -4]), "annotation 1 has a box without area"),
    "size lost to rounding": (set_bbox([1e20, 2, 1, 4]), "annotation 1 has an impossible box"),
}


@pytest.mark.parametrize(("change", "said"), BAD.values(), ids=BAD)
def test_one_sentence_for_each_fault(collection, change, said):
    collection.change(change)
    with pytest.raises(DatasetError) as caught:
        read_coco(collection.annotations)
    assert said in str(caught.value)
    assert str(collection.annotations) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"images": [', "not valid JSON"),
        (b"[1, 2]", "not a COCO file"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
        (b"", "not valid JSON"),
    ],
)
def test_files_that_are_not_coco(tmp_path, content, said):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=said):
        read_coco(path)


def test_missing_file(tmp_path):
    with pytest.raises(DatasetError, match=r"x\.json does not exist"):
        read_coco(tmp_path / "x.json")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("key", ["height", "density"])
def test_numbers_that_are_not_finite(collection, tmp_path, key, number):
    collection.change(lambda coco: coco["images"][0].update({key: "HERE"}))
    collection.annotations.write_text(collection.annotations.read_text().replace('"HERE"', number))
    with pytest.raises(DatasetError, match=rf"set\.json is not valid JSON: the number {number} in it is not finite"):
        import_coco(collection.annotations, collection.images, tmp_path / "set")


def test_a_number_of_thousands_of_digits(collection):
    collection.change(lambda coco: coco["images"][0].update(height="HERE"))
    collection.annotations.write_text(collection.annotations.read_text().replace('"HERE"', "1" * 5000))
    with pytest.raises(DatasetError, match=r"set\.json is not valid JSON"):
        read_coco(collection.annotations)


def test_a_box_beyond_any_number(collection):
    collection.change(lambda coco: coco["annotations"][1].update(bbox=[1, 2, 10**400, 4]))
    with pytest.raises(DatasetError, match=r"annotation 1 has an impossible box"):
        read_coco(collection.annotations)
