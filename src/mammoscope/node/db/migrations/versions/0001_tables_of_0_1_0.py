"""The tables as Mammoscope 0.1.0 made them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_UID = sa.String(64)


def upgrade() -> None:
    """Make them in an empty database."""
    op.create_table("versions", sa.Column("version", sa.Integer, primary_key=True))
    op.create_table(
        "studies",
        sa.Column("study", _UID, primary_key=True),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("first_received_at", sa.DateTime, nullable=False),
        sa.Column("last_received_at", sa.DateTime, nullable=False, index=True),
        sa.Column("arrivals", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("read_again", sa.Boolean, nullable=False),
    )
    op.create_table(
        "objects",
        sa.Column("study", _UID, sa.ForeignKey("studies.study", ondelete="CASCADE"), primary_key=True),
        sa.Column("sop_instance", _UID, primary_key=True),
        sa.Column("sop_class", _UID, nullable=False),
        sa.Column("received_at", sa.DateTime, nullable=False),
        sa.Column("peer", sa.String(64), nullable=False),
        sa.Column("whereabouts", sa.String(16), nullable=False),
        sa.Column("report", sa.Integer),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(128)),
        sa.Index("objects_by_sop_instance", "sop_instance"),
    )
    op.create_table(
        "reports",
        sa.Column("study", _UID, sa.ForeignKey("studies.study", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("supersedes", sa.Integer),
        sa.Column("made_at", sa.DateTime, nullable=False),
        sa.Column("algorithm", sa.String(256), nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("waited_seconds", sa.Float, nullable=False),
        sa.Column("problems", sa.JSON, nullable=False),
        sa.Column("cleared", sa.Boolean, nullable=False),
    )
    report = ("study", "number"), ("reports.study", "reports.number")
    op.create_table(
        "images_read",
        sa.Column("study", _UID, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("sop_instance", _UID, primary_key=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("findings", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text),
        sa.ForeignKeyConstraint(*report, ondelete="CASCADE"),
    )
    op.create_table(
        "results_made",
        sa.Column("study", _UID, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("sop_class", _UID, nullable=False),
        sa.Column("sop_instance", _UID, nullable=False),
        sa.Column("series", _UID),
        sa.Column("kind", sa.String(32)),
        sa.Column("images", sa.JSON, nullable=False),
        sa.ForeignKeyConstraint(*report, ondelete="CASCADE"),
        sa.Index("results_by_sop_instance", "study", "sop_instance"),
    )
    op.create_table(
        "deliveries",
        sa.Column("study", _UID, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("destination", sa.String(256), primary_key=True),
        sa.Column("status", sa.String(16), nullable=False, index=True),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("waited_seconds", sa.Float, nullable=False),
        sa.Column("next_try_at", sa.DateTime),
        sa.Column("ended_at", sa.DateTime),
        sa.Column("errors", sa.JSON, nullable=False),
        sa.ForeignKeyConstraint(*report, ondelete="CASCADE"),
    )
    op.create_table(
        "sendings",
        sa.Column("study", _UID, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("destination", sa.String(256), primary_key=True),
        sa.Column("sop_instance", _UID, primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("error", sa.Text),
        sa.ForeignKeyConstraint(
            ("study", "number", "destination"),
            ("deliveries.study", "deliveries.number", "deliveries.destination"),
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "failures",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study", _UID, sa.ForeignKey("studies.study", ondelete="CASCADE"), nullable=False, index=True),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("images", sa.JSON, nullable=False),
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("host", sa.String(256), nullable=False),
        sa.Column("process", sa.Integer, nullable=False),
        sa.Column("started_at", sa.DateTime, nullable=False),
        sa.Column("beat_at", sa.DateTime, nullable=False),
        sa.Column("beats", sa.Integer, nullable=False),
    )
    op.execute("INSERT INTO versions (version) VALUES (1)")
