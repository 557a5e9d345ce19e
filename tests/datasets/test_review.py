import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from mammoscope.datasets import (
    DatasetError,
    ReviewedBox,
    ReviewState,
    change_boxes,
    history_of,
    import_coco,
    load_dataset,
    read_index,
    set_review,
)
from mammoscope.datasets.review_log import REVIEWS, ReviewEvent, append_events, boxes_hash
from mammoscope.findings import Box

FIRST = "00001_LEFT_CC.png"


@pytest.fixture
def folder(collection, tmp_path):
    """Image 0 has a mass (annotation 1) and a calcification (2), image 3 a crowd region."""
    import_coco(collection.annotations, collection.images, tmp_path / "set")
    return tmp_path / "set"


def state(folder, position=0):
    return load_dataset(folder)[position].review


def test_a_state_is_who_and_when(folder):
    before = load_dataset(folder).fingerprint()
    assert state(folder) is ReviewState.ANNOTATED
    set_review(folder, [FIRST], ReviewState.VALIDATED, " dr a ", note="seen twice")
    set_review(folder, ["00001_RIGHT_MLO.png", FIRST], ReviewState.DISPUTED, "dr b")
    assert [image.review for image in load_dataset(folder)][:3] == [
        ReviewState.DISPUTED, ReviewState.DISPUTED, ReviewState.ANNOTATED,
    ]  # fmt: skip
    first, second = history_of(folder, FIRST)
    assert (first.by, first.state, first.note, second.by) == ("dr a", ReviewState.VALIDATED, "seen twice", "dr b")
    assert first.at.endswith("Z")
    assert read_index(folder).table.column("review").to_pylist()[:2] == ["disputed", "disputed"]
    assert load_dataset(folder).fingerprint() == before  # the data are the same


def test_the_history_of_boxes(folder):
    set_review(folder, [FIRST], ReviewState.VALIDATED, "dr a")
    events = change_boxes(
        folder,
        FIRST,
        [ReviewedBox(Box(6, 10, 26, 18), "Mass", 1), ReviewedBox(Box(30, 30, 35, 38), "Mass")],
        "dr b",
    )
    assert [(e.box, e.change) for e in events] == [(1, "moved"), (5, "added"), (2, "removed")]
    assert events[0].before == {"bbox": [5, 10, 20, 8], "label": "Mass"}
    assert events[0].after == {"bbox": [6, 10, 20, 8], "label": "Mass"}
    image = load_dataset(folder)[0]
    assert image.boxes == (Box(6, 10, 26, 18), Box(30, 30, 35, 38))
    assert image.review is ReviewState.ANNOTATED  # what dr a validated is no more
    assert [event.change for event in history_of(folder, FIRST)] == [None, "moved", "added", "removed"]
    relabelled = [ReviewedBox(Box(6, 10, 26, 18), "Calcification", 1), ReviewedBox(Box(30, 30, 35, 38), "Mass", 5)]
    assert [e.change for e in change_boxes(folder, FIRST, relabelled, "dr b")] == ["relabelled"]
    assert change_boxes(folder, FIRST, relabelled, "dr b") == ()
    assert len(load_dataset(folder)[3].crowds) == 1


def test_boxes_changed_behind_its_back_are_not_validated(folder):
    set_review(folder, [FIRST], ReviewState.VALIDATED, "dr a")
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"][0] += 0.001  # rounding
    path.write_text(json.dumps(content))
    assert state(folder) is ReviewState.VALIDATED
    content["annotations"][0]["bbox"][0] += 1
    path.write_text(json.dumps(content))
    assert state(folder) is ReviewState.ANNOTATED


def test_the_power_fails_while_a_line_is_written(folder):
    set_review(folder, [FIRST], ReviewState.VALIDATED, "dr a")
    log = folder / REVIEWS
    whole = log.read_bytes()
    log.write_bytes(whole + whole[:30])
    assert state(folder) is ReviewState.VALIDATED
    set_review(folder, [FIRST], ReviewState.DISPUTED, "dr b")
    assert [event.by for event in history_of(folder, FIRST)] == ["dr a", "dr b"]
    assert log.read_bytes().startswith(whole)


def test_several_reviewers_at_once(folder):
    def event(number):
        return ReviewEvent("2026-01-01T00:00:00Z", f"dr {number}", 0, FIRST, note="x" * 20_000)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: append_events(folder, [event(number)]), range(40)))
    assert sorted(e.by for e in history_of(folder, FIRST)) == sorted(f"dr {number}" for number in range(40))


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        '{"by": "x"}',
        '{"at": 1, "by": "x", "image_id": 1, "file_name": "x"}',
        '{"at": "1", "by": "x", "image_id": 1, "file_name": "x", "state": "fine"}',
    ],
)
def test_a_damaged_log(folder, line):
    (folder / REVIEWS).write_text(line + "\n")
    with pytest.raises(DatasetError, match=r"review\.jsonl, line 1: this is not a line of a review"):
        load_dataset(folder)


def test_what_cannot_be_reviewed(folder):
    with pytest.raises(DatasetError, match=r"has no image gone\.png"):
        set_review(folder, ["gone.png"], ReviewState.VALIDATED, "dr a")
    with pytest.raises(DatasetError, match="name of who"):
        set_review(folder, [FIRST], ReviewState.VALIDATED, " ")
    inside = Box(1, 1, 5, 5)
    for boxes, said in (
        ([ReviewedBox(inside, "Mass", 77)], "has no box 77"),
        ([ReviewedBox(inside, "Mass", 1), ReviewedBox(inside, "Mass", 1)], "named twice"),
        ([ReviewedBox(inside, "lump")], "has no label 'lump'; it has Calcification, Mass"),
        ([ReviewedBox(Box(1, 1, 51, 5), "Mass")], "does not lie within"),
    ):
        with pytest.raises(DatasetError, match=said):
            change_boxes(folder, FIRST, boxes, "dr a")
    assert not (folder / REVIEWS).exists()


def test_the_hash_of_boxes_is_of_their_set():
    one, two = Box(1, 1, 5, 5), Box(2, 2, 5, 5)
    assert boxes_hash([one, two], ["a", "b"], []) == boxes_hash([two, one], ["b", "a"], [])
    assert len({boxes_hash([one, two], ["a", "b"], []), boxes_hash([one, two], ["b", "a"], []),
                boxes_hash([one], ["a"], [two]), boxes_hash([one], ["a"], [])}) == 4  # fmt: skip
