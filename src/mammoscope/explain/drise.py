"""D-RISE (Petsiuk et al. 2021): what a detector needs to see for a finding, from how it reads the mammogram in part.

Parts of the network's input are hidden at random, hundreds of times. Where hiding lowers the score of the
detection most like the finding, the network needs that spot. Nothing of the network but its answers is used.

Hiding parts of a prepared mammogram: where, and what is shown in their stead.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.explain.heat_map import ExplainError, HeatMap, correlation
from mammoscope.findings import Finding
from mammoscope.imaging import Mammogram, Placement, prepare
from mammoscope.inference import Bundle

Pixels = NDArray[np.float32]

_BLUR = 0.1
"""Standard deviation of the blur over the input's width.

Chosen on eight findings of the shipped model with the whole picture blurred: with 0.04 three of them kept half their
score or more, with 0.1 none (similarity 0.02 at most).
"""

_BACKGROUND = 0.02
"""Prepared pixels up to this are no tissue."""


def smooth_tissue(pixels: Pixels) -> Pixels:
    """The same breast without anything in it that a mass could be: what hidden parts are filled with.

    Each pixel of tissue becomes the mean of the tissue around it. Black would be background in the middle of a breast,
    which no network has seen, and its edges would be shapes of their own; one grey for all would be a bright mass
    in fat and a dark hole in dense tissue. The background stays as it is, and does not darken the skin.

    Parameters
    ----------
    pixels
        Shape (rows, columns), from 0 to 1 (`mammoscope.imaging.PreparedImage`).
    """
    sigma = _BLUR * pixels.shape[1]
    tissue = (pixels > _BACKGROUND).astype(np.float32)
    share = cv2.GaussianBlur(tissue, (0, 0), sigma)
    mean = cv2.GaussianBlur(pixels * tissue, (0, 0), sigma) / np.maximum(share, np.finfo(np.float32).eps)
    return np.where(tissue > 0, mean, pixels).astype(np.float32)


def random_masks(shape: tuple[int, int], *, count: int, cells: int, keep: float, seed: int) -> Iterator[Pixels]:
    """Masks as RISE makes them (Petsiuk et al. 2018): a coarse random grid, enlarged smoothly and shifted.

    Parameters
    ----------
    shape
        Rows and columns of the network's input.
    cells
        Of the grid along the longer side; cells are as square as whole numbers of them allow.
    keep
        Probability that a cell is shown.

    Yields
    ------
    ndarray
        Shape (rows, columns), ``float32``: 1 where the picture is shown, 0 where it is hidden.
    """
    rng = np.random.default_rng(seed)
    rows, columns = shape
    side = max(shape) / cells
    down, across = max(1, round(rows / side)), max(1, round(columns / side))
    height, width = -(-rows // down), -(-columns // across)
    # One cell more than fits in each direction, for the shift.
    size = ((across + 1) * width, (down + 1) * height)
    for _ in range(count):
        grid = (rng.random((down + 1, across + 1)) < keep).astype(np.float32)
        top, left = int(rng.integers(height)), int(rng.integers(width))
        enlarged = cv2.resize(grid, size, interpolation=cv2.INTER_LINEAR)
        yield np.asarray(enlarged[top : top + rows, left : left + columns], np.float32)


FEWEST_MASKS = 20
"""With fewer, two halves say nothing about each other."""

Similarity = Callable[[Pixels], NDArray[np.float64]]
Progress = Callable[[int, int], None]
_Sum = NDArray[np.float64] | float


@dataclass(frozen=True, slots=True)
class Occlusion:
    """How parts of the input are hidden.

    Parameters
    ----------
    masks
        How many pictures the network is shown.
    cells
        Of a mask along the input's longer side.
    keep
        Probability that a cell is shown.
    seed
        Draws the masks.

    Raises
    ------
    ExplainError
        If there are fewer masks than `FEWEST_MASKS`.
    """

    masks: int = 600
    cells: int = 10
    keep: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.masks < FEWEST_MASKS:
            raise ExplainError(f"a map of {self.masks} masks would be chance alone: use {FEWEST_MASKS} or more")

    def __str__(self) -> str:
        return f"D-RISE, {self.masks} masks of {self.cells} cells, seed {self.seed}"


def drise(
    bundle: Bundle,
    mammogram: Mammogram,
    findings: Sequence[Finding],
    occlusion: Occlusion | None = None,
    progress: Progress = lambda _done, _total: None,
) -> list[HeatMap]:
    """A heat map for each finding of a mammogram, all from the same masks.

    Parameters
    ----------
    findings
        In pixels of the mammogram's file; they need not be the bundle's own.
    progress
        Told after each mask how many are done, and of how many.

    Raises
    ------
    ExplainError
        If a finding's label is none of the bundle's classes.
    """
    occlusion = occlusion or Occlusion()
    prepared = prepare(mammogram, bundle.metadata.input.preprocessing)
    similarity = similarity_to(bundle, findings, prepared.placement)
    maps = occlusion_maps(prepared.pixels, similarity, occlusion, progress)
    return [
        HeatMap(values, prepared.placement, str(occlusion), "rise of the score where shown, not hidden", agreement)
        for values, agreement in maps
    ]


def similarity_to(bundle: Bundle, findings: Sequence[Finding], placement: Placement) -> Similarity:
    """For a picture of the network's input, how like each finding the detection is that is most like it.

    That is intersection over union times score among detections of the finding's class (equation 3 of the paper, where
    the vector of class probabilities has one entry).

    Raises
    ------
    ExplainError
        If a finding's label is none of the bundle's classes.
    """
    classes = bundle.metadata.classes
    unknown = {finding.label for finding in findings} - set(classes)
    if unknown:
        raise ExplainError(f"{bundle.path} knows {', '.join(classes)}, not {', '.join(sorted(unknown))}")
    targets = placement.to_picture(np.array([finding.box.as_tuple() for finding in findings]))
    wanted = np.array([classes.index(finding.label) for finding in findings])

    def similarity(pixels: Pixels) -> NDArray[np.float64]:
        boxes, scores, labels = bundle.run(pixels)
        likeness = overlaps(targets, boxes) * scores * (labels == wanted[:, np.newaxis])
        return np.asarray(likeness.max(axis=1, initial=0.0), np.float64)

    return similarity


def overlaps(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of each of (n, 4) boxes with each of (m, 4): shape (n, m)."""
    a, b = (np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (one, other))
    low = np.maximum(a[:, np.newaxis, :2], b[np.newaxis, :, :2])
    high = np.minimum(a[:, np.newaxis, 2:], b[np.newaxis, :, 2:])
    common = np.prod(np.maximum(high - low, 0.0), axis=2)
    areas = [np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1) for boxes in (a, b)]
    union = areas[0][:, np.newaxis] + areas[1] - common
    return np.asarray(common / np.where(union > 0, union, 1.0), np.float64)


