"""How the node stands and what became of a study, for administrators and auditors; reading and sending again."""

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Path, Query, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from mammoscope.review.access import Administrator, Overseer, Room, check_form_token
from mammoscope.review.administration import NodeAdministration
from mammoscope.review.errors import NotFoundError
from mammoscope.review.pages.rendering import frame, page
from mammoscope.review.room import ReadingRoom

router = APIRouter(prefix="/node")

Number = Annotated[int, Path(ge=1, le=2**53)]
Token = Annotated[str, Form(max_length=100)]


@router.get("")
def node(room: Room, session: Overseer) -> Response:
    """Destinations with what waits, workers, disk, the last phantom, and what was refused."""
    return HTMLResponse(page("node.html", **frame(room, session), **_state(room)))


@router.post("/check")
def check(room: Room, session: Overseer, form_token: Token = "") -> Response:
    """Try every part and every peer now."""
    check_form_token(session, form_token)
    outcomes = _of(room).check()
    room.note("NodeChecked", session.user.name, wrong=sum(not outcome.well for outcome in outcomes))
    return HTMLResponse(page("node.html", **frame(room, session), **{**_state(room), "outcomes": outcomes}))


@router.get("/studies/{study}")
def show(room: Room, session: Overseer, study: Number, told: Annotated[str, Query(max_length=300)] = "") -> Response:
    """All that the node knows of one study; who looked is noted."""
    row = room.store.study(study)
    record = _of(room).study(row.key)
    room.note("StudyViewed", session.user.name, study=row.key)
    return HTMLResponse(page("node_study.html", **frame(room, session), study=row, record=record, told=told))


@router.post("/studies/{study}/retry")
def retry(room: Room, session: Administrator, study: Number, form_token: Token = "") -> Response:
    """Have the study read again."""
    check_form_token(session, form_token)
    return _back(study, _of(room).retry(room.store.study(study).key, session.user.name))


@router.post("/studies/{study}/resend")
def resend(
    room: Room,
    session: Administrator,
    study: Number,
    form_token: Token = "",
    report: Annotated[int | None, Form(ge=1, le=2**31)] = None,
    destination: Annotated[str | None, Form(max_length=200)] = None,
) -> Response:
    """Have a report of the study sent again, the last one unless said, to all destinations unless one is named."""
    check_form_token(session, form_token)
    said = _of(room).resend(room.store.study(study).key, session.user.name, report, destination or None)
    return _back(study, said)


def _of(room: ReadingRoom) -> NodeAdministration:
    if room.node is None:
        raise NotFoundError("this reading room is of a data set: there is no node beside it.")
    return room.node


def _state(room: ReadingRoom) -> dict[str, Any]:
    node = _of(room)
    return {
        "state": node.state(), "workers": node.workers(), "refusals": node.refusals(), "shadow": node.shadow,
        "outcomes": None,
    }  # fmt: skip


def _back(study: int, told: str) -> Response:
    return RedirectResponse(f"/node/studies/{study}?told={quote(told)}", 303)
