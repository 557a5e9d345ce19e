"""What validation decides: which weights are kept, and when to stop."""

import math
from dataclasses import dataclass

from mammoscope.training.recipe import SelectionSection


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
