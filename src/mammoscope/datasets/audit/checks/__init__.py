"""The checks of an audit, one small function each."""

from mammoscope.datasets.audit.checks import (
    anatomy,
    boxes,
    duplicates,
    files,
    masks,
    patients,
    placement,
    shape,
    text,
    tones,
)
from mammoscope.datasets.audit.model import Check

CHECKS: tuple[Check, ...] = (
    *files.CHECKS,
    *patients.CHECKS,
    *duplicates.CHECKS,
    *boxes.CHECKS,
    *placement.CHECKS,
    *masks.CHECKS,
    *anatomy.CHECKS,
    *tones.CHECKS,
    *shape.CHECKS,
    *text.CHECKS,
)
"""All checks, in the order in which findings of one severity are shown."""

__all__ = ["CHECKS"]
