"""OHIF, as a reader uses it: every kind that it is said to show is opened, and looked at on the screen."""

import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from conftest import missing
from mammoscope.results import Result
from mammoscope.settings import ResultKind

pytestmark = [pytest.mark.pacs, pytest.mark.slow]
CONFIG = Path(__file__).resolve().parents[2] / "deploy" / "ohif" / "app-config.js"
PIXELS = 5
GREYS = 6.0


@dataclass(frozen=True)
class Reading:
    """The study of which two images have findings, and a browser on it."""

    case: "object"
    viewer: "object"
    first: "object"
    as_deployed: str
    """Where OHIF is with the configuration of deploy/."""


@pytest.fixture(scope="module")
def reading(make_case, tmp_path_factory, tool: Callable[[str], str], loopback_only) -> Iterator[Reading]:
    if importlib.util.find_spec("playwright") is None:
        missing("playwright is not installed")
    import viewer_ohif
    import viewer_servers

    if not any(map(shutil.which, viewer_ohif.CHROMIUM)):
        missing("chromium is not installed")
    if not viewer_servers.ORTHANC_PLUGIN.is_file() or shutil.which("Orthanc", path=viewer_servers.PATH) is None:
        missing("Orthanc with DICOMweb is not installed")
    try:
        folder = viewer_ohif.ohif(tool("npm"))
    except (subprocess.SubprocessError, OSError) as error:
        missing(f"OHIF cannot be fetched ({type(error).__name__})")
    case = make_case("some")
    with (
        loopback_only(),
        viewer_servers.orthanc(tmp_path_factory.mktemp("archive"), 8042, 4242) as archive,
        viewer_servers.web_origin(folder, viewer_ohif.CONFIG, archive, 8043) as origin,
        viewer_servers.web_origin(folder, CONFIG.read_text(), archive, 8044) as as_deployed,
        viewer_ohif.browser(origin) as viewer,
    ):
        archive.store(case.files)
        viewer.open(case.study)
        yield Reading(case, viewer, viewer.look(), as_deployed)


def test_a_mammogram_has_the_greys_that_were_read(reading):
    from viewer_marks import greys_off_by

    [image] = [i for i in reading.case.images if i.sop_instance_uid == reading.first.image]
    picture = (image.mammogram.pixels >> 8).astype(np.uint8)
    place = reading.first.place(*picture.shape)
    assert greys_off_by(reading.first.screen, place, picture) < GREYS
    assert picture.std() > 4 * GREYS, "a picture with greys to be lost"


def test_the_ai_report_marks_the_masses_as_measurements_that_can_be_edited(reading):
    """Also where most images of the study are without findings (docs/decisions/076-what-viewers-show.md)."""
    from viewer_marks import colour, offsets, on_screen

    assert reading.viewer.series(9005)
    assert reading.viewer.answer("Yes")  # to make measurements of them
    assert reading.viewer.wait_for_marks()
    shown = reading.viewer.look()
    [image] = [i for i in reading.case.images if i.sop_instance_uid == shown.image]
    assert len(image.reading.findings) == 2
    size = image.mammogram.rows, image.mammogram.columns
    for finding in image.reading.findings:
        box = on_screen(finding.box, shown.place(*size), *size)
        assert max(map(abs, offsets(colour(shown.screen), box))) <= PIXELS
    assert not shown.errors


