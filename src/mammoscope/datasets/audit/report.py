"""An audit as one page that a person opens in a browser. It holds images of patients: keep it where they are kept.

Small pictures of the images in question, boxes drawn, for the page of an audit.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from mammoscope import __version__
from mammoscope.datasets.audit.fixes import Fix
from mammoscope.datasets.audit.model import AuditFinding, Case, Check, Severity
from mammoscope.datasets.audit.run import Audit
from mammoscope.datasets.audit.subject import AuditedImage
from mammoscope.imaging import MammogramError, MammogramReader

_SIDE = 420
_MARGIN = 0.06  # of the longer side, so that boxes beyond the image's edge are seen
_IN_QUESTION, _OTHER, _PLACE = (40, 60, 230), (90, 190, 90), (0, 190, 240)  # blue, green, red


def data_url(image: AuditedImage, case: Case, reader: MammogramReader) -> str | None:
    """A JPEG of the image as a data URL, the case's boxes red, its others green; ``None`` if it cannot be read."""
    if image.measures.unreadable is not None:
        return None
    try:
        pixels = reader.read(image.path, image.file_name).pixels
    except MammogramError:
        return None
    marks = case.marks if case.file_names and case.file_names[0] == image.file_name else ()
    done, data = cv2.imencode(".jpg", drawn(pixels, image, case.boxes, marks), [cv2.IMWRITE_JPEG_QUALITY, 82])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}" if done else None


def drawn(
    pixels: NDArray[np.uint16],
    image: AuditedImage,
    in_question: Sequence[int],
    marks: Sequence[tuple[float, float, float, float]],
) -> NDArray[np.uint8]:
    """The image made small on a grey margin, boxes drawn; shape (rows, columns, 3), blue first."""
    scale = min(1.0, _SIDE / max(pixels.shape))
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    small = (cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) // 256).astype(np.uint8)
    margin = round(_MARGIN * max(size))
    canvas = np.full((size[1] + 2 * margin, size[0] + 2 * margin, 3), 70, np.uint8)
    canvas[margin : margin + size[1], margin : margin + size[0]] = small[..., None]
    ordered = sorted(image.boxes, key=lambda box: box.id in in_question)  # those in question on top
    for box in ordered:
        x, y, width, height = box.bbox
        edges = x / image.columns, y / image.rows, (x + width) / image.columns, (y + height) / image.rows
        _rectangle(canvas, edges, size, margin, _IN_QUESTION if box.id in in_question else _OTHER)
    for place in marks:
        _rectangle(canvas, place, size, margin, _PLACE)
    return canvas


def _rectangle(
    canvas: NDArray[np.uint8], edges: Sequence[float], size: tuple[int, int], margin: int, colour: tuple[int, int, int]
) -> None:
    """A rectangle by its edges as shares of the image, drawn as far as the canvas reaches."""
    limit = 4 * max(canvas.shape)
    x0, y0, x1, y1 = (int(np.clip(margin + edge * size[n % 2], -limit, limit)) for n, edge in enumerate(edges))
    cv2.rectangle(canvas, (x0, y0), (max(x1, x0 + 1), max(y1, y0 + 1)), colour, 2)


_PER_CASE = 4
"""Images shown of one case."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """A case with its pictures as (file name, data URL or ``None``)."""

    finding: AuditFinding
    pictures: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class _Section:
    check: Check
    count: int
    shown: tuple[_Shown, ...]
    rest: tuple[AuditFinding, ...]


def audit_html(
    audit: Audit, *, most: int = 24, fixes: tuple[Fix, ...] = (), reader: MammogramReader | None = None
) -> str:
    """The audit as one HTML document with everything in it.

    Parameters
    ----------
    most
        How many cases of each check are shown with pictures; the others are named.
    fixes
        What was repaired.
    reader
        Reads the images instead of a reader of its own; it stays open.
    """
    if reader is None:
        with MammogramReader() as own:
            return audit_html(audit, most=most, fixes=fixes, reader=own)
    environment = Environment(
        loader=PackageLoader("mammoscope.datasets.audit"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    dataset = audit.dataset
    return environment.get_template("audit.html").render(
        name=dataset.folder.resolve().name,
        images=len(dataset.images),
        patients=len({image.patient for image in dataset}),
        boxes=sum(len(image.boxes) for image in dataset),
        counts=[(severity.value, audit.count(severity)) for severity in Severity],
        sections=[
            _Section(
                check,
                len(found),
                tuple(_shown(audit, finding, reader) for finding in found[:most]),
                found[most:],
            )
            for check, found in audit.by_check.items()
        ],
        fixes=fixes,
        version=__version__,
    )


def _shown(audit: Audit, finding: AuditFinding, reader: MammogramReader) -> _Shown:
    by_name = {image.file_name: image for image in audit.dataset}
    names = [name for name in finding.case.file_names if name in by_name]
    pictures = [(name, data_url(by_name[name], finding.case, reader)) for name in names[:_PER_CASE]]
    return _Shown(finding, tuple(pictures))
