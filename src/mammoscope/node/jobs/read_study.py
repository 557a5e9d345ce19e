"""`StudyWork`: reading a study, in steps that a crash does not undo."""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from pydicom import Dataset
from sqlalchemy.exc import SQLAlchemyError

from mammoscope.errors import MammoscopeError
from mammoscope.findings import Reading
from mammoscope.imaging import MammogramError, MammogramUnavailableError, ReducedMammogram
from mammoscope.imaging.header import pixel_digest
from mammoscope.logging import where_raised
from mammoscope.node.db.repository import Attempt, Failure, Records, Whereabouts
from mammoscope.node.events import Event, ImageRead, Origin, StudyFailed, StudyPutOff
from mammoscope.node.jobs.make_report import Reporter, scanner_of
from mammoscope.node.jobs.queue import DurableWork
from mammoscope.node.jobs.routing import UNKNOWN, Routing
from mammoscope.node.jobs.study_completion import StudyTracker
from mammoscope.node.storage.inbox import Inbox
from mammoscope.reading import ImageReader, MachineTroubleError, Outcome
from mammoscope.reasons import Reason, ReasonCode
from mammoscope.results import ReadMammogram, ResultError

KIND = "read study"
MOST_TRIES = 2
"""An image whose reader ended so often is read again only once a process of its own has survived it."""
MOST_TRIES_IN_ALL = 6
"""From here on it is not touched again, whoever ended the process."""
DISK_TROUBLE_WAIT_SECONDS = 10.0
MACHINE_TROUBLE_WAIT_SECONDS = 15.0
MOST_LOOKED_AT = 1000
"""Images of a study of which at least the header is looked at; the largest examinations have some hundred."""
MOST_READ = 100
MOST_UNREAD_SHOWN = 100
"""Images in one study's result objects: mammograms that were read, and others."""

Facts = dict[str, Any]

log = structlog.get_logger(__name__)


