"""The way in and out: names and passwords, the site's own login, and the end of a session."""

from math import ceil
from typing import Annotated

import structlog
from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from mammoscope.network import NetworkError
from mammoscope.review.access import COOKIE, Room, check_form_token, session_of
from mammoscope.review.accounts import ProviderLogin, User
from mammoscope.review.accounts.by_provider import ATTEMPT_SECONDS, BACK
from mammoscope.review.errors import NotFoundError, ReviewError
from mammoscope.review.pages.rendering import page
from mammoscope.review.wording import counted

ATTEMPT_COOKIE = "mammoscope_login"

router = APIRouter()
log = structlog.get_logger(__name__)


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
            told = f"Too many wrong passwords: try again in {counted(ceil(wait / 60), 'minute')}."
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
    return _session_begun(room, request, user, to)


@router.get("/login/openid")
def to_provider(room: Room, request: Request, to: Annotated[str, Query(max_length=300)] = "/") -> Response:
    """To the provider by whom people log in."""
    login, to = _provider(room), _inside(to)
    secure = request.app.state.secure
    base = f"{'https' if secure else 'http'}://{request.headers.get('host', '')}"
    try:
        cookie, url = login.begin(base, to)
    except NetworkError as error:
        return _not_logged_in(room, to, error, 503)
    response = RedirectResponse(url, 303)
    # Lax: it has to come along when the provider sends the browser back.
    response.set_cookie(
        ATTEMPT_COOKIE,
        cookie,
        max_age=int(ATTEMPT_SECONDS),
        httponly=True,
        samesite="lax",
        secure=secure,
        path="/login",
    )
    return response


@router.get(BACK)
def from_provider(room: Room, request: Request) -> Response:
    """Begin a session of whoever comes back from the provider."""
    login = _provider(room)
    address = request.client.host if request.client else ""
    try:
        user, to = login.finish(request.cookies.get(ATTEMPT_COOKIE, ""), dict(request.query_params), room.accounts)
    except (NetworkError, ReviewError) as error:
        room.note("LoginRefused", "", address=address)
        response = _not_logged_in(room, "/", error, 403)
    else:
        room.note("LoggedIn", user.name, address=address)
        response = _session_begun(room, request, user, to)
    response.delete_cookie(ATTEMPT_COOKIE, path="/login")
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


def _provider(room: Room) -> ProviderLogin:
    if room.login is None:
        raise NotFoundError("people log in to this reading room by no provider.")
    return room.login


def _session_begun(room: Room, request: Request, user: User, to: str) -> Response:
    response = RedirectResponse(to, 303)
    response.set_cookie(
        COOKIE, room.accounts.open_session(user), httponly=True, samesite="lax", secure=request.app.state.secure,
        path="/",
    )  # fmt: skip
    return response


def _not_logged_in(room: Room, to: str, error: Exception, status: int) -> Response:
    said = str(error).rstrip(".")
    log.warning("login by provider failed", reason=said)
    return HTMLResponse(_login(room, to, f"{said[:1].upper()}{said[1:]}."), status)


def _login(room: Room, to: str, told: str = "") -> str:
    return page(
        "login.html", to=to, told=told, by_name=not room.accounts.exist(), by_password=room.accounts.have_passwords(),
        provider=room.login.name if room.login else None, session=None,
    )  # fmt: skip


def _inside(to: str) -> str:
    """A path of ours: nobody is sent elsewhere after a login."""
    return to if to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable() else "/"
