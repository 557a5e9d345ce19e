"""From stored values to what a reader sees: modality, window and polarity, each exactly once.

The chain is PS3.3's: Modality LUT (C.11.1), VOI LUT (C.11.2), polarity (C.7.6.3.1.2, C.8.11.3.1.2). Every step is a
function of one stored value, so the chain is worked out once for each value that can occur and the image is looked up
in the resulting table: exact arithmetic at the cost of one pass over the pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from mammoscope.imaging.attributes import items, number, numbers, text, texts, word
from mammoscope.imaging.mammogram import WHITE, MammogramError, PresentationIntent
from mammoscope.imaging.pixel_data import PixelFormat

_Values = NDArray[np.float64]
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as DICOM's own YBR_FULL


def displayed(
    stored: NDArray[np.integer[Any]],
    header: Dataset,
    pixel_format: PixelFormat,
    intent: PresentationIntent | None,
    name: str,
) -> NDArray[np.uint16]:
    """The grey values that a reader sees.

    Parameters
    ----------
    stored
        Shape (rows, columns), or (rows, columns, 3) for a colour secondary capture, which becomes luminance.
    header
        Its attributes; a big-endian file's ``LUTData`` is recognised by the header's ``original_encoding``.
    intent
        Decides which automatic window is used where the header has none.

    Returns
    -------
    ndarray
        ``uint16``, shape (rows, columns); 0 is black, 65535 white, padding 0.

    Raises
    ------
    MammogramError
        If the header holds a broken palette, or a broken lookup table and no window to use in its stead.

    Notes
    -----
    Polarity: MONOCHROME1 and Presentation LUT Shape INVERSE are two ways of saying the same (they come together,
    C.8.11.3.1.2), so either or both of them turn the image once.

    Window: the first VOI LUT, else the first window (LINEAR, LINEAR_EXACT or SIGMOID), else an automatic one. One that
    shows all the values in the image as one grey, such as a placeholder, is passed over. The automatic ones are:

    - For presentation, and where the intent is unknown: the range of the values in the image, padding left out. A
      small bright group that stands apart from all the rest, such as burnt-in text or a frame, does not widen it.
    - For processing: detector values, so tissue is made bright (by polarity, or by Pixel Intensity Relationship Sign
      where higher means more radiation), the logarithm is taken where the values are linear in exposure (Pixel
      Intensity Relationship other than LOG), and the window spans the 0.5 to 99.5 percentiles of what is neither
      padding nor the directly exposed background.
    """
    if pixel_format.photometric == "PALETTE COLOR" or stored.ndim == 3:
        return _luminance(stored, header, pixel_format, name)
    index = indices(stored, pixel_format)
    padding = _padding(header, pixel_format)
    counts = _counts(index, pixel_format.levels)
    counts[padding] = 0
    (_, grey) = next(_greys(counts, header, pixel_format, intent, name))
    return _looked_up(_table(grey, padding), index)


def indices(stored: NDArray[np.integer[Any]], pixel_format: PixelFormat) -> NDArray[np.integer[Any]]:
    """Stored values counted from the lowest that there can be."""
    return stored.astype(np.int32) - pixel_format.lowest if pixel_format.signed else stored


def ways_to_display(
    stored: NDArray[np.integer[Any]],
    header: Dataset,
    pixel_format: PixelFormat,
    intent: PresentationIntent | None,
    name: str,
) -> tuple[list[tuple[str, _Values]], tuple[int, int] | None]:
    """Every way to display an image that its file knows, the one of `displayed` first, and its padding.

    Parameters
    ----------
    stored, header, pixel_format, intent, name
        As of `displayed`; a grey image.

    Returns
    -------
    ways
        What each is called, and its grey from 0 to 1 for each value of `indices`, padding not yet black.
    padding
        Lowest and highest of `indices` that are padding; ``None`` where there is none.

    Raises
    ------
    MammogramError
        As `displayed`.
    """
    padding = _padding(header, pixel_format)
    counts = _counts(indices(stored, pixel_format), pixel_format.levels)
    counts[padding] = 0
    ways: list[tuple[str, _Values]] = []
    try:
        for said, grey in _greys(counts, header, pixel_format, intent, name):
            ways.append((said or f"window {len(ways) + 1}", np.clip(grey, 0, 1)))
    except MammogramError:  # a table that cannot be read, behind windows that do
        if not ways:
            raise
    places = np.flatnonzero(padding)
    return ways, (int(places[0]), int(places[-1])) if places.size else None


_PIECE = 64
"""Rows at a time: NumPy counts and looks up by indices of eight bytes, which should stay in the processor's cache."""


