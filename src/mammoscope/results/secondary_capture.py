"""Secondary Capture: a picture of the whole study that every viewer shows, whatever else it can do."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileDataset

from mammoscope.findings import Algorithm
from mammoscope.results import concepts
from mammoscope.results.cad_sr import cad_sr_obstacle
from mammoscope.results.derived import RESEARCH_USE, ResultKind, new_result
from mammoscope.results.presentation import presentation_state_obstacle
from mammoscope.results.sheet import draw_sheet
from mammoscope.results.sr_items import code_item, sop_reference
from mammoscope.results.study import ReadMammogram, in_hanging_order


def secondary_capture(
    images: Sequence[ReadMammogram],
    algorithm: Algorithm,
    *,
    now: datetime | None = None,
    remarks: Sequence[str] = (),
) -> FileDataset:
    """One sheet with all mammograms of a study, boxes and scores burned in, and what became of each image.

    An image that the other objects cannot refer to is named as such here, so that nothing is left out in silence.

    Parameters
    ----------
    images
        In any order.
    now
        Content date and time; the clock's unless given.
    remarks
        Lines under the heading: what is missing from the results of this study.

    Raises
    ------
    ResultError
        If the images are not of one study.
    """
    images = in_hanging_order(images)
    pixels = draw_sheet(images, algorithm, _note, remarks)
    dataset = new_result(ResultKind.SECONDARY_CAPTURE, images, algorithm, now)
    set_picture(dataset, images, pixels, f"Mammograms windowed and reduced, marks burned in; {RESEARCH_USE}")
    return dataset


def set_picture(dataset: Dataset, images: Sequence[ReadMammogram], pixels: NDArray[np.uint8], derivation: str) -> None:
    """Put a colour picture made of mammograms into a secondary capture, with where it comes from.

    Parameters
    ----------
    images
        The mammograms that it shows.
    pixels
        Shape (rows, columns, 3), RGB.
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
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
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
