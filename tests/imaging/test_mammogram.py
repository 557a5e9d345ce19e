import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoscope.imaging import Placement


def test_to_file_scales_each_axis_and_adds_the_offset():
    placement = Placement(left=100, top=10, x_scale=2, y_scale=5)

    assert placement.to_file(np.array([[0, 0, 4, 6]])).tolist() == [[100, 10, 108, 40]]
    assert placement.to_picture(np.array([[100, 10, 108, 40]])).tolist() == [[0, 0, 4, 6]]


def test_no_boxes_stay_no_boxes_of_four_edges():
    placement = Placement(1, 2, 3, 4)

    assert placement.to_file(np.array([])).shape == (0, 4)
    assert placement.to_picture(np.zeros((0, 4), np.float32)).shape == (0, 4)


coordinate = st.floats(-1e4, 1e4)
scale = st.floats(0.05, 50)


@settings(deadline=None)
@given(coordinate, coordinate, scale, scale, st.lists(st.tuples(*[coordinate] * 4), max_size=5))
def test_there_and_back_is_where_it_was(left: float, top: float, x_scale: float, y_scale: float, boxes: list):
    placement = Placement(left, top, x_scale, y_scale)
    boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)

    assert placement.to_picture(placement.to_file(boxes)) == pytest.approx(boxes, abs=1e-6)
    assert placement.to_file(placement.to_picture(boxes)) == pytest.approx(boxes, abs=1e-6)
