"""What a training tells whoever watches it.

How long a run will still take.

What validation decides: which weights are kept, and when to stop.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

from mammoscope.training.recipe import RunSection, ScheduleSection, SelectionSection


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step as progress displays show it.

    Parameters
    ----------
    progress
        From 0 to 1.
    seconds_left
        Until the closing report is written, validations included.
    """

    iteration: int
    progress: float
    loss: float
    learning_rate: float
    seconds_left: float


class Watcher(Protocol):
    """Told how a training goes."""

    def noted(self, told: str) -> None:
        """What a person has to know of the data, a sentence."""

    def prepared(self, done: int, total: int) -> None:
        """That many mammograms are prepared."""

    def resumed(self, iteration: int) -> None:
        """The run resumes after that many iterations."""

    def stepped(self, step: Step) -> None:
        """An optimiser step is done."""

    def validated(self, iteration: int, figures: dict[str, Any]) -> None:
        """The validation split was evaluated."""

    def stopped_early(self, iteration: int, best: int) -> None:
        """Patience is over; the best validation was after ``best`` iterations."""


class Unwatched:
    """Tells nobody: all processes but the first."""

    def noted(self, told: str) -> None:
        """Nothing."""

    def prepared(self, done: int, total: int) -> None:
        """Nothing."""

    def resumed(self, iteration: int) -> None:
        """Nothing."""

    def stepped(self, step: Step) -> None:
        """Nothing."""

    def validated(self, iteration: int, figures: dict[str, Any]) -> None:
        """Nothing."""

    def stopped_early(self, iteration: int, best: int) -> None:
        """Nothing."""


_RECENT = 50


class Pace:
    """Seconds left until the closing report, by the pace of the last steps and of the last validation.

    Until a validation has been timed, an image of it is taken to need as long as an image of a step.

    Parameters
    ----------
    validation_images
        How many images a validation reads.
    """

    def __init__(self, schedule: ScheduleSection, run: RunSection, validation_images: int) -> None:
        self._schedule = schedule
        self._every = run.validate_every
        self._images = validation_images
        self._steps: deque[float] = deque(maxlen=_RECENT)
        self._validation: float | None = None

    def stepped(self, seconds: float) -> None:
        """A step took that long, loading its batch included."""
        self._steps.append(seconds)

    def validated(self, seconds: float) -> None:
        """A validation took that long."""
        self._validation = seconds

    def seconds_left(self, iteration: int, minutes: float) -> float:
        """After that many iterations and minutes; the closing validation lies beyond a budget of minutes."""
        step = sum(self._steps) / len(self._steps)
        validation = self._validation
        if validation is None:
            validation = step / self._schedule.batch * self._images
        on_the_way = (self._schedule.iterations - 1) // self._every - iteration // self._every
        left = step * (self._schedule.iterations - iteration) + validation * max(on_the_way, 0)
        if self._schedule.minutes is not None:
            left = min(left, max(self._schedule.minutes - minutes, 0.0) * 60)
        return left + validation


@dataclass(frozen=True, slots=True)
class Selection:
    """The best validation so far.

    Parameters
    ----------
    figure
        The best figure; minus infinity before the first.
    iteration
        When it was reached.
    stale
        Validations since then.
    last
        When the last validation was.
    """

    figure: float = -math.inf
    iteration: int = 0
    stale: int = 0
    last: int = 0

    def after(self, figure: float, iteration: int) -> "Selection":
        """With one more validation; of equal figures the earlier is the best.

        NaN, a validation that found nothing, is never better; before the first figure it tries no patience.
        """
        if figure > self.figure:
            return Selection(figure, iteration, 0, iteration)
        stale = self.stale if self.figure == -math.inf else self.stale + 1
        return Selection(self.figure, self.iteration, stale, iteration)

    @property
    def is_fresh(self) -> bool:
        """Whether the last validation was the best."""
        return self.iteration == self.last and self.figure > -math.inf

    def patience_is_over(self, section: SelectionSection) -> bool:
        """Whether the run should end."""
        return section.patience is not None and self.stale >= section.patience
