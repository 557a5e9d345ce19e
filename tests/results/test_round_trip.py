"""Coordinates come back: from pixels in the file, through what a network sees, into every object and out of its bytes.

The stored picture is flipped, padded, cropped and stretched in ways that scanners and data sets do. A mark is right if
it lies on the bright spot of the stored pixels, whatever the header says of orientation and of flips made before.
"""

from io import BytesIO

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from mammoscope.findings import Box, Finding, Reading, ReadingStatus
from mammoscope.imaging import WHITE, Crop, Laterality, Mammogram, Preprocessing, View, prepare
from mammoscope.results import ReadMammogram, ai_sr, mammography_cad_sr, presentation_state, segmentation
from mammoscope.results.verification import ai_sr_marks, cad_sr_marks, presentation_state_marks, segmentation_marks

HEIGHT, WIDTH = 320, 220
SPOT = WHITE

pictures = st.fixed_dictionaries(
    {
        "across": st.floats(0.2, 0.7),
        "down": st.floats(0.35, 0.65),
        "flipped": st.booleans(),
        "padding": st.tuples(*[st.integers(0, 60)] * 4),
        "cropped": st.tuples(*[st.integers(0, 20)] * 3),
        "stretch": st.tuples(st.floats(0.6, 1.7), st.floats(0.6, 1.7)),
        "crop": st.sampled_from(Crop),
        "said": st.sampled_from(("YES", "NO")),
    }
)


def stored(across, down, flipped, padding, cropped, stretch):
    """A breast on the left with one white spot in it, then changed; the spot is the only white there is."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    breast = ((y - HEIGHT / 2) / 140) ** 2 + (x / 180) ** 2 < 1
    pixels = np.where(breast, 20000 + 40 * (y % 50), 0).astype(np.uint16)
    spot = (abs(x - across * 180) < 12) & (abs(y - down * HEIGHT) < 9)
    pixels[spot] = SPOT
    top, bottom, right = cropped
    pixels = pixels[top : HEIGHT - bottom, : WIDTH - right]
    if flipped:
        pixels = pixels[:, ::-1]
    above, below, before, after = padding
    pixels = np.pad(pixels, ((above, below), (before, after)))
    size = (round(pixels.shape[1] * stretch[0]), round(pixels.shape[0] * stretch[1]))
    return np.ascontiguousarray(cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST))


def around(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=float)


def detected(mammogram, crop):
    """What a perfect network finds: the brightest part of the picture that it sees, brought back to the file."""
    prepared = prepare(mammogram, Preprocessing(512, 320, crop))
    seen = around(prepared.pixels > 0.75)
    (box,) = prepared.placement.to_file(seen[None])
    pixel = max(prepared.placement.x_scale, prepared.placement.y_scale)
    return Box(*box), pixel


def reread(dataset):
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return dcmread(BytesIO(buffer.getvalue()))


@given(picture=pictures)
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_marks_lie_on_the_spot_in_the_stored_pixels(make_image, algorithm, picture):
    crop, said = picture["crop"], picture["said"]
    pixels = stored(**{key: value for key, value in picture.items() if key not in ("crop", "said")})
    side = "R" if picture["flipped"] else "L"
    header = make_image(side, "CC", 1, FieldOfViewHorizontalFlip=said, FieldOfViewRotation="0").header
    header.PatientOrientation = ["P", "L"] if said == "YES" else ["A", "R"]  # also where it contradicts the pixels
    header.Rows, header.Columns = pixels.shape
    mammogram = Mammogram(pixels, "x", laterality=Laterality(side), view=View.CC, header=header)
    box, pixel = detected(mammogram, crop)
    found = Reading("x", ReadingStatus.FOUND, (Finding(box, 0.9),), rows=pixels.shape[0], columns=pixels.shape[1])
    image = ReadMammogram(mammogram, found)
    truth = around(pixels == SPOT)
    marks = [
        cad_sr_marks(reread(mammography_cad_sr([image], algorithm))),
        ai_sr_marks(reread(ai_sr([image], algorithm))),
        presentation_state_marks(reread(presentation_state(image, algorithm))),
        segmentation_marks(reread(segmentation(image, algorithm))),
    ]
    for of_kind, rounding in zip(marks, (0.01, 0.01, 0.01, 0.5), strict=True):
        [mark] = of_kind[image.sop_instance_uid]
        assert mark.as_tuple() == pytest.approx(box.as_tuple(), abs=rounding)
        # The network's own pixels are the limit, and one of the file's for the blur of resizing.
        assert mark.as_tuple() == pytest.approx(tuple(truth), abs=pixel + 1 + rounding)
