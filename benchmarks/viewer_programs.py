"""Programs that draw one object or read it: Orthanc, DCMTK, PixelMed, highdicom, Cornerstone's adapters in node.js."""

import io
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import highdicom as hd
import httpx
import numpy as np
import viewer_cornerstone
import viewer_servers
from numpy.typing import NDArray
from PIL import Image
from viewer_cases import Case

from mammoscope.settings import ResultKind

PIXELMED = Path("/usr/share/java")


def programs(archive: viewer_servers.Archive, folder: Path) -> Mapping[str, Callable[[Case], str]]:
    """What each program says of a case, by what it is given."""

    def drawn(draw: Callable[[Path], NDArray[np.uint8]], kind: ResultKind | None = None) -> Callable[[Case], str]:
        return lambda case: _greys(case, draw, kind)

    return {
        "Orthanc: mammogram": drawn(lambda file: _by_orthanc(archive, file)),
        "Orthanc: sheet": drawn(lambda file: _by_orthanc(archive, file), ResultKind.SHEET),
        "Orthanc: colour sheet": drawn(lambda file: _by_orthanc(archive, file), ResultKind.COLOUR_SHEET),
        "DCMTK: sheet": drawn(lambda file: _by_dcmtk(file, folder), ResultKind.SHEET),
        "DCMTK: presentation state": lambda case: _state(case, folder),
        "PixelMed: sheet": drawn(lambda file: _by_pixelmed(file, folder), ResultKind.SHEET),
        "PixelMed: colour sheet": drawn(lambda file: _by_pixelmed(file, folder), ResultKind.COLOUR_SHEET),
        "highdicom: ai-sr": _by_highdicom,
        "highdicom: segmentation": _masks_by_highdicom,
        "Cornerstone in node.js: ai-sr, segmentation": _by_cornerstone,
    }


def _greys(case: Case, draw: Callable[[Path], NDArray[np.uint8]], kind: ResultKind | None) -> str:
    if kind is None:
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
