"""What a reader says of a finding: coded in each object, read back by the importer, and right by the validators."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset

from mammoscope.datasets.formats.dicom.annotations import read_annotation_objects
from mammoscope.descriptors import BIRADS, MARGINS_OF_MASSES, OFFERED, SHAPES, WORDS, Description
from mammoscope.findings import Box, Finding, Reading, ReadingStatus
from mammoscope.results import ReadMammogram, ai_sr, cad_sr_obstacle, mammography_cad_sr
from mammoscope.results.presentation_state import presentation_state
from mammoscope.results.verification import concept_value, content_items, verify_against_reading

SAID = Description("4B", "irregular", "spiculated", "near the nipple,\nnew")
ON_THE_OTHER_VIEW = Description("3", "oval", "", "")


def described(read: ReadMammogram, *descriptions: Description, label: str = "Mass") -> ReadMammogram:
    boxes = [finding.box for finding in read.reading.findings]
    findings = tuple(
        Finding(box, 1.0, label, description) for box, description in zip(boxes, descriptions, strict=True)
    )
    status = ReadingStatus.FOUND if findings else ReadingStatus.NOTHING_FOUND
    rows, columns = read.mammogram.rows, read.mammogram.columns
    return ReadMammogram(read.mammogram, Reading(read.reading.name, status, findings, rows=rows, columns=columns))


@pytest.fixture(scope="module")
def read_by_a_person(four_views) -> list[ReadMammogram]:
    right_cc, left_cc, right_mlo, left_mlo = four_views
    return [
        described(right_cc, SAID, Description()),
        described(left_cc),
        described(right_mlo, ON_THE_OTHER_VIEW),
        described(left_mlo, Description("6", margin="obscured")),
    ]


@pytest.fixture(scope="module")
def objects(read_by_a_person, algorithm, now) -> dict[str, Dataset]:
    made = {
        "cad-sr": mammography_cad_sr(read_by_a_person, algorithm, now=now),
        "ai-sr": ai_sr(read_by_a_person, algorithm, now=now, verified_by="Doe"),
        "gsps": presentation_state(read_by_a_person[0], algorithm, now=now),
    }
    for dataset, of in zip(made.values(), (read_by_a_person, read_by_a_person, read_by_a_person[:1]), strict=True):
        verify_against_reading(dataset, of)
    return made


@pytest.fixture(scope="module")
def files(objects, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("described")
    for name, dataset in objects.items():
        dataset.save_as(folder / f"{name}.dcm", enforce_file_format=True)
    return {name: folder / f"{name}.dcm" for name in objects}


def coded(item: Dataset) -> dict[str, tuple[str, str]]:
    """Codes of the items below an item, by the code of their concept."""
    return {
        str(concept_value(child)): (code.CodeValue, code.CodingSchemeDesignator)
        for child in item.ContentSequence
        for code in child.get("ConceptCodeSequence", ())
    }


def test_a_measurement_report_codes_it_as_qualitative_evaluations(objects):
    group, plain, *_ = [item for item in content_items(objects["ai-sr"]) if concept_value(item) == "125007"]
    rows = coded(group)
    assert rows["111005"] == ("MA.II.A.5.4B", "BI")
    assert rows["107644003"] == ("49608001", "SCT")
    assert rows["111037"] == ("129742005", "SCT")
    texts = {concept_value(item): item.TextValue for item in group.ContentSequence if "TextValue" in item}
    assert texts["111033"] == "near the nipple,\nnew"
    assert texts["121106"].startswith("Mass, BI-RADS 4B, irregular, spiculated, ")
    assert not {"111005", "107644003", "111037"} & coded(plain).keys()


def test_a_cad_report_codes_it_where_the_template_has_a_place(objects):
    """TID 4002 of the impression: category and comment; TID 4011 of the finding: shape, margins."""
    impressions = [item for item in content_items(objects["cad-sr"]) if concept_value(item) == "111034"]
    said = [coded(impression).get("111005") for impression in impressions]
    assert sorted(filter(None, said)) == [("397143007", "SCT"), ("MA.II.A.5.4B", "BI"), ("MA.II.A.5.6", "BI")]
    [first] = [one for one in impressions if coded(one).get("111005") == ("MA.II.A.5.4B", "BI")]
    rows = [concept_value(item) for item in first.ContentSequence]
    assert rows == ["111056", "111005", "111033", "111001", "111003", "111059"]
    [finding] = [item for item in first.ContentSequence if concept_value(item) == "111059"]
    assert [concept_value(item) for item in finding.ContentSequence][-2:] == ["107644003", "111037"]


def test_a_lesion_on_two_views_has_the_more_suspicious_category(make_image, algorithm):
    """Both findings 40 mm behind the nipple: one composite feature, of which one thing is said."""
    box = ((100.0, 150.0, 140.0, 190.0), 0.9)
    cc = described(make_image("L", "CC", 1, [box], spacing_mm=0.2), Description("3", "round", comment="seen"))
    mlo = described(make_image("L", "MLO", 2, [box], spacing_mm=0.2), Description("5", "oval", comment="seen"))
    report = mammography_cad_sr([cc, mlo], algorithm)
    [impression] = [item for item in content_items(report) if concept_value(item) == "111034"]
    assert any(concept_value(item) == "111015" for item in impression.ContentSequence)
    assert coded(impression)["111005"] == ("397145000", "SCT")
    assert [item.TextValue for item in impression.ContentSequence if concept_value(item) == "111033"] == ["seen"]


@pytest.mark.parametrize("names", [("cad-sr", "ai-sr", "gsps"), ("cad-sr",), ("ai-sr",), ("gsps",)])
def test_it_comes_back_on_import(files, names: tuple[str, ...]):
    taken = read_annotation_objects([files[name] for name in names])
    by_box = {mark.box.as_tuple(): mark for mark in taken.marks["2.25.10001"]}
    mark = by_box[180.25, 120.5, 240.75, 170.0]
    expected = SAID.to_dict()
    if names == ("gsps",):
        del expected["comment"]  # a label on the image has no room for it
    assert {name: mark.said.get(name) for name in expected} == expected
    assert mark.label == "Mass"
    assert not {"birads", "shape", "margin", "comment"} & by_box[200.0, 220.0, 230.0, 260.0].said.keys()
    if names[0] != "gsps":
        [other] = taken.marks["2.25.10003"]
        assert Description.of(other.said) == ON_THE_OTHER_VIEW


@pytest.mark.parametrize("label", ["Calcification", "Architectural distortion", "Asymmetry", "Lymph node"])
def test_other_classes_have_codes_and_come_back(make_image, algorithm, tmp_path, label: str):
    read = described(make_image("L", "CC", 1, [((10.0, 20.0, 60.0, 80.0), 0.9)]), Description("4"), label=label)
    reports = [ai_sr([read], algorithm, verified_by="Doe")]
    if label in ("Calcification", "Architectural distortion"):
        reports.append(mammography_cad_sr([read], algorithm))
    else:
        assert cad_sr_obstacle(read) == f"the report has no code for findings of the class {label}"
    for number, report in enumerate(reports):
        path = tmp_path / f"{number}.dcm"
        report.save_as(path, enforce_file_format=True)
        [mark] = read_annotation_objects([path]).marks["2.25.10001"]
        assert (mark.label, mark.said["birads"], mark.box) == (label, "4", Box(10, 20, 60, 80))


def test_other_words_are_another_object(read_by_a_person, algorithm):
    first, *others = read_by_a_person
    other = described(first, replace(SAID, comment="old"), Description())
    uids = {str(ai_sr([image, *others], algorithm).SOPInstanceUID) for image in (first, other)}
    assert len(uids) == 2


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"birads": "4a", "shape": "OVAL", "margins": "SPICULATED"}, Description("4A", "oval", "spiculated")),
        ({"assessment": 5, "margin": "ill-defined", "subtlety": 3}, Description("5", margin="ill-defined")),
        ({"birads": " ", "shape": None, "comment": ["x"]}, Description()),
    ],
)
def test_the_words_of_data_sets_are_understood(said: Mapping[str, object], expected: Description):
    assert Description.of(said) == expected
    assert Description.of(expected.to_dict()) == expected
    assert Description.in_text(f"Mass, {expected}, x").birads == expected.birads


def test_every_word_has_a_code_of_its_own_and_readers_are_offered_no_other():
    for words in (BIRADS, SHAPES, MARGINS_OF_MASSES):
        assert len({(code.value, code.scheme_designator) for code in words.values()}) == len(words)
        assert all(len(code.value) <= 16 and len(code.meaning) <= 64 for code in words.values())
    assert all(set(offered) <= WORDS[name].keys() for name, offered in OFFERED.items())


@pytest.mark.validators
def test_the_validators_find_no_error(files, dciodvfy_errors, dsrdump_errors, pixelmed_errors):
    for name, path in files.items():
        assert dciodvfy_errors(path) == []
        if name != "gsps":
            assert dsrdump_errors(path) == []
    # The class of the document lets a container contain and have no properties (PS3.3 A.35.5-2), as DCMTK says too;
    # PixelMed knows TID 4002 only as it is below a code (TID 4001).
    told = pixelmed_errors(files["cad-sr"], "TID_4000")
    assert [one for one in told if "expected HAS PROPERTIES - found CONTAINS" not in one] == []
    assert pixelmed_errors(files["ai-sr"], "TID_1500") == []
