"""The checks of an audit, one small function each."""

from mammoscope.datasets.audit.checks.boxes import BOX_CHECKS, MASK_CHECKS
from mammoscope.datasets.audit.checks.duplicates import DUPLICATE_CHECKS, PATIENT_CHECKS
from mammoscope.datasets.audit.checks.images import FILE_CHECKS, SHAPE_CHECKS, TEXT_CHECKS, TONE_CHECKS
from mammoscope.datasets.audit.checks.marks import MARK_CHECKS
from mammoscope.datasets.audit.checks.orientation import ORIENTATION_CHECKS
from mammoscope.datasets.audit.checks.placement import PLACEMENT_CHECKS
from mammoscope.datasets.audit.model import Check

CHECKS: tuple[Check, ...] = (
    *FILE_CHECKS,
    *PATIENT_CHECKS,
    *DUPLICATE_CHECKS,
    *BOX_CHECKS,
    *PLACEMENT_CHECKS,
    *MASK_CHECKS,
    *MARK_CHECKS,
    *ORIENTATION_CHECKS,
    *TONE_CHECKS,
    *SHAPE_CHECKS,
    *TEXT_CHECKS,
)
"""All checks, in the order in which findings of one severity are shown."""

__all__ = ["CHECKS"]
