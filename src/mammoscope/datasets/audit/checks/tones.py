"""Polarity, bit depth and window: grey levels that are not those of the exposure."""

from collections.abc import Iterator

from mammoscope.datasets.audit.model import Case, Check, Severity
from mammoscope.datasets.audit.subject import AuditedDataset

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


CHECKS = (
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
