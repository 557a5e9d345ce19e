"""How long a run will still take."""

from collections import deque

from mammoscope.training.recipe import RunSection, ScheduleSection

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
