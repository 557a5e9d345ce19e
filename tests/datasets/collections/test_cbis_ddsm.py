import shutil

import cv2
import numpy as np
import pytest
from pydicom.uid import generate_uid

from mammoscope.datasets.masks import binary_dicom, binary_file, parts_of, union
from mammoscope.findings import Box
from mammoscope.imaging import Laterality, View

COMMON = ("patient_id", "left or right breast", "image view", "abnormality id", "abnormality type", "assessment",
          "pathology", "subtlety", "image file path", "cropped image file path", "ROI mask file path")  # fmt: skip
MASS = (*COMMON, "breast_density", "mass shape", "mass margins")
CALC = (*COMMON, "breast density", "calc type", "calc distribution")


class Films:
    """Lays films with their regions, and rows about them, as the archive does."""

    def __init__(self, laid, grey) -> None:
        self.laid, self.grey = laid, grey
        self.rows: dict[str, list[list[object]]] = {}
        self.series: dict[str, str] = {}

    def film(self, name, size=(80, 60), pixels=None):
        self.series[name] = generate_uid()
        self.laid.film(
            f"{name}/{generate_uid()}/1-1.dcm", self.grey(*size) if pixels is None else pixels, PatientID=name,
            SeriesInstanceUID=self.series[name], StudyInstanceUID=generate_uid(),
        )  # fmt: skip

    def region(self, name, mask=None, crop=(20, 20), patient=None):
        """The folder of an abnormality: a crop, and a mask if one is given."""
        self.series[name] = generate_uid()
        elements = {"PatientID": name if patient is None else patient, "SeriesInstanceUID": self.series[name]}
        # the crop comes first here, under the name that the tables give to the mask
        self.laid.film(f"{name}/ROI mask images/1-1.dcm", self.grey(*crop), **elements)
        if mask is not None:
            self.laid.film(f"{name}/ROI mask images/1-2.dcm", mask, **elements)

    def row(self, table, name, number, *, pathology="BENIGN", more=("3", "OVAL", "CIRCUMSCRIBED")):
        kind, _, patient, side, view = name.replace("P_", "P").replace("-", "_").split("_")
        region = f"{name}_{number}/{generate_uid()}/{self.series.get(f'{name}_{number}')}/00000"
        self.rows.setdefault(table, []).append([
            patient.replace("P", "P_"), side, view, number, {"Mass": "mass", "Calc": "calcification"}[kind], "4",
            pathology, "5", f"{name}/{generate_uid()}/{self.series.get(name)}/000000.dcm", f"{region}1.dcm\n",
            f"{region}0.dcm", *more,
        ])  # fmt: skip

    def write(self):
        for table, rows in self.rows.items():
            self.laid.csv(table, MASS if "mass" in table else CALC, rows)


@pytest.fixture
def films(lay, grey) -> Films:
    return Films(lay("cbis-ddsm"), grey)


def mask(rows, columns, *boxes):
    """A mask of boxes (x0, y0, x1, y1)."""
    pixels = np.zeros((rows, columns), np.uint8)
    for x0, y0, x1, y1 in boxes:
        pixels[y0:y1, x0:x1] = 255
    return pixels


TRAIN, TEST = "mass_case_description_train_set.csv", "mass_case_description_test_set.csv"
CALC_TRAIN = "calc_case_description_train_set.csv"


