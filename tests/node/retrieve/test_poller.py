import json
import threading
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

import pytest

from mammoscope.network import (
    Destination,
    FoundStudy,
    NetworkError,
    PeerUnreachableError,
    Receipt,
    ReceivedObject,
    Retrieval,
    StorageClient,
    StorageService,
)
from mammoscope.node.events import Origin
from mammoscope.node.retrieve.history import PullLedger
from mammoscope.node.retrieve.poller import Poller, Pulled, Puller, origin_of

ALL = {"ModalitiesInStudy": "MG"}
DAY = date(2026, 3, 10)


class Shelf:
    """An archive in this process: the number of objects of each study, and of those that do not come."""

    name = "shelf"
    failures_last = False

    def __init__(self, **studies: int) -> None:
        self.studies = dict(studies)
        self.fetched: list[str] = []
        self.asked: list[tuple[Mapping[str, str], date, date | None]] = []
        self.trouble: dict[str, NetworkError] = {}
        self.kept_back: dict[str, int] = {}
        self.ours: frozenset[str] = frozenset()

    def find(self, where: Mapping[str, str], since: date, until: date | None) -> Iterable[FoundStudy]:
        self.asked.append((where, since, until))
        if "find" in self.trouble:
            raise self.trouble["find"]
        return [FoundStudy(uid, instances=objects) for uid, objects in self.studies.items()]

    def instances(self, study: str) -> frozenset[str]:
        if "instances" in self.trouble:
            raise self.trouble["instances"]
        return frozenset(f"{study}.{number}" for number in range(self.studies[study])) | self.ours

    def fetch(self, study: str) -> Retrieval:
        if study in self.trouble:
            raise self.trouble[study]
        self.fetched.append(study)
        kept_back = self.kept_back.get(study, 0)
        return Retrieval(self.studies[study] - kept_back, kept_back)


@pytest.fixture
def ledger(tmp_path) -> PullLedger:
    return PullLedger(tmp_path / "pulled", "shelf")


def pull_all(puller: Puller):
    return list(puller.pull(puller.find(ALL, DAY)))


def test_each_study_is_fetched_once(tmp_path, ledger):
    shelf = Shelf(a=4, b=5)
    assert [(p.study, p.objects, p.error) for p in pull_all(Puller(shelf, ledger))] == [("a", 4, None), ("b", 5, None)]
    assert pull_all(Puller(shelf, ledger)) == []
    # and so it is after a restart
    shelf.studies["c"] = 4
    again = Puller(shelf, PullLedger(tmp_path / "pulled", "shelf"))
    assert [pulled.study for pulled in pull_all(again)] == ["c"]
    assert shelf.fetched == ["a", "b", "c"]


def found(shelf, study):
    """A match whose count has our results too, where they lie there."""
    return FoundStudy(study, instances=len(shelf.instances(study)))


def test_a_study_that_grew_is_fetched_again_but_not_for_our_own_results(ledger):
    """However many results were made and wherever they went: instances are compared, not numbers."""
    shelf, made = Shelf(a=4), {"r1", "r2", "r3"}
    puller = Puller(shelf, ledger, known=lambda _: made)
    pull_all(puller)

    shelf.studies["a"] = 5  # a late image, while our three results went elsewhere
    assert [pulled.objects for pulled in puller.pull([found(shelf, "a")])] == [5]
    shelf.ours = frozenset(("r1", "r2"))  # two of them come to the archive after all
    assert not puller._is_news(found(shelf, "a"))
    assert ledger.fetched("a") == 7  # and nobody asks again until the number changes
    shelf.ours, shelf.studies["a"] = frozenset(("r1",)), 6  # one was deleted there, one image is new
    assert shelf.instances("a") == {*(f"a.{n}" for n in range(6)), "r1"}
    shelf.studies["a"] = 7
    assert puller._is_news(found(shelf, "a"))