def occlusion_maps(
    pixels: Pixels, similarity: Similarity, occlusion: Occlusion, progress: Progress = lambda _done, _total: None
) -> list[tuple[NDArray[np.float32], float]]:
    """For each value that ``similarity`` gives: the map, and how well it would agree with another one made alike.

    Each pixel gets the slope of the similarity against how much of that pixel was shown: how much the similarity rises
    when the spot is shown rather than hidden. With as many masks as one likes, RISE's weighted sum of masks is the same
    map but for scale and offset; with the few hundred that a CPU has time for, that sum is mostly the chance by which
    some spots were shown more often than others, which the slope leaves out. On the background, where hiding changes
    nothing, the value is 0.

    The agreement is the correlation between the maps of the masks with even and with odd numbers, raised to what it
    would be between maps of all of them (Spearman-Brown: 2 r / (1 + r)).
    """
    steps = occlusion_steps(pixels, similarity, occlusion)
    while True:
        try:
            progress(next(steps), occlusion.masks)
        except StopIteration as ended:
            maps: list[tuple[NDArray[np.float32], float]] = ended.value
            return maps


def occlusion_steps(
    pixels: Pixels, similarity: Similarity, occlusion: Occlusion
) -> Generator[int, None, list[tuple[NDArray[np.float32], float]]]:
    """`occlusion_maps`, one mask at a time.

    Yields
    ------
    int
        How many masks are done.

    Returns
    -------
    As `occlusion_maps`, once all are.
    """
    filling = smooth_tissue(pixels)
    halves = (_Sums(), _Sums())
    shape = (pixels.shape[0], pixels.shape[1])
    masks = random_masks(shape, count=occlusion.masks, cells=occlusion.cells, keep=occlusion.keep, seed=occlusion.seed)
    for number, mask in enumerate(masks):
        halves[number % 2].add(mask, similarity(filling + mask * (pixels - filling)))
        yield number + 1
    hidden = filling != pixels
    even, odd, whole = (sums.slopes() * hidden for sums in (*halves, halves[0] + halves[1]))
    return [(values, _raised(correlation(*pair))) for values, *pair in zip(whole, even, odd, strict=True)]


def _raised(halves: float) -> float:
    return 2 * halves / (1 + halves) if halves > 0 else 0.0


@dataclass(slots=True)
class _Sums:
    """What a least-squares line through (mask, similarity) needs, for each pixel and each similarity."""

    count: int = 0
    mask: _Sum = 0.0
    mask_squared: _Sum = 0.0
    similarity: _Sum = 0.0
    product: _Sum = 0.0

    def add(self, mask: Pixels, similarity: NDArray[np.float64]) -> None:
        self.count += 1
        shown = mask.astype(np.float64)
        self.mask = self.mask + shown
        self.mask_squared = self.mask_squared + shown**2
        self.similarity = self.similarity + similarity
        self.product = self.product + similarity[:, np.newaxis, np.newaxis] * shown

    def __add__(self, other: Self) -> "_Sums":
        return _Sums(
            self.count + other.count,
            self.mask + other.mask,
            self.mask_squared + other.mask_squared,
            self.similarity + other.similarity,
            self.product + other.product,
        )

    def slopes(self) -> NDArray[np.float32]:
        """Shape (similarities, rows, columns); 0 where a pixel was always shown alike."""
        mask, similarity = self.mask / self.count, np.asarray(self.similarity / self.count)
        variance = self.mask_squared / self.count - mask**2
        covariance = self.product / self.count - similarity[:, np.newaxis, np.newaxis] * mask
        known = variance > 1e-9
        return np.asarray(np.where(known, covariance / np.where(known, variance, 1.0), 0.0), np.float32)
