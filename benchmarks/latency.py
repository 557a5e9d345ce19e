"""Latency: file in, reading out, one mammogram at a time, beside torchvision's RetinaNet in the same run.

    python benchmarks/latency.py [--bundle B] [--threads 2] [--repeats 5] [--out latency.json] [--shared ../shared]

The peer is `retinanet_resnet50_fpn` in eager mode at torchvision's own size (short side 800, long side at most 1333)
with random weights, given the same pixels from the same reader: what the paper's kind of model costs on this machine.
It finds nothing with random weights, so its non-maximum suppression is free; that favours it.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.table import Table
from torchvision.models.detection import retinanet_resnet50_fpn

from mammoscope.imaging import WHITE, Mammogram, MammogramReader
from mammoscope.inference import Detector
from mammoscope.phantom import screening_study

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--shared", type=Path, default=Path(os.environ.get("MAMMOSCOPE_SHARED") or ROOT.parent / "shared")
    )
    parser.add_argument("--out", type=Path, default=None, help="JSON of the medians, for 'mammoscope model-card'")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    detector = Detector(arguments.bundle, threads=arguments.threads)
    peer = retinanet_resnet50_fpn(weights=None, weights_backbone=None).eval()

    table = Table(
        "mammogram",
        "pixels",
        "read file",
        "Mammoscope model",
        "Mammoscope, file to reading",
        "torchvision model",
        "torchvision, file to boxes",
        title=f"Seconds a mammogram, median of {arguments.repeats} (slowest), {arguments.threads} threads, "
        f"{detector.algorithm.name} {detector.algorithm.version}",
    )
    medians: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder, MammogramReader() as reader:
        for what, path in mammograms(Path(folder), arguments.shared / "data"):
            mammogram = reader.read(path)  # once before the clock runs: files in cache, networks warm
            detector.read(mammogram)
            run_peer(peer, mammogram)
            reading, ours, theirs = [], [], []
            for _ in range(arguments.repeats):
                seconds, mammogram = clocked(lambda path=path: reader.read(path))
                reading.append(seconds)
                ours.append(clocked(lambda mammogram=mammogram: detector.read(mammogram))[0])
                theirs.append(clocked(lambda mammogram=mammogram: run_peer(peer, mammogram))[0])
            both = [a + b for a, b in zip(reading, ours, strict=True)]
            medians.append(
                {"mammogram": what, "rows": mammogram.rows, "columns": mammogram.columns}
                | {
                    name: round(statistics.median(seconds), 4)
                    for name, seconds in (("model", ours), ("file_to_reading", both), ("peer", theirs))
                }
            )
            table.add_row(
                what,
                f"{mammogram.rows} x {mammogram.columns}",
                spread(reading),
                spread(ours),
                spread(both),
                spread(theirs),
                spread([a + b for a, b in zip(reading, theirs, strict=True)]),
            )
    Console(width=150).print(table)
    if arguments.out is not None:
        measured = {
            "model": detector.algorithm.name,
            "version": detector.algorithm.version,
            "threads": arguments.threads,
            "repeats": arguments.repeats,
            "peer": "torchvision RetinaNet R50-FPN at 800/1333",
            "rows": medians,
        }
        arguments.out.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")


def mammograms(folder: Path, data: Path) -> list[tuple[str, Path]]:
    """One of each kind: a full-size synthetic DICOM object always, real film where the shared data is."""
    rows = [("DICOM, uncompressed (phantom)", screening_study(seed=1, rows=4096, columns=3072).save(folder)[2])]
    real = [
        ("DICOM, JPEG 2000 (film)", data / "dicom" / "MG1_J2KI.dcm"),
        *(("PNG (film, native size)", path) for path in sorted((data / "cbis-ddsm" / "native").glob("*.png"))[:1]),
    ]
    return rows + [(what, path) for what, path in real if path.is_file()]


@torch.inference_mode()
def run_peer(model: torch.nn.Module, mammogram: Mammogram) -> object:
    grey = torch.from_numpy(mammogram.pixels.astype("float32") / WHITE)
    return model([grey.expand(3, -1, -1)])


def clocked(work: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({max(seconds):.2f})"


if __name__ == "__main__":
    main()