def test_one_object_gone_and_another_come_is_news_though_there_are_as_many(ledger):
    """Within ten minutes, for each look is a query; a puller of another process looks at once."""
    now = [0.0]
    shelf = Shelf(a=3)
    shelf.ours = frozenset(("x",))
    puller = Puller(shelf, ledger, clock=lambda: now[0])
    assert [pulled.error for pulled in puller.pull([found(shelf, "a")])] == [None]
    assert not puller._is_news(found(shelf, "a"))
    shelf.ours = frozenset(("y",))  # as many as before
    assert not puller._is_news(found(shelf, "a"))
    now[0] += 600
    assert puller._is_news(found(shelf, "a"))
    assert Puller(shelf, ledger)._is_news(found(shelf, "a"))
    assert Puller(shelf, ledger)._is_news(FoundStudy("a"))  # of an archive that does not say how many
    assert [pulled.error for pulled in puller.pull([found(shelf, "a")])] == [None]
    assert not Puller(shelf, ledger)._is_news(found(shelf, "a"))


def test_a_ledger_of_the_version_before_is_compared_by_what_is_here(ledger):
    shelf = Shelf(a=4)
    ledger._add({"study": "a", "objects": -2})
    held = {f"a.{number}" for number in range(4)}
    assert not Puller(shelf, ledger, known=lambda _: held)._is_news(found(shelf, "a"))
    shelf.studies["a"] = 5
    assert Puller(shelf, ledger, known=lambda _: held)._is_news(found(shelf, "a"))


def test_an_archive_that_lists_no_instances_is_asked_again_when_it_has_more(ledger):
    shelf = Shelf(a=4)
    puller = Puller(shelf, ledger)
    match = found(shelf, "a")
    shelf.trouble["instances"] = NetworkError("no such level")
    assert [pulled.objects for pulled in puller.pull([match])] == [4]
    assert not puller._is_news(match)
    assert puller._is_news(FoundStudy("a", instances=5))


def test_an_archive_that_does_not_say_how_many_is_asked_once(ledger):
    puller = Puller(Shelf(a=4), ledger)
    assert [pulled.objects for pulled in puller.pull([FoundStudy("a")])] == [4]
    assert not puller._is_news(FoundStudy("a"))


def test_one_study_that_cannot_be_fetched_does_not_keep_the_others(ledger):
    shelf = Shelf(a=4, b=4, c=4)
    shelf.trouble["b"] = NetworkError("b did not come")
    puller = Puller(shelf, ledger)
    assert [(p.study, p.error) for p in pull_all(puller)] == [
        ("a", None), ("b", "b did not come"), ("c", None)
    ]  # fmt: skip
    shelf.trouble.clear()
    assert [pulled.study for pulled in pull_all(puller)] == ["b"]


def test_an_archive_that_is_gone_ends_it_and_what_was_fetched_stays_fetched(ledger):
    shelf = Shelf(a=4, b=4, c=4)
    shelf.trouble["b"] = PeerUnreachableError("gone")
    puller = Puller(shelf, ledger)
    with pytest.raises(PeerUnreachableError, match="gone"):
        pull_all(puller)
    assert shelf.fetched == ["a"]
    shelf.trouble.clear()
    assert [pulled.study for pulled in pull_all(puller)] == ["b", "c"]


def test_what_an_archive_keeps_back_is_asked_for_three_times(ledger):
    shelf = Shelf(a=4)
    shelf.kept_back["a"] = 1
    puller = Puller(shelf, ledger)
    for _ in range(2):
        [pulled] = pull_all(puller)
        assert (pulled.objects, pulled.error) == (3, "1 of 4 objects did not come")
    assert pull_all(puller) == [Pulled("a", 3, refused=1)]
    assert pull_all(puller) == []

    shelf.studies["a"] = 5  # a new object begins it anew
    assert pull_all(puller)[0].error is not None


