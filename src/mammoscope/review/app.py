"""The application: pages, JSON and static files of one reading room, behind the same guard."""

from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles

from mammoscope import __version__
from mammoscope.errors import MammoscopeError, what_is_wrong
from mammoscope.imaging import MammogramError, MammogramUnavailableError
from mammoscope.logging import where_raised
from mammoscope.review import api, pages
from mammoscope.review.access import NotLoggedInError, refusal
from mammoscope.review.accounts import LoginLimiter
from mammoscope.review.errors import ConflictError, ForbiddenError, NotFoundError
from mammoscope.review.pages.rendering import STATIC, page
from mammoscope.review.room import ReadingRoom

SECURITY_HEADERS = {
    # Nothing is loaded from anywhere else, no script is written into a page, nothing frames us.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with none at all a form of ours would come from "null"
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
MOST_BODY_BYTES = 64 * 1024
"""Of what a page sends; the largest is the list of a study's images when a reading is ended."""

log = structlog.get_logger(__name__)


def make_app(room: ReadingRoom, *, secure: bool = False) -> FastAPI:
    """Make the application that serves a reading room.

    Parameters
    ----------
    room
        Started.
    secure
        Whether browsers reach it by https: then their cookies travel by nothing else.
    """
    app = FastAPI(
        title="Mammoscope's reading room", version=__version__, docs_url=None, redoc_url=None,
        description="What the pages' scripts ask for. Research use only; not a medical device.",
    )  # fmt: skip
    app.state.room = room
    app.state.secure = secure
    app.state.limiter = LoginLimiter()
    app.middleware("http")(_guard)
    for router in (api.studies, api.images, api.figures):
        app.include_router(router, responses=_ANSWERS)
    app.include_router(pages.router, include_in_schema=False)
    static = GZipMiddleware(StaticFiles(directory=str(files("mammoscope.review") / "static")))
    for path in (STATIC, "/static"):
        app.mount(path, static)
    app.add_exception_handler(NotLoggedInError, _log_in_first)
    app.add_exception_handler(MammoscopeError, _in_a_sentence)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(HTTPException, _wrong_address)
    app.add_exception_handler(Exception, _unexpected)
    return app


_ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {"description": "Not possible; ``detail`` says why."},
    401: {"description": "Nobody is logged in."},
    403: {"description": "Not allowed."},
    404: {"description": "Not there, or no longer."},
    409: {"description": "Changed elsewhere; ``now`` says what it is."},
    422: {"description": "The request, or the image, cannot be read."},
    503: {"description": "The machine is in trouble: try again."},
}


_HEADINGS = {403: "Not allowed", 404: "Not here", 500: "Something went wrong", 503: "In trouble"}


async def _guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MOST_BODY_BYTES or "transfer-encoding" in request.headers:
        response: Response = _told(request, 413, "that is more than any page sends.")
    elif why := await run_in_threadpool(refusal, request):
        response = _told(request, 403, why)
    else:
        response = await answer(request)
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    if request.url.path.startswith(f"{STATIC}/"):
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    elif not request.url.path.startswith("/static/"):
        response.headers.setdefault("Cache-Control", "no-store")
    else:
        response.headers["Cache-Control"] = "no-cache"  # asked for again, answered by 304
    return response


def _log_in_first(request: Request, _: Exception) -> Response:
    if _wants_page(request):
        return RedirectResponse(f"/login?to={quote(request.url.path, safe='/')}", 303)
    return JSONResponse({"detail": "Your session ended: log in again."}, 401)


def _in_a_sentence(request: Request, error: Exception) -> Response:
    kinds: tuple[tuple[type[Exception], int], ...] = (
        (NotFoundError, 404), (ConflictError, 409), (ForbiddenError, 403), (MammogramUnavailableError, 503),
        (MammogramError, 422),
    )  # fmt: skip
    status = next((status for kind, status in kinds if isinstance(error, kind)), 400)
    now = error.now if isinstance(error, ConflictError) else None
    return _told(request, status, str(error), now)


def _not_understood(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first.get("loc", ("",))[0] == "path" and _wants_page(request):
        return _wrong_address(request, HTTPException(404))
    where = ".".join(str(part) for part in first.get("loc", ())[1:])
    return _told(request, 422, f"the request cannot be read: {where}: {what_is_wrong(first, quoting=False)}.")


def _wrong_address(request: Request, error: Exception) -> Response:
    """What the framework itself refuses: an address that leads nowhere, or a method that it does not take."""
    assert isinstance(error, HTTPException)
    sentences = {
        404: "there is nothing at this address: look whether it is typed right, or begin at the worklist.",
        405: "this address is not asked for in that way.",
    }
    response = _told(request, error.status_code, sentences.get(error.status_code, str(error.detail)))
    response.headers.update(error.headers or {})
    return response


def _unexpected(request: Request, error: Exception) -> Response:
    log.error("page failed", path=request.url.path, error=where_raised(error))
    response = _told(request, 500, "something went wrong here; the log says what. Nothing that was saved is lost.")
    response.headers.update(SECURITY_HEADERS)
    return response


def _told(request: Request, status: int, sentence: str, now: object = None) -> Response:
    sentence = sentence[:1].upper() + sentence[1:]
    if _wants_page(request):
        return HTMLResponse(
            page("told.html", heading=_HEADINGS.get(status, "Not possible"), sentence=sentence, session=None), status
        )
    return JSONResponse({"detail": sentence, **({"now": now} if now is not None else {})}, status)


def _wants_page(request: Request) -> bool:
    """Whether whoever asks is to see a page: a browser in its address line, and whoever asks for a page of ours."""
    if "hx-request" in request.headers:
        return False
    asked = request.headers.get("accept", "")
    return "text/html" in asked or not request.url.path.startswith(("/api/", "/static/"))
