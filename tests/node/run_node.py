"""A node with a detector that needs no model, as a process of its own: ``python run_node.py node.toml``.

With ``--work`` it is one that helps another; with ``--seconds N`` each image takes so long; with ``--dead-after N`` a
worker counts as dead after so many seconds; with ``--operated`` it has audit trail, metrics and pages too, and with
``--reconcile-every N`` it looks for stranded work so often.
"""

import argparse
import signal
import threading
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from mammoscope.findings import Algorithm, Box, Finding, Reading, ReadingStatus
from mammoscope.imaging import Mammogram
from mammoscope.node import Node, OperatedNode, Worker, configure_logging, helper_name
from mammoscope.node.jobs.heartbeat import DEAD_AFTER_SECONDS, Heartbeat
from mammoscope.node.jobs.scheduler import RECONCILE_EVERY_SECONDS
from mammoscope.settings import load_node_settings


class BrightestBlob:
    """Finds the largest connected region of pixels brighter than 95 % of the brightest."""

    algorithm = Algorithm("Brightest blob", "1.0")
    preprocessing = None
    score = 0.9

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds

    def read(self, mammogram: Mammogram, threshold: float | None = None) -> Reading:
        time.sleep(self._seconds)
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
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("--work", action="store_true")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--dead-after", type=float, default=DEAD_AFTER_SECONDS)
    parser.add_argument("--operated", action="store_true")
    parser.add_argument("--reconcile-every", type=float, default=RECONCILE_EVERY_SECONDS)
    arguments = parser.parse_args()
    settings = load_node_settings(arguments.config)
    configure_logging()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    detector = BrightestBlob(arguments.seconds)
    heartbeat = partial(Heartbeat, beat_every_seconds=arguments.dead_after / 6, dead_after_seconds=arguments.dead_after)
    if arguments.operated:
        with OperatedNode(settings, detector, reconcile_every_seconds=arguments.reconcile_every):
            stop.wait()
    elif arguments.work:
        with Worker(settings, detector, helper_name(), make_heartbeat=heartbeat):
            stop.wait()
    else:
        with Node(settings, detector, make_heartbeat=heartbeat):
            stop.wait()


if __name__ == "__main__":
    main()
