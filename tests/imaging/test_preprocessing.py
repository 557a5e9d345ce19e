from pathlib import Path

import cv2
import numpy as np
import pytest

from mammoscope.imaging import Crop, Mammogram, Preprocessing, prepare

INPUT = Preprocessing(128, 96)
MASS = (60, 150, 90, 200)  # x0, y0, x1, y1 in the file


def breast(width: int = 150, height: int = 280, *, mass: bool = True) -> np.ndarray:
    """A smooth breast at the left edge of 400 x 300 pixels, brighter towards the chest wall, with a bright mass."""
    y, x = np.mgrid[:400, :300] + 0.5
    distance = np.sqrt((x / width) ** 2 + ((y - 200) / (height / 2)) ** 2)
    pixels = 1500 + 25000 * np.clip((1 - distance) * 12, 0, 1) * (1.2 - 0.4 * x / 300)
    if mass:
        x0, y0, x1, y1 = MASS
        pixels[y0:y1, x0:x1] = 60000
    return cv2.GaussianBlur(pixels, (0, 0), 1.5).astype(np.uint16)


def mammogram(pixels: np.ndarray) -> Mammogram:
    return Mammogram(pixels, "hand-made")


def test_the_placement_says_where_things_lie():
    prepared = prepare(mammogram(breast()), INPUT)
    x0, y0, x1, y1 = prepared.placement.to_picture(np.array([MASS]))[0]
    inner = prepared.pixels[int(y0) + 4 : int(y1) - 4, int(x0) + 4 : int(x1) - 4]
    around = prepared.pixels.copy()
    around[int(y0) - 4 : int(y1) + 5, int(x0) - 4 : int(x1) + 5] = 0

    assert inner.size > 100
    assert inner.min() > 0.9
    assert around.max() < 0.6


def test_pixels_run_from_0_to_1_and_fill_the_input():
    prepared = prepare(mammogram(breast()), INPUT)

    assert prepared.pixels.shape == (128, 96)
    assert prepared.pixels.dtype == np.float32
    assert prepared.pixels.min() == 0
    assert prepared.pixels.max() == 1


def test_the_picture_covers_the_crop_and_lies_in_the_image():
    placement = prepare(mammogram(breast()), INPUT).placement
    x0, y0, x1, y1 = placement.to_file(np.array([[0, 0, 96, 128]]))[0]

    assert x0 == 0
    assert 150 <= x1 < 180  # the breast is 150 wide
    assert 40 < y0 <= 60  # and lies between y 60 and 340
    assert 340 <= y1 < 360


def test_brightness_and_contrast_of_the_film_make_no_difference():
    pixels = breast().astype(np.float64)
    plain, dark = (prepare(mammogram(p.astype(np.uint16)), INPUT) for p in (pixels, pixels * 0.5 + 1000))

    assert dark.placement == plain.placement
    assert np.abs(dark.pixels - plain.pixels).max() < 0.01


def test_a_stretched_copy_gives_the_network_the_same_picture():
    original = breast()
    stretched = cv2.resize(original, (480, 480), interpolation=cv2.INTER_CUBIC)
    of_original, of_stretched = prepare(mammogram(original), INPUT), prepare(mammogram(stretched), INPUT)

    difference = np.abs(of_original.pixels - of_stretched.pixels)
    assert difference.mean() < 0.01
    assert np.quantile(difference, 0.99) < 0.1
    whole = np.array([[0, 0, 96, 128]])
    in_original = of_original.placement.to_file(whole) / (300, 400, 300, 400)
    in_stretched = of_stretched.placement.to_file(whole) / (480, 480, 480, 480)
    assert in_stretched == pytest.approx(in_original, abs=0.01)


def crop_in_parts(width: int, height: int) -> tuple[float, float]:
    """Width and height of the crop as parts of the image's sides."""
    placement = prepare(mammogram(breast(width, height, mass=False)), INPUT).placement
    return placement.x_scale * 96 / 300, placement.y_scale * 128 / 400


def test_a_narrow_breast_is_widened_to_half_its_height():
    across, down = crop_in_parts(width=60, height=360)

    assert across == pytest.approx(0.5 * down, abs=0.01)
    assert down > 0.9


def test_a_wide_breast_is_heightened():
    across, down = crop_in_parts(width=280, height=120)

    assert across == pytest.approx(1.25 * down, abs=0.02)
    assert across > 0.9


def test_without_a_crop_the_whole_image_fills_the_input():
    prepared = prepare(mammogram(breast()), Preprocessing(128, 96, Crop.NONE))

    assert prepared.placement.to_file(np.array([[0, 0, 96, 128]])).tolist() == [[0, 0, 300, 400]]


@pytest.mark.parametrize("level", [0, 30000, 65535])
def test_an_even_image_is_prepared_whole_and_finite(level: int):
    prepared = prepare(mammogram(np.full((400, 300), level, np.uint16)), INPUT)

    assert np.isfinite(prepared.pixels).all()
    assert prepared.placement.to_file(np.array([[0, 0, 96, 128]])).tolist() == [[0, 0, 300, 400]]


@pytest.mark.parametrize("sides", [(0, 64), (64, 100), (16, 64)])
def test_an_input_has_sides_of_multiples_of_32(sides: tuple[int, int]):
    with pytest.raises(ValueError, match="multiples of 32"):
        Preprocessing(*sides)


GEOMETRIES = {  # also in make_prepared.py
    "shrunk": Preprocessing(192, 128),
    "shrunk, all of it": Preprocessing(192, 128, Crop.NONE),
    "enlarged": Preprocessing(512, 352),
}


@pytest.mark.parametrize("which", GEOMETRIES)
@pytest.mark.parametrize("view", ["R CC", "L MLO"])
def test_a_network_sees_what_the_trained_ones_saw(view: str, which: str):
    """To a grey level of 256: another percentile or another interpolation is 2 to 60 of them away.

    tests/imaging/make_prepared.py made the file.
    """
    with np.load(Path(__file__).parent / "data" / "prepared.npz") as file:
        pixels, saw = file[view], file[f"{view}, {which}"]
    seen = prepare(mammogram(pixels), GEOMETRIES[which]).pixels * 255
    assert seen.shape == saw.shape
    assert np.abs(seen - saw).max() <= 1