@pytest.mark.parametrize("failures_last", [False, True])
def test_a_study_of_which_nothing_came_is_not_done(ledger, failures_last):
    """As by C-GET from an archive that gives none of a study with one object that it cannot send."""
    shelf = Shelf(a=6)
    shelf.kept_back["a"], shelf.failures_last = 6, failures_last
    for _ in range(4):
        assert pull_all(Puller(shelf, ledger)) == [Pulled("a", 0, error="6 of 6 objects did not come")]
    assert ledger.fetched("a") is None


def test_what_the_node_does_not_take_is_not_asked_for_again(ledger):
    shelf = Shelf(a=4)
    shelf.kept_back["a"] = 1
    shelf.failures_last = True
    assert pull_all(Puller(shelf, ledger)) == [Pulled("a", 3, refused=1)]
    assert pull_all(Puller(shelf, ledger)) == []


def test_older_studies_come_first(ledger):
    shelf = Shelf()
    shelf.find = lambda *_: [FoundStudy("b", "20260301"), FoundStudy("a", "20260301"), FoundStudy("c", "20251224")]
    assert [study.study_instance_uid for study in Puller(shelf, ledger).find(ALL, DAY)] == ["c", "a", "b"]


def test_where_nothing_comes_at_all_it_is_asked_again_and_again(ledger):
    shelf = Shelf(a=4)
    shelf.kept_back["a"] = 4
    for _ in range(5):
        assert pull_all(Puller(shelf, ledger)) == [Pulled("a", error="4 of 4 objects did not come")]


def test_it_waits_while_the_node_is_busy(ledger):
    asked: list[int] = []
    told: list[str] = []

    def busy() -> str | None:
        asked.append(len(shelf.fetched))
        return "20 studies wait" if len(asked) in (1, 2, 4) else None

    shelf = Shelf(a=4, b=4, c=4)
    puller = Puller(shelf, ledger, busy=busy, look_again_seconds=0.01)
    assert len(list(puller.pull(puller.find(ALL, DAY), told.append))) == 3
    assert asked == [0, 0, 0, 1, 1, 2]
    assert told == ["20 studies wait"] * 2


def test_stopping_ends_the_waiting(ledger):
    shelf, stopping = Shelf(a=4), threading.Event()
    puller = Puller(shelf, ledger, busy=lambda: "the disk is full", stopping=stopping)
    done: list[object] = []
    thread = threading.Thread(target=lambda: done.append(pull_all(puller)))
    thread.start()
    stopping.set()
    thread.join(60)
    assert done == [[]]
    assert shelf.fetched == []


def poller(shelf: Shelf, ledger: PullLedger, today: date, **options: object) -> Poller:
    return Poller(Puller(shelf, ledger, **options), ALL, 0.01, today=lambda: today)


def test_a_poll_asks_from_the_last_complete_one(ledger):
    shelf = Shelf(a=4)
    poller(shelf, ledger, DAY).poll()
    assert shelf.asked == [(ALL, date(2026, 3, 8), None)]
    assert ledger.polled == DAY

    shelf.studies["b"] = 4
    shelf.trouble["b"] = NetworkError("not now")
    poller(shelf, ledger, date(2026, 3, 20)).poll()  # ten days later, and incomplete
    poller(shelf, ledger, date(2026, 3, 21)).poll()
    assert [since for _, since, _ in shelf.asked[1:]] == [date(2026, 3, 8)] * 2
    assert ledger.polled == DAY

    shelf.trouble.clear()
    poller(shelf, ledger, date(2026, 3, 22)).poll()
    assert ledger.polled == date(2026, 3, 22)
    assert shelf.fetched == ["a", "b"]


def test_a_clock_that_once_was_ahead_hides_nothing(ledger):
    shelf = Shelf()
    poller(shelf, ledger, date(2031, 1, 1)).poll()
    poller(shelf, ledger, DAY).poll()
    assert shelf.asked[-1][1] == date(2026, 3, 8)


