"""Pairs of views: how well depth behind the nipple matches the masses of two views, on real breasts.

    python benchmarks/pairing.py [--shared ../shared]

Breasts of the CBIS-DDSM training split with one mass on the CC and one on the MLO view. Its films have no pixel
spacing, so millimetres are estimated: native columns times 0.045 mm, between those of its digitisers. A breast with two
masses is made up of two breasts of this kind, put together at random.
"""

import argparse
import csv
import json
import os
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from mammoscope.findings import Box, Finding, Reading, ReadingStatus
from mammoscope.imaging import Mammogram, PixelSpacing, breast_extent, find_breast_region
from mammoscope.results import ReadMammogram
from mammoscope.results.view_matching import SAME_DEPTH_MM, ViewPair, depths_mm, sure_pairs

ROOT = Path(__file__).resolve().parent.parent
ESTIMATED_MM = 0.045
MADE_UP = 8000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shared", type=Path, default=Path(os.environ.get("MAMMOSCOPE_SHARED") or ROOT.parent / "shared")
    )
    breasts = single_masses(parser.parse_args().shared / "data" / "cbis-ddsm")
    depths = np.array([(pair.cc_depths[0], pair.mlo_depths[0]) for pair in breasts])
    apart = np.abs(depths[:, 0] - depths[:, 1])
    random = np.random.default_rng(0)
    unrelated = np.abs(depths[random.permutation(len(depths)), 0] - depths[:, 1])

    table = Table("what", "figure", title=f"{len(breasts)} breasts with one mass on each view")
    table.add_row("difference in depth, median", f"{np.median(apart):.1f} mm")
    table.add_row("difference in depth, 90th percentile", f"{np.percentile(apart, 90):.1f} mm")
    table.add_row(
        f"paired as the only findings (at most {SAME_DEPTH_MM:g} mm)", f"{np.mean(apart <= SAME_DEPTH_MM):.1%}"
    )
    table.add_row("of two unrelated masses, paired all the same", f"{np.mean(unrelated <= SAME_DEPTH_MM):.1%}")
    right, wrong = two_masses(breasts, random)
    table.add_row("of two masses a breast, rightly paired", f"{right / (2 * MADE_UP):.1%}")
    table.add_row("wrong among the pairs made there", f"{wrong / max(right + wrong, 1):.1%}")
    for what, (mean, spread) in alikeness(breasts).items():
        table.add_row(f"CC minus MLO, {what}: median and spread", f"{mean:.3f}, {spread:.3f}")
    Console().print(table)


def alikeness(breasts: list[ViewPair]) -> dict[str, tuple[float, float]]:
    """Median and root mean square about it of what `mammoscope.inference.TwoViews` holds of a mass on two views."""
    depth, size = [], []
    for pair in breasts:
        there = []
        for image in (pair.cc, pair.mlo):
            extent = breast_extent(find_breast_region(image.mammogram.pixels).mask, image.mammogram.columns)
            box = image.reading.findings[0].box
            there.append((abs(box.center[0] - extent.nipple) / extent.depth, np.log(np.sqrt(box.area) / extent.depth)))
        depth.append(there[0][0] - there[1][0])
        size.append(there[0][1] - there[1][1])
    return {
        name: (float(np.median(values)), float(np.sqrt(np.mean((np.array(values) - np.median(values)) ** 2))))
        for name, values in (
            ("depth as a part of the breast's", depth),
            ("logarithm of size over the breast's depth", size),
        )
    }


def two_masses(breasts: list[ViewPair], random: np.random.Generator) -> tuple[int, int]:
    """Pairs made rightly and wrongly in made-up breasts of two masses."""
    right = wrong = 0
    for _ in range(MADE_UP):
        one, other = (breasts[number] for number in random.choice(len(breasts), 2, replace=False))
        both = ViewPair(
            with_findings(one.cc, one.cc.reading.findings + other.cc.reading.findings),
            with_findings(one.mlo, one.mlo.reading.findings + other.mlo.reading.findings),
            one.cc_depths + other.cc_depths,
            one.mlo_depths + other.mlo_depths,
        )
        for pair in sure_pairs(both):
            right += pair.cc_number == pair.mlo_number
            wrong += pair.cc_number != pair.mlo_number
    return right, wrong


def single_masses(folder: Path) -> list[ViewPair]:
    """The two views of each breast that has one mass on either."""
    coco = json.loads((folder / "train.json").read_text())
    with (folder / "native_size_estimate.csv").open() as table:
        columns = {row["file_name"]: row["est_native_cols"] for row in csv.DictReader(table)}
    boxes = defaultdict(list)
    for annotation in coco["annotations"]:
        boxes[annotation["image_id"]].append(Box.from_xywh(*annotation["bbox"]))
    images: dict[tuple[str, str, str], tuple[str, list[Box]]] = {}
    for image in coco["images"]:
        name = Path(image["file_name"]).name
        patient, side, view = name.split(".")[0].split("_")[:3]
        if columns.get(name):
            images[patient, side, view] = name, boxes[image["id"]]
    pairs = []
    for patient, side, view in images:
        views = [images.get((patient, side, wanted)) for wanted in ("CC", "MLO")]
        if view != "CC" or not all(entry and len(entry[1]) == 1 for entry in views):
            continue
        cc, mlo = (read(folder / "train" / name, float(columns[name]), found) for name, found in filter(None, views))
        cc_depths, mlo_depths = depths_mm(cc), depths_mm(mlo)
        if cc_depths and mlo_depths:
            pairs.append(ViewPair(cc, mlo, cc_depths, mlo_depths))
    return pairs


def read(path: Path, native_columns: float, boxes: list[Box]) -> ReadMammogram:
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    millimetres = native_columns * ESTIMATED_MM / grey.shape[1]
    mammogram = Mammogram(grey.astype(np.uint16) * 257, path.name, spacing=PixelSpacing(millimetres, millimetres))
    empty = ReadMammogram(mammogram, Reading(path.name, ReadingStatus.NOTHING_FOUND))
    return with_findings(empty, tuple(Finding(box, 0.5) for box in boxes))


def with_findings(image: ReadMammogram, findings: tuple[Finding, ...]) -> ReadMammogram:
    return ReadMammogram(image.mammogram, Reading(image.mammogram.name, ReadingStatus.FOUND, findings))


if __name__ == "__main__":
    main()
