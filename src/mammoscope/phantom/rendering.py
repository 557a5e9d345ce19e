"""The picture of one breast in one view, from its anatomy: what the detector and its processing would have stored.

Grey levels follow what digitised film shows: black background, fat at about two fifths of the scale, fibroglandular
tissue up to three quarters, muscle and masses above the tissue around them, the rim fading to the skin line.

Random textures: power-law noise, as mammographic parenchyma has, and networks of thin bright lines.

Burgess, Jacobson and Judy (Med Phys 28:419, 2001) measured that the power spectrum of mammographic backgrounds falls as
1/f^beta with beta close to 3.
"""

import math
from dataclasses import dataclass
from typing import Self, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.findings import Box
from mammoscope.imaging import Laterality, View
from mammoscope.phantom.anatomy import FIELD_HEIGHT_MM, FIELD_WIDTH_MM, Breast, Silhouette

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


BITS_STORED = 12
"""Bits of a stored pixel."""

FULL_SCALE = 2**BITS_STORED - 1
"""The brightest stored pixel."""

FAT, GLAND, MUSCLE, SKIN, MARKER = 0.37, 0.27, 0.68, 0.07, 0.85
"""Parts of the grey scale: fat; what gland adds to it; muscle; what the skin line adds; the marker."""

DARKEST = 0.012
"""The part of the grey scale below which no pixel of the breast falls: only air is black."""


@dataclass(frozen=True, slots=True)
class Field:
    """The detector field: its size in pixels and the distance between their centres, in mm."""

    rows: int
    columns: int
    spacing: float

    @classmethod
    def of_size(cls, rows: int, columns: int) -> Self:
        """A field of so many pixels, spaced so that every breast fits in."""
        spacing = max(FIELD_HEIGHT_MM / rows, FIELD_WIDTH_MM / columns)
        # Four decimals, so that the spacing in the file is the one the picture was made with.
        return cls(rows, columns, math.ceil(spacing * 1e4) / 1e4)

    def near_chest_wall(self, width: float) -> "Field":
        """The part of the field up to `width` mm from the chest wall edge; outside it there is only air."""
        return Field(self.rows, min(self.columns, math.ceil(self.pixels(width))), self.spacing)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.rows, self.columns

    def pixels(self, millimetres: float) -> float:
        """A length in pixels."""
        return millimetres / self.spacing


def breast_picture(
    rng: np.random.Generator, breast: Breast, laterality: Laterality, view: View, field: Field
) -> NDArray[np.uint16]:
    """The stored pixels: shape (rows, columns), 0 to `FULL_SCALE`, the chest wall at the image edge where it hangs.

    A left breast has its chest wall at the left image edge and a right breast at the right one, so that the two
    hang back to back (IHE Mammography Image profile).
    """
    near = field.near_chest_wall(breast.depth + 10)
    light = _breast_light(rng, breast, view, near)
    stored = np.zeros(field.shape, np.uint16)
    stored[:, : near.columns] = np.clip(light * FULL_SCALE + 0.5, 0, FULL_SCALE)
    if laterality is Laterality.RIGHT:
        stored = stored[:, ::-1]
    return _with_marker(stored, laterality, view, field)


def truth_boxes(breast: Breast, laterality: Laterality, view: View, field: Field) -> tuple[Box, ...]:
    """The tight box of each mass's body in pixels of the stored picture: lobulation included, spicules left out.

    The body ends where its soft margin has faded, as a reader outlines a lesion.
    """
    boxes = []
    for mass in breast.masses:
        u0, v0, u1, v1 = (field.pixels(edge) for edge in mass.silhouette(view).extent())
        if laterality is Laterality.RIGHT:
            u0, u1 = field.columns - u1, field.columns - u0
        boxes.append(Box(u0, v0, u1, v1))
    return tuple(boxes)