def _counts(index: NDArray[np.integer[Any]], levels: int) -> NDArray[np.int64]:
    """How often each value occurs."""
    counts = np.zeros(levels, np.int64)
    for first in range(0, len(index), _PIECE):
        counts += np.bincount(index[first : first + _PIECE].ravel(), minlength=levels)
    return counts


def _looked_up(table: NDArray[np.uint16], index: NDArray[np.integer[Any]]) -> NDArray[np.uint16]:
    """``table[index]``, five times as fast where OpenCV looks up 16 bits (5.0 does, 4.11 does not)."""
    if index.dtype == np.uint16 and _OPENCV_LOOKS_UP_16_BITS:
        whole = np.zeros((1, 1 << 16), np.uint16)
        whole[0, : table.size] = table
        return np.asarray(cv2.LUT(index, whole), np.uint16)
    shown = np.empty(index.shape, np.uint16)
    for first in range(0, len(index), _PIECE):
        np.take(table, index[first : first + _PIECE], out=shown[first : first + _PIECE], mode="clip")
    return shown


def _opencv_looks_up_16_bits() -> bool:
    table = np.arange(1 << 16, dtype=np.uint16)[::-1].reshape(1, -1)
    try:
        return bool(np.array_equal(cv2.LUT(np.array([[1, 60_000]], np.uint16), table), [[65_534, 5_535]]))
    except cv2.error:
        return False


_OPENCV_LOOKS_UP_16_BITS = _opencv_looks_up_16_bits()


def _greys(
    counts: NDArray[np.int64],
    header: Dataset,
    pixel_format: PixelFormat,
    intent: PresentationIntent | None,
    name: str,
) -> Iterator[tuple[str, _Values]]:
    """Each usable VOI of the file and then the automatic one: what it is called, and grey as the reader sees it."""
    values = np.arange(pixel_format.lowest, pixel_format.lowest + pixel_format.levels, dtype=np.float64)
    values = _modality(values, header, pixel_format, name)
    inverted = pixel_format.photometric == "MONOCHROME1" or word(header, "PresentationLUTShape") == "INVERSE"
    present = counts > 0
    for said, grey in _voi(values, header, pixel_format, name):
        shown = 1 - grey if inverted else grey
        if np.unique(np.rint(np.clip(shown[present], 0, 1) * WHITE)).size > 1:
            yield said, shown
    if intent is PresentationIntent.FOR_PROCESSING:
        yield "automatic", _detector_window(values, header, counts, inverted)
    else:
        yield "full range", _full_range(values, counts, inverted)


def _table(grey: _Values, padding: NDArray[np.bool_]) -> NDArray[np.uint16]:
    table = np.rint(np.clip(grey, 0, 1) * WHITE).astype(np.uint16)
    table[padding] = 0
    return table


def _padding(header: Dataset, pixel_format: PixelFormat) -> NDArray[np.bool_]:
    """Which stored values are Pixel Padding (PS3.3 C.7.5.1.1.2), from the lowest value up."""
    values = np.arange(pixel_format.levels) + pixel_format.lowest
    first = number(header, "PixelPaddingValue")
    if first is None:
        return np.zeros(pixel_format.levels, dtype=bool)
    last = number(header, "PixelPaddingRangeLimit")
    first, last = (_as_stored(v, pixel_format) for v in (first, first if last is None else last))
    return (values >= min(first, last)) & (values <= max(first, last))


def holds_padding(stored: NDArray[np.integer[Any]], header: Dataset, pixel_format: PixelFormat) -> bool:
    """Whether any of these values is Pixel Padding."""
    padding = _padding(header, pixel_format)
    return bool(padding.any()) and bool(_counts(indices(stored, pixel_format), pixel_format.levels)[padding].any())


