import json
import zipfile

import cv2
import numpy as np
import pytest

from mammoscope.datasets import DatasetError, PatientUnknownError, import_coco, load_dataset
from mammoscope.findings import Box
from mammoscope.imaging import Laterality, View


def sizes_of(collection, tmp_path, *, without=()):
    """Every picture of 40 x 50 was 100 rows and 62.5 columns per 100: aspect 0.625."""
    path = tmp_path / "sizes.csv"
    rows = ["file_name,est_native_rows,est_native_cols,est_aspect_cols_over_rows"]
    for image in collection.coco["images"]:
        rows.append(image["file_name"] + (",,," if image["id"] in without else ",1000,625,0.625"))
    path.write_text("\n".join(rows) + "\n")
    return path


def test_everything_is_kept(collection, tmp_path):
    out = tmp_path / "out"
    summary = import_coco(collection.annotations, collection.images, out)
    assert (summary.images, summary.patients, summary.boxes, summary.crowds) == (6, 3, 3, 1)
    assert summary.images_without_boxes == 4
    assert summary.clipped == summary.unstretched == 0
    dataset = load_dataset(out)
    assert [image.id for image in dataset] == [0, 1, 2, 3, 4, 5]
    first = dataset[0]
    assert first.boxes == (Box(5, 10, 25, 18), Box(1, 2, 4.5, 6))
    assert first.labels == ("Mass", "Calcification")
    assert (first.patient, first.laterality, first.view) == ("00001", Laterality.LEFT, View.CC)
    assert (first.rows, first.columns, first.split) == (40, 50, None)
    assert first.path == out / "images" / "00001_LEFT_CC.png"
    assert first.path.read_bytes() == (collection.images / "00001_LEFT_CC.png").read_bytes()
    assert dataset[3].boxes == ()
    assert dataset[3].crowds == (Box(0, 0, 50, 40),)
    assert dataset.category_ids == {"Mass": 0, "Calcification": 3}


def test_images_are_linked_or_copied(collection, tmp_path):
    source = collection.images / "00001_LEFT_CC.png"
    assert import_coco(collection.annotations, collection.images, tmp_path / "linked").copied == 0
    assert (tmp_path / "linked/images/00001_LEFT_CC.png").samefile(source)
    assert import_coco(collection.annotations, collection.images, tmp_path / "copied", copy=True).copied == 6
    assert not (tmp_path / "copied/images/00001_LEFT_CC.png").samefile(source)


