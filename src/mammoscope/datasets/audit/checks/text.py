"""Text burned into the picture."""

from collections.abc import Iterator

from mammoscope.datasets.audit.model import Case, Check, Severity
from mammoscope.datasets.audit.subject import AuditedDataset


def burned_in(audited: AuditedDataset) -> Iterator[Case]:
    """Rows of letter-like things outside the breast. They are pointed at; what they say is never read."""
    for image in audited.showing:
        if places := image.measures.glyphs:
            said = f"What looks like text is burned in at {len(places)} place{'s' if len(places) > 1 else ''}."
            yield Case(said, (image.file_name,), marks=places)


CHECKS = (
    Check(
        "text burned in", Severity.NOTE,
        "It may name the patient, and a network may learn from it where the image was taken.",
        "Look at it before the image leaves the house, and cover it where it names somebody.", burned_in,
    ),
)  # fmt: skip
