"""The tables of the node's database. No column holds a patient's name, number or date: UIDs name everything.

Of the examination it keeps its month, the scanner and the station, which figures by month and machine need; of an
accession number a digest that only the key in the storage folder makes (`mammoscope.node.storage.accessions`).

A change here comes with a migration (`mammoscope.node.db.migrations`); a test compares the two.
"""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

UID = sa.String(64)


class UTCDateTime(sa.TypeDecorator[datetime]):
    """A time in UTC, kept without its zone, which SQLite has no type for."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """To the database."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """From the database."""
        return None if value is None else value.replace(tzinfo=UTC)


metadata = sa.MetaData()

# Read by Mammoscope 0.1.0 alone, which refuses a number that is not its own; Alembic keeps its own table.
versions = sa.Table("versions", metadata, sa.Column("version", sa.Integer, primary_key=True))

studies = sa.Table(
    "studies",
    metadata,
    sa.Column("study", UID, primary_key=True),
    sa.Column("origin", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("first_received_at", UTCDateTime, nullable=False),
    sa.Column("last_received_at", UTCDateTime, nullable=False, index=True),
    # Counted up by every arrival, so that a worker notices one whatever the clocks say.
    sa.Column("arrivals", sa.Integer, nullable=False, default=0),
    # Counted up when a try to read it ends, so that each try is begun once by however many workers.
    sa.Column("attempt", sa.Integer, nullable=False, default=1),
    # To be read again though nothing new arrived.
    sa.Column("read_again", sa.Boolean, nullable=False, default=False),
)

objects = sa.Table(
    "objects",
    metadata,
    sa.Column("study", UID, sa.ForeignKey("studies.study", ondelete="CASCADE"), primary_key=True),
    sa.Column("sop_instance", UID, primary_key=True),
    sa.Column("sop_class", UID, nullable=False),
    sa.Column("received_at", UTCDateTime, nullable=False),
    sa.Column("peer", sa.String(64), nullable=False),
    sa.Column("whereabouts", sa.String(16), nullable=False),
    # The last report that covers it.
    sa.Column("report", sa.Integer),
    # Tries to read it since it was last covered: an object that ends its reader again and again is told by it.
    sa.Column("tries", sa.Integer, nullable=False, default=0),
    # Of its pixel data, to tell a resend from another object of the same UID once the file is gone.
    sa.Column("digest", sa.String(128)),
    sa.Index("objects_by_sop_instance", "sop_instance"),
)

reports = sa.Table(
    "reports",
    metadata,
    sa.Column("study", UID, sa.ForeignKey("studies.study", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("supersedes", sa.Integer),
    sa.Column("made_at", UTCDateTime, nullable=False),
    sa.Column("algorithm", sa.String(256), nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("waited_seconds", sa.Float, nullable=False),
    sa.Column("problems", sa.JSON, nullable=False),
    # Whether the files of its results were deleted after their time.
    sa.Column("cleared", sa.Boolean, nullable=False, default=False),
    # Expected views of which no image came.
    sa.Column("absent_views", sa.JSON, nullable=False, default=list, server_default="[]"),
)

_of_report = ("study", "number"), ("reports.study", "reports.number")

images_read = sa.Table(
    "images_read",
    metadata,
    sa.Column("study", UID, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("sop_instance", UID, primary_key=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("findings", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text),
    # One of `mammoscope.reasons.ReasonCode`; none where it was read, or before codes were kept.
    sa.Column("reason_code", sa.String(48)),
    # Where, of what class and how sure: x0, y0, x1, y1 in stored pixels, score, label. None of before they were kept.
    sa.Column("found", sa.JSON),
    # The same of what was proposed with lower scores than the threshold, the highest of it.
    sa.Column("below", sa.JSON),
    # Lowest score reported.
    sa.Column("threshold", sa.Float),
    sa.Column("laterality", sa.String(2)),
    sa.Column("view", sa.String(8)),
    # Manufacturer and model.
    sa.Column("scanner", sa.String(64)),
    sa.Column("station", sa.String(32)),
    # Of the examination: 2026-11.
    sa.Column("month", sa.String(7)),
    # Name of the rule of the settings that applied.
    sa.Column("rule", sa.String(64)),
    sa.ForeignKeyConstraint(*_of_report, ondelete="CASCADE"),
)

results_made = sa.Table(
    "results_made",
    metadata,
    sa.Column("study", UID, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("sop_class", UID, nullable=False),
    sa.Column("sop_instance", UID, nullable=False),
    sa.Column("series", UID),
    sa.Column("kind", sa.String(32)),
    # SOP Instance UIDs of the mammograms that it is about.
    sa.Column("images", sa.JSON, nullable=False),
    sa.ForeignKeyConstraint(*_of_report, ondelete="CASCADE"),
    sa.Index("results_by_sop_instance", "study", "sop_instance"),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("study", UID, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("destination", sa.String(256), primary_key=True),
    sa.Column("status", sa.String(16), nullable=False, index=True),
    # A person's resend begins a new round; what an older round still had under way is void.
    sa.Column("round", sa.Integer, nullable=False, default=1),
    sa.Column("tries", sa.Integer, nullable=False, default=0),
    # Seconds spent waiting between tries: by them it is given up, so that no leap of the clock gives up anything.
    sa.Column("waited_seconds", sa.Float, nullable=False, default=0.0),
    sa.Column("next_try_at", UTCDateTime),
    sa.Column("ended_at", UTCDateTime),
    sa.Column("errors", sa.JSON, nullable=False),
    sa.ForeignKeyConstraint(*_of_report, ondelete="CASCADE"),
)

sendings = sa.Table(
    "sendings",
    metadata,
    sa.Column("study", UID, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("destination", sa.String(256), primary_key=True),
    sa.Column("sop_instance", UID, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("error", sa.Text),
    sa.ForeignKeyConstraint(
        ("study", "number", "destination"),
        ("deliveries.study", "deliveries.number", "deliveries.destination"),
        ondelete="CASCADE",
    ),
)

failures = sa.Table(
    "failures",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study", UID, sa.ForeignKey("studies.study", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("at", UTCDateTime, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("reason_code", sa.String(48)),
    sa.Column("images", sa.JSON, nullable=False),
)

accessions = sa.Table(
    "accessions",
    metadata,
    sa.Column("study", UID, sa.ForeignKey("studies.study", ondelete="CASCADE"), primary_key=True),
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Index("studies_by_accession", "digest"),
)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("host", sa.String(256), nullable=False),
    sa.Column("process", sa.Integer, nullable=False),
    sa.Column("started_at", UTCDateTime, nullable=False),
    sa.Column("beat_at", UTCDateTime, nullable=False),
    # A worker is dead when this stands still for the watcher's own clock, whatever the worker's said.
    sa.Column("beats", sa.Integer, nullable=False, default=0),
)
