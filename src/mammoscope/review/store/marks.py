"""What a reader's actions make of an image's boxes: the actions one after another, those that were undone left out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from mammoscope.descriptors import WORDS
from mammoscope.findings import Box
from mammoscope.review.errors import ReviewError


class Origin(StrEnum):
    """Who put a box there first."""

    MODEL = "model"
    ANNOTATION = "annotation"
    READER = "reader"


class Verdict(StrEnum):
    """What a reader says of a box."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


class ActionKind(StrEnum):
    """What a reader can do."""

    ACCEPT = "accept"
    REJECT = "reject"
    CLEAR = "clear"
    """Take a verdict back."""
    DRAW = "draw"
    MOVE = "move"
    """Give a box another place or size; whoever mends a proposal accepts it."""
    DESCRIBE = "describe"
    """Give a box a class and what is said of it."""
    REMOVE = "remove"
    """Of a box that the reader drew."""
    UNDO = "undo"
    """The last action that counts."""


DETAILS = ("birads", "shape", "margin", "comment")
"""What can be said of a box besides its class (`mammoscope.descriptors.Description`)."""


NAMES = {"birads": "a BI-RADS category", "shape": "a shape", "margin": "a margin"}
"""What people call them."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A box that was there before anybody read, with what was said of it then."""

    id: int
    origin: Origin
    box: Box
    label: str
    score: float | None = None
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def mark(self) -> str:
        """What actions call it."""
        return f"p{self.id}"


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that a reader did.

    Parameters
    ----------
    number
        From 1, for each image and reader.
    mark
        Which box; of an undo whatever the page says.
    content
        Of DRAW ``box`` and ``label``, of MOVE ``box``, of DESCRIBE ``label`` and any of `DETAILS`.
    """

    number: int
    kind: ActionKind
    mark: str
    content: Mapping[str, Any]
    at: datetime
    reader: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A box as one reader left it."""

    id: str
    origin: Origin
    box: Box
    label: str
    score: float | None = None
    verdict: Verdict | None = None
    moved: bool = False
    details: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "id": self.id,
            "origin": str(self.origin),
            "box": list(self.box.as_tuple()),
            "label": self.label,
            "score": self.score,
            "verdict": self.verdict and str(self.verdict),
            "moved": self.moved,
            "details": dict(self.details),
        }


def replay(proposals: Iterable[Proposal], actions: Iterable[Action]) -> tuple[Mark, ...]:
    """The boxes of an image as a reader left them.

    Parameters
    ----------
    actions
        Of one reader on that image, the first one first.
    """
    marks = {p.mark: Mark(p.mark, p.origin, p.box, p.label, p.score, details=p.details) for p in proposals}
    for action in counting(actions):
        _apply(marks, action)
    return tuple(marks.values())


def counting(actions: Iterable[Action]) -> list[Action]:
    """The actions that were not undone."""
    kept: list[Action] = []
    for action in actions:
        if action.kind is not ActionKind.UNDO:
            kept.append(action)
        elif kept:
            kept.pop()
    return kept


def check_possible(
    marks: Sequence[Mark], undoable: bool, kind: ActionKind, mark: str, content: Mapping[str, Any]
) -> None:
    """Refuse an action that no state of the page allows.

    Raises
    ------
    ReviewError
        If its box is not there, is there already, or is no reader's own, or something is said of it in words that
        neither BI-RADS has nor the box had before.
    """
    there = next((one for one in marks if one.id == mark), None)
    for name, words in WORDS.items():
        said = content.get(name)
        if said and said not in words and (there is None or there.details.get(name) != said):
            raise ReviewError(f"{NAMES[name]} is one of {', '.join(words)}.")
    if kind is ActionKind.UNDO:
        if not undoable:
            raise ReviewError("there is nothing to undo on this image.")
    elif kind is ActionKind.DRAW:
        if there is not None or mark.startswith("p"):
            raise ReviewError("a box of that name is there already.")
    elif there is None:
        raise ReviewError("that box is not there, or is no longer: load the study again.")
    elif kind is ActionKind.REMOVE and there.origin is not Origin.READER:
        raise ReviewError("a proposed box is rejected, not removed.")


def _apply(marks: dict[str, Mark], action: Action) -> None:
    """Change the boxes; an action on a box that is no longer proposed changes nothing."""
    content, old = action.content, marks.get(action.mark)
    if action.kind is ActionKind.DRAW:
        details = {key: str(content[key]) for key in DETAILS if content.get(key)}
        box, label = Box(*content["box"]), str(content["label"])
        marks[action.mark] = Mark(action.mark, Origin.READER, box, label, verdict=Verdict.ACCEPTED, details=details)
    elif old is None:
        return
    elif action.kind is ActionKind.REMOVE:
        del marks[action.mark]
    elif action.kind is ActionKind.MOVE:
        marks[action.mark] = replace(old, box=Box(*content["box"]), moved=True, verdict=Verdict.ACCEPTED)
    elif action.kind is ActionKind.DESCRIBE:
        details = {key: str(content[key]) for key in DETAILS if content.get(key)}
        marks[action.mark] = replace(old, label=str(content["label"]), details=details, verdict=Verdict.ACCEPTED)
    else:
        verdict = {ActionKind.ACCEPT: Verdict.ACCEPTED, ActionKind.REJECT: Verdict.REJECTED}.get(action.kind)
        marks[action.mark] = replace(old, verdict=verdict)
