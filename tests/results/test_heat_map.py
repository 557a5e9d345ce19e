"""The heat map of a finding as a picture and as an object."""

import shutil
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from mammoscope.explain import HeatMap
from mammoscope.findings import Box
from mammoscope.imaging import Placement
from mammoscope.results import (
    ResultError,
    draw_heat_map,
    heat_map_capture,
    secondary_capture,
    verify_against_reading,
)
from mammoscope.results.study import tracked_findings

FINDINGS = [((200, 120, 240, 170), 0.87), ((180, 240, 220, 280), 0.41)]


def heat_map(box: Box | None = None, agreement: float | None = 0.93) -> HeatMap:
    """Hot in that part of a mammogram of 400 rows and 300 columns, which the input shows at half its size."""
    values = np.full((200, 150), -0.1, np.float32)
    if box is not None:
        values[int(box.y0) // 2 : int(box.y1) // 2, int(box.x0) // 2 : int(box.x1) // 2] = 0.5
    return HeatMap(
        values, Placement(0, 0, 2, 2), "D-RISE, 600 masks of 10 cells, seed 0", "rise of the score", agreement
    )


def coloured(pixels: np.ndarray) -> np.ndarray:
    return pixels.max(axis=2).astype(int) - pixels.min(axis=2) > 40


def panels(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The plain and the coloured mammogram: 1200 rows below two lines of words, 900 columns each."""
    rows = slice(2 * 34 + 12, 2 * 34 + 12 + 1200)
    return pixels[rows, :900], pixels[rows, 912:1812]


def test_colour_lies_where_the_heat_is_and_only_in_the_second_picture(make_image, algorithm):
    image = make_image(findings=[((20, 300, 60, 340), 0.87)])  # a box away from the heat: its own colour is not counted

    plain, heated = panels(draw_heat_map(image, 1, heat_map(Box(200, 120, 240, 170)), algorithm))

    # Three pixels of the picture for one of the mammogram; the margin is for smooth enlarging.
    inside = coloured(heated)[380:490, 620:700]
    assert inside.all()
    assert not coloured(plain)[350:520, 590:730].any()
    assert not coloured(heated)[:340].any()
    assert not coloured(heated)[530:880].any()


def test_both_pictures_have_the_box_of_that_finding_alone(make_image, algorithm):
    image = make_image(findings=FINDINGS)

    for panel in panels(draw_heat_map(image, 2, heat_map(), algorithm)):
        yellow = (panel == (255, 214, 0)).all(axis=2)
        assert yellow[3 * 240, 3 * 190 : 3 * 210].all()
        assert yellow[3 * 280 - 1, 3 * 190 : 3 * 210].all()
        assert not yellow[3 * 120 : 3 * 170, 3 * 200 : 3 * 240].any()


def orange(pixels: np.ndarray) -> int:
    return int((pixels == (255, 150, 90)).all(axis=2).sum())


def test_a_map_that_is_not_to_be_trusted_says_so(make_image, algorithm):
    image = make_image(findings=FINDINGS)
    box = Box(200, 120, 240, 170)

    assert orange(draw_heat_map(image, 1, heat_map(box), algorithm)) == 0
    assert orange(draw_heat_map(image, 1, heat_map(box, agreement=0.3), algorithm)) > 50
    assert orange(draw_heat_map(image, 1, heat_map(None), algorithm)) > 50  # nowhere above 0: no heat at all


def test_a_wide_and_a_tiny_mammogram_can_be_drawn(make_image, algorithm):
    image = make_image(findings=FINDINGS)
    drawn = draw_heat_map(image, 1, HeatMap(np.eye(32, dtype=np.float32), Placement(3, 5, 8, 2), "m", "s"), algorithm)

    assert drawn.dtype == np.uint8
    assert drawn.shape == (1200 + 5 * 34 + 24, 2 * 900 + 12, 3)


@pytest.mark.parametrize("number", [0, 3])
def test_a_finding_that_is_not_there(make_image, algorithm, number):
    image = make_image(findings=FINDINGS)

    with pytest.raises(ResultError, match=f"2 findings: there is no finding {number}"):
        draw_heat_map(image, number, heat_map(), algorithm)
    with pytest.raises(ResultError, match=f"2 findings: there is no finding {number}"):
        heat_map_capture(image, number, heat_map(), algorithm)


def test_attributes_of_the_object(make_image, algorithm, now):
    image = make_image(findings=FINDINGS)

    capture = heat_map_capture(image, 2, heat_map(Box(0, 0, 50, 50)), algorithm, now=now)

    verify_against_reading(capture, [image])
    assert (capture.PatientID, capture.StudyInstanceUID, capture.AccessionNumber) == ("P-1", "2.25.10", "A-1")
    assert (capture.Modality, capture.SeriesNumber, capture.InstanceNumber) == ("OT", 9004, 2)
    assert capture.SeriesDescription == "Mammoscope CAD heat maps, research use only, mammoscope-te 1.2.0"
    assert capture.SoftwareVersions[1] == "mammoscope-test 1.2.0"
    assert capture.ImageLaterality == "R"
    (source,) = capture.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == "2.25.10001"
    for words in ("D-RISE, 600 masks", "0.93", tracked_findings(image, algorithm)[1].tracking_uid, "not where to cut"):
        assert words in capture.DerivationDescription
    by_gradient = heat_map_capture(image, 2, heat_map(Box(0, 0, 50, 50), agreement=None), algorithm, now=now)
    assert "agreement" not in by_gradient.DerivationDescription
    drawn = draw_heat_map(image, 2, heat_map(Box(0, 0, 50, 50)), algorithm)
    assert (capture.pixel_array == drawn).all()


def test_the_same_map_is_the_same_object_and_another_is_another(make_image, algorithm):
    image = make_image(findings=FINDINGS)
    uids = [
        heat_map_capture(image, number, values, algorithm).SOPInstanceUID
        for number, values in (
            (1, heat_map(Box(0, 0, 50, 50))),
            (1, heat_map(Box(0, 0, 50, 50))),
            (1, heat_map(Box(0, 0, 60, 50))),
            (2, heat_map(Box(0, 0, 50, 50))),
        )
    ]

    assert uids[0] == uids[1]
    assert len(set(uids)) == 3
    series = {heat_map_capture(image, n, heat_map(), algorithm).SeriesInstanceUID for n in (1, 2)}
    assert len(series) == 1
    assert secondary_capture([image], algorithm).SeriesInstanceUID not in series


@pytest.mark.validators
def test_dciodvfy_finds_no_error(make_image, algorithm, now, tmp_path, dciodvfy_errors):
    path = tmp_path / "heat.dcm"
    odd = make_image(
        "L",
        findings=FINDINGS,
        known=False,
        SpecificCharacterSet="ISO_IR 127",
        PatientName="قباني^لنزار",
        BurnedInAnnotation=None,
    )
    for image in (make_image(findings=FINDINGS), odd):
        heat_map_capture(image, 1, heat_map(Box(10, 10, 90, 90)), algorithm, now=now).save_as(
            path, enforce_file_format=True
        )
        assert dciodvfy_errors(path) == []


@pytest.mark.pacs
def test_a_dcmtk_archive_takes_it(make_image, algorithm, tmp_path):
    if not (shutil.which("storescp") and shutil.which("storescu")):
        pytest.skip("DCMTK's storescp and storescu are not installed")
    image = make_image(findings=FINDINGS)
    capture = heat_map_capture(image, 1, heat_map(Box(10, 10, 90, 90)), algorithm)
    capture.save_as(tmp_path / "heat.dcm", enforce_file_format=True)
    archive = tmp_path / "archive"
    archive.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    with subprocess.Popen(["storescp", "--output-directory", str(archive), port]) as server:
        try:
            sent = _send(tmp_path / "heat.dcm", port)
        finally:
            server.terminate()

    assert sent.returncode == 0, sent.stderr
    (stored,) = archive.iterdir()
    assert capture.SOPInstanceUID in stored.name


def _send(file: Path, port: str) -> subprocess.CompletedProcess[str]:
    """Until the archive listens; it refuses connections before."""
    until = time.monotonic() + 30
    while True:
        sent = subprocess.run(
            ["storescu", "127.0.0.1", port, str(file)], capture_output=True, text=True, check=False, timeout=30
        )
        if sent.returncode == 0 or time.monotonic() > until:
            return sent
        time.sleep(0.1)
