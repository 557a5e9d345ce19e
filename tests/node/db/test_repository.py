import resource
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from mammoscope.findings import ReadingStatus
from mammoscope.node.db.engine import DatabaseError
from mammoscope.node.db.repository import (
    DeliveryRecord,
    DeliveryStatus,
    Failure,
    ImageRecord,
    Records,
    RecordsError,
    Report,
    ResultRecord,
    SendingRecord,
    StudyState,
    Whereabouts,
)
from mammoscope.node.events import Origin

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LATER = datetime(2026, 1, 2, 13, tzinfo=UTC)


def report(number: int = 1, images: tuple[str, ...] = ("1.2.1",)) -> Report:
    result = f"1.3.{number}"
    pending = (SendingRecord(sop_instance_uid=result, status=DeliveryStatus.PENDING),)
    return Report(
        number=number,
        supersedes=number - 1 or None,
        made_at=NOON,
        algorithm="Blob 1.0",
        seconds=1.5,
        waited_seconds=30.0,
        images=tuple(ImageRecord(sop_instance_uid=i, status=ReadingStatus.FOUND, findings=2) for i in images),
        results=(ResultRecord(sop_class_uid="1.9", sop_instance_uid=result, kind="cad-sr"),),
        deliveries=(
            DeliveryRecord(destination="archive", objects=pending),
            DeliveryRecord(destination="pacs", objects=pending),
        ),
        problems=("an image is odd",),
    )


def ended(destination: str, status: DeliveryStatus, number: int = 1, **facts: object) -> DeliveryRecord:
    sent = SendingRecord(sop_instance_uid=f"1.3.{number}", status=status)
    return DeliveryRecord(destination=destination, status=status, tries=1, ended_at=LATER, objects=(sent,), **facts)


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with Records.open(tmp_path) as records:
        yield records


@pytest.fixture
def add(records: Records) -> Callable[..., None]:
    def add(*images: str, study: str = "1.2", **facts: object) -> None:
        for image in images:
            records.add_object(study, image, "1.8", peer="MODALITY", at=NOON, **facts)

    return add


def state(records: Records, study: str = "1.2") -> StudyState:
    record = records.study(study)
    assert record is not None
    return record.state


def test_a_study_never_seen_has_no_record(records: Records) -> None:
    assert records.study("1.2") is None
    assert records.studies() == ()
    assert not records.knows("1.2", "1.2.1")


def test_what_was_written_is_there_for_the_next_process(tmp_path: Path, records: Records, add) -> None:
    add("1.2.1")
    assert records.add_report("1.2", report(1), digests={"1.2.1": "abc"})
    with Records.open(tmp_path) as next_process:
        record = next_process.study("1.2")
    assert record is not None
    assert record.reports == (report(1),)
    assert record.origin is Origin.SENT
    assert record.first_received_at == record.last_received_at == NOON
    [image] = record.objects
    assert (image.peer, image.whereabouts, image.report, image.received_at) == ("MODALITY", "kept", 1, NOON)


def test_a_commit_is_synced(records: Records) -> None:
    with records._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_images_taken_and_objects_made_are_known(records: Records, add) -> None:
    add("1.2.1")
    records.add_report("1.2", report())
    assert records.knows("1.2", "1.2.1")
    assert records.knows("1.2", "1.3.1")
    assert not records.knows("1.2", "1.2.2")
    assert not records.knows("1.3", "1.2.1")


def test_the_states_of_a_study(records: Records, add) -> None:
    add("1.2.1")
    assert state(records) is StudyState.RECEIVING
    begun = records.begin_reading("1.2", 1)
    assert begun is not None
    assert begun.waiting == ("1.2.1",)
    assert state(records) is StudyState.READING
    records.end_attempt("1.2", 1)
    assert state(records) is StudyState.RECEIVING
    assert records.begin_reading("1.2", 1) is None
    assert records.begin_reading("1.2", 2) is not None
    records.add_report("1.2", report())
    assert state(records) is StudyState.SENDING
    records.set_delivery("1.2", 1, ended("pacs", DeliveryStatus.SENT))
    assert state(records) is StudyState.SENDING
    records.set_delivery("1.2", 1, ended("archive", DeliveryStatus.PARKED, errors=("no",)))
    assert state(records) is StudyState.PARKED
    records.resend("1.2", destination="archive")
    assert state(records) is StudyState.SENDING
    records.set_delivery("1.2", 1, ended("archive", DeliveryStatus.SENT, round=2))
    assert state(records) is StudyState.DONE
    add("1.2.2")
    assert state(records) is StudyState.RECEIVING


