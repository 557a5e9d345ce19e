"""What viewers show of each kind of result, in each kind of case: the tables and pictures of docs/results-objects.md.

    python benchmarks/viewers.py [--pictures docs/images/viewers] [--write docs/results-objects.md] [--case some ...]

Every object is opened in OHIF as a reader opens it, in Chromium without an accelerator, and the screen is measured: how
far each mark lies from where it should be, and how far the greys are off. Beside it the same objects go through DCMTK,
PixelMed, Orthanc, highdicom and Cornerstone's adapters in node.js. It takes a minute a case and needs what the tests
of viewers need (Orthanc with DICOMweb, DCMTK, libpixelmed-java, chromium, node and npm; OHIF is fetched once).
"""

import argparse
import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import highdicom as hd
import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "viewers"))

import viewer_cornerstone  # noqa: E402
import viewer_marks as marks  # noqa: E402
import viewer_ohif  # noqa: E402
import viewer_servers  # noqa: E402
from viewer_cases import CASES, Case, make_case  # noqa: E402

from mammoscope.results import Result  # noqa: E402
from mammoscope.settings import ResultKind  # noqa: E402

SERIES = {
    ResultKind.AI_SR: 9005, ResultKind.CAD_SR: 9001, ResultKind.PRESENTATION_STATE: 9002, ResultKind.SHEET: 9003,
    ResultKind.COLOUR_SHEET: 9006, ResultKind.IMAGE_CAPTURE: 9007, ResultKind.COLOUR_IMAGE_CAPTURE: 9008,
    ResultKind.SEGMENTATION: 9009,
}  # fmt: skip
PICTURES = {ResultKind.SHEET, ResultKind.COLOUR_SHEET, ResultKind.IMAGE_CAPTURE, ResultKind.COLOUR_IMAGE_CAPTURE}
IN_COLOUR = {
    ResultKind.SHEET: ResultKind.COLOUR_SHEET, ResultKind.IMAGE_CAPTURE: ResultKind.COLOUR_IMAGE_CAPTURE,
}  # fmt: skip
BEGIN, END = "<!-- made by benchmarks/viewers.py: begin -->", "<!-- made by benchmarks/viewers.py: end -->"
SHOWN_WIDTH = 900
PIXELMED = Path("/usr/share/java")
NOT_SHOWN = "not shown"

Row = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, default=None, help="where the screens of the case 'some' go")
    parser.add_argument("--write", type=Path, default=None, help="the page whose tables are replaced")
    parser.add_argument("--case", nargs="*", default=CASES)
    parser.add_argument("--port", type=int, default=18042)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = [make_case(case, folder / case.replace(" ", "-")) for case in chosen.case]
        with (
            viewer_servers.orthanc(folder / "archive", chosen.port, chosen.port + 1) as archive,
            viewer_servers.web_origin(viewer_ohif.ohif("npm"), viewer_ohif.CONFIG, archive, chosen.port + 2) as origin,
        ):
            ohif: list[Row] = []
            others: list[Row] = []
            for case in cases:
                archive.store(case.files)
                ohif.append({"case": case.name, **in_ohif(case, origin, chosen.pictures)})
                others.append({"case": case.name, **elsewhere(case, archive, folder)})
                print(json.dumps([ohif[-1], others[-1]], indent=1), flush=True)
    page = f"{BEGIN}\n\n{table(ohif)}\n\n{table(others)}\n\n{END}"
    print(page)
    if chosen.write is not None:
        text = chosen.write.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        chosen.write.write_text(before + page + rest.partition(END)[2], encoding="utf-8")


def in_ohif(case: Case, origin: str, pictures: Path | None) -> Row:
    """Open everything once; a browser of its own for each case."""
    row: Row = {}
    with viewer_ohif.browser(origin) as viewer:
        viewer.open(case.study)
        shown = viewer.look()
        [image] = [i for i in case.images if i.sop_instance_uid == shown.image]
        picture = (image.mammogram.pixels >> 8).astype(np.uint8)
        row["mammogram"] = f"greys {marks.greys_off_by(shown.screen, shown.place(*picture.shape), picture):.1f}"
        for kind, number in SERIES.items():
            try:
                row[str(kind)] = _open(viewer, case, kind, number)
            except Exception as error:
                row[str(kind)] = f"page ends ({type(error).__name__})"
            if pictures is not None and case.name == "some" and kind in (
                ResultKind.AI_SR, ResultKind.COLOUR_SHEET, ResultKind.SHEET, ResultKind.COLOUR_IMAGE_CAPTURE,
                ResultKind.SEGMENTATION,
            ):  # fmt: skip
                _save(viewer.look().screen, pictures / f"ohif-{kind}.png")
    return row


