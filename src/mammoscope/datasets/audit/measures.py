"""What the pixels of one file say, measured once and small enough to keep of every image."""

import base64
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.datasets.audit.anatomy import chest_wall, glyphs, muscle
from mammoscope.datasets.files import sha256_of_file
from mammoscope.imaging import WHITE, Mammogram, MammogramError, MammogramReader, find_breast_region

VERSION = 2
"""Of the way they are measured; others are measured again."""

THUMBNAIL = 64
"""Rows and columns of the thumbnail, into which the whole image is squeezed."""

MASK = (256, 160)
"""Rows and columns of the breast mask, over the whole image."""

_BLANK = 0.02
_NEGATIVE_BRIGHT, _NEGATIVE_DARK = 0.4, 0.05

_RING = (0.08, 0.12)  # far enough in to leave film edges aside


@dataclass(frozen=True, slots=True)
class Measures:
    """What the pixels of a file say.

    Parameters
    ----------
    unreadable
        Why they cannot be read, in a sentence; everything else is then empty.
    file_sha256, pixel_sha256
        Of the bytes; of size and pixels as displayed.
    bits
        Stored bits a pixel, as the file says.
    levels
        How many different grey levels there are.
    lowest, highest
        Grey levels as shares of white.
    white
        Share of the breast that is white.
    ring_bright, ring_dark
        Share of a ring near the image's edge brighter than 0.75 and darker than 0.25 of white.
    content
        (x0, y0, x1, y1) as shares of the sides: what is left when lines of one level are cut off.
    photometric, orientation, mirrored
        DICOM's Photometric Interpretation, Patient Orientation, and whether Field of View Horizontal Flip is YES.
    spacing_mm, square_pixels
        Distance between pixel centres, where the same both ways; whether it is (``None`` where not stated).
    breast
        Share of the image that is breast; 1 where none was found.
    mask, thumbnail
        Deflated, in base 64; read with `breast_mask` and `picture`.
    glyphs
        (x0, y0, x1, y1) as shares of the sides: groups of bright small things outside the breast, as text is.
    chest
        The side that the chest wall is on, ``left`` or ``right``, where that is sure.
    muscle
        Where the pectoral muscle's triangle is, ``top`` or ``bottom``, where that is sure.
    """

    unreadable: str | None = None
    file_sha256: str | None = None
    pixel_sha256: str | None = None
    rows: int = 0
    columns: int = 0
    bits: int | None = None
    levels: int = 0
    lowest: float = 0.0
    highest: float = 0.0
    white: float = 0.0
    ring_bright: float = 0.0
    ring_dark: float = 0.0
    content: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    photometric: str | None = None
    orientation: str | None = None
    mirrored: bool = False
    spacing_mm: float | None = None
    square_pixels: bool | None = None
    breast: float = 1.0
    mask: str = ""
    thumbnail: str = ""
    glyphs: tuple[tuple[float, float, float, float], ...] = ()
    chest: str | None = None
    muscle: str | None = None

    @property
    def blank(self) -> bool:
        """Whether the grey levels span so little that there is nothing to see."""
        return self.highest - self.lowest < _BLANK

    @property
    def negative(self) -> bool:
        """Whether the background is bright, as in a negative."""
        return not self.blank and self.ring_bright > _NEGATIVE_BRIGHT and self.ring_dark < _NEGATIVE_DARK

    @property
    def breast_mask(self) -> NDArray[np.bool_]:
        """Shape `MASK`."""
        bits = np.frombuffer(zlib.decompress(base64.b64decode(self.mask)), np.uint8)
        return np.unpackbits(bits).astype(bool).reshape(MASK)

    @property
    def picture(self) -> NDArray[np.uint8]:
        """The thumbnail, shape (`THUMBNAIL`, `THUMBNAIL`)."""
        return np.frombuffer(zlib.decompress(base64.b64decode(self.thumbnail)), np.uint8).reshape(THUMBNAIL, THUMBNAIL)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Measures from what `to_json` made.

        Raises
        ------
        TypeError, KeyError
            If it is something else.
        """
        content, found = tuple(data["content"]), tuple(tuple(glyph) for glyph in data["glyphs"])
        return cls(**{**data, "content": content, "glyphs": found})


def measure(path: Path, reader: MammogramReader, name: str | None = None) -> Measures:
    """Measure one file; one that cannot be read becomes measures that say so."""
    try:
        sha256 = sha256_of_file(path)
    except FileNotFoundError:
        return Measures(f"{name or path.name} is not there.")
    except OSError as error:
        return Measures(f"{name or path.name} cannot be read: {error.strerror}.")
    try:
        mammogram = reader.read(path, name)
    except MammogramError as error:
        return Measures(str(error), sha256)
    return measure_pixels(mammogram, sha256)


def measure_pixels(mammogram: Mammogram, file_sha256: str | None = None) -> Measures:
    """Measure a mammogram that has been read."""
    pixels = mammogram.pixels
    rows, columns = pixels.shape
    counts = np.bincount(pixels.ravel(), minlength=WHITE + 1)
    present = np.flatnonzero(counts)
    mask = find_breast_region(pixels).mask
    small = cv2.resize(pixels, MASK[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(WHITE)
    thumbnail = cv2.resize(pixels, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    ring = _ring(small)
    header, spacing = mammogram.header, mammogram.spacing
    square = None if spacing is None else bool(abs(spacing.row_mm / spacing.column_mm - 1) < 0.01)
    chest = chest_wall(mask)
    return Measures(
        file_sha256=file_sha256,
        pixel_sha256=hashlib.sha256(f"{pixels.shape}".encode() + pixels.astype("<u2").tobytes()).hexdigest(),
        rows=rows,
        columns=columns,
        bits=mammogram.acquisition.bits_stored,
        levels=len(present),
        lowest=round(float(present[0]) / WHITE, 4),
        highest=round(float(present[-1]) / WHITE, 4),
        white=round(float((small[mask] > 0.995).mean()), 4) if mask.any() else 0.0,
        ring_bright=round(float((ring > 0.75).mean()), 4),
        ring_dark=round(float((ring < 0.25).mean()), 4),
        content=_content(small),
        photometric=_said(header, "PhotometricInterpretation"),
        orientation=_said(header, "PatientOrientation"),
        mirrored=_said(header, "FieldOfViewHorizontalFlip") == "YES",
        spacing_mm=spacing.row_mm if spacing is not None and square else None,
        square_pixels=square,
        breast=round(float(mask.mean()), 4),
        mask=_packed(np.packbits(mask)),
        thumbnail=_packed((thumbnail // 256).astype(np.uint8)),
        glyphs=glyphs(pixels, mask),
        chest=chest,
        muscle=muscle(small, mask, chest),
    )


def _packed(values: NDArray[np.uint8]) -> str:
    return base64.b64encode(zlib.compress(values.tobytes())).decode()


def _ring(small: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pixels between `_RING` shares of the sides from the image's edge."""
    rows, columns = small.shape
    y, x = np.minimum(np.arange(rows), np.arange(rows)[::-1]), np.minimum(np.arange(columns), np.arange(columns)[::-1])
    depth = np.minimum(y[:, None] / rows, x[None, :] / columns)
    return np.asarray(small[(depth >= _RING[0]) & (depth <= _RING[1])])


def _content(small: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """The part left when lines of one level are cut off at the edges."""
    edges = []
    for lines in (small, small.T):
        varied = np.flatnonzero(np.ptp(lines, axis=1) > 0.02)
        edges.append((varied[0] / len(lines), (varied[-1] + 1) / len(lines)) if len(varied) else (0.0, 1.0))
    (y0, y1), (x0, x1) = edges
    return round(float(x0), 4), round(float(y0), 4), round(float(x1), 4), round(float(y1), 4)


def _said(header: Any, keyword: str) -> str | None:
    value = header.get(keyword) if header is not None else None
    if value is None or value == "":
        return None
    return str(value) if isinstance(value, str) else "\\".join(str(part) for part in value)