def test_a_poll_that_was_stopped_is_not_complete(ledger):
    stopping = threading.Event()
    shelf = Shelf(a=4, b=4)
    fetch = shelf.fetch

    def fetch_and_stop(study: str) -> Retrieval:
        stopping.set()
        return fetch(study)

    shelf.fetch = fetch_and_stop
    poller(shelf, ledger, DAY, stopping=stopping).poll()
    assert shelf.fetched == ["a"]
    assert ledger.polled is None


def test_the_thread_goes_on_after_trouble_until_it_is_stopped(ledger, wait_until):
    shelf = Shelf(a=4)
    shelf.trouble["find"] = PeerUnreachableError("gone")
    polling = poller(shelf, ledger, DAY)
    polling.start()
    wait_until(lambda: len(shelf.asked) >= 3)
    shelf.trouble["find"] = ZeroDivisionError("a fault of ours")
    seen = len(shelf.asked)
    wait_until(lambda: len(shelf.asked) >= seen + 3)
    shelf.trouble.clear()
    wait_until(lambda: shelf.fetched == ["a"])
    polling.stop()
    assert not polling._thread.is_alive()


def test_two_ledgers_of_one_archive_agree(tmp_path):
    of_the_node, of_the_command = (PullLedger(tmp_path, "shelf") for _ in range(2))
    of_the_node.note_fetched("1.2", 4)
    assert of_the_command.fetched("1.2") == 4
    of_the_command.note_fetched("1.2", 5)
    of_the_command.note_polled(DAY)
    assert of_the_node.fetched("1.2") == 5
    assert of_the_node.polled == DAY
    assert PullLedger(tmp_path, "another").fetched("1.2") is None


@pytest.mark.parametrize("cut", [b'{"study": "1.3", "obj', b"\xff\xfe", b'["1.3"]', b'{"polled": "tomorrow"}'])
def test_a_line_cut_short_costs_that_line_only(tmp_path, cut):
    ledger = PullLedger(tmp_path, "shelf")
    ledger.note_fetched("1.2", 4)
    with ledger.file.open("ab") as file:
        file.write(cut)
    again = PullLedger(tmp_path, "shelf")
    assert again.fetched("1.2") == 4
    assert again.fetched("1.3") is None
    again.note_fetched("1.4", 6)
    assert PullLedger(tmp_path, "shelf").fetched("1.4") == 6
    assert json.loads(ledger.file.read_text(errors="replace").splitlines()[-1]) == {
        "study": "1.4",
        "objects": 6,
        "instances": [],
    }


def test_a_name_with_a_slash_is_a_file_all_the_same(tmp_path):
    assert PullLedger(tmp_path, "../pacs/1").file.parent == tmp_path


def test_whatever_bears_our_own_title_as_originator_was_pulled():
    def received(originator: str) -> ReceivedObject:
        return ReceivedObject(Path("x"), "1", "1", "1", "MG", "ARCHIVE", move_originator=originator)

    assert origin_of(received("NODE"), "NODE") is Origin.PULLED
    assert origin_of(received("OTHER"), "NODE") is Origin.SENT
    assert origin_of(received(""), "NODE") is Origin.SENT


def test_the_originator_crosses_the_network(tmp_path, images):
    arrived: list[ReceivedObject] = []

    def receive(received: ReceivedObject) -> Receipt:
        arrived.append(received)
        return Receipt.IGNORED

    with StorageService("NODE", tmp_path / "incoming", receive, port=0) as service:
        node = Destination("node", "NODE", "127.0.0.1", service.port)
        for originator in ("NODE", None):
            StorageClient("ARCHIVE", move_originator=originator).send(images[:1], node)
    assert [origin_of(received, "NODE") for received in arrived] == [Origin.PULLED, Origin.SENT]
    assert {received.calling_ae_title for received in arrived} == {"ARCHIVE"}
