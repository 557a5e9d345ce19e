"""One Study Instance UID over tens of thousands of images: what the node's own process needs, and what is answered.

    python benchmarks/one_study.py [--images 50000] [--minutes 10] [--wave 100]

A modality that has lost count sends one small image after the other under one Study Instance UID, in associations of
fifty. Until the node takes no more it pauses after each wave for longer than the study must be quiet, so that every
wave is read and reported. In the end every image must be stored and covered by a report, or refused with a status.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from node_under_test import (
    CountingDestination,
    NodeProcess,
    Progress,
    SmallMammograms,
    destination_section,
    peak_megabytes,
    send,
    wait_while_it_moves,
)
from pydicom.uid import MammographyCADSRStorage
from rich.console import Console
from rich.table import Table

from mammoscope.node.db.repository import Records, StudyState

QUIET_SECONDS = 2.0
AT_ONCE = 50
STUDY = "1.2.826.0.1.3680043.10.1.50000"
MOST_MEGABYTES = 500
STORED = 0x0000


@dataclass(slots=True)
class Outcome:
    """What became of the images, and of the process.

    Parameters
    ----------
    statuses
        How many images were answered with which status; ``None`` is no answer.
    uncovered
        Images that were stored and that the last report does not cover.
    peak_megabytes
        The most resident memory that the node's own process ever had.
    """

    statuses: Counter[int | None] = field(default_factory=Counter)
    uncovered: int = 0
    reports: int = 0
    reports_sent: int = 0
    peak_megabytes: float = 0.0
    seconds_sending: float = 0.0
    seconds: float = 0.0
    lived: bool = True

    @property
    def is_well(self) -> bool:
        lost = self.statuses[None] or self.uncovered
        return self.lived and not lost and self.peak_megabytes < MOST_MEGABYTES


def run(folder: Path, images: int, seconds: float, wave: int) -> Outcome:
    """Send the images for so long, and wait until all that was stored is reported."""
    outcome, started = Outcome(), time.monotonic()
    with CountingDestination(keeps=[MammographyCADSRStorage]) as destination:
        sections = {"node": {"quiet_seconds": QUIET_SECONDS}, "destinations": [destination_section(destination.port)]}
        node = NodeProcess(folder / "node", sections)
        node.start()
        try:
            node.wait_until_it_listens()
            process = node.pid
            _send_all(node, folder, images, seconds, wave, outcome)
            outcome.seconds_sending = time.monotonic() - started
            with Records.open(node.storage) as records:
                _wait_for_reports(node, records, outcome)
                record = records.study(STUDY)
            if record is not None:
                outcome.reports = record.earlier_reports + len(record.reports)
            outcome.reports_sent = sum(arrival.dataset is not None for arrival in destination.arrivals)
            outcome.lived = node.alive and node.pid == process
            outcome.peak_megabytes = peak_megabytes(process)
        finally:
            node.kill()
    outcome.seconds = time.monotonic() - started
    return outcome


def _send_all(node: NodeProcess, folder: Path, images: int, seconds: float, wave: int, outcome: Outcome) -> None:
    template = SmallMammograms(folder / "images", seed=4).dataset(0, STUDY, 0)
    template.PatientID = template.PatientName = "ONE"
    ends = time.monotonic() + seconds
    for first in range(0, images, AT_ONCE):
        if time.monotonic() > ends:
            return
        files = []
        for number in range(first, min(first + AT_ONCE, images)):
            template.SOPInstanceUID = template.file_meta.MediaStorageSOPInstanceUID = f"{STUDY}.{number + 1}"
            files.append(folder / f"{number % AT_ONCE}.dcm")
            template.save_as(files[-1], enforce_file_format=True)
        statuses = send(files, node.port)
        outcome.statuses.update(statuses)
        if STORED in statuses and (first + AT_ONCE) % wave == 0:
            time.sleep(2 * QUIET_SECONDS)


def _wait_for_reports(node: NodeProcess, records: Records, outcome: Outcome) -> None:
    recorded = Progress(node.storage)

    def covered() -> bool:
        outcome.uncovered = outcome.statuses[STORED] - len(records.covered_images(STUDY))
        record = records.study(STUDY) if outcome.uncovered == 0 else None
        return record is not None and record.state is StudyState.DONE

    try:
        wait_while_it_moves(covered, recorded, "every image that was stored is reported, and the reports sent")
    except TimeoutError as error:
        print(error, file=sys.stderr)
    finally:
        recorded.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="send no more after so long")
    parser.add_argument("--wave", type=int, default=100, help="images between two pauses")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(Path(folder), arguments.images, 60 * arguments.minutes, arguments.wave)
    Console(width=120).print(table(outcome))
    return 0 if outcome.is_well else 1


def table(outcome: Outcome) -> Table:
    rows = Table("what", "how many", title="One Study Instance UID")
    for status, count in sorted(outcome.statuses.items(), key=lambda item: -1 if item[0] is None else item[0]):
        rows.add_row("without an answer" if status is None else f"answered 0x{status:04X}", str(count))
    for what, said in (
        ("stored and in no report", str(outcome.uncovered)),
        ("reports made, at the destination", f"{outcome.reports}, {outcome.reports_sent}"),
        ("MB resident in the node, most", f"{outcome.peak_megabytes:.0f}"),
        ("minutes, sending / all", f"{outcome.seconds_sending / 60:.1f} / {outcome.seconds / 60:.1f}"),
        ("the process lived", "yes" if outcome.lived else "no"),
    ):
        rows.add_row(what, said)
    return rows


if __name__ == "__main__":
    sys.exit(main())
