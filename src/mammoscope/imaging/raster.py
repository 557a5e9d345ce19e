"""A mammogram from a picture file: PNG, JPEG, TIFF or PGM."""

import io
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageMode

from mammoscope.imaging.mammogram import WHITE, Acquisition, Laterality, Mammogram, MammogramError, View
from mammoscope.imaging.pixel_data import MAX_PIXELS
from mammoscope.reasons import ReasonCode

_FORMATS = ("PNG", "JPEG", "TIFF", "PPM")
_EXPORT = "export it as an 8 or 16-bit grey PNG"
_EIGHT_BIT_GREY = frozenset(("1", "L", "LA"))
_SIXTEEN_BIT_GREY = frozenset(("I;16", "I;16L", "I;16B"))
_EIGHT_BIT_COLOUR = frozenset(("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"))
_LUMINANCE_BGR = (0.114, 0.587, 0.299)  # ITU-R BT.601

_WORD = re.compile(r"[A-Za-z0-9]+")
_GLUED = re.compile(r"([LR])(CC|MLO|XCCL|XCCM|ML|LM|LMO)")
_SIDES = {"LEFT": Laterality.LEFT, "RIGHT": Laterality.RIGHT}
_SIDE_LETTERS = {"L": Laterality.LEFT, "R": Laterality.RIGHT}
_VIEWS = frozenset((View.CC, View.MLO, View.XCCL, View.XCCM))
_VIEWS_WITH_SIDE = frozenset((View.ML, View.LM, View.LMO))


def read_picture(path: Path, name: str) -> Mammogram:
    """Read a picture as a mammogram, in the geometry of the file.

    Grey is kept at its full depth. Colour becomes luminance. An EXIF orientation is not applied: boxes are in pixels
    as stored. 16-bit pictures whose brightest pixel is below a quarter of white are scans or exports of 10, 12 or 14
    bits left at the low end, and are stretched from that depth.

    Side and view come from the file's name where it is clear (`laterality_and_view_of_name`).

    Raises
    ------
    MammogramError
        If it is not one such picture, is damaged or cut short, or is too large.
    """
    data = path.read_bytes()
    Image.MAX_IMAGE_PIXELS = None  # our own limit below says it in a sentence, before anything is decoded
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check(image, name)
            pixels, bits = _grey(image, data, name)
    except MammogramError:
        raise
    except Exception as error:  # Pillow's plugins raise what the damaged bytes lead to
        raise MammogramError(
            f"{name} is a damaged or cut picture: copy it again from its source.", ReasonCode.DAMAGED
        ) from error
    side, view = laterality_and_view_of_name(path.stem)
    return Mammogram(
        pixels=pixels, name=name, laterality=side, view=view, acquisition=Acquisition(bits_stored=bits), path=path
    )


def laterality_and_view_of_name(stem: str) -> tuple[Laterality | None, View | None]:
    """Side and view as file names of public collections have them.

    For example ``00016_LEFT_CC``, ``20586908_MG_R_ML_ANON`` and ``case3-LMLO``. A name that says two sides (or views)
    says none. A lone letter is a side only beside a view, and ML, LM and LMO are views only beside a side.
    """
    words = [word.upper() for word in _WORD.findall(stem)]
    glued = [match for word in words if word not in View.__members__ and (match := _GLUED.fullmatch(word))]
    sides = {_SIDES[word] for word in words if word in _SIDES} | {Laterality(match[1]) for match in glued}
    views = {View(word) for word in words if word in _VIEWS} | {View(match[2]) for match in glued}
    weak_sides = {_SIDE_LETTERS[word] for word in words if word in _SIDE_LETTERS}
    weak_views = {View(word) for word in words if word in _VIEWS_WITH_SIDE}
    if views or weak_views:
        sides |= weak_sides
    if sides:
        views |= weak_views
    return (sides.pop() if len(sides) == 1 else None), (views.pop() if len(views) == 1 else None)


def _check(image: Image.Image, name: str) -> None:
    columns, rows = image.size
    if rows * columns > MAX_PIXELS:
        raise MammogramError(
            f"{name} has {rows} x {columns} pixels, more than any mammogram has: export the mammogram at its own size.",
            ReasonCode.SIZE,
        )
    if getattr(image, "n_frames", 1) != 1:
        raise MammogramError(
            f"{name} holds several pictures: save each mammogram as a file of its own.", ReasonCode.MULTI_FRAME
        )


def _grey(image: Image.Image, data: bytes, name: str) -> tuple[NDArray[np.uint16], int]:
    """The pixels from 0 to 65535, and the bits they had."""
    mode = image.mode
    if mode in _SIXTEEN_BIT_GREY or (mode == "I" and image.format in ("PNG", "PPM")):
        image.load()
        pixels = np.asarray(image).astype(np.uint16)
        if image.format == "TIFF" and image.tag_v2.get(262) == 0:  # type: ignore[attr-defined]  # white is zero
            pixels = WHITE - pixels
        return _stretched(pixels)
    if mode in _EIGHT_BIT_GREY and not _is_deeper(image):
        return np.asarray(image.convert("L")).astype(np.uint16) * np.uint16(257), 8
    if mode in _EIGHT_BIT_COLOUR and not _is_deeper(image):
        return _luminance(np.asarray(image.convert("RGB"))[..., ::-1], 255), 8
    if mode in _EIGHT_BIT_COLOUR | _EIGHT_BIT_GREY:
        return _deep_colour(data, name), 16
    depth = ImageMode.getmode(mode).typestr
    raise MammogramError(
        f"{name} has pixels of the type {mode} ({depth}), which no grey picture needs: {_EXPORT}.",
        ReasonCode.PIXEL_DATA,
    )


def _is_deeper(image: Image.Image) -> bool:
    """Whether the file has 16 bits a channel in a mode where Pillow keeps 8."""
    if image.format == "TIFF":
        return bool(max(image.tag_v2.get(258, (1,))) > 8)  # type: ignore[attr-defined]
    return any(";16" in str(tile) for tile in getattr(image, "tile", ()))


def _deep_colour(data: bytes, name: str) -> NDArray[np.uint16]:
    import cv2

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise MammogramError(f"{name} has colours of a depth that cannot be read: {_EXPORT}.", ReasonCode.PIXEL_DATA)
    deep = pixels.astype(np.uint16, copy=False)
    return _luminance(deep[..., :3], WHITE) if deep.ndim == 3 else deep


def _luminance(bgr: NDArray[np.uint8] | NDArray[np.uint16], white: int) -> NDArray[np.uint16]:
    grey = bgr @ np.asarray(_LUMINANCE_BGR, dtype=np.float32)
    return np.asarray(np.rint(np.clip(grey * np.float32(WHITE / white), 0, WHITE)), dtype=np.uint16)


def _stretched(pixels: NDArray[np.uint16]) -> tuple[NDArray[np.uint16], int]:
    brightest = int(pixels.max(initial=0))
    bits = next(bits for bits in (10, 12, 14, 16) if brightest < 1 << bits)
    if bits == 16:
        return pixels, bits
    return np.rint(pixels * np.float32(WHITE / ((1 << bits) - 1))).astype(np.uint16), bits