def test_the_folder_is_readable_by_pycocotools(collection, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    import_coco(collection.annotations, collection.images, tmp_path / "out")
    read = coco.COCO(str(tmp_path / "out/annotations.json"))
    assert len(read.getImgIds()) == 6
    # the source counts annotations from 0, which pycocotools' matching takes for none
    assert sorted(read.getAnnIds()) == [1, 2, 3, 4]
    assert read.dataset["info"]["contributor"] == "nobody"
    assert read.imgs[0]["patient_id"] == "00001"
    assert read.imgs[0]["origin"] == {"file_name": "00001_LEFT_CC.png", "height": 40, "width": 50}


def test_unstretching_scales_image_and_boxes(collection, tmp_path):
    collection.change(lambda coco: coco["annotations"][0].update(segmentation=[[5, 10, 25, 10, 25, 18]]))
    collection.change(lambda coco: coco["annotations"][1].update(segmentation={"counts": "x", "size": [40, 50]}))
    sizes = sizes_of(collection, tmp_path)
    summary = import_coco(collection.annotations, collection.images, tmp_path / "out", native_sizes=sizes)
    assert (summary.unstretched, summary.median_aspects, summary.masks_dropped) == (6, 0, 1)
    dataset = load_dataset(tmp_path / "out")
    # 50 columns stay, 40 rows become 50 / 0.625 = 80: y is doubled
    assert (dataset[0].rows, dataset[0].columns) == (80, 50)
    assert cv2.imread(str(dataset[0].path), cv2.IMREAD_UNCHANGED).shape == (80, 50)
    assert dataset[0].boxes[0].as_tuple() == pytest.approx((5, 20, 25, 36))
    entry = json.loads((tmp_path / "out/annotations.json").read_text())["annotations"][0]
    assert entry["segmentation"] == [[5, 20, 25, 20, 25, 36]]
    assert entry["area"] == pytest.approx(20 * 16)
    facts = dataset[0].facts["native_size"]
    assert facts == {"rows": 1000, "columns": 625, "aspect_columns_over_rows": 0.625, "aspect_from": "native size"}


def test_unknown_native_sizes_get_the_median_and_say_so(collection, tmp_path):
    sizes = sizes_of(collection, tmp_path, without={2})
    summary = import_coco(collection.annotations, collection.images, tmp_path / "out", native_sizes=sizes)
    assert (summary.median_aspects, summary.median_aspect) == (1, 0.625)
    assert load_dataset(tmp_path / "out")[2].facts["native_size"]["aspect_from"] == "median of the other images"


def test_boxes_over_the_edge_are_cut_and_counted(collection, tmp_path):
    collection.change(lambda coco: coco["annotations"][3].update(bbox=[45, 35, 10, 10]))
    collection.change(lambda coco: coco["annotations"][0].update(bbox=[-0.004, 0, 50.004, 10]))  # rounding only
    assert import_coco(collection.annotations, collection.images, tmp_path / "out").clipped == 1
    dataset = load_dataset(tmp_path / "out")
    assert dataset[4].boxes == (Box(45, 35, 50, 40),)
    assert dataset[0].boxes[0] == Box(0, 0, 50, 10)


def test_sizes_are_taken_from_the_file_where_the_entry_is_silent(collection, tmp_path):
    collection.change(lambda coco: [image.pop("height") for image in coco["images"]])
    import_coco(collection.annotations, collection.images, tmp_path / "out")
    assert load_dataset(tmp_path / "out")[0].rows == 40


def refuse(collection, tmp_path, said, **options):
    with pytest.raises(DatasetError, match=said):
        import_coco(collection.annotations, collection.images, tmp_path / "out", **options)
    assert sorted(path.name for path in tmp_path.iterdir() if "out" in path.name) == []


def test_faults_leave_nothing_behind(collection, tmp_path):
    sizes = sizes_of(collection, tmp_path)
    # decoding fails in the middle of writing; the header is sound
    whole = (collection.images / "00002_LEFT_CC.png").read_bytes()
    (collection.images / "00002_LEFT_CC.png").write_bytes(whole[:60])
    refuse(collection, tmp_path, r"00002_LEFT_CC\.png cannot be un-stretched", native_sizes=sizes)
    (collection.images / "00002_LEFT_CC.png").unlink()
    refuse(collection, tmp_path, r"image 2: the image 00002_LEFT_CC\.png is not in")


def test_a_box_outside_its_image(collection, tmp_path):
    collection.change(lambda coco: coco["annotations"][3].update(bbox=[60, 0, 5, 5]))
    refuse(collection, tmp_path, "annotation 3 lies outside")


def test_an_image_of_another_size_than_its_entry(collection, tmp_path):
    collection.change(lambda coco: coco["images"][2].update(height=50, width=40))
    refuse(collection, tmp_path, r"image 2.*50 rows and 40 columns there but 40 and 50 in its file")


def test_an_image_without_a_native_size_row(collection, tmp_path):
    sizes = sizes_of(collection, tmp_path)
    sizes.write_text("".join(line for line in sizes.read_text().splitlines(True) if "00003_LEFT" not in line))
    refuse(collection, tmp_path, "has no row for image 4", native_sizes=sizes)


def test_two_images_that_would_become_one(collection, tmp_path):
    cv2.imwrite(str(collection.images / "00001_LEFT_CC.jpg"), np.zeros((40, 50), np.uint8))
    collection.change(lambda coco: coco["images"][1].update(file_name="00001_LEFT_CC.jpg"))
    refuse(collection, tmp_path, r"images 0 and 1 would both become", native_sizes=sizes_of(collection, tmp_path))


def test_no_patient_known(collection, tmp_path):
    (collection.images / "00001_LEFT_CC.png").rename(collection.images / "scan.png")
    collection.change(lambda coco: coco["images"][0].update(file_name="scan.png"))
    with pytest.raises(PatientUnknownError, match=r"scan\.png"):
        import_coco(collection.annotations, collection.images, tmp_path / "out")
    import_coco(collection.annotations, collection.images, tmp_path / "out", patient_pattern=r"^(?P<patient>[^_.]+)")
    assert load_dataset(tmp_path / "out").patients == ("00001", "00002", "00003", "scan")


def test_an_existing_data_set_is_replaced_only_when_asked(collection, tmp_path):
    out = tmp_path / "out"
    import_coco(collection.annotations, collection.images, out)
    with pytest.raises(DatasetError, match="--force"):
        import_coco(collection.annotations, collection.images, out)
    collection.change(lambda coco: coco["annotations"].clear())
    import_coco(collection.annotations, collection.images, out, overwrite=True)
    assert load_dataset(out).n_boxes == 0
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == ["out"]


def test_a_folder_of_something_else_is_never_replaced(collection, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(DatasetError, match="not a data set's folder"):
        import_coco(collection.annotations, collection.images, out, overwrite=True)
    assert (out / "thesis.txt").read_text() == "years of work"


def test_progress_is_told(collection, tmp_path):
    told = []
    import_coco(collection.annotations, collection.images, tmp_path / "out", progress=lambda *at: told.append(at))
    assert told == [(n, 6) for n in range(1, 7)]


def test_an_archive_instead_of_what_is_in_it(collection, tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.write(collection.annotations)
    for annotations, images in (
        (tmp_path / "set.zip", collection.images),
        (collection.annotations, tmp_path / "set.zip"),
    ):
        with pytest.raises(DatasetError, match=r"set\.zip is an archive: unpack it"):
            import_coco(annotations, images, tmp_path / "out")
