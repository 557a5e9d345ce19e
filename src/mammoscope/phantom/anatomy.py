"""A woman made of numbers: the shape, density and masses of two breasts, in millimetres.

Nothing here knows pixels: the same seed gives the same anatomy at every image size. A point of a view is (u, v): u the
distance from the chest wall edge of the image, v the distance from its top edge. Both breasts are described with
the chest wall at u = 0; the right one is mirrored when its picture is made.
"""

import itertools
import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mammoscope.imaging import View

FIELD_HEIGHT_MM = 240.0
"""Height of the detector field that every anatomy fits into."""

FIELD_WIDTH_MM = 180.0
"""Width of the detector field that every anatomy fits into."""

VIEWS = (View.CC, View.MLO)

Millimetres: TypeAlias = NDArray[np.float64]


class Margin(StrEnum):
    """Margin of a mass, in the words of BI-RADS (DICOM PS3.16 CID 6006)."""

    LOBULATED = "lobulated"
    SPICULATED = "spiculated"


@dataclass(frozen=True, slots=True)
class Silhouette:
    """A mass as one view projects it.

    Parameters
    ----------
    u, v
        Centre in mm.
    radius
        Mean radius of the body in mm.
    waves
        (amplitude relative to the radius, number of lobes, phase) of each undulation of the outline.
    spicules
        (direction in radians, length in mm from the outline, bend in radians) of each spicule.
    """

    u: float
    v: float
    radius: float
    waves: tuple[tuple[float, int, float], ...]
    spicules: tuple[tuple[float, float, float], ...]

    def outline_radius(self, angle: Millimetres) -> Millimetres:
        """Distance in mm from the centre to the outline of the body in each direction (radians, from +u towards +v)."""
        undulation = sum((a * np.cos(lobes * angle + phase) for a, lobes, phase in self.waves), np.zeros_like(angle))
        return self.radius * (1 + undulation)

    def extent(self) -> tuple[float, float, float, float]:
        """(u0, v0, u1, v1) in mm of the body with its lobulation; spicules reach further."""
        angle = np.linspace(0, 2 * np.pi, 1440, endpoint=False)
        radius = self.outline_radius(angle)
        u, v = self.u + radius * np.cos(angle), self.v + radius * np.sin(angle)
        return float(u.min()), float(v.min()), float(u.max()), float(v.max())


@dataclass(frozen=True, slots=True)
class Mass:
    """One mass, seen in both views at the same distance from the nipple (in mm, to its centre).

    `contrast` is how much brighter than the tissue around it, as a part of the grey scale.
    """

    margin: Margin
    nipple_distance: float
    contrast: float
    cc: Silhouette
    mlo: Silhouette

    def silhouette(self, view: View) -> Silhouette:
        """How it looks in that view."""
        return self.cc if view is View.CC else self.mlo


