"""The findings of a mammography CAD report: impressions, composite features, single image findings.

TID 4003 to 4006 and 4019 of DICOM PS3.16. A mass seen on one image is a Single Image Finding in an Individual
Impression of its own. One that is surely seen on two views is a Composite Feature in the place of its two findings,
which it is inferred from.
"""

from collections.abc import Sequence

from mammoscope.findings import Algorithm, Box
from mammoscope.results import concepts
from mammoscope.results.derived import printable
from mammoscope.results.pairing import PAIRING
from mammoscope.results.sr_items import (
    GraphicType,
    Item,
    Relationship,
    code,
    container,
    num,
    scoord,
    text,
    uid_reference,
)
from mammoscope.results.study import ReadMammogram, TrackedFinding, result_uid

FINDING_CODES = {"mass": concepts.MASS_ON_ONE_IMAGE}
"""Single image findings (CID 6014) by the class of a finding."""

FEATURE_CODES = {"mass": concepts.MASS_ON_SEVERAL_IMAGES}
"""Composite features (CID 6016) by the class of a finding."""


def uncoded_classes(read: ReadMammogram) -> list[str]:
    """Classes of this image's findings for which there is no code here, rather than calling them a mass."""
    return sorted({finding.label for finding in read.reading.findings if finding.label.casefold() not in FINDING_CODES})


def outline(box: Box) -> list[tuple[float, float]]:
    """The corners of a box, clockwise from the top left and back to it: a closed polyline."""
    x0, y0, x1, y1 = box.as_tuple()
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]


def impression(*tracked: tuple[TrackedFinding, Item], algorithm: Algorithm) -> Item:
    """TID 4003: one finding, or two that are one lesion.

    Parameters
    ----------
    tracked
        Each finding with the library entry of its image.
    """
    content = (
        _single_image_finding(Relationship.CONTAINS, *tracked[0], algorithm)
        if len(tracked) == 1
        else _composite_feature(tracked, algorithm)
    )
    return container(
        Relationship.INFERRED_FROM,
        concepts.INDIVIDUAL_IMPRESSION,
        code(Relationship.HAS_CONCEPT_MOD, concepts.RENDERING_INTENT, concepts.PRESENTATION_REQUIRED),
        content,
    )


def algorithm_items(algorithm: Algorithm, parameters: Sequence[str] = ()) -> list[Item]:
    """TID 4019."""
    properties = Relationship.HAS_PROPERTIES
    return [
        text(properties, concepts.ALGORITHM_NAME, printable(algorithm.name)),
        text(properties, concepts.ALGORITHM_VERSION, printable(algorithm.version)),
        *(text(properties, concepts.ALGORITHM_PARAMETERS, printable(parameter)) for parameter in parameters),
    ]


def _composite_feature(tracked: Sequence[tuple[TrackedFinding, Item]], algorithm: Algorithm) -> Item:
    """TID 4004 with 4005: as sure as the surer of its findings."""
    findings = [finding for finding, _ in tracked]
    properties, observed = Relationship.HAS_PROPERTIES, Relationship.HAS_OBS_CONTEXT
    uid = result_uid("lesion", findings[0].tracking_uid, algorithm, *(f.tracking_uid for f in findings[1:]))
    label = findings[0].finding.label
    certainty = round(max(finding.finding.score for finding in findings) * 100, 1)
    return code(
        Relationship.CONTAINS,
        concepts.COMPOSITE_FEATURE,
        FEATURE_CODES[label.casefold()],
        code(Relationship.HAS_CONCEPT_MOD, concepts.RENDERING_INTENT, concepts.PRESENTATION_REQUIRED),
        text(observed, concepts.TRACKING_IDENTIFIER, printable(f"{label} on {len(findings)} views, {uid[-12:]}")),
        uid_reference(observed, concepts.TRACKING_UNIQUE_IDENTIFIER, uid),
        code(properties, concepts.COMPOSITE_TYPE, concepts.RELATED_SPATIALLY),
        code(properties, concepts.SCOPE_OF_FEATURE, concepts.ON_MULTIPLE_IMAGES),
        *algorithm_items(PAIRING),
        num(properties, concepts.CERTAINTY_OF_FEATURE, certainty, concepts.PERCENT),
        *(_single_image_finding(Relationship.INFERRED_FROM, *one, algorithm) for one in tracked),
    )


def _single_image_finding(
    relationship: Relationship, tracked: TrackedFinding, entry: Item, algorithm: Algorithm
) -> Item:
    """TID 4006. The finding's image is the library entry that its coordinates are selected from."""
    certainty = round(tracked.finding.score * 100, 1)
    properties = Relationship.HAS_PROPERTIES
    observed = Relationship.HAS_OBS_CONTEXT
    return code(
        relationship,
        concepts.SINGLE_IMAGE_FINDING,
        FINDING_CODES[tracked.finding.label.casefold()],
        code(Relationship.HAS_CONCEPT_MOD, concepts.RENDERING_INTENT, concepts.PRESENTATION_REQUIRED),
        text(observed, concepts.TRACKING_IDENTIFIER, printable(tracked.tracking_identifier)),
        uid_reference(observed, concepts.TRACKING_UNIQUE_IDENTIFIER, tracked.tracking_uid),
        *algorithm_items(algorithm),
        num(properties, concepts.CERTAINTY_OF_FINDING, certainty, concepts.PERCENT),
        scoord(properties, concepts.CENTER, GraphicType.POINT, [tracked.box.center], entry),
        scoord(properties, concepts.OUTLINE, GraphicType.POLYLINE, outline(tracked.box), entry),
    )
