"""`audit_dataset`: read a data set's folder, measure its files, and let every check look."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammoscope.cluster import Spread
from mammoscope.datasets.audit.checks import CHECKS
from mammoscope.datasets.audit.measures import ImageFile, Progress, measure_files
from mammoscope.datasets.audit.model import AuditFinding, Check, Severity
from mammoscope.datasets.audit.overlap import IN_ANOTHER_SET, overlapping
from mammoscope.datasets.audit.subject import AuditedDataset, audited, read_entries
from mammoscope.imaging import MammogramReader


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found, by falling severity."""

    dataset: AuditedDataset
    findings: tuple[AuditFinding, ...]

    def count(self, severity: Severity) -> int:
        """How many findings are of that severity."""
        return sum(finding.check.severity is severity for finding in self.findings)

    @property
    def by_check(self) -> dict[Check, tuple[AuditFinding, ...]]:
        """The findings of each check that found any, by falling severity."""
        grouped: dict[Check, list[AuditFinding]] = {}
        for finding in self.findings:
            grouped.setdefault(finding.check, []).append(finding)
        return {check: tuple(findings) for check, findings in grouped.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "images": len(self.dataset.images),
            "counts": {str(severity): self.count(severity) for severity in Severity},
            "by_check": dict(Counter(finding.check.name for finding in self.findings)),
            "findings": [finding.to_json() for finding in self.findings],
        }


def audit_dataset(
    folder: Path,
    *,
    resume: bool = False,
    jobs: int | None = None,
    reader: MammogramReader | None = None,
    spread: Spread | None = None,
    checks: Sequence[Check] = CHECKS,
    against: Sequence[Path] = (),
    progress: Progress | None = None,
) -> Audit:
    """Look for everything in a data set that spoils figures.

    Parameters
    ----------
    resume, jobs, reader, spread, progress
        As `measure_files` takes them.
    checks
        All by default.
    against
        Folders of other data sets, in which its images are looked for.

    Raises
    ------
    DatasetError
        If it is not a data set's folder, its annotations are not COCO at all, or the measures cannot be kept in it.
    """
    folder = Path(folder)
    entries = read_entries(folder)
    files = [ImageFile(number, str(entry["file_name"]), entries.path_of(number)) for number, entry in
             sorted(entries.images.items())]  # fmt: skip
    measures = measure_files(folder, files, resume=resume, jobs=jobs, reader=reader, spread=spread, progress=progress)
    dataset = audited(entries, measures)
    found = [AuditFinding(check, case) for check in checks for case in check.look(dataset)]
    found += [
        AuditFinding(IN_ANOTHER_SET, case)
        for other in against
        for case in overlapping(dataset, Path(other), jobs=jobs, reader=reader)
    ]
    order = list(Severity)
    return Audit(dataset, tuple(sorted(found, key=lambda finding: order.index(finding.check.severity))))
