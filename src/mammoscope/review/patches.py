"""What the model got wrong by its readers' word, the worst first: lesions that it missed, and its false alarms."""

from dataclasses import dataclass

from mammoscope.findings import Box
from mammoscope.review.room import ReadingRoom, name_of
from mammoscope.review.store import Origin, Verdict

MOST = 60
"""Of each kind."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A box to look at.

    Parameters
    ----------
    caption
        Patient and view.
    score
        Of a false alarm.
    """

    study: int
    image: int
    key: str
    box: Box
    caption: str
    score: float | None = None


def worst(room: ReadingRoom) -> tuple[list[Patch], list[Patch]]:
    """Misses, the largest first, and false alarms, the surest first, of the studies that readers are done with."""
    misses, alarms = [], []
    for row in room.store.finished():
        images = {image.id: image for image in room.store.images(row.id)}
        for image, marks in room.store.truth(row.id).marks.items():
            there = images[image]
            for mark in marks:
                caption = f"{row.patient} {name_of(there)}"
                patch = Patch(row.id, image, there.key, mark.box, caption, mark.score)
                if mark.origin is Origin.READER and mark.verdict is Verdict.ACCEPTED:
                    misses.append(patch)
                elif mark.origin is Origin.MODEL and mark.verdict is Verdict.REJECTED:
                    alarms.append(patch)
    misses.sort(key=lambda patch: -patch.box.width * patch.box.height)
    alarms.sort(key=lambda patch: -(patch.score or 0.0))
    return misses[:MOST], alarms[:MOST]
