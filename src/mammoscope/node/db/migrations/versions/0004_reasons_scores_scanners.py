"""Reasons have codes; lower scores, views, scanners and months are kept for figures; studies are found by accession."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Of images that were read before, none of it is known."""
    for column in (
        sa.Column("reason_code", sa.String(48)),
        sa.Column("below", sa.JSON),
        sa.Column("threshold", sa.Float),
        sa.Column("laterality", sa.String(2)),
        sa.Column("view", sa.String(8)),
        sa.Column("scanner", sa.String(64)),
        sa.Column("station", sa.String(32)),
        sa.Column("month", sa.String(7)),
        sa.Column("rule", sa.String(64)),
    ):
        op.add_column("images_read", column)
    op.add_column("failures", sa.Column("reason_code", sa.String(48)))
    op.create_table(
        "accessions",
        sa.Column("study", sa.String(64), sa.ForeignKey("studies.study", ondelete="CASCADE"), primary_key=True),
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Index("studies_by_accession", "digest"),
    )
