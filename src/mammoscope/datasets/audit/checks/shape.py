"""Images forced into another shape."""

from collections.abc import Iterator

from mammoscope.datasets.audit.model import Case, Check, Severity
from mammoscope.datasets.audit.subject import AuditedDataset

_SQUARE = 0.01
_PADDED = 0.9


def stretched(audited: AuditedDataset) -> Iterator[Case]:
    """Square images that no padding makes square: neither film nor detector is.

    Where the file states its pixels to be square, it is believed.
    """
    for image in audited.readable:
        rows, columns = image.measures.rows, image.measures.columns
        x0, y0, x1, y1 = image.measures.content
        padded = (x1 - x0) < _PADDED or (y1 - y0) < _PADDED
        if abs(rows / columns - 1) <= _SQUARE and not padded and not image.measures.square_pixels:
            said = f"It has {rows} rows and {columns} columns; a mammogram is 1.2 to 2.5 times as high as wide."
            yield Case(said, (image.file_name,))


CHECKS = (
    Check(
        "stretched", Severity.WARNING,
        "A lesion's shape is a sign of what it is; a network trained on stretched ones misjudges others.",
        "Import again with --native-sizes, or take the originals.", stretched,
    ),
)  # fmt: skip
