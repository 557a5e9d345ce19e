"""Random textures: power-law noise, as mammographic parenchyma has, and networks of thin bright lines.

Burgess, Jacobson and Judy (Med Phys 28:419, 2001) measured that the power spectrum of mammographic backgrounds falls as
1/f^beta with beta close to 3.
"""

import math
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

FloatImage: TypeAlias = NDArray[np.float32]
"""A picture of shape (rows, columns)."""

BETA = 3.0
"""Exponent of the power spectrum of mammographic parenchyma."""


def power_law_noise(
    rng: np.random.Generator, shape: tuple[int, int], beta: float = BETA, outer_scale: float | None = None
) -> FloatImage:
    """Noise whose power spectrum falls as 1/f^beta.

    Parameters
    ----------
    shape
        (rows, columns).
    beta
        Exponent of the power spectrum (not of the amplitude).
    outer_scale
        Wavelength in pixels above which the spectrum flattens; ``None``: it keeps rising up to the picture's size.

    Returns
    -------
    FloatImage
        Mean 0 and standard deviation 1; it continues across opposite edges.
    """
    frequency = _frequencies(shape)
    if outer_scale is not None:
        frequency = np.hypot(frequency, np.float32(1 / outer_scale))
    frequency[0, 0] = np.inf
    return _filtered_noise(rng, shape, frequency ** np.float32(-beta / 2))


def band_noise(rng: np.random.Generator, shape: tuple[int, int], wavelength: float) -> FloatImage:
    """Noise whose structures are all about as large as `wavelength` pixels; mean 0, standard deviation 1.

    It is computed on a grid just fine enough for that wavelength and enlarged: a small part of the work.
    """
    step = max(1.0, wavelength / 12)
    grid = max(8, round(shape[0] / step)), max(8, round(shape[1] / step))
    octaves = np.log2(np.maximum(_frequencies(grid) * np.float32(wavelength / step), 1e-6))
    coarse = _filtered_noise(rng, grid, np.exp(-2 * octaves**2).astype(np.float32))
    return resized(coarse, shape)


def ridges(noise: FloatImage, width: float) -> FloatImage:
    """Bright lines, from 0 to 1, along the curves where `noise` crosses zero.

    `width` is how far from zero, in standard deviations of the noise, a line has faded to 1/e.
    """
    lines = noise * np.float32(1 / width)
    lines *= -lines
    np.exp(lines, out=lines)
    return lines


def resized(image: FloatImage, shape: tuple[int, int]) -> FloatImage:
    """`image` enlarged to `shape` (rows, columns) by cubic interpolation."""
    if image.shape == shape:
        return image
    return cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC).astype(np.float32, copy=False)


def smoothstep(low: float, high: float, values: FloatImage) -> FloatImage:
    """0 up to `low`, 1 from `high`, a smooth rise between; `low` above `high` gives a fall."""
    t = values - np.float32(low)
    t *= np.float32(1 / (high - low))
    np.clip(t, 0, 1, out=t)
    curve = 3 - 2 * t
    t *= t
    t *= curve
    return t


def blurred(image: FloatImage, sigma: float) -> FloatImage:
    """`image` after a Gaussian blur of `sigma` pixels, its edge pixels continued outwards."""
    reach = 2 * math.ceil(2.5 * sigma) + 1
    return cv2.GaussianBlur(image, (reach, reach), sigma, borderType=cv2.BORDER_REPLICATE).astype(
        np.float32, copy=False
    )


def _frequencies(shape: tuple[int, int]) -> FloatImage:
    """Length of the frequency vector in cycles per pixel, in the layout of `numpy.fft.rfft2`."""
    down = np.fft.fftfreq(shape[0]).astype(np.float32)
    across = np.fft.rfftfreq(shape[1]).astype(np.float32)
    frequency: FloatImage = np.hypot(down[:, None], across[None, :])
    return frequency


def _filtered_noise(rng: np.random.Generator, shape: tuple[int, int], amplitude: FloatImage) -> FloatImage:
    """White noise through a filter given in the layout of `numpy.fft.rfft2`; mean 0, standard deviation 1."""
    spectrum = rng.standard_normal((*amplitude.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    spectrum *= amplitude
    spectrum[0, 0] = 0
    noise: FloatImage = np.fft.irfft2(spectrum, s=shape).astype(np.float32, copy=False)
    noise /= noise.std()
    return noise
