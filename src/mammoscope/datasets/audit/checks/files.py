"""Entries that cannot be followed, and files that cannot be read or are others than the entries say."""

from collections.abc import Iterator

from mammoscope.datasets.audit.model import Case, Check, Severity
from mammoscope.datasets.audit.subject import AuditedDataset


def broken_entries(audited: AuditedDataset) -> Iterator[Case]:
    """Entries of the COCO file that cannot be used."""
    for said, name in audited.complaints:
        yield Case(said, (name,) if name else ())


def unreadable(audited: AuditedDataset) -> Iterator[Case]:
    """Files that are missing, empty, damaged or cut short."""
    for image in audited:
        if image.measures.unreadable is not None:
            yield Case(image.measures.unreadable, (image.file_name,))


def other_size(audited: AuditedDataset) -> Iterator[Case]:
    """Files of another size than their entry says."""
    for image in audited.readable:
        measures = image.measures
        if (image.rows, image.columns) != (measures.rows, measures.columns):
            yield Case(
                f"The entry says {image.rows} rows and {image.columns} columns; the file has {measures.rows} and "
                f"{measures.columns}.",
                (image.file_name,),
            )


CHECKS = (
    Check(
        "broken entry", Severity.ERROR, "What it says is lost, or every program stops at it.",
        "Correct or remove the entry in annotations.json.", broken_entries,
    ),
    Check(
        "unreadable file", Severity.ERROR, "Training and evaluation stop at it, or silently go without it.",
        "Copy the file again from its source and compare its size or hash.", unreadable,
    ),
    Check(
        "other size", Severity.ERROR, "Boxes are in pixels: in an image of another size they lie elsewhere.",
        "Find out which is right: put the original file back, or scale the boxes and correct the entry.", other_size,
    ),
)  # fmt: skip
