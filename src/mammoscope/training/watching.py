"""What a training tells whoever watches it."""

from dataclasses import dataclass
from typing import Any, Protocol


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

    def prepared(self, done: int, total: int) -> None:
        """That many mammograms are prepared."""

    def resumed(self, iteration: int) -> None:
        """The run goes on after that many iterations."""

    def stepped(self, step: Step) -> None:
        """An optimiser step is done."""

    def validated(self, iteration: int, figures: dict[str, Any]) -> None:
        """The validation split was evaluated."""

    def stopped_early(self, iteration: int, best: int) -> None:
        """Patience is over; the best validation was after ``best`` iterations."""


class Unwatched:
    """Tells nobody: all processes but the first."""

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