def test_a_resend_of_an_image_changes_nothing(records: Records, add) -> None:
    add("1.2.1")
    records.add_report("1.2", report())
    before = records.study("1.2")
    records.add_object("1.2", "1.2.1", "1.8", peer="OTHER", at=LATER)
    assert records.study("1.2") == before


def test_a_report_is_added_once(records: Records, add) -> None:
    add("1.2.1", "1.2.2")
    assert records.add_report("1.2", report(1, images=("1.2.1",)))
    records.set_delivery("1.2", 1, ended("pacs", DeliveryStatus.SENT))
    assert not records.add_report("1.2", report(1))
    record = records.study("1.2")
    assert record is not None
    assert len(record.reports) == 1
    assert record.reports[0].deliveries[1].status is DeliveryStatus.SENT
    assert record.waiting == ("1.2.2",)


def test_the_latest_reading_of_each_image(records: Records, add) -> None:
    add("1.2.1", "1.2.2")
    records.add_report("1.2", report(1, images=("1.2.1",)))
    unread = ImageRecord(sop_instance_uid="1.2.1", status=ReadingStatus.NOT_PROCESSED, reason="why")
    other = ImageRecord(sop_instance_uid="1.2.2", status=ReadingStatus.NOTHING_FOUND)
    records.add_report("1.2", report(2).model_copy(update={"images": (unread, other)}))
    record = records.study("1.2")
    assert record is not None
    assert record.images == (unread, other)
    assert record.reports[1].supersedes == 1


def test_images_put_aside_are_tried_again_when_sent_again(records: Records, add) -> None:
    add("1.2.1", "1.2.2")
    failure = Failure(at=NOON, reason="why", images=("1.2.1", "1.2.2"))
    records.add_failure("1.2", failure)
    assert state(records) is StudyState.FAILED
    assert not records.knows("1.2", "1.2.1")
    add("1.2.1")
    assert state(records) is StudyState.RECEIVING
    record = records.study("1.2")
    assert record is not None
    assert record.failures == (failure,)
    assert record.waiting == ("1.2.1",)


def test_tries_are_counted_until_a_report_covers_the_image(records: Records, add) -> None:
    add("1.2.1")
    assert [records.note_try("1.2", "1.2.1") for _ in range(2)] == [1, 2]
    records.add_report("1.2", report())
    assert records.note_try("1.2", "1.2.1") == 1


def test_reports_go_out_in_order_per_study_and_destination(records: Records, add) -> None:
    add("1.2.1")
    records.add_report("1.2", report(1))
    records.add_report("1.2", report(2))
    orders = {(o.number, o.destination) for o in records.deliveries_to_make()}
    assert orders == {(1, "pacs"), (1, "archive")}
    records.set_delivery("1.2", 1, ended("pacs", DeliveryStatus.PARKED))
    orders = {(o.number, o.destination) for o in records.deliveries_to_make()}
    assert orders == {(2, "pacs"), (1, "archive")}


def test_a_try_that_a_resend_overtook_notes_nothing(records: Records, add) -> None:
    add("1.2.1")
    records.add_report("1.2", report())
    [anew] = records.resend("1.2", report=1, destination="pacs")
    assert (anew.status, anew.round, anew.tries) == (DeliveryStatus.PENDING, 2, 0)
    assert not records.set_delivery("1.2", 1, ended("pacs", DeliveryStatus.PARKED))
    assert records.delivery("1.2", 1, "pacs") == anew


def test_what_cannot_be_resent_is_told(records: Records, add) -> None:
    with pytest.raises(RecordsError, match=r"^study 1\.2 is not known here$"):
        records.resend("1.2")
    add("1.2.1")
    with pytest.raises(RecordsError, match=r"^study 1\.2 has no report$"):
        records.resend("1.2")
    records.add_report("1.2", report())
    with pytest.raises(RecordsError, match=r"^study 1\.2 has no report 7$"):
        records.resend("1.2", report=7)
    with pytest.raises(RecordsError, match=r"^study 1\.2 has no report 1 for 'other'$"):
        records.resend("1.2", destination="other")


