"""The reading room's memory: studies and proposals come in, readers' actions are added, truth comes out.

Nothing that a reader did is ever changed or removed: what an image's boxes are is worked out from the actions
(`mammoscope.review.store.marks`).
"""

from mammoscope.review.store.agreement import Agreement, Comparison, compare, lesions
from mammoscope.review.store.marks import DETAILS, Action, ActionKind, Mark, Origin, Proposal, Verdict
from mammoscope.review.store.models import (
    Arrival,
    ImageFacts,
    ImageRow,
    Opinion,
    Place,
    Progress,
    ProposedBox,
    Read,
    ReadState,
    Sending,
    Sent,
    SourceImage,
    SourceStudy,
    StudyRow,
    Truth,
    Worklist,
)
from mammoscope.review.store.store import ReviewStore, accepted
from mammoscope.settings.schema import SecondReader

__all__ = [
    "DETAILS",
    "Action",
    "ActionKind",
    "Agreement",
    "Arrival",
    "Comparison",
    "ImageFacts",
    "ImageRow",
    "Mark",
    "Opinion",
    "Origin",
    "Place",
    "Progress",
    "Proposal",
    "ProposedBox",
    "Read",
    "ReadState",
    "ReviewStore",
    "SecondReader",
    "Sending",
    "Sent",
    "SourceImage",
    "SourceStudy",
    "StudyRow",
    "Truth",
    "Verdict",
    "Worklist",
    "accepted",
    "compare",
    "lesions",
]
