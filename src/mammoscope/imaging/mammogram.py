"""`Mammogram`: one image as displayed, with what its file says about how it was made.

With it `Placement`, where a prepared picture lies in its mammogram, and the way back; and why a file or object cannot
be read as a mammogram.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from mammoscope.errors import MammoscopeError
from mammoscope.reasons import Reason, ReasonCode

WHITE = 65535
"""The brightest pixel of a `Mammogram`, whatever the bit depth of its file."""


class Laterality(StrEnum):
    """Which breast (DICOM Image Laterality (0020,0062))."""

    LEFT = "L"
    RIGHT = "R"


class View(StrEnum):
    """Mammographic view, abbreviated as in DICOM PS3.16 CID 4014."""

    CC = "CC"
    MLO = "MLO"
    ML = "ML"
    LM = "LM"
    LMO = "LMO"
    SIO = "SIO"
    FB = "FB"
    XCC = "XCC"
    XCCL = "XCCL"
    XCCM = "XCCM"
    ISO = "ISO"
    AT = "AT"
    CV = "CV"


class PresentationIntent(StrEnum):
    """What the pixels are meant for (DICOM Presentation Intent Type (0008,0068))."""

    FOR_PRESENTATION = "FOR PRESENTATION"
    FOR_PROCESSING = "FOR PROCESSING"


@dataclass(frozen=True, slots=True)
class PixelSpacing:
    """Distance between pixel centres in millimetres, along a column and along a row."""

    row_mm: float
    column_mm: float


@dataclass(frozen=True, slots=True)
class Acquisition:
    """How the image was made, as far as its file says. ``None`` where it is silent."""

    manufacturer: str | None = None
    model: str | None = None
    intent: PresentationIntent | None = None
    digitised_film: bool = False
    kvp: float | None = None
    exposure_uas: float | None = None
    compression_force_n: float | None = None
    body_part_thickness_mm: float | None = None
    implant: bool = False
    bits_stored: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Mammogram:
    """One mammogram, its pixels as a reader would see them.

    Parameters
    ----------
    pixels
        Shape (rows, columns), ``uint16``: 0 is black, 65535 is white. Polarity is turned and the window or
        VOI LUT applied; pixel padding is 0. Geometry is that of the file: nothing is flipped or cropped.
    name
        What messages call it: the file's name, or the SOP Instance UID of an object from the network.
    view_modifiers
        Meanings of the view modifier codes (CID 4015), lower case, for example ``"spot compression"``.
    header
        The DICOM attributes without pixel data, or ``None`` for a picture file.
    """

    pixels: NDArray[np.uint16]
    name: str
    laterality: Laterality | None = None
    view: View | None = None
    view_modifiers: tuple[str, ...] = ()
    spacing: PixelSpacing | None = None
    acquisition: Acquisition = field(default_factory=Acquisition)
    header: Dataset | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.dtype != np.uint16:
            raise ValueError(
                "a mammogram's pixels are a uint16 array of rows and columns, "
                f"not {self.pixels.dtype} of shape {self.pixels.shape}"
            )

    @property
    def rows(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def columns(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])


@dataclass(frozen=True, slots=True)
class Placement:
    """An axis-parallel map from picture to file coordinates: ``x_file = left + x_picture * x_scale``, y alike.

    Coordinates are edges, not pixel centres, so a picture that covers its source exactly has ``left = top = 0``.
    """

    left: float
    top: float
    x_scale: float
    y_scale: float

    def to_file(self, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
        """Boxes of shape (n, 4), x0 y0 x1 y1, from picture to file coordinates."""
        return np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * self._scales + self._offsets

    def to_picture(self, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
        """Boxes of shape (n, 4), x0 y0 x1 y1, from file to picture coordinates."""
        return (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) - self._offsets) / self._scales

    @property
    def _scales(self) -> NDArray[np.float64]:
        return np.array([self.x_scale, self.y_scale, self.x_scale, self.y_scale])

    @property
    def _offsets(self) -> NDArray[np.float64]:
        return np.array([self.left, self.top, self.left, self.top])


class MammogramError(MammoscopeError):
    """A mammogram that cannot be read.

    Parameters
    ----------
    code
        What kind of reason it is, for counting.
    """

    def __init__(self, sentence: str, code: ReasonCode) -> None:
        super().__init__(sentence)
        self.code = code

    @property
    def reason(self) -> Reason:
        """Code and sentence."""
        return Reason(self.code, str(self))


class MammogramUnavailableError(MammogramError):
    """The machine's trouble, not the file's: the file cannot be opened, or no process starts to read it in."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, ReasonCode.MACHINE)
