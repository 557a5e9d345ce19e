"""A mammogram as tiles: nothing of the stored values is lost, and its greys are those of `displayed`."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mammoscope.imaging import TILE, Laterality, MammogramError, MammogramReader, TilePyramid, tile_number, unpacked
from mammoscope.imaging.pyramid import CURVE_TOLERANCE, curve_of, cut, tile_count, tile_pyramid, turned
from mammoscope.phantom import screening_study


@pytest.fixture(scope="module")
def reader():
    with MammogramReader() as reader:
        yield reader


def level_of(pyramid: TilePyramid, level: int) -> np.ndarray:
    """A level put together from its tiles."""
    rows, columns = pyramid.display.levels[level]
    whole = np.zeros((-(-rows // TILE) * TILE, -(-columns // TILE) * TILE), np.uint16)
    for row in range(whole.shape[0] // TILE):
        for column in range(whole.shape[1] // TILE):
            number = tile_number(pyramid.display.levels, level, column, row)
            begin = pyramid.ends[number - 1] if number else 0
            tile = unpacked(pyramid.tiles[begin : pyramid.ends[number]].tobytes())
            place = slice(row * TILE, (row + 1) * TILE), slice(column * TILE, (column + 1) * TILE)
            whole[place] = tile
    return whole[:rows, :columns]


def test_the_finest_level_is_the_image_and_each_coarser_one_its_mean():
    values = np.random.default_rng(0).integers(0, 65536, (1301, 777)).astype(np.uint16)
    pyramid = tile_pyramid(values)
    assert pyramid.display.levels == ((326, 195), (651, 389), (1301, 777))
    assert np.array_equal(level_of(pyramid, 2), values)
    means = values[:1300, :776].reshape(650, 2, 388, 2).mean((1, 3))
    assert np.abs(level_of(pyramid, 1)[:650, :388] - means).max() <= 1
    assert tile_count(pyramid.display.levels) == pyramid.ends.size == 1 + 2 + 6
    for place in ((3, 0, 0), (-1, 0, 0), (2, 2, 0), (2, 0, 3)):
        assert tile_number(pyramid.display.levels, *place) is None


def test_a_dicom_files_curve_gives_the_greys_that_a_network_is_shown(reader: MammogramReader, tmp_path: Path):
    for file in screening_study(3, rows=300, columns=200).save(tmp_path):
        pyramid, header = reader.read_pyramid(file)
        assert header is not None
        values = level_of(pyramid, 0).astype(float)
        first = pyramid.display.curves[0]
        greys = np.interp(values, first.values, first.greys)
        if pyramid.display.padding:
            low, high = pyramid.display.padding
            greys[(values >= low) & (values <= high)] = 0
        if pyramid.display.mirrored:
            greys = greys[:, ::-1]
        shown = reader.read(file).pixels / 65535
        assert np.abs(greys - shown).max() <= CURVE_TOLERANCE + 1 / 65535


def test_a_picture_and_a_file_that_is_none(reader: MammogramReader, tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "picture.png"), pixels)
    pyramid, header = reader.read_pyramid(tmp_path / "picture.png")
    assert header is None
    assert np.array_equal(np.rint(level_of(pyramid, 0) * pyramid.display.scale), pixels)
    (tmp_path / "broken.png").write_bytes((tmp_path / "picture.png").read_bytes()[:200])
    with pytest.raises(MammogramError, match="damaged or cut"):
        reader.read_pyramid(tmp_path / "broken.png")


def test_a_curve_follows_its_table():
    values = np.arange(4096)
    sigmoid = 1 / (1 + np.exp(-4 * (values - 2000) / 500))
    step = (values > 1000).astype(float)
    line = np.clip((values - 100) / 300, 0, 1)
    for table in (sigmoid, step, line):
        curve = curve_of(table, "a window\n")
        assert np.abs(np.interp(values, curve.values, curve.greys) - table).max() <= CURVE_TOLERANCE
        assert curve.name == "a window\\n"
    assert len(curve.values) == 4  # a line with two ends


@pytest.mark.parametrize(
    ("laterality", "orientation", "expected"),
    [
        (Laterality.LEFT, ("A", "FL"), (False, False)),
        (Laterality.LEFT, ("P", "FL"), (True, False)),
        (Laterality.RIGHT, ("P", "FR"), (False, False)),
        (Laterality.RIGHT, ("A", "HR"), (True, True)),
        (Laterality.LEFT, None, (False, False)),  # tissue at the left
        (Laterality.RIGHT, None, (True, False)),
        (None, None, (False, False)),
    ],
)
def test_an_image_is_turned_as_a_reader_hangs_it(laterality, orientation, expected):
    greys = np.zeros((20, 20), np.uint16)
    greys[:, :8] = 30000
    assert turned(greys, laterality, orientation) == expected
    assert cut(greys)[0] == ((20, 20),)
