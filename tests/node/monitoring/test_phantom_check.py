"""Rounds of a phantom through a node of a few lines: real network and database, and a reader that finds nothing."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from pydicom import FileDataset

from mammoscope.findings import ReadingStatus
from mammoscope.network import Destination, Receipt, ReceivedObject, StorageClient, StorageService
from mammoscope.node.db.repository import (
    DeliveryRecord,
    DeliveryStatus,
    Failure,
    ImageRecord,
    Records,
    Report,
    ResultRecord,
    SendingRecord,
)
from mammoscope.node.events import Origin
from mammoscope.node.monitoring.phantom_check import (
    PHANTOM_DESTINATION,
    PHANTOM_ROOT,
    LastRound,
    PhantomRounds,
    RoundNode,
    phantom_images,
)
from mammoscope.settings import NodeSettings


def small_images(study: str) -> list[FileDataset]:
    return phantom_images(study, rows=256, columns=192)


class SmallNode:
    """Receives, notes a report of four images, and sends the first image back as the result of all."""

    def __init__(self, settings: NodeSettings, records: Records) -> None:
        self._settings = settings
        self._records = records
        self.sends_back = True
        self.status = ReadingStatus.FOUND
        self.fails: str | None = None
        self.forgotten: list[str] = []
        self._kept: list[ReceivedObject] = []
        self._result = settings.node.storage / "result.dcm"
        self._service = StorageService("NODE", settings.node.storage / "in", self._receive, allowed_callers=("NODE",))

    @contextmanager
    def running(self) -> Iterator[RoundNode]:
        with self._service:
            yield self.at(self._service.port)

    def at(self, port: int, ae_title: str = "NODE") -> RoundNode:
        return RoundNode(Destination("node", ae_title, "127.0.0.1", port), self._records, self.forget)

    def forget(self, study: str) -> None:
        self.forgotten.append(study)
        self._records.forget(study)

    def _receive(self, received: ReceivedObject) -> Receipt:
        study = received.study_instance_uid
        self._records.add_object(
            study, received.sop_instance_uid, received.sop_class_uid, peer="NODE", origin=Origin.PHANTOM
        )
        if not self._kept:
            self._result.write_bytes(received.path.read_bytes())
        self._kept.append(received)
        if len(self._kept) == 4:
            threading.Thread(target=self._answer, args=(study,)).start()
        return Receipt.STORED

    def _answer(self, study: str) -> None:
        images = tuple(o.sop_instance_uid for o in self._kept)
        result = images[0]
        self._kept = []
        if self.fails:
            self._records.add_failure(study, Failure(at=datetime.now(UTC), reason=self.fails, images=images))
            return
        pending = SendingRecord(sop_instance_uid=result, status=DeliveryStatus.PENDING)
        reason = "too dark" if self.status is ReadingStatus.NOT_PROCESSED else None
        report = Report(
            number=1, made_at=datetime.now(UTC), algorithm="none 1", seconds=1.25, waited_seconds=0.5,
            images=tuple(
                ImageRecord(sop_instance_uid=i, status=self.status, findings=1, reason=reason) for i in images
            ),
            results=(ResultRecord(sop_class_uid="1.9", sop_instance_uid=result),),
            deliveries=(DeliveryRecord(destination=PHANTOM_DESTINATION, objects=(pending,)),),
        )  # fmt: skip
        self._records.add_report(study, report)
        if not self.sends_back:
            return
        back = Destination("back", "NODE", self.back.host, self.back.port)
        (sending,) = StorageClient("NODE").send([self._result], back)
        assert sending.error is None
        sent = pending.model_copy(update={"status": DeliveryStatus.SENT})
        delivered = report.deliveries[0].model_copy(update={"status": DeliveryStatus.SENT, "objects": (sent,)})
        self._records.set_delivery(study, 1, delivered)


@pytest.fixture
def settings(make_settings: Callable[..., NodeSettings]) -> NodeSettings:
    made = make_settings(1)
    made.node.storage.mkdir()
    return NodeSettings(**{**made.model_dump(), "health": {"deadline_seconds": 120.0}})


@pytest.fixture
def records(settings: NodeSettings) -> Iterator[Records]:
    with Records.open(settings.node.storage) as records:
        yield records


@pytest.fixture
def node(settings: NodeSettings, records: Records) -> SmallNode:
    return SmallNode(settings, records)


@pytest.fixture
def rounds(settings: NodeSettings, node: SmallNode) -> Iterator[PhantomRounds]:
    rounds = PhantomRounds(settings, StorageClient("NODE"), small_images)
    rounds.listen()
    node.back = rounds.destination
    yield rounds
    rounds.stop()


def test_a_phantom_goes_round_each_hop_timed_and_leaves_nothing(rounds, node, settings, records, wait_until):
    assert rounds.last is None
    assert rounds.wrong() is None  # it has not begun
    with node.running() as address:
        rounds.start(address)
        wait_until(lambda: rounds.last is not None)
        wait_until(lambda: node.forgotten)
    last = rounds.last
    assert last.came_round, last.reason
    assert last.reason is None
    assert set(last.hops) == {"receive", "wait", "read", "return"}
    assert (last.hops["wait"], last.hops["read"]) == (0.5, 1.25)
    assert last.hops["receive"] > 0
    assert last.findings == 4
    assert rounds.wrong() is None
    assert node.forgotten == [last.study]
    assert records.study(last.study) is None
    wait_until(lambda: not list((settings.node.storage / "phantom").glob(f"{PHANTOM_ROOT}*")))
    assert LastRound(settings.node.storage).load() == last


def test_a_node_that_does_not_answer_is_told(rounds, node, free_port: int):
    done = rounds.once(node.at(free_port))
    assert not done.came_round
    assert done.reason is not None
    assert str(free_port) in done.reason
    rounds.last = done
    assert rounds.wrong() == f"the last phantom did not come round: {done.reason}"


def test_a_node_that_refuses_the_call_is_told(rounds, node):
    with node.running() as address:
        done = rounds.once(node.at(address.address.port, "OTHER"))
    assert not done.came_round
    assert "rejected the association" in done.reason


def test_an_image_that_was_not_processed_is_no_healthy_round(rounds, node):
    node.status = ReadingStatus.NOT_PROCESSED
    with node.running() as address:
        done = rounds.once(address)
    assert (done.came_round, done.reason) == (False, "an image of it was not processed: too dark")


def test_a_study_that_failed_is_told_at_once(rounds, node):
    node.fails = "the model is broken"
    with node.running() as address:
        done = rounds.once(address)
    assert (done.came_round, done.reason) == (False, "it could not be read: the model is broken")


def test_results_that_never_come_back_are_told_after_the_deadline(settings, node):
    node.sends_back = False
    hasty = NodeSettings(**{**settings.model_dump(), "health": {"deadline_seconds": 3.0}})
    rounds = PhantomRounds(hasty, StorageClient("NODE"), small_images)
    rounds.listen()
    try:
        with node.running() as address:
            done = rounds.once(address)
    finally:
        rounds.stop()
    assert not done.came_round
    assert done.reason == "its results were not back after 3 seconds; the study is sending"


def test_a_phantom_that_was_lost_is_forgotten_a_day_later(rounds, node, settings, free_port: int, wait_until):
    folder = settings.node.storage / "phantom"
    lost = f"{PHANTOM_ROOT}.1000000000000"  # of the year 2001
    (folder / lost).touch()
    rounds.start(node.at(free_port))
    wait_until(lambda: rounds.last is not None)
    assert node.forgotten == [lost]
    assert not rounds.last.came_round
    assert [file.name for file in folder.glob(f"{PHANTOM_ROOT}*")] == [rounds.last.study]