def _breast_light(rng: np.random.Generator, breast: Breast, view: View, field: Field) -> FloatImage:
    """The grey scale of the breast from 0 to 1, the chest wall on the left."""
    mask = _breast_mask(rng, breast, view, field)
    depth = _distance_to_skin(mask, field)
    light = _tissue(rng, breast, view, field)
    if view is View.MLO:
        light = _with_pectoral(rng, light, breast, field)
    for mass in breast.masses:
        _add_mass(rng, light, mass.silhouette(view), mass.contrast, field)
    # A compressed breast is a slab with a rounded rim: the path through it grows as a circle from the skin inwards.
    rim = 1 - np.clip(depth / 17, 0, 1)
    light *= np.sqrt(1 - rim * rim) ** np.float32(1.1)
    light += SKIN * ridges(depth - 0.9, 0.6)
    light += _quantum_noise(rng, field)
    light = np.clip(light, DARKEST, 1)
    light *= blurred(mask, max(0.5, field.pixels(0.25)))
    return light


def _axes(field: Field) -> tuple[FloatImage, FloatImage]:
    """(u of each column with shape (1, columns), v of each row with shape (rows, 1)) in mm."""
    u = (np.arange(field.columns, dtype=np.float32) + 0.5) * np.float32(field.spacing)
    v = (np.arange(field.rows, dtype=np.float32) + 0.5) * np.float32(field.spacing)
    return u[None, :], v[:, None]


def _breast_mask(rng: np.random.Generator, breast: Breast, view: View, field: Field) -> FloatImage:
    """1 in the breast with its nipple, 0 outside, a ramp of a pixel between."""
    u, v = _axes(field)
    # Skin is never quite a formula.
    skin = breast.skin(view, v[:, 0].astype(np.float64))
    wobble = np.interp(v[:, 0], np.linspace(0, FIELD_HEIGHT_MM, 16), rng.normal(0, 0.7, 16))
    skin = (skin + wobble * np.clip(skin / 20, 0, 1)).astype(np.float32)
    breast_mask = np.clip((skin[:, None] - u) / field.spacing + 0.5, 0, 1)
    breast_mask[skin <= 0] = 0
    nipple_u, nipple_v = breast.nipple(view)
    nipple = ((u - nipple_u + 1) / 6.5) ** 2 + ((v - nipple_v) / 5.5) ** 2 < 1
    mask = np.maximum(breast_mask, nipple.astype(np.float32))
    # Fillet between nipple and skin.
    soft = blurred(mask, field.pixels(1.5))
    ramp = field.pixels(1.5) * 2.5
    sharp: FloatImage = np.clip((soft - 0.5) * np.float32(ramp) + np.float32(0.5), 0, 1)
    return sharp


def _distance_to_skin(mask: FloatImage, field: Field) -> FloatImage:
    inside = (mask > 0.5).astype(np.uint8)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5).astype(np.float32)
    distance *= np.float32(field.spacing)
    return blurred(distance, max(0.6, field.pixels(0.3)))


def _tissue(rng: np.random.Generator, breast: Breast, view: View, field: Field) -> FloatImage:
    """Fat with the fibroglandular cone, ducts, ligaments and vessels; no rim yet."""
    u, v = _axes(field)
    noise = power_law_noise(rng, field.shape, outer_scale=field.pixels(45))
    warp = 5 * band_noise(rng, field.shape, field.pixels(45))
    nipple_u, nipple_v = breast.nipple(view)
    # The cone's axis runs back from the nipple, in the MLO view also upwards to the axilla.
    tilt = math.radians(12 if view is View.CC else 24)
    back, side = nipple_u - u + warp, v - nipple_v + warp
    along = back * np.float32(math.cos(tilt)) - side * np.float32(math.sin(tilt))
    across = side * np.float32(math.cos(tilt)) + back * np.float32(math.sin(tilt))
    reach = np.float32(0.46 * breast.depth)
    spread = np.float32(breast.half_height * (0.4 + 0.3 * breast.density))
    cone = 1 - np.hypot((along - reach) / reach, across / (spread * np.clip(0.45 + along / (1.6 * reach), 0.2, 1.2)))
    dense = smoothstep(-0.35, 0.55, cone)
    gland = smoothstep(-2.2, 2.6, noise + np.float32(3.5 * breast.density - 2.8) + 2.0 * dense) * (0.15 + 0.85 * dense)
    threads = _threads(rng, np.hypot(back, side), np.arctan2(side, back), field)
    web = _web(rng, field)
    light = FAT + GLAND * gland + 0.03 * noise
    light += (0.11 * threads + 0.07 * web) * (0.4 + 0.6 * dense)
    return (light + _vessels(rng, breast, view, field)).astype(np.float32)