def _open(viewer: viewer_ohif.Viewer, case: Case, kind: ResultKind, number: int) -> str:
    if not case.of(kind):
        return "none made"
    before = viewer.look()
    if not viewer.series(number, changes=kind in PICTURES or kind is ResultKind.AI_SR):
        return "not listed"
    if kind is ResultKind.AI_SR:
        return _report(viewer, case)
    shown = viewer.look()
    if kind not in PICTURES:
        if shown.pane is None:
            return "hangs, page lives"
        return NOT_SHOWN if shown.image == before.image else "shown"
    [result] = [one for one in case.of(kind) if one.reference.sop_instance == shown.image]
    return _picture(case, result, shown.screen, shown)


def _picture(case: Case, result: Result, screen: NDArray[np.uint8], shown: viewer_ohif.Shown) -> str:
    picture = result.dataset.pixel_array
    place = shown.place(*picture.shape[:2])
    coloured = result
    if result.kind in IN_COLOUR:
        [coloured] = [o for o in case.of(IN_COLOUR[result.kind]) if o.reference.images == result.reference.images]
    ink = marks.colour(screen) if picture.ndim == 3 else marks.white_between_black(screen)
    drawn = [marks.on_screen(b, place, *picture.shape[:2]) for b in marks.burned_in(coloured.dataset.pixel_array)]
    return _measured([marks.offsets(ink, box) for box in drawn], marks.greys_off_by(screen, place, picture))


def _report(viewer: viewer_ohif.Viewer, case: Case) -> str:
    viewer.answer("Yes")
    found = sum(len(image.reading.findings) for image in case.images)
    if not found:
        shown = viewer.look()
        return "opens" if shown.pane is not None and shown.image else "black"
    if not viewer.wait_for_marks():
        return "no marks"
    shown = viewer.look()
    [image] = [i for i in case.images if i.sop_instance_uid == shown.image]
    size = image.mammogram.rows, image.mammogram.columns
    boxes = [marks.on_screen(finding.box, shown.place(*size), *size) for finding in image.reading.findings]
    picture = (image.mammogram.pixels >> 8).astype(np.uint8)
    greys = marks.greys_off_by(shown.screen, shown.place(*size), picture)
    return _measured([marks.offsets(marks.colour(shown.screen), box) for box in boxes], greys)


def _measured(offsets: Sequence[Sequence[float]], greys: float) -> str:
    words = f"greys {greys:.1f}"
    if not offsets:
        return f"shown, {words}"
    most = max(abs(one) for box in offsets for one in box)
    return f"marks not found, {words}" if most > marks.REACH else f"marks {most:.0f} px, {words}"


def elsewhere(case: Case, archive: viewer_servers.Archive, folder: Path) -> Row:
    """The same objects in programs that draw one object or read it."""
    return {
        "Orthanc: mammogram": _greys(case, lambda file: _by_orthanc(archive, file), ResultKind.SHEET, of_image=True),
        "Orthanc: sheet": _greys(case, lambda file: _by_orthanc(archive, file), ResultKind.SHEET),
        "Orthanc: colour sheet": _greys(case, lambda file: _by_orthanc(archive, file), ResultKind.COLOUR_SHEET),
        "DCMTK: sheet": _greys(case, lambda file: _by_dcmtk(file, folder), ResultKind.SHEET),
        "DCMTK: presentation state": _state(case, folder),
        "PixelMed: sheet": _greys(case, lambda file: _by_pixelmed(file, folder), ResultKind.SHEET),
        "PixelMed: colour sheet": _greys(case, lambda file: _by_pixelmed(file, folder), ResultKind.COLOUR_SHEET),
        "highdicom: ai-sr": _by_highdicom(case),
        "highdicom: segmentation": _masks_by_highdicom(case),
        "Cornerstone in node.js: ai-sr, segmentation": _by_cornerstone(case),
    }


def _greys(case: Case, draw: Callable[[Path], NDArray[np.uint8]], kind: ResultKind, *, of_image: bool = False) -> str:
    if of_image:
        file, wanted = case.files[0], (case.images[0].mammogram.pixels >> 8).astype(np.uint8)
    else:
        [result] = case.of(kind)
        file, wanted = case.files[len(case.images) + case.results.index(result)], result.dataset.pixel_array
    try:
        drawn = draw(file)
    except (subprocess.CalledProcessError, httpx.HTTPStatusError, OSError) as error:
        return f"fails ({type(error).__name__})"
    if drawn.shape[:2] != wanted.shape[:2]:
        drawn = cv2.resize(drawn, wanted.shape[1::-1])
    if drawn.ndim != wanted.ndim:
        drawn = drawn[..., 0] if drawn.ndim == 3 else np.repeat(drawn[..., None], 3, axis=2)
    return f"greys {np.abs(drawn.astype(float) - wanted).mean():.1f}"


