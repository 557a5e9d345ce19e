"""Pages from the templates; whatever is put into one is escaped."""

import hashlib
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mammoscope import __version__
from mammoscope.review.access import administers, oversees
from mammoscope.review.accounts import Session
from mammoscope.review.room import ReadingRoom
from mammoscope.review.wording import counted
from mammoscope.untrusted_text import one_line


def _digest_of_static() -> str:
    """Names the scripts and styles of this version, so that a browser may keep them for ever."""
    digest, folder = hashlib.sha256(), Path(str(files("mammoscope.review").joinpath("static")))
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


STATIC = f"/static/{_digest_of_static()}"
"""Where pages find scripts and styles."""


def _shown(value: object) -> str:
    return one_line(value, 300)


def _moment(value: datetime) -> str:
    return value.astimezone().strftime("%Y-%m-%d %H:%M")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value * 100:.0f} %"


def _interval(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"


_environment = Environment(
    loader=PackageLoader("mammoscope.review", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters.update(shown=_shown, moment=_moment, percent=_percent, interval=_interval, counted=counted)
_environment.globals.update(version=__version__, static=STATIC)


def frame(room: ReadingRoom, session: Session) -> dict[str, Any]:
    """What every page of somebody who is logged in has around it."""
    sees = oversees(room, session)
    return {
        "title": room.title, "session": session, "sees_audit": sees, "sees_node": sees and room.node is not None,
        "administers": administers(room, session) and room.node is not None,
        "may_export": administers(room, session) and room.export is not None,
    }  # fmt: skip


def page(template: str, **values: Any) -> str:
    """A page, or a part of one, as HTML."""
    return _environment.get_template(template).render(**values)
