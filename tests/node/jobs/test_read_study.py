import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import FileDataset, dcmread
from sqlalchemy.exc import OperationalError

from mammoscope.findings import Algorithm, Box, Finding, Reading
from mammoscope.imaging import DecoderLostError, Mammogram, MammogramReader, ReducedMammogram
from mammoscope.inference import BundleError, TwoViews, reading_at
from mammoscope.inference.pool import ModelUnavailableError
from mammoscope.node.db.repository import DeliveryStatus, Records, StudyRecord, StudyState
from mammoscope.node.events import Event, ImageRead, Origin, StudyFailed, StudyPutOff, StudyRead
from mammoscope.node.jobs import trial
from mammoscope.node.jobs.make_report import Reporter
from mammoscope.node.jobs.read_study import StudyWork
from mammoscope.node.jobs.routing import Routing
from mammoscope.node.jobs.study_completion import StudyTracker
from mammoscope.node.jobs.trial import survives
from mammoscope.node.storage.inbox import Inbox
from mammoscope.node.storage.outbox import Outbox
from mammoscope.reading import ImageReader, MachineTroubleError
from mammoscope.reasons import ReasonCode
from mammoscope.results import study_results
from mammoscope.settings import DestinationSettings, ResultKind, RuleSettings

PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104, results=(ResultKind.CAD_SR,))


class Crashed(BaseException):
    """The process ended."""


