"""Reports and masks, read in node.js by what OHIF reads them with."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import missing
from mammoscope.settings import ResultKind

pytestmark = [pytest.mark.validators, pytest.mark.slow]


@pytest.fixture(scope="module")
def read(make_case, tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory):
    import viewer_cornerstone

    node, npm = tool("node"), tool("npm")
    try:
        viewer_cornerstone.bundle(npm)
    except (subprocess.SubprocessError, OSError) as error:
        missing(f"Cornerstone's adapters cannot be fetched ({type(error).__name__})")

    def read(name: str, kind: ResultKind):
        case, folder = make_case(name), tmp_path_factory.mktemp("results")
        files: list[Path] = []
        for number, result in enumerate(case.of(kind)):
            files.append(folder / f"{number}.dcm")
            result.dataset.save_as(files[-1], enforce_file_format=True)
        return case, viewer_cornerstone.read(node, npm, [*case.files[:4], *files])

    return read


@pytest.mark.parametrize("name", ["some", "none"])
def test_every_finding_becomes_an_editable_rectangle_where_it_was_found(name: str, read):
    case, said = read(name, ResultKind.AI_SR)
    [found] = said["reports"]
    expected = [(i.sop_instance_uid, f) for i in case.images for f in i.reading.findings]
    assert [(one["tool"], one["image"]) for one in found] == [("RectangleROI", uid) for uid, _ in expected]
    for one, (_, finding) in zip(found, expected, strict=True):
        assert one["box"] == pytest.approx(finding.box.as_tuple(), abs=0.01)
        assert one["label"] == f"Mass {finding.score * 100:.0f} %, research use only, not for diagnosis"
        assert one["finding"] == "Mammographic breast mass"


def test_masks_are_read_and_cornerstone_says_what_it_cannot_show(read):
    case, said = read("some", ResultKind.SEGMENTATION)
    masks = [segment for one in said["segmentations"] for segment in one["segments"]]
    findings = [f for i in case.images for f in i.reading.findings]
    assert [mask["box"] for mask in masks] == [[round(edge) for edge in f.box.as_tuple()] for f in findings]
    assert {tuple(mask["spacing"]) for mask in masks} == {(0.375, 0.375)}
    # A projection is no plane in the patient. Once this changes, so may docs/results-objects.md.
    assert all("ImageOrientationPatient" in one["cornerstone"] for one in said["segmentations"])