def _threads(rng: np.random.Generator, distance: FloatImage, angle: FloatImage, field: Field) -> FloatImage:
    """Ducts and strands that converge on the nipple, 0 to 1: line noise laid out in polar coordinates around it."""
    turn, far, drawn_out = 1024, 256, 4
    at_angle = ((angle + np.float32(np.pi)) * np.float32(turn / (2 * np.pi))).astype(np.float32)
    at_distance = (distance * np.float32(far / 220)).astype(np.float32)
    threads = np.zeros(field.shape, np.float32)
    for lines, width, strength in ((26, 0.15, 1.0), (50, 0.2, 0.8), (90, 0.25, 0.5)):
        grid = turn, far // drawn_out
        # Two scales mixed: one alone makes combs of parallel lines, like a fingerprint.
        noise = 0.75 * band_noise(rng, grid, turn / lines) + 0.65 * band_noise(rng, grid, 3 * turn / lines)
        noise = resized(noise, (turn, far))
        layout = cv2.remap(noise, at_distance, at_angle, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        threads += strength * ridges(layout.astype(np.float32, copy=False), width)
    fading = smoothstep(-0.6, 1.6, band_noise(rng, field.shape, field.pixels(22)))
    return threads * fading * smoothstep(4, 22, distance)


def _web(rng: np.random.Generator, field: Field) -> FloatImage:
    """Cooper's ligaments: a net of thin curved septa between the fat lobules, 0 to about 1.5."""
    net = np.zeros(field.shape, np.float32)
    for wavelength, width in ((17, 0.07), (9, 0.1)):
        net += ridges(band_noise(rng, field.shape, field.pixels(wavelength)), width)
    return net * smoothstep(-1.0, 1.5, band_noise(rng, field.shape, field.pixels(14)))


def _vessels(rng: np.random.Generator, breast: Breast, view: View, field: Field) -> FloatImage:
    """A few long winding vessels."""
    canvas = np.zeros(field.shape, np.float32)
    nipple_u, nipple_v = breast.nipple(view)
    for _ in range(5):
        steps = np.linspace(0, 1, 60)
        start_v = nipple_v + rng.uniform(-0.75, 0.55) * breast.half_height
        wave = rng.uniform(2, 5) * np.sin(2 * np.pi * (rng.uniform(0.8, 2) * steps + rng.random()))
        u = steps * rng.uniform(0.5, 0.85) * nipple_u
        v = start_v + wave + (nipple_v - start_v) * rng.uniform(0.2, 0.7) * steps**1.5
        width = rng.uniform(0.5, 1.1)
        path = np.stack([u, v], axis=1) / field.spacing
        shift = 4
        points = np.round(path * 2**shift).astype(np.int32)[:, None, :]
        stroke = np.zeros(field.shape, np.uint8)
        cv2.polylines(stroke, [points], False, 255, max(1, round(field.pixels(width))), cv2.LINE_AA, shift)
        canvas = np.maximum(canvas, stroke * np.float32(rng.uniform(0.05, 0.1) / 255))
    return blurred(canvas, max(0.5, field.pixels(0.3)))


def _with_pectoral(rng: np.random.Generator, light: FloatImage, breast: Breast, field: Field) -> FloatImage:
    """The muscle over the upper corner at the chest wall: bright, streaky along its edge, brighter inwards."""
    u, v = _axes(field)
    edge = breast.pectoral_edge(v[:, 0].astype(np.float64)).astype(np.float32)[:, None]
    edge = edge + band_noise(rng, field.shape, field.pixels(60))
    inwards = edge - u
    share = smoothstep(-2.0, 4.0, inwards) * smoothstep(1.02, 0.9, v / breast.pectoral_length)
    muscle = MUSCLE + 0.003 * np.clip(inwards, 0, 45) + 0.45 * (light - FAT - 0.1)
    mixed: FloatImage = light + share * (muscle - light)
    return mixed.astype(np.float32, copy=False)


def _add_mass(rng: np.random.Generator, light: FloatImage, mass: Silhouette, contrast: float, field: Field) -> None:
    """Lay the mass over the tissue in place."""
    reach = mass.radius * 1.3 + max((length for _, length, _ in mass.spicules), default=0) + 3
    columns = slice(max(0, int(field.pixels(mass.u - reach))), math.ceil(field.pixels(mass.u + reach)))
    rows = slice(max(0, int(field.pixels(mass.v - reach))), math.ceil(field.pixels(mass.v + reach)))
    patch = light[rows, columns]
    u, v = _axes(field)
    across, down = u[:, columns] - np.float32(mass.u), v[rows] - np.float32(mass.v)
    angle = np.arctan2(down, across)
    relative = np.hypot(across, down) / mass.outline_radius(angle)
    body = smoothstep(1.0, 0.76, relative)
    ring = (relative > 1) & (relative < 1.6)
    level = np.float32(patch[ring].mean()) + contrast
    # A lump is thickest in the middle; the tissue above and below it still shows through a little.
    lump = level + 0.08 * np.sqrt(np.clip(1 - relative**2, 0, 1)) - 0.05
    lump += 0.025 * power_law_noise(rng, patch.shape, outer_scale=field.pixels(12))
    seen = lump + 0.45 * (patch - patch[ring].mean())
    spicules = _spicules(mass, patch.shape, (across[0, 0], down[0, 0]), field)
    patch += 0.6 * contrast * spicules * (1 - body)
    patch += body * (np.minimum(seen, 0.95) - patch)


def _spicules(
    mass: Silhouette, shape: tuple[int, ...], corner: tuple[np.float32, np.float32], field: Field
) -> FloatImage:
    """Thin strands that leave the outline outwards and taper off, 0 to 1."""
    canvas = np.zeros(shape, np.float32)
    for direction, length, bend in mass.spicules:
        steps = np.linspace(0, 1, 12)
        start = float(mass.outline_radius(np.array([direction]))[0]) * 0.8
        distance = start + steps * (length + 0.2 * start)
        angle = direction + bend * steps**2
        path = np.stack([distance * np.cos(angle) - corner[0], distance * np.sin(angle) - corner[1]], axis=1)
        points = np.round(path / field.spacing * 16).astype(np.int32)
        for step in range(len(steps) - 1):
            fade = 1 - steps[step]
            width = max(1, round(field.pixels(1.3 * fade)))
            stroke = cv2.line(
                np.zeros(shape, np.uint8), points[step], points[step + 1], round(255 * fade), width, cv2.LINE_AA, 4
            )
            canvas = np.maximum(canvas, stroke.astype(np.float32) / 255)
    return blurred(canvas, max(0.5, field.pixels(0.35)))


def _quantum_noise(rng: np.random.Generator, field: Field) -> FloatImage:
    """Photon noise after the display processing: as large a part of the scale in fat as in gland.

    Finer pixels catch fewer photons; the detector's blur correlates neighbours.
    """
    noise = rng.standard_normal(field.shape, dtype=np.float32)
    sigma = 0.012 * min(1.5, 0.1 / field.spacing)
    return blurred(noise, 0.5) * np.float32(sigma)


def _with_marker(stored: NDArray[np.uint16], laterality: Laterality, view: View, field: Field) -> NDArray[np.uint16]:
    """Burn "R CC" and the like into the upper corner away from the chest wall, where film has its lead marker."""
    text, font = f"{laterality} {view}", cv2.FONT_HERSHEY_SIMPLEX
    height = field.pixels(5)
    scale = height / cv2.getTextSize(text, font, 1.0, 1)[0][1]
    thickness = max(1, round(height / 6))
    (width, tall), _ = cv2.getTextSize(text, font, scale, thickness)
    margin = field.pixels(8)
    x = margin if laterality is Laterality.RIGHT else field.columns - margin - width
    ink = np.zeros(field.shape, np.uint8)
    cv2.putText(ink, text, (round(x), round(margin + tall)), font, scale, 255, thickness, cv2.LINE_AA)
    marked: NDArray[np.uint16] = np.maximum(stored, (ink * (MARKER * FULL_SCALE / 255)).astype(np.uint16))
    return marked
