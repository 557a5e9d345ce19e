"""The reading room: web pages where a radiologist sees what the detector found, corrects it, and validates a data set.

In come the studies of a node or of a data set's folder, with the boxes that a detector proposes; out come the readers'
verdicts, kept in a store that is only ever added to, and from them a COCO data set with review states or
objects for the PACS. Whoever serves it makes a `ReadingRoom` of a source of studies and hands it to `ReviewService`.
"""

from mammoscope.review.accounts import Accounts, Role
from mammoscope.review.app import make_app
from mammoscope.review.errors import ReviewError
from mammoscope.review.room import ReadingRoom
from mammoscope.review.service import ReviewService
from mammoscope.review.sources import DatasetStudies, NodeStudies
from mammoscope.review.store import ReviewStore, SecondReader

__all__ = [
    "Accounts",
    "DatasetStudies",
    "NodeStudies",
    "ReadingRoom",
    "ReviewError",
    "ReviewService",
    "ReviewStore",
    "Role",
    "SecondReader",
    "make_app",
]