@pytest.mark.parametrize(
    ("kind", "number"),
    [(ResultKind.COLOUR_SHEET, 9006), (ResultKind.SHEET, 9003), (ResultKind.IMAGE_CAPTURE, 9007)],
)
def test_pictures_are_shown_with_their_marks_and_greys(reading, kind: ResultKind, number: int):
    from viewer_marks import (
        LEAST_LIKENESS,
        NOT_THERE,
        burned_in,
        colour,
        greys_off_by,
        in_our_colour,
        likeness_of_lines,
        offsets,
        on_screen,
        shifted_by,
        white_between_black,
    )

    assert reading.viewer.series(number)
    shown = reading.viewer.look()
    result = _of(reading.case.of(kind), shown.image)
    picture = result.dataset.pixel_array
    place = shown.place(*picture.shape[:2])
    assert greys_off_by(shown.screen, place, picture) < GREYS
    drawn = burned_in(_in_colour(reading.case, result))
    assert len(drawn) == sum(len(i.reading.findings) for i in reading.case.images if _is_about(result, i))
    ink = colour(shown.screen) if picture.ndim == 3 else white_between_black(shown.screen)
    for box in drawn:
        found = [by for by in offsets(ink, on_screen(box, place, *picture.shape[:2])) if by != NOT_THERE]
        # A white line of less than a pixel of the screen is lost beside bright tissue, here and there.
        assert len(found) >= (4 if picture.ndim == 3 else 3)
        assert max(map(abs, found)) <= PIXELS
        if picture.ndim == 2:  # so the whole is compared with what the object holds, too
            right, down, alike = shifted_by(shown.screen, place, picture, on_screen(box, place, *picture.shape[:2]))
            assert max(abs(right), abs(down)) <= PIXELS
            assert alike > 0.9
            # The anatomy alone is as alike: whether the mark is there, its own lines say.
            lines = in_our_colour(_in_colour(reading.case, result))
            seen = on_screen(box, place, *picture.shape)
            assert likeness_of_lines(shown.screen, place, picture, lines, seen) > LEAST_LIKENESS
    assert not shown.errors


def test_a_segmentation_does_not_end_the_page(reading):
    """It is not shown, for a projection is no plane in the patient; the rest of the study still is."""
    assert reading.viewer.series(9009, changes=False)
    reading.viewer.look()
    assert reading.viewer.series(9006)
    shown = reading.viewer.look()
    assert shown.image == reading.case.of(ResultKind.COLOUR_SHEET)[0].reference.sop_instance


def test_as_deployed_the_four_views_hang_back_to_back_with_their_marks_on(reading):
    from viewer_marks import colour, greys_off_by, offsets, on_screen

    reading.viewer.open(reading.case.study, reading.as_deployed)
    panes = reading.viewer.panes(4)
    assert reading.viewer.wait_for_marks()
    shown = reading.viewer.look()
    images = {f"{i.laterality}{i.view}": i for i in reading.case.images}
    places = {name: panes[image.sop_instance_uid] for name, image in images.items()}
    assert places["RCC"].x1 == pytest.approx(places["LCC"].x0, abs=PIXELS)
    assert places["RMLO"].x1 == pytest.approx(places["LMLO"].x0, abs=PIXELS)
    assert places["RCC"].y1 < places["RMLO"].y1
    for name, image in images.items():
        picture = (image.mammogram.pixels >> 8).astype(np.uint8)
        if not image.reading.findings:  # its words would be counted
            assert greys_off_by(shown.screen, places[name], picture) < GREYS
        for finding in image.reading.findings:
            box = on_screen(finding.box, places[name], *picture.shape)
            assert max(map(abs, offsets(colour(shown.screen), box))) <= PIXELS
    assert shown.text.count("Mass 91 %research use onlynot for diagnosis") == 2  # lines of a drawing
    assert not shown.errors


def _of(results: list[Result], uid: str | None) -> Result:
    [result] = [result for result in results if result.reference.sop_instance == uid]
    return result


def _is_about(result: Result, image) -> bool:
    return image.sop_instance_uid in result.reference.images


def _in_colour(case, result: Result) -> np.ndarray:
    """The picture of the same images in colour, where marks are told from all else."""
    colours = {ResultKind.SHEET: ResultKind.COLOUR_SHEET, ResultKind.IMAGE_CAPTURE: ResultKind.COLOUR_IMAGE_CAPTURE}
    if result.kind not in colours:
        return result.dataset.pixel_array
    others = case.of(colours[result.kind])
    [other] = [other for other in others if other.reference.images == result.reference.images]
    return other.dataset.pixel_array
