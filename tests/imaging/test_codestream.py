import numpy as np
import pytest
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from mammoscope.imaging.pixel_data import Coding, parse_codestream


@pytest.fixture(params=[(JPEG2000Lossless, Coding.JPEG_2000), (JPEGLSLossless, Coding.JPEG_LS)])
def frame_and_coding(request, make_mg, film):
    syntax, coding = request.param
    dataset = make_mg(film, BitsStored=12, HighBit=11)
    dataset.compress(syntax)
    return next(generate_frames(dataset.PixelData, number_of_frames=1)), coding


def test_frame_header(frame_and_coding):
    frame, coding = frame_and_coding
    stream = parse_codestream(frame)
    assert (stream.coding, stream.rows, stream.columns) == (coding, 40, 60)
    assert (stream.components, stream.precision, stream.complete) == (1, 12, True)


def test_missing_end(frame_and_coding):
    frame, _ = frame_and_coding
    assert not parse_codestream(frame[:-10]).complete


def test_padding_after_the_end(frame_and_coding):
    frame, _ = frame_and_coding
    assert parse_codestream(frame + b"\0").complete


def test_cut_within_the_header(frame_and_coding):
    frame, _ = frame_and_coding
    assert parse_codestream(frame[:9]) is None


def test_baseline_jpeg_past_its_other_segments():
    import cv2

    _, data = cv2.imencode(".jpg", np.zeros((24, 16), np.uint8))
    stream = parse_codestream(data.tobytes())
    assert (stream.coding, stream.rows, stream.columns, stream.precision) == (Coding.JPEG, 24, 16, 8)


@pytest.mark.parametrize("data", [b"", b"text", b"\xff\xd8\xff\xd9", b"\xff\xd8" + b"\0" * 50, b"\xff\xd8\xff\xda\0\0"])
def test_no_stream(data):
    assert parse_codestream(data) is None
