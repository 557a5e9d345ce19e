"""How far the annotation of each image is, and what became of each box: a log that is only ever added to."""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Self

from mammoscope.datasets.errors import DatasetError
from mammoscope.findings import Box

REVIEWS = "review.jsonl"
"""The log in a data set's folder: one JSON object a line, the oldest first."""


class ReviewState(StrEnum):
    """What may be relied on in an image's boxes."""

    UNANNOTATED = "unannotated"
    """Nobody looked for lesions: that it has no boxes says nothing."""
    ANNOTATED = "annotated"
    """Somebody did; no boxes means no lesions."""
    VALIDATED = "validated"
    """An expert confirmed the boxes."""
    DISPUTED = "disputed"
    """Readers differ."""


@dataclass(frozen=True, slots=True)
class ReviewEvent:
    """One line of the log: an image got a state, or one of its boxes was changed.

    Parameters
    ----------
    at, by
        When (ISO 8601, UTC) and who.
    image_id, file_name
        The image; a line counts for the image that has both.
    state, boxes_hash
        The new state, and `boxes_hash` of the boxes that it was given to; ``None`` for a change of a box.
    box, change, before, after
        The COCO annotation id; ``added``, ``moved``, ``relabelled`` or ``removed``; its ``bbox`` and ``label`` before
        and after. ``None`` for a new state.
    """

    at: str
    by: str
    image_id: int
    file_name: str
    state: ReviewState | None = None
    boxes_hash: str | None = None
    note: str | None = None
    box: int | None = None
    change: str | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, without what is ``None``."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """An event from what `to_json` made.

        Raises
        ------
        TypeError, ValueError
            If a key is missing or unknown, or the state is none.
        """
        event = cls(**data)
        if type(event.image_id) is not int or not all(isinstance(v, str) for v in (event.at, event.by)):
            raise ValueError("not an event")
        state = data.get("state")
        return cls(**{**data, "state": None if state is None else ReviewState(state)})


def now() -> str:
    """The present moment as the log writes it: ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def read_events(folder: Path) -> tuple[ReviewEvent, ...]:
    """The log of a data set's folder; empty where there is none.

    A last line that ends in the middle was being written when the power failed: it is left out.

    Raises
    ------
    DatasetError
        If another line is not an event.
    """
    path = folder / REVIEWS
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from None
    events = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            events.append(ReviewEvent.from_json(json.loads(line)))
        except (ValueError, TypeError):
            raise DatasetError(f"{path}, line {number}: this is not a line of a review; restore the file.") from None
    return tuple(events)


def append_events(folder: Path, events: Iterable[ReviewEvent]) -> None:
    """Add to the log, on disk when this returns.

    Raises
    ------
    DatasetError
        If the log cannot be written.
    """
    path = folder / REVIEWS
    lines = "".join(json.dumps(event.to_json(), ensure_ascii=False) + "\n" for event in events)
    try:
        with path.open("ab+") as file:
            _wait_for_others(file)
            _drop_torn_line(file)
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DatasetError(f"{path} cannot be written: {error.strerror or error}.") from None


def _wait_for_others(file: IO[bytes]) -> None:
    """Hold the log alone until it is closed, so that no half line of another reviewer is taken for a torn one."""
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)


def _drop_torn_line(file: IO[bytes]) -> None:
    file.seek(0)
    content = file.read()
    if content and not content.endswith(b"\n"):
        file.truncate(content.rfind(b"\n") + 1)


def boxes_hash(boxes: Sequence[Box], labels: Sequence[str], crowds: Sequence[Box]) -> str:
    """What a state was given to: a hash over boxes (to 0.01 pixel), labels and crowd regions, in any order."""
    marks = [(label, *box.as_tuple()) for label, box in zip(labels, boxes, strict=True)]
    marks += [("", *box.as_tuple()) for box in crowds]
    rounded = sorted([label, *(f"{value:.2f}" for value in edges)] for label, *edges in marks)
    return hashlib.sha256(json.dumps(rounded).encode()).hexdigest()[:16]


def latest_states(events: Iterable[ReviewEvent]) -> dict[tuple[int, str], ReviewEvent]:
    """The last event with a state of each image, by its id and file name."""
    return {(event.image_id, event.file_name): event for event in events if event.state is not None}


def state_of(stated: object, event: ReviewEvent | None, hashed: str) -> ReviewState:
    """The state of an image.

    Parameters
    ----------
    stated
        What its COCO entry says (``review``), for images without an event.
    event
        Its last event with a state.
    hashed
        `boxes_hash` of its boxes now: whoever validated others did not validate these, so that they are annotated.
    """
    if event is not None and event.state is not None:
        changed = event.state is ReviewState.VALIDATED and event.boxes_hash != hashed
        return ReviewState.ANNOTATED if changed else event.state
    try:
        return ReviewState(str(stated))
    except ValueError:
        return ReviewState.ANNOTATED
