"""How `0.1.0.sql` was made: by Mammoscope 0.1.0 (commit 73fda62), a study in each state, no patient's data.

git worktree add ../old 73fda62
PYTHONPATH=../old/src python tests/node/db/data/make_0_1_0.py > tests/node/db/data/0.1.0.sql
"""

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from mammoscope.findings import ReadingStatus
from mammoscope.node.records import (
    DeliveryRecord,
    DeliveryStatus,
    Failure,
    ImageRecord,
    Records,
    Report,
    ResultRecord,
    SendingRecord,
)

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def report(image: str, result: str) -> Report:
    pending = (SendingRecord(sop_instance_uid=result, status=DeliveryStatus.PENDING),)
    return Report(
        number=1,
        made_at=NOON,
        algorithm="mammoscope-mass 0.1.0+701a4472",
        seconds=1.5,
        waited_seconds=30.0,
        images=(ImageRecord(sop_instance_uid=image, status=ReadingStatus.FOUND, findings=2),),
        results=(ResultRecord(sop_class_uid="1.9", sop_instance_uid=result, series_instance_uid="1.7", kind="cad-sr"),),
        deliveries=(DeliveryRecord(destination="pacs", objects=pending),),
        problems=("an image is odd",),
    )


def ended(result: str, status: DeliveryStatus, *errors: str) -> DeliveryRecord:
    sent = SendingRecord(sop_instance_uid=result, status=status, error=errors[0] if errors else None)
    return DeliveryRecord(destination="pacs", status=status, tries=1, ended_at=NOON, objects=(sent,), errors=errors)


with TemporaryDirectory() as folder:
    with Records.open(Path(folder)) as records:
        for number, state in enumerate(("receiving", "reading", "sending", "done", "parked", "failed"), start=1):
            study, image, result = f"1.2.{number}", f"1.2.{number}.1", f"1.3.{number}"
            records.add_object(study, image, "1.2.840.10008.5.1.4.1.1.1.2", peer="MODALITY", at=NOON)
            if state == "receiving":
                continue
            [attempt] = [order.attempt for order in records.studies_to_read() if order.study == study]
            records.begin_reading(study, attempt)
            records.note_try(study, image)
            if state == "reading":
                continue
            if state == "failed":
                records.add_failure(study, Failure(at=NOON, reason="no object could be made", images=(image,)))
                records.end_attempt(study, attempt)
                continue
            records.add_report(study, report(image, result), digests={image: "1.2.840.10008.1.2.1 abc"})
            records.end_attempt(study, attempt)
            if state == "done":
                records.set_delivery(study, 1, ended(result, DeliveryStatus.SENT))
            if state == "parked":
                records.set_delivery(study, 1, ended(result, DeliveryStatus.PARKED, "0xA700"))
        states = {record.study_instance_uid: record.state for record in records.studies()}
        assert len(set(states.values())) == 6, states
    with sqlite3.connect(Path(folder) / "node.sqlite") as database:
        print("\n".join(database.iterdump()))
