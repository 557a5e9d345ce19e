"""An audit as one page that a person opens in a browser. It holds images of patients: keep it where they are kept."""

from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from mammoscope import __version__
from mammoscope.datasets.audit.auditing import Audit
from mammoscope.datasets.audit.fixing import Fix
from mammoscope.datasets.audit.model import AuditFinding, Check, Severity
from mammoscope.datasets.audit.pictures import data_url
from mammoscope.imaging import MammogramReader

_PER_CASE = 4
"""Images shown of one case."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """A case with its pictures as (file name, data URL or ``None``)."""

    finding: AuditFinding
    pictures: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class _Section:
    check: Check
    count: int
    shown: tuple[_Shown, ...]
    rest: tuple[AuditFinding, ...]


def audit_html(
    audit: Audit, *, most: int = 24, fixes: tuple[Fix, ...] = (), reader: MammogramReader | None = None
) -> str:
    """The audit as one HTML document with everything in it.

    Parameters
    ----------
    most
        How many cases of each check are shown with pictures; the others are named.
    fixes
        What was repaired.
    reader
        Reads the images instead of a reader of its own; it stays open.
    """
    if reader is None:
        with MammogramReader() as own:
            return audit_html(audit, most=most, fixes=fixes, reader=own)
    environment = Environment(
        loader=PackageLoader("mammoscope.datasets.audit"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    dataset = audit.dataset
    return environment.get_template("audit.html").render(
        name=dataset.folder.resolve().name,
        images=len(dataset.images),
        patients=len({image.patient for image in dataset}),
        boxes=sum(len(image.boxes) for image in dataset),
        counts=[(severity.value, audit.count(severity)) for severity in Severity],
        sections=[
            _Section(
                check,
                len(found),
                tuple(_shown(audit, finding, reader) for finding in found[:most]),
                found[most:],
            )
            for check, found in audit.by_check.items()
        ],
        fixes=fixes,
        version=__version__,
    )


def _shown(audit: Audit, finding: AuditFinding, reader: MammogramReader) -> _Shown:
    by_name = {image.file_name: image for image in audit.dataset}
    names = [name for name in finding.case.file_names if name in by_name]
    pictures = [(name, data_url(by_name[name], finding.case, reader)) for name in names[:_PER_CASE]]
    return _Shown(finding, tuple(pictures))