def _as_stored(value: float, pixel_format: PixelFormat) -> int:
    """A number that may carry the wrong one of the representations US and SS, as the stored samples would hold it."""
    low, levels = pixel_format.lowest, 1 << 16
    whole = int(value)
    if low <= whole < low + pixel_format.levels:
        return whole
    return (whole + levels // 2) % levels - levels // 2 if pixel_format.signed else whole % levels


def _modality(values: _Values, header: Dataset, pixel_format: PixelFormat, name: str) -> _Values:
    tables = items(header, "ModalityLUTSequence")
    if tables:
        table = LookupTable.of(tables[0], header, pixel_format.signed, name)
        return table.data[table.positions(values)].astype(np.float64)
    slope, intercept = number(header, "RescaleSlope"), number(header, "RescaleIntercept")
    # A slope of 0 would wipe the image out; writers that mean "none" put it there.
    return values * (slope or 1.0) + (intercept or 0.0)


def _voi(values: _Values, header: Dataset, pixel_format: PixelFormat, name: str) -> Iterator[tuple[str, _Values]]:
    """Each VOI LUT, then each window, by what the file calls it, as grey from 0 to 1.

    A table that cannot be read is an error only once the windows beside it are used up.
    """
    signed = bool(np.any(values < 0)) or pixel_format.signed
    for transformation in voi_transformations(header, signed, name):
        said = transformation.explanation
        if isinstance(transformation, Window):
            yield said, windowed(values, transformation.center, transformation.width, transformation.function)
        else:
            yield said, transformation.data[transformation.positions(values)] / transformation.white


def voi_transformations(header: Dataset, signed: bool, name: str) -> "Iterator[LookupTable | Window]":
    """The VOI LUTs of an image, then its windows (PS3.3 C.11.2), those that can be read.

    Parameters
    ----------
    signed
        Whether the output of the modality transformation has negative values.

    Raises
    ------
    MammogramError
        After the last window, if a table cannot be read.
    """
    unreadable: MammogramError | None = None
    for item in items(header, "VOILUTSequence"):
        try:
            yield LookupTable.of(item, header, signed, name)
        except MammogramError as error:
            unreadable = unreadable or error
    function = word(header, "VOILUTFunction") or "LINEAR"
    said = texts(header, "WindowCenterWidthExplanation")
    windows = zip(numbers(header, "WindowCenter"), numbers(header, "WindowWidth"), strict=False)
    for place, (center, width) in enumerate(windows):
        if center is not None and width is not None and width > 0:
            yield Window(center, width, function, said[place] if place < len(said) else "")
    if unreadable:
        raise unreadable


def windowed(values: _Values, center: float, width: float, function: str = "LINEAR") -> _Values:
    """Apply a window (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    Parameters
    ----------
    values
        Output of the modality transformation.
    function
        ``LINEAR``, ``LINEAR_EXACT`` or ``SIGMOID``; anything else counts as ``LINEAR``, the default of the standard.

    Returns
    -------
    ndarray
        Grey from 0 to 1.
    """
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700))))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0, 1)
    if width <= 1:
        return (values > center - 0.5).astype(np.float64)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def _full_range(values: _Values, counts: NDArray[np.int64], inverted: bool) -> _Values:
    grey = -values if inverted else values
    present, weights = _histogram(grey, counts)
    if present.size == 0:
        return np.zeros_like(values)
    low, high = present[0], _top_without_burnt_in(present, weights)
    return (grey - low) / (high - low) if high > low else np.zeros_like(values)


def _detector_window(values: _Values, header: Dataset, counts: NDArray[np.int64], inverted: bool) -> _Values:
    if word(header, "PixelIntensityRelationship") != "LOG":
        values = np.log(np.maximum(values, 1.0))
    inverted = inverted or number(header, "PixelIntensityRelationshipSign") == 1
    grey = -values if inverted else values
    present, weights = _histogram(grey, counts)
    if present.size < 2:
        return np.zeros_like(values)
    tissue = present > _background_top(present, weights)
    low, high = _percentiles(present[tissue], weights[tissue], (0.005, 0.995))
    return (grey - low) / (high - low) if high > low else np.zeros_like(values)


def _histogram(grey: _Values, counts: NDArray[np.int64]) -> tuple[_Values, NDArray[np.int64]]:
    """The grey values that occur, rising, and how often each does."""
    occurring = np.flatnonzero(counts)
    order = occurring[np.argsort(grey[occurring], kind="stable")]
    return grey[order], counts[order]


def _percentiles(present: _Values, weights: NDArray[np.int64], fractions: tuple[float, ...]) -> list[float]:
    cumulative = np.cumsum(weights)
    places = np.searchsorted(cumulative, np.asarray(fractions) * cumulative[-1])
    return [float(present[min(place, present.size - 1)]) for place in places]


def _top_without_burnt_in(present: _Values, weights: NDArray[np.int64]) -> float:
    """The brightest value that belongs to the picture.

    Text, frames and markers are few pixels, far brighter than all others. So the brightest 3 % end where the first gap
    of at least a tenth of the range opens among them; without such a gap they all count.
    """
    lowest, highest = present[0], present[-1]
    (bulk,) = _percentiles(present, weights, (0.97,))
    upper = present[present >= bulk]
    gaps = np.flatnonzero(np.diff(upper) >= 0.1 * (highest - lowest))
    top = float(upper[gaps[0]]) if gaps.size else float(highest)
    return top if top > lowest else float(highest)


