"""Robustness: what is left of a bundle's accuracy when mammograms look as another film, vendor or archive makes them.

    python benchmarks/robustness.py DATASET [--split val] [--every 1] [--bundle B] [--threads 2]

Each change is applied to the pixels as displayed, before anything of Mammoscope's own; what is found is brought back to
the unchanged image. The same images serve every row, so differences come with a paired 95 % interval over patients.
"""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mammoscope.datasets import AnnotatedDataset, load_dataset
from mammoscope.evaluation import ImageResult, evaluate, paired_differences
from mammoscope.findings import Box
from mammoscope.imaging import WHITE, Mammogram, read_mammogram
from mammoscope.inference import Detector

Pixels = NDArray[np.float32]
MARGIN = 0.25
"""Of the padded image, to each side, as a part of the image's own."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of pixels from 0 to 1, and where a point (x, y) of the changed image lies in the unchanged one."""

    name: str
    pixels: Callable[[Pixels], Pixels]
    back: Callable[[float, float, Mammogram], tuple[float, float]] = lambda x, y, _: (x, y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--every", type=int, default=1, help="only every so-manieth image")
    parser.add_argument("--bundle", type=Path, default=None)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    detector = Detector(arguments.bundle, threads=arguments.threads)
    dataset = load_dataset(arguments.dataset).narrowed(arguments.split)
    numbers = range(0, len(dataset), arguments.every)
    unchanged = results(detector, dataset, numbers, CHANGES[0])
    rows = Table(
        *("as if", "AP50", "difference (95 %)", "sensitivity at 1 FPPI", "the same, IoU 0.2", "F1"),
        title=f"{detector.algorithm.name} {detector.algorithm.version} on {dataset.name}, split {arguments.split}, "
        f"{len(numbers)} images, IoU 0.5, threshold {detector.threshold:.3f}",
    )
    for change in CHANGES:
        changed = unchanged if change is CHANGES[0] else results(detector, dataset, numbers, change)
        figures = evaluate(changed, detector.threshold, detector.threshold_rule, resamples=0)
        difference = paired_differences((unchanged, detector.threshold), (changed, detector.threshold))["ap50"]
        low, high = difference.interval or (float("nan"),) * 2
        rows.add_row(
            *(change.name, f"{figures.ap50:.3f}", f"{difference.value:+.3f} ({low:+.3f} to {high:+.3f})"),
            *(f"{figures.froc['1']:.3f}", f"{figures.froc_iou20['1']:.3f}", f"{figures.f1:.3f}"),
        )
    Console().print(rows)


def results(detector: Detector, dataset: AnnotatedDataset, numbers: Iterable[int], change: Change) -> list[ImageResult]:
    found = []
    for number in track(list(numbers), description=change.name):
        image = dataset[number]
        mammogram = read_mammogram(image.path)
        changed = change.pixels((mammogram.pixels / np.float32(WHITE)).astype(np.float32))
        pixels = np.rint(np.clip(changed, 0, 1) * WHITE).astype(np.uint16)
        candidates = tuple(
            replace(finding, box=brought_back(finding.box, change, mammogram))
            for finding in detector.candidates(replace(mammogram, pixels=pixels))
        )
        found.append(ImageResult(image.id, image.patient, image.boxes, candidates, image.crowds))
    return found


def brought_back(box: Box, change: Change, mammogram: Mammogram) -> Box:
    (xa, ya), (xb, yb) = change.back(box.x0, box.y0, mammogram), change.back(box.x1, box.y1, mammogram)
    return Box(min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb))


def sigmoid(pixels: Pixels) -> Pixels:
    """The window of many full-field digital mammograms, VOI LUT Function SIGMOID (PS3.3 C.11.2.1.3)."""
    return 1 / (1 + np.exp(-8 * (pixels - 0.5)))


def faded(pixels: Pixels) -> Pixels:
    return 0.12 + 0.55 * pixels


def sharpened(pixels: Pixels) -> Pixels:
    return pixels + 1.5 * (pixels - cv2.GaussianBlur(pixels, (0, 0), short_side(pixels) / 200))


def locally_equalised(pixels: Pixels) -> Pixels:
    """Contrast raised region by region, as vendors' processing does."""
    equaliser = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8))
    return equaliser.apply(np.rint(np.clip(pixels, 0, 1) * WHITE).astype(np.uint16)) / np.float32(WHITE)


def blurred(pixels: Pixels) -> Pixels:
    return cv2.GaussianBlur(pixels, (0, 0), short_side(pixels) / 400)


def noisy(pixels: Pixels) -> Pixels:
    return pixels + 0.03 * np.random.default_rng(0).standard_normal(pixels.shape, dtype=np.float32)


def eight_bit_jpeg(pixels: Pixels) -> Pixels:
    _, coded = cv2.imencode(".jpg", np.rint(pixels * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 30])
    return cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE) / np.float32(255)


def halved(pixels: Pixels) -> Pixels:
    return cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def padded(pixels: Pixels) -> Pixels:
    rows, columns = margins(pixels.shape)
    return np.pad(pixels, ((rows, rows), (columns, columns)))


def margins(shape: tuple[int, ...]) -> tuple[int, int]:
    return round(MARGIN * shape[0]), round(MARGIN * shape[1])


def short_side(pixels: Pixels) -> int:
    return min(pixels.shape)


def out_of_padding(x: float, y: float, mammogram: Mammogram) -> tuple[float, float]:
    rows, columns = margins(mammogram.pixels.shape)
    return x - columns, y - rows


CHANGES = (
    Change("unchanged", lambda pixels: pixels),
    Change("darker (gamma 1.8)", lambda pixels: pixels**1.8),
    Change("brighter (gamma 0.55)", lambda pixels: pixels**0.55),
    Change("a sigmoid window", sigmoid),
    Change("faded film", faded),
    Change("sharpened", sharpened),
    Change("locally equalised", locally_equalised),
    Change("blurred", blurred),
    Change("noisy", noisy),
    Change("8-bit JPEG, quality 30", eight_bit_jpeg),
    Change("half the resolution", halved, lambda x, y, _: (2 * x, 2 * y)),
    Change("mirrored", lambda pixels: pixels[:, ::-1], lambda x, y, mammogram: (mammogram.columns - x, y)),
    Change("upside down", lambda pixels: pixels[::-1], lambda x, y, mammogram: (x, mammogram.rows - y)),
    Change("padded with black", padded, out_of_padding),
)


if __name__ == "__main__":
    main()
