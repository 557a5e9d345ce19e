"""Who is at the other end of a request, and whether it may do what it asks for."""

import hmac
import ipaddress
from typing import Annotated

from fastapi import Depends, Request

from mammoscope.review.accounts import Role, Session
from mammoscope.review.errors import ForbiddenError
from mammoscope.review.room import ReadingRoom

COOKIE = "mammoscope_session"
FORM_TOKEN_HEADER = "X-Form-Token"
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
LOCAL_NAMES = frozenset(("localhost", "127.0.0.1", "[::1]"))


class NotLoggedInError(Exception):
    """Nobody is logged in, or the session ended."""


def room_of(request: Request) -> ReadingRoom:
    """The reading room that a request is to."""
    room: ReadingRoom = request.app.state.room
    return room


def session_of(request: Request) -> Session:
    """The session of a request that only looks.

    Raises
    ------
    NotLoggedInError
        If there is none.
    """
    cookie = request.cookies.get(COOKIE)
    session = room_of(request).accounts.session(cookie) if cookie else None
    if session is None or (room_of(request).accounts.exist() and not session.user.is_known):
        raise NotLoggedInError
    return session


def changing_session_of(request: Request) -> Session:
    """The session of a request that changes something and shows that it comes from a page of ours.

    Raises
    ------
    NotLoggedInError
        If there is none.
    ForbiddenError
        If it does not carry the session's form token.
    """
    session = session_of(request)
    check_form_token(session, request.headers.get(FORM_TOKEN_HEADER, ""))
    return session


def check_form_token(session: Session, given: str) -> None:
    """Refuse what comes from elsewhere.

    Raises
    ------
    ForbiddenError
        If it is not the session's.
    """
    if not hmac.compare_digest(given.encode(), session.form_token.encode()):
        raise ForbiddenError("this was not sent from a page of the reading room: load the page again.")


def reader_of(session: Annotated[Session, Depends(changing_session_of)]) -> Session:
    """The session of somebody who may judge boxes.

    Raises
    ------
    ForbiddenError
        If the role is another.
    """
    if not session.user.role.may_read:
        raise ForbiddenError("an auditor reads no studies: log in as a reader.")
    return session


def oversees(room: ReadingRoom, session: Session) -> bool:
    """Whether somebody sees how the node stands and the audit trail; at a machine without accounts everybody does."""
    return session.user.role.may_see_the_node or not room.accounts.exist()


def administers(room: ReadingRoom, session: Session) -> bool:
    """Whether somebody may have the node read or send again; at a machine without accounts everybody may."""
    return session.user.role is Role.ADMIN or not room.accounts.exist()


def overseer_of(request: Request, session: Annotated[Session, Depends(session_of)]) -> Session:
    """The session of somebody who sees how the node stands.

    Raises
    ------
    ForbiddenError
        If the role is another.
    """
    if not oversees(room_of(request), session):
        raise ForbiddenError("this page is for administrators and auditors.")
    return session


def administrator_of(request: Request, session: Annotated[Session, Depends(session_of)]) -> Session:
    """The session of an administrator.

    Raises
    ------
    ForbiddenError
        If the role is another.
    """
    if not administers(room_of(request), session):
        raise ForbiddenError("this is for administrators.")
    return session


def refusal(request: Request) -> str | None:
    """Why a request is not answered at all, whoever sent it; ``None`` where it is.

    Without accounts only this machine is served: neither another one, nor one behind a proxy, nor a page of another
    site whose name was made to lead here. With or without, what a page of another site sends is refused.
    """
    site = request.headers.get("sec-fetch-site", "same-origin")
    if request.method not in SAFE_METHODS and site not in ("same-origin", "none"):
        return "this was sent by a page of another site."
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    if request.method not in SAFE_METHODS and origin and origin.partition("://")[2] != host:
        return "this was sent by a page of another site."
    if room_of(request).accounts.exist():
        return None
    forwarded = any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip"))
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if forwarded or not is_local(request.client.host if request.client else "") or name not in LOCAL_NAMES:
        return "without accounts the reading room is for its own machine only: add users with 'mammoscope readers add'."
    return None


def is_local(address: str) -> bool:
    """Whether an address is this machine's own."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


Room = Annotated[ReadingRoom, Depends(room_of)]
LoggedIn = Annotated[Session, Depends(session_of)]
Changing = Annotated[Session, Depends(changing_session_of)]
Reader = Annotated[Session, Depends(reader_of)]
Overseer = Annotated[Session, Depends(overseer_of)]
Administrator = Annotated[Session, Depends(administrator_of)]
