"""A node with a detector that needs no model, as a process of its own: ``python run_node.py node.toml``."""

import signal
import sys
import threading
from pathlib import Path

import cv2
import numpy as np

from mammoscope.findings import Algorithm, Box, Finding, Reading, ReadingStatus
from mammoscope.imaging import Mammogram
from mammoscope.node import Node, configure_logging
from mammoscope.settings import load_node_settings


class BrightestBlob:
    """Finds the largest connected region of pixels brighter than 95 % of the brightest."""

    algorithm = Algorithm("Brightest blob", "1.0")
    score = 0.9

    def read(self, mammogram: Mammogram, threshold: float | None = None) -> Reading:
        facts = {
            "name": mammogram.name,
            "rows": mammogram.rows,
            "columns": mammogram.columns,
            "laterality": mammogram.laterality,
            "view": mammogram.view,
            "algorithm": self.algorithm,
            "threshold": threshold or 0.5,
        }
        brightest = int(mammogram.pixels.max())
        if brightest == 0 or (threshold or 0.0) > self.score:
            return Reading(status=ReadingStatus.NOTHING_FOUND, **facts)
        mask = (mammogram.pixels > 0.95 * brightest).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
        x, y, width, height, _ = stats[1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())]
        found = Finding(Box.from_xywh(float(x), float(y), float(width), float(height)), self.score)
        return Reading(status=ReadingStatus.FOUND, findings=(found,), **facts)


def main() -> None:
    settings = load_node_settings(Path(sys.argv[1]))
    configure_logging()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Node(settings, BrightestBlob()):
        stop.wait()


if __name__ == "__main__":
    main()