def test_boxes_come_from_the_masks_whatever_their_names(films):
    films.film("Mass-Training_P_00001_LEFT_CC")
    films.region("Mass-Training_P_00001_LEFT_CC_1", mask(80, 60, (10, 20, 31, 45)))
    films.region("Mass-Training_P_00001_LEFT_CC_2", mask(80, 60, (40, 5, 50, 9)))
    films.row(TRAIN, "Mass-Training_P_00001_LEFT_CC", 1, pathology="MALIGNANT", more=("3", "IRREGULAR", "SPICULATED"))
    films.row(TRAIN, "Mass-Training_P_00001_LEFT_CC", 2, pathology="BENIGN_WITHOUT_CALLBACK")
    films.write()

    (image,) = films.laid.dataset()

    assert image.name == "P_00001_LEFT_CC.dcm"
    assert (image.patient, image.laterality, image.view, image.split) == (
        "P_00001", Laterality.LEFT, View.CC, "train",
    )  # fmt: skip
    assert image.boxes == (Box(10, 20, 31, 45), Box(40, 5, 50, 9))
    assert image.labels == ("Mass", "Mass")
    assert image.facts["density"] == 3
    assert image.facts["pathology"] == "malignant"
    assert image.box_facts[0]["attributes"] == {
        "abnormality": "1", "subtlety": "5", "shape": "IRREGULAR", "margins": "SPICULATED", "pathology": "malignant",
        "birads": "4",
    }  # fmt: skip
    assert image.box_facts[1]["attributes"]["pathology"] == "benign without callback"


def test_a_film_with_a_crop_in_place_of_its_mask_is_unannotated_and_named(films):
    for number, has_mask in (("00001", True), ("00002", False)):
        name = f"Mass-Training_P_{number}_RIGHT_MLO"
        films.film(name)
        films.region(f"{name}_1", mask(80, 60, (10, 20, 31, 45)) if has_mask else None)
        films.row(TRAIN, name, 1)
    films.write()

    done = films.laid.bring()

    assert done.written.images == 2
    assert len(done.notes) == 1
    assert "1 mammograms are marked 'unannotated'" in done.notes[0]
    assert "P_00002_RIGHT_MLO: 1-1.dcm lies where its mask should be and is a crop" in done.notes[0]
    said, counts = films.laid.unannotated("P_00002_RIGHT_MLO")
    assert said == {"not_outlined": {"an abnormality without a usable mask": 1}}
    assert (counts.with_boxes, counts.negative, counts.unannotated) == (1, 0, 1)


def test_a_mask_of_another_size_is_scaled_only_if_its_aspect_fits(films):
    for number, size in (("00001", (160, 120)), ("00002", (160, 100))):
        name = f"Mass-Test_P_{number}_LEFT_MLO"
        films.film(name)
        films.region(f"{name}_1", mask(*size, (20, 40, 62, 90)))
        films.row(TEST, name, 1)
    films.write()

    done = films.laid.bring()
    images = films.laid.images(overwrite=True)

    assert images["P_00001_LEFT_MLO"].boxes == (Box(10, 20, 31, 45),)
    assert (images["P_00002_LEFT_MLO"].boxes, images["P_00002_LEFT_MLO"].review) == ((), "unannotated")
    assert "1 masks have another size than their mammogram and the same aspect" in done.notes[0]
    assert "its mask of 160 rows and 100 columns does not fit its mammogram of 80 and 60" in done.notes[1]


def test_mass_and_calcification_of_one_film_are_on_one_image(films):
    pixels = films.grey(80, 60)
    for kind, table, box in (("Mass", TRAIN, (1, 2, 9, 10)), ("Calc", CALC_TRAIN, (20, 30, 25, 33))):
        name = f"{kind}-Training_P_00007_LEFT_CC"
        films.film(name, pixels=pixels)
        films.region(f"{name}_1", mask(80, 60, box))
        films.row(table, name, 1, more=("2", "PUNCTATE", "CLUSTERED"))
    films.write()

    (image,) = films.laid.dataset()

    assert dict(zip(image.labels, image.boxes, strict=True)) == {
        "Mass": Box(1, 2, 9, 10), "Calcification": Box(20, 30, 25, 33),
    }  # fmt: skip
    calcification = image.box_facts[image.labels.index("Calcification")]["attributes"]
    assert calcification["calcification_type"] == "PUNCTATE"

    (masses,) = films.laid.dataset(only="masses", overwrite=True)
    assert masses.labels == ("Mass",)


