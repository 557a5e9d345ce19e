"""Which page is where."""

from datetime import UTC, datetime
from math import ceil
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Path, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from mammoscope.review.access import Administrator, LoggedIn, Overseer, Room, administrator_of, check_form_token
from mammoscope.review.accounts import Session
from mammoscope.review.errors import NotFoundError
from mammoscope.review.figures import site_figures
from mammoscope.review.pages.rendering import frame, page
from mammoscope.review.patches import worst
from mammoscope.review.room import ReadingRoom
from mammoscope.review.store import Progress
from mammoscope.review.study_view import display_facts, four_views, opened

router = APIRouter()

PAGE = 50
COLUMNS = (
    ("patient", "Patient"), ("time", "Received"), ("findings", "Findings"), ("suspicion", "Highest score"),
    ("state", "State"), ("progress", "Reading"),
)  # fmt: skip


@router.get("/")
def start(_: LoggedIn) -> Response:
    """To the worklist."""
    return RedirectResponse("/worklist", 303)


@router.get("/worklist")
def worklist(
    room: Room,
    session: LoggedIn,
    request: Request,
    search: Annotated[str, Query(max_length=100)] = "",
    progress: Annotated[str, Query(max_length=20)] = "",
    state: Annotated[str, Query(max_length=20)] = "",
    sort: Annotated[str, Query(max_length=20)] = "time",
    falling: bool = True,
    number: Annotated[int, Query(ge=1, le=10**6)] = 1,
) -> Response:
    """All studies; asked for by htmx only the rows."""
    wanted = Progress(progress) if progress in list(Progress) else None
    found = room.store.worklist(
        search=search, progress=wanted, state=state, sort=sort, falling=falling, offset=(number - 1) * PAGE, limit=PAGE
    )
    values: dict[str, Any] = {
        "rows": found.rows, "total": found.total, "number": number, "pages": max(1, ceil(found.total / PAGE)),
        "search": search, "progress": progress, "state": state, "sort": sort, "falling": falling, "columns": COLUMNS,
        **frame(room, session),
    }  # fmt: skip
    if "hx-request" in request.headers:
        return HTMLResponse(page("rows.html", **values))
    values |= {"progresses": list(Progress), "counts": room.store.counts(), "states": room.store.states()}
    return HTMLResponse(page("worklist.html", **values))


@router.get("/studies/{study}")
def study(study: Annotated[int, Path(ge=1, le=2**53)], room: Room, session: LoggedIn) -> Response:
    """One study, with all that its script needs to show what is cut into tiles; who looked is noted.

    The script has not to ask for it, and the browser loads previews of the images before it has read any script.
    """
    reader = session.user.name
    given = opened(room, study, reader)
    cut = {image.id: room.cut_before(image) for image in room.store.images(study)}
    displays = {image: display_facts(pyramid) for image, pyramid in cut.items() if pyramid is not None}
    keys = [image["key"] for image in given["images"] if image["id"] in displays]
    room.note("StudyViewed", reader, study=given["study"]["key"], images=keys)
    return HTMLResponse(
        page(
            "study.html",
            **frame(room, session),
            study=study,
            given={**given, "displays": displays},
            previews=[image if image in displays else None for image in four_views(room.store.images(study))],
        )
    )


@router.get("/next")
def next_study(room: Room, session: LoggedIn) -> Response:
    """To the study that this reader reads next, or to the worklist."""
    following = room.store.next_unread(session.user.name)
    return RedirectResponse("/worklist" if following is None else f"/studies/{following}", 303)


@router.get("/figures")
def figures(room: Room, session: LoggedIn) -> Response:
    """How the detector does here, and how readers agree."""
    values = {"agreement": room.store.agreement(), "figures": site_figures(room.store)}
    return HTMLResponse(page("figures.html", **frame(room, session), **values))


@router.get("/patches")
def patches(room: Room, session: LoggedIn) -> Response:
    """Where the model was wrong, the worst first; whose images were shown is noted."""
    misses, alarms = worst(room)
    if keys := sorted({patch.key for patch in (*misses, *alarms)}):
        room.note("PatchesViewed", session.user.name, images=keys)
    return HTMLResponse(page("patches.html", **frame(room, session), misses=misses, alarms=alarms))


@router.get("/export")
def export_page(
    room: Room, session: LoggedIn, request: Request, told: Annotated[str, Query(max_length=600)] = ""
) -> Response:
    """What was read as a data set: written here, and what was written before."""
    administrator_of(request, session)
    return HTMLResponse(_export_page(room, session, told))


@router.post("/export")
def export(room: Room, session: Administrator, form_token: Annotated[str, Form(max_length=100)] = "") -> Response:
    """Write what was read as a data set's folder of its own; that it was, and by whom, is noted."""
    check_form_token(session, form_token)
    if room.export is None:
        raise NotFoundError("data sets are not written here.")
    out = room.exports / f"{datetime.now(UTC):%Y-%m-%d-%H%M%S}"
    said = room.export(out)
    room.note("DatasetExported", session.user.name, folder=out.name)
    return RedirectResponse(f"/export?told={quote(said)}", 303)


def _export_page(room: ReadingRoom, session: Session, told: str) -> str:
    if room.export is None:
        raise NotFoundError("data sets are not written here.")
    there = sorted((folder.name for folder in room.exports.glob("*") if folder.is_dir()), reverse=True)
    return page("export.html", **frame(room, session), told=told, folder=str(room.exports), exports=there)


@router.get("/audit")
def audit(room: Room, session: Overseer) -> Response:
    """Who did what, for auditors and administrators."""
    return HTMLResponse(page("audit.html", **frame(room, session), lines=room.audit_lines()))
