"""Synthetic Digital Mammography headers, readings of them, and the validators that other people wrote."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation

from mammoscope.findings import Algorithm, Box, Finding, Reading, ReadingStatus
from mammoscope.imaging import Laterality, Mammogram, PixelSpacing, View
from mammoscope.results import ReadMammogram

ROWS, COLUMNS = 400, 300
FOUR_VIEWS = (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))
VIEW_CODES = {
    "CC": ("399162004", "SCT", "cranio-caudal"),
    "MLO": ("399368009", "SCT", "medio-lateral oblique"),
    "ML": ("399260004", "SCT", "medial-lateral"),
}
ORIENTATIONS = {"L": ["A", "R"], "R": ["P", "L"]}


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _header(laterality: str, view: str, number: int) -> Dataset:
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    header.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    header.SOPInstanceUID = f"2.25.1000{number}"
    header.StudyInstanceUID, header.SeriesInstanceUID = "2.25.10", f"2.25.10{number % 2}"
    header.PatientID, header.PatientName = "P-1", "Doe^Jane"
    header.PatientBirthDate, header.PatientSex = "19640301", "F"
    header.StudyDate, header.StudyTime, header.StudyID = "20260102", "093000", "S1"
    header.ContentDate, header.ContentTime = "20260102", "093100.125"
    header.AccessionNumber, header.ReferringPhysicianName = "A-1", "Ref^Doc"
    header.Modality, header.Rows, header.Columns = "MG", ROWS, COLUMNS
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.RescaleIntercept, header.RescaleSlope, header.RescaleType = 0, 1, "US"
    header.WindowCenter, header.WindowWidth = 2048, 3000
    header.BurnedInAnnotation, header.LossyImageCompression = "NO", "00"
    header.ImageLaterality, header.PatientOrientation = laterality, ORIENTATIONS[laterality]
    header.ImagerPixelSpacing = [0.07, 0.08]
    item = _code(*VIEW_CODES[view])
    item.ViewModifierCodeSequence = []
    header.ViewCodeSequence = [item]
    return header


def _pixels(laterality: str) -> np.ndarray:
    """Half an ellipse of grey on the chest wall's side."""
    y, x = np.mgrid[0:ROWS, 0:COLUMNS]
    breast = ((y - ROWS / 2) / 170) ** 2 + (x / 220) ** 2
    pixels = np.where(breast < 1, 20000 + 20000 * (1 - breast), 0).astype(np.uint16)
    return pixels if laterality == "L" else np.ascontiguousarray(pixels[:, ::-1])


@pytest.fixture(scope="session")
def algorithm() -> Algorithm:
    return Algorithm("mammoscope-test", "1.2.0")


@pytest.fixture(scope="session")
def now() -> datetime:
    return datetime(2026, 1, 3, 8, 9, 10)


@pytest.fixture(scope="session")
def make_image() -> Callable[..., ReadMammogram]:
    """A read mammogram: `make_image("R", "CC", 1, [(box, score)], reason=None, PatientName=...)`.

    Keywords set attributes of the header; ``None`` removes them.
    """

    def make(
        laterality: str = "R",
        view: str = "CC",
        number: int = 1,
        findings: Sequence[tuple[tuple[float, float, float, float], float]] = (),
        *,
        reason: str | None = None,
        known: bool = True,
        spacing_mm: float | None = None,
        **attributes: object,
    ) -> ReadMammogram:
        header = _header(laterality, view, number)
        for keyword, value in attributes.items():
            if value is None:
                delattr(header, keyword)
            else:
                setattr(header, keyword, value)
        name = f"image-{number}"
        mammogram = Mammogram(
            _pixels(laterality),
            name,
            laterality=Laterality(laterality) if known else None,
            view=View(view) if known else None,
            spacing=PixelSpacing(spacing_mm, spacing_mm) if spacing_mm else None,
            header=header,
        )
        if reason is not None:
            return ReadMammogram(mammogram, Reading.not_processed(name, reason, rows=ROWS, columns=COLUMNS))
        status = ReadingStatus.FOUND if findings else ReadingStatus.NOTHING_FOUND
        found = tuple(Finding(Box(*box), score) for box, score in findings)
        return ReadMammogram(mammogram, Reading(name, status, found, rows=ROWS, columns=COLUMNS, threshold=0.25))

    return make


@pytest.fixture(scope="session")
def four_views(make_image: Callable[..., ReadMammogram]) -> list[ReadMammogram]:
    """Two findings on R CC, none on L CC, one on R MLO, one that sticks out of the image on L MLO."""
    findings = (
        [((180.25, 120.5, 240.75, 170.0), 0.93), ((200.0, 220.0, 230.0, 260.0), 0.41)],
        [],
        [((170.0, 90.0, 225.0, 150.0), 0.884)],
        [((-5.0, 380.0, 40.0, 410.0), 0.61)],
    )
    return [
        make_image(laterality, view, number, found)
        for number, ((laterality, view), found) in enumerate(zip(FOUR_VIEWS, findings, strict=True), start=1)
    ]


def _tool(name: str) -> str:
    """Path of a validator; without it the test is skipped, but fails in CI."""
    beside = Path(sys.executable).parent / name
    path = str(beside) if beside.exists() else shutil.which(name)
    return path or _missing(f"{name} is not installed")


def _missing(reason: str) -> str:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def _errors(command: Sequence[str], prefixes: tuple[str, ...]) -> list[str]:
    """Lines of a validator's output that report an error, and the failure to run at all."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if line.startswith(prefixes)]


@pytest.fixture(scope="session")
def dciodvfy_errors() -> Callable[[Path], list[str]]:
    """What dciodvfy (dicom3tools) calls an error: modules, evidence."""
    tool = _tool("dciodvfy")
    return lambda path: _errors([tool, str(path)], ("Error",))


@pytest.fixture(scope="session")
def dsrdump_errors() -> Callable[[Path], list[str]]:
    """What dsrdump (DCMTK) calls an error or warning: relationships between content items."""
    tool = _tool("dsrdump")
    # What it warns of in every report: character sets and templates that it does not know.
    unknown = ("W: The VR checker does not support", "W: Check for template constraints not yet supported")

    def errors(path: Path) -> list[str]:
        return [line for line in _errors([tool, str(path)], ("E:", "W:", "F:")) if not line.startswith(unknown)]

    return errors


@pytest.fixture(scope="session")
def pixelmed_errors() -> Callable[..., list[str]]:
    """What PixelMed's DicomSRValidator calls an error: the root template with item order and template ID.

    It takes 12 s to start. Without the limits lifted, Java 17 refuses its style sheets.
    """
    java = _tool("java")
    jars = Path("/usr/share/java")
    if not (jars / "pixelmed.jar").exists():
        _missing("libpixelmed-java is not installed")
    limits = [f"-Djdk.xml.xpath{name}Limit=0" for name in ("TotalOp", "ExprOp", "ExprGrp")]
    command = [java, *limits, "-cp", str(jars / "pixelmed.jar"), "com.pixelmed.validate.DicomSRValidator"]
    options = ["-checkcontentitemorder", "-checktemplateid"]

    def errors(path: Path, template: str = "TID_4000") -> list[str]:
        done = subprocess.run([*command, *options, str(path)], capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).splitlines()
        if not any(line.startswith(f"Found Root Template {template} ") for line in lines):
            return ["Error: the validator did not find the template", *lines[:20]]
        # Its template has "Failed  Detections" with two blanks, and warns of every report that has one.
        return [line for line in lines if line.startswith("Error") or "not in template row order" in line]

    return errors