def test_a_patient_of_both_official_sets_stays_in_the_test_set(films):
    for name, table in (("Mass-Test_P_00009_LEFT_CC", TEST), ("Calc-Training_P_00009_RIGHT_CC", CALC_TRAIN),
                        ("Calc-Training_P_00010_RIGHT_CC", CALC_TRAIN)):  # fmt: skip
        films.film(name)
        films.region(f"{name}_1", mask(80, 60, (10, 20, 31, 45)))
        films.row(table, name, 1)
    films.write()

    done = films.laid.bring()
    images = films.laid.images(overwrite=True)

    assert {name: image.split for name, image in images.items()} == {
        "P_00009_LEFT_CC": "test", "P_00010_RIGHT_CC": "train",
    }  # fmt: skip
    assert done.notes[0].startswith("1 patients are in the training set of one kind")


def test_objects_without_the_archives_patient_names_are_found_by_their_series(films):
    name = "Mass-Training_P_00003_LEFT_CC"
    films.series[name] = generate_uid()
    films.laid.film("a/1.dcm", films.grey(80, 60), PatientID="X", SeriesInstanceUID=films.series[name])
    films.region(f"{name}_1", mask(80, 60, (10, 20, 31, 45)), patient="X")
    films.row(TRAIN, name, 1)
    films.write()

    (image,) = films.laid.dataset()

    assert image.boxes == (Box(10, 20, 31, 45),)


def test_specks_of_a_mask_do_not_widen_its_box(films):
    name = "Mass-Training_P_00001_LEFT_CC"
    films.film(name)
    films.region(f"{name}_1", mask(80, 60, (10, 20, 31, 45), (55, 75, 56, 76)))
    films.row(TRAIN, name, 1)
    films.write()

    (image,) = films.laid.dataset()

    assert image.boxes == (Box(10, 20, 31, 45),)


def test_half_a_download_is_said_with_the_line_and_can_be_imported_in_part(films):
    for number in ("00001", "00002", "00003"):
        name = f"Mass-Training_P_{number}_LEFT_CC"
        if number != "00002":
            films.film(name)
            films.region(f"{name}_1", mask(80, 60, (10, 20, 31, 45)))
        films.row(TRAIN, name, 1)
    films.write()

    said = films.laid.refused()

    # each row ends within a quoted cell and takes two lines: the second begins in line 4
    assert f"{TRAIN}, line 4: the mammogram P_00002_LEFT_CC is not in" in said
    assert "1 of 3 that the tables name are missing" in said
    done = films.laid.bring(partial=True)
    assert done.written.images == 2
    assert "1 of 3" in done.notes[0]


def test_a_table_without_a_column_is_refused_with_its_line(films):
    films.film("Mass-Training_P_00001_LEFT_CC")
    films.laid.csv(TRAIN, [name for name in MASS if name != "image view"], [["P_00001"] * (len(MASS) - 1)])

    assert "line 1: this case table of CBIS-DDSM has no column 'image view'" in films.laid.refused()


def test_the_real_tables_and_objects(films, shared_data):
    """Two of the three real objects lie in folders called 'ROI mask images' and are crops: the famous defect."""
    real = shared_data / "cbis-ddsm"
    objects = sorted((real / "roi-dicom").rglob("*.dcm"))
    assert [binary_dicom(path) for path in objects] == [None, None, None]
    shutil.copytree(real / "roi-dicom", films.laid.folder / "dicom")
    shutil.copy(real / "csv" / TEST, films.laid.folder / TEST)
    for name in ("Mass-Test_P_00016_LEFT_CC", "Mass-Test_P_00116_RIGHT_MLO", "Mass-Test_P_00017_LEFT_CC"):
        films.film(name, size=(2000, 1500))
    films.region("Mass-Test_P_00017_LEFT_CC_1", mask(2000, 1500, (100, 200, 300, 500)))

    done = films.laid.bring(partial=True)
    image = films.laid.images(partial=True, overwrite=True)["P_00017_LEFT_CC"]

    assert (image.patient, image.split, image.boxes) == ("P_00017", "test", (Box(100, 200, 300, 500),))
    assert image.box_facts[0]["attributes"]["shape"]
    assert "2 mammograms are marked 'unannotated': a lesion on them has no usable mask" in done.notes[-1]
    assert done.notes[-1].endswith("is a crop.")


