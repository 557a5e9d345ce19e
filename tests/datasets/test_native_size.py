import cv2
import numpy as np
import pytest

from mammoscope.datasets import DatasetError
from mammoscope.datasets.import_coco import NativeSize, read_native_sizes, unstretch

HEAD = "file_name,split,est_native_rows,est_native_cols,est_aspect_cols_over_rows,n_boxes\n"


def written(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "sizes.csv"
    path.write_text(text, encoding=encoding)
    return path


@pytest.mark.parametrize(
    ("aspect", "size", "expected"),
    [
        (0.5, (800, 800), (1600, 800)),  # narrower than stored: columns stay
        (2.0, (800, 800), (800, 1600)),  # wider: rows stay
        (1.0, (800, 800), (800, 800)),
        (0.6, (800, 400), (800, 480)),  # stored narrower than native: rows stay
    ],
)
def test_no_dimension_loses_pixels(aspect, size, expected):
    assert NativeSize(aspect).unstretched(*size) == expected


def test_empty_rows_get_the_median(tmp_path):
    text = HEAD + "a.png,train,100,50,0.5,1\nb.png,train,100,60,0.6,1\nc.png,train,100,90,0.9,1\nd.png,train,,,,1\n"
    sizes = read_native_sizes(written(tmp_path, text))
    assert sizes["a.png"] == NativeSize(0.5, 100, 50)
    assert sizes["d.png"] == NativeSize(0.6, median=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file_name,rows\na,1\n", "no column est_native_rows"),
        ("", "no column file_name"),
        (HEAD + "a.png,train,100,50,abc,1\n", "line 2: 'abc' is not a positive number"),
        (HEAD + "a.png,train,100,50,0.5,1\nb.png,train,100,,0.5,1\n", "line 3: '' is not"),
        (HEAD + 'a.png,train,100,50,"0,5",1\n', "line 2: '0,5' is not"),
        (HEAD + "a.png,train,100,50,-1,1\n", "line 2: '-1' is not"),
        (HEAD + "a.png,train,100,50,nan,1\n", "line 2: 'nan' is not"),
        (HEAD + "a.png,train,100,50,0.5,1\na.png,train,100,50,0.5,1\n", "line 3: a.png is there twice"),
        (HEAD + ",train,100,50,0.5,1\n", "line 2: no file_name"),
        (HEAD + "a.png,train,,,,1\n", "holds no native size"),
    ],
)
def test_bad_tables(tmp_path, text, said):
    with pytest.raises(DatasetError, match=said):
        read_native_sizes(written(tmp_path, text))


def test_tables_that_are_none(tmp_path):
    with pytest.raises(DatasetError, match="does not exist"):
        read_native_sizes(tmp_path / "none.csv")
    with pytest.raises(DatasetError, match="not a CSV file in UTF-8"):
        read_native_sizes(written(tmp_path, HEAD + "ä.png,train,100,50,0.5,1\n", encoding="latin-1"))
    with pytest.raises(DatasetError, match="cannot be read"):
        read_native_sizes(tmp_path)


def test_unstretching_keeps_depth_and_places(tmp_path):
    """A bright square keeps its place in relative terms, to a pixel, at 16 bits."""
    pixels = np.zeros((100, 100), np.uint16)
    pixels[20:40, 50:80] = 60000
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    unstretch(tmp_path / "a.png", tmp_path / "b.png", 200, 100)
    out = cv2.imread(str(tmp_path / "b.png"), cv2.IMREAD_UNCHANGED)
    assert out.dtype == np.uint16
    assert out.shape == (200, 100)
    rows, columns = np.nonzero(out > 30000)
    assert (rows.min(), rows.max() + 1) == (40, 80)
    assert (columns.min(), columns.max() + 1) == (50, 80)


def test_pixels_that_cannot_be_decoded(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG nonsense")
    with pytest.raises(DatasetError, match=r"a\.png cannot be un-stretched"):
        unstretch(tmp_path / "a.png", tmp_path / "b.png", 20, 20)
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"empty\.png cannot be un-stretched"):
        unstretch(tmp_path / "empty.png", tmp_path / "b.png", 20, 20)
