"""Accuracy: a bundle on the official CBIS-DDSM test split, through the commands a user has for it.

    python benchmarks/accuracy.py [--bundle B] [--out FOLDER] [--shared ../shared]

Prints each figure with its 95 % bootstrap interval over patients. The operating point is the bundle's, chosen on
validation; nothing is chosen here. With --out, the report (a picture of each case among it) is kept.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
FIGURES = {
    "ap50": "AP50 (COCO, 101 points)",
    "ap20": "AP at IoU 0.2",
    "ap10": "AP at IoU 0.1",
    "precision": "precision at the operating point",
    "recall": "recall at the operating point",
    "f1": "F1 at the operating point",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=None)
    default = Path(os.environ.get("MAMMOSCOPE_SHARED") or ROOT.parent / "shared")
    parser.add_argument("--shared", type=Path, default=default)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        dataset, report = Path(folder) / "cbis-test", arguments.out or Path(folder) / "report"
        cbis = arguments.shared / "data" / "cbis-ddsm"
        mammoscope(
            *("dataset", "import", "coco", "--annotations", cbis / "test.json", "--images", cbis / "test"),
            *("--native-sizes", cbis / "native_size_estimate.csv", "--out", dataset),
        )
        bundle = () if arguments.bundle is None else ("--bundle", arguments.bundle)
        mammoscope("evaluate", *bundle, "--dataset", dataset, "--out", report)
        metrics = json.loads((report / "metrics.json").read_text())
    Console().print(table(metrics))
    Console().print(metrics["note"], soft_wrap=True)


def mammoscope(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "mammoscope", *map(str, arguments)], check=True)


def table(metrics: dict[str, Any]) -> Table:
    title = (
        f"{metrics['model']} {metrics['model_version']} on CBIS-DDSM test: {metrics['n_images']} images, "
        f"{metrics['n_boxes']} boxes; threshold {metrics['threshold']:.3f} ({metrics['threshold_rule']})"
    )
    rows = Table("figure", "value", "95 % interval", title=title)
    figures = {name: (label, metrics[name]) for name, label in FIGURES.items()}
    for key, iou in (("froc", metrics["iou"]), ("froc_iou20", 0.2)):
        for fppi, value in metrics[key].items():
            figures[f"{key}_{fppi}"] = (f"sensitivity at {fppi} FPPI (IoU {iou:g})", value)
    for name, (label, value) in figures.items():
        interval = metrics["intervals"].get(name)
        between = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
        rows.add_row(label, "undefined" if value is None else f"{value:.3f}", between)
    return rows


if __name__ == "__main__":
    main()
