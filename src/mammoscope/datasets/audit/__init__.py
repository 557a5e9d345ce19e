"""The audit of a data set: what in it would spoil figures, and the repairs that are safe."""

from mammoscope.datasets.audit.checks import CHECKS
from mammoscope.datasets.audit.fixes import Fix, fix_dataset, planned_fixes
from mammoscope.datasets.audit.measures import Measures, measure, measure_pixels
from mammoscope.datasets.audit.model import AuditFinding, Case, Check, Severity
from mammoscope.datasets.audit.report import audit_html
from mammoscope.datasets.audit.run import Audit, audit_dataset

__all__ = [
    "CHECKS",
    "Audit",
    "AuditFinding",
    "Case",
    "Check",
    "Fix",
    "Measures",
    "Severity",
    "audit_dataset",
    "audit_html",
    "fix_dataset",
    "measure",
    "measure_pixels",
    "planned_fixes",
]
