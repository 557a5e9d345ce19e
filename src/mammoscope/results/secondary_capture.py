"""Secondary Capture: a picture of the study or of one image that every viewer shows, whatever else it can do."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileDataset

from mammoscope.findings import Algorithm
from mammoscope.results import concepts
from mammoscope.results.cad_sr import cad_sr_obstacle
from mammoscope.results.derived import RESEARCH_USE, ResultSeries, new_result
from mammoscope.results.picture import COLOUR, GREY
from mammoscope.results.predecessors import REPLACES
from mammoscope.results.presentation import presentation_state_obstacle
from mammoscope.results.sheet import draw_sheet
from mammoscope.results.sr_items import code_item, sop_reference
from mammoscope.results.study import ReadMammogram, hanging_number, in_hanging_order


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