@dataclass(frozen=True, slots=True)
class Breast:
    """One compressed breast.

    Parameters
    ----------
    depth
        Chest wall edge to nipple in mm.
    half_height
        Half the breast's height on the chest wall in the CC view, in mm.
    fullness
        Exponent of the outline; 2 is an ellipse, less is more pointed.
    axilla
        Where the MLO outline meets the top edge of the image, in mm from the chest wall.
    nipple_drop
        From the top edge of the image down to the nipple in the MLO view, in mm.
    pectoral_width, pectoral_length
        Where the edge of the pectoral muscle meets the top edge and the chest wall edge in the MLO view, in mm.
    density
        Share of the fibroglandular cone that is dense, 0 to 1.
    masses
        What a detector should find.
    """

    depth: float
    half_height: float
    fullness: float
    axilla: float
    nipple_drop: float
    pectoral_width: float
    pectoral_length: float
    density: float
    masses: tuple[Mass, ...] = ()

    def nipple(self, view: View) -> tuple[float, float]:
        """(u, v) of the nipple's base in mm."""
        return self.depth, FIELD_HEIGHT_MM / 2 if view is View.CC else self.nipple_drop

    def skin(self, view: View, v: Millimetres) -> Millimetres:
        """How far the breast reaches from the chest wall, in mm, at each height `v`; 0 where there is none."""
        _, level = self.nipple(view)
        lower = np.clip((v - level) / self._below(view), -1, 1)
        bulge = self.depth * (1 - np.abs(lower) ** self.fullness) ** (1 / 2)
        if view is View.CC:
            return bulge
        upper = 0.5 + 0.5 * np.cos(np.pi * np.clip((level - v) / level, 0, 1) ** 1.1)
        return np.where(v > level, bulge, self.axilla + (self.depth - self.axilla) * upper)

    def pectoral_edge(self, v: Millimetres) -> Millimetres:
        """How far the pectoral muscle reaches from the chest wall, in mm, at each height `v` of the MLO view."""
        left = np.clip(1 - v / self.pectoral_length, 0, 1)
        # Slightly convex: sin(pi x) is 0 at both ends.
        return self.pectoral_width * (left + 0.08 * np.sin(np.pi * left))

    def holds(self, view: View, u: Millimetres, v: Millimetres) -> bool:
        """Whether every point lies in the breast and off the pectoral muscle."""
        floor = self.pectoral_edge(v) if view is View.MLO else np.zeros_like(v)
        return bool(np.all((u > floor) & (u < self.skin(view, v))))

    def _below(self, view: View) -> float:
        """From the level of the nipple down to the lower end of the breast, in mm."""
        return self.half_height if view is View.CC else self.half_height * 0.95


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The two breasts of one synthetic woman."""

    right: Breast
    left: Breast

    @classmethod
    def draw(cls, rng: np.random.Generator, masses: int) -> Self:
        """A random woman with so many masses, shared out between the breasts, the first on a random side."""
        habitus = _habitus(rng)
        first = int(rng.integers(2))
        sides = [_similar(rng, habitus) for _ in range(2)]
        for index in range(masses):
            side = (first + index) % 2
            sides[side] = _with_mass(rng, sides[side])
        return cls(right=sides[0], left=sides[1])


def _habitus(rng: np.random.Generator) -> Breast:
    depth = rng.uniform(88, 125)
    drop = rng.uniform(118, 136)
    return Breast(
        depth=depth,
        half_height=min(depth * rng.uniform(0.76, 0.9), 102.0),
        fullness=rng.uniform(1.85, 2.25),
        axilla=rng.uniform(0.58, 0.78) * depth,
        nipple_drop=drop,
        pectoral_width=rng.uniform(0.38, 0.52) * depth,
        pectoral_length=drop * rng.uniform(0.7, 0.98),
        density=rng.uniform(0.2, 0.65),
    )


def _similar(rng: np.random.Generator, habitus: Breast) -> Breast:
    """The other breast of the same woman is almost, not quite, the same."""

    def near(value: float, part: float) -> float:
        return value * float(rng.uniform(1 - part, 1 + part))

    return Breast(
        depth=near(habitus.depth, 0.03),
        half_height=near(habitus.half_height, 0.03),
        fullness=near(habitus.fullness, 0.02),
        axilla=near(habitus.axilla, 0.05),
        nipple_drop=near(habitus.nipple_drop, 0.03),
        pectoral_width=near(habitus.pectoral_width, 0.06),
        pectoral_length=near(habitus.pectoral_length, 0.06),
        density=near(habitus.density, 0.08),
    )


def _with_mass(rng: np.random.Generator, breast: Breast) -> Breast:
    margin = Margin.SPICULATED if rng.random() < 0.5 else Margin.LOBULATED
    radius = rng.uniform(6.5, 11)
    for attempt in itertools.count():
        # A crowded breast takes a smaller mass: the search always ends.
        shrunk = radius * 0.99 ** max(0, attempt - 50)
        distance = breast.depth * rng.uniform(0.3, 0.75)
        places = [_place(breast, view, distance, rng.uniform(-0.9, 0.9)) for view in VIEWS]
        if all(_has_room(breast, view, place, shrunk) for view, place in zip(VIEWS, places, strict=True)):
            break
    cc, mlo = (_silhouette(rng, margin, place, shrunk) for place in places)
    mass = Mass(margin, distance, float(rng.uniform(0.2, 0.27)), cc, mlo)
    return replace(breast, masses=(*breast.masses, mass))


def _place(breast: Breast, view: View, distance: float, angle: float) -> tuple[float, float]:
    """The point at that distance from the nipple; angle 0 is straight back to the chest wall."""
    u, v = breast.nipple(view)
    return u - distance * math.cos(angle), v - distance * math.sin(angle)


def _has_room(breast: Breast, view: View, place: tuple[float, float], radius: float) -> bool:
    u, v = place
    around = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    reach = radius * 1.3 + 6
    if not breast.holds(view, u + reach * np.cos(around), v + reach * np.sin(around)):
        return False
    others = [mass.silhouette(view) for mass in breast.masses]
    return all(math.hypot(u - o.u, v - o.v) > 1.4 * (radius + o.radius) for o in others)


def _silhouette(rng: np.random.Generator, margin: Margin, place: tuple[float, float], radius: float) -> Silhouette:
    """Each view projects the same mass from another side: same size and margin, another outline."""
    spiculated = margin is Margin.SPICULATED
    lobes = range(2, 9) if spiculated else range(2, 6)
    waves = tuple((float(rng.uniform(0.2, 0.6)) / (n + 1), n, float(rng.uniform(0, 2 * np.pi))) for n in lobes)
    spicules: tuple[tuple[float, float, float], ...] = ()
    if spiculated:
        count = int(rng.integers(16, 26))
        starts = 2 * np.pi * (np.arange(count) + rng.uniform(-0.35, 0.35, count)) / count
        spicules = tuple(
            (float(start), float(radius * rng.uniform(0.4, 1.3)), float(rng.uniform(-0.25, 0.25))) for start in starts
        )
    # Undulations must not outgrow the room kept around the mass.
    scale = min(1.0, 0.28 / sum(wave[0] for wave in waves))
    scaled = tuple((amplitude * scale, n, phase) for amplitude, n, phase in waves)
    return Silhouette(place[0], place[1], radius, scaled, spicules)
