"""`StudyWork`: reading a study, in steps that a crash does not undo."""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from pydicom import Dataset

from mammoscope.errors import MammoscopeError
from mammoscope.findings import Algorithm, Reading
from mammoscope.node.assembly import StudyTracker
from mammoscope.node.durable import DurableWork
from mammoscope.node.events import Event, ImageRead, Origin, StudyFailed, StudyRead
from mammoscope.node.inbox import Inbox
from mammoscope.node.log import where_raised
from mammoscope.node.outbox import Outbox
from mammoscope.node.reading import ImageReader, not_processed
from mammoscope.node.records import Failure, ImageRecord, Records, Report
from mammoscope.node.reporting import Reporter
from mammoscope.node.sameness import pixel_digest
from mammoscope.results import ReadMammogram

KIND = "read study"
MOST_TRIES = 3
"""An image that ended its whole reader so often is not tried again."""
DISK_TROUBLE_WAIT_SECONDS = 60.0

Outcome = ReadMammogram | Reading

log = structlog.get_logger(__name__)


class StudyWork:
    """Reads studies: lists the images, reads each, makes the results, records the report.

    Every step may be done twice, when a crash comes between the doing and the noting, and then does the same again:
    the same images, results of the same UIDs, one report of that number.
    """

    def __init__(
        self,
        work: DurableWork,
        records: Records,
        inbox: Inbox,
        reader: ImageReader,
        reporter: Reporter,
        tracker: StudyTracker,
        failed: Path,
        answer_minutes: float,
        on_event: Callable[[Event], None],
        stopping: threading.Event,
    ) -> None:
        self._work = work
        self._records = records
        self._inbox = inbox
        self._reader = reader
        self._reporter = reporter
        self._tracker = tracker
        self._failed = failed
        self._answer_minutes = answer_minutes
        self._on_event = on_event
        self._stopping = stopping
        work.define(KIND, self.read)

    def read(self, study: str, attempt: int) -> None:
        """Read a study: a piece of durable work."""
        images = self._work.step("begin", lambda: self._begin(study, attempt))
        if images is None:
            return
        outcomes: dict[str, Outcome] = {}
        facts = []
        for image in images:
            fact = self._work.step("read image", lambda image=image: self._read_image(study, image, outcomes))
            if fact is None:
                break
            facts.append(fact)
        if len(facts) == len(images):
            self._work.step("report", lambda: self._report(study, attempt, facts, outcomes))
        else:
            log.info("study left for the next start", study=study)
        self._records.end_attempt(study, attempt)
