from datetime import UTC, datetime
from pathlib import Path

from mammoscope.findings import ReadingStatus
from mammoscope.node.records import (
    DeliveryRecord,
    DeliveryStatus,
    Failure,
    ImageRecord,
    Records,
    Report,
    ResultRecord,
    StudyRecord,
)


def report(number: int = 1) -> Report:
    return Report(
        number=number,
        made_at=datetime(2026, 1, 2, tzinfo=UTC),
        algorithm="Blob 1.0",
        seconds=1.5,
        images=(ImageRecord(sop_instance_uid=f"1.2.{number}", status=ReadingStatus.FOUND, findings=2),),
        results=(ResultRecord(sop_class_uid="1.9", sop_instance_uid=f"1.3.{number}"),),
        deliveries=(DeliveryRecord(destination="pacs"), DeliveryRecord(destination="archive")),
    )


def test_a_study_never_seen_has_an_empty_record(tmp_path: Path) -> None:
    records = Records(tmp_path)
    assert records.load("1.2") == StudyRecord(study_instance_uid="1.2")
    assert not records.knows("1.2", "1.2.1")
    assert list(tmp_path.iterdir()) == []


def test_what_was_written_is_there_for_the_next_process(tmp_path: Path) -> None:
    Records(tmp_path).add_report("1.2", report(1))
    Records(tmp_path).add_report("1.2", report(2))
    records = Records(tmp_path)
    assert records.load("1.2").reports == (report(1), report(2))
    assert [f.name for f in tmp_path.iterdir()] == ["1.2.json"]


def test_images_read_and_objects_made_are_known(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.add_report("1.2", report())
    assert records.knows("1.2", "1.2.1")
    assert records.knows("1.2", "1.3.1")
    assert not records.knows("1.2", "1.2.2")
    assert not records.knows("1.3", "1.2.1")


def test_a_failure_does_not_make_its_images_known(tmp_path: Path) -> None:
    records = Records(tmp_path)
    failure = Failure(at=datetime(2026, 1, 2, tzinfo=UTC), reason="why", images=("1.2.1",))
    records.add_failure("1.2", failure)
    assert records.load("1.2").failures == (failure,)
    assert not records.knows("1.2", "1.2.1")


def test_a_report_is_pending_until_every_delivery_ended(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.add_report("1.2", report(1))
    records.add_report("1.2", report(2))
    sent = DeliveryRecord(destination="pacs", status=DeliveryStatus.SENT, tries=1)
    failed = DeliveryRecord(destination="archive", status=DeliveryStatus.FAILED, tries=3, errors=("why",))
    assert records.set_delivery("1.2", 2, sent).pending
    assert not records.set_delivery("1.2", 2, failed).pending
    first, second = records.load("1.2").reports
    assert first == report(1)
    assert second.deliveries == (sent, failed)


def test_a_damaged_record_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "1.2.json").write_text('{"study_inst')
    assert Records(tmp_path).load("1.2") == StudyRecord(study_instance_uid="1.2")
    assert [f.name for f in tmp_path.iterdir()] == ["1.2.damaged"]