class Steps:
    """Does the steps in this very thread, and remembers those done, as the durable ones are."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.next = 0

    def define(self, kind: str, work: Callable[..., None]) -> None:
        pass

    def step(self, _: str, action: Callable[[], Any]) -> Any:
        if self.next == len(self.done):
            self.done.append(action())
        self.next += 1
        return self.done[self.next - 1]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def source() -> Iterator[MammogramReader]:
    with MammogramReader() as source:
        yield source


class Bench:
    """All that the reading of a study needs."""

    def __init__(self, folder: Path, source: MammogramReader, detector: object) -> None:
        self.folder = folder
        self.records = Records.open(folder)
        self.inbox = Inbox(folder / "inbox", self.records.knows)
        self.outbox = Outbox(folder / "outbox")
        self.clock = Clock()
        self.tracker = StudyTracker(0, 3600, self.clock)
        self.events: list[Event] = []
        self.stopping = threading.Event()
        self.source = source
        self.detector = detector
        self.make_results: Any = study_results
        self.shadow = False
        self.routing = Routing([], [PACS])
        self.tried: list[Path] = []
        self.survives: bool | None = False

    def _try(self, file: Path) -> bool:
        self.tried.append(file)
        if self.survives is None:
            raise MachineTroubleError("memory", "none")
        return self.survives

    def put(self, images: list[FileDataset], origin: Origin = Origin.SENT) -> str:
        study = str(images[0].StudyInstanceUID)
        (self.inbox._folder / study).mkdir(exist_ok=True)
        for image in images:
            image.save_as(self.inbox.image(study, str(image.SOPInstanceUID)), enforce_file_format=True)
            self.records.add_object(study, str(image.SOPInstanceUID), "1.8", peer="MODALITY", origin=origin)
        self.tracker.notice(study, 1)
        return study

    def read(self, study: str, steps: Steps | None = None) -> StudyRecord:
        steps = steps or Steps()
        steps.next = 0
        reporter = Reporter(
            self.records,
            self.outbox,
            self.detector.algorithm,
            self.make_results,
            lambda record, rules: self.routing.route(rules, {o.peer for o in record.objects}),
            self.events.append,
            shadow=self.shadow,
        )
        work = StudyWork(
            steps,
            self.records,
            self.inbox,
            ImageReader(self.detector, self.source),
            reporter,
            self.tracker,
            self.folder / "failed",
            60,
            self.events.append,
            self.stopping,
            self._try,
            self.routing,
            self.source.read_header,
        )
        self.work = work
        [order] = self.records.studies_to_read()
        work.read(study, order.attempt)
        return self.record(study)

    def record(self, study: str) -> StudyRecord:
        record = self.records.study(study)
        assert record is not None
        return record


@pytest.fixture
def bench(tmp_path: Path, source: MammogramReader, detector) -> Iterator[Bench]:
    bench = Bench(tmp_path, source, detector)
    yield bench
    bench.records.close()


def test_a_study_is_read_and_reported(bench: Bench, images: list[FileDataset]) -> None:
    study = bench.put(images[:2])
    record = bench.read(study)
    assert record.state is StudyState.SENDING
    [report] = record.reports
    assert report.algorithm == "Brightest blob 1.0"
    assert [image.findings for image in report.images] == [1, 1]
    [delivery] = report.deliveries
    assert [o.sop_instance_uid for o in delivery.objects] == [r.sop_instance_uid for r in report.results]
    assert [r.kind for r in report.results] == ["cad-sr"]
    assert bench.outbox.stored_report(study, 1).file_of(report.results[0].sop_instance_uid) is not None
    assert [type(event) for event in bench.events] == [ImageRead, ImageRead, StudyRead]
    assert {e.scanner for e in bench.events if isinstance(e, ImageRead)} == {"Mammoscope Phantom"}
    assert bench.records.digest(study, str(images[0].SOPInstanceUID))


def test_rules_say_what_is_read_at_which_threshold_and_who_gets_it(bench: Bench, images: list[FileDataset]) -> None:
    north = PACS.model_copy(update={"name": "north", "ae_title": "MODALITY"})
    bench.routing = Routing(
        [
            RuleSettings(name="spare", where={"StationName": ("SPARE*",)}, read=False),
            RuleSettings(name="strict", where={"StationName": ("strict?", "x")}, threshold=0.95, back_to_sender=True),
        ],
        [PACS, north],
    )
    images[0].StationName, images[1].StationName = "Strict1", "SPARE ROOM"
    report = bench.read(bench.put(images[:2])).reports[0]

    read, left = sorted(report.images, key=lambda image: image.rule or "", reverse=True)
    assert (read.rule, read.threshold, read.findings) == ("strict", 0.95, 0)
    assert [(read.scanner, read.station, read.month, read.reason_code)] == [
        ("Mammoscope Phantom", "Strict1", f"{images[0].StudyDate[:4]}-{images[0].StudyDate[4:6]}", None)
    ]
    assert (left.rule, left.reason_code) == ("spare", ReasonCode.RULE)
    assert left.reason == "The rule 'spare' of this node says that such images are not read."
    assert [delivery.destination for delivery in report.deliveries] == ["north"]

    images[2].StudyInstanceUID, images[2].StationName = "1.2.9", "SPARE"
    record = bench.read(bench.put(images[2:3]))
    assert (record.state, record.reports[0].deliveries) == (StudyState.DONE, ())  # nobody asked for it


def test_a_phantom_falls_under_no_rule(bench: Bench, images: list[FileDataset]) -> None:
    bench.routing = Routing([RuleSettings(name="none", read=False)], [PACS])
    [image] = bench.read(bench.put(images[:1], Origin.PHANTOM)).reports[0].images
    assert (image.rule, image.findings) == (None, 1)


class SeesTwoViews:
    """Proposes the same two places on each view; the other view makes the second one a finding."""

    algorithm = Algorithm("Two views", "1")
    preprocessing = None
    two_views = TwoViews(intercept=2.0, own=1.0, other=0.6, depth_offset=0, size_offset=0, fitted_on="the tests")

    def read(self, mammogram: Mammogram, threshold: float | None = None, *, keep_candidates: bool = False) -> Reading:
        width = mammogram.columns / 10
        found = [
            Finding(Box(x, 10, x + width, 10 + width), score) for x, score in ((2 * width, 0.6), (6 * width, 0.45))
        ]
        return reading_at(threshold or 0.5, mammogram, found, self.algorithm, keep_candidates=keep_candidates)


def test_two_views_are_read_together_after_a_crash_too(bench: Bench, images: list[FileDataset]) -> None:
    bench.detector = SeesTwoViews()
    study = bench.put([image for image in images if image.ImageLaterality == "L"])
    steps = Steps()
    bench.make_results = crash
    with pytest.raises(Crashed):
        bench.read(study, steps)
    assert [fact["reading"]["extent"] is not None for fact in steps.done[1:]] == [True, True]
    bench.make_results = study_results
    [report] = bench.read(study, steps).reports
    assert [image.findings for image in report.images] == [2, 2]
    assert [event.findings for event in bench.events if isinstance(event, ImageRead)] == [1, 1]
    assert [event.findings for event in bench.events if isinstance(event, StudyRead)] == [4]

    alone = bench.put([image for image in images if image.ImageLaterality == "R"][:1])
    assert [image.findings for image in bench.read(alone).reports[-1].images] == [2, 2, 1]


def crash(*_: object, **__: object) -> Any:
    raise Crashed


def test_a_scanners_name_is_short_and_printable_whatever_a_sender_wrote(
    bench: Bench, images: list[FileDataset]
) -> None:
    images[0].Manufacturer, images[0].ManufacturerModelName = ["Siemens\x07", "Mammomat"], "Revelation " * 10
    bench.read(bench.put(images[:1]))
    [scanner] = [event.scanner for event in bench.events if isinstance(event, ImageRead)]
    assert scanner == ("Siemens " + "Revelation " * 6)[:64].strip()


def test_a_late_view_makes_a_report_that_names_the_one_it_supersedes(bench: Bench, images: list[FileDataset]) -> None:
    bench.put(images[:1])
    study = str(images[0].StudyInstanceUID)
    bench.read(study)
    bench.put(images[1:2])
    first, second = bench.read(study).reports
    assert (first.supersedes, second.supersedes) == (None, 1)
    assert len(second.images) == 2
    [event] = [e for e in bench.events if isinstance(e, StudyRead) and e.report == 2]
    assert event.supersedes == 1
    report = dcmread(bench.outbox.stored_report(study, 2).files[0])
    [predecessor] = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert predecessor.ReferencedSOPInstanceUID == first.results[0].sop_instance_uid


def test_after_a_crash_the_images_that_were_read_are_not_read_again(
    bench: Bench, images: list[FileDataset], detector
) -> None:
    reads: list[str] = []

    class Crashing(type(detector)):
        def read(self, mammogram: Mammogram, threshold: float | None = None) -> Reading:
            reads.append(mammogram.name)
            if len(reads) == 2:
                raise Crashed
            return super().read(mammogram, threshold)

    bench.detector = Crashing()
    study = bench.put(images[:2])
    steps = Steps()
    with pytest.raises(Crashed):
        bench.read(study, steps)
    [report] = bench.read(study, steps).reports
    assert [image.findings for image in report.images] == [1, 1]
    assert len(reads) == 3
    assert len(set(reads)) == 2


def test_an_image_that_ends_its_reader_again_and_again_is_answered(
    bench: Bench, images: list[FileDataset], detector
) -> None:
    deadly = str(images[1].SOPInstanceUID)
    deaths: list[str] = []

    class Deadly(type(detector)):
        def read(self, mammogram: Mammogram, threshold: float | None = None) -> Reading:
            if mammogram.name == deadly:
                deaths.append(mammogram.name)
                raise Crashed
            return super().read(mammogram, threshold)

    bench.detector = Deadly()
    study = bench.put(images[:2])
    for _ in range(2):
        with pytest.raises(Crashed):
            bench.read(study)
    [report] = bench.read(study).reports
    reasons = {image.sop_instance_uid: image.reason for image in report.images}
    assert reasons == {
        str(images[0].SOPInstanceUID): None,
        deadly: "The program ended 2 times while it read the image.",
    }
    assert len(deaths) == 2


class EndedByOthers:
    """A source whose process is ended by somebody else while it reads an image, so and so often."""

    def __init__(self, source: MammogramReader, times: int) -> None:
        self._source, self.left = source, times
        self.read_header = source.read_header

    def read_reduced(self, path: Path, name: str | None = None, **wanted: object) -> ReducedMammogram:
        self.left -= 1
        if self.left >= 0:
            raise Crashed
        return self._source.read_reduced(path, name, **wanted)


def test_an_image_is_not_given_up_for_kills_that_had_nothing_to_do_with_it(
    bench: Bench, images: list[FileDataset], source: MammogramReader
) -> None:
    bench.source, bench.survives = EndedByOthers(source, 3), True
    study = bench.put(images[:1])
    for _ in range(3):
        with pytest.raises(Crashed):
            bench.read(study)
    assert [image.findings for image in bench.read(study).images] == [1]
    assert bench.tried == [bench.inbox.image(study, str(images[0].SOPInstanceUID))] * 2


def test_an_image_that_cannot_be_tried_now_waits(
    bench: Bench, images: list[FileDataset], source: MammogramReader
) -> None:
    bench.source, bench.survives = EndedByOthers(source, 2), None
    study = bench.put(images[:1])
    for _ in range(2):
        with pytest.raises(Crashed):
            bench.read(study)
    for _ in range(9):
        assert bench.read(study).reports == ()
        bench.clock.now += 60
    bench.survives = True
    assert [image.findings for image in bench.read(study).images] == [1]


def test_a_crash_loop_ends_also_where_nobody_finds_the_cause(
    bench: Bench, images: list[FileDataset], source: MammogramReader
) -> None:
    bench.source, bench.survives = EndedByOthers(source, 100), True
    study = bench.put(images[:1])
    for _ in range(6):
        with pytest.raises(Crashed):
            bench.read(study)
    [image] = bench.read(study).images
    assert image.reason == "The program ended 6 times while it read the image."


@pytest.mark.slow
def test_a_process_of_its_own_tries_an_image(images: list[FileDataset], tmp_path: Path) -> None:
    good, damaged = tmp_path / "good.dcm", tmp_path / "damaged.dcm"
    images[0].save_as(good, enforce_file_format=True)
    damaged.write_bytes(good.read_bytes()[:3000])
    assert survives(good, None)
    assert survives(damaged, None)  # it is refused, which is no danger to anybody
    assert not survives(good, None, seconds=0.01)
    with pytest.raises(MachineTroubleError):
        survives(good, tmp_path / "none.onnx")


@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device"), MemoryError()])
def test_a_trial_that_the_machine_ends_tells_nothing_of_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise trouble

    monkeypatch.setattr(trial, "limit_memory", lambda _: None)
    monkeypatch.setattr(trial, "Detector", broken)
    monkeypatch.setattr(sys, "argv", ["trial", str(tmp_path / "any.dcm")])
    with pytest.raises(SystemExit) as ended:
        trial.main()
    assert ended.value.code == 3


def test_a_study_that_is_overdue_is_answered_and_read_later(bench: Bench, images: list[FileDataset]) -> None:
    study = bench.put(images[:2])
    bench.clock.now += 3600
    record = bench.read(study)
    assert {i.reason for i in record.images} == {"The image was not read within 60 minutes; it is read later."}
    assert record.state is StudyState.RECEIVING
    record = bench.read(study)
    assert [image.findings for image in record.images] == [1, 1]
    assert record.reports[1].supersedes == 1
    assert record.state is StudyState.SENDING


def test_an_archive_has_time(bench: Bench, images: list[FileDataset]) -> None:
    study = bench.put(images[:1], Origin.PULLED)
    bench.clock.now += 36_000
    assert [image.findings for image in bench.read(study).images] == [1]


def test_in_shadow_everything_is_made_and_nothing_is_to_be_sent(bench: Bench, images: list[FileDataset]) -> None:
    bench.shadow = True
    study = bench.put(images[:1])
    record = bench.read(study)
    assert record.state is StudyState.DONE
    assert record.reports[0].deliveries[0].status is DeliveryStatus.WITHHELD
    assert bench.records.deliveries_to_make() == ()
    assert len(bench.outbox.stored_report(study, 1).files) == 1


def test_a_study_without_results_is_put_aside_and_read_again_when_a_person_asks(
    bench: Bench, images: list[FileDataset]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(str(images[0].PatientName))

    bench.make_results = broken
    study = bench.put(images[:1])
    record = bench.read(study)
    assert record.state is StudyState.FAILED
    [failure] = record.failures
    assert failure.reason.startswith("unexpected RuntimeError in ")
    assert str(images[0].PatientName) not in failure.reason
    assert isinstance(bench.events[-1], StudyFailed)
    assert bench.inbox.images(study) == []

    bench.make_results = study_results
    bench.records.retry(study)
    record = bench.read(study)
    assert record.state is StudyState.SENDING
    assert [image.findings for image in record.images] == [1]
    assert list((bench.folder / "failed").iterdir()) == []


@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device"), MemoryError()])
def test_a_full_disk_costs_nothing_but_time(bench: Bench, images: list[FileDataset], trouble: Exception) -> None:
    def full(*_: object, **__: object) -> None:
        raise trouble

    bench.make_results = full
    study = bench.put(images[:1])
    assert bench.read(study).state is StudyState.RECEIVING
    assert not bench.tracker.is_due(study)
    bench.clock.now += 60
    assert bench.tracker.is_due(study)
    bench.make_results = study_results
    assert len(bench.read(study).reports) == 1


def test_a_stop_leaves_the_study_for_the_next_start(bench: Bench, images: list[FileDataset], detector) -> None:
    class Stopping(type(detector)):
        def read(self, mammogram: Mammogram, threshold: float | None = None) -> Reading:
            bench.stopping.set()
            return super().read(mammogram, threshold)

    bench.detector = Stopping()
    study = bench.put(images[:2])
    record = bench.read(study)
    assert record.reports == ()
    assert record.state is StudyState.RECEIVING
    bench.stopping.clear()
    bench.detector = detector
    assert len(bench.read(study).reports) == 1


class Away:
    """A detector whose bundle is away for a number of images."""

    def __init__(self, detector: object, error: Exception, images: int) -> None:
        self._detector, self._error, self.left = detector, error, images
        self.algorithm, self.preprocessing = detector.algorithm, detector.preprocessing

    def read(self, mammogram: ReducedMammogram, threshold: float | None = None) -> Reading:
        if self.left:
            self.left -= 1
            raise self._error
        return self._detector.read(mammogram, threshold)


@pytest.mark.parametrize(
    "error",
    [BundleError("there is no model bundle /srv/models/masses.onnx"), ModelUnavailableError("too little memory")],
)
def test_a_model_that_is_away_is_nothing_to_be_said_of_a_patient(
    bench: Bench, images: list[FileDataset], detector, error: Exception
) -> None:
    bench.detector = Away(detector, error, images=5)
    study = bench.put(images)
    for left in (4, 3, 2, 1, 0):
        record = bench.read(study)
        assert (record.reports, record.failures) == ((), ())
        assert record.state is StudyState.RECEIVING
        assert bench.detector.left == left
        assert str(error) in str(bench.work.trouble)
        assert not bench.tracker.is_due(study)
        bench.clock.now += 60
        assert bench.tracker.is_due(study)
    record = bench.read(study)
    assert [image.findings for image in record.images] == [1] * 4
    assert bench.work.trouble is None
    assert [type(event) for event in bench.events].count(StudyPutOff) == 5
    assert "/srv" not in str(record)
    assert "/srv" not in str([event for event in bench.events if isinstance(event, StudyPutOff)])


def test_a_study_is_answered_in_time_though_the_model_stays_away(
    bench: Bench, images: list[FileDataset], detector
) -> None:
    bench.detector = Away(detector, BundleError("away"), images=2)
    study = bench.put(images[:2])
    bench.read(study)
    bench.clock.now += 3600
    record = bench.read(study)
    assert {i.reason for i in record.images} == {"The image was not read within 60 minutes; it is read later."}
    assert not bench.read(study).reports[1:]  # away once more
    bench.clock.now += 60
    assert [image.findings for image in bench.read(study).images] == [1, 1]


class Killed:
    """A source whose decoder is killed by whoever reads one image."""

    def __init__(self, source: MammogramReader, deadly: str) -> None:
        self._source, self._deadly, self.touched = source, deadly, 0
        self.read_header = source.read_header

    def read_reduced(self, path: Path, name: str | None = None, **wanted: object) -> ReducedMammogram:
        if name == self._deadly:
            self.touched += 1
            raise DecoderLostError("the decoder crashed (SIGKILL)", killed=True)
        return self._source.read_reduced(path, name, **wanted)


def test_an_image_whose_decoder_is_killed_is_not_touched_a_third_time(
    bench: Bench, images: list[FileDataset], source: MammogramReader
) -> None:
    deadly = str(images[1].SOPInstanceUID)
    bench.source = Killed(source, deadly)
    study = bench.put(images)
    for _ in range(2):
        assert bench.read(study).reports == ()
        bench.clock.now += 60
    record = bench.read(study)
    assert {image.sop_instance_uid: image.reason for image in record.images} == {
        str(image.SOPInstanceUID): None for image in images
    } | {deadly: "The program ended 2 times while it read the image."}
    assert bench.source.touched == 2


def test_what_restores_an_image_counts_as_a_try(bench: Bench, images: list[FileDataset], source) -> None:
    steps = Steps()
    study = bench.put(images[:1])
    deadly = str(images[0].SOPInstanceUID)

    class Deadly(Killed):
        def read_reduced(self, path: Path, name: str | None = None, **wanted: object) -> ReducedMammogram:
            if wanted.get("preprocessing", 0) == 0:  # asked for by `restore` alone
                self.touched += 1
                raise Crashed
            return self._source.read_reduced(path, name, **wanted)

    def no_results(*_: object, **__: object) -> None:
        raise Crashed

    make_results, bench.make_results = bench.make_results, no_results
    with pytest.raises(Crashed):
        bench.read(study, steps)
    bench.make_results, bench.source = make_results, Deadly(source, deadly)
    for _ in range(2):
        with pytest.raises(Crashed):
            bench.read(study, steps)
    [report] = bench.read(study, steps).reports
    assert [image.reason for image in report.images] == ["The program ended 2 times while it read the image."]
    assert bench.source.touched == 2


def disk_is_full(*_: object, **__: object) -> None:
    raise OperationalError("UPDATE", {}, sqlite3.OperationalError("database or disk is full"))


def test_a_report_that_is_there_is_not_made_again_though_its_step_was_not_noted(
    bench: Bench, images: list[FileDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, steps = bench.put(images[:2]), Steps()

    def full_after_the_report(_: str, action: Callable[[], Any]) -> Any:
        given = steps_step(_, action)
        if bench.record(study).reports and not failed:
            failed.append(steps.done.pop())
            disk_is_full()
        return given

    failed: list[None] = []
    steps_step = steps.step
    monkeypatch.setattr(steps, "step", full_after_the_report)
    with pytest.raises(OperationalError):
        bench.read(study, steps)
    order = bench.records.deliveries_to_make()
    assert bench.records.studies_to_read() == ()
    steps.next = 0
    bench.work.read(study, 1)  # resumed by its steps
    steps.next, steps.done = 0, []
    bench.work.read(study, 1)  # begun anew
    [report] = bench.record(study).reports
    assert [image.findings for image in report.images] == [1, 1]
    assert bench.records.deliveries_to_make() == order
    assert bench.record(study).state is StudyState.SENDING


def test_a_try_that_ended_well_does_not_count_though_the_database_did_not_take_it(
    bench: Bench, images: list[FileDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, steps = bench.put(images[:1]), Steps()
    with monkeypatch.context() as full:
        full.setattr(bench.records, "clear_tries", disk_is_full)
        with pytest.raises(OperationalError):
            bench.read(study, steps)
        for _ in range(3):
            steps.next = 0
            with pytest.raises(OperationalError):
                bench.work.read(study, 1)
    steps.next = 0
    bench.work.read(study, 1)
    assert [image.reason for image in bench.record(study).images] == [None]


def test_a_person_s_wish_while_the_study_is_read_is_fulfilled_after_it(
    bench: Bench, images: list[FileDataset], detector
) -> None:
    class Asked(type(detector)):
        def read(self, mammogram: Mammogram, threshold: float | None = None) -> Reading:
            if not bench.record(study).reports:
                bench.records.retry(study)
            return super().read(mammogram, threshold)

    bench.detector = Asked()
    study = bench.put(images[:1])
    assert bench.read(study).state is StudyState.RECEIVING
    record = bench.read(study)
    assert record.state is StudyState.SENDING
    assert len(record.reports) == 2
    assert bench.records.studies_to_read() == ()
