import pyarrow as pa
import pytest

from mammoscope.datasets import DatasetError
from mammoscope.datasets.query import rows_where


@pytest.fixture
def table():
    return pa.table(
        {
            "view": ["MLO", "CC", "MLO", None],
            "density": pa.array([3, 4, 1, None], pa.int8()),
            "spacing_mm": [0.1, None, 0.05, 0.07],
            "labels": [["Mass"], [], ["Calcification", "Mass"], ["Calcification"]],
            "left breast": ["yes", "no", "no", "yes"],
            "dense": [True, True, False, None],
        }
    )


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("view == 'MLO' and density >= 3", [0]),
        ("view == 'MLO' or density > 3", [0, 1, 2]),
        ("not view == 'MLO'", [1]),  # no view is neither
        ("view != 'CC'", [0, 2]),
        ("1 < density <= 3", [0]),
        ("density in (1, 4)", [1, 2]),
        ("view not in ['MLO']", [1]),
        ("'Mass' in labels", [0, 2]),
        ("'Mass' not in labels", [1, 3]),
        ("density is None", [3]),
        ("spacing_mm is not None and spacing_mm < 0.08", [2, 3]),
        ("column('left breast') == 'yes'", [0, 3]),
        ("dense", [0, 1]),
        ("dense == False", [2]),
        ("0.06 < spacing_mm", [0, 3]),
        ("spacing_mm > -1 and (view == 'CC' or view == 'MLO')", [0, 2]),
    ],
)
def test_conditions(table, condition, rows):
    assert [n for n, met in enumerate(rows_where(table, condition).to_pylist()) if met] == rows


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("", "cannot be understood"),
        ("view = 'MLO'", "cannot be understood"),
        ("angle > 3", "no column 'angle'; there are dense, density"),
        ("view == MLO", "no column 'MLO'.*Texts stand in quotes"),
        ("density == '3'", "density is a number and '3' a text"),
        ("density in ('a', 'b')", "density is a number and 'a' a text"),
        ("view > 3", "view is a text and 3 a number"),
        ("labels == 'Mass'", "labels is a list"),
        ("3 in labels", "texts with numbers"),
        ("'M' in view", "view is no list"),
        ("1 == 1", "'1' is not understood"),
        ("density + 1 == 3", "not understood"),
        ("view", "not understood"),
        ("__import__('os').system('true')", "not understood"),
        ("[x for x in (1,)]", "not understood"),
        ("(" * 5000, "cannot be understood"),
        ("not " * 4000 + "dense", "cannot be understood|not understood|different kinds|more than"),
        ("density == 3 " * 1000, "more than"),
    ],
)
def test_what_is_not_understood(table, condition, said):
    with pytest.raises(DatasetError, match=said):
        rows_where(table, condition)
