from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mammoscope.node.events import (
    AssociationRefused,
    Event,
    ImageRead,
    NodeStarted,
    ObjectReceived,
    Origin,
    ReportParked,
    ReportSent,
    SendingFailed,
    StudyFailed,
    StudyRead,
)
from mammoscope.node.monitoring.metrics import MOST_VALUES, Metrics, NodeState, PhantomState
from mammoscope.reasons import ReasonCode

AT = datetime(2026, 1, 2, tzinfo=UTC)  # 1767312000 s after 1970
STATE = NodeState(
    studies={"waiting": 2, "done": 5},
    deliveries={"pacs": {"pending": 3, "sent": 4}, "archive": {"pending": 0}},
    workers=1,
    free_bytes=123_456,
    phantom=PhantomState(AT, came_round=True, hops={"read": 1.5}),
    certificate_expires=AT,
)


def values(metrics: Metrics) -> dict[str, float]:
    """Each sample of the page as Prometheus reads it: its name and the values of its labels by the labels' names."""
    return {
        sample.name + "".join(f"|{value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.page().decode())
        for sample in family.samples
    }


def image(scanner: str = "Acme X", findings: int = 1, reason: str | None = None, **more: object) -> ImageRead:
    return ImageRead(
        study="1", sop_instance="2", scanner=scanner, findings=findings, reason=reason, seconds=0.4, **more
    )


def received(outcome: str, origin: Origin = Origin.SENT) -> ObjectReceived:
    return ObjectReceived(
        study="1", sop_instance="2", sop_class="3", peer="A", address="10.0.0.1", outcome=outcome, origin=origin
    )


def test_the_page_says_how_the_node_stands():
    page = values(Metrics(lambda: STATE))

    assert page["mammoscope_state_known"] == 1
    assert page["mammoscope_studies|waiting"] == 2
    assert page["mammoscope_studies|done"] == 5
    assert page["mammoscope_deliveries|pacs|pending"] == 3
    assert page["mammoscope_deliveries|pacs|sent"] == 4
    assert page["mammoscope_deliveries|archive|pending"] == 0
    assert page["mammoscope_workers_alive"] == 1
    assert page["mammoscope_disk_free_bytes"] == 123_456
    assert page["mammoscope_certificate_expires_timestamp_seconds"] == 1767312000
    assert page["mammoscope_phantom_came_round"] == 1
    assert page["mammoscope_phantom_sent_timestamp_seconds"] == 1767312000
    assert page["mammoscope_phantom_hop_seconds|read"] == 1.5


def test_events_are_counted():
    metrics = Metrics(lambda: STATE)
    for event in (
        received("stored"),
        received("stored"),
        received("refused"),
        received("stored", Origin.PULLED),
        AssociationRefused(peer="EVE", address="10.0.0.9", reason="unknown"),
        image(findings=0),
        image(findings=2),
        image("Other Y", findings=7),
        image(reason="The breast has an implant that is not displaced.", reason_code=ReasonCode.IMPLANT),
        StudyRead(study="1", report=1, images=4, findings=2, not_processed=0, seconds=3.0, waited_seconds=40.0),
        StudyFailed(study="1", reason="x"),
        SendingFailed(study="1", report=1, destination="pacs", tries=1, reason="down"),
        ReportSent(study="1", report=1, destination="pacs", sop_instances=(), tries=2, seconds=7.0),
        ReportParked(study="1", report=1, destination="archive", tries=2, reasons=()),
    ):
        metrics(event)
    page = values(metrics)

    assert page["mammoscope_objects_received_total|sent|stored"] == 2
    assert page["mammoscope_objects_received_total|sent|refused"] == 1
    assert page["mammoscope_objects_received_total|pulled|stored"] == 1
    assert page["mammoscope_associations_refused_total"] == 1
    assert page["mammoscope_findings_per_image_count|Acme X"] == 2
    assert page["mammoscope_findings_per_image_sum|Acme X"] == 2
    assert page["mammoscope_findings_per_image_bucket|0.0|Acme X"] == 1
    assert page["mammoscope_findings_per_image_sum|Other Y"] == 7
    assert page["mammoscope_images_not_processed_total|implant"] == 1
    assert page["mammoscope_image_seconds_count"] == 3
    assert page["mammoscope_image_seconds_sum"] == pytest.approx(1.2)
    assert page["mammoscope_reports_made_total|sent"] == 1
    assert page["mammoscope_hop_seconds_sum|wait"] == 40
    assert page["mammoscope_hop_seconds_sum|read"] == 3
    assert page["mammoscope_hop_seconds_sum|send"] == 7
    assert page["mammoscope_studies_failed_total|other"] == 1
    assert page["mammoscope_sending_failures_total|pacs"] == 1
    assert page["mammoscope_reports_sent_total|pacs"] == 1
    assert page["mammoscope_reports_parked_total|archive"] == 1


def test_a_phantom_is_not_counted_among_patients():
    metrics = Metrics(lambda: STATE)
    before = values(metrics)
    phantom: list[Event] = [
        received("stored", Origin.PHANTOM),
        image(origin=Origin.PHANTOM),
        image(reason="x", origin=Origin.PHANTOM),
        StudyRead(
            study="1", report=1, images=4, findings=2, not_processed=0, seconds=3, waited_seconds=4,
            origin=Origin.PHANTOM,
        ),
        ReportSent(
            study="1", report=1, destination="d", sop_instances=(), tries=1, seconds=1, origin=Origin.PHANTOM
        ),
    ]  # fmt: skip
    for event in phantom:
        metrics(event)
    assert values(metrics) == before


def test_no_sender_can_fill_the_memory_with_labels():
    metrics = Metrics(lambda: STATE)
    for number in range(MOST_VALUES + 7):
        metrics(image(f"scanner {number}"))
        metrics(image(reason=f"1.2.3.{number}: no such thing as {number}"))
    metrics(image("scanner 0"))
    page = values(metrics)

    assert page["mammoscope_findings_per_image_count|other"] == 7
    assert page["mammoscope_findings_per_image_count|scanner 0"] == 2
    assert page["mammoscope_images_not_processed_total|other"] == MOST_VALUES + 7


def test_codes_alone_stand_on_a_page_that_asks_for_no_token():
    metrics = Metrics(lambda: STATE)
    metrics(image(reason="1.2.840.99 of DOE^JANE cannot be decoded.", reason_code=ReasonCode.NOT_DECODABLE))
    metrics(StudyFailed(study="1", reason="1.2.840.98 of DOE^JANE", reason_code=ReasonCode.SEVERAL_PATIENTS))
    page = values(metrics)
    assert page["mammoscope_images_not_processed_total|not decodable"] == 1
    assert page["mammoscope_studies_failed_total|several patients"] == 1
    assert b"1.2.840" not in metrics.page()
    codes = {name.partition("|")[2] for name in page if name.startswith("mammoscope_images_not_processed_total")}
    assert codes == set(ReasonCode)  # each there from the start: what begins at 1 is no increase


def test_the_counters_are_read_even_if_the_database_does_not_answer():
    def broken() -> NodeState:
        raise OSError("no database")

    metrics = Metrics(broken)
    metrics(NodeStarted(version="1", algorithm="m 2"))
    page = values(metrics)
    assert page["mammoscope_state_known"] == 0
    assert page["mammoscope_starts_total|m 2|1"] == 1
    assert "mammoscope_workers_alive" not in page
