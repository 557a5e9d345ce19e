"""Secondary Capture: a picture of the study or of one image that every viewer shows, whatever else it can do.

Why a finding was proposed: its heat map on the mammogram, as a picture and as an object that every viewer shows.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom import Dataset
from pydicom.dataset import FileDataset

from mammoscope.explain import HeatMap
from mammoscope.findings import Algorithm, Finding
from mammoscope.results import concepts
from mammoscope.results.base import REPLACES, RESEARCH_USE, ResultSeries, new_result, printable
from mammoscope.results.mammography_cad_sr import cad_sr_obstacle
from mammoscope.results.presentation_state import presentation_state_obstacle
from mammoscope.results.rendering import (
    ALERT,
    BLACK,
    COLOUR,
    GREY,
    PREDICTION,
    MammogramPicture,
    Rgb,
    draw_sheet,
    fitted,
    font,
    title_line,
)
from mammoscope.results.sr_tree import code_item, sop_reference
from mammoscope.results.study import ReadMammogram, ResultError, hanging_number, in_hanging_order, tracked_findings


def secondary_capture(
    images: Sequence[ReadMammogram],
    algorithm: Algorithm,
    *,
    colour: bool = True,
    now: datetime | None = None,
    remarks: Sequence[str] = (),
) -> FileDataset:
    """One sheet with all mammograms of a study, boxes and scores burned in, and what became of each image.

    An image that the other objects cannot refer to is named as such here, so that nothing is left out in silence.

    Parameters
    ----------
    images
        In any order.
    colour
        Marks in colour; else the picture is grey, which every mammography workstation shows.
    now
        Content date and time; the clock's unless given.
    remarks
        Lines under the heading: what is missing from the results of this study. Another remark is another object.

    Raises
    ------
    ResultError
        If the images are not of one study.
    """
    images = in_hanging_order(images)
    series = ResultSeries.COLOUR_SHEET if colour else ResultSeries.SHEET
    pixels = _drawn(images, algorithm, remarks, colour=colour)
    dataset = new_result(series, images, algorithm, now, content=remarks)
    set_picture(dataset, images, pixels, _derivation(remarks))
    return dataset


def image_capture(
    image: ReadMammogram,
    algorithm: Algorithm,
    *,
    colour: bool = True,
    now: datetime | None = None,
    remarks: Sequence[str] = (),
) -> FileDataset:
    """One mammogram with boxes and scores burned in, or what became of it instead.

    Parameters
    ----------
    colour, now, remarks
        As for `secondary_capture`.
    """
    series = ResultSeries.COLOUR_IMAGE_CAPTURE if colour else ResultSeries.IMAGE_CAPTURE
    pixels = _drawn([image], algorithm, remarks, colour=colour)
    dataset = new_result(series, [image], algorithm, now, content=remarks)
    dataset.InstanceNumber = hanging_number(image)
    set_picture(dataset, [image], pixels, _derivation(remarks))
    return dataset


def _drawn(
    images: Sequence[ReadMammogram], algorithm: Algorithm, remarks: Sequence[str], *, colour: bool
) -> NDArray[np.uint8]:
    pixels = draw_sheet(images, algorithm, _note, remarks, COLOUR if colour else GREY)
    return pixels if colour else np.asarray(Image.fromarray(pixels).convert("L"), dtype=np.uint8)


def _derivation(remarks: Sequence[str]) -> str:
    replaces = f"{REPLACES}; " if REPLACES in remarks else ""
    return f"{replaces}mammograms windowed and reduced, marks burned in; {RESEARCH_USE}"


def set_picture(dataset: Dataset, images: Sequence[ReadMammogram], pixels: NDArray[np.uint8], derivation: str) -> None:
    """Put a picture made of mammograms into a secondary capture, with where it comes from.

    Parameters
    ----------
    images
        The mammograms that it shows.
    pixels
        Shape (rows, columns, 3), RGB, or (rows, columns), grey.
    derivation
        How it was made of them, in words.
    """
    dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    dataset.ConversionType = "WSD"
    dataset.DerivationDescription = derivation
    dataset.SourceImageSequence = [_source(image) for image in images]
    dataset.PatientOrientation = None
    breasts = {image.laterality for image in images}
    if None not in breasts:
        dataset.ImageLaterality = str(breasts.pop()) if len(breasts) == 1 else "B"
    else:
        dataset.Laterality = None
    _set_burned_in(dataset, images)
    _set_lossy(dataset, images)
    if pixels.ndim == 3:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
        dataset.PlanarConfiguration = 0
    else:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        # The identity. A viewer that finds no window assumes one, often too narrow for white boxes beside grey tissue.
        dataset.WindowCenter, dataset.WindowWidth = 128, 256
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    raw = pixels.tobytes()
    dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    dataset["PixelData"].VR = "OB"


def _note(image: ReadMammogram) -> str | None:
    missing = []
    if cad_sr_obstacle(image):
        missing.append("not in the CAD report")
    if image.reading.findings and presentation_state_obstacle(image):
        missing.append("no presentation state")
    return ", ".join(missing) or None


def _source(image: ReadMammogram) -> Dataset:
    source = sop_reference(image.header.SOPClassUID, image.header.SOPInstanceUID)
    source.PurposeOfReferenceCodeSequence = [code_item(concepts.SOURCE_IMAGE)]
    return source


def _set_burned_in(dataset: Dataset, images: Sequence[ReadMammogram]) -> None:
    """Whether the picture shows who the patient is (PS3.3 C.7.6.1): we burn in nothing of that, a mammogram may have.

    Left out where a mammogram does not say.
    """
    said = {image.header.get("BurnedInAnnotation") for image in images}
    if "YES" in said:
        dataset.BurnedInAnnotation = "YES"
    elif said == {"NO"}:
        dataset.BurnedInAnnotation = "NO"


def _set_lossy(dataset: Dataset, images: Sequence[ReadMammogram]) -> None:
    """Once lossy, always lossy (PS3.3 C.7.6.1.1.5)."""
    lossy = [image.header for image in images if image.header.get("LossyImageCompression") == "01"]
    dataset.LossyImageCompression = "01" if lossy else "00"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if lossy and keyword in lossy[0]:
            dataset[keyword] = lossy[0][keyword]


_HEADING: Rgb = (235, 235, 235)
_QUIET: Rgb = (165, 165, 165)
_GREY: Rgb = (110, 110, 110)

_PANEL = 1200
"""The longer side of each of the two mammograms, in pixels."""

_LEAST_WIDTH = 1200
_LINE = 34
_GAP = 12
_BAR = 360
_LETTERS = 22
_LINE_WIDTH = 3

_COVER = 0.6
"""How much of the mammogram the strongest heat hides."""


def draw_heat_map(image: ReadMammogram, number: int, heat_map: HeatMap, algorithm: Algorithm) -> NDArray[np.uint8]:
    """The mammogram with one finding twice side by side, as it is and with what spoke for the finding in colour.

    Only what speaks for the finding is coloured; what speaks against it is in `HeatMap.values`.

    Parameters
    ----------
    number
        Of the finding in the image's reading, from 1.

    Returns
    -------
    Shape (rows, columns, 3), ``uint8``, RGB.

    Raises
    ------
    ResultError
        If the reading has no finding of that number.
    """
    plain, heated = _panel(image), _panel(image)
    finding = _finding(image, number)
    plain.draw_findings([finding])
    height, width = heated.image.height, heated.image.width
    heat = heat_map.on_file(image.mammogram.rows, image.mammogram.columns) / (heat_map.peak or 1.0)
    share = cv2.resize(np.clip(heat, 0.0, 1.0), (width, height), interpolation=cv2.INTER_AREA)
    heated.image.paste(*_layer(np.asarray(share, np.float32)))
    heated.outline(finding.box, PREDICTION)

    whole = max(2 * width + _GAP, _LEAST_WIDTH)
    picture = Image.new("RGB", (whole, height + 5 * _LINE + 2 * _GAP), BLACK)
    left = (whole - 2 * width - _GAP) // 2
    picture.paste(plain.image, (left, 2 * _LINE + _GAP))
    picture.paste(heated.image, (left + width + _GAP, 2 * _LINE + _GAP))
    _write_heading(picture, image, number, algorithm)
    _write_legend(picture, heat_map, top=height + 2 * _LINE + 2 * _GAP)
    return np.asarray(picture, dtype=np.uint8)


def heat_map_capture(
    image: ReadMammogram, number: int, heat_map: HeatMap, algorithm: Algorithm, *, now: datetime | None = None
) -> FileDataset:
    """The picture of `draw_heat_map` as a secondary capture (docs/decisions/012-heat-map-object.md).

    Made twice of the same map, it has the same UID.

    Parameters
    ----------
    number
        Of the finding in the image's reading, from 1: the number that the CAD report has too.
    now
        Content date and time; the clock's unless given.

    Raises
    ------
    ResultError
        If the image is no DICOM object, or its reading has no finding of that number.
    """
    _finding(image, number)
    pixels = draw_heat_map(image, number, heat_map, algorithm)
    tracked = tracked_findings(image, algorithm)[number - 1]
    digest = hashlib.sha256(heat_map.values.tobytes()).hexdigest()
    dataset = new_result(ResultSeries.HEAT_MAP, [image], algorithm, now, content=(str(number), heat_map.method, digest))
    dataset.InstanceNumber = number
    parts = (
        f"Heat map of finding {number} ({tracked.tracking_uid}) by {heat_map.method}",
        _agreement(heat_map),
        f"on the mammogram windowed and resized; explains why, not where to cut; {RESEARCH_USE}",
    )
    derivation = ", ".join(part for part in parts if part)
    set_picture(dataset, [image], pixels, printable(derivation))
    return dataset


def _finding(image: ReadMammogram, number: int) -> Finding:
    findings = image.reading.findings
    if not 1 <= number <= len(findings):
        raise ResultError(f"{image.mammogram.name} has {len(findings)} findings: there is no finding {number}.")
    return findings[number - 1]


def _panel(image: ReadMammogram) -> MammogramPicture:
    scale = _PANEL / max(image.mammogram.rows, image.mammogram.columns)
    return MammogramPicture(image.mammogram, scale, font(_LETTERS), _LINE_WIDTH)


def _layer(share: NDArray[np.float32]) -> tuple[Image.Image, tuple[int, int], Image.Image]:
    """Colours for shares of the peak, where they go, and how much they cover: what `Image.paste` takes."""
    colours = cv2.applyColorMap(np.round(share * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    # Full cover from half the peak on: below, the less there is to see the more of the mammogram is seen.
    cover = np.round(np.clip(2 * share, 0.0, 1.0) * _COVER * 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(colours)), (0, 0), Image.fromarray(cover)


def _write_heading(picture: Image.Image, image: ReadMammogram, number: int, algorithm: Algorithm) -> None:
    pen, width = ImageDraw.Draw(picture), picture.width - 2 * _GAP
    title, letters = title_line(algorithm, width)
    pen.text((_GAP, _GAP), title, fill=_HEADING, font=letters)
    finding = _finding(image, number)
    view = " ".join(str(part) for part in (image.laterality, image.view) if part)
    what = f"Finding {number} of {len(image.reading.findings)}: {finding.label} {finding.score * 100:.0f} %"
    words = f"{what}{', ' + view if view else ''}. Colour explains why the model proposes it, not where to cut."
    small = font(_LETTERS)
    pen.text((_GAP, _GAP + _LINE), fitted(words, small, width), fill=_HEADING, font=small)


def _write_legend(picture: Image.Image, heat_map: HeatMap, top: int) -> None:
    pen, small, width = ImageDraw.Draw(picture), font(_LETTERS), picture.width - 2 * _GAP
    bar = Image.new("RGB", (_BAR, _LINE - 8), _GREY)
    bar.paste(*_layer(np.tile(np.linspace(0, 1, _BAR, dtype=np.float32), (_LINE - 8, 1))))
    picture.paste(bar, (_GAP + 20, top + 4))
    pen.text((_GAP, top + 2), "0", fill=_HEADING, font=small)
    pen.text((_GAP + _BAR + 30, top + 2), f"{heat_map.peak:.2f}  {heat_map.meaning}", fill=_HEADING, font=small)
    pen.text((_GAP, top + _LINE), fitted(heat_map.method, small, width), fill=_QUIET, font=small)
    if heat_map.peak == 0:
        words, colour = "No heat: the score rises nowhere. This map explains nothing.", ALERT
    elif heat_map.noisy:
        words, colour = f"Noisy: {_agreement(heat_map)}. Do not trust this map; use more masks.", ALERT
    else:
        words, colour = _agreement(heat_map).capitalize(), _QUIET
    pen.text((_GAP, top + 2 * _LINE), fitted(words, small, width), fill=colour, font=small)


def _agreement(heat_map: HeatMap) -> str:
    """In words; nothing to say of a map that chance has no part in."""
    return "" if heat_map.agreement is None else f"agreement with a map from other masks {heat_map.agreement:.2f}"
