"""The reading room's store: what readers did is kept as it was, once, and in order."""

import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from mammoscope.review.errors import ConflictError, NotFoundError, ReviewError
from mammoscope.review.store import (
    ActionKind,
    Opinion,
    Origin,
    Place,
    Progress,
    ProposedBox,
    ReadState,
    ReviewStore,
    SecondReader,
    Sending,
    SourceImage,
    SourceStudy,
    Verdict,
    lesions,
    schema,
)
from mammoscope.review.store.agreement import agreement

BOX = (10.0, 20.0, 110.0, 120.0)
DRAWN = "d" + "0" * 32


def study(key: str = "study", *, version: str = "1", scores: tuple[float, ...] = (0.9, 0.2), **facts) -> SourceStudy:
    boxes = tuple(
        ProposedBox(Origin.MODEL, (10.0 + 200 * place, 20.0, 110.0 + 200 * place, 120.0), "Mass", score)
        for place, score in enumerate(scores)
    )
    image = SourceImage("image", Path("/nowhere/image.dcm"), rows=1000, columns=1000, proposals=boxes)
    return SourceStudy(key, facts.pop("patient", "p1"), datetime(2026, 1, 2, tzinfo=UTC), (image,), version, **facts)


def a_store(folder: Path, second: SecondReader = SecondReader.NONE) -> ReviewStore:
    store = ReviewStore(folder, second)
    store.put([study()])
    return store


_tokens = iter(range(10**9))


def act(store: ReviewStore, reader: str, kind: ActionKind, mark: str = "p1", *, expected: int | None = None, **content):
    number = store.marks(1, reader)[1][0] if expected is None else expected
    return store.act(1, reader, expected=number, token=f"{next(_tokens):032x}", kind=kind, mark=mark, content=content)


def test_each_action_changes_what_it_says_and_undo_takes_it_back(tmp_path: Path):
    store = a_store(tmp_path)
    _, (first, second) = act(store, "Anna", ActionKind.REJECT)
    assert (first.verdict, second.verdict) == (Verdict.REJECTED, None)
    _, (first, _) = act(store, "Anna", ActionKind.MOVE, box=[0, 0, 50, 60])
    assert (first.box.as_tuple(), first.verdict, first.moved) == ((0, 0, 50, 60), Verdict.ACCEPTED, True)
    _, (*_, drawn) = act(store, "Anna", ActionKind.DRAW, DRAWN, box=list(BOX), label="Mass")
    assert (drawn.origin, drawn.verdict, drawn.box.as_tuple()) == (Origin.READER, Verdict.ACCEPTED, BOX)
    _, (*_, drawn) = act(store, "Anna", ActionKind.DESCRIBE, DRAWN, label="Mass", birads="4A", comment="near the wall")
    assert drawn.details == {"birads": "4A", "comment": "near the wall"}
    assert len(act(store, "Anna", ActionKind.REMOVE, DRAWN)[1]) == 2
    for left in (3, 3, 2):  # the removal, the description, the drawing
        number, marks = act(store, "Anna", ActionKind.UNDO)
        assert len(marks) == left
    act(store, "Anna", ActionKind.UNDO)
    number, (first, _) = act(store, "Anna", ActionKind.UNDO)
    assert (first.verdict, first.moved, first.box.as_tuple()) == (None, False, BOX)
    with pytest.raises(ReviewError, match="nothing to undo"):
        act(store, "Anna", ActionKind.UNDO)
    assert [action.number for action in store.history(1)] == list(range(1, number + 1))  # all of it is still there


@pytest.mark.parametrize(
    ("kind", "mark", "why"),
    [
        (ActionKind.ACCEPT, "p99", "not there"),
        (ActionKind.REMOVE, "p1", "rejected, not removed"),
        (ActionKind.DRAW, "p7", "there already"),
        (ActionKind.REMOVE, DRAWN, "not there"),
    ],
)
def test_an_action_that_is_not_possible_is_refused(tmp_path: Path, kind: ActionKind, mark: str, why: str):
    store = a_store(tmp_path)
    with pytest.raises(ReviewError, match=why):
        act(store, "Anna", kind, mark, box=list(BOX), label="Mass")
    with pytest.raises(NotFoundError):
        store.act(99, "Anna", expected=0, token="0" * 32, kind=kind, mark=mark, content={})
    assert store.history(1) == ()