def _by_orthanc(archive: viewer_servers.Archive, file: Path) -> NDArray[np.uint8]:
    identifier = httpx.post(f"{archive.rest}/instances", content=file.read_bytes()).json()["ID"]
    answer = httpx.get(f"{archive.rest}/instances/{identifier}/rendered", timeout=60)
    answer.raise_for_status()
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def _by_dcmtk(file: Path, folder: Path) -> NDArray[np.uint8]:
    picture = folder / "dcmtk.pnm"
    subprocess.run(["dcmj2pnm", "--write-8-bit-pnm", "--use-window", "1", file, picture], check=True, timeout=120)
    return np.asarray(Image.open(picture))


def _by_pixelmed(file: Path, folder: Path) -> NDArray[np.uint8]:
    jars = ":".join(map(str, PIXELMED.glob("*.jar")))
    picture = folder / "pixelmed.png"
    maker = "com.pixelmed.display.ConsumerFormatImageMaker"
    command = ["java", "-Djava.awt.headless=true", "-cp", jars, maker, file, picture, "png"]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    return np.asarray(Image.open(picture))


def _state(case: Case, folder: Path) -> str:
    if not (states := case.of(ResultKind.PRESENTATION_STATE)):
        return "none made"
    state, file = states[0], folder / "state.dcm"
    state.dataset.save_as(file, enforce_file_format=True)
    [number] = [n for n, image in enumerate(case.images) if (image.sop_instance_uid,) == state.reference.images]
    drawn = []
    for name, options in (("alone.pgm", []), ("state.pgm", ["--pstate", file])):
        subprocess.run(["dcmp2pgm", *options, case.files[number], folder / name], check=True, timeout=120)
        drawn.append(np.asarray(Image.open(folder / name)).astype(float))
    return f"greys {np.abs(drawn[0] - drawn[1]).mean():.1f}"


def _by_highdicom(case: Case) -> str:
    [result] = case.of(ResultKind.AI_SR)
    groups = hd.sr.Comprehensive3DSR.from_dataset(result.dataset).content.get_planar_roi_measurement_groups()
    expected = sum(len(image.reading.findings) for image in case.images)
    return f"{len(groups)} of {expected} regions"


def _masks_by_highdicom(case: Case) -> str:
    if not (results := case.of(ResultKind.SEGMENTATION)):
        return "none made"
    right = expected = 0
    for result in results:
        [image] = [i for i in case.images if (i.sop_instance_uid,) == result.reference.images]
        masks = hd.seg.Segmentation.from_dataset(result.dataset).get_pixels_by_source_instance(
            list(result.reference.images)
        )
        for number, finding in enumerate(image.reading.findings):
            rows, columns = np.nonzero(masks[0, ..., number])
            edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            right += edges == tuple(round(edge) for edge in finding.box.as_tuple())
            expected += 1
    return f"{right} of {expected} masks"


def _by_cornerstone(case: Case) -> str:
    npm, node = shutil.which("npm"), shutil.which("node")
    assert npm is not None
    assert node is not None
    wanted = (ResultKind.AI_SR, ResultKind.SEGMENTATION)
    files = [f for r, f in zip(case.results, case.files[len(case.images) :], strict=True) if r.kind in wanted]
    said = viewer_cornerstone.read(node, npm, [*case.files[: len(case.images)], *files])
    rectangles, masks = len(said["reports"][0]), sum(len(one["segments"]) for one in said["segmentations"])
    shown = sum(one["cornerstone"] == "shown" for one in said["segmentations"])
    return f"{rectangles} rectangles, {masks} masks read, {shown} of {len(said['segmentations'])} masks drawn"


def _save(screen: NDArray[np.uint8], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(screen)
    picture.thumbnail((SHOWN_WIDTH, SHOWN_WIDTH))
    picture.quantize(128).save(file, optimize=True)


def table(rows: Sequence[Row]) -> str:
    """Cases across, what was tried down."""
    names = [name for name in rows[0] if name != "case"]
    lines = ["| | " + " | ".join(row["case"] for row in rows) + " |", "| --- |" + " --- |" * len(rows)]
    return "\n".join([*lines, *(f"| {name} | " + " | ".join(row[name] for row in rows) + " |" for name in names)])


if __name__ == "__main__":
    main()
