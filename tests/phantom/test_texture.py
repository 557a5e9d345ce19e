from itertools import pairwise

import numpy as np
import pytest

from mammoscope.phantom.rendering import band_noise, blurred, power_law_noise, resized, ridges, smoothstep


def spectrum(noise):
    """(frequency, power) of every Fourier component but the mean, as flat arrays."""
    power = np.abs(np.fft.fft2(noise)) ** 2
    frequency = np.hypot(np.fft.fftfreq(noise.shape[0])[:, None], np.fft.fftfreq(noise.shape[1])[None, :])
    return frequency.ravel()[1:], power.ravel()[1:]


def slope(frequency, power, low, high):
    """Slope of log power over log frequency, fitted to the means of equal steps of log frequency."""
    edges = np.geomspace(low, high, 9)
    means = [power[(frequency >= a) & (frequency < b)].mean() for a, b in pairwise(edges)]
    return np.polyfit(np.log(np.sqrt(edges[:-1] * edges[1:])), np.log(means), 1)[0]


@pytest.mark.parametrize("shape", [(256, 256), (300, 200), (211, 257)])
@pytest.mark.parametrize("beta", [2.0, 3.0])
def test_power_falls_as_asked(shape, beta):
    noise = power_law_noise(np.random.default_rng(1), shape, beta)
    assert noise.shape == shape
    assert noise.dtype == np.float32
    assert slope(*spectrum(noise), 0.02, 0.45) == pytest.approx(-beta, abs=0.2)


def test_power_law_noise_has_mean_0_and_deviation_1():
    noise = power_law_noise(np.random.default_rng(2), (128, 96))
    assert noise.mean() == pytest.approx(0, abs=1e-4)
    assert noise.std() == pytest.approx(1, abs=1e-4)


def test_outer_scale_flattens_long_waves_only():
    frequency, power = spectrum(power_law_noise(np.random.default_rng(3), (512, 512), 3.0, outer_scale=16))
    assert slope(frequency, power, 0.004, 0.02) == pytest.approx(0, abs=0.4)
    assert slope(frequency, power, 0.2, 0.5) == pytest.approx(-3, abs=0.3)


@pytest.mark.parametrize("wavelength", [16, 40])
def test_band_noise_is_strongest_at_its_wavelength(wavelength):
    frequency, power = spectrum(band_noise(np.random.default_rng(4), (320, 320), wavelength))
    centre = (frequency * power).sum() / power.sum()
    assert 1 / centre == pytest.approx(wavelength, rel=0.3)


def test_ridges_are_1_on_the_crossing_and_1_over_e_at_their_width():
    lines = ridges(np.array([[0.0, 0.1, -0.1, 5.0]], np.float32), 0.1)
    np.testing.assert_allclose(lines, [[1, np.exp(-1), np.exp(-1), 0]], atol=1e-6)


def test_smoothstep_rises_and_falls():
    values = np.array([[-1.0, 0.0, 1.0, 2.0, 3.0]], np.float32)
    np.testing.assert_allclose(smoothstep(0, 2, values), [[0, 0, 0.5, 1, 1]], atol=1e-6)
    np.testing.assert_allclose(smoothstep(2, 0, values), [[1, 1, 0.5, 0, 0]], atol=1e-6)


def test_blur_keeps_a_flat_picture_and_spreads_a_point():
    flat = np.full((20, 30), 0.25, np.float32)
    np.testing.assert_allclose(blurred(flat, 2.0), flat, rtol=1e-5)
    point = np.zeros((41, 41), np.float32)
    point[20, 20] = 1
    assert blurred(point, 2.0)[20, 20] == pytest.approx(1 / (2 * np.pi * 4), rel=0.05)


def test_resized_has_the_asked_shape_and_keeps_a_flat_picture():
    np.testing.assert_allclose(resized(np.ones((8, 9), np.float32), (31, 17)), np.ones((31, 17)), rtol=1e-5)
