"""What this node's detector marks, and what it would mark at other thresholds: by scanner, station, month and view.

From the node's records alone, so that it is known before anything is sent (shadow mode).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from mammoscope.evaluation.site import SiteGroup, SiteImage, by_group, drifts, group_at, lesion_scores
from mammoscope.findings import MOST_BELOW_THRESHOLD, Box, Finding, ReadingStatus
from mammoscope.node.db.repository import FoundBox, ReadImageRecord, Records

KINDS = ("scanner", "station", "month", "view")
"""Of groups, in the order in which they are told."""
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

Confirmed = Mapping[tuple[str, str], Sequence[Box]]
"""Lesions that readers confirmed, by Study and SOP Instance UID of each image that they are done with."""


@dataclass(frozen=True, slots=True)
class SiteImages:
    """The images that were read in a time.

    Parameters
    ----------
    read
        Those that were processed.
    with_lower_scores
        Of these those of which lower scores than the threshold were kept: all but those that were read before 0.3.
    not_processed
        How many others, by code of the reason.
    thresholds
        That they were read at, with how many images each.
    algorithms
        Models that read them, with how many images each.
    """

    read: tuple[SiteImage, ...]
    with_lower_scores: tuple[SiteImage, ...]
    not_processed: Mapping[str, int]
    thresholds: Mapping[float, int]
    algorithms: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SiteReport:
    """The figures of a time.

    Parameters
    ----------
    groups
        By kind, as of `KINDS`.
    drifts
        One sentence for each month with other marks than before, at the threshold that most images were read at.
    """

    total: SiteGroup
    groups: Mapping[str, tuple[SiteGroup, ...]]
    not_processed: Mapping[str, int]
    thresholds: Mapping[float, int]
    algorithms: Mapping[str, int]
    drifts: tuple[str, ...]


def site_images(records: Records, since: datetime, until: datetime, confirmed: Confirmed | None = None) -> SiteImages:
    """The images that were read in a time; of one that was read again the last time."""
    read: list[SiteImage] = []
    whole: list[SiteImage] = []
    not_processed, thresholds, algorithms = Counter[str](), Counter[float](), Counter[str]()
    for image in records.images_read(since, until):
        if image.status is ReadingStatus.NOT_PROCESSED:
            not_processed[str(image.reason_code or "other")] += 1
            continue
        algorithms[image.algorithm] += 1
        if image.threshold is not None:
            thresholds[image.threshold] += 1
        made = _site_image(image, (confirmed or {}).get((image.study, image.sop_instance_uid)))
        read.append(made)
        if image.below_known:
            whole.append(made)
    return SiteImages(tuple(read), tuple(whole), dict(not_processed), dict(thresholds), dict(algorithms))


def site_report(images: SiteImages, thresholds: Sequence[float] = THRESHOLDS) -> SiteReport:
    """The figures of images, at each of some thresholds."""
    wanted = sorted(set(thresholds))
    usual = max(images.thresholds, key=lambda one: images.thresholds[one], default=None)
    months = by_group("month", images.read, [] if usual is None else [usual])
    return SiteReport(
        group_at("all", images.read, wanted),
        {kind: by_group(kind, images.read, wanted) for kind in KINDS},
        images.not_processed,
        images.thresholds,
        images.algorithms,
        drifts([(month.name, month.images, sum(at.marks for at in month.at)) for month in months], "marks"),
    )


def _site_image(image: ReadImageRecord, truth: Sequence[Box] | None) -> SiteImage:
    boxes = (*image.found, *image.below)
    scores = np.array([box[4] for box in boxes], np.float64)
    return SiteImage(
        study=image.study,
        groups={
            "scanner": image.scanner or "",
            "station": image.station or "",
            "month": image.month or f"{image.made_at:%Y-%m}",
            "view": f"{image.laterality or '?'} {image.view or '?'}",
        },
        scores=scores,
        complete_from=_complete_from(image),
        lesions=None if truth is None else lesion_scores([_finding(box) for box in boxes], truth),
    )


def _complete_from(image: ReadImageRecord) -> float:
    """The lowest threshold of which the record tells all that it would mark."""
    if not image.below_known:  # read before lower scores were kept
        return image.threshold if image.threshold is not None else 1.0
    return image.below[-1][4] if len(image.below) >= MOST_BELOW_THRESHOLD else 0.0


def _finding(box: FoundBox) -> Finding:
    x0, y0, x1, y1, score, label = box
    return Finding(Box(x0, y0, x1, y1), score, label)
