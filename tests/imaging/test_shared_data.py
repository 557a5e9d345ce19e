"""Real mammograms."""

import numpy as np
import pytest

from mammoscope.imaging import Laterality, View, find_files


@pytest.fixture
def film(shared_data, reader):
    return lambda name: reader.read(shared_data / "dicom" / name)


def test_nema_film_with_its_facts(film):
    mammogram = film("MG1_J2KI.dcm")
    assert mammogram.pixels.shape == (4664, 3064)
    assert (mammogram.laterality, mammogram.view) == (Laterality.LEFT, View.MLO)
    assert mammogram.acquisition.digitised_film
    assert mammogram.acquisition.bits_stored == 12


def test_12_bit_jpeg_shows_the_same_film_as_its_jpeg_2000(film):
    one, other = (film(name).pixels.astype(float) for name in ("MG1_J2KI.dcm", "MG1_JPLY.dcm"))
    assert np.abs(one - other).mean() < 0.005 * 65535
    assert np.corrcoef(one[::8, ::8].ravel(), other[::8, ::8].ravel())[0, 1] > 0.999


def test_crops_of_the_ddsm_collection(shared_data, reader):
    crops = find_files([shared_data / "cbis-ddsm" / "roi-dicom"])
    sides = [(m.rows, m.columns, m.laterality, m.view) for m in map(reader.read, crops)]
    assert sides == [(384, 385, "L", "CC"), (483, 286, "R", "MLO"), (486, 497, "R", "MLO")]


def test_pictures_at_native_size(shared_data, reader):
    found = find_files([shared_data / "cbis-ddsm" / "native"])
    assert [path.suffix for path in found] == [".png", ".png", ".jpg"]
    sizes = [(m.rows, m.columns, m.laterality, m.view) for m in map(reader.read, found)]
    assert sizes == [(4006, 1846, "L", "CC"), (4144, 2600, "R", "MLO"), (6496, 3451, "L", "MLO")]
