"""Entries that cannot be followed, and files that cannot be read or are others than the entries say.

Images forced into another shape.

Polarity, bit depth and window: grey levels that are not those of the exposure.

Text burned into the picture.
"""

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


FILE_CHECKS = (
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


SHAPE_CHECKS = (
    Check(
        "stretched", Severity.WARNING,
        "A lesion's shape is a sign of what it is; a network trained on stretched ones misjudges others.",
        "Import again with --native-sizes, or take the originals.", stretched,
    ),
)  # fmt: skip


_WHITE = 0.1
_DIM = 0.3


def constant(audited: AuditedDataset) -> Iterator[Case]:
    """Images of one grey level, or nearly."""
    for image in audited.readable:
        if image.measures.blank:
            span = image.measures.highest - image.measures.lowest
            said = f"Its grey levels span {100 * span:.1f} % of the scale: there is nothing to see."
            yield Case(said, (image.file_name,))


def inverted(audited: AuditedDataset) -> Iterator[Case]:
    """Images whose background is white as displayed."""
    for image in audited.readable:
        if image.measures.negative:
            by = f" ({image.measures.photometric})" if image.measures.photometric else ""
            yield Case(f"As displayed{by}, the background is bright and the breast dark.", (image.file_name,))


def eight_bits(audited: AuditedDataset) -> Iterator[Case]:
    """Files of more than 8 bits that hold no more grey levels than 8 bits have."""
    for image in audited.readable:
        measures = image.measures
        if measures.bits and measures.bits > 8 and measures.levels <= 256 and not measures.blank:
            yield Case(
                f"It is stored with {measures.bits} bits, but has {measures.levels} grey levels only.",
                (image.file_name,),
            )


def clipped(audited: AuditedDataset) -> Iterator[Case]:
    """Breasts that are white over a large part, or stay dark: the window or the scan is wrong."""
    for image in audited.showing:
        measures = image.measures
        if measures.white > _WHITE:
            yield Case(f"{100 * measures.white:.0f} % of the breast is plain white.", (image.file_name,))
        elif measures.highest < _DIM:
            yield Case(f"Its brightest pixel has {100 * measures.highest:.0f} % of white.", (image.file_name,))


TONE_CHECKS = (
    Check(
        "constant image", Severity.ERROR, "It teaches that nothing is a normal breast.",
        "Copy or export the image again from its source.", constant,
    ),
    Check(
        "polarity", Severity.ERROR, "Masses are bright: in a negative a network sees none.",
        "Correct Photometric Interpretation (MONOCHROME1 or MONOCHROME2), or invert the picture.", inverted,
    ),
    Check(
        "bit depth", Severity.NOTE, "The file promises more than it holds: fine contrast was lost on the way.",
        "If the collection has deeper originals, import those.", eight_bits,
    ),
    Check(
        "window", Severity.WARNING, "What is plain white or black is lost to reader and network alike.",
        "Export again with the full range, or correct Window Center and Width.", clipped,
    ),
)  # fmt: skip


def burned_in(audited: AuditedDataset) -> Iterator[Case]:
    """Rows of letter-like things outside the breast. They are pointed at; what they say is never read."""
    for image in audited.showing:
        if places := image.measures.glyphs:
            said = f"What looks like text is burned in at {len(places)} place{'s' if len(places) > 1 else ''}."
            yield Case(said, (image.file_name,), marks=places)


TEXT_CHECKS = (
    Check(
        "text burned in", Severity.NOTE,
        "It may name the patient, and a network may learn from it where the image was taken.",
        "Look at it before the image leaves the house, and cover it where it names somebody.", burned_in,
    ),
)  # fmt: skip