def _background_top(present: _Values, weights: NDArray[np.int64]) -> float:
    """The brightest value of the directly exposed background, or minus infinity where there is none.

    Otsu's threshold (1979) splits the histogram. The dark part is background if it is as narrow as an even exposure
    is: its central 80 % within a quarter of the distance between the two means. Otherwise it is dark tissue, and stays.
    """
    weight = np.cumsum(weights)[:-1].astype(np.float64)
    first = np.cumsum(weights * present)
    dark_mean = first[:-1] / weight
    bright_mean = (first[-1] - first[:-1]) / (weights.sum() - weight)
    split = int(np.argmax(weight * (weights.sum() - weight) * (bright_mean - dark_mean) ** 2))
    dark = slice(0, split + 1)
    tenth, ninetieth = _percentiles(present[dark], weights[dark], (0.1, 0.9))
    narrow = ninetieth - tenth <= 0.25 * (bright_mean[split] - dark_mean[split])
    return float(present[split]) if narrow else -np.inf


def _luminance(
    stored: NDArray[np.integer[Any]], header: Dataset, pixel_format: PixelFormat, name: str
) -> NDArray[np.uint16]:
    """Colour as grey: captures come as RGB with equal channels, or with coloured annotations burnt in."""
    white = pixel_format.levels - 1
    if pixel_format.photometric == "PALETTE COLOR":
        from pydicom.pixels.processing import apply_color_lut

        try:
            stored = apply_color_lut(stored, header)[..., :3]
        except Exception as error:
            raise MammogramError(f"{name} has a broken colour palette: convert it to a grey image.") from error
        white = int(np.iinfo(stored.dtype).max)
    grey = stored @ np.asarray(_LUMINANCE, dtype=np.float32)
    return np.asarray(np.rint(np.clip(grey * np.float32(WHITE / white), 0, WHITE)), dtype=np.uint16)


@dataclass(frozen=True, slots=True)
class Window:
    """A window center and width with its VOI LUT Function (PS3.3 C.11.2.1.2, C.11.2.1.3)."""

    center: float
    width: float
    function: str
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class LookupTable:
    """One item of a Modality or VOI LUT Sequence (PS3.3 C.11.1.1, C.11.2.1.1)."""

    data: NDArray[np.uint16]
    first: int
    white: int
    bits: int
    explanation: str = ""

    def positions(self, values: _Values) -> NDArray[np.int64]:
        """Where each value is looked up: values beyond either end take the entry at that end."""
        return np.asarray(np.clip(np.rint(values) - self.first, 0, self.data.size - 1), dtype=np.int64)

    @classmethod
    def of(cls, item: Dataset, header: Dataset, signed: bool, name: str) -> "LookupTable":
        """The table of an item of this header.

        Raises
        ------
        MammogramError
            If it cannot be read.
        """
        try:
            entries, first, bits = (int(v) for v in item.LUTDescriptor)
            entries = entries % 65536 or 65536  # the count has 16 bits: 0 stands for 65536
            data = _lut_data(item, header, entries)
            readable = 1 <= bits <= 16 and data.size >= entries
        except Exception:
            readable = False
        if not readable:
            raise MammogramError(
                f"{name} has a lookup table (LUT) that cannot be read: "
                "send the image without it, or correct it at its source."
            )
        first = first - 65536 if signed and first > 32767 else first
        data = data[:entries]
        return cls(data, first, _white(bits, int(data.max())), bits, text(item, "LUTExplanation") or "")


def _white(bits: int, highest: int) -> int:
    """The entry that stands for white; some writers state fewer bits than their entries have, some the word's 16."""
    white = (1 << max(bits, highest.bit_length())) - 1
    return highest if 0 < highest < white / 4 else white


def _lut_data(item: Dataset, header: Dataset, entries: int) -> NDArray[np.uint16]:
    data = item.LUTData
    if not isinstance(data, bytes | bytearray):
        return np.atleast_1d(np.asarray(data)).astype(np.uint16)
    if len(data) in (entries, entries + entries % 2):  # one byte an entry
        return np.frombuffer(data, np.uint8).astype(np.uint16)
    little = header.original_encoding[1] is not False
    return np.frombuffer(data[: len(data) // 2 * 2], "<u2" if little else ">u2").astype(np.uint16)
