"""Images forced into another shape."""

from collections.abc import Iterator

from mammoscope.datasets.audit.model import Case, Check, Severity
from mammoscope.datasets.audit.subject import AuditedDataset

_SQUARE = 0.01
_PADDING = 0.02


def stretched(audited: AuditedDataset) -> Iterator[Case]:
    """Square images that no padding on both sides makes square: neither film nor detector is.

    Where the file states its pixels to be square, it is believed.
    """
    for image in audited.readable:
        rows, columns = image.measures.rows, image.measures.columns
        x0, _, x1, _ = image.measures.content
        padded = x0 > _PADDING and x1 < 1 - _PADDING  # of the two sides, the breast itself reaches one
        if abs(rows / columns - 1) <= _SQUARE and not padded and not image.measures.square_pixels:
            said = (
                f"It has {rows} rows and {columns} columns, but a mammogram is 1.2 to 2.5 times as high as wide: "
                "it was stretched, or padded on the side of the air."
            )
            yield Case(said, (image.file_name,))


CHECKS = (
    Check(
        "stretched", Severity.WARNING,
        "A lesion's shape is a sign of what it is; a network trained on stretched ones misjudges others.",
        "Import again with --native-sizes, or take the originals.", stretched,
    ),
)  # fmt: skip
