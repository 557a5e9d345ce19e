"""Studies: what there is to see of one, and what its reader does."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.concurrency import run_in_threadpool

from mammoscope.findings import Box
from mammoscope.review.access import Changing, LoggedIn, Reader, Room
from mammoscope.review.errors import ConflictError, ForbiddenError, NotFoundError, ReviewError
from mammoscope.review.room import ReadingRoom, name_of
from mammoscope.review.store import (
    DETAILS,
    ActionKind,
    ImageRow,
    Mark,
    Progress,
    ReadState,
    StudyRow,
    compare,
)

router = APIRouter(prefix="/api", tags=["studies"])

Number = Annotated[int, Path(ge=1, le=2**53)]
_EVENT_SECONDS = 2.0


class ActionRequest(BaseModel):
    """What a reader did on an image."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    token: str = Field(pattern=r"^[0-9a-f]{32}$", description="Chosen by the page: sent twice, it counts once.")
    expected: int = Field(ge=0, le=2**31, description="Number of the last action that the page knows of.")
    kind: ActionKind
    mark: str = Field(pattern=r"^(p[0-9]{1,15}|d[0-9a-f]{32})$", description="Which box; a new one for draw.")
    box: tuple[float, float, float, float] | None = Field(
        default=None, description="x0, y0, x1, y1 in pixels of the image as stored; for draw and move."
    )
    label: str | None = Field(default=None, min_length=1, max_length=64, description="Its class.")
    details: dict[Literal["birads", "shape", "margin", "comment"], Annotated[str, Field(max_length=500)]] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> "ActionRequest":
        if self.kind in (ActionKind.DRAW, ActionKind.MOVE) and self.box is None:
            raise ValueError(f"{self.kind} needs a box")
        if self.kind in (ActionKind.DRAW, ActionKind.DESCRIBE) and self.label is None:
            raise ValueError(f"{self.kind} needs a label")
        return self


class EndRequest(BaseModel):
    """How a reader leaves a study."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    state: ReadState
    shown_from: float = Field(default=0.0, ge=0, le=1, description="Score from which boxes are on the screen.")
    known: dict[int, int] = Field(
        default_factory=dict, max_length=1000, description="Number of the last action known, by image."
    )


@router.get("/worklist")
def worklist(
    room: Room,
    _: LoggedIn,
    search: Annotated[str, Query(max_length=100)] = "",
    progress: Progress | None = None,
    state: Annotated[str, Query(max_length=20)] = "",
    sort: Annotated[str, Query(max_length=20)] = "time",
    falling: bool = True,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:
    """One page of the studies."""
    found = room.store.worklist(
        search=search, progress=progress, state=state, sort=sort, falling=falling, offset=offset, limit=limit
    )
    return {"total": found.total, "studies": [_study(row) for row in found.rows]}


@router.get("/events")
async def events(request: Request, room: Room, _: LoggedIn) -> StreamingResponse:
    """Tell whenever the worklist changes (server-sent events)."""

    async def told() -> AsyncIterator[str]:
        last = ""
        yield "retry: 3000\n\n"
        while not await request.is_disconnected() and not room.stopping:
            mark = await run_in_threadpool(room.store.change_mark)
            if mark != last:
                yield f"event: worklist\ndata: {mark}\n\n"
                last = mark
            await asyncio.sleep(_EVENT_SECONDS)

    return StreamingResponse(told(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@router.get("/next")
def next_study(
    room: Room, session: LoggedIn, after: Annotated[int | None, Query(ge=1, le=2**53)] = None, sort: str = "suspicion"
) -> dict[str, int | None]:
    """The study that this reader reads next."""
    return {"study": room.store.next_unread(session.user.name, after, sort)}


@router.get("/studies/{study}")
def show(study: Number, room: Room, session: LoggedIn) -> dict[str, Any]:
    """Everything of a study but its pixels; who looked is noted."""
    row, reader = room.store.study(study), session.user.name
    if row.gone:
        raise NotFoundError("this study is no longer here: go back to the worklist.")
    room.note("StudyViewed", reader, study=row.key)
    following = room.store.next_unread(reader, study)
    if following is not None:
        room.cut_ahead(following)
    return _seen(room, row, reader) | {"next": following}


@router.post("/images/{image}/actions")
def act(image: Number, asked: ActionRequest, room: Room, session: Reader) -> dict[str, Any]:
    """Add one action; answers the boxes as they are then. 409 where another window was faster, with the boxes too."""
    there, reader = room.store.image(image), session.user.name
    if asked.label is not None and asked.label not in room.source.labels:
        raise ReviewError(f"there is no class of that name; there are {', '.join(room.source.labels)}.")
    content = _content(asked, there)
    try:
        number, marks = room.store.act(
            image, reader, expected=asked.expected, token=asked.token, kind=asked.kind, mark=asked.mark, content=content
        )
    except ConflictError as error:
        number, marks = room.store.marks(there.study, reader)[image]
        raise ConflictError(str(error), {"number": number, "marks": [mark.to_json() for mark in marks]}) from None
    return {"number": number, "marks": [mark.to_json() for mark in marks]}


@router.post("/studies/{study}/read")
def end(study: Number, asked: EndRequest, room: Room, session: Reader) -> dict[str, Any]:
    """End this reader's reading, put it off, or take it up again; answers what is next."""
    reader = session.user.name
    row = room.store.study(study)
    progress = room.store.finish(study, reader, asked.state, shown_from=asked.shown_from, known=asked.known)
    room.note("StudyRead", reader, study=row.key, state=str(asked.state), progress=str(progress))
    return {"progress": str(progress), "next": room.store.next_unread(reader, study)}


