import math
from datetime import datetime
from io import BytesIO

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoscope.imaging import View
from mammoscope.phantom import PhantomError, screening_study


def as_bytes(study):
    streams = [BytesIO() for _ in study.images]
    for image, stream in zip(study.images, streams, strict=True):
        image.dataset.save_as(stream, enforce_file_format=True)
    return [stream.getvalue() for stream in streams]


def test_four_views_in_hanging_order(small_study):
    assert [f"{image.laterality} {image.view}" for image in small_study.images] == ["R CC", "L CC", "R MLO", "L MLO"]


def test_the_same_seed_gives_the_same_bytes():
    first, second = (screening_study(9, rows=200, columns=150) for _ in range(2))
    assert as_bytes(first) == as_bytes(second)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**63 - 2))
def test_seeds_differ_and_truth_lies_in_the_breast(seed):
    study, other = (screening_study(s, masses=3, rows=160, columns=120) for s in (seed, seed + 1))
    for image, another in zip(study.images, other.images, strict=True):
        assert image.dataset.PixelData != another.dataset.PixelData
        assert image.dataset.SOPInstanceUID != another.dataset.SOPInstanceUID
        pixels = image.dataset.pixel_array
        for box in image.truth:
            assert 0 <= box.x0 < box.x1 <= 120
            assert 0 <= box.y0 < box.y1 <= 160
            assert pixels[math.floor(box.y0) : math.ceil(box.y1), math.floor(box.x0) : math.ceil(box.x1)].min() > 0


@pytest.mark.parametrize("masses", [0, 1, 2, 5])
def test_each_mass_is_in_both_views_of_one_breast(masses):
    study = screening_study(4, masses=masses, rows=160, columns=120)
    counts = {(image.laterality, image.view): len(image.truth) for image in study.images}
    assert counts["R", "CC"] == counts["R", "MLO"]
    assert counts["L", "CC"] == counts["L", "MLO"]
    assert counts["R", "CC"] + counts["L", "CC"] == masses


def test_paired_boxes_are_equally_far_from_the_nipple_and_alike_in_size(small_study):
    spacing = float(small_study.images[0].dataset.PixelSpacing[0])
    for cc, mlo in zip(small_study.images[:2], small_study.images[2:], strict=True):
        breast = small_study.anatomy.right if cc.laterality == "R" else small_study.anatomy.left
        assert cc.truth
        for in_cc, in_mlo in zip(cc.truth, mlo.truth, strict=True):
            away = []
            for box, view in ((in_cc, View.CC), (in_mlo, View.MLO)):
                u, v = breast.nipple(view)
                x = 384 - u / spacing if cc.laterality == "R" else u / spacing
                away.append(math.hypot(box.center[0] - x, box.center[1] - v / spacing) * spacing)
            # A lobulated outline's box is centred up to some millimetres beside the mass.
            assert away[0] == pytest.approx(away[1], abs=6)
            assert math.sqrt(in_cc.area) == pytest.approx(math.sqrt(in_mlo.area), rel=0.35)


@pytest.mark.parametrize(("rows", "columns"), [(128, 96), (400, 300), (512, 384), (300, 400), (500, 150)])
def test_any_size(rows, columns):
    for image in screening_study(1, rows=rows, columns=columns).images:
        assert image.dataset.pixel_array.shape == (rows, columns)
        assert sum(box.clipped(rows, columns) == box for box in image.truth) == len(image.truth)


def test_default_size_and_two_masses():
    study = screening_study(1)
    assert {(image.dataset.Rows, image.dataset.Columns) for image in study.images} == {(2048, 1536)}
    assert sum(len(image.truth) for image in study.images) == 4


def test_another_size_shows_the_same_masses():
    # Both sizes have 240 mm by 180 mm.
    small, large = (screening_study(6, rows=rows, columns=rows * 3 // 4) for rows in (240, 480))
    for one, two in zip(small.images, large.images, strict=True):
        for a, b in zip(one.truth, two.truth, strict=True):
            np.testing.assert_allclose(np.array(a.as_tuple()) * 2, b.as_tuple())


def test_saved_files_read_back_equal(tmp_path, small_study):
    paths = small_study.save(tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["R_CC.dcm", "L_CC.dcm", "R_MLO.dcm", "L_MLO.dcm"]
    for path, image in zip(paths, small_study.images, strict=True):
        read = pydicom.dcmread(path)
        assert read == image.dataset
        np.testing.assert_array_equal(read.pixel_array, image.dataset.pixel_array)
        assert read.pixel_array.max() < 2**read.BitsStored


def test_one_study_one_series_four_instances(small_study):
    datasets = [image.dataset for image in small_study.images]
    assert len({d.StudyInstanceUID for d in datasets}) == len({d.SeriesInstanceUID for d in datasets}) == 1
    assert len({d.SOPInstanceUID for d in datasets}) == 4
    assert [d.InstanceNumber for d in datasets] == [1, 2, 3, 4]


def test_whatever_changes_the_object_changes_its_uid():
    size = {"rows": 160, "columns": 120}
    studies = [
        screening_study(1, **size),
        screening_study(2, **size),
        screening_study(1, masses=1, **size),
        screening_study(1, rows=160, columns=121),
        screening_study(1, taken=datetime(2020, 2, 3, 4, 5, 6), **size),
    ]
    for number in range(4):
        assert len({study.images[number].dataset.SOPInstanceUID for study in studies}) == 5


def test_date_is_fixed_unless_given():
    size = {"rows": 160, "columns": 120}
    assert screening_study(1, **size).images[0].dataset.StudyDate == "20000101"
    dataset = screening_study(1, taken=datetime(2020, 2, 3, 4, 5, 6), **size).images[0].dataset
    assert (dataset.StudyDate, dataset.AcquisitionTime) == ("20200203", "040506")


def test_truth_as_coco(small_study):
    coco = small_study.truth_as_coco()
    assert [image["file_name"] for image in coco["images"]] == ["R_CC.dcm", "L_CC.dcm", "R_MLO.dcm", "L_MLO.dcm"]
    assert coco["images"][0]["height"] == 512
    assert coco["images"][0]["width"] == 384
    assert [a["id"] for a in coco["annotations"]] == list(range(1, 9))
    box = small_study.images[3].truth[-1]
    assert coco["annotations"][-1]["image_id"] == 4
    assert coco["annotations"][-1]["bbox"] == [box.x0, box.y0, box.width, box.height]


def test_truth_of_a_normal_study_keeps_its_images():
    coco = screening_study(1, masses=0, rows=128, columns=96).truth_as_coco()
    assert len(coco["images"]) == 4
    assert coco["annotations"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seed": -1}, "seed .* 0 to .* not -1"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 1, "masses": 7}, "masses .* 0 to 6, not 7"),
        ({"seed": 1, "masses": -1}, "masses"),
        ({"seed": 1, "rows": 127}, "rows .* 128 to 8192, not 127"),
        ({"seed": 1, "columns": 9000}, "columns .* 96 to 8192, not 9000"),
    ],
)
def test_values_out_of_range(arguments, words):
    with pytest.raises(PhantomError, match=words):
        screening_study(**arguments)


def test_a_folder_that_is_a_file(tmp_path, small_study):
    (tmp_path / "taken").write_text("")
    with pytest.raises(PhantomError, match="name a folder"):
        small_study.save(tmp_path / "taken")