def test_a_retry_needs_images(records: Records, add) -> None:
    with pytest.raises(RecordsError, match="not known"):
        records.retry("1.2")
    add("1.2.1")
    records.add_report("1.2", report(1))
    records.retry("1.2")
    assert state(records) is StudyState.RECEIVING
    records.add_report("1.2", report(2))
    assert state(records) is StudyState.SENDING
    records.images_removed("1.2")
    record = records.study("1.2")
    assert record is not None
    assert [o.whereabouts for o in record.objects] == [Whereabouts.REMOVED]
    with pytest.raises(RecordsError, match="deleted"):
        records.retry("1.2")


def test_counts_leave_phantoms_out(records: Records, add) -> None:
    for study, origin in (("1.2", Origin.SENT), ("1.3", Origin.PULLED), ("1.4", Origin.PHANTOM)):
        add("1.2.1", study=study, origin=origin)
    records.add_report("1.3", report())
    records.set_delivery("1.3", 1, ended("pacs", DeliveryStatus.SENT))
    records.add_report("1.4", report())
    counts = records.counts()
    assert {s: n for s, n in counts.studies.items() if n} == {StudyState.RECEIVING: 1, StudyState.SENDING: 1}
    assert set(counts.studies) == set(StudyState)
    assert counts.deliveries["pacs"] == {"pending": 0, "sent": 1, "parked": 0, "withheld": 0}
    assert counts.deliveries["archive"]["pending"] == 1
    assert {r.study_instance_uid for r in records.studies()} == {"1.2", "1.3"}
    assert len(records.studies(phantoms=True)) == 3
    assert [r.study_instance_uid for r in records.studies(state=StudyState.SENDING)] == ["1.3"]
    assert len(records.studies(limit=1)) == 1


def test_forgetting_leaves_nothing(records: Records, add) -> None:
    add("1.2.1")
    records.add_report("1.2", report())
    records.add_failure("1.2", Failure(at=NOON, reason="why", images=()))
    records.forget("1.2")
    with records._engine.connect() as connection:
        names = sa.inspect(connection).get_table_names()
        left = {
            n: connection.exec_driver_sql(f"SELECT count(*) FROM {n}").scalar() for n in names if "version" not in n
        }
    assert set(left.values()) == {0}


def test_a_worker_beats_until_it_signs_off(records: Records) -> None:
    records.beat("a", "host", 7)
    records.beat("a", "host", 7)
    [worker] = records.workers()
    assert (worker.name, worker.host, worker.process, worker.beats) == ("a", "host", 7, 1)
    records.sign_off("a")
    assert records.workers() == ()


def test_databases_that_cannot_be_used_are_told_without_the_password(tmp_path: Path) -> None:
    (tmp_path / "node.sqlite").write_bytes(b"not a database, but long enough to be taken for a damaged one" * 20)
    with pytest.raises(DatabaseError, match="file is not a database"):
        Records.open(tmp_path)
    with pytest.raises(DatabaseError, match="not mysql"):
        Records.open(tmp_path, "mysql://me:secret@host/name")
    with pytest.raises(DatabaseError) as told:
        Records.open(tmp_path, "postgresql://me:secret@127.0.0.1:1/name")
    assert "secret" not in str(told.value)
    assert "127.0.0.1" in str(told.value)