def test_a_crop_that_alone_bears_its_name_does_not_hide_its_mask(films):
    """As in the calcification test set: of one series the crop is named by the tables, the mask is not."""
    for number in ("00562", "00563"):
        name = f"Calc-Test_P_{number}_LEFT_CC"
        films.film(name)
        films.series[f"{name}_2"] = generate_uid()
        common = {"SeriesInstanceUID": films.series[f"{name}_2"]}
        films.laid.film(f"{name}/crop.dcm", films.grey(20, 20), PatientID=f"{name}_2", **common)
        inside = mask(80, 60, (10, 20, 31, 45))
        films.laid.film(f"{name}/mask.dcm", inside, PatientID=f"P_{number}_LEFT_CC_2.dcm", **common)
        if number == "00563":  # nor do the tables name its series
            films.series[f"{name}_2"] = "unknown"
        films.row("calc_case_description_test_set.csv", name, 2, more=("2", "PUNCTATE", "CLUSTERED"))
    films.write()

    images = films.laid.images()

    assert [images[f"P_{n}_LEFT_CC"].boxes for n in ("00562", "00563")] == [(Box(10, 20, 31, 45),)] * 2


@pytest.mark.parametrize("table", [True, False])
def test_the_pictures_of_the_copy_on_kaggle(films, table):
    """csv/ and jpeg/: masks are not two-valued any more, and dicom_info.csv or the folder's name says the series."""
    name = "Mass-Training_P_00001_LEFT_CC"
    films.series |= {name: generate_uid(), f"{name}_1": generate_uid()}
    whole, region = films.series[name], films.series[f"{name}_1"]
    smooth = np.linspace(0, 255, 160 * 120).reshape(160, 120).astype(np.uint8)
    films.laid.picture(f"jpeg/{whole}/1-249.jpg", smooth)
    films.laid.picture(f"jpeg/{region}/1-105.jpg", smooth[:40, :40])
    films.laid.picture(f"jpeg/{region}/2-241.jpg", mask(160, 120, (16, 32, 72, 96)))
    films.row(f"csv/{TRAIN}", name, 1)
    films.write()
    if table:
        info = ["file_path", "image_path", "PatientID", "Rows", "Columns", "SeriesDescription", "SeriesInstanceUID"]
        films.laid.csv("csv/dicom_info.csv", info, [
            ["x", f"CBIS-DDSM/jpeg/{whole}/1-249.jpg", name, 160, 120, "full mammogram images", whole],
            ["x", f"CBIS-DDSM/jpeg/{region}/1-105.jpg", f"{name}_1", 40, 40, "cropped images", region],
            ["x", f"CBIS-DDSM/jpeg/{region}/2-241.jpg", f"{name}_1", 160, 120, "ROI mask images", region],
        ])  # fmt: skip

    (image,) = films.laid.dataset()

    assert image.boxes == (Box(16, 32, 72, 96),)
    assert (image.name, image.patient, image.split) == ("P_00001_LEFT_CC.jpg", "P_00001", "train")


def test_a_jpeg_mask_is_told_from_a_crop(tmp_path):
    inside = mask(200, 160, (31, 42, 95, 121))
    assert cv2.imwrite(str(tmp_path / "mask.jpg"), inside, [cv2.IMWRITE_JPEG_QUALITY, 70])
    assert len(np.unique(cv2.imread(str(tmp_path / "mask.jpg"), cv2.IMREAD_GRAYSCALE))) > 2
    found = binary_file(tmp_path / "mask.jpg")
    assert found is not None
    assert union(parts_of(found)) == Box(31, 42, 95, 121)
    crop = np.random.default_rng(1).normal(120, 50, (200, 160)).clip(0, 255).astype(np.uint8)
    assert cv2.imwrite(str(tmp_path / "crop.jpg"), crop)
    assert binary_file(tmp_path / "crop.jpg") is None


def test_where_no_image_is_left_the_reasons_are_told(films):
    films.film("Calc-Training_P_00001_LEFT_CC")
    films.row(CALC_TRAIN, "Calc-Training_P_00001_LEFT_CC", 1)
    films.write()
    said = films.laid.refused(only="masses")
    assert "gives no image of CBIS-DDSM" in said
