"""Synthetic screening studies for the demo, the health check and the tests: no patient was ever in them."""

from mammoscope.phantom.anatomy import Anatomy, Breast, Margin, Mass
from mammoscope.phantom.study import (
    COLUMNS,
    MOST_MASSES,
    ROWS,
    PhantomError,
    PhantomImage,
    PhantomStudy,
    screening_study,
)

__all__ = [
    "COLUMNS",
    "MOST_MASSES",
    "ROWS",
    "Anatomy",
    "Breast",
    "Margin",
    "Mass",
    "PhantomError",
    "PhantomImage",
    "PhantomStudy",
    "screening_study",
]