def test_a_full_disk_is_told_as_one_at_the_start(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))  # as a disk that takes some pages and then no more
    try:
        with pytest.raises(DatabaseError, match=r"node\.sqlite cannot be used \(.*: make room on it"):
            Records.open(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_study_that_waits_past_its_time_is_found(records: Records, add) -> None:
    assert records.overdue_studies(LATER) == (0, None)
    add("1.2.1", "1.2.2")
    add("1.4.1", study="1.4", origin=Origin.PULLED)
    add("1.5.1", study="1.5", origin=Origin.PHANTOM)
    assert records.overdue_studies(NOON - timedelta(seconds=1)) == (0, None)
    assert records.overdue_studies(LATER) == (1, NOON)
    records.begin_reading("1.2", 1)
    assert records.overdue_studies(LATER) == (1, NOON)
    records.add_report("1.2", report())
    assert records.overdue_studies(LATER) == (1, NOON)
    records.add_report("1.2", report(2, images=("1.2.2",)))
    assert records.overdue_studies(LATER) == (0, None)


def test_a_destination_at_which_nothing_moves_is_found(records: Records, add) -> None:
    add("1.2.1")
    records.add_report("1.2", report())
    assert records.standstills(NOON - timedelta(seconds=1)) == ()
    assert records.standstills(NOON) == (("archive", 1), ("pacs", 1))
    records.set_delivery("1.2", 1, ended("archive", DeliveryStatus.SENT))
    waits = DeliveryRecord(destination="pacs", tries=1, next_try_at=LATER)
    records.set_delivery("1.2", 1, waits)
    assert records.standstills(NOON + timedelta(minutes=59)) == ()
    assert records.standstills(LATER) == (("pacs", 1),)
    add("1.3.1", study="1.3")
    records.add_report("1.3", report(images=("1.3.1",)))
    sent = ended("pacs", DeliveryStatus.SENT).model_copy(update={"ended_at": LATER + timedelta(minutes=5)})
    records.set_delivery("1.3", 1, sent)  # something else came to its end there: it moves
    records.set_delivery("1.3", 1, ended("archive", DeliveryStatus.SENT))
    assert records.standstills(LATER) == ()
    assert records.standstills(LATER + timedelta(minutes=5)) == (("pacs", 1),)


def test_a_connection_that_could_be_opened_for_reading_only_is_replaced(
    tmp_path: Path, records: Records, add, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What SQLite does by itself where the file cannot be opened to be written for a moment."""
    records.close()
    connect = sqlite3.connect
    for_reading = f"file:{tmp_path / 'node.sqlite'}?mode=ro"
    with monkeypatch.context() as trouble:
        # The module of the dialect holds this very one.
        trouble.setattr("sqlite3.dbapi2.connect", lambda *_, **options: connect(for_reading, uri=True, **options))
        with pytest.raises(OperationalError, match="readonly database"):
            add("1.2.1")
    add("1.2.1")
    assert records.knows("1.2", "1.2.1")


def test_of_a_study_that_goes_on_for_ever_the_last_reports_are_told(records: Records, add) -> None:
    images = [f"1.2.{number}" for number in range(1, 15)]
    for number, image in enumerate(images, start=1):
        add(image)
        covers = tuple(images[:number]) if number < 12 else ()  # the last are a reader's, which cover none
        records.add_report("1.2", report(number, covers))
        records.add_failure("1.2", Failure(at=NOON, reason=f"failure {number}", images=()))
    add("1.9.1", study="1.9")
    records.add_report("1.9", report(1, ("1.9.1",)))
    other, study = (record for record in sorted(records.studies(), key=lambda r: len(r.objects)))
    assert [r.number for r in other.reports] == [1]
    assert [r.number for r in study.reports] == list(range(5, 15))
    assert [len(r.images) for r in study.reports] == [5, 6, 7, 8, 9, 10, 11, 0, 0, 0]
    assert all(len(r.deliveries) == 2 and r.deliveries[0].objects and r.results for r in study.reports)
    assert [f.reason for f in study.failures] == [f"failure {number}" for number in range(5, 15)]
    assert (study.earlier_reports, study.earlier_failures) == (4, 4)
    assert {image.sop_instance_uid for image in study.images} == set(images[:11])
    for number in range(15, 25):
        records.add_report("1.2", report(number, ()))
    told = records.study("1.2")
    assert told is not None
    assert [r.number for r in told.reports] == [11, *range(15, 25)]
    assert len(told.images) == 11
    assert records.series_began("1.2") == {}
    assert list(records.each_study(5)) == list(records.studies())


def test_what_is_known_of_a_study_can_be_asked_for_without_all_the_rest(records: Records, add) -> None:
    add("1.2.1", "1.2.2", "1.2.3")
    records.add_report("1.2", report(1, ("1.2.1",)))
    records.add_failure("1.2", Failure(at=NOON, reason="odd", images=("1.2.3",)))
    assert records.known_objects("1.2", put_aside=False) == {"1.2.1", "1.2.2", "1.3.1"}
    assert records.known_objects("1.2", put_aside=True) == {"1.2.1", "1.2.2", "1.2.3", "1.3.1"}
    assert records.covered_images("1.2") == {"1.2.1"}
    assert records.has_images("1.2", 3)
    assert not records.has_images("1.2", 4)
    assert not records.has_images("1.9", 1)
