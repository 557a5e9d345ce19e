"""What a reader is shown of a study: its facts, its images with their boxes, and what others say of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from mammoscope.descriptors import OFFERED
from mammoscope.imaging import TILE
from mammoscope.results.view_matching import surely_paired
from mammoscope.review.errors import NotFoundError
from mammoscope.review.room import ReadingRoom, name_of
from mammoscope.review.store import ImageRow, Mark, ReadState, StudyRow, Verdict, compare
from mammoscope.review.tiles import StoredPyramid


def opened(room: ReadingRoom, study: int, reader: str) -> dict[str, Any]:
    """Everything of a study but its pixels, for one who opens it; the study that this reader reads next is made ready.

    Raises
    ------
    NotFoundError
        If there is no such study, or no longer.
    """
    row = room.store.study(study)
    if row.gone:
        raise NotFoundError("this study is no longer here: go back to the worklist.")
    following = room.store.next_unread(reader, study)
    if following is not None:
        room.cut_soon(following)
    seen = _seen(room, row, reader) | {"next": following}
    if seen["earlier"]:
        room.cut_soon(seen["earlier"][0]["id"])
    return seen


def four_views(images: Sequence[ImageRow]) -> list[int | None]:
    """The images that hang first, as far as there are: right and left CC, right and left MLO."""
    by_view = {f"{image.laterality} {image.view}": image.id for image in reversed(images)}
    return [by_view.get(view) for view in ("R CC", "L CC", "R MLO", "L MLO")]


def study_facts(row: StudyRow) -> dict[str, Any]:
    """A study as the worklist shows it."""
    return {
        "id": row.id,
        "key": row.key,
        "patient": row.patient,
        "patient_name": row.patient_name,
        "taken_on": row.taken_on,
        "scanner": row.scanner,
        "state": row.state,
        "reason": row.reason,
        "came_at": row.came_at.isoformat(),
        "images": row.images,
        "findings": row.findings,
        "highest": row.highest,
        "progress": str(row.progress),
        "destinations": dict(row.destinations),
    }


def display_facts(pyramid: StoredPyramid) -> dict[str, Any]:
    """How an image is displayed, and what names its tiles."""
    return {
        "digest": pyramid.digest,
        "spacing_mm": pyramid.spacing_mm,
        "tile": TILE,
        "breast": pyramid.breast,
        **pyramid.display.model_dump(mode="json"),
    }


def sent_facts(room: ReadingRoom, study: StudyRow) -> list[dict[str, Any]]:
    """What readers had sent of a study and what became of it, the last first; nothing where there is no PACS."""
    return [
        {
            "reader": one.sending.reader,
            "at": one.sending.at.isoformat(),
            "objects": one.sending.objects,
            "waiting": one.waiting,
            "destinations": [
                {
                    "name": arrival.destination,
                    "status": arrival.status,
                    "at": arrival.at and arrival.at.isoformat(),
                    "reason": arrival.reason,
                }
                for arrival in one.arrivals
            ],
        }
        for one in (room.send.sent(study) if room.send is not None else ())
    ]


def view_pairs(room: ReadingRoom, study: int, reader: str, shown_from: float) -> list[list[dict[str, Any]]]:
    """The boxes on the CC and the MLO view of a breast that are surely one lesion (decision 016).

    Parameters
    ----------
    shown_from
        Score from which proposed boxes are on the screen: the others are no rivals.

    Returns
    -------
    For each pair, the image and the mark on the CC view, and those on the MLO view.
    """
    marks = room.store.marks(study, reader)
    sides: dict[str, dict[str, list[ImageRow]]] = {}
    for image in room.store.images(study):
        if image.laterality and image.view in ("CC", "MLO"):
            sides.setdefault(image.laterality, {}).setdefault(image.view, []).append(image)
    found = []
    for views in sides.values():
        if [len(views.get(view, ())) for view in ("CC", "MLO")] != [1, 1]:
            continue
        [cc], [mlo] = views["CC"], views["MLO"]
        sought = [[mark for mark in marks[image.id][1] if _counts(mark, shown_from)] for image in (cc, mlo)]
        depths = [_depths_mm(room, image, here) for image, here in zip((cc, mlo), sought, strict=True)]
        if depths[0] is None or depths[1] is None:
            continue
        labels = [[mark.label for mark in here] for here in sought]
        found += [
            [{"image": cc.id, "mark": sought[0][one].id}, {"image": mlo.id, "mark": sought[1][other].id}]
            for one, other in surely_paired(depths[0], depths[1], *labels)
        ]
    return found


def _counts(mark: Mark, shown_from: float) -> bool:
    if mark.verdict is not None:
        return mark.verdict is Verdict.ACCEPTED
    return mark.score is None or mark.score >= shown_from


def _depths_mm(room: ReadingRoom, image: ImageRow, marks: list[Mark]) -> list[float] | None:
    pyramid = room.cut_before(image)
    if pyramid is None or pyramid.spacing_mm is None or pyramid.nipple_x is None:
        return None
    return [abs(mark.box.center[0] - pyramid.nipple_x) * pyramid.spacing_mm[1] for mark in marks]


def _seen(room: ReadingRoom, row: StudyRow, reader: str) -> dict[str, Any]:
    mine = room.store.marks(row.id, reader)
    others = room.others_shown(row.id, reader)
    reads = room.store.reads(row.id)
    own = next((read for read in reads if read.reader == reader), None)
    return {
        "study": study_facts(row),
        "reader": reader,
        "place": room.store.place_of(row.id, reader),
        "state": str(own.state) if own else "open",
        "reads": [
            {
                "place": str(read.place),
                "reader": read.reader,
                "state": str(read.state),
                "opinion": read.opinion and str(read.opinion),
            }
            for read in reads
            if read.reader == reader or read.reader in others
        ],
        "images": [
            _image_facts(image)
            | {
                "number": mine[image.id][0],
                "marks": [mark.to_json() for mark in mine[image.id][1]],
                "others": {name: _judged(marks[image.id][1]) for name, marks in others.items()},
            }
            for image in room.store.images(row.id)
        ],
        "disagreements": _disagreements(room, row, others),
        "earlier": [study_facts(one) for one in room.store.earlier_studies(row.id)],
        "labels": list(room.source.labels),
        "offered": {name: list(words) for name, words in OFFERED.items()},
        "sends": room.send is not None,
        "sent": sent_facts(room, row),
        "viewer": room.viewer_url.replace("{study}", row.key) if room.viewer_url else None,
    }


def _judged(marks: tuple[Mark, ...]) -> list[dict[str, Any]]:
    return [mark.to_json() for mark in marks if mark.verdict is not None]


def _disagreements(room: ReadingRoom, row: StudyRow, others: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where the first and the second reader differ, once both may be seen."""
    by_place = {str(read.place): read.reader for read in room.store.reads(row.id) if read.state is ReadState.DONE}
    if not {"first", "second"} <= set(by_place) or not others:
        return []
    first, second = (room.store.marks(row.id, by_place[place]) for place in ("first", "second"))
    found = []
    for image in first:
        compared = compare(first[image][1], second[image][1])
        for name, marks in ((by_place["first"], compared.only_first), (by_place["second"], compared.only_second)):
            found += [{"image": image, "reader": name, "box": list(mark.box.as_tuple())} for mark in marks]
    return found


def _image_facts(image: ImageRow) -> dict[str, Any]:
    return {
        "id": image.id,
        "key": image.key,
        "name": name_of(image),
        "laterality": image.laterality,
        "view": image.view,
        "rows": image.rows,
        "columns": image.columns,
        "reason": image.reason,
    }
