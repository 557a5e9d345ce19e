"""What can go wrong in the reading room and is told to whoever reads."""

from collections.abc import Mapping
from typing import Any

from mammoscope.errors import MammoscopeError


class ReviewError(MammoscopeError):
    """Something that the person at the page, or whoever serves it, can mend."""


class NotFoundError(ReviewError):
    """A study, an image or a mark that is not there, or is no longer."""


class ConflictError(ReviewError):
    """Somebody, or the same person in another tab, changed it in between.

    Parameters
    ----------
    now
        What it is now, for the page to show.
    """

    def __init__(self, sentence: str, now: Mapping[str, Any] | None = None) -> None:
        super().__init__(sentence)
        self.now = now or {}


class ForbiddenError(ReviewError):
    """Something that this person may not do or see."""
