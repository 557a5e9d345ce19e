"""Which images may have a name burned into the picture: pointed at, never read and never guessed away.

The list and the page of images that are held back. Both show patients: they stay with the key file.
"""

import base64
import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from pydicom import Dataset

from mammoscope import __version__
from mammoscope.datasets.audit.orientation import glyphs
from mammoscope.imaging import Mammogram, MammogramError, find_breast_region, read_mammogram
from mammoscope.untrusted_text import csv_cell

_TELLING_TYPES = ("SCREEN", "CAPTURE", "REPORT", "SUMMARY", "ANNOTAT", "OVERLAY")


@dataclass(frozen=True, slots=True, eq=False)
class Suspicion:
    """Why an image is held back.

    Parameters
    ----------
    path
        Of the original.
    reasons
        Sentences without the patient's data.
    marks
        (x0, y0, x1, y1) as shares of the sides, around what may be text.
    pixels
        As displayed, where they could be read.
    """

    path: Path
    reasons: tuple[str, ...]
    marks: tuple[tuple[float, float, float, float], ...] = ()
    pixels: NDArray[np.uint16] | None = None


def suspicion(path: Path, header: Dataset) -> Suspicion | None:
    """What speaks for burned-in text, or ``None``.

    The header counts (Burned In Annotation, Recognizable Visual Features, Image Type), and in the picture groups of
    small bright things outside the breast. Where the picture cannot be looked at, that is a reason as well. A single
    lead marker is none: it has no more than four letters.
    """
    reasons = list(_said(header))
    try:
        mammogram = read_mammogram(path)
    except MammogramError as error:
        return Suspicion(path, (*reasons, f"It could not be looked at: {error}"))
    marks, seen = _seen(mammogram)
    reasons += seen
    return Suspicion(path, tuple(reasons), marks, mammogram.pixels) if reasons else None


def _said(header: Dataset) -> list[str]:
    reasons = []
    if header.get("BurnedInAnnotation") == "YES":
        reasons.append("Its header says that text is burned in (Burned In Annotation).")
    if header.get("RecognizableVisualFeatures") == "YES":
        reasons.append("Its header says that the picture shows who it is (Recognizable Visual Features).")
    kinds = header.get("ImageType") or ()
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    if any(telling in str(kind).upper() for kind in kinds for telling in _TELLING_TYPES):
        reasons.append("Its Image Type is that of a captured screen or report.")
    return reasons


def _seen(mammogram: Mammogram) -> tuple[tuple[tuple[float, float, float, float], ...], list[str]]:
    mask = find_breast_region(mammogram.pixels).mask
    if mask.all():
        return (), ["No breast was found in it, so text cannot be told from tissue."]
    marks = glyphs(mammogram.pixels, mask)
    return marks, ["Letters or digits seem to stand beside the breast."] if marks else []


LIST, PAGE = "held_back.csv", "held_back.html"
_PICTURE_ROWS = 480
_MOST_PICTURES = 1000


@dataclass(frozen=True, slots=True)
class Held:
    """One image that was held back, small enough to keep of each.

    Parameters
    ----------
    picture
        A JPEG with the suspicious places framed, in base 64; empty where there is nothing to see.
    """

    path: Path
    reasons: tuple[str, ...]
    picture: str


def held(suspicion: Suspicion) -> Held:
    """What the list and the page show of a suspicion."""
    return Held(suspicion.path, suspicion.reasons, _picture(suspicion))


def write_pages(folder: Path, images: Sequence[Held]) -> tuple[Path, Path]:
    """Write the list (CSV) and the page (HTML, nothing beside it needed) with the mode 0600; return their paths."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("file", "reasons"))
    rows.writerows((csv_cell(str(image.path)), csv_cell(" ".join(image.reasons))) for image in images)
    environment = Environment(
        loader=PackageLoader("mammoscope.datasets.deidentification"), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("held_back.html").render(
        images=images[:_MOST_PICTURES], total=len(images), list=LIST, version=__version__
    )
    return _private(folder / LIST, table.getvalue()), _private(folder / PAGE, page)


def _picture(suspicion: Suspicion) -> str:
    pixels = suspicion.pixels
    if pixels is None:
        return ""
    rows, columns = pixels.shape
    scale = min(1.0, _PICTURE_ROWS / rows)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    grey = (cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) // 256).astype(np.uint8)
    picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    for x0, y0, x1, y1 in suspicion.marks:
        corners = (round(x0 * size[0]) - 3, round(y0 * size[1]) - 3), (round(x1 * size[0]) + 3, round(y1 * size[1]) + 3)
        cv2.rectangle(picture, *corners, color=(60, 90, 255), thickness=2)
    _, jpeg = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, 80))
    return base64.b64encode(jpeg.tobytes()).decode()


def _private(path: Path, text: str) -> Path:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return path