@router.post("/studies/{study}/send")
def send(study: Number, room: Room, session: Changing) -> dict[str, str]:
    """Send what the readers came to to the PACS."""
    if room.send is None:
        raise ReviewError("this reading room has no PACS to send to.")
    if not session.user.role.may_send:
        raise ForbiddenError(f"{session.user.role} accounts send nothing to the PACS: ask a reader.")
    row = room.store.study(study)
    said = room.send(row, session.user.name)
    room.note("StudySent", session.user.name, study=row.key)
    return {"said": said}


@router.get("/images/{image}/history")
def history(image: Number, room: Room, session: LoggedIn) -> list[dict[str, Any]]:
    """Who did what on an image and when, as far as this reader may see it."""
    there = room.store.image(image)
    shown = {session.user.name, *room.others_shown(there.study, session.user.name)}
    return [
        {"at": action.at.isoformat(), "reader": action.reader, "kind": str(action.kind), "mark": action.mark}
        for action in room.store.history(image)
        if action.reader in shown
    ]


def _seen(room: ReadingRoom, row: StudyRow, reader: str) -> dict[str, Any]:
    mine = room.store.marks(row.id, reader)
    others = room.others_shown(row.id, reader)
    reads = room.store.reads(row.id)
    own = next((read for read in reads if read.reader == reader), None)
    return {
        "study": _study(row),
        "reader": reader,
        "place": room.store.place_of(row.id, reader),
        "state": str(own.state) if own else "open",
        "reads": [
            {"place": str(read.place), "reader": read.reader, "state": str(read.state)}
            for read in reads
            if read.reader == reader or read.reader in others
        ],
        "images": [
            _image(image)
            | {
                "number": mine[image.id][0],
                "marks": [mark.to_json() for mark in mine[image.id][1]],
                "others": {name: _boxes(marks[image.id][1]) for name, marks in others.items()},
            }
            for image in room.store.images(row.id)
        ],
        "disagreements": _disagreements(room, row, others),
        "earlier": [_study(one) for one in room.store.earlier_studies(row.id)],
        "labels": list(room.source.labels),
        "details": list(DETAILS),
        "sends": room.send is not None,
        "viewer": room.viewer_url.replace("{study}", row.key) if room.viewer_url else None,
    }


def _boxes(marks: tuple[Mark, ...]) -> list[dict[str, Any]]:
    return [mark.to_json() for mark in marks if mark.verdict is not None]


def _disagreements(room: ReadingRoom, row: StudyRow, others: dict[str, Any]) -> list[dict[str, Any]]:
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


def _content(asked: ActionRequest, image: ImageRow) -> dict[str, Any]:
    content: dict[str, Any] = {key: value for key, value in asked.details.items() if value}
    if asked.label is not None:
        content["label"] = asked.label
    if asked.box is not None and asked.kind in (ActionKind.DRAW, ActionKind.MOVE):
        try:
            box: Box | None = Box(*asked.box)
        except ValueError:
            raise ReviewError("a box needs a width and a height.") from None
        if box is not None and image.rows and image.columns:
            box = box.clipped(image.rows, image.columns)
        if box is None:
            raise ReviewError(f"that box lies outside of {name_of(image)}.")
        content["box"] = list(box.as_tuple())
    return content


def _study(row: StudyRow) -> dict[str, Any]:
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


def _image(image: ImageRow) -> dict[str, Any]:
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
