import json

import numpy as np
import pytest
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.datasets import DatasetError
from mammoscope.datasets.collections import COLLECTIONS, recognise

MIAS = "mdb001 G CIRC B 535 425 197\nmdb002 D NORM\n"
TABLES = {  # enough of the columns of each to be known by
    "cbis-ddsm": ["patient_id", "left or right breast", "image view", "abnormality id", "abnormality type",
                  "assessment", "pathology", "subtlety", "image file path", "ROI mask file path"],
    "inbreast": ["Patient ID", "Laterality", "View", "File Name", "ACR", "Bi-Rads"],
    "vindr-mammo": ["study_id", "image_id", "laterality", "view_position", "breast_birads", "breast_density",
                    "finding_categories", "xmin", "ymin", "xmax", "ymax", "split"],
    "cdd-cesm": ["Image_name", "Patient_ID", "Side", "Type", "View", "Pathology Classification/ Follow up"],
    "cmmd": ["ID1", "LeftRight", "Age", "number", "abnormality", "classification", "subtype"],
    "embed": ["empi_anon", "acc_anon", "anon_dicom_path", "FinalImageType", "ImageLateralityFinal", "ROI_coords"],
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_a_collection_is_recognised_by_its_table(lay, name):
    laid = lay(name)
    laid.csv("any/name.csv", TABLES[name], [])
    assert recognise(laid.folder).key == name


@pytest.mark.parametrize(
    ("name", "file", "text"),
    [
        ("mini-mias", "Info", MIAS),
        ("ddsm", "A-1141-1.ics", "ics_version 1.0\n"),
        ("dmid", "Info.txt", "IMG001 CCRT G CIRC B 1 2 3\nIMG002 CCLT G NORM\n"),
    ],
)
def test_a_collection_is_recognised_by_its_text(lay, name, file, text):
    laid = lay(name)
    laid.text(file, text)
    assert recognise(laid.folder).key == name


def test_none_and_several_are_said(lay):
    laid = lay("auto")
    laid.csv("other.csv", ["a", "b"], [])
    with pytest.raises(DatasetError, match="holds none of the collections cbis-ddsm, inbreast"):
        recognise(laid.folder)
    laid.csv("cmmd.csv", TABLES["cmmd"], [])
    laid.text("Info.txt", MIAS)
    with pytest.raises(DatasetError, match=r"holds several collections \(mini-mias, cmmd\): name the folder of one"):
        recognise(laid.folder)


@pytest.fixture
def mias(lay):
    laid = lay("mini-mias")
    laid.text("Info.txt", MIAS)
    for number in (1, 2):
        laid.picture(f"mdb{number:03d}.pgm", np.full((1024, 1024), number, np.uint8))
    return laid


@pytest.mark.parametrize("name", ["mini-mias", "auto"])
def test_the_command_line_imports_and_tells(mias, name):
    done = CliRunner().invoke(app, ["dataset", "import", name, str(mias.folder), "--out", str(mias.out)])
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "mini-MIAS: 2 images of 1 patients with 1 boxes; 1 images have no box." in said
    assert "Suckling" in said
    info = json.loads((mias.out / "annotations.json").read_text())["info"]
    assert info["description"] == "mini-MIAS"
    assert "MIAS licence" in info["licence"]
    # nothing of the collection moved or changed
    assert sorted(path.name for path in mias.folder.iterdir()) == ["Info.txt", "mdb001.pgm", "mdb002.pgm"]


def test_every_collection_has_a_command():
    for name in COLLECTIONS:
        assert CliRunner().invoke(app, ["dataset", "import", name, "--help"]).exit_code == 0


@pytest.mark.usefixtures("mias")
def test_an_unknown_name_is_refused(lay):
    unknown = lay("mias")
    assert "'mias' is no collection that is known: choose one of cbis-ddsm" in unknown.refused()


def test_a_data_set_that_is_there_is_not_replaced_unasked(mias):
    mias.bring()
    with pytest.raises(DatasetError, match="is there already: choose another --out, or replace it with --force"):
        mias.bring()
    mias.bring(overwrite=True)