def test_an_action_sent_twice_counts_once_and_two_windows_do_not_overwrite_each_other(tmp_path: Path):
    store = a_store(tmp_path)
    accept = {"token": "a" * 32, "kind": ActionKind.ACCEPT, "mark": "p1", "content": {}}
    once = store.act(1, "Anna", expected=0, **accept)
    assert store.act(1, "Anna", expected=0, **accept) == once
    with pytest.raises(ConflictError, match="another window"):
        act(store, "Anna", ActionKind.REJECT, expected=0)
    with pytest.raises(ReviewError, match="another image"):
        store.act(1, "Bert", expected=0, **accept)
    assert len(store.history(1)) == 1


def test_of_two_at_the_same_moment_one_is_told(tmp_path: Path):
    store = a_store(tmp_path)
    ended: list[str] = []

    def reject(number: int) -> None:
        try:
            store.act(1, "Anna", expected=0, token=f"{number:032x}", kind=ActionKind.REJECT, mark="p1", content={})
            ended.append("kept")
        except ConflictError:
            ended.append("told")

    threads = [threading.Thread(target=reject, args=(10**9 + number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["kept"] + ["told"] * 7
    assert len(store.history(1)) == 1


def test_whoever_is_done_accepts_what_is_on_the_screen_and_nothing_below_it(tmp_path: Path):
    store = a_store(tmp_path)
    assert store.finish(1, "Anna", ReadState.DONE, shown_from=0.5) is Progress.READ
    truth = store.truth(1)
    assert truth.readers == ("Anna",)
    assert [mark.verdict for mark in truth.marks[1]] == [Verdict.ACCEPTED, None]
    assert store.history(1)[0].content == {"at_the_end": True, "shown_from": 0.5}
    with pytest.raises(ConflictError, match="ended this reading"):
        act(store, "Anna", ActionKind.REJECT)
    store.finish(1, "Anna", ReadState.OPEN)
    act(store, "Anna", ActionKind.REJECT)
    with pytest.raises(ConflictError, match="another window"):
        store.finish(1, "Anna", ReadState.DONE, known={1: 1})
    with pytest.raises(ConflictError, match="read by Anna"):
        act(store, "Bert", ActionKind.ACCEPT)


def test_two_readers_agree_or_a_third_settles_it(tmp_path: Path):
    store = a_store(tmp_path, SecondReader.BLIND)
    assert store.finish(1, "Anna", ReadState.DONE, shown_from=0.5) is Progress.READ_ONCE
    assert store.next_unread("Anna") is None
    assert store.next_unread("Bert") == 1
    assert store.truth(1).readers == ()
    act(store, "Bert", ActionKind.REJECT)
    assert store.finish(1, "Bert", ReadState.DONE, shown_from=0.5) is Progress.DISPUTED
    assert store.truth(1).marks == {}
    figures = store.agreement()
    assert (figures.images, figures.first_only, figures.matched, figures.unmatched) == (1, 1, 0, 1)
    assert store.place_of(1, "Cleo") is Place.ARBITER
    act(store, "Cleo", ActionKind.ACCEPT)
    assert store.finish(1, "Cleo", ReadState.DONE, shown_from=0.5) is Progress.SETTLED
    assert set(store.truth(1).readers) == {"Anna", "Bert", "Cleo"}
    assert store.place_of(1, "Dora") is None


def test_what_two_readers_say_of_the_whole_study_must_be_the_same_too(tmp_path: Path):
    store = a_store(tmp_path, SecondReader.OPEN)
    store.finish(1, "Anna", ReadState.DONE)
    assert store.finish(1, "Bert", ReadState.DONE, opinion=Opinion.TECHNICAL_RECALL) is Progress.DISPUTED
    assert [read.opinion for read in store.reads(1)] == [Opinion.RECALL, Opinion.TECHNICAL_RECALL]
    store.finish(1, "Bert", ReadState.OPEN)
    assert store.reads(1)[1].opinion is None
    assert store.finish(1, "Bert", ReadState.DONE) is Progress.READ
    store.put([study("other", scores=(0.1,))])
    store.finish(2, "Anna", ReadState.DONE, shown_from=0.5)
    assert store.reads(2)[0].opinion is Opinion.NORMAL
    assert store.finish(2, "Bert", ReadState.DONE, shown_from=0.5, opinion=Opinion.RECALL) is Progress.DISPUTED
    store.put([study("third"), study("fourth", scores=(0.95,))])
    assert store.unread(9) == [4, 3]


def test_the_figures_of_agreement_are_those_of_the_definition(tmp_path: Path):
    store = a_store(tmp_path)
    _, marked = act(store, "Anna", ActionKind.ACCEPT)
    empty = store.marks(1, "Bert")[1][1]
    table = [(marked, marked)] * 20 + [(marked, empty)] * 5 + [(empty, marked)] * 10 + [(empty, empty)] * 15
    figures = agreement(table)
    assert figures.kappa == pytest.approx(0.4)  # the example of Cohen's kappa in every textbook: 20, 5, 10, 15
    assert figures.positive_agreement == pytest.approx(40 / 55)


def test_what_the_model_proposes_anew_leaves_the_verdicts_on_the_old(tmp_path: Path):
    store = a_store(tmp_path)
    act(store, "Anna", ActionKind.REJECT, "p1")
    store.put([study(version="2", scores=(0.95, 0.2))])  # p1 is replaced, p2 proposed again
    marks = store.marks(1, "Anna")[1][1]
    assert {(mark.id, mark.score, mark.verdict) for mark in marks} == {
        ("p1", 0.9, Verdict.REJECTED), ("p2", 0.2, None), ("p3", 0.95, None)
    }  # fmt: skip
    assert {mark.id for mark in store.marks(1, "Bert")[1][1]} >= {"p2", "p3"}


def test_the_worklist_is_searched_sorted_and_forgets_what_is_gone(tmp_path: Path):
    store = ReviewStore(tmp_path)
    scores = {"a": (0.1,), "b": (0.9,), "c": ()}
    store.put([study(key, scores=found, patient=f"patient_{key}") for key, found in scores.items()])

    def keys(**how) -> list[str]:
        return [row.key for row in store.worklist(**how).rows]

    assert keys(sort="suspicion") == ["b", "a", "c"]
    assert keys(sort="suspicion", falling=False) == ["a", "b", "c"]
    assert keys(search="ENT_B") == ["b"]
    assert keys(search="%") == keys(search="_x") == []  # no wildcards of the database
    assert keys(sort="no such column; DROP TABLE studies") == ["a", "b", "c"]
    mark = store.change_mark()
    store.mark_gone(["b"])
    assert keys() == ["a", "c"]
    assert store.change_mark() != mark
    store.put([study("a", version="2", patient="", state="failed", reason="no")])
    row = store.worklist(search="patient_a").rows[0]  # its images are gone, what was known of the patient stays
    assert (row.patient, row.state, row.reason) == ("patient_a", "failed", "no")


def test_the_tables_are_what_the_migrations_make(tmp_path: Path):
    store = ReviewStore(tmp_path / "migrated")
    made = sa.create_engine(f"sqlite:///{tmp_path / 'made.sqlite'}")
    schema.metadata.create_all(made)

    def shape(engine: sa.Engine) -> dict[str, object]:
        look = sa.inspect(engine)
        return {
            table: (
                [(c["name"], str(c["type"]), c["nullable"]) for c in look.get_columns(table)],
                sorted(str(i["column_names"]) for i in look.get_indexes(table)),
                sorted(str(u["column_names"]) for u in look.get_unique_constraints(table)),
            )
            for table in look.get_table_names()
            if table != "alembic_version"
        }

    assert shape(sa.create_engine(f"sqlite:///{store.database.path}")) == shape(made)


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path):
    a_store(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "review.sqlite")) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    with pytest.raises(ReviewError, match="newer Mammoscope"):
        ReviewStore(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "review.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(ReviewError, match="cannot be used"):
        ReviewStore(tmp_path / "broken")


def test_a_third_reader_is_taken_to_what_two_dispute(tmp_path: Path):
    store = a_store(tmp_path, SecondReader.BLIND)
    store.put([study("surer", scores=(0.99,))])
    store.finish(1, "Anna", ReadState.DONE)
    act(store, "Bert", ActionKind.REJECT)
    assert store.next_unread("Cleo") == 2  # not disputed yet
    assert store.finish(1, "Bert", ReadState.DONE) is Progress.DISPUTED
    assert store.next_unread("Anna") == store.next_unread("Bert") == 2  # nobody settles a dispute of their own
    assert store.next_unread("Cleo") == 1
    assert store.next_unread("Cleo", after=1) == 2
    act(store, "Cleo", ActionKind.ACCEPT)
    assert store.place_of(1, "Cleo") is Place.ARBITER
    assert store.next_unread("Dora") == 2  # somebody settles it
    assert store.finish(1, "Cleo", ReadState.DONE) is Progress.SETTLED
    assert store.next_unread("Cleo") == 2


def test_what_a_data_set_says_of_a_box_is_there_until_a_reader_says_otherwise(tmp_path: Path):
    store = ReviewStore(tmp_path)

    def brought(**details: str) -> SourceStudy:
        box = ProposedBox(Origin.ANNOTATION, BOX, "Mass", details=details)
        image = SourceImage("image", Path("/nowhere/image.png"), rows=1000, columns=1000, proposals=(box,))
        return SourceStudy("study", "p1", datetime(2026, 1, 2, tzinfo=UTC), (image,), str(details))

    store.put([brought()])
    _, [mark] = act(store, "Anna", ActionKind.ACCEPT)
    assert mark.details == {}
    store.put([brought(birads="4B", margin="ill-defined")])
    [mark] = store.marks(1, "Anna")[1][1]
    assert (mark.verdict, mark.details) == (Verdict.ACCEPTED, {"birads": "4B", "margin": "ill-defined"})
    # A word of older data stays as long as nobody changes it; none is made up.
    _, [mark] = act(store, "Anna", ActionKind.DESCRIBE, label="Mass", birads="5", margin="ill-defined")
    assert mark.details == {"birads": "5", "margin": "ill-defined"}
    for name, said, why in (("margin", "fuzzy", "a margin is one of"), ("birads", "7", "a BI-RADS category is one of")):
        with pytest.raises(ReviewError, match=why):
            act(store, "Anna", ActionKind.DESCRIBE, label="Mass", **{name: said})


def test_two_accepted_boxes_on_one_lesion_are_one(tmp_path: Path):
    store = ReviewStore(tmp_path)
    near = (12.0, 22.0, 108.0, 118.0)
    boxes = (
        ProposedBox(Origin.ANNOTATION, BOX, "Mass", details={"shape": "oval"}),
        ProposedBox(Origin.MODEL, near, "Mass", 0.9),
        ProposedBox(Origin.MODEL, (500.0, 500.0, 600.0, 600.0), "Mass", 0.8),
        ProposedBox(Origin.MODEL, (13.0, 23.0, 107.0, 117.0), "Calcification", 0.7),
    )
    image = SourceImage("image", Path("/nowhere/image.png"), rows=1000, columns=1000, proposals=boxes)
    store.put([SourceStudy("study", "p1", datetime(2026, 1, 2, tzinfo=UTC), (image,), "1")])
    store.finish(1, "Anna", ReadState.DONE)
    marks = store.truth(1).marks[1]
    kept = lesions(marks)
    assert sorted((mark.box.as_tuple(), mark.label) for mark in kept) == sorted(
        [(BOX, "Mass"), ((500.0, 500.0, 600.0, 600.0), "Mass"), ((13.0, 23.0, 107.0, 117.0), "Calcification")]
    )
    # What the reader moved is nearer to what the reader means.
    model = next(mark for mark in marks if mark.box.as_tuple() == near)
    moved = [replace(mark, moved=True) if mark is model else mark for mark in marks]
    [kept_one] = [mark for mark in lesions(moved) if mark.label == "Mass" and mark.box.x0 < 100]
    assert (kept_one.box.as_tuple(), kept_one.details) == (near, {"shape": "oval"})
    assert lesions([replace(mark, verdict=None) for mark in marks]) == ()


def test_what_was_sent_is_remembered(tmp_path: Path):
    store = a_store(tmp_path)
    at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    assert store.sendings(1) == ()
    store.note_sending(1, Sending(2, "Anna", at, 7))
    store.note_sending(1, Sending(3, "Bert", at, 8))
    assert ReviewStore(tmp_path).sendings(1) == (Sending(3, "Bert", at, 8), Sending(2, "Anna", at, 7))
