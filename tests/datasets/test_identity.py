import pytest

from mammoscope.datasets import DatasetError, FileNamePattern, ImageIdentity, PatientUnknownError
from mammoscope.imaging import Laterality, View


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("00016_LEFT_CC.jpg", ImageIdentity("00016", Laterality.LEFT, View.CC)),
        ("Mass-Test_P_00116_RIGHT_MLO=full.png", ImageIdentity("00116", Laterality.RIGHT, View.MLO)),
        ("a/b/Mass-Training_P_00801_LEFT_MLO.jpg", ImageIdentity("00801", Laterality.LEFT, View.MLO)),
        ("P_00016_LEFT_CC_1.png", ImageIdentity("00016", Laterality.LEFT, View.CC)),
    ],
)
def test_cbis_names_are_known(name, expected):
    assert FileNamePattern.compile(None).identify(name, {}) == expected


def test_the_entry_comes_before_the_name():
    pattern = FileNamePattern.compile(None)
    known = pattern.identify("00016_LEFT_CC.jpg", {"patient_id": 7, "laterality": "right", "view": "mlo"})
    assert known == ImageIdentity("7", Laterality.RIGHT, View.MLO)


def test_patient_zero_is_a_patient():
    assert FileNamePattern.compile(None).identify("x.png", {"patient_id": 0}).patient == "0"


def test_own_pattern():
    pattern = FileNamePattern.compile(r"^case(?P<patient>\d+)-(?P<laterality>[LR])")
    assert pattern.identify("case12-R-2.png", {}) == ImageIdentity("12", Laterality.RIGHT)


@pytest.mark.parametrize("facts", [{}, {"patient_id": None}, {"patient_id": " "}])
def test_no_patient_is_an_error_that_names_the_option(facts):
    with pytest.raises(PatientUnknownError, match=r"scan1\.png.*--patient-pattern"):
        FileNamePattern.compile(None).identify("scan1.png", facts)


@pytest.mark.parametrize(
    ("expression", "said"), [("(", "not a regular expression"), ("[0-9]+", "group called patient")]
)
def test_bad_patterns(expression, said):
    with pytest.raises(DatasetError, match=said):
        FileNamePattern.compile(expression)


def test_unknown_words_are_no_laterality():
    assert FileNamePattern.compile(None).identify("x", {"patient_id": "p", "laterality": "B", "view": "top"}) == (
        ImageIdentity("p")
    )
