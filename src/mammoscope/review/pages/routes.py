"""Which page is where."""

from math import ceil
from typing import Annotated, Any

from fastapi import APIRouter, Form, Path, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from mammoscope.review.access import COOKIE, LoggedIn, Room, check_form_token, session_of
from mammoscope.review.accounts import Role, Session
from mammoscope.review.errors import ForbiddenError, ReviewError
from mammoscope.review.figures import site_figures
from mammoscope.review.pages.rendering import page
from mammoscope.review.patches import worst
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
    sort: Annotated[str, Query(max_length=20)] = "time",
    falling: bool = True,
    number: Annotated[int, Query(ge=1, le=10**6)] = 1,
) -> Response:
    """All studies; asked for by htmx only the rows."""
    wanted = Progress(progress) if progress in list(Progress) else None
    found = room.store.worklist(
        search=search, progress=wanted, sort=sort, falling=falling, offset=(number - 1) * PAGE, limit=PAGE
    )
    values: dict[str, Any] = {
        "rows": found.rows, "total": found.total, "number": number, "pages": max(1, ceil(found.total / PAGE)),
        "search": search, "progress": progress, "sort": sort, "falling": falling, "columns": COLUMNS,
    }  # fmt: skip
    if "hx-request" in request.headers:
        return HTMLResponse(page("rows.html", **values))
    counts = room.store.counts()
    return HTMLResponse(page("worklist.html", **_frame(room, session), states=list(Progress), counts=counts, **values))


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
            **_frame(room, session),
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
    return HTMLResponse(page("figures.html", **_frame(room, session), **values))


@router.get("/patches")
def patches(room: Room, session: LoggedIn) -> Response:
    """Where the model was wrong, the worst first; whose images were shown is noted."""
    misses, alarms = worst(room)
    if keys := sorted({patch.key for patch in (*misses, *alarms)}):
        room.note("PatchesViewed", session.user.name, images=keys)
    return HTMLResponse(page("patches.html", **_frame(room, session), misses=misses, alarms=alarms))


@router.get("/audit")
def audit(room: Room, session: LoggedIn) -> Response:
    """Who did what, for auditors and administrators.

    Raises
    ------
    ForbiddenError
        For others.
    """
    if session.user.role not in (Role.ADMIN, Role.AUDITOR) and room.accounts.exist():
        raise ForbiddenError("the audit trail is for administrators and auditors.")
    return HTMLResponse(page("audit.html", **_frame(room, session), lines=room.audit_lines()))


@router.get("/login")
def login_page(room: Room, to: Annotated[str, Query(max_length=300)] = "/") -> Response:
    """Where names and passwords are typed in; without accounts a name alone."""
    return HTMLResponse(_login(room, _inside(to)))


@router.post("/login")
def login(
    room: Room,
    request: Request,
    name: Annotated[str, Form(max_length=100)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    to: Annotated[str, Form(max_length=300)] = "/",
) -> Response:
    """Begin a session."""
    address = request.client.host if request.client else ""
    limiter, accounts, to = request.app.state.limiter, room.accounts, _inside(to)
    if accounts.exist():
        if wait := limiter.seconds_to_wait(name, address):
            told = f"Too many wrong passwords: try again in {ceil(wait / 60)} minutes."
            return HTMLResponse(_login(room, to, told), 429, {"Retry-After": str(ceil(wait))})
        user = accounts.authenticate(name, password)
        if user is None:
            limiter.failed(name, address)
            room.note("LoginRefused", name[:63], address=address)
            return HTMLResponse(_login(room, to, "That is no name and password of an account here."), 401)
        limiter.succeeded(name)
    else:
        try:
            user = accounts.enter_by_name(name)
        except ReviewError as error:
            return HTMLResponse(_login(room, to, str(error).capitalize()), 400)
    room.note("LoggedIn", user.name, address=address)
    response = RedirectResponse(to, 303)
    response.set_cookie(
        COOKIE, accounts.open_session(user), httponly=True, samesite="lax", secure=request.app.state.secure, path="/"
    )
    return response


@router.post("/logout")
def logout(room: Room, request: Request, form_token: Annotated[str, Form(max_length=100)] = "") -> Response:
    """End the session."""
    session = session_of(request)
    check_form_token(session, form_token)
    room.accounts.close_session(request.cookies[COOKIE])
    room.note("LoggedOut", session.user.name)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE, path="/")
    return response


def _frame(room: Room, session: Session) -> dict[str, Any]:
    sees_audit = session.user.role in (Role.ADMIN, Role.AUDITOR) or not room.accounts.exist()
    return {"title": room.title, "session": session, "sees_audit": sees_audit}


def _login(room: Room, to: str, told: str = "") -> str:
    return page("login.html", to=to, told=told, by_name=not room.accounts.exist(), session=None)


def _inside(to: str) -> str:
    """A path of ours: nobody is sent elsewhere after a login."""
    return to if to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable() else "/"
