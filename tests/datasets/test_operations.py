import json

import pytest

from mammoscope.datasets import (
    DatasetError,
    ImportedBox,
    ImportedImage,
    Output,
    ReviewState,
    filter_dataset,
    history_of,
    load_dataset,
    merge_datasets,
    remap_dataset,
    sample_dataset,
    set_review,
    split_dataset,
    write_dataset,
)
from mammoscope.datasets.image_marks import ImageMarks, Silence
from mammoscope.findings import Box
from mammoscope.imaging import View


@pytest.fixture
def folder(collection, tmp_path):
    """Six images of three patients: a mass in each CC view, a calcification with an outline beside the first."""
    images = []
    for n, name in enumerate(image["file_name"] for image in collection.coco["images"]):
        cc = n % 2 == 0
        boxes = [ImportedBox(Box(5, 10, 25, 18), "Mass", {"birads": "4"}, id=10 + n)] if cc else []
        if n == 0:
            boxes.append(ImportedBox(Box(1, 2, 9, 8), "Calc", polygons=(((1, 2), (9, 2), (5, 8)),), id=99))
        images.append(
            ImportedImage(
                collection.images / name, 40, 50, f"p{n // 2}",
                ImageMarks(tuple(boxes), Silence.NEGATIVE), view=View.CC if cc else View.MLO, density=1 + n // 2,
                scanner="ACME", id=100 + n,
            )
        )  # fmt: skip
    write_dataset(images, tmp_path / "set", name="ACME", licence="CC0", citation="Doe", labels=["Mass", "Calc"])
    split_dataset(tmp_path / "set", val=0.34)
    set_review(tmp_path / "set", ["00001_LEFT_CC.png"], ReviewState.VALIDATED, "dr a")
    return tmp_path / "set"


def coco(folder):
    return json.loads((folder / "annotations.json").read_text())


def test_filter_keeps_everything_of_what_it_keeps(folder, tmp_path):
    done = filter_dataset(folder, "view == 'CC' and density <= 2", Output(tmp_path / "out"))
    assert (done.images, done.boxes, done.copied) == (2, 3, 0)
    before, after = load_dataset(folder), load_dataset(tmp_path / "out")
    for image in after:
        same = next(other for other in before if other.id == image.id)
        assert (image.boxes, image.labels, image.split, image.patient) == (
            same.boxes, same.labels, same.split, same.patient,
        )  # fmt: skip
        assert (image.facts, image.box_facts, image.review) == (same.facts, same.box_facts, same.review)
        assert image.path.samefile(same.path)
    assert after[0].review is ReviewState.VALIDATED
    assert after.category_ids == before.category_ids
    info = coco(tmp_path / "out")["info"]
    assert (info["licence"], info["citation"], info["description"]) == ("CC0", "Doe", "ACME")
    assert info["made_from"] == [{"name": "set", "filtered": "view == 'CC' and density <= 2"}]
    lock = json.loads((tmp_path / "out/splits.json").read_text())
    assert list(lock["arguments"]["kept_from"]) == ["set"]
    with pytest.raises(DatasetError, match=r"no image .* meets the condition"):
        filter_dataset(folder, "view == 'ML'", Output(tmp_path / "none"))
    with pytest.raises(DatasetError, match="there already"):
        filter_dataset(folder, "view == 'CC'", Output(tmp_path / "out"))
    assert not (tmp_path / "none").exists()


def test_a_sample_is_of_whole_patients(folder, tmp_path):
    done = sample_dataset(folder, 4, Output(tmp_path / "out"))
    assert (done.images, done.patients) == (4, 2)
    assert sample_dataset(folder, 3, Output(tmp_path / "near")).images in {2, 4}
    with pytest.raises(DatasetError, match="has 6 images: 7 cannot be drawn"):
        sample_dataset(folder, 7, Output(tmp_path / "more"))


def test_classes_are_joined_and_dropped(folder, tmp_path):
    remap_dataset(folder, {"Mass": "lesion", "Calc": "lesion"}, Output(tmp_path / "one"))
    joined = load_dataset(tmp_path / "one")
    assert joined.category_ids == {"lesion": 1}
    assert joined[0].labels == ("lesion", "lesion")
    assert joined[0].review is ReviewState.ANNOTATED  # nobody validated these labels
    done = remap_dataset(folder, {}, Output(tmp_path / "less"), drop=["Mass"])
    assert (done.boxes, done.images_without_boxes) == (1, 5)
    assert load_dataset(tmp_path / "less").category_ids == {"Calc": 1}
    for arguments in ({"classes": {"mass": "x"}}, {"classes": {}, "drop": ["x"]}):
        with pytest.raises(DatasetError, match=r"has no label '(mass|x)'; it has Calc, Mass"):
            remap_dataset(folder, output=Output(tmp_path / "no"), **arguments)
    with pytest.raises(DatasetError, match="needs a new name"):
        remap_dataset(folder, {"Mass": " "}, Output(tmp_path / "no"))


def test_merging_keeps_patients_apart(folder, tmp_path):
    remap_dataset(folder, {"Mass": "Lump"}, Output(tmp_path / "other"))
    done = merge_datasets([folder, tmp_path / "other"], Output(tmp_path / "both"))
    assert (done.images, done.patients, done.boxes) == (12, 6, 8)
    both = load_dataset(tmp_path / "both")
    assert both.category_ids == {"Mass": 1, "Calc": 2, "Lump": 3}
    assert [image.id for image in both] == list(range(1, 13))
    assert both[0].patient == "set/p0"
    assert both[6].patient == "other/p0"
    assert both[6].facts["file_name"] == "other/00001_LEFT_CC.png"
    assert [image.split for image in both][:6] == [image.split for image in load_dataset(folder)]
    assert (both[0].review, both[6].review) == (ReviewState.VALIDATED, ReviewState.ANNOTATED)
    assert history_of(tmp_path / "both", "set/00001_LEFT_CC.png")[0].by == "dr a"
    ids = [entry["id"] for entry in coco(tmp_path / "both")["annotations"]]
    assert len(set(ids)) == 8
    assert coco(tmp_path / "both")["info"]["licence"] == "CC0"


def test_one_patient_in_two_sets_must_not_be_in_two_splits(folder, tmp_path):
    filter_dataset(folder, "patient == 'p0'", Output(tmp_path / "first"))
    filter_dataset(folder, "patient == 'p0'", Output(tmp_path / "second"))
    path = tmp_path / "second/annotations.json"
    content = coco(tmp_path / "second")
    for entry in content["images"]:
        entry["split"] = "test"
    path.write_text(json.dumps(content))
    (tmp_path / "second/splits.json").unlink()
    sources = [tmp_path / "first", tmp_path / "second"]
    with pytest.raises(DatasetError, match="of one patient in two splits: merge without splits"):
        merge_datasets(sources, Output(tmp_path / "out"), same_patients=True)
    done = merge_datasets(sources, Output(tmp_path / "out"), same_patients=True, keep_splits=False)
    assert done.patients == 1
    assert {image.split for image in load_dataset(tmp_path / "out")} == {None}
    with pytest.raises(DatasetError, match="two data sets or more"):
        merge_datasets([folder], Output(tmp_path / "alone"))
