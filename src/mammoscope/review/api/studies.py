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
from mammoscope.review.errors import ConflictError, ForbiddenError, ReviewError
from mammoscope.review.room import name_of
from mammoscope.review.store import ActionKind, ImageRow, Opinion, Progress, ReadState
from mammoscope.review.study_view import opened, sent_facts, study_facts, view_pairs

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
    opinion: Opinion | None = Field(
        default=None, description="Of a reading that is done; by default recall where a box is accepted, else normal."
    )
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
    return {"total": found.total, "studies": [study_facts(row) for row in found.rows]}


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
    shown = opened(room, study, session.user.name)
    room.note("StudyViewed", session.user.name, study=shown["study"]["key"])
    return shown


@router.get("/studies/{study}/pairs")
def pairs(
    study: Number, room: Room, session: LoggedIn, shown_from: Annotated[float, Query(ge=0, le=1)] = 0.0
) -> list[list[dict[str, Any]]]:
    """The boxes on two views of a breast that are surely one lesion, of the images whose tiles are cut."""
    room.store.study(study)
    return view_pairs(room, study, session.user.name, shown_from)


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
    progress = room.store.finish(
        study, reader, asked.state, opinion=asked.opinion, shown_from=asked.shown_from, known=asked.known
    )
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


@router.get("/studies/{study}/sent")
def sent(study: Number, room: Room, _: LoggedIn) -> list[dict[str, Any]]:
    """What readers had sent to the PACS and what became of it at each destination, the last first."""
    return sent_facts(room, room.store.study(study))


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