class StudyWork:
    """Reads studies: lists the images, reads each, makes the results, records the report.

    Every step may be done twice, when a crash comes between the doing and the noting, and then does the same again:
    the same images, results of the same UIDs, one report of that number.

    Parameters
    ----------
    survives
        Whether an image leaves the process that reads it alive.
    routing
        The rules of the settings; a phantom falls under none.
    header_of
        The attributes of an image, read in a process of its own; raises `MammogramError`.
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
        survives: Callable[[Path], bool],
        routing: Routing,
        header_of: Callable[[Path], Dataset],
    ) -> None:
        self._routing = routing
        self._header_of = header_of
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
        self._survives = survives
        self._trouble: tuple[str, str] | None = None
        self._uncleared: set[tuple[str, str]] = set()
        work.define(KIND, self.read)

    @property
    def trouble(self) -> str | None:
        """What of the machine keeps images from being read now, in one sentence; ``None`` when nothing does."""
        trouble = self._trouble
        return None if trouble is None else f"studies wait to be read, the {trouble[0]} is in trouble: {trouble[1]}"

    def read(self, study: str, attempt: int) -> None:
        """Read a study: a piece of durable work."""
        outcomes: dict[str, Outcome] = {}
        try:
            self._read(study, attempt, outcomes)
        finally:
            for outcome in outcomes.values():
                _forget_picture(outcome)

    def _read(self, study: str, attempt: int, outcomes: dict[str, Outcome]) -> None:
        plan = self._work.step("begin", lambda: self._begin(study, attempt))
        if plan is None:
            return
        facts: list[Facts] = []
        for image in plan["images"]:
            fact = self._work.step("read image", partial(self._read_image, study, image, plan, outcomes))
            if fact is None:
                log.info("study left for the next start", study=study)
                break
            if "trouble" in fact:
                self._put_off(study, plan, fact["trouble"])
                break
            facts.append(fact)
        else:
            self._work.step("report", lambda: self._report(study, attempt, plan, facts, outcomes))
        self._records.end_attempt(study, attempt)

    def _begin(self, study: str, attempt: int) -> Facts | None:
        """Say what is to be read; ``None`` when nothing is, or it was done before."""
        if self._stopping.is_set():
            return None
        record = self._records.begin_reading(study, attempt)
        images = [] if record is None else [o for o in record.objects if o.whereabouts is Whereabouts.KEPT]
        if record is None or not images:
            self._records.end_attempt(study, attempt)
            return None
        uids = [image.sop_instance_uid for image in images]
        self._inbox.bring_back(study, uids, self._failed / study)
        log.info("study quiet", study=study, images=len(uids))
        if len(uids) > MOST_LOOKED_AT:
            log.error("study too large", study=study, images=len(uids), looked_at=MOST_LOOKED_AT)
        return {
            "images": uids[:MOST_LOOKED_AT],
            "surplus": uids[MOST_LOOKED_AT:],
            "arrivals": record.arrivals,
            "origin": str(record.origin),
            "peers": {o.sop_instance_uid: o.peer for o in images} if self._is_ruled(record.origin) else {},
            "waited_seconds": self._tracker.seconds_since_last_image(study),
            # An archive is read as there is time, and what has been answered once may take its time too.
            "has_deadline": record.origin is not Origin.PULLED and bool(record.waiting),
        }

    def _read_image(self, study: str, image: str, plan: Facts, outcomes: dict[str, Outcome]) -> Facts | None:
        """Read one image; ``None`` if the node is stopping, which would make a good image look bad."""
        if self._stopping.is_set():
            return None
        file = self._inbox.image(study, image)
        late = plan["has_deadline"] and self._tracker.is_overdue(study)
        started = time.monotonic()
        try:
            rule = self._rule_of(file, plan)
            outcome = self._outcome(study, file, outcomes, late=late, rule=rule)
        except MachineTroubleError as error:
            return None if self._stopping.is_set() else self._noted(study, error)
        if self._stopping.is_set():
            return None
        self._trouble = self._trouble if late else None
        reading = outcome.reading if isinstance(outcome, ReadMammogram) else outcome
        scanner = scanner_of(outcome)
        seconds = round(time.monotonic() - started, 3)
        shown = _is_shown(outcome, outcomes)
        outcomes[image] = outcome if shown else reading
        if not shown:
            _forget_picture(outcome)
        self._on_event(
            ImageRead(
                study=study,
                sop_instance=image,
                scanner=scanner or "unknown",
                findings=len(reading.findings),
                reason=reading.reason,
                reason_code=reading.reason_code,
                seconds=seconds,
                origin=Origin(plan["origin"]),
            )
        )
        return {
            "reading": reading.to_json(below_threshold=True),
            "rule": rule,
            "seconds": seconds,
            "late": late,
            "shown": shown,
            "digest": _digest(file),
        }

    def _is_ruled(self, origin: Origin) -> bool:
        return self._routing.has_rules and origin is not Origin.PHANTOM

    def _rule_of(self, file: Path, plan: Facts) -> str | None:
        """Name of the rule that applies to an image; `UNKNOWN` where its header cannot be read.

        Raises
        ------
        MachineTroubleError
            If it cannot be told now.
        """
        if not self._is_ruled(Origin(plan["origin"])):
            return None
        try:
            return self._routing.rule_of(self._header_of(file), plan.get("peers", {}).get(file.stem, ""))
        except MammogramUnavailableError as error:
            raise MachineTroubleError("decoder", str(error)) from error
        except MammogramError:  # reading it says what is wrong
            return UNKNOWN

    def _outcome(
        self, study: str, file: Path, outcomes: dict[str, Outcome], *, late: bool, rule: str | None
    ) -> Outcome:
        not_wanted = self._routing.why_not_read(rule)
        if not_wanted is not None:
            return self._reader.answer(file, not_wanted)
        if late:
            return self._reader.answer(file, self._too_late)
        if sum(isinstance(outcome, ReadMammogram) and outcome.processed for outcome in outcomes.values()) >= MOST_READ:
            return Reading.not_processed(file.stem, _TOO_MANY)
        return self._try(study, file, lambda: self._reader.read(file, threshold=self._routing.threshold_of(rule)))

    @property
    def _too_late(self) -> Reason:
        return Reason(
            ReasonCode.TOO_LATE, f"The image was not read within {self._answer_minutes:g} minutes; it is read later."
        )

    def _try(self, study: str, file: Path, read: Callable[[], Outcome]) -> Outcome:
        """Touch an image; one that ended whatever touched it before is answered instead.

        The try is noted before the image is touched and cleared after, so that only what ended in between counts: this
        whole process, or a child that was killed. Whether it was the image's fault tells a process of its own: that the
        machine was switched off three times while it was read says nothing against an image.

        Raises
        ------
        MachineTroubleError
            If the machine is in trouble.
        """
        if (study, file.stem) in self._uncleared:
            self._clear(study, file.stem)
        tries = self._records.note_try(study, file.stem)
        if tries > MOST_TRIES_IN_ALL or (tries > MOST_TRIES and not self._is_survived(study, file)):
            log.error("image given up", study=study, image=file.stem, tries=tries - 1)
            ended = f"The program ended {tries - 1} times while it read the image."
            return self._reader.answer(file, Reason(ReasonCode.PROGRAM_ENDED, ended))
        try:
            outcome = read()
        except MachineTroubleError as error:
            if error.part != "memory":
                self._clear(study, file.stem)
            raise
        self._clear(study, file.stem)
        return outcome

    def _clear(self, study: str, image: str) -> None:
        """Note that a try was not ended; where the database does not take that now, before the next try."""
        self._uncleared.add((study, image))
        self._records.clear_tries(study, image)
        self._uncleared.discard((study, image))

    def _is_survived(self, study: str, file: Path) -> bool:
        try:
            return self._survives(file)
        except MachineTroubleError:
            self._records.take_back_try(study, file.stem)
            raise

    def _noted(self, study: str, error: MachineTroubleError) -> Facts:
        facts = {"study": study, "part": error.part, "reason": str(error)}
        if self._trouble is None:
            log.error("reading put off", **facts)
        else:  # said once, loudly
            log.warning("reading put off", **facts)
        self._trouble = (error.part, str(error))
        return {"trouble": error.part}

    def _put_off(self, study: str, plan: Facts, part: str) -> None:
        """Leave a study until the machine may be well; when it is overdue it is answered, and read later."""
        self._tracker.postpone(study, MACHINE_TROUBLE_WAIT_SECONDS)
        self._on_event(StudyPutOff(study=study, part=part, origin=Origin(plan["origin"])))

    def _report(
        self, study: str, attempt: int, plan: Facts, facts: Sequence[Facts], outcomes: dict[str, Outcome]
    ) -> None:
        if not self._records.is_open(study, attempt):
            return  # the report is there, and an end came before this step could be noted
        this = Attempt(attempt, plan["arrivals"])
        files = [self._inbox.image(study, image) for image in plan["images"]]
        surplus = [Reading.not_processed(image, _TOO_MANY) for image in plan["surplus"]]
        digests = {f.stem: fact["digest"] for f, fact in zip(files, facts, strict=True) if fact["digest"]}
        seconds = sum(fact["seconds"] for fact in facts)
        try:
            for file, fact in zip(files, facts, strict=True):
                if file.stem not in outcomes:  # read before a crash
                    outcomes[file.stem] = self._restored(study, file, fact)
            read = self._reader.together([outcomes[file.stem] for file in files])
            self._reporter.report(
                study,
                [*read, *surplus],
                attempt=this,
                digests=digests,
                reading_seconds=seconds,
                waited_seconds=plan["waited_seconds"],
                rules={file.stem: fact.get("rule") for file, fact in zip(files, facts, strict=True)},
                read_again=any(fact["late"] for fact in facts),
            )
            self._inbox.clear_away([*plan["images"], *plan["surplus"]], self._failed / study)
        except MachineTroubleError as error:
            self._put_off(study, plan, self._noted(study, error)["trouble"])
        except (OSError, MemoryError) as error:  # of the machine: the images stay here and the study keeps its turn
            log.warning("study put off", study=study, error=where_raised(error))
            self._tracker.postpone(study, DISK_TROUBLE_WAIT_SECONDS)
        except SQLAlchemyError:
            raise
        except Exception as error:
            self._set_aside(study, this, files, error, Origin(plan["origin"]))

    def _restored(self, study: str, file: Path, fact: Facts) -> Outcome:
        reading = Reading.from_json(fact["reading"])
        if not fact["shown"]:
            return reading
        return self._try(study, file, lambda: self._reader.restore(file, reading))

    def _set_aside(self, study: str, attempt: Attempt, files: Sequence[Path], error: Exception, origin: Origin) -> None:
        """Keep the images of a study that gave no results, and say why; a resend of them is a new try.

        Images that arrived since the others were listed are read when the study is quiet again.
        """
        reason = _reason_of(error)
        now = datetime.now(UTC)
        target = self._failed / study / f"images-{now:%Y%m%dT%H%M%S%f}"
        self._inbox.move(files, target, {"study": study, "reason": reason.sentence, "reason_code": str(reason.code)})
        images = tuple(file.stem for file in files)
        failure = Failure(at=now, reason=reason.sentence, reason_code=reason.code, images=images)
        self._records.add_failure(study, failure, attempt=attempt)
        self._on_event(StudyFailed(study=study, reason=reason.sentence, reason_code=reason.code, origin=origin))


_TOO_MANY = Reason(
    ReasonCode.TOO_MANY_IMAGES,
    "The study holds more images than any examination: they are not all read. Check that studies have Study Instance"
    " UIDs of their own.",
)


def _reason_of(error: Exception) -> Reason:
    if isinstance(error, ResultError | MammogramError):
        return error.reason
    if isinstance(error, MammoscopeError):
        return Reason(ReasonCode.OTHER, str(error))
    return Reason(ReasonCode.UNEXPECTED, f"unexpected {where_raised(error)}")


def _is_shown(outcome: Outcome, outcomes: Mapping[str, Outcome]) -> bool:
    """Whether there is room for an image in the study's result objects."""
    if not isinstance(outcome, ReadMammogram):
        return False
    others = sum(isinstance(o, ReadMammogram) and o.processed is outcome.processed for o in outcomes.values())
    return others < (MOST_READ if outcome.processed else MOST_UNREAD_SHOWN)


def _forget_picture(outcome: Outcome) -> None:
    if not isinstance(outcome, ReadMammogram) or not isinstance(outcome.mammogram, ReducedMammogram):
        return
    if isinstance(outcome.mammogram.picture, Path):
        with contextlib.suppress(OSError):
            outcome.mammogram.picture.unlink(missing_ok=True)


def _digest(file: Path) -> str | None:
    """Of the pixel data, or ``None`` where the file is too damaged to tell."""
    try:
        return pixel_digest(file)
    except Exception:
        return None
