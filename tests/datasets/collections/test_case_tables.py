import json

import numpy as np
import pytest
from PIL import Image

from mammoscope.datasets import CaseTables, DatasetError, ImageIdentity, import_coco, load_dataset
from mammoscope.imaging import Laterality, View

HEADER = (
    "patient_id,breast_density,left or right breast,image view,mass shape,mass margins,pathology,subtlety,image file"
)
MASS = f"""{HEADER}
P_00001,3,LEFT,CC,OVAL,SPICULATED,MALIGNANT,4,"x
"
P_00001,3,LEFT,CC,ROUND,SPICULATED,BENIGN,4,x
P_00001,3,LEFT,MLO,OVAL,,MALIGNANT,5,x
"""
CALC = """patient_id,breast density,left or right breast,image view,calc type,pathology
P_00002,2,RIGHT,CC,PUNCTATE,BENIGN
"""
LEFT_CC = ImageIdentity("00001", Laterality.LEFT, View.CC)


@pytest.fixture
def tables(tmp_path):
    (tmp_path / "mass.csv").write_text(MASS)
    (tmp_path / "calc.csv").write_text(CALC)
    return [tmp_path / "mass.csv", tmp_path / "calc.csv"]


def test_abnormalities_of_one_image_are_joined(tables):
    assert CaseTables.read(tables).of(LEFT_CC) == {
        "density": "3", "shape": "several", "margins": "SPICULATED", "pathology": "several", "subtlety": "4",
    }  # fmt: skip


def test_a_view_of_its_own_and_an_empty_cell(tables):
    assert CaseTables.read(tables).of(ImageIdentity("P_00001", Laterality.LEFT, View.MLO)) == {
        "density": "3", "shape": "OVAL", "pathology": "MALIGNANT", "subtlety": "5",
    }  # fmt: skip


def test_calcifications_call_it_otherwise(tables):
    assert CaseTables.read(tables).of(ImageIdentity("00002", Laterality.RIGHT, View.CC)) == {
        "density": "2", "calcification_type": "PUNCTATE", "pathology": "BENIGN",
    }  # fmt: skip


def test_nothing_is_said_of_other_images(tables):
    told = CaseTables.read(tables)
    assert told.of(ImageIdentity("00001", Laterality.RIGHT, View.CC)) == {}
    assert told.of(ImageIdentity("00001")) == {}
    assert CaseTables.read([]).of(LEFT_CC) == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n", "no column 'image view'"),
        ("", "no column"),
        (MASS.replace("LEFT,CC", "NEITHER,CC", 1), "names no patient, side and view"),
        (b"\xff\xfe\x00", "not a CSV file"),
    ],
)
def test_other_files_are_refused(tmp_path, content, said):
    path = tmp_path / "x.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DatasetError, match=said):
        CaseTables.read([path])
    with pytest.raises(DatasetError, match="cannot be read"):
        CaseTables.read([tmp_path / "none.csv"])


def test_an_import_keeps_them_beside_the_entrys_own(tmp_path, tables):
    names = ["00001_LEFT_CC.png", "00009_LEFT_CC.png"]
    for name in names:
        Image.fromarray(np.zeros((30, 20), np.uint8)).save(tmp_path / name)
    content = {
        "categories": [{"id": 1, "name": "Mass"}],
        "images": [
            {"id": n, "file_name": name, "height": 30, "width": 20, "attributes": {"scanner": "A"}}
            for n, name in enumerate(names)
        ],
        "annotations": [],
    }
    (tmp_path / "x.json").write_text(json.dumps(content))
    summary = import_coco(tmp_path / "x.json", tmp_path, tmp_path / "out", case_tables=tables)
    assert summary.with_case == 1
    first, second = load_dataset(tmp_path / "out")
    assert first.facts["attributes"]["scanner"] == "A"
    assert first.facts["attributes"]["density"] == "3"
    assert second.facts["attributes"] == {"scanner": "A"}


def test_the_real_tables_say_something_of_every_mass_image(shared_data):
    told = CaseTables.read(sorted((shared_data / "cbis-ddsm/csv").glob("mass_case_*.csv")))
    assert len(told.attributes) == 1592  # 1231 for training and 361 for the test
    assert all({"density", "pathology", "subtlety"} <= set(said) for said in told.attributes.values())
